"""The analyses as a user would write them: plain loops, matrix products and SciPy. Imports no torch."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file
from scipy.spatial.distance import pdist

Scores = dict[str, np.ndarray]
"""The total variations of splits, `null`, and of each resample what the disagreement table gives intervals of."""


def draws(n: int, m: int, count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return orders of the pooled runs (count, n + m) and drawn runs of both sides, (count, n) and (count, m)."""
    splits, resamples = (np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(2))
    orders = splits.permuted(np.tile(np.arange(n + m), (count, 1)), axis=1)
    chosen = []
    for runs in (n, m):
        times = resamples.multinomial(runs, np.full(runs, 1 / runs), count)
        chosen.append(np.repeat(np.tile(np.arange(runs), count), times.ravel()).reshape(count, runs))
    return orders, *chosen


def loops(a: np.ndarray, b: np.ndarray, classes: int, count: int, seed: int) -> Scores:
    """Compare predicted labels a (n, N) and b (m, N): label distributions for each split and resample anew."""
    n, m = len(a), len(b)
    orders, chosen_a, chosen_b = draws(n, m, count, seed)
    pooled = np.concatenate([a, b])
    halves = ((pooled[order[:n]], pooled[order[n:]]) for order in orders)
    null = [_total_variation(*(_distribution(half, classes) for half in pair)) for pair in halves]
    found = []
    for runs_a, runs_b in zip(chosen_a, chosen_b, strict=True):
        p, q = _distribution(a[runs_a], classes), _distribution(b[runs_b], classes)
        within = [(1 - (side**2).sum(axis=1)).mean() for side in (p, q)]
        found.append((_total_variation(p, q), 1 - (p * q).sum(axis=1).mean(), *within))
    return {"null": np.array(null), **_quantities(np.array(found), n, m)}


def products(a: np.ndarray, b: np.ndarray, classes: int, count: int, seed: int) -> Scores:
    """Compare as `loops` does, by matrix products in float32: all draws at once with the labels as indicators."""
    n, m = len(a), len(b)
    orders, chosen_a, chosen_b = draws(n, m, count, seed)
    first = np.zeros((count, n + m), np.float32)
    np.put_along_axis(first, orders[:, :n], 1, axis=1)
    times_a, times_b = (
        np.stack([np.bincount(runs, minlength=size) for runs in chosen]).astype(np.float32)
        for chosen, size in ((chosen_a, n), (chosen_b, m))
    )
    points = a.shape[1]
    null, found = np.zeros(count), np.zeros((count, 4))
    for part in np.array_split(np.arange(points), max(1, points // 200)):
        one_a, one_b = (
            (side[:, part, None] == np.arange(classes)).astype(np.float32).reshape(len(side), -1)
            for side in (a, b)
        )
        pooled = np.concatenate([one_a, one_b])
        p = first @ pooled
        null += np.abs(p / n - (pooled.sum(axis=0) - p) / m).sum(axis=1) / 2
        p, q = times_a @ one_a / n, times_b @ one_b / m
        same = ((p * q).sum(axis=1), (p * p).sum(axis=1), (q * q).sum(axis=1))
        found += np.stack([np.abs(p - q).sum(axis=1) / 2, *(len(part) - pairs for pairs in same)], axis=1)
    return {"null": null / points, **_quantities(found / points, n, m)}


def _distribution(labels: np.ndarray, classes: int) -> np.ndarray:
    return np.stack([(labels == label).mean(axis=0) for label in range(classes)], axis=1)


def _total_variation(p: np.ndarray, q: np.ndarray) -> float:
    return np.abs(p - q).sum(axis=1).mean() / 2


def _quantities(found: np.ndarray, n: int, m: int) -> Scores:
    """Correct both within disagreements for repeated runs, as the library does, and add the excess."""
    variation, across, within_a, within_b = found.T
    excess = across - ((n / (n - 1)) ** 2 * within_a + (m / (m - 1)) ** 2 * within_b) / 2
    return {"total_variation": variation, "across": across, "excess": excess}


def distances(files: Sequence[Path], groups: Mapping[str, Sequence[str]], replicates: Iterable[int]) -> np.ndarray:
    """Return distance, distance at unit norm and cosine of pairs of checkpoints, (replicates, 3, layers, pairs).

    Args:
        files: checkpoints, all of which are read.
        groups: the parameters of each layer; all layers, raw and each at unit norm, come after them.
        replicates: which of the replicates.
    """
    steps = [load_file(file) for file in files]
    return np.array([_distances(steps, groups, replicate) for replicate in replicates])


def _distances(steps, groups, replicate: int) -> np.ndarray:
    layers = [
        np.array([np.concatenate([step[name][replicate].ravel() for name in names]) for step in steps], float)
        for names in groups.values()
    ]
    layers += [np.hstack(layers), np.hstack([_unit(layer) for layer in layers]) / len(layers) ** 0.5]
    found = []
    for layer in layers:
        unit = pdist(_unit(layer))
        found.append((pdist(layer), unit, 1 - unit**2 / 2))
    return np.array(found).transpose(1, 0, 2)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
