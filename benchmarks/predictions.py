"""Predicted labels that no training made, and the contenders that compare them. Imports no torch."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from benchmarks import plain
from intrinsic_lr.stats.disagreement import compare

CLASSES = 10
SPREAD = 3.0
"""Standard deviation over test points of the log-odds of an error: most points are easy, a few are hard. At 3,
simulated runs agree on about as many points as runs of the same error on scikit-learn's digits do."""
SHIFT = 0.3
"""Standard deviation of what a setting and a checkpoint add to a point's log-odds."""
CONCENTRATION = 0.3
"""Of the Dirichlet distribution of a point's wrong labels: one or two of them take most."""
SEED = 1


@dataclass(frozen=True)
class Labels:
    """Simulated predicted labels, one array (runs, points) for each setting and checkpoint.

    Attributes:
        error: mean test error of a run; None for labels that are all equally likely.
        runs: runs of a setting.
        settings: settings, all pairs of which are compared.
        checkpoints: checkpoints of each.
        points: test points N.
        draws: splits behind each null, and as many bootstrap resamples.
    """

    error: float | None
    runs: int
    settings: int
    checkpoints: int
    points: int
    draws: int

    @property
    def comparisons(self) -> int:
        """Rows of the disagreement table."""
        return self.checkpoints * self.settings * (self.settings - 1) // 2

    def truth(self) -> np.ndarray:
        """Return the true labels (N,)."""
        return np.random.default_rng((0, self.points)).integers(0, CLASSES, self.points)

    def draw(self, setting: int, checkpoint: int) -> np.ndarray:
        """Return the labels of one setting at one checkpoint, int16 (runs, N)."""
        generator = np.random.default_rng((1, self.points, self.runs, setting, checkpoint))
        if self.error is None:
            return generator.integers(0, CLASSES, (self.runs, self.points), dtype=np.int16)
        of_points = np.random.default_rng((2, self.points))
        difficulty = SPREAD * of_points.standard_normal(self.points)
        wrong = of_points.dirichlet(np.full(CLASSES - 1, CONCENTRATION), self.points).cumsum(axis=1)
        log_odds = _offset(difficulty, self.error) + difficulty + SHIFT * generator.standard_normal(self.points)
        run, point = np.nonzero(generator.random((self.runs, self.points)) < _logistic(log_odds))
        which = (generator.random(len(run))[:, None] > wrong[point, :-1]).sum(axis=1)
        labels = np.tile(self.truth(), (self.runs, 1))
        labels[run, point] = (labels[run, point] + 1 + which) % CLASSES
        return labels.astype(np.int16)

    def write(self, folder: Path) -> None:
        """Write every array to a file of its own."""
        for setting, checkpoint in np.ndindex(self.settings, self.checkpoints):
            np.save(folder / f"{setting}_{checkpoint}.npy", self.draw(setting, checkpoint))


def _offset(difficulty: np.ndarray, error: float) -> float:
    """Return the log-odds that make the mean error of points of this difficulty the wanted one, by bisection."""
    low, high = -50.0, 50.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if _logistic(middle + difficulty).mean() > error else (middle, high)
    return low


def _logistic(log_odds: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-log_odds))


def read(folder: Path, pair: tuple[int, int], checkpoint: int) -> list[np.ndarray]:
    """Return the written labels of two settings at a checkpoint."""
    return [np.load(folder / f"{setting}_{checkpoint}.npy") for setting in pair]


def unanimous(folder: Path) -> float:
    """Return the share of test points on which all runs of two settings agree, at the first checkpoint."""
    pooled = np.concatenate(read(folder, (0, 1), 0))
    return float((pooled == pooled[0]).all(axis=0).mean())


def library(labels: Labels, folder: Path, threads: int) -> list[dict]:
    """Return the rows of the disagreement table, made as the workflow makes them."""
    truth = labels.truth()

    def row(comparison: tuple[tuple[int, int], int]) -> dict:
        counts = {"permutations": labels.draws, "bootstrap": labels.draws}
        return compare(*read(folder, *comparison), truth, CLASSES, **counts, confidence=0.95, seed=SEED)

    pairs = combinations(range(labels.settings), 2)
    comparisons = [(pair, checkpoint) for pair in pairs for checkpoint in range(labels.checkpoints)]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(row, comparisons))


def products(labels: Labels, folder: Path) -> plain.Scores:
    """Compare the first two settings at the first checkpoint by `plain.products`."""
    return plain.products(*read(folder, (0, 1), 0), CLASSES, labels.draws, SEED)


def loops(folder: Path, draws: int) -> plain.Scores:
    """Compare the first two settings at the first checkpoint by `plain.loops`, in so many draws only."""
    return plain.loops(*read(folder, (0, 1), 0), CLASSES, draws, SEED)
