"""The equation of gamma with measured noise, and times to equilibrium on curves whose times are known."""

import numpy as np
import pandas as pd
import pytest

from intrinsic_lr.stats.relaxation import (
    RelaxationFit,
    integrated_gamma,
    log_log_slope,
    resampled_means,
    thinned,
    time_below,
)
from intrinsic_lr.stats.theory import next_squared_norm, relaxed_gamma

STEP = np.array([0, 3, 4, 10, 40, 41, 90, 200, 350])


def test_constant_noise_gives_the_closed_form():
    found = integrated_gamma(STEP, 50.0, 4 * 0.004, np.full(len(STEP), 2.0))
    np.testing.assert_allclose(found, relaxed_gamma(STEP, 50.0, 0.004, 2.0), rtol=1e-12)


def test_changing_noise_is_integrated_interval_by_interval():
    noise = np.linspace(1, 5, len(STEP))
    expected = [7.0]
    for length, strength in zip(np.diff(STEP), noise[1:], strict=True):
        expected.append(relaxed_gamma(length, expected[-1], 0.01, strength))
    np.testing.assert_allclose(integrated_gamma(STEP, 7.0, 0.04, noise), expected, rtol=1e-12)


def test_long_relaxations_do_not_overflow():
    found = integrated_gamma(np.array([0, 1e6, 1e9]), 1e12, 0.04, np.ones(3))
    np.testing.assert_allclose(found[1:], 2.0 / 0.04)


def test_thinning_averages_the_noise_since_the_step_before():
    trace = pd.DataFrame({"step": np.tile(np.arange(7), 2), "replicate": np.repeat([0, 1], 7)})
    trace["noise"] = trace["step"] + 10.0 * trace["replicate"]
    trace["gamma"] = -trace["noise"]
    kept = thinned(trace, [0, 2, 5])
    assert list(kept.loc[kept["replicate"] == 1, "noise"]) == [10, 11.5, 14]
    assert list(kept.loc[kept["replicate"] == 0, "gamma"]) == [0, -2, -5]


def discrete(rate, start, noise, steps, lr=0.1):
    """Return gamma along the exact recursion of the squared norm, with lambda_e = rate / 4."""
    squared = [np.sqrt(start) * lr]
    for strength in noise[1:]:
        squared.append(next_squared_norm(squared[-1], lr, rate / 4 / lr, strength))
    return (np.array(squared) / lr)[: steps + 1] ** 2


@pytest.mark.parametrize("factor", [0.5, 0.75, 1.0, 1.3, 2.0])
@pytest.mark.parametrize("start", [30.0, 3e4])
def test_the_fit_recovers_the_rate_of_the_recursion(factor, start):
    rate, steps = 4e-3, 3000
    drift = 1 + 0.5 * np.exp(-np.arange(steps + 1) / 300)
    noise = drift * np.random.default_rng(0).exponential(size=steps + 1)
    gamma = discrete(rate * factor, start, noise, steps)
    trace = pd.DataFrame({"step": np.arange(steps + 1), "replicate": 0, "noise": noise, "gamma": gamma})
    kept = thinned(trace, np.arange(0, steps + 1, 25))
    found, c = RelaxationFit(kept["step"].to_numpy(), rate).fit(kept["gamma"], kept["noise"])
    assert found == pytest.approx(factor, rel=0.03)
    assert c == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
def test_the_fit_of_what_is_not_finite_and_positive_is_missing(bad):
    gamma = np.linspace(10, 5, len(STEP))
    gamma[3] = bad
    assert np.isnan(RelaxationFit(STEP, 0.01).fit(gamma, np.ones(len(STEP)))).all()


def test_a_rate_off_the_grid_is_missing():
    gamma = relaxed_gamma(STEP, 1e6, 0.01 / 40, 1e-9)
    assert np.isnan(RelaxationFit(STEP, 1e-6).fit(gamma, np.ones(len(STEP)))[0])


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


def test_the_slope_is_that_of_a_power_law():
    rates = np.array([0.03, 0.01, 0.003, 0.001])
    times = np.stack([2 / rates, 5 * rates**-0.5])
    assert log_log_slope(rates, times) == pytest.approx([-1, -0.5])
    assert np.isnan(log_log_slope(rates, [1, 2, np.nan, 3]))


def test_resampled_means_vary_like_the_mean():
    values = np.random.default_rng(0).normal(size=(50, 3)) + np.arange(3)
    drawn = resampled_means(values, 4000, np.random.default_rng(1))
    assert drawn.mean(axis=0) == pytest.approx(values.mean(axis=0), abs=0.01)
    assert drawn.std(axis=0) == pytest.approx(values.std(axis=0) / 50**0.5, rel=0.05)
