import time

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from intrinsic_lr.intervals import mean_interval, summarise


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


def test_summarise_equals_a_loop_over_groups():
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
    summary = summarise(frame, ["layer", "step"], ["loss", "count"], 0.95)
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


def test_summarise_of_one_replicate_has_a_mean_and_no_interval():
    summary = summarise(pd.DataFrame({"step": [0], "loss": [2.0]}), ["step"], ["loss"], 0.95).loc[0]
    assert (summary["loss_mean"], summary["replicates"], summary["missing"]) == (2.0, 1, 0)
    assert np.isnan([summary["loss_low"], summary["loss_high"]]).all()


def test_summarise_separates_diverged_replicates_from_columns_not_measured():
    frame = pd.DataFrame(
        {"step": 0, "loss": [1.0, 3.0, np.inf], "accuracy": [0.5, 0.7, 0.1], "angle": [np.nan] * 3}
    )
    row = summarise(frame, ["step"], ["loss", "accuracy", "angle"], 0.95).loc[0]
    assert (row["replicates"], row["missing"]) == (2, 1)
    assert row["loss_mean"] == 2.0
    assert np.isnan(row["angle_mean"])
    nothing = summarise(frame, ["step"], ["angle"], 0.95).loc[0]
    assert (nothing["replicates"], nothing["missing"]) == (0, 3)


def test_summarise_keeps_groups_whose_key_is_missing():
    frame = pd.DataFrame({"seed": [np.nan, np.nan, 1.0], "loss": [1.0, 3.0, 5.0]})
    assert summarise(frame, ["seed"], ["loss"], 0.95)["loss_mean"].tolist() == [2.0, 5.0]


def test_summarise_of_nothing_is_an_empty_table():
    frame = pd.DataFrame({"step": [], "loss": []})
    summary = summarise(frame, ["step"], ["loss"], 0.95)
    assert len(summary) == 0
    assert "loss_low" in summary


def test_summarise_is_quick_for_many_rows():
    rows = 100_000
    frame = pd.DataFrame(
        {"group": np.arange(rows) // 4, "layer": "all"} | {c: 1.0 * np.arange(rows) for c in "abc"}
    )
    start = time.perf_counter()
    summary = summarise(frame, ["group", "layer"], ["a", "b", "c"], 0.95)
    assert time.perf_counter() - start < 2.0
    assert len(summary) == rows // 4
