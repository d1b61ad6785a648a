"""Times to equilibrium and their scaling, on curves whose times are known."""

import numpy as np
import pytest

from intrinsic_lr.stats.equilibration import log_log_slope, resampled_means, spread, time_below


def test_crossings_are_interpolated_in_the_logarithm_of_time():
    times = np.array([1.0, 10.0, 100.0])
    assert time_below(times, [1, 0.5, 0], 0.25) == pytest.approx(10**1.5)
    assert time_below(times, [[1, 0.5, 0], [1, 0, 0]], 0.5) == pytest.approx([10, 10**0.5])


def test_exponential_decay_is_timed():
    times = np.linspace(0.01, 10, 2000)
    for rate in (0.5, 2):
        assert time_below(times, np.exp(-rate * times), 0.1) == pytest.approx(np.log(10) / rate, rel=1e-3)


def test_a_curve_that_comes_back_is_timed_when_it_goes_for_good():
    times = [1, 2, 4, 8, 16]
    assert 4 < time_below(times, [1, 0, 1, 0, 0], 0.5) < 8


@pytest.mark.parametrize("curve", [[0, 0, 0], [1, 1, 1], [1, 0, 1], [1, np.nan, 0], [np.nan] * 3, [1, 0.1, 0.5]])
def test_what_is_not_seen_is_not_timed(curve):
    assert np.isnan(time_below([1, 2, 3], curve, 0.5))


def test_slope_and_spread_recover_a_power_law():
    rates = np.array([0.03, 0.01, 0.003, 0.001])
    times = np.stack([2 / rates, 5 * rates**-0.5])
    assert log_log_slope(rates, times) == pytest.approx([-1, -0.5])
    assert spread(times * rates) == pytest.approx([1, 30**0.5])
    assert np.isnan(log_log_slope(rates, [1, 2, np.nan, 3]))


def test_resampled_means_vary_like_the_mean():
    values = np.random.default_rng(0).normal(size=(50, 3)) + np.arange(3)
    drawn = resampled_means(values, 4000, np.random.default_rng(1))
    assert drawn.mean(axis=0) == pytest.approx(values.mean(axis=0), abs=0.01)
    assert drawn.std(axis=0) == pytest.approx(values.std(axis=0) / 50**0.5, rel=0.05)
