"""The comparison of many runs' predictions against plain NumPy, on simulated labels.

All pairs of settings at all checkpoints are compared, as in `results/tables/disagreement_*.csv`: 500 runs of 3
settings at 20 checkpoints and 10,000 test points in 10 classes, with 1,000 permutations and as many resamples.
Test errors are 1 and 5 %, most of them on few hard points; or all labels are equally likely, the worst case, in
which runs agree on no point.

    library    what the workflow runs, with as many threads as there are cores
    loops      label distributions that each permutation and resample forms anew

Each runs in a process of its own. `share` is the part of the work that was measured; seconds are scaled to all.
"""

from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from time import perf_counter
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import expit

from benchmarks.common import Parser, cores, measure
from intrinsic_lr.analyses.tables import write_table
from intrinsic_lr.stats.disagreement import compare

CLASSES = 10
LOOPS = 2
"""Permutations, and as many resamples, that the loops are measured on."""
SPREAD, SHIFT, CONCENTRATION = 3.0, 0.3, 0.3
"""Standard deviations over test points of the log-odds of an error and of what a setting adds to them, and the
concentration of a point's wrong labels: runs then agree on about as many points as real ones on the digits do."""


class Labels(NamedTuple):
    """Simulated predicted labels: error None gives labels that are all equally likely."""

    error: float | None
    runs: int = 500
    settings: int = 3
    checkpoints: int = 20
    points: int = 10_000
    draws: int = 1000

    def truth(self) -> np.ndarray:
        """Return the true labels (N,)."""
        return np.random.default_rng((0, self.points)).integers(0, CLASSES, self.points)

    def draw(self, checkpoint: int) -> list[np.ndarray]:
        """Return the labels of each setting at one checkpoint, int16 (runs, N)."""
        generators = [np.random.default_rng((1, self.runs, k, checkpoint)) for k in range(self.settings)]
        if self.error is None:
            return [rng.integers(0, CLASSES, (self.runs, self.points), dtype=np.int16) for rng in generators]
        of_points = np.random.default_rng((2, self.points))
        difficulty = SPREAD * of_points.standard_normal(self.points)
        offset = brentq(lambda x: expit(x + difficulty).mean() - self.error, -50, 50)
        wrong = of_points.dirichlet(np.full(CLASSES - 1, CONCENTRATION), self.points).cumsum(axis=1)
        found = []
        for rng in generators:
            log_odds = offset + difficulty + SHIFT * rng.standard_normal(self.points)
            run, point = np.nonzero(rng.random((self.runs, self.points)) < expit(log_odds))
            which = (rng.random(len(run))[:, None] > wrong[point, :-1]).sum(axis=1)
            labels = np.tile(self.truth(), (self.runs, 1))
            labels[run, point] = (labels[run, point] + 1 + which) % CLASSES
            found.append(labels.astype(np.int16))
        return found


# The contenders return their seconds, which leave out the simulation, and what they computed.


def library(labels: Labels, checkpoints: int) -> tuple[float, list[dict]]:
    """Compare all settings at so many checkpoints as the workflow does."""
    counts = {"permutations": labels.draws, "bootstrap": labels.draws}
    truth, seconds, rows = labels.truth(), 0.0, []
    for checkpoint in range(checkpoints):
        pairs = list(combinations(labels.draw(checkpoint), 2))
        started = perf_counter()
        with ThreadPoolExecutor(cores()) as pool:
            rows += pool.map(lambda pair: compare(*pair, truth, CLASSES, **counts, confidence=0.95, seed=1), pairs)
        seconds += perf_counter() - started
    return seconds, rows


def loops(labels: Labels, draws: int) -> tuple[float, np.ndarray]:
    """Compare two settings at one checkpoint by the label distributions of each split and of each resample.

    Returns:
        Seconds, and for each draw the total variation of a split, that of a resample, and how often it disagrees.
    """

    def distribution(labels: np.ndarray) -> np.ndarray:
        return np.stack([(labels == label).mean(axis=0) for label in range(CLASSES)], axis=1)

    def total_variation(p: np.ndarray, q: np.ndarray) -> float:
        return np.abs(p - q).sum(axis=1).mean() / 2

    a, b = labels.draw(0)[:2]
    started = perf_counter()
    n, m, found = len(a), len(b), []
    splits, resamples = (np.random.default_rng(child) for child in np.random.SeedSequence(1).spawn(2))
    orders = splits.permuted(np.tile(np.arange(n + m), (draws, 1)), axis=1)
    times = [resamples.multinomial(runs, np.full(runs, 1 / runs), draws) for runs in (n, m)]
    pooled = np.concatenate([a, b])
    for order, times_a, times_b in zip(orders, *times, strict=True):
        null = total_variation(distribution(pooled[order[:n]]), distribution(pooled[order[n:]]))
        p, q = distribution(np.repeat(a, times_a, axis=0)), distribution(np.repeat(b, times_b, axis=0))
        found.append((null, total_variation(p, q), 1 - (p * q).sum(axis=1).mean()))
    return perf_counter() - started, np.array(found)


CASES = {"error 1 %": Labels(0.01), "error 5 %": Labels(0.05), "equally likely": Labels(None)}
QUICK = {"runs": 100, "checkpoints": 4, "points": 2000, "draws": 200}


def main(argv: list[str]) -> None:
    """Measure every case, print a table and write the CSV file."""
    parser = Parser("analyses", __doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes: half a minute")
    options = parser.parse_args(argv)
    rows = []
    for case, size in CASES.items():
        labels = size._replace(**QUICK) if options.quick else size
        # The worst case takes as long at every checkpoint.
        checkpoints = labels.checkpoints if labels.error else 1
        comparisons = labels.checkpoints * labels.settings * (labels.settings - 1) // 2
        for contender, share, ((seconds, _), peak) in (
            ("library", checkpoints / labels.checkpoints, measure(library, labels, checkpoints)),
            ("loops", LOOPS / labels.draws / comparisons, measure(loops, labels, LOOPS)),
        ):
            row = {"case": case, "contender": contender, "share": share, "seconds": seconds / share}
            whole = rows[-1]["seconds"] if contender == "loops" else row["seconds"]
            rows.append(row | {"ratio": row["seconds"] / whole, "peak_mb": peak / 1e6})
    table = pd.DataFrame(rows)
    print(f"{cores()} CPU cores\n\n{table.to_string(index=False, float_format='{:.3g}'.format)}")
    write_table(table, options.out)
