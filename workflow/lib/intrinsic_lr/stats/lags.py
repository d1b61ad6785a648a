"""Distance against lag: does it level off? Statistics, and simulated processes that do. Imports no torch.

The distances from one starting checkpoint T are a table (replicates, lags): rows are replicates, columns lags.
"""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from intrinsic_lr.stats.theory import fit_ou_null, ou_squared_distance, sphere_walk_cosine

MIN_SHORT, MIN_LATE = 3, 2
"""Two short lags determine the two parameters of a process, and say nothing of the fit; a slope needs two lags."""


def lag_distances(table: pd.DataFrame) -> dict[int, pd.DataFrame]:
    """Return for each starting checkpoint T its distances (replicates, lags), lags ascending.

    Args:
        table: columns `step` (T), `delta`, `replicate`, `l2`. Replicates with a distance that is not finite are
            left out everywhere, so that all tables have the same rows; no table where none is left.
    """
    wide = table.pivot(index="replicate", columns=["step", "delta"], values="l2").sort_index(axis=1)
    wide = wide[np.isfinite(wide).all(axis=1)]
    return {step: wide[step] for step in wide.columns.get_level_values(0).unique()} if len(wide) else {}


def well_separated(lags: np.ndarray, lag_ratio: float) -> list[int]:
    """Return the places of the lags, ascending, that are each at least so many times as long as the one before."""
    kept = [0]
    for place in range(1, len(lags)):
        if lags[place] >= lag_ratio * lags[kept[-1]]:
            kept.append(place)
    return kept


def growth(distances: pd.DataFrame, lag_ratio: float, rows: np.ndarray) -> float:
    """Return the least relative growth of the mean distance from one lag to the next.

    Args:
        distances: (replicates, lags) from one T.
        lag_ratio: the next lag is the next one that is at least so many times as long.
        rows: places of the replicates to average, shape (n,).

    Returns:
        NaN where there is a single lag.
    """
    mean = distances.to_numpy()[rows].mean(axis=0)
    kept = well_separated(distances.columns.to_numpy(float), lag_ratio)
    steps = mean[kept][1:] / mean[kept][:-1] - 1
    return float(steps.min()) if len(steps) else np.nan


def short_fit(distances: pd.DataFrame, short_lags: float, rows: np.ndarray | None = None) -> tuple[float, float]:
    """Return plateau and rate of the Ornstein-Uhlenbeck process fitted to the lags up to a share of the longest.

    NaN for both with fewer than `MIN_SHORT` such lags.
    """
    lags = distances.columns.to_numpy(float)
    short = lags <= short_lags * lags.max()
    if short.sum() < MIN_SHORT:
        return np.nan, np.nan
    chosen = distances.to_numpy() if rows is None else distances.to_numpy()[rows]
    return fit_ou_null(lags[short], (chosen[:, short] ** 2).mean(axis=0))


def short_lags_of(distances: pd.DataFrame, short_lags: float, lag_ratio: float) -> int:
    """Return how many lags, told apart by a ratio, are no longer than a share of the longest."""
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
    """Return the log-log slope of the mean squared distance over the last half of the lags.

    Free diffusion has slope 1, a process that has levelled off 0. NaN with fewer than two lags there.
    """
    lags = distances.columns.to_numpy(float)
    late = lags >= lags.max() / 2
    if late.sum() < MIN_LATE:
        return np.nan
    squared = (distances.to_numpy()[rows][:, late] ** 2).mean(axis=0)
    return float(np.polyfit(np.log(lags[late]), np.log(squared), 1)[0])


def effective_dimension(distances: pd.Series) -> int:
    """Return the dimension in which an isotropic process has this spread of squared distances.

    In d dimensions the squared distance is a multiple of a chi-squared variable with d degrees of freedom, whose
    squared coefficient of variation is 2 / d (derived); 2 to 10,000.
    """
    squared = distances.to_numpy() ** 2
    variation = squared.var(ddof=1) / squared.mean() ** 2 if len(squared) > 1 else np.inf
    return int(np.clip(2 / max(variation, 1e-12), 2, 10_000))


def simulate_ou(
    steps: np.ndarray, plateau: float, rate: float, dimension: int, replicates: int, generator: np.random.Generator
) -> pd.DataFrame:
    """Return distances and cosines of stationary Ornstein-Uhlenbeck processes round 0.

    Args:
        steps: checkpoints, ascending.
        plateau: squared distance at infinite lag, 2 Tr S.
        rate: share of the state lost per step.
        dimension: of the state; isotropic.
        replicates: number of independent processes.
        generator: source of the noise.
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
    """Return distances and cosines of walks on the unit sphere driven by noise alone, from a start each.

    Arguments as for `simulate_ou`; see `sphere_walk`.
    """
    start = generator.standard_normal((replicates, dimension))
    return _pairs(np.asarray(steps), sphere_walk(start, steps, intrinsic_lr, generator))


def sphere_walk(
    start: np.ndarray, steps: ArrayLike, intrinsic_lr: float, generator: np.random.Generator
) -> np.ndarray:
    """Return directions at ascending steps of walks on the unit sphere driven by noise alone.

    Between two steps the direction keeps the expected cosine (`theory.sphere_walk_cosine`), and the rest is noise
    orthogonal to it.

    Args:
        start: directions at the first step, shape (R, d), of any length.
        steps: shape (T,).
        intrinsic_lr: lambda_e.
        generator: source of the noise.

    Returns:
        Unit vectors, shape (T, R, d).
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
    """Lay out distance and cosine of all pairs of states (T, replicates, dimension)."""
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
