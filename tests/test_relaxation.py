"""The equation of gamma with measured noise: integration, thinning, and the fit of its rate."""

import numpy as np
import pandas as pd
import pytest

from intrinsic_lr.stats.relaxation import RelaxationFit, integrated_gamma, thinned
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
