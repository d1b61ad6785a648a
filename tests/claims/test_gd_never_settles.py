"""Full-batch descent: counts, losses and sharpness of synthetic runs give the verdicts that they should."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from intrinsic_lr.claims import gd_never_settles as claim
from intrinsic_lr.claims.question import Question
from intrinsic_lr.claims.verdicts import findings_table, overall

RATE, STEPS, OFF = 0.01, 1400, 1200
THRESHOLDS = {
    "low": 0.1, "high": 0.5, "count": 0.25, "drop": 0.8, "swing": 1.1,
    "sharpness_low": 0.5, "sharpness_high": 2, "norm_loss": 1e-6,
}  # fmt: skip
QUESTION = Question(
    "gd_never_settles",
    experiments={role: {"experiment": role} for role in ("decay", "no_decay")},
    thresholds=THRESHOLDS,
    analysis={"confidence": 0.95},
)


def trace(spikes=(), decay=True, norm_growth=1e-5):
    """Return a run whose loss falls to .05, leaps to 1 at some steps, and falls to .03 once decay is off."""
    step = np.arange(STEPS + 1)
    loss = 0.05 + 2 * np.exp(-step / 20)
    for spike in spikes:
        loss[spike : spike + 15] = 1.0
    weight_decay = np.full(STEPS + 1, 0.1 if decay else 0.0)
    if decay:
        weight_decay[OFF + 1 :] = 0.0
        loss[OFF + 1 :] = 0.03
    loss[0] = np.nan
    norm = 100 * np.exp(np.cumsum(np.where(weight_decay > 0, -RATE, norm_growth)))
    return pd.DataFrame(
        {
            "step": step, "batch_loss": loss, "squared_norm": norm, "weight_decay": weight_decay[0],
            "weight_decay_now": weight_decay,
        }
    )  # fmt: skip


HISTORY = pd.DataFrame({"step": [0, 100, 200], "train_accuracy": [0.1, 0.99, 1.0]})


def measured(**options):
    return claim._run(trace(**options), HISTORY, RATE, THRESHOLDS)


def test_a_run_is_summarised_as_it_was_made():
    row = measured(spikes=[50, 300, 500, 900])
    # The first spike comes before all training images are right.
    assert (row["fitted_step"], row["destabilisations"], row["off_step"]) == (200, 3, OFF)
    assert row["time"] == pytest.approx(RATE * (OFF - 200 + 1))
    assert row["count"] == pytest.approx(3 / row["time"])
    assert row["loss_before"] == pytest.approx(0.05 + 0.95 * 15 / (OFF // 2), rel=1e-6)
    assert row["loss_after"] == pytest.approx(0.03)
    assert (row["swing"], row["norm_loss"]) == (1.0, 0.0)


def test_without_weight_decay_there_is_no_after():
    row = measured(decay=False, norm_growth=-1e-3)
    assert (row["destabilisations"], row["off_step"]) == (0, STEPS)
    assert np.isnan([row["loss_after"], row["swing"]]).all()
    assert row["norm_loss"] == pytest.approx(1e-3, rel=1e-2)


def test_a_run_that_never_fits_is_missing():
    row = claim._run(trace(), HISTORY[:2], RATE, THRESHOLDS)
    assert np.isnan([row["fitted_step"], row["count"]]).all()


def test_curves_keep_every_spike():
    curve = claim._curve(trace(spikes=[301]))
    assert curve["loss_high"].iloc[100:].max() == 1.0
    assert len(curve) == claim._BINS_OF_CURVE


def runs(count=1.2, never=0.0, sharpness=1.0, drop=0.5, swing=1.03, norm_loss=0.0, replicates=8, seed=0):
    """Return the table of runs with these means at three learning rates."""
    rng = np.random.default_rng(seed)
    parts = []
    for role, mean in (("decay", count), ("no_decay", never)):
        for lr in (0.1, 1.0, 10.0):
            named = {"role": role, "point": f"{role}-{lr}", "lr": lr, "clock": RATE}
            noise = np.exp(rng.normal(0, 0.05, (3, replicates)))
            row = {
                "part": "run", **named, "replicate": range(replicates), "off_step": OFF, "count": mean * noise[0],
                "loss_before": 0.06, "loss_after": 0.06 * drop * noise[1], "swing": 1 + (swing - 1) * noise[2],
                "norm_loss": norm_loss,
            }  # fmt: skip
            parts.append(pd.DataFrame(row))
            for step in (800, 1000, 1200, 1400):
                ratio = (sharpness if step <= OFF else 50.0) * np.exp(rng.normal(0, 0.3, replicates))
                row = {"part": "sharpness", **named, "replicate": range(replicates), "step": step}
                parts.append(pd.DataFrame({**row, "sharpness_ratio": ratio}))
            curve = claim._curve(trace(spikes=[500] if role == "decay" else []))
            parts.append(curve.assign(part="curve", replicate=0, **named))
    return pd.concat(parts, ignore_index=True)


def judged(table):
    return findings_table("gd_never_settles", "", "", claim.judge(table, QUESTION))


def test_runs_that_do_as_claimed_are_reproduced():
    findings = judged(runs())
    assert overall(findings) == "reproduced"
    assert list(findings["verdict"]) == ["reproduced"] * 5 + ["rejected"]


@pytest.mark.parametrize(
    ("truth", "failing"),
    [
        ({"count": 0.1}, 0),
        ({"drop": 1.2}, 1),
        ({"swing": 3.0}, 2),
        ({"sharpness": 0.05}, 3),
        ({"sharpness": 10.0}, 3),
        ({"norm_loss": 1e-3}, 4),
    ],
)
def test_each_criterion_fails_where_it_is_false(truth, failing):
    findings = judged(runs(**truth))
    assert list(np.flatnonzero(findings["verdict"] == "not reproduced")) == [failing]


def test_the_control_notices_destabilisations_without_weight_decay():
    findings = judged(runs(never=1.2))
    assert findings["verdict"].iloc[-1] == "not rejected"
    assert overall(findings) == "inconclusive"


def test_draws_and_judges_what_is_degenerate():
    missing = runs()
    missing[["count", "loss_before", "loss_after", "swing", "norm_loss", "sharpness_ratio", "loss_low"]] = np.nan
    for table in (runs(), missing, runs(replicates=1), runs()[:0]):
        findings = judged(table)
        plt.close(claim.draw(table, QUESTION, findings))
        if len(table) != len(runs()) or table is missing:
            assert overall(findings) == "inconclusive"
