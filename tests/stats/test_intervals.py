import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from intrinsic_lr.stats.intervals import (
    bootstrap_interval,
    expanded_tails,
    holm,
    largest_mean,
    mean_interval,
    outermost_mean,
    p_not_worse,
    share_interval,
    smallest_mean,
    summarize,
)


def test_mean_interval_is_the_t_interval_of_scipy():
    values = np.random.default_rng(0).normal(3.0, 2.0, 7)
    mean, low, high, n = mean_interval(values, 0.9)
    reference = stats.ttest_1samp(values, 0.0).confidence_interval(0.9)
    assert (mean, low, high) == pytest.approx((values.mean(), reference.low, reference.high), rel=1e-12)
    assert n == 7


def test_mean_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(1)
    intervals = [mean_interval(rng.normal(1.0, 1.0, 4), 0.8) for _ in range(4000)]
    covered = np.mean([low < 1.0 < high for _, low, high, _ in intervals])
    assert covered == pytest.approx(0.8, abs=4 * np.sqrt(0.8 * 0.2 / 4000))


def test_mean_interval_leaves_out_and_counts_what_is_not_finite():
    assert mean_interval([1.0, np.nan, 2.0, np.inf, 4.0], 0.95) == mean_interval([1.0, 2.0, 4.0], 0.95)
    mean, low, high, n = mean_interval([5.0, np.nan], 0.95)
    assert (mean, n) == (5.0, 1)
    assert np.isnan([low, high]).all()
    *rest, n = mean_interval([], 0.95)
    assert np.isnan(rest).all()
    assert n == 0


def test_summarize_equals_a_loop_over_groups():
    rng = np.random.default_rng(2)
    frame = pd.DataFrame(
        {
            "layer": rng.choice(["late", "early"], 200),
            "step": rng.choice([100, 20], 200),
            "loss": rng.normal(size=200),
            "count": rng.integers(0, 9, 200),
        }
    )
    frame.loc[rng.choice(200, 15, replace=False), "loss"] = np.nan
    summary = summarize(frame, ["layer", "step"], ["loss", "count"], 0.95)
    assert list(summary.columns) == [
        *["layer", "step", "loss_mean", "loss_low", "loss_high"],
        *["count_mean", "count_low", "count_high", "replicates", "missing"],
    ]
    first_seen = frame[["layer", "step"]].drop_duplicates().to_numpy().tolist()
    assert summary[["layer", "step"]].to_numpy().tolist() == first_seen
    for _, row in summary.iterrows():
        group = frame[(frame["layer"] == row["layer"]) & (frame["step"] == row["step"])]
        for column in ("loss", "count"):
            reference = mean_interval(group[column], 0.95)
            found = [row[f"{column}_{part}"] for part in ("mean", "low", "high")]
            assert found == pytest.approx(reference[:3], rel=1e-12)
        assert row["replicates"] == group["loss"].notna().sum()
        assert row["missing"] == group["loss"].isna().sum()


def test_summarize_separates_diverged_replicates_from_columns_not_measured():
    frame = pd.DataFrame(
        {"step": 0, "loss": [1.0, 3.0, np.inf], "accuracy": [0.5, 0.7, 0.1], "angle": [np.nan] * 3}
    )
    row = summarize(frame, ["step"], ["loss", "accuracy", "angle"], 0.95).loc[0]
    assert (row["replicates"], row["missing"]) == (2, 1)
    assert row["loss_mean"] == 2.0
    assert np.isnan(row["angle_mean"])
    single = summarize(frame[:1], ["step"], ["loss"], 0.95).loc[0]
    assert (single["loss_mean"], single["replicates"], single["missing"]) == (1.0, 1, 0)
    assert np.isnan([single["loss_low"], single["loss_high"]]).all()
    nothing = summarize(frame, ["step"], ["angle"], 0.95).loc[0]
    assert (nothing["replicates"], nothing["missing"]) == (0, 3)


def test_summarize_keeps_groups_whose_key_is_missing():
    frame = pd.DataFrame({"seed": [np.nan, np.nan, 1.0], "loss": [1.0, 3.0, 5.0]})
    assert summarize(frame, ["seed"], ["loss"], 0.95)["loss_mean"].tolist() == [2.0, 5.0]


def test_summarize_of_nothing_is_an_empty_table():
    frame = pd.DataFrame({"step": [], "loss": []})
    summary = summarize(frame, ["step"], ["loss"], 0.95)
    assert (len(summary), "loss_low" in summary) == (0, True)


@pytest.mark.parametrize("truth", [[0.0, 1.0, 3.0], [0.0, 0.0, 0.0]])
def test_smallest_and_largest_mean_are_covered_also_among_equals(truth):
    rng = np.random.default_rng(3)
    covered = np.zeros(2)
    for _ in range(2000):
        groups = list(rng.normal(np.array(truth)[:, None], 1.0, (3, 6)))
        for side, (extreme, of) in enumerate(((smallest_mean, min), (largest_mean, max))):
            mean, low, high, n = extreme(groups, 0.9)
            assert low < mean < high
            assert (mean, n) == (of(group.mean() for group in groups), 6)
            covered[side] += low <= of(truth) <= high
    assert (covered / 2000 > 0.9).all()


