"""Variance components of function space: the share of two runs' disagreement that is owed to what groups them.

Runs are grouped by what they have in common, such as their initialisation. Two runs of different groups disagree
more often than two of one group. What they disagree more, as a share of the former, is the part of the variance of
the predicted labels that lies between groups: half the mean squared distance of two runs' indicator vectors is
their variance, and the two mean disagreements estimate the total and that within without bias (derived; Searle,
Casella and McCulloch 1992, Variance Components, chapter 3).

All follows from the matrix of distances between runs, so that a resample or a permutation is counted in R^2 steps.
Distances are (R, R); `groups` (R,) numbers the group of each run. A mean over groups weighs every group alike.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from intrinsic_lr.stats.intervals import expanded_tails

CHUNK_VALUES = 4_000_000
"""Bound on the values of an intermediate array."""
SIMULATIONS = 100
"""Studies that are simulated to see how often a test finds a share."""


class Component(NamedTuple):
    """Mean distances of two runs, and what the grouping adds."""

    across: float  # of two different groups
    within: float  # of one group
    excess: float  # across less within
    share: float  # excess over across; NaN where no two runs differ


def label_distances(labels: np.ndarray) -> np.ndarray:
    """Return the share of test points that each two runs label differently, from labels (R, N); float64 (R, R).

    >>> label_distances(np.array([[0, 1], [0, 2], [0, 2]]))
    array([[0. , 0.5, 0.5],
           [0.5, 0. , 0. ],
           [0.5, 0. , 0. ]])
    """
    runs, points = labels.shape
    varied = labels[:, (labels != labels[0]).any(axis=0)]
    agreements = np.full((runs, runs), float(points - varied.shape[1]))
    for label in np.unique(varied):
        given = (varied == label).astype(np.float32)
        # Counts of fewer than 2^24 points are exact in float32.
        agreements += given @ given.T
    return 1.0 - agreements / points


def logit_distances(logits: np.ndarray) -> np.ndarray:
    """Return the Euclidean distance of each two runs' logits (R, N, K), mean over the N test points; (R, R).

    Twice the excess of such distances is the energy distance of two groups (Szekely and Rizzo 2013), here the mean
    over test points: zero only where both have one distribution of logits at every point.
    """
    runs, points = logits.shape[:2]
    total = np.zeros((runs, runs))
    # Few test points at a time stay in the processor's cache.
    size = max(1, CHUNK_VALUES // (8 * runs * runs))
    for start in range(0, points, size):
        chunk = np.asarray(logits[:, start : start + size], np.float32).transpose(1, 0, 2)
        squared = np.square(chunk).sum(axis=2)
        apart = chunk @ (-2.0 * chunk.transpose(0, 2, 1))
        apart += squared[:, :, None]
        apart += squared[:, None, :]
        np.sqrt(np.maximum(apart, 0.0, out=apart), out=apart)
        total += apart.sum(axis=0)
    np.fill_diagonal(total, 0.0)
    return total / points


def group_means(distances: np.ndarray, groups: ArrayLike) -> np.ndarray:
    """Return the mean distances of two runs by their groups, (G, G): on the diagonal of two different runs of one.

    NaN on the diagonal for a group of a single run. Applied once more, to its own result and the groups that the
    groups belong to, it compares these: settings with several initialisations each.
    """
    return _means(distances, _members(groups)[None])[0]


def component(means: np.ndarray) -> Component:
    """Return the component between groups, from the mean distances of `group_means`.

    >>> component(np.array([[0.1, 0.4], [0.4, 0.3]])).share
    0.5
    """
    within = float(np.diag(means).mean())
    apart = means[~np.eye(len(means), dtype=bool)]
    across = float(apart.mean()) if len(apart) else np.nan
    excess = across - within
    return Component(across, within, excess, excess / across if across > 0 else np.nan)


def permuted_shares(
    distances: np.ndarray, groups: ArrayLike, permutations: int, generator: np.random.Generator
) -> np.ndarray:
    """Return the share after the runs were dealt anew to groups of the same sizes, (permutations,).

    The exact null of a grouping that makes no difference: all runs are then exchangeable. Where the groups are
    settings of several initialisations each, the distances are those between initialisations (`group_means`), and
    whole initialisations are dealt.
    """
    member, runs = _members(groups), len(distances)
    shares = []
    for count in _chunks(permutations, member.size):
        order = generator.permuted(np.tile(np.arange(runs), (count, 1)), axis=1)
        across, within = _across_and_within(_means(distances, member[order]))
        shares.append(_share(across - within, across))
    return np.concatenate(shares)


def p_value(measured: float, null: np.ndarray) -> float:
    """Return (1 + splits at least as far apart) / (1 + splits); NaN where nothing was measured."""
    if not np.isfinite(measured):
        return np.nan
    # Far less than one pair of runs at one test point, far more than rounding.
    return float((1 + np.count_nonzero(null > measured - 1e-9)) / (1 + len(null)))


def resampled_groups(
    means: np.ndarray, runs: ArrayLike, resamples: int, generator: np.random.Generator
) -> np.ndarray:
    """Return the share of groups drawn with replacement, each with all its runs, (resamples,).

    `means` are those of `group_means`, `runs` (G,) how many are in each group. The variance between the drawn
    groups' means, with a group and its copy at distance zero, is scaled by G / (G - 1), and the noise of their
    runs is taken off, so that resamples have the estimate as their mean (derived). Runs are not drawn anew within
    a group: their noise is in its means already, and would count twice (Davison and Hinkley 1997, Bootstrap
    Methods and their Application, section 3.8).
    """
    groups, within = len(means), np.diag(means)
    centres = _centre_distances(means, runs)
    times = generator.multinomial(groups, np.full(groups, 1 / groups), resamples).astype(np.float64)
    variance = ((times @ centres) * times).sum(axis=1) / max(groups - 1, 1) ** 2
    excess, inside = variance - times @ (within / runs) / groups, times @ within / groups
    return _share(excess, inside + excess)


def resampled_settings(
    means: np.ndarray, runs: ArrayLike, settings: ArrayLike, resamples: int, generator: np.random.Generator
) -> np.ndarray:
    """Return the share of settings whose initialisations are drawn with replacement within each, (resamples,).

    `means` are those of `group_means` over the initialisations of all settings, `settings` (G,) numbers the
    setting of each, and `runs` are as in `resampled_groups`, which counts as this does. Where two settings hardly
    differ, resampling adds noise to a difference that is noise itself: intervals are up to twice too wide there.
    """
    member = _members(settings)
    sizes = member.sum(axis=0)
    count = np.outer(sizes, sizes)
    pairs = count - np.diag(np.diag(count)) + np.diag(np.square(np.maximum(sizes - 1, 1)))
    centres, shares = _centre_distances(means, runs), []
    for chunk in _chunks(resamples, member.size):
        times = np.zeros((chunk, *member.shape))
        for setting, size in enumerate(sizes.astype(int)):
            drawn = generator.multinomial(size, np.full(size, 1 / size), chunk)
            times[:, member[:, setting] > 0, setting] = drawn
        across, within = _across_and_within(_sums(centres, times) / pairs)
        shares.append(_share(across - within, _across_and_within(_sums(means, times) / count)[0]))
    return np.concatenate(shares)


def group_interval(share: float, drawn: np.ndarray, runs: ArrayLike, confidence: float) -> tuple[float, float]:
    """Return the interval (low, high) of the share between groups, from the shares of `resampled_groups`.

    Student's t on the logarithm of the ratio F = 1 + n share / (1 - share) that an analysis of variance has for n
    runs a group, with the standard deviation of the resamples: the share itself is skewed, and its percentiles
    cover too little. Of groups of unequal sizes n is the harmonic mean. NaN with fewer than two groups.
    """
    runs = np.asarray(runs, np.float64)
    groups, mean_runs = len(runs), 1 / np.mean(1 / runs)
    logs = _log_ratio(np.array([share, *drawn]), mean_runs)
    sound = logs[1:][np.isfinite(logs[1:])]
    if groups < 2 or not np.isfinite(logs[0]) or len(sound) < max(confidence * len(drawn), 2):
        return np.nan, np.nan
    half = _critical_t(confidence, groups) * sound.std() * np.sqrt(groups / (groups - 1))
    low, high = np.expm1([logs[0] - half, logs[0] + half])
    return float(low / (low + mean_runs)), float(high / (high + mean_runs))


def power_within(low: float, high: float, groups: int, runs: float, confidence: float, margin: float) -> float:
    """Return how often an interval as wide as this of `group_interval` lies below a margin at a true share of 0.

    By the normal approximation on the scale of `group_interval`, for groups of so many runs each.
    """
    if groups < 2 or not np.isfinite([low, high]).all():
        return np.nan
    half = np.diff(_log_ratio(np.array([low, high]), runs)).item() / 2
    deviation = half / _critical_t(confidence, groups)
    room = _log_ratio(np.array(margin), runs).item() - half
    return float(stats.norm.cdf(room / deviation)) if deviation > 0 else float(room > 0)


def setting_interval(drawn: np.ndarray, confidence: float, initialisations: int) -> tuple[float, float]:
    """Return the interval (low, high) of the share between settings: expanded percentiles of `resampled_settings`.

    `initialisations` is how many the setting with the fewest has.
    """
    if initialisations < 2 or not np.isfinite(drawn).all():
        return np.nan, np.nan
    low, high = np.quantile(drawn, expanded_tails(confidence, initialisations))
    return float(low), float(high)


def planted(
    labels: np.ndarray, groups: ArrayLike, share: float, generator: np.random.Generator, mixed: bool = False
) -> np.ndarray:
    """Return labels (R, N) of runs like these, of which the grouping causes a share of the disagreement exactly.

    Runs are drawn from all of `labels` whatever their group. At every test point each gives, with probability
    sqrt(share), the label of a template drawn for its group in place of its own: two runs of one group then both
    do so with probability `share`, and agree; otherwise they are as independent as two of different groups
    (derived). The template is one of the runs, or `mixed` of all of them, point by point: the distance of two
    given templates then hardly varies, which a test of two groups needs.
    """
    runs, points = labels.shape
    numbers = np.unique(np.asarray(groups), return_inverse=True)[1]
    own = labels[generator.integers(runs, size=runs)]
    of_groups = generator.integers(runs, size=(numbers.max() + 1, points if mixed else 1))
    templates = labels[of_groups, np.arange(points)][numbers]
    return np.where(generator.random((runs, points)) < np.sqrt(share), templates, own)


def detectable_share(
    labels: np.ndarray,
    groups: ArrayLike,
    is_found: Callable[[np.ndarray], bool],
    probability: float,
    generator: np.random.Generator,
    mixed: bool = False,
) -> float:
    """Return the smallest share that a test finds with this probability in runs like these, by simulation.

    `is_found` tells of labels like `labels` whether the test finds a difference. Shares from 0.001 to 0.8 are
    tried, each 15 % larger than the one before, in `SIMULATIONS` studies (`planted`). NaN where no two runs
    differ, or where none of them is found so often.
    """
    varied = (labels != labels[0]).any(axis=0)
    if not varied.any():
        return np.nan
    seed, shares, simulated = int(generator.integers(2**63)), np.geomspace(0.001, 0.8, 49), labels.copy()

    def often_found(share: float) -> bool:
        # One stream for all shares: their order then hardly depends on chance.
        draws, found = np.random.default_rng(seed), 0
        for _ in range(SIMULATIONS):
            simulated[:, varied] = planted(labels[:, varied], groups, share, draws, mixed)
            found += is_found(simulated)
        return found >= probability * SIMULATIONS

    smallest = bisect_left(shares, True, key=often_found)
    return float(shares[smallest]) if smallest < len(shares) else np.nan


def half_of_disagreement(labels: np.ndarray) -> int:
    """Return the smallest number of test points on which half of all disagreements of two runs (R, N) stand.

    >>> half_of_disagreement(np.array([[0, 0, 0, 0], [1, 0, 0, 0], [2, 0, 0, 1]]))
    1
    """
    runs = len(labels)
    disagreements = np.full(labels.shape[1], float(runs * runs))
    for label in np.unique(labels):
        disagreements -= np.square((labels == label).sum(axis=0))
    largest = np.sort(disagreements)[::-1].cumsum()
    return int(np.searchsorted(largest, largest[-1] / 2) + 1) if largest[-1] > 0 else 0


def _log_ratio(share: np.ndarray, runs: float) -> np.ndarray:
    ratio = 1 + runs * share / (1 - share)
    return np.log(np.where(ratio > 0, ratio, np.nan))


def _critical_t(confidence: float, groups: int) -> float:
    return float(stats.t.ppf((1 + confidence) / 2, groups - 1))


def _members(groups: ArrayLike) -> np.ndarray:
    """Return 1 where a run belongs to a group, float64 (R, G); groups in ascending order."""
    groups = np.asarray(groups)
    return (groups[:, None] == np.unique(groups)).astype(np.float64)


def _sums(distances: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return sums (S, G, G) of distances of different runs, which are in the groups so many times, (S, R, G)."""
    apart = distances - np.diag(np.diag(distances))
    return times.transpose(0, 2, 1) @ (apart @ times)


