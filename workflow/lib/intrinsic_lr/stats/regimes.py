"""The three regimes of training at a given effective learning rate, told apart by the training loss.

Kodryan et al. 2022, Training Scale-Invariant Neural Networks on the Sphere Can Happen in Three Regimes
(arXiv:2209.03695): at a small effective learning rate the loss converges, at a medium one it stays in a chaotic
equilibrium, at a large one the run diverges to a random walk at the loss of guessing. The paper tells them apart
by eye; the rule below is derived from these descriptions.
"""

import math

import numpy as np

CONVERGING, CHAOTIC, DIVERGED = "converging", "chaotic_equilibrium", "diverged"
DIVERGED_SHARE = 0.7
"""A late loss above this share of the loss of guessing, log K, counts as diverged."""
FALLING = 0.9
"""A loss whose last quarter has a mean below this share of the quarter before counts as converging."""


def regime(batch_loss: np.ndarray, classes: int) -> str:
    """Return the regime of one run from its mini-batch losses (T,) in nats, evenly spaced over the training.

    A run that is not finite has diverged. Quarters are compared by their means, so that the noise of single
    mini-batches does not decide.
    """
    third, last = (part.mean() for part in np.array_split(np.asarray(batch_loss, np.float64), 4)[2:])
    if not math.isfinite(last) or last > DIVERGED_SHARE * math.log(classes):
        return DIVERGED
    return CONVERGING if last < FALLING * third else CHAOTIC
