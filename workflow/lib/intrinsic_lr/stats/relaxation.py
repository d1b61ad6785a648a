"""How quantities relax to their equilibrium: the norm by the paper's equation of gamma, and times read off curves.

gamma = ||w||^4 / eta^2 is the effective learning rate to the power -2. Its equation
d gamma/dt = -4 lambda_e gamma + 2 s2(t) is linear, so means over replicates obey it as single runs do.
"""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

RATES = np.geomspace(0.125, 8.0, 121)
"""Multiples of the predicted rate that a fit tries, before it refines the best of them."""


def integrated_gamma(step: ArrayLike, start: float, rate: float, noise: ArrayLike) -> np.ndarray:
    """Return gamma(t), shape (T,), of d gamma/dt = -rate gamma + 2 s2(t) from `start` (paper, rate = 4 lambda_e).

    `step` (T,) is increasing, `rate` per step and above 0, and `noise` (T,) is s2 = E ||g^||^2 in the interval
    that ends at each step, the first of them not used; constant in each interval, so that the solution is exact
    (derived).
    """
    decayed, kernel = _propagators(np.asarray(step, np.float64), np.atleast_1d(rate))
    return (start * decayed + kernel @ np.asarray(noise, np.float64)[1:])[0]


def thinned(trace: pd.DataFrame, kept: ArrayLike) -> pd.DataFrame:
    """Keep some steps of a trace; the `noise` at each becomes its mean over the steps since the one before.

    The other columns, `step` and `replicate` among them, stay as they are.
    """
    kept = np.unique(kept)
    trace = trace[trace["step"] <= kept[-1]]
    interval = pd.Series(kept[np.searchsorted(kept, trace["step"])], index=trace.index)
    noise = trace["noise"].groupby([trace["replicate"], interval]).transform("mean")
    return trace.assign(noise=noise)[trace["step"].isin(kept)]


def _propagators(step: np.ndarray, rates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what is left of the start, (K, T), and of the noise of each interval, (K, T, T - 1)."""
    rates = rates[:, None]
    decayed = np.exp(-rates * (step - step[0]))
    whole = 2.0 * -np.expm1(-rates * np.diff(step)) / rates
    since = step[:, None] - step[None, 1:]
    later = since >= 0
    kernel = np.where(later, np.exp(-rates[..., None] * np.where(later, since, 0.0)), 0.0) * whole[:, None, :]
    return decayed, kernel


class RelaxationFit:
    """Fits the rate at which a measured gamma relaxes, given the measured noise (derived).

    The model is d gamma/dt = -r gamma + 2 c s2(t) with r and c free, from the measured start. As c scales the
    equilibrium, r follows from the course alone. Least squares of the relative errors; c is linear, and r is found
    on the grid `RATES` times the `predicted` rate, 4 lambda_e, refined by a parabola. `step` (T,) is increasing.
    """

    def __init__(self, step: ArrayLike, predicted: float) -> None:
        self._parts = _propagators(np.asarray(step, np.float64), RATES * predicted)

    def fit(self, gamma: ArrayLike, noise: ArrayLike) -> tuple[float, float]:
        """Return (r / predicted, c) from means over replicates: gamma (T,), and s2 (T,) as in `integrated_gamma`.

        NaN where gamma or the noise are not finite and positive, or where the best rate is off the grid.
        """
        gamma, noise = np.asarray(gamma, np.float64), np.asarray(noise, np.float64)[1:]
        if not (np.isfinite(gamma).all() and np.isfinite(noise).all() and (gamma > 0).all()):
            return np.nan, np.nan
        decayed, kernel = self._parts
        free, forced = gamma[0] * decayed / gamma, (kernel @ noise) / gamma
        c = ((1.0 - free) * forced).sum(axis=1) / (forced**2).sum(axis=1)
        misfit = ((free + c[:, None] * forced - 1.0) ** 2).sum(axis=1)
        best = int(np.argmin(misfit))
        if not 0 < best < len(RATES) - 1:
            return np.nan, np.nan
        before, here, after = misfit[best - 1 : best + 2]
        shift = 0.5 * (before - after) / (before - 2.0 * here + after)
        return float(RATES[best] * (RATES[1] / RATES[0]) ** shift), float(c[best])


def time_below(times: ArrayLike, values: ArrayLike, level: float) -> np.ndarray:
    """Return when curves (..., T) fall below a level for good, (...), at ascending positive `times` (T,).

    Interpolated between the last time at which a curve is not below the level and the next one, linear in the
    value and in the logarithm of time (derived). NaN for a curve that is below from the start, or not below at the
    end, or not finite somewhere.

    >>> round(float(time_below([1.0, 10.0, 100.0], [1.0, 0.5, 0.0], 0.5)), 6)
    10.0
    """
    log_times, values = np.log(np.asarray(times, np.float64)), np.asarray(values, np.float64)
    above = ~(values < level)
    last = values.shape[-1] - 1 - np.argmax(above[..., ::-1], axis=-1)
    seen = above.any(axis=-1) & ~above[..., -1] & np.isfinite(values).all(axis=-1)
    last = np.where(seen, last, 0)
    start, end = (np.take_along_axis(values, (last + k)[..., None], axis=-1)[..., 0] for k in (0, 1))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        part = (start - level) / (start - end)
        crossing = np.exp(log_times[last] + part * (log_times[last + 1] - log_times[last]))
    return np.where(seen, crossing, np.nan)


def log_log_slope(x: ArrayLike, y: ArrayLike) -> np.ndarray:
    """Return the least-squares slope (...) of log y (..., n) against log x (n,); NaN where a y is not finite."""
    x, y = np.log(np.asarray(x, np.float64)), np.log(np.asarray(y, np.float64))
    x = x - x.mean()
    return (y * x).sum(axis=-1) / np.square(x).sum()


def resampled_means(values: np.ndarray, resamples: int, generator: np.random.Generator) -> np.ndarray:
    """Return the mean curves (resamples, T) of replicates (R, T) drawn with replacement."""
    count = len(values)
    return generator.multinomial(count, np.full(count, 1 / count), resamples) / count @ values
