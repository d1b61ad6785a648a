"""The analyses of many replicates and checkpoints against plain NumPy and SciPy, on simulated labels and weights.

disagreement   all pairs of settings at all checkpoints, as `results/tables/disagreement_*.csv` has them: 500 runs
               of 3 settings at 20 checkpoints and 10,000 test points in 10 classes, with 1,000 permutations and as
               many resamples. Test errors of 1 and 5 %, most of them on few hard points; and labels that are all
               equally likely, the worst case, in which runs agree on no point
distances      all pairs of checkpoints within trajectories, as `results/tables/distance_*.csv` has them:
               preresnet32, 100 checkpoints of 5 replicates

    library    what the workflow runs, with as many threads as there are cores
    loops      disagreement from label distributions that each permutation and resample forms anew
    pdist      distances by scipy.spatial.distance.pdist in float64, all checkpoints in memory

Every contender runs in a process of its own, which gives its peak memory. `share` is the part of the work that was
measured; `full_seconds` is scaled to all of it, and the ratio is that of full seconds.
"""

import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.spatial.distance import pdist
from scipy.special import expit

from benchmarks.common import Measurement, Parser, cores, measure
from intrinsic_lr.analyses.tables import write_table
from intrinsic_lr.stats.disagreement import compare

CLASSES = 10
LOOPS = 2
"""Permutations, and as many resamples, that the loops are measured on."""
SPREAD, SHIFT, CONCENTRATION = 3.0, 0.3, 0.3
"""Standard deviations over test points of the log-odds of an error and of what a setting adds to them; concentration
of a point's wrong labels. Simulated runs then agree on about as many points as real ones on scikit-learn's digits."""


@dataclass(frozen=True)
class Labels:
    """Simulated predicted labels, one array (runs, points) for each setting and checkpoint.

    Attributes:
        error: mean test error of a run; None for labels that are all equally likely.
        runs, settings, checkpoints, points: how many; all pairs of settings are compared at each checkpoint.
        draws: splits behind each null, and as many bootstrap resamples.
    """

    error: float | None
    runs: int = 500
    settings: int = 3
    checkpoints: int = 20
    points: int = 10_000
    draws: int = 1000

    @property
    def comparisons(self) -> list[tuple[tuple[int, int], int]]:
        """Pairs of settings and checkpoints, one for each row of the table."""
        return [(pair, at) for pair in combinations(range(self.settings), 2) for at in range(self.checkpoints)]

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
        offset = brentq(lambda x: expit(x + difficulty).mean() - self.error, -50, 50)
        wrong = of_points.dirichlet(np.full(CLASSES - 1, CONCENTRATION), self.points).cumsum(axis=1)
        log_odds = offset + difficulty + SHIFT * generator.standard_normal(self.points)
        run, point = np.nonzero(generator.random((self.runs, self.points)) < expit(log_odds))
        which = (generator.random(len(run))[:, None] > wrong[point, :-1]).sum(axis=1)
        labels = np.tile(self.truth(), (self.runs, 1))
        labels[run, point] = (labels[run, point] + 1 + which) % CLASSES
        return labels.astype(np.int16)

    def write(self, folder: Path) -> None:
        """Write every array to a file of its own."""
        for setting, checkpoint in np.ndindex(self.settings, self.checkpoints):
            np.save(folder / f"{setting}_{checkpoint}.npy", self.draw(setting, checkpoint))


def read(folder: Path, pair: tuple[int, int], checkpoint: int) -> list[np.ndarray]:
    """Return the written labels of two settings at a checkpoint."""
    return [np.load(folder / f"{setting}_{checkpoint}.npy") for setting in pair]


def library_disagreement(labels: Labels, folder: Path, threads: int) -> list[dict]:
    """Return the rows of the disagreement table, made as the workflow makes them."""
    counts = {"permutations": labels.draws, "bootstrap": labels.draws}

    def row(comparison: tuple[tuple[int, int], int]) -> dict:
        return compare(*read(folder, *comparison), labels.truth(), CLASSES, **counts, confidence=0.95, seed=1)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(row, labels.comparisons))


def loops(a: np.ndarray, b: np.ndarray, draws: int) -> dict[str, np.ndarray]:
    """Compare labels (n, N) and (m, N) by the distributions of each split (`null`) and of each resample."""

    def distribution(labels: np.ndarray) -> np.ndarray:
        return np.stack([(labels == label).mean(axis=0) for label in range(CLASSES)], axis=1)

    def total_variation(p: np.ndarray, q: np.ndarray) -> float:
        return np.abs(p - q).sum(axis=1).mean() / 2

    n, m = len(a), len(b)
    splits, resamples = (np.random.default_rng(child) for child in np.random.SeedSequence(1).spawn(2))
    orders = splits.permuted(np.tile(np.arange(n + m), (draws, 1)), axis=1)
    times = [resamples.multinomial(runs, np.full(runs, 1 / runs), draws) for runs in (n, m)]
    pooled, found = np.concatenate([a, b]), []
    for order, times_a, times_b in zip(orders, *times, strict=True):
        null = total_variation(distribution(pooled[order[:n]]), distribution(pooled[order[n:]]))
        p, q = distribution(np.repeat(a, times_a, axis=0)), distribution(np.repeat(b, times_b, axis=0))
        found.append((null, total_variation(p, q), 1 - (p * q).sum(axis=1).mean()))
    return dict(zip(("null", "total_variation", "across"), np.array(found).T, strict=True))