def _means(distances: np.ndarray, member: np.ndarray) -> np.ndarray:
    """Return the mean distances (S, G, G) of different runs of the groups that they belong to, (S, R, G)."""
    sums, sizes = _sums(distances, member), member[0].sum(axis=0)
    pairs = np.outer(sizes, sizes) - np.diag(sizes)
    return np.divide(sums, pairs, out=np.full_like(sums, np.nan), where=pairs > 0)


def _centre_distances(means: np.ndarray, runs: ArrayLike) -> np.ndarray:
    """Return half the squared distances of the groups' mean label vectors, (G, G) (derived)."""
    spread = np.diag(means) * (1 - 1 / np.asarray(runs))
    centres = means - (spread[:, None] + spread) / 2
    np.fill_diagonal(centres, 0.0)
    return centres


def _across_and_within(means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean distances (S, G, G) of two different groups, and within one, both (S,)."""
    groups = means.shape[1]
    within = np.trace(means, axis1=1, axis2=2)
    return (means.sum(axis=(1, 2)) - within) / (groups * (groups - 1)), within / groups


def _share(excess: np.ndarray, across: np.ndarray) -> np.ndarray:
    return np.divide(excess, across, out=np.full_like(across, np.nan), where=across > 0)


def _chunks(count: int, size: int) -> Iterator[int]:
    """Yield how many of `count` arrays of a size are taken at a time."""
    most = max(1, CHUNK_VALUES // size)
    for start in range(0, count, most):
        yield min(most, count - start)
