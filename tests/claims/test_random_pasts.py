"""Random pasts: the spread between groups, its error rates, and verdicts on synthetic tables."""

import numpy as np
import pandas as pd
import pytest
from checks import Example, spec_of, verdicts
from scipy import stats

from intrinsic_lr.claims import random_pasts as claim
from intrinsic_lr.claims.shared.spec import ClaimData
from intrinsic_lr.core.errors import InputError

NAMES = [f"past_{index}" for index in range(1, 6)]


def table(remembered=0.0, at_the_end=0.0):
    """Return a table in which the pasts still differ by a share of what they differed by at their ends."""
    generator = np.random.default_rng(0)
    rows = []
    parts = (claim.PAST, 1.0, 600), (claim.COMMON, remembered, 1400), (claim.END, at_the_end, 2000)
    for part, share, step in parts:
        for index, name in enumerate(NAMES):
            for replicate in range(16):
                level = share * (index - 2)
                rows.append({
                    "part": part, "point": f"point_{index + 1}", "schedule": name,
                    "replicate": replicate, "step": step,
                    "train_accuracy": 0.97 + 0.02 * level + generator.normal(0, 0.003),
                    "test_accuracy": 0.95 + 0.02 * level + generator.normal(0, 0.005),
                    "squared_norm": 3 * np.exp(0.5 * level + generator.normal(0, 0.02)),
                    "effective_lr": 0.03 * np.exp(-0.5 * level + generator.normal(0, 0.02)),
                })  # fmt: skip
    curves = pd.DataFrame(rows).assign(part=claim.CURVE)
    return pd.concat([curves, pd.DataFrame(rows)], ignore_index=True)


SPEC = spec_of("random_pasts", {"histories": [{"name": f"point_{i}"} for i in range(1, 6)]})
EXAMPLE = Example(claim, SPEC, table, list(claim.QUANTITIES), criteria=5, controls=4)
judged = EXAMPLE.judged


def test_histories_that_are_remembered_are_not_reproduced():
    findings = judged(remembered=0.5, at_the_end=0.5)
    assert set(verdicts(findings)) == {"not reproduced"}
    assert (findings.loc[findings["role"] == "criterion", "p_value"] < 1e-6).all()
    assert (findings["n"] == 16).all()


def test_a_last_accuracy_that_differs_is_not_reproduced():
    findings = judged(at_the_end=1.0)
    assert list(findings.loc[findings["verdict"] == "not reproduced", "statement"]) == [
        "test accuracy at the very end"
    ]


def test_the_bounds_are_those_of_tukeys_intervals():
    generator = np.random.default_rng(4)
    groups = [generator.normal(mean, 1, n) for mean, n in ((0.0, 8), (0.4, 12), (3.0, 9))]
    (estimate, low, high, _), p_value = claim.spread(groups, 0.9)
    reference = stats.tukey_hsd(*groups).confidence_interval(0.9)
    assert estimate == pytest.approx(groups[2].mean() - groups[0].mean())
    assert (low, high) == pytest.approx((reference.low[2, 0], reference.high[2, 0]), rel=1e-3)
    assert p_value == pytest.approx(stats.f_oneway(*groups).pvalue)


def test_the_interval_covers_the_largest_true_difference():
    generator = np.random.default_rng(1)
    means = np.array([0.0, 0.3, 0.5, 1.2])
    covered = 0
    for _ in range(300):
        groups = [generator.normal(mean, 1, 12) for mean in means]
        (_, low, high, _), _ = claim.spread(groups, 0.95)
        covered += low <= 1.2 <= high
    assert covered >= stats.binom.ppf(1e-4, 300, 0.95)


def test_equal_means_give_uniform_p_values_and_an_interval_from_zero():
    generator = np.random.default_rng(2)
    found = [claim.spread([generator.normal(size=10) for _ in range(4)], 0.95) for _ in range(300)]
    assert stats.kstest([p for _, p in found], "uniform").pvalue > 1e-3
    assert np.mean([low > 0 for (_, low, *_), _ in found]) < 0.1


def test_constants_have_no_interval():
    assert claim.spread([np.ones(5), np.ones(5)], 0.95) == ((0.0, 0.0, 0.0, 5), 1.0)
    assert claim.spread([np.ones(5), np.full(5, 3.0)], 0.95) == ((2.0, 2.0, 2.0, 5), 0.0)


def test_a_history_that_is_missing_leaves_it_open():
    frame = EXAMPLE.table()
    gone = frame["point"] == "point_2"
    for missing in (frame.assign(**frame[list(claim.QUANTITIES)].where(~gone)), frame[~gone]):
        findings = judged(missing)
        assert set(findings["verdict"]) == {"inconclusive"}
        assert set(findings["n"]) == {0}


def test_one_schedule_at_two_points_makes_two_histories():
    frame = table().assign(schedule="one")
    pd.testing.assert_frame_equal(judged(frame), judged())


def measured(monkeypatch, rates, bad=()):
    """Return the table of two points of these rates (lr, weight decay), which differ in the first steps."""
    rows = [
        {"point": point, "schedule": point, "step": step, "replicate": replicate,
         "lr_now": lr * factor if step <= 3 else lr, "weight_decay_now": decay, "intrinsic_lr_now": 0.5,
         "squared_norm": 1.0, "effective_lr": 1.0, "train_accuracy": 0.9,
         "test_accuracy": np.nan if (point, replicate, step) in bad else 0.9}
        for point, factor in (("a", 1.0), ("b", 3.0)) for step, (lr, decay) in enumerate(rates)
        for replicate in range(2)
    ]  # fmt: skip
    for kind in ("history", "trace"):
        monkeypatch.setattr(ClaimData, kind, lambda self, role: pd.DataFrame(rows))
    return claim.measure(ClaimData(SPEC))


@pytest.mark.parametrize("steps", [4, 8])
def test_without_a_common_phase_or_an_end_without_decay_it_is_a_mistake(monkeypatch, steps):
    with pytest.raises(InputError, match="experiment random_pasts: schedule"):
        measured(monkeypatch, [(1.0, 0.1)] * steps)


def test_phases_are_read_off_the_rates_and_a_run_that_diverges_is_missing_from_its_start(monkeypatch):
    found = measured(monkeypatch, [(1.0, 0.1)] * 8 + [(0.1, 0.0)] * 6, bad=[("b", 1, 11)])
    steps = found[found["part"] != claim.CURVE].groupby("part")["step"].unique()
    assert (list(steps[claim.PAST]), list(steps[claim.COMMON]), list(steps[claim.END])) == ([3], [7], [13])
    means = found[found["part"] != claim.CURVE].set_index(["part", "point", "replicate"])["squared_norm"]
    assert means.xs("b", level="point").xs(1, level="replicate").isna().all()
    assert means.notna().sum() == 9
