"""The analyses of many replicates and checkpoints against plain NumPy and SciPy, on simulated labels and weights.

disagreement   all pairs of settings at all checkpoints, as `results/tables/disagreement_*.csv` has them: 500 runs
               of 3 settings at 20 checkpoints and 10,000 test points in 10 classes, with 1,000 permutations and as
               many resamples. Test errors of 1 and 5 %, most of them on few hard points; and labels that are all
               equally likely, the worst case, in which runs agree on no point
distances      all pairs of checkpoints within trajectories, and neighbouring replicates at equal checkpoints, as
               `results/tables/distance_*.csv` have them: preresnet32, 100 checkpoints of 5 replicates

    library    what the workflow runs, with as many threads as there are cores
    products   disagreement by matrix products in float32, all draws of runs at once
    loops      disagreement from label distributions that each permutation and resample forms anew
    pdist      distances by scipy.spatial.distance.pdist in float64, all checkpoints in memory

Every contender runs in a process of its own, which gives its peak memory. `share` is the part of the work that was
measured; `full_seconds` is scaled to all of it, and the ratio is that of full seconds.
"""

import argparse
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks import checkpoints, predictions
from benchmarks.cases import MODELS
from benchmarks.checkpoints import Weights
from benchmarks.child import Measurement, measure
from benchmarks.commands import Parser
from benchmarks.predictions import Labels
from intrinsic_lr.analyses.tables import write_table

OUT = Path("results/benchmarks/analyses.csv")
COLUMNS = (
    "analysis", "case", "contender", "threads", "seconds", "cpu_seconds", "share", "full_seconds", "ratio",
    "peak_bytes", "unanimous", "most_seconds", "most_bytes",
)  # fmt: skip
LOOPS = 2
"""Permutations, and as many resamples, that the loops are measured on."""
FULL = Labels(0.05, runs=500, settings=3, checkpoints=20, points=10_000, draws=1000)
LABELS = {"error 1 %": replace(FULL, error=0.01), "error 5 %": FULL, "equally likely": replace(FULL, error=None)}
WORST_CHECKPOINTS = 4
"""Checkpoints at which the worst case is measured: all of them take alike."""
WEIGHTS = {"preresnet32": Weights(MODELS["preresnet32"], checkpoints=100, replicates=5)}
QUICK = {"runs": 100, "checkpoints": 4, "points": 2000, "draws": 200}
QUICK_WEIGHTS = {"preresnet8": Weights(MODELS["preresnet8"], checkpoints=20, replicates=2)}
MOST = {"disagreement": (60.0, 2 * 2**30), "distances": (120.0, 4 * 2**30)}
"""Seconds and bytes that an analysis of the full size may take on two cores."""
Row = dict[str, Any]


def main(argv: list[str]) -> None:
    """Measure both analyses, print a table and write the CSV file."""
    options = _options(argv)
    print(f"{_cores()} CPU cores\n\n{_HEAD}", flush=True)
    rows = []
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for row in _measured(options.quick, options.out.parent):
        rows.append(row)
        print(_line(row), flush=True)
    write_table(pd.DataFrame(rows, columns=COLUMNS), options.out)
    print(f"written: {options.out}")


def _options(argv: list[str]) -> argparse.Namespace:
    parser = Parser("analyses", __doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, without a verdict: half a minute")
    parser.add_argument("--out", type=Path, default=OUT, help=f"default {OUT}; needs 1 GB of disk beside it")
    return parser.parse_args(argv)


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _measured(quick: bool, beside: Path) -> Iterator[Row]:
    """Yield a row for each contender of each case; files lie beside the results while they are needed."""
    most = {} if quick else MOST
    for case, labels in LABELS.items():
        with tempfile.TemporaryDirectory(dir=beside) as folder:
            found = _disagreement(replace(labels, **QUICK) if quick else labels, Path(folder))
            columns = {"unanimous": predictions.unanimous(Path(folder))}
            yield from _rows("disagreement", case, found, columns, most)
    for case, weights in (QUICK_WEIGHTS if quick else WEIGHTS).items():
        with tempfile.TemporaryDirectory(dir=beside) as folder:
            yield from _rows("distances", case, _distances(weights, Path(folder)), {}, most)


def _disagreement(labels: Labels, folder: Path) -> dict[str, tuple[Measurement, float]]:
    """Return for each contender what it took and the share of the work that this was."""
    few = replace(labels, checkpoints=WORST_CHECKPOINTS) if labels.error is None else labels
    few.write(folder)
    row = 1 / labels.comparisons
    return {
        "library": (measure(predictions.library, few, folder, _cores()), row * few.comparisons),
        "products": (measure(predictions.products, labels, folder), row),
        "loops": (measure(predictions.loops, folder, LOOPS), row * LOOPS / labels.draws),
    }


def _distances(weights: Weights, folder: Path) -> dict[str, tuple[Measurement, float]]:
    """Return for each contender what it took and the share of the work that this was."""
    weights.write(folder)
    return {
        "library": (measure(checkpoints.library, weights, folder, _cores()), 1.0),
        "pdist": (measure(checkpoints.pdist, weights, folder), 1 / weights.replicates),
    }


def _rows(
    analysis: str,
    case: str,
    found: Mapping[str, tuple[Measurement, float]],
    columns: Mapping[str, float],
    most: Mapping[str, tuple[float, int]],
) -> Iterator[Row]:
    """Yield a row for each contender."""
    full = {name: measurement.seconds / share for name, (measurement, share) in found.items()}
    for name, (measurement, share) in found.items():
        row = {
            "analysis": analysis,
            "case": case,
            "contender": name,
            "threads": _cores(),
            "seconds": measurement.seconds,
            "cpu_seconds": measurement.cpu_seconds,
            "share": share,
            "full_seconds": full[name],
            "ratio": full[name] / full["library"],
            "peak_bytes": measurement.peak_bytes,
            **columns,
        }
        if name == "library" and analysis in most:
            row["most_seconds"], row["most_bytes"] = most[analysis]
        yield row


_HEAD = (
    f"{'analysis':<14}{'case':<16}{'contender':<10}{'seconds':>9}{'share':>10}{'full seconds':>14}{'ratio':>9}"
    f"{'peak MB':>9}{'unanimous':>11}"
)


def _line(row: Row) -> str:
    """Lay out one row, with the verdict on the library where there is one."""
    agreed = f"{row['unanimous']:.0%}" if "unanimous" in row else "-"
    text = (
        f"{row['analysis']:<14}{row['case']:<16}{row['contender']:<10}{row['seconds']:>9.2f}{row['share']:>10.2g}"
        f"{row['full_seconds']:>14.1f}{row['ratio']:>9.3g}{row['peak_bytes'] / 1e6:>9.0f}{agreed:>11}"
    )
    if "most_seconds" in row:
        within = row["full_seconds"] <= row["most_seconds"] and row["peak_bytes"] <= row["most_bytes"]
        limits = f"{row['most_seconds']:g} s and {row['most_bytes'] / 2**30:g} GiB"
        text += f"  {'within' if within else 'NOT within'} {limits}"
    return text
