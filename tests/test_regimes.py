"""The regimes of training at a fixed effective learning rate."""

import numpy as np
import pytest

from intrinsic_lr.stats.regimes import CHAOTIC, CONVERGING, DIVERGED, regime

NOISE = np.random.default_rng(0).normal(0, 0.02, 400)
TIME = np.arange(400)


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
