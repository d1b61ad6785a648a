"""Destabilisations: how often a loss that had become small shoots up again."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Destabilisations:
    """Excursions of one loss curve.

    Attributes:
        settled: index of the first value at or below the lower threshold; the curve's length if there is none.
        at: indices at which the loss passed the upper threshold, one for each excursion, ascending.
    """

    settled: int
    at: np.ndarray


def destabilisations(loss: ArrayLike, low: float, high: float) -> Destabilisations:
    """Find the excursions of a loss curve: each a rise above `high` after the loss was at or below `low`.

    With two thresholds (a Schmitt trigger) an excursion counts once, however often it crosses the upper one, until
    the loss has been low again. A value that is not finite counts as high: a run that diverges has left.

    Args:
        loss: losses of successive steps, shape (T,).
        low: lower threshold.
        high: upper threshold, above `low`.
    """
    loss = np.asarray(loss, np.float64)
    is_low = loss <= low
    state = pd.Series(np.where(is_low, 1.0, np.where((loss > low) & (loss <= high), np.nan, 0.0)))
    # Between the thresholds the last state holds; before the first low value there is nothing to leave.
    armed = state.ffill().fillna(0.0).to_numpy() == 1
    settled = int(np.argmax(is_low)) if is_low.any() else len(loss)
    return Destabilisations(settled, np.flatnonzero(armed[:-1] & ~armed[1:]) + 1)


def late_over_best(loss: ArrayLike, window: float, late: float) -> tuple[float, float]:
    """Return the best loss that a run has held, and its mean late loss.

    The smallest of many noisy values lies below their mean even where nothing ever changes. A level counts as
    held where it is the median over a window: then half of the window's steps lie at or below it.

    Args:
        loss: losses at evenly spread steps, shape (T,).
        window: the window as a share of the run; at least three values.
        late: the last share of the run that the late mean is taken over.

    Returns:
        (best, late mean); NaN for both where a loss is not finite or there are fewer than three.
    """
    loss = np.asarray(loss, np.float64)
    if len(loss) < 3 or not np.isfinite(loss).all():
        return np.nan, np.nan
    width = max(3, round(window * len(loss)))
    held = pd.Series(loss).rolling(width).median()
    return float(held.min()), float(loss[-max(1, round(late * len(loss))) :].mean())
