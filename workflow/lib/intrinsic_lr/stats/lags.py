"""Distance against lag: does it level off? Statistics, and simulated processes that do.

The distances from one starting checkpoint T are a table with a row per replicate and a column per lag, in steps.
`rows` (n,) are the places of the replicates to average.
"""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from intrinsic_lr.stats.theory import fit_ou_null, ou_squared_distance, sphere_walk_cosine

MIN_SHORT, MIN_LATE = 3, 2
"""Two lags determine both parameters of a process and say nothing of the fit; a slope needs two lags."""


def lag_distances(table: pd.DataFrame) -> dict[int, pd.DataFrame]:
    """Return for each starting checkpoint T its distances (replicates, lags), lags ascending.

    `table` has the columns `step` (T), `delta`, `replicate`, `l2`. Replicates with a distance that is not finite
    are left out everywhere; there is no table where none is left.
    """
    wide = table.pivot(index="replicate", columns=["step", "delta"], values="l2").sort_index(axis=1)
    wide = wide[np.isfinite(wide).all(axis=1)]
    return {step: wide[step] for step in wide.columns.get_level_values(0).unique()} if len(wide) else {}


def autocovariance(series: np.ndarray, lags: int) -> np.ndarray:
    """Return the mean over time of <x_t, x_{t+k}> for k from 0 to `lags`, (lags + 1,), of vectors x, (T, C).

    >>> autocovariance(np.array([[1.0], [2.0], [3.0]]), 1).tolist()
    [4.666666666666667, 4.0]
    """
    count = len(series)
    return np.array([np.vdot(series[: count - k], series[k:]) / (count - k) for k in range(lags + 1)])


def well_separated(lags: np.ndarray, lag_ratio: float) -> list[int]:
    """Return the places of the ascending lags that are each at least `lag_ratio` times as long as the one before.

    >>> well_separated(np.array([10.0, 30.0, 31.0, 120.0]), 1.25)
    [0, 1, 3]
    """
    kept = [0]
    for place in range(1, len(lags)):
        if lags[place] >= lag_ratio * lags[kept[-1]]:
            kept.append(place)
    return kept


def growth(distances: pd.DataFrame, lag_ratio: float, rows: np.ndarray) -> float:
    """Return the least relative growth of the mean distance from one `well_separated` lag to the next, or NaN."""
    mean = distances.to_numpy()[rows].mean(axis=0)
    kept = well_separated(distances.columns.to_numpy(float), lag_ratio)
    steps = mean[kept][1:] / mean[kept][:-1] - 1
    return float(steps.min()) if len(steps) else np.nan


def short_fit(distances: pd.DataFrame, short_lags: float, rows: np.ndarray | None = None) -> tuple[float, float]:
    """Return plateau and rate of the Ornstein-Uhlenbeck process fitted to the lags up to a share of the longest.

    Source: `theory.fit_ou_null`. NaN for both with fewer than `MIN_SHORT` such lags.
    """
    lags = distances.columns.to_numpy(float)
    short = lags <= short_lags * lags.max()
    if short.sum() < MIN_SHORT:
        return np.nan, np.nan
    chosen = distances.to_numpy() if rows is None else distances.to_numpy()[rows]
    return fit_ou_null(lags[short], (chosen[:, short] ** 2).mean(axis=0))


def short_lags_of(distances: pd.DataFrame, short_lags: float, lag_ratio: float) -> int:
    """Return how many of the `well_separated` lags are no longer than a share of the longest."""
    lags = distances.columns.to_numpy(float)
    return int((lags[well_separated(lags, lag_ratio)] <= short_lags * lags.max()).sum())


def late_lags_of(distances: pd.DataFrame) -> int:
    """Return how many lags are at least half as long as the longest."""
    lags = distances.columns.to_numpy(float)
    return int((lags >= lags.max() / 2).sum())


def over_ou(distances: pd.DataFrame, short_lags: float, rows: np.ndarray) -> float:
    """Return the mean squared distance at the longest lag, over what the process of `short_fit` has there."""
    lags = distances.columns.to_numpy(float)
    squared = (distances.to_numpy()[rows, -1] ** 2).mean()
    return float(squared / ou_squared_distance(lags[-1], *short_fit(distances, short_lags, rows)))


