"""The toy loss: its verdict follows what descent did."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from intrinsic_lr.claims import gd_toy as claim
from intrinsic_lr.claims.question import Inputs, Question
from intrinsic_lr.claims.verdicts import findings_table, overall
from intrinsic_lr.errors import InputError

THRESHOLDS = {
    "ratio_low": 0.8, "ratio_high": 1.25, "cycle": 1e-9, "final_loss": 1e-12, "norm_drift": 1e-6, "share": 0.95,
}  # fmt: skip
SETTINGS = {
    "learning_rates": [0.01, 1, 100], "intrinsic_lrs": [0.016, 0.05], "starts": 24, "length": 100,
    "length_without": 100,
}  # fmt: skip


def ask(**settings):
    return Question("gd_toy", thresholds=THRESHOLDS, settings=SETTINGS | settings, analysis={"confidence": 0.95})


def judged(table):
    return findings_table("gd_toy", "", "", claim.judge(table, ask()))


@pytest.fixture(scope="module")
def table():
    return claim.measure(Inputs(ask()))


def test_the_toy_does_as_claimed(table):
    findings = judged(table)
    assert overall(findings) == "reproduced"
    assert list(findings["verdict"]) == ["reproduced"] * 4 + ["rejected"]


@pytest.mark.parametrize(
    ("part", "column", "value", "failing"),
    [
        ("decay", "ratio", 0.5, {0, 1}),
        ("decay", "ratio", 2.0, {0, 1}),
        ("cycle", "deviation", 1e-3, {2}),
        ("decay", "final_loss", 1e-3, {3}),
        ("decay", "norm_drift", 1e-3, {3}),
    ],
)
def test_each_criterion_fails_where_it_is_false(table, part, column, value, failing):
    changed = table.copy()
    changed.loc[changed["part"] == part, column] = value
    findings = judged(changed)
    assert set(np.flatnonzero(findings["verdict"] == "not reproduced")) == failing
    assert overall(findings) == "not reproduced"


def test_one_learning_rate_suffices_to_fail(table):
    changed = table.copy()
    changed.loc[(changed["part"] == "decay") & (changed["lr"] == 100), "ratio"] *= 3
    assert judged(changed)["verdict"][0] != "reproduced"


def test_the_control_notices_if_weight_decay_changed_nothing(table):
    changed = table.copy()
    changed.loc[changed["part"] == "no_decay", "ratio"] = 1.0
    findings = judged(changed)
    assert findings["verdict"].iloc[-1] == "not rejected"
    assert overall(findings) == "inconclusive"


def test_an_underflowing_rate_is_refused():
    with pytest.raises(InputError, match=r"0\.001, at which x falls below the smallest float64"):
        claim.measure(Inputs(ask(intrinsic_lrs=[0.001])))


def test_draws_and_judges_what_is_degenerate(table):
    empty = table.copy()
    empty[["ratio", "final_loss", "norm_drift", "deviation", "loss"]] = np.nan
    for rows in (table, empty, table[:0]):
        findings = judged(rows)
        plt.close(claim.draw(rows, ask(), findings))
        if rows is not table:
            assert overall(findings) == "inconclusive"