def loops_disagreement(folder: Path, draws: int) -> dict[str, np.ndarray]:
    """Compare the first two settings at the first checkpoint by `loops`."""
    return loops(*read(folder, (0, 1), 0), draws)


@dataclass(frozen=True)
class Weights:
    """Simulated checkpoints of replicates of a network: weights on a random walk, one .npy file a parameter."""

    model: str
    checkpoints: int
    replicates: int

    @property
    def net(self) -> Any:
        """The ensemble's model."""
        from benchmarks.cases import MODELS
        from benchmarks.library import ensemble

        return ensemble(MODELS[self.model])

    def write(self, folder: Path) -> None:
        """Write each parameter, (checkpoints, replicates, ...)."""
        generator = np.random.default_rng(0)
        for name, shape in self.net.shapes.items():
            steps = generator.standard_normal((self.checkpoints, self.replicates, *shape), dtype=np.float32)
            np.save(folder / f"{name}.npy", 1 + 0.02 * steps.cumsum(axis=0, dtype=np.float32))


def library_distances(weights: Weights, folder: Path, threads: int) -> pd.DataFrame:
    """Return the distances within trajectories, as the workflow takes them."""
    import torch

    from intrinsic_lr.stats.distance import pairwise

    torch.set_num_threads(threads)
    files = {name: np.load(folder / f"{name}.npy", mmap_mode="c") for name in weights.net.shapes}
    trajectories = (
        [
            {name: torch.from_numpy(file[step, k]) for name, file in files.items()}
            for step in range(weights.checkpoints)
        ]
        for k in range(weights.replicates)
    )
    return pairwise(trajectories, range(weights.checkpoints), weights.net.scale_groups)


def pdist_distances(weights: Weights, folder: Path) -> np.ndarray:
    """Return distances, distances at unit norm and cosines of the first replicate, (layers, 3, pairs)."""

    def unit(vectors: np.ndarray) -> np.ndarray:
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    layers = [
        np.hstack(
            [np.load(folder / f"{name}.npy")[:, 0].reshape(weights.checkpoints, -1) for name in names]
        ).astype(float)
        for names in weights.net.scale_groups.values()
    ]
    layers += [np.hstack(layers), np.hstack([unit(layer) for layer in layers]) / len(layers) ** 0.5]
    found = [(pdist(layer), pdist(unit(layer))) for layer in layers]
    return np.array([(distance, at_unit, 1 - at_unit**2 / 2) for distance, at_unit in found])


LABELS = {"error 1 %": Labels(0.01), "error 5 %": Labels(0.05), "equally likely": Labels(None)}
WORST_CHECKPOINTS = 4
"""Checkpoints at which the worst case is measured: all of them take alike."""
QUICK = {"runs": 100, "checkpoints": 4, "points": 2000, "draws": 200}


def main(argv: list[str]) -> None:
    """Measure both analyses, print a table and write the CSV file."""
    parser = Parser("analyses", __doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes: half a minute")
    options = parser.parse_args(argv)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(_measured(options.quick, options.out.parent))
    print(f"{cores()} CPU cores\n\n{table.to_string(index=False, float_format='{:.3g}'.format)}")
    write_table(table, options.out)
    print(f"written: {options.out}")


def _measured(quick: bool, beside: Path) -> Iterator[dict[str, Any]]:
    """Yield a row for each contender of each case; files are beside the results while they are needed."""
    for case, labels in LABELS.items():
        whole = replace(labels, **QUICK) if quick else labels
        part = replace(whole, checkpoints=WORST_CHECKPOINTS) if labels.error is None else whole
        rows = len(whole.comparisons)
        with tempfile.TemporaryDirectory(dir=beside) as folder:
            part.write(Path(folder))
            yield from _rows(
                "disagreement",
                case,
                {
                    "library": (
                        measure(library_disagreement, part, Path(folder), cores()),
                        len(part.comparisons) / rows,
                    ),
                    "loops": (measure(loops_disagreement, Path(folder), LOOPS), LOOPS / whole.draws / rows),
                },
            )
    weights = Weights("preresnet8", 20, 2) if quick else Weights("preresnet32", 100, 5)
    with tempfile.TemporaryDirectory(dir=beside) as folder:
        weights.write(Path(folder))
        yield from _rows(
            "distances",
            weights.model,
            {
                "library": (measure(library_distances, weights, Path(folder), cores()), 1.0),
                "pdist": (measure(pdist_distances, weights, Path(folder)), 1 / weights.replicates),
            },
        )


def _rows(analysis: str, case: str, found: Mapping[str, tuple[Measurement, float]]) -> Iterator[dict[str, Any]]:
    """Yield a row for each contender, from what it took and the share of the work that this was."""
    library, share_of_library = found["library"]
    for name, (measurement, share) in found.items():
        full = measurement.seconds / share
        yield {
            "analysis": analysis, "case": case, "contender": name, "seconds": measurement.seconds,
            "cpu_seconds": measurement.cpu_seconds, "share": share, "full_seconds": full,
            "ratio": full * share_of_library / library.seconds, "peak_mb": measurement.peak_bytes / 1e6,
        }  # fmt: skip
