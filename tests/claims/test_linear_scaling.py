"""The linear scaling rule: pairing, the discrepancy of curves, and verdicts on synthetic curves."""

from functools import partial

import checks
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from checks import experiment

from intrinsic_lr.claims import linear_scaling as claim
from intrinsic_lr.claims.shared.spec import ClaimSpec
from intrinsic_lr.claims.shared.verdicts import overall
from intrinsic_lr.stats.intervals import root_mean_square_interval

SPEC = ClaimSpec(
    "linear_scaling",
    experiments={"scaling": experiment("scaled")},
    thresholds={"norm": 0.1, "loss": 0.2},
    analysis={"confidence": 0.95, "bootstrap": 200},
)
judged = partial(checks.judged, claim, spec=SPEC)
DECAYS = (0.01, 0.04, 0.16)


def table(apart=(0.0, 0.2, 0.6), replicates=12, seed=0):
    """Return curves whose large batch lies by `apart` above the small one, on a logarithmic scale."""
    generator = np.random.default_rng(seed)
    parts = []
    for decay, gap in zip(DECAYS, apart, strict=True):
        for batch, lr, count in ((32, 0.1, 40), (128, 0.4, 25)):
            time = np.linspace(0, 6, count + 1)
            for replicate in range(replicates):
                curve = np.exp(-time) + 0.1
                curve = curve * np.exp(generator.normal(0, 0.05) + gap * (batch == 128))
                parts.append(pd.DataFrame({
                    "point": f"{batch}-{decay}", "batch_size": batch, "lr": lr, "weight_decay": decay,
                    "intrinsic_lr": lr * decay, "replicate": replicate, "step": time / lr / decay,
                    "intrinsic_time": time, "train_loss": curve, "test_loss": 2 * curve, "squared_norm": 3 * curve,
                }))  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def test_equal_curves_are_reproduced_and_broken_ones_rejected():
    findings = judged(table())
    assert overall(findings) == "reproduced"
    assert set(findings.loc[findings["role"] == "control", "verdict"]) == {"rejected"}
    controls = findings[findings["role"] == "control"]
    assert list(controls["estimate"]) == pytest.approx([0.6] * 3, abs=0.06)


def test_curves_that_differ_at_a_small_rate_are_not_reproduced():
    findings = judged(table(apart=(0.5, 0.5, 0.5)))
    assert set(findings.loc[findings["role"] == "criterion", "verdict"]) == {"not reproduced"}


def test_where_nothing_breaks_the_control_is_not_rejected():
    findings = judged(table(apart=(0.0, 0.0, 0.0)))
    assert set(findings.loc[findings["role"] == "control", "verdict"]) == {"not rejected"}
    assert overall(findings) == "inconclusive"


def test_only_rates_in_proportion_to_the_batch_make_a_pair():
    frame = table()
    assert [about["k"] for about, *_ in claim.pairs(frame, "test_loss")] == [4, 4, 4]
    unscaled = frame.assign(lr=frame["lr"].where(frame["batch_size"] == 32, 0.1))
    assert not list(claim.pairs(unscaled, "test_loss"))


def test_curves_are_compared_at_equal_times():
    frame = table(apart=(0.0, 0.0, 0.0))
    frame["train_loss"] = np.exp(-frame["intrinsic_time"])
    for _, _, small, large in claim.pairs(frame, "train_loss"):
        np.testing.assert_allclose(small, large[: len(small)], rtol=1e-9)


def test_the_root_mean_square_is_free_of_what_sampling_adds():
    generator = np.random.default_rng(3)
    for truth in (0.0, 0.5):
        estimates, covered = [], 0
        for index in range(60):
            a, b = generator.normal(0, 1, (20, 8)), generator.normal(truth, 1, (20, 8))
            estimate, (low, high) = root_mean_square_interval(
                lambda i, j, a=a, b=b: float(((b[j].mean(axis=0) - a[i].mean(axis=0)) ** 2).mean()),
                [20, 20], 150, 0.95, np.random.default_rng(index),
            )  # fmt: skip
            estimates.append(estimate)
            covered += low <= truth <= high
        assert np.median(estimates) == pytest.approx(truth, abs=0.12)
        assert covered >= 50


def test_one_pair_alone_has_no_control():
    findings = judged(table().query("weight_decay == 0.01"))
    assert list(findings["verdict"]) == ["reproduced"] * 3 + ["inconclusive"] * 3
    assert list(findings["role"]) == ["criterion"] * 3 + ["control"] * 3


@pytest.mark.parametrize("rows", ["none finite", "one replicate", "no pair"])
def test_a_degenerate_table_decides_nothing_and_draws(rows):
    frame = table(replicates=3)
    if rows == "none finite":
        frame[list(claim.QUANTITIES)] = np.nan
    elif rows == "one replicate":
        frame = frame[frame["replicate"] == 0]
    else:
        frame = frame[frame["batch_size"] == 32]
    findings = judged(frame)
    assert overall(findings) == "inconclusive"
    assert list(findings["role"]) == ["criterion"] * 3 + ["control"] * 3
    plt.close(claim.draw(frame, SPEC, findings))