def slope(distances: pd.DataFrame, rows: np.ndarray) -> float:
    """Return the log-log slope of the mean squared distance over the lags from half the longest on, at least two.

    Free diffusion has slope 1, a process that has levelled off 0 (derived).
    """
    lags = distances.columns.to_numpy(float)
    late = lags >= lags.max() / 2
    if late.sum() < MIN_LATE:
        return np.nan
    squared = (distances.to_numpy()[rows][:, late] ** 2).mean(axis=0)
    return float(np.polyfit(np.log(lags[late]), np.log(squared), 1)[0])


def effective_dimension(distances: pd.Series) -> int:
    """Return the dimension, 2 to 10,000, in which an isotropic process has this variation of squared distances.

    In d dimensions they are a multiple of a chi-squared variable, of squared coefficient of variation 2 / d
    (derived).
    """
    squared = distances.to_numpy() ** 2
    variation = squared.var(ddof=1) / squared.mean() ** 2 if len(squared) > 1 else np.inf
    return int(np.clip(2 / max(variation, 1e-12), 2, 10_000))


def simulate_ou(
    steps: np.ndarray, plateau: float, rate: float, dimension: int, replicates: int, generator: np.random.Generator
) -> pd.DataFrame:
    """Return distances and cosines of independent, stationary, isotropic Ornstein-Uhlenbeck processes round 0.

    `steps` are the checkpoints, ascending; `plateau` and `rate` are those of `theory.ou_squared_distance`. The
    columns are `step`, `delta`, `replicate`, `l2` and `cosine`.
    """
    deviation = (plateau / 2 / dimension) ** 0.5
    states = [deviation * generator.standard_normal((replicates, dimension))]
    for gap in np.diff(steps):
        kept = np.exp(gap * np.log1p(-rate))
        noise = generator.standard_normal((replicates, dimension))
        states.append(kept * states[-1] + deviation * (1 - kept**2) ** 0.5 * noise)
    return _pairs(np.asarray(steps), np.stack(states))


def simulate_sphere_walk(
    steps: np.ndarray, intrinsic_lr: float, dimension: int, replicates: int, generator: np.random.Generator
) -> pd.DataFrame:
    """Return what `simulate_ou` does, of walks on the unit sphere driven by noise alone (`sphere_walk`)."""
    start = generator.standard_normal((replicates, dimension))
    return _pairs(np.asarray(steps), sphere_walk(start, steps, intrinsic_lr, generator))


def sphere_walk(
    start: np.ndarray, steps: ArrayLike, intrinsic_lr: float, generator: np.random.Generator
) -> np.ndarray:
    """Return directions, unit vectors (T, R, d), at ascending steps (T,) of walks driven by noise alone.

    They start in the directions of `start` (R, d), keep the expected cosine (`theory.sphere_walk_cosine`) between
    two steps, and the rest is noise orthogonal to it (derived).
    """
    states = [start / np.linalg.norm(start, axis=1, keepdims=True)]
    for gap in np.diff(steps):
        noise = generator.standard_normal(start.shape)
        noise -= (noise * states[-1]).sum(axis=1, keepdims=True) * states[-1]
        noise /= np.linalg.norm(noise, axis=1, keepdims=True)
        kept = sphere_walk_cosine(intrinsic_lr, gap)
        states.append(kept * states[-1] + (1 - kept**2) ** 0.5 * noise)
    return np.stack(states)


def _pairs(steps: np.ndarray, states: np.ndarray) -> pd.DataFrame:
    """Return distance and cosine of all pairs of states (T, replicates, dimension)."""
    first, second = np.triu_indices(len(steps), 1)
    norms = np.linalg.norm(states, axis=-1)
    cosines = (states[first] * states[second]).sum(axis=-1) / (norms[first] * norms[second])
    replicates = states.shape[1]
    return pd.DataFrame(
        {
            "step": np.repeat(steps[first], replicates),
            "delta": np.repeat(steps[second] - steps[first], replicates),
            "replicate": np.tile(np.arange(replicates), len(first)),
            "l2": np.linalg.norm(states[first] - states[second], axis=-1).ravel(),
            "cosine": cosines.ravel(),
        }
    )
