"""The toy loss: its verdict follows what descent did."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from intrinsic_lr.claims import gd_toy as claim
from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec
from intrinsic_lr.claims.shared.verdicts import findings_table, overall
from intrinsic_lr.core.errors import InputError

THRESHOLDS = {
    "ratio_low": 0.8, "ratio_high": 1.25, "cycle": 1e-9, "final_loss": 1e-12, "norm_drift": 1e-6, "share": 0.95,
}  # fmt: skip
SETTINGS = {
    "learning_rates": [0.01, 1, 100], "intrinsic_lrs": [0.016, 0.05], "starts": 24, "length": 100,
    "length_without": 100,
}  # fmt: skip


def ask(**settings):
    return ClaimSpec("gd_toy", thresholds=THRESHOLDS, settings=SETTINGS | settings, analysis={"confidence": 0.95})


def judged(table):
    return findings_table("gd_toy", "", "", claim.judge(table, ask()))


@pytest.fixture(scope="module")
def table():
    return claim.measure(ClaimData(ask()))


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
    findings = judged(changed)
    assert findings["verdict"][0] == "not reproduced"
    assert findings["ci_low"][0] > THRESHOLDS["ratio_high"]


def test_one_pair_of_rates_below_suffices_to_fail(table):
    changed = table.copy()
    pair = (changed["part"] == "decay") & (changed["lr"] == 100) & (changed["intrinsic_lr"] == 0.05)
    changed.loc[pair, "ratio"] /= 3
    findings = judged(changed)
    assert findings["verdict"][0] == "not reproduced"
    assert findings["ci_high"][0] < THRESHOLDS["ratio_low"]


def test_a_pair_of_rates_that_is_missing_leaves_the_mean_open(table):
    pair = (table["part"] == "decay") & (table["lr"] == 100) & (table["intrinsic_lr"] == 0.05)
    findings = judged(table[~pair])
    assert findings["verdict"][0] == "inconclusive"
    assert np.isnan(findings["estimate"][0])


def test_no_two_pairs_of_rates_share_a_start(monkeypatch):
    descend, starts = claim.toy.descend, []

    def remember(start, *rest):
        if np.ndim(start) == 3 and rest[1] > 0:
            starts.append(start)
        return descend(start, *rest)

    monkeypatch.setattr(claim.toy, "descend", remember)
    claim.measure(ClaimData(ask(length=20, length_without=20)))
    drawn = np.concatenate(starts).reshape(-1, 2)
    assert len(drawn) == 2 * 3 * 24
    assert len(np.unique(drawn, axis=0)) == len(drawn)


def test_collapsed_runs_count_as_failures(table):
    changed = table.copy()
    collapsed = (changed["part"] == "decay") & (changed["replicate"] < 3)
    changed.loc[collapsed, ["ratio", "final_loss", "norm_drift"]] = np.nan
    findings = judged(changed)
    assert findings["estimate"][[1, 3]].tolist() == pytest.approx([21 / 24] * 2)
    assert findings["n"][[1, 3]].tolist() == [144, 144]
    assert findings["verdict"][[1, 3]].tolist() == ["not reproduced"] * 2


def test_a_collapsed_run_has_no_ratio_also_if_its_late_mean_is_finite():
    ones = np.ones((2, 1, 1))
    runs = claim.toy.Descent(
        np.arange(2), np.stack([ones[0], np.nan * ones[0]]), ones, ones[0], np.ones((1, 1, 2))
    )
    assert claim._ends("decay", runs, np.ones(1), 0.05)["ratio"].isna().all()


def test_missing_runs_do_not_reject_the_control(table):
    changed = table.copy()
    changed.loc[changed["part"] == "no_decay", "ratio"] = np.nan
    assert judged(changed)["verdict"].iloc[-1] == "inconclusive"


def test_the_control_notices_if_weight_decay_changed_nothing(table):
    changed = table.copy()
    changed.loc[changed["part"] == "no_decay", "ratio"] = 1.0
    findings = judged(changed)
    assert findings["verdict"].iloc[-1] == "not rejected"
    assert overall(findings) == "inconclusive"


def test_an_underflowing_rate_is_refused():
    with pytest.raises(InputError, match=r"0\.001.* smallest float64"):
        claim.measure(ClaimData(ask(intrinsic_lrs=[0.001])))


def test_draws_and_judges_what_is_degenerate(table):
    empty = table.copy()
    empty[["ratio", "final_loss", "norm_drift", "deviation", "loss"]] = np.nan
    for rows in (table, empty, table[:0]):
        findings = judged(rows)
        plt.close(claim.draw(rows, ask(), findings))
        if rows is empty:
            assert findings["verdict"].tolist() == [
                "inconclusive", "not reproduced", "inconclusive", "not reproduced", "inconclusive",
            ]  # fmt: skip
        elif rows is not table:
            assert overall(findings) == "inconclusive"
