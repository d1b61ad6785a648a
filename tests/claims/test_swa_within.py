"""Averages within a trajectory: verdicts on losses of known gain."""

import itertools
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from checks import experiment

from intrinsic_lr.claims import swa_within as claim
from intrinsic_lr.claims.shared.gains import COLUMNS
from intrinsic_lr.claims.shared.spec import ClaimSpec
from intrinsic_lr.claims.shared.verdicts import findings_table, overall

SPEC = ClaimSpec(
    "swa_within",
    experiments={"run": experiment("trajectory", [])},
    thresholds={"gain": 0.0},
    settings={"usual_length": 2, "lags": [1, 2]},
    analysis={"confidence": 0.95},
)


def losses(within, across=-0.3, replicates=12, seed=0):
    """Return averages that gain so many nats on average over ends of mean loss .12 and .13."""
    generator = np.random.default_rng(seed)
    rows = []
    for part, run_time, normalisation, delta, k in itertools.product(
        ("within", "across"), ("usual", "ten_times"), ("raw", "per_layer"), (100, 200), range(replicates)
    ):
        start, end = 0.12 + 0.01 * generator.standard_normal(), 0.13 + 0.01 * generator.standard_normal()
        gain = {"within": within, "across": across}[part] + 0.005 * generator.standard_normal()
        rows.append({
            "part": part, "run_time": run_time, "point": "p", "intrinsic_lr": 0.01, "normalisation": normalisation,
            "step": 200, "delta": delta, "lag": delta / 100, "replicate": k, "partner": k,
            "test_loss": start - gain, "test_loss_start": start, "test_loss_end": end,
            "gain_over_better_end": min(start, end) - start + gain,
        })  # fmt: skip
    return pd.DataFrame(rows)[COLUMNS]


def judged(table, spec=SPEC):
    return findings_table("claim", "", "", claim.judge(table, spec))


def test_gains_are_reproduced_and_the_control_rejected():
    findings = judged(losses(0.02))
    assert overall(findings) == "reproduced"
    criteria = findings[findings["role"] == "criterion"]
    assert criteria["estimate"].to_numpy() == pytest.approx(0.02, abs=0.005)
    assert list(criteria["n"]) == [12, 12]
    assert set(findings.loc[findings["role"] == "control", "verdict"]) == {"rejected"}


@pytest.mark.parametrize(("gain", "verdict"), [(-0.02, "not reproduced"), (0.0, "inconclusive")])
def test_the_verdict_follows_the_truth(gain, verdict):
    assert overall(judged(losses(gain))) == verdict


def test_both_run_times_have_to_gain():
    table = losses(0.02)
    later = (table["run_time"] == "ten_times") & (table["part"] == "within")
    table.loc[later, "test_loss"] += 0.05
    assert overall(judged(table)) == "not reproduced"


def test_a_control_that_gains_leaves_the_claim_open():
    assert overall(judged(losses(0.02, across=0.02))) == "inconclusive"


@pytest.mark.parametrize("spoil", [lambda t: t.assign(test_loss=np.nan), lambda t: t.head(0), lambda t: t.head(1)])
def test_degenerate_tables_are_inconclusive_and_drawn(spoil):
    table = spoil(losses(0.02))
    findings = judged(table)
    assert set(findings["verdict"]) == {"inconclusive"}
    for shown in (table, losses(0.02)):
        plt.close(claim.draw(shown, SPEC, findings))


def test_a_planned_point_without_rows_is_inconclusive():
    described = {"run": experiment("trajectory", [{"name": "p"}, {"name": "lost"}])}
    findings = judged(losses(0.02), replace(SPEC, experiments=described))
    lost = findings[findings["statement"].str.contains("(lost)", regex=False)]
    assert set(lost["verdict"]) == {"inconclusive"}
    assert len(lost) == 4
    assert overall(findings) == "inconclusive"


def test_runs_that_are_lost_later_do_not_count_earlier():
    table = losses(0.02)
    lost = (table["run_time"] == "ten_times") & (table["replicate"] < 3) & (table["part"] == "within")
    table.loc[lost, ["test_loss", "test_loss_start", "test_loss_end"]] = np.nan
    findings = judged(table)
    assert set(findings.loc[findings["role"] == "criterion", "n"]) == {9}