def test_one_group_far_below_does_not_widen_the_interval_of_the_smallest():
    groups = [[0.0, 0.1, -0.1], [100.0, 101.0, 99.0]]
    assert smallest_mean(groups, 0.95)[:3] == mean_interval(groups[0], 0.975)[:3]
    assert largest_mean(groups, 0.95)[:3] == mean_interval(groups[1], 0.975)[:3]


def test_extremes_of_one_group_are_its_mean():
    values = [1.0, 2.0, 4.0]
    assert smallest_mean([values], 0.95) == largest_mean([values], 0.95) == mean_interval(values, 0.95)


@pytest.mark.parametrize("extreme", [smallest_mean, largest_mean])
def test_extremes_say_nothing_of_a_group_of_one_or_none(extreme):
    mean, low, high, n = extreme([[1.0, 2.0], [5.0, np.nan]], 0.95)
    assert (mean, n) == ({smallest_mean: 1.5, largest_mean: 5.0}[extreme], 1)
    assert np.isnan([low, high]).all()
    assert np.isnan(extreme([[1.0, 2.0], []], 0.95)[:3]).all()
    assert np.isnan(extreme([], 0.95)[:3]).all()


@pytest.mark.parametrize(
    ("centres", "spreads", "decisive"),
    [
        ([1.0, 1.8], [0.01, 0.01], 1.8),
        ([0.6, 1.0], [0.01, 0.01], 0.6),
        ([3.0, 4.0], [0.01, 0.01], 4.0),
        # One below for certain counts for more than one that may lie far above.
        ([0.4, 1.9], [0.01, 0.5], 0.4),
    ],
)
def test_outermost_mean_is_the_one_that_speaks_most_against_the_bounds(centres, spreads, decisive):
    groups = list(np.transpose(centres + np.outer([-1.0, 0.0, 1.0], spreads)))
    mean, low, high, n = outermost_mean(groups, 0.95, 0.5, 2.0)
    assert (mean, n) == (pytest.approx(decisive), 3)
    assert low < mean < high
    assert np.isnan(outermost_mean([*groups, [1.0]], 0.95, 0.5, 2.0)[1:3]).all()


def test_share_interval_is_exact():
    share, low, high, n = share_interval(3, 3, 0.95)
    assert (share, high, n) == (1.0, 1.0, 3)
    assert low == pytest.approx(0.025 ** (1 / 3))
    share, low, high, _ = share_interval(4, 10, 0.95)
    assert low == pytest.approx(stats.beta.ppf(0.025, 4, 7))
    assert high == pytest.approx(stats.beta.ppf(0.975, 5, 6))
    assert np.isnan(share_interval(0, 0, 0.95)[:3]).all()


def test_p_not_worse_is_uniform_where_b_is_worse_by_just_the_margin():
    rng = np.random.default_rng(5)
    p_values = [p_not_worse(rng.normal(1.0, 1.0, 8), rng.normal(0.7, 2.0, 12), 0.3) for _ in range(1500)]
    assert stats.kstest(p_values, "uniform").pvalue > 0.01


def test_p_not_worse_tells_better_from_worse():
    a = np.random.default_rng(6).normal(size=20)
    assert p_not_worse(a, a + 5.0, 0.3) < 1e-6
    assert p_not_worse(a, a - 5.0, 0.3) > 1 - 1e-6
    assert np.isnan(p_not_worse(a, [1.0, np.nan], 0.3))


def test_holm_multiplies_by_the_number_of_known_p_values():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.01, np.nan, 0.03]) == pytest.approx([0.02, np.nan, 0.03], nan_ok=True)
    assert np.isnan(holm([np.nan])).all()


def test_bootstrap_interval_of_few_replicates_covers_as_stated():
    """Plain percentiles of 8 replicates cover about 0.91."""
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        values = generator.normal(size=8)
        low, high = bootstrap_interval(lambda chosen, x=values: x[chosen].mean(), [8], 600, 0.95, generator)
        covered += low <= 0 <= high
    assert 0.93 <= covered / 400 <= 0.985


def test_expanded_tails_tend_to_the_plain_ones():
    assert expanded_tails(0.95, 100_000)[0] == pytest.approx(0.025, rel=1e-3)
    assert expanded_tails(0.95, 8)[0] < 0.01
    assert sum(expanded_tails(0.9, 8)) == pytest.approx(1)
    assert np.isnan(expanded_tails(0.95, 1)).all()


@pytest.mark.parametrize(("every", "seen"), [(50, True), (5, False)])
def test_a_bootstrap_with_many_missing_resamples_gives_no_interval(every, seen):
    calls = itertools.count()

    def statistic(chosen):
        return np.nan if next(calls) % every == 0 else chosen.mean()

    low, high = bootstrap_interval(statistic, [10], 500, 0.95, np.random.default_rng(0))
    assert np.isfinite([low, high]).all() == seen
