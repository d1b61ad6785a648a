"""What all analyses share: what they are given, columns that name a point, pairs of points, writing of tables."""

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.rerun import rerun_command
from intrinsic_lr.core.storage import atomic_path, note_written, verify, written
from intrinsic_lr.data.prepared import true_labels
from intrinsic_lr.runs.ensembles import Ensemble, open_ensemble
from intrinsic_lr.study.experiment import Experiment, PlannedPoint
from intrinsic_lr.study.pairs import AXES, initialisations

POINT_COLUMNS = (
    "lr", "weight_decay", "intrinsic_lr", "momentum", "batch_size",
    "schedule", "model", "init_seed", "init_sharing", "init_scale",
)  # fmt: skip
ACROSS_INITIALISATIONS = "across_initialisations"
ACROSS_REPLICATES = "across_replicates"


@dataclass(frozen=True)
class AnalysisData:
    """What an analysis is given.

    Attributes:
        ensembles: for each point's name its trained replicates.
        datasets: for each data set's name its data file and its description.
        settings: the entries of the config's `analysis` that the registry names for this analysis.
    """

    experiment: Experiment
    ensembles: Mapping[str, Ensemble]
    datasets: Mapping[str, tuple[Path, Path]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    device: str = "cpu"
    threads: int = 1

    @staticmethod
    def read(
        experiment: str,
        files: Iterable[str],
        settings: Mapping[str, Any],
        device: str,
        threads: int,
        seed: int | None = None,
    ) -> "AnalysisData":
        """Read what the workflow passes: `experiment` as `Experiment.to_json` writes it, and the input files."""
        known, folders = Experiment.from_json(experiment), block_folders(files)
        ensembles = {
            point.name: open_ensemble(folders[point.name], known.replicates, point, seed) for point in known.points
        }
        return AnalysisData(known, ensembles, dataset_files(files), settings, device, threads)

    def truth(self, dataset: str) -> tuple[np.ndarray, int]:
        """Return the true test labels (N,) of a data set and its number of classes."""
        info, labels = true_labels(*self.datasets[dataset])
        return labels, len(info["classes"])


def block_folders(files: Iterable[str]) -> dict[str, list[Path]]:
    """Group the folders of `run.json` files by point: {point: block folders in order}."""
    folders: dict[str, list[Path]] = {}
    for path in map(Path, files):
        if path.name == "run.json":
            folders.setdefault(path.parent.parent.name, []).append(path.parent)
    return {point: sorted(blocks) for point, blocks in folders.items()}


def dataset_files(files: Iterable[str]) -> dict[str, tuple[Path, Path]]:
    """Return data file and description of each data set among some files, by its name."""
    infos = [path for path in map(Path, files) if path.suffix == ".json" and path.parent.name == "data"]
    return {info.stem: (info.with_suffix(".safetensors"), info) for info in infos}


def with_point(frame: pd.DataFrame, point: PlannedPoint) -> pd.DataFrame:
    """Put the columns that name a point (its name and base values) in front of a table."""
    named = {"point": point.name} | {column: getattr(point, column) for column in POINT_COLUMNS}
    front = pd.DataFrame({column: [value] * len(frame) for column, value in named.items()}, index=frame.index)
    return pd.concat([front, frame], axis=1)


def with_axes(frame: pd.DataFrame, points: Iterable[PlannedPoint]) -> pd.DataFrame:
    """Append the axes of the points that a table names in `point`, or in `point_a` and `point_b`, if they lack.

    Axes of the optimiser are left out where no point sets them.
    """
    points, columns = list(points), {}
    later = AXES[AXES.index("optimiser") :]
    given = {axis for axis in later for point in points if getattr(point, axis) != getattr(PlannedPoint, axis)}
    axes = [axis for axis in AXES if axis not in later or axis in given]
    for suffix in ("", "_a", "_b"):
        for axis in axes if f"point{suffix}" in frame else ():
            if f"{axis}{suffix}" not in frame:
                values = {point.name: point.value_of(axis) for point in points}
                columns[f"{axis}{suffix}"] = frame[f"point{suffix}"].map(values)
    return pd.concat([frame, pd.DataFrame(columns, index=frame.index)], axis=1)


def across_pairs(
    experiment: Experiment,
) -> Iterator[tuple[PlannedPoint, PlannedPoint, str, list[tuple[int, int]]]]:
    """Yield the pairs whose weights are compared across trajectories: (point, partner, relation, members).

    Replicates k and k + `runs_per_init` of one point start at different weights, and k and k + 1 of a point with
    one initialisation differ in their data order alone. Points that differ in the initialisation seed alone are
    paired replicate by replicate.
    """
    count = experiment.replicates
    for point in experiment.points:
        starts = [point.initialisation(replicate) for replicate in range(count)]
        several = starts[-1] > 0
        shift = point.runs_per_init if several else 1
        neighbours = [(k, (k + shift) % count) for k in range(count if count > 2 else count - 1)]
        if several:
            neighbours = [(k, partner) for k, partner in neighbours if starts[k] != starts[partner]]
        if neighbours:
            yield point, point, ACROSS_INITIALISATIONS if several else ACROSS_REPLICATES, neighbours
    for a, b in initialisations(experiment.points):
        yield a, b, ACROSS_INITIALISATIONS, [(k, k) for k in range(count)]


def write_table(frame: pd.DataFrame, path: str) -> None:
    """Write a table as CSV, whole or not at all; nine significant digits, missing values empty."""
    with atomic_path(path) as temporary:
        temporary.write_text(table_text(frame), encoding="utf-8")
    note_written(path)


def table_text(frame: pd.DataFrame) -> str:
    """Return a table as it is written."""
    return frame.to_csv(index=False, float_format="%.9g")


def read_table(path: Path | str) -> pd.DataFrame:
    """Read a table that `write_table` wrote; if it was altered, the InputError names the command that rebuilds it.

    It has to be what the log of its job says was written; without that log, whole and of one width.
    """
    path = Path(path)
    repair = f"repair with `{rerun_command(path)}`"
    for log in filter(Path.is_file, _logs_of(path)):
        for name, expected in written(log).items():
            # The log names files as seen from the folder in which the workflow ran.
            if f"/{path.absolute().as_posix()}".endswith(f"/{name}"):
                verify(path, expected, rerun_command(path))
    try:
        with open(path, newline="", encoding="utf-8") as handle:
            widths = {len(row) for row in csv.reader(handle)}
        is_whole = len(widths) == 1 and widths != {1} and path.read_bytes().endswith(b"\n")
        if is_whole:
            return pd.read_csv(path, low_memory=False)
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as a table ({error}); {repair}") from None
    raise InputError(f"{path}: damaged (expected lines of as many fields, separated by commas); {repair}")


def _logs_of(path: Path) -> Iterator[Path]:
    """Yield the logs of the jobs that may have written a table: of a claim, of all claims, of an analysis."""
    logs = path.parent.parent / "logs" if path.parent.name in ("tables", "claims") else path.parent / "logs"
    yield logs / "scorecard.log"
    yield logs / "claim" / f"{path.stem}.log"
    # Named <table>_<experiment>; which analysis makes it only the registry knows, which is no code of the science.
    yield from (log for log in sorted(logs.glob("*/*.log")) if path.stem.endswith(f"_{log.stem}"))
