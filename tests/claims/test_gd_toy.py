"""The toy loss: its verdict follows what descent did."""

from dataclasses import replace

import numpy as np
import pytest
from checks import Example, spec_of

from intrinsic_lr.claims import gd_toy as claim
from intrinsic_lr.claims.shared.spec import ClaimData
from intrinsic_lr.core.errors import InputError

SPEC = spec_of(
    "gd_toy", thresholds={"share": 0.95}, learning_rates=[0.01, 1, 100], intrinsic_lrs=[0.016, 0.05], starts=24,
    length=100,
)  # fmt: skip


def ask(**settings):
    return ClaimData(replace(SPEC, settings={**SPEC.settings, **settings}))


EXAMPLE = Example(claim, SPEC, lambda: claim.measure(ask()), ["ratio", "deviation"], criteria=4, controls=1)
judged = EXAMPLE.judged


@pytest.fixture
def table():
    return EXAMPLE.table()


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
    table.loc[table["part"] == part, column] = value
    findings = judged(table)
    assert set(np.flatnonzero(findings["verdict"] == "not reproduced")) == failing
    assert EXAMPLE.overall(table) == "not reproduced"


@pytest.mark.parametrize(("rates", "factor"), [([0.016, 0.05], 3), ([0.05], 1 / 3)])
def test_one_learning_rate_and_one_pair_of_rates_suffice_to_fail(table, rates, factor):
    rows = (table["part"] == "decay") & (table["lr"] == 100) & table["intrinsic_lr"].isin(rates)
    table.loc[rows, "ratio"] *= factor
    worst = judged(table).iloc[0]
    assert worst["verdict"] == "not reproduced"
    if factor > 1:
        assert worst["ci_low"] > SPEC.thresholds["ratio_high"]
    else:
        assert worst["ci_high"] < SPEC.thresholds["ratio_low"]


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
    claim.measure(ask(length=20, length_without=20))
    drawn = np.concatenate(starts).reshape(-1, 2)
    assert len(drawn) == 2 * 3 * 24
    assert len(np.unique(drawn, axis=0)) == len(drawn)


def test_collapsed_runs_count_as_failures(table):
    collapsed = (table["part"] == "decay") & (table["replicate"] < 3)
    table.loc[collapsed, ["ratio", "final_loss", "norm_drift"]] = np.nan
    findings = judged(table)
    assert findings["estimate"][[1, 3]].tolist() == pytest.approx([21 / 24] * 2)
    assert findings["n"][[1, 3]].tolist() == [144, 144]
    assert findings["verdict"][[1, 3]].tolist() == ["not reproduced"] * 2


def test_a_collapsed_run_has_no_ratio_also_if_its_late_mean_is_finite():
    ones = np.ones((2, 1, 1))
    runs = claim.toy.Descent(
        np.arange(2), np.stack([ones[0], np.nan * ones[0]]), ones, ones[0], np.ones((1, 1, 2))
    )
    assert claim._ends("decay", runs, np.ones(1), 0.05)["ratio"].isna().all()


@pytest.mark.parametrize(("ratio", "verdict"), [(np.nan, "inconclusive"), (1.0, "not rejected")])
def test_the_control_is_rejected_by_runs_that_differ_alone(table, ratio, verdict):
    table.loc[table["part"] == "no_decay", "ratio"] = ratio
    assert judged(table)["verdict"].iloc[-1] == verdict
    assert EXAMPLE.overall(table) == "inconclusive"


def test_an_underflowing_rate_is_refused():
    with pytest.raises(InputError, match=r"0\.001.* smallest float64"):
        claim.measure(ask(intrinsic_lrs=[0.001]))


def test_where_nothing_is_finite_the_shares_fail(table):
    table[["ratio", "final_loss", "norm_drift", "deviation", "loss"]] = np.nan
    assert judged(table)["verdict"].tolist() == [
        "inconclusive", "not reproduced", "inconclusive", "not reproduced", "inconclusive",
    ]  # fmt: skip
