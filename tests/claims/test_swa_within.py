"""Averages within a trajectory: verdicts on losses of known gain."""

import itertools

import numpy as np
import pandas as pd
import pytest
from checks import Example, spec_of

from intrinsic_lr.claims import swa_within as claim
from intrinsic_lr.claims.shared.gains import COLUMNS


def losses(within=0.02, across=-0.3):
    """Return averages that gain so many nats on average over ends of mean loss .12 and .13."""
    generator = np.random.default_rng(0)
    rows = []
    for part, run_time, normalisation, delta, k in itertools.product(
        ("within", "across"), ("usual", "ten_times"), ("raw", "per_layer", "matched"), (100, 200), range(12)
    ):
        if (part, normalisation) == ("within", "matched"):
            continue
        start, end = 0.12 + 0.01 * generator.standard_normal(), 0.13 + 0.01 * generator.standard_normal()
        gain = {"within": within, "across": across}[part] + 0.005 * generator.standard_normal()
        rows.append({
            "part": part, "run_time": run_time, "point": "p", "intrinsic_lr": 0.01, "normalisation": normalisation,
            "step": 200, "delta": delta, "lag": delta / 100, "replicate": k, "partner": k,
            "test_loss": start - gain, "test_loss_start": start, "test_loss_end": end,
            "gain_over_better_end": min(start, end) - start + gain,
        })  # fmt: skip
    return pd.DataFrame(rows)[COLUMNS]


EXAMPLE = Example(claim, spec_of("swa_within", lags=[1, 2]), losses, ["test_loss"], criteria=2, controls=2)


def test_the_estimates_are_the_gains():
    criteria = EXAMPLE.judged().head(2)
    assert criteria["estimate"].to_numpy() == pytest.approx(0.02, abs=0.005)
    assert list(criteria["n"]) == [12, 12]


@pytest.mark.parametrize(
    ("truth", "verdict"),
    [
        ({"within": -0.02}, "not reproduced"),
        ({"within": 0.0}, "inconclusive"),
        ({"across": 0.02}, "inconclusive"),  # a control that gains
    ],
)
def test_the_verdict_follows_the_truth(truth, verdict):
    assert EXAMPLE.overall(**truth) == verdict


def test_both_run_times_have_to_gain():
    table = EXAMPLE.table()
    later = (table["run_time"] == "ten_times") & (table["part"] == "within")
    table.loc[later, "test_loss"] += 0.05
    assert EXAMPLE.overall(table) == "not reproduced"


def test_a_planned_point_without_rows_is_inconclusive():
    findings = EXAMPLE.judged(spec=EXAMPLE.with_points(run=[{"name": "p"}, {"name": "lost"}]))
    lost = findings[findings["statement"].str.contains("(lost)", regex=False)]
    assert list(lost["verdict"]) == ["inconclusive"] * 4


def test_runs_that_are_lost_later_do_not_count_earlier():
    table = EXAMPLE.table()
    lost = (table["run_time"] == "ten_times") & (table["replicate"] < 3) & (table["part"] == "within")
    table.loc[lost, ["test_loss", "test_loss_start", "test_loss_end"]] = np.nan
    assert list(EXAMPLE.judged(table)["n"][:2]) == [9, 9]
