"""How long a quantity takes to its equilibrium, and how these times scale with a rate.

No definition here knows of the scaling: times are read off the curves in steps. Leading axes are free, so that a
curve and its bootstrap resamples are treated at once.
"""

import numpy as np
from numpy.typing import ArrayLike


def time_below(times: ArrayLike, values: ArrayLike, level: float) -> np.ndarray:
    """Return when curves fall below a level for good.

    The crossing is interpolated between the last time at which a curve is not below the level and the next one:
    linear in the value and in the logarithm of time (derived).

    Args:
        times: ascending and positive, shape (T,).
        values: shape (..., T).
        level: what to fall below.

    Returns:
        Times (...). NaN where that is not seen: a curve that is below from the start, or not below at the end, or
        not finite anywhere.
    """
    log_times, values = np.log(np.asarray(times, np.float64)), np.asarray(values, np.float64)
    above = ~(values < level)
    last = values.shape[-1] - 1 - np.argmax(above[..., ::-1], axis=-1)
    seen = above.any(axis=-1) & ~above[..., -1] & np.isfinite(values).all(axis=-1)
    last = np.where(seen, last, 0)
    start, end = (np.take_along_axis(values, (last + k)[..., None], axis=-1)[..., 0] for k in (0, 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        part = (start - level) / (start - end)
        found = np.exp(log_times[last] + part * (log_times[last + 1] - log_times[last]))
    return np.where(seen, found, np.nan)


def log_log_slope(x: ArrayLike, y: ArrayLike) -> np.ndarray:
    """Return the least-squares slope of log y (..., n) against log x (n,); NaN where a y is not finite."""
    x, y = np.log(np.asarray(x, np.float64)), np.log(np.asarray(y, np.float64))
    x = x - x.mean()
    return (y * x).sum(axis=-1) / np.square(x).sum()


def spread(times: ArrayLike) -> np.ndarray:
    """Return the ratio of the longest to the shortest of some times (..., n): 1 where curves collapse."""
    times = np.asarray(times, np.float64)
    return times.max(axis=-1) / times.min(axis=-1)


def resampled_means(values: np.ndarray, resamples: int, generator: np.random.Generator) -> np.ndarray:
    """Return the mean curves (resamples, T) of replicates (R, T) drawn with replacement."""
    count = len(values)
    return generator.multinomial(count, np.full(count, 1 / count), resamples) / count @ values
