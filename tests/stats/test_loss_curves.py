"""Destabilizations on curves with known spikes, and the regimes of training at a fixed effective learning rate."""

import numpy as np
import pytest

from intrinsic_lr.stats.loss_curves import CHAOTIC, CONVERGING, DIVERGED, destabilizations, lowest_point, regime

NOISE = np.random.default_rng(0).normal(0, 0.02, 400)
TIME = np.arange(400)


def spiky(at, steps=400, level=0.05, peak=2.0):
    """Return a decaying loss with a spike of three steps' width at each of some steps, and ripples on it."""
    loss = level + 2.0 * np.exp(-np.arange(steps) / 10) + 0.01 * np.sin(np.arange(steps))
    for step in at:
        loss[step : step + 3] = peak, 0.6, peak
    return loss


@pytest.mark.parametrize("at", [[], [150], [100, 180, 181 + 40, 300]])
def test_each_spike_counts_once(at):
    found = destabilizations(spiky(at), 0.1, 1.0)
    assert found.at.tolist() == at


def test_a_first_descent_is_no_destabilisation():
    loss = spiky([])
    loss[5] = 0.3
    loss[7] = 3.0
    found = destabilizations(loss, 0.1, 1.0)
    assert found.at.size == 0
    assert loss[found.settled] <= 0.1 < loss[found.settled - 1]


def test_what_never_settles_never_destabilises():
    found = destabilizations(spiky([200], level=0.4), 0.1, 1.0)
    assert (found.settled, found.at.size) == (400, 0)


def test_a_rise_that_stays_below_the_upper_threshold_does_not_count():
    assert destabilizations(spiky([150], peak=0.9), 0.1, 1.0).at.size == 0
    assert destabilizations(spiky([150], peak=1.1), 0.1, 1.0).at.tolist() == [150]


def test_divergence_counts_once():
    loss = spiky([])
    loss[250:] = np.nan
    assert destabilizations(loss, 0.1, 1.0).at.tolist() == [250]


def test_equals_a_state_machine_on_random_walks():
    rng = np.random.default_rng(0)
    for _ in range(50):
        loss = np.exp(rng.normal(size=300).cumsum() / 3)
        armed, expected = False, []
        for step, value in enumerate(loss):
            if value <= 0.5:
                armed = True
            elif armed and value > 2.0:
                armed = False
                expected.append(step)
        assert destabilizations(loss, 0.5, 2.0).at.tolist() == expected


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (np.exp(-TIME / 100) + 0.05, CONVERGING),
        (0.3 + 2 * np.exp(-TIME / 20), CHAOTIC),
        (np.full(400, 2.3), DIVERGED),
        (np.where(TIME < 350, 0.3, np.nan), DIVERGED),
    ],
)
def test_loss_curves_of_each_regime(loss, expected):
    assert regime(loss + NOISE * 0.1 * loss, classes=10) == expected


def test_the_loss_of_guessing_depends_on_the_number_of_classes():
    loss = np.full(40, 0.6)
    assert regime(loss, classes=2) == DIVERGED
    assert regime(loss, classes=10) == CHAOTIC


@pytest.mark.parametrize(
    ("loss", "expected"),
    [([1, 0.5], CONVERGING), ([1, 0.5, 0.5], CHAOTIC), ([0.5], None), ([2.3], DIVERGED), ([1, np.nan], DIVERGED)],
)
def test_few_losses_are_compared_one_by_one(loss, expected):
    assert regime(loss, classes=10) == expected


GRID_X = np.tile(np.arange(6.0), 3)
LINES = np.repeat([0, 1, 2], 6)


class TestLowestPoint:
    @pytest.mark.parametrize("heights", [(0, 0, 0), (1, -3, 7)])
    def test_lines_of_different_heights_have_one_vertex(self, heights):
        y = (GRID_X - 2.3) ** 2 + np.repeat(heights, 6)
        assert lowest_point(GRID_X, y, LINES, 2) == pytest.approx(2.3)

    def test_incomplete_lines_do_not_shift_it_where_each_has_its_height(self):
        kept = np.arange(18) != 3
        y = (GRID_X - 2.3) ** 2 + 10.0 * LINES
        assert lowest_point(GRID_X[kept], y[kept], LINES[kept], 2) == pytest.approx(2.3)

    @pytest.mark.parametrize("lowest", [-1.0, 0.0, 5.0, 7.0])
    def test_an_end_is_no_lowest_point(self, lowest):
        assert np.isnan(lowest_point(GRID_X, (GRID_X - lowest) ** 2, LINES, 2))

    def test_values_that_are_not_finite_leave_it_open(self):
        y = (GRID_X - 2.3) ** 2
        assert np.isnan(lowest_point(GRID_X, np.full(18, np.nan), LINES, 2))
        assert np.isnan(lowest_point(GRID_X, np.where(GRID_X == 3, np.nan, y), LINES, 2))
        assert lowest_point(GRID_X, np.where(GRID_X == 5, np.nan, y), LINES, 9) == pytest.approx(2.3)
