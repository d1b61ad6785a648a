"""Distances against their lag: statistics on curves of known form, and the simulated processes."""

import numpy as np
import pandas as pd
import pytest

from intrinsic_lr.stats import lags
from intrinsic_lr.stats.theory import ou_squared_distance, sphere_walk_cosine, sphere_walk_distance

LAGS = np.array([10, 20, 40, 80, 160, 320, 480, 640])


def curve(squared, replicates=3):
    return pd.DataFrame(np.tile(np.sqrt(squared), (replicates, 1)), columns=LAGS)


ALL = np.arange(3)


def test_a_power_law_has_its_slope_and_grows_by_its_least_step():
    distances = curve(LAGS**0.6)
    assert lags.slope(distances, ALL) == pytest.approx(0.6)
    assert lags.growth(distances, 1.1, ALL) == pytest.approx((640 / 480) ** 0.3 - 1)
    assert lags.growth(distances, 1.6, ALL) == pytest.approx(2**0.3 - 1)


def test_a_process_that_levels_off_is_what_its_short_lags_foretell():
    distances = curve(ou_squared_distance(LAGS, 4.0, 0.02))
    assert lags.short_fit(distances, 1 / 3) == pytest.approx((4.0, 0.02), rel=1e-4)
    assert lags.over_ou(distances, 1 / 3, ALL) == pytest.approx(1, abs=1e-4)
    assert lags.slope(distances, ALL) == pytest.approx(0, abs=0.01)


def test_growth_beyond_a_plateau_is_seen():
    squared = ou_squared_distance(LAGS, 1.0, 0.1) + LAGS / 640
    assert lags.over_ou(curve(squared), 1 / 3, ALL) > 1.3
    assert lags.slope(curve(squared), ALL) > 0.3


def test_the_replicates_asked_for_are_averaged():
    distances = curve(LAGS**0.6)
    distances.iloc[2] = 1.0
    assert lags.slope(distances, np.array([0, 1, 1])) == pytest.approx(0.6)
    assert lags.slope(distances, np.array([2, 2])) == pytest.approx(0)


def test_too_few_lags_have_no_fit_and_no_slope():
    distances = curve(LAGS**0.6)
    assert np.isnan(lags.over_ou(distances[[160, 320, 640]], 1 / 3, ALL))
    assert np.isnan(lags.slope(distances[[10, 640]], ALL))
    assert np.isnan(lags.growth(distances[[10]], 1.1, ALL))


def test_replicates_with_a_distance_that_is_not_finite_are_left_out_everywhere():
    table = pd.DataFrame({"step": [0, 0, 5, 5], "delta": 5, "replicate": [0, 1, 0, 1], "l2": [1, np.nan, 2, 3.0]})
    found = lags.lag_distances(table)
    assert {step: list(d.index) for step, d in found.items()} == {0: [0], 5: [0]}


@pytest.mark.parametrize("dimension", [20, 400])
def test_the_dimension_is_found_from_the_spread(dimension):
    squared = np.random.default_rng(0).chisquare(dimension, 4000)
    assert lags.effective_dimension(pd.Series(np.sqrt(squared))) == pytest.approx(dimension, rel=0.1)


def mean_of(table, quantity):
    return table.groupby("delta")[quantity].mean()


def test_simulated_ou_processes_have_their_plateau_rate_and_spread():
    steps = np.array([100, 110, 130, 180, 400])
    table = lags.simulate_ou(steps, 3.0, 0.02, 50, 3000, np.random.default_rng(1))
    squared = mean_of(table.assign(squared=table["l2"] ** 2), "squared")
    np.testing.assert_allclose(squared, ou_squared_distance(squared.index.to_numpy(), 3.0, 0.02), rtol=0.03)
    longest = table.loc[(table["step"] == 100) & (table["delta"] == 300), "l2"]
    assert lags.effective_dimension(longest) == pytest.approx(50, rel=0.15)


def test_simulated_walks_on_the_sphere_follow_their_expected_cosine():
    steps = np.array([0, 5, 20, 100, 300])
    table = lags.simulate_sphere_walk(steps, 0.01, 60, 2000, np.random.default_rng(2))
    cosine = mean_of(table, "cosine")
    np.testing.assert_allclose(cosine, sphere_walk_cosine(0.01, cosine.index.to_numpy()), atol=0.01)
    np.testing.assert_allclose(table["l2"] ** 2, 2 - 2 * table["cosine"], atol=1e-12)
    distance = mean_of(table, "l2")
    np.testing.assert_allclose(distance, sphere_walk_distance(0.01, distance.index.to_numpy()), rtol=0.01)


def test_walks_from_one_direction_start_there_and_part_as_independent_noise_does():
    start = np.tile(np.random.default_rng(3).standard_normal(200), (500, 1))
    first, _, last = lags.sphere_walk(start, [0, 30, 60], 0.01, np.random.default_rng(4))
    assert np.linalg.norm(last, axis=1) == pytest.approx(1)
    assert (first * last).sum(axis=1).mean() == pytest.approx(sphere_walk_cosine(0.01, 60), abs=0.01)
    assert (last[1:] * last[:-1]).sum(axis=1).mean() == pytest.approx(sphere_walk_cosine(0.01, 120), abs=0.01)


def test_short_lags_that_lie_close_together_count_once():
    distances = pd.DataFrame(np.ones((2, 6)), columns=[10, 30, 31, 32, 33, 120])
    assert lags.well_separated(distances.columns.to_numpy(float), 1.25) == [0, 1, 5]
    assert lags.short_lags_of(distances, 1 / 3, 1.25) == 2
    assert lags.late_lags_of(distances) == 1
