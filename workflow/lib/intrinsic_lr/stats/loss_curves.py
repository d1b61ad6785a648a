"""What a training loss curve shows: destabilizations, and the regime of a fixed effective learning rate."""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

CONVERGING, CHAOTIC, DIVERGED = "converging", "chaotic_equilibrium", "diverged"
DIVERGED_SHARE = 0.7
"""A late loss above this share of the loss of guessing, log K, counts as diverged."""
FALLING = 0.9
"""A loss whose last quarter has a mean below this share of the quarter before counts as converging."""


class Destabilizations(NamedTuple):
    """Excursions of one loss curve, as indices into it."""

    settled: int  # of the first value at or below the lower threshold; the curve's length if there is none
    at: np.ndarray  # where the loss passed the upper threshold, one for each excursion, ascending


def destabilizations(loss: ArrayLike, low: float, high: float) -> Destabilizations:
    """Find the excursions of a loss curve (T,): each a rise above `high` after the loss was at or below `low`.

    With two thresholds (a Schmitt trigger, derived) an excursion counts once, however often it crosses the upper
    one, until the loss has been low again. A value that is not finite counts as high.

    >>> destabilizations([0.5, 0.05, 2.0, 0.4, 2.0, 0.05, 2.0], low=0.1, high=1.0).at.tolist()
    [2, 6]
    """
    loss = np.asarray(loss, np.float64)
    is_low = loss <= low
    state = pd.Series(np.where(is_low, 1.0, np.where((loss > low) & (loss <= high), np.nan, 0.0)))
    # Between the thresholds the last state holds; before the first low value there is nothing to leave.
    armed = state.ffill().fillna(0.0).to_numpy() == 1
    settled = int(np.argmax(is_low)) if is_low.any() else len(loss)
    return Destabilizations(settled, np.flatnonzero(armed[:-1] & ~armed[1:]) + 1)


def late_over_best(loss: ArrayLike, window: float, late: float) -> tuple[float, float]:
    """Return the best loss that a run has held, and its mean over the last share `late` of the run.

    The minimum of many noisy values lies below their mean even where nothing changes, so a level counts as held
    where it is the median over a share `window` of the run, at least three values (derived). `loss` (T,) is evenly
    spaced; NaN for both where it is not finite or has fewer than three values.
    """
    loss = np.asarray(loss, np.float64)
    if len(loss) < 3 or not np.isfinite(loss).all():
        return np.nan, np.nan
    width = max(3, round(window * len(loss)))
    held = pd.Series(loss).rolling(width).median()
    return float(held.min()), float(loss[-max(1, round(late * len(loss))) :].mean())


def regime(batch_loss: ArrayLike, classes: int) -> str | None:
    """Return the regime of one run on the sphere: `CONVERGING`, `CHAOTIC` or `DIVERGED`.

    Kodryan et al. 2022 (arXiv:2209.03695) tell by eye whether the loss converges, stays in a chaotic equilibrium,
    or ends as a random walk at the loss of guessing. The rule is derived from that; it compares means of quarters
    of `batch_loss` (T,), in nats and evenly spaced, so that single mini-batches do not decide. Of fewer than four
    losses it compares the last two; a single one can only have diverged, or its regime is None.
    """
    loss = np.asarray(batch_loss, np.float64)
    means = [part.mean() for part in np.array_split(loss, min(4, len(loss)))]
    if not math.isfinite(means[-1]) or means[-1] > DIVERGED_SHARE * math.log(classes):
        return DIVERGED
    if len(means) == 1:
        return None
    return CONVERGING if means[-1] < FALLING * means[-2] else CHAOTIC


def lowest_point(x: ArrayLike, y: ArrayLike, lines: ArrayLike, window: float) -> float:
    """Return where values y at x, both (n,), are lowest along the lines of a grid: the vertex of one parabola.

    It is fitted by least squares, with a height of its own for each line, to the values at most `window` away on x
    from the lowest mean over lines (derived). NaN where the lowest mean lies at an end, or beside one that is not
    finite, and where the vertex lies outside of what it was fitted to: the grid does not show the lowest point
    then. `lines` (n,) says which line a value is on; all 0 is one line.

    >>> round(lowest_point([0, 1, 2, 0, 1, 2], [2, 1, 2, 5, 4, 5], [0, 0, 0, 1, 1, 1], window=1), 12)
    1.0
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    places, inverse = np.unique(x, return_inverse=True)
    if len(places) < 3:
        return math.nan
    means = np.bincount(inverse, y) / np.bincount(inverse)
    least = int(np.argmin(np.where(np.isfinite(means), means, np.inf)))
    if least in (0, len(places) - 1) or not np.isfinite(means[least - 1 : least + 2]).all():
        return math.nan
    near = np.isfinite(y) & (abs(x - places[least]) <= window * (1 + 1e-9))
    offset = x[near] - places[least]
    heights = np.unique(np.asarray(lines)[near], return_inverse=True)[1]
    design = np.column_stack([np.eye(heights.max() + 1)[heights], offset, offset**2])
    *_, slope, curvature = np.linalg.lstsq(design, y[near])[0]
    if curvature <= 0:
        return math.nan
    vertex = -slope / (2 * curvature)
    return float(places[least] + vertex) if offset.min() <= vertex <= offset.max() else math.nan
