"""What the tables of all analyses have in common: columns that name a point, pairs of points, writing."""

from collections.abc import Iterable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd

from intrinsic_lr.core.storage import atomic_path, note_written

POINT_COLUMNS = (
    "lr", "weight_decay", "intrinsic_lr", "momentum", "batch_size",
    "schedule", "model", "init_seed", "init_sharing", "init_scale",
)  # fmt: skip
_IDENTITY = (
    "dataset", "model", "batch_size", "lr", "weight_decay", "schedule",
    "momentum", "init_seed", "init_sharing", "init_scale", "augmentation", "dtype", "data_order", "constraint",
    "precision",
)  # fmt: skip
ACROSS_INITIALISATIONS = "across_initialisations"
ACROSS_REPLICATES = "across_replicates"


def with_point(frame: pd.DataFrame, point: dict[str, Any]) -> pd.DataFrame:
    """Put the columns that name a point (its name and base values) in front of a table."""
    named = {"point": point["name"]} | {column: point[column] for column in POINT_COLUMNS}
    front = pd.DataFrame({column: [value] * len(frame) for column, value in named.items()}, index=frame.index)
    return pd.concat([front, frame], axis=1)


def block_folders(run_files: Iterable[str]) -> dict[str, list[Path]]:
    """Group the folders of `run.json` files by point: {point: block folders in order}."""
    folders: dict[str, list[Path]] = {}
    for path in map(Path, run_files):
        if path.name == "run.json":
            folders.setdefault(path.parent.parent.name, []).append(path.parent)
    return {point: sorted(blocks) for point, blocks in folders.items()}


def differing_axes(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """Return the axes in which two points differ.

    A learning rate and a weight decay that differ at equal intrinsic rate count as `lr` alone; where the
    intrinsic rate differs, it is named in place of the weight decay.
    """
    axes = [axis for axis in _IDENTITY if a[axis] != b[axis]]
    if "weight_decay" in axes:
        axes.remove("weight_decay")
        if not same_intrinsic_lr(a, b):
            axes.append("intrinsic_lr")
    return axes


def same_intrinsic_lr(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Tell whether two points have one intrinsic learning rate, to the digits that names carry."""
    return abs(a["intrinsic_lr"] - b["intrinsic_lr"]) <= 1e-9 * a["intrinsic_lr"]


def across_pairs(
    spec: dict[str, Any],
) -> Iterator[tuple[dict[str, Any], dict[str, Any], str, list[tuple[int, int]]]]:
    """Yield the pairs whose weights are compared across trajectories: (point, partner, relation, members).

    Replicates k and k + 1 of one point start at different weights when initialisations are independent, and
    differ in their data order alone when they are shared. Points that differ in the initialisation seed
    alone are paired replicate by replicate.
    """
    replicates = spec["replicates"]
    neighbours = [(k, (k + 1) % replicates) for k in range(replicates if replicates > 2 else replicates - 1)]
    for point in spec["points"]:
        independent = point["init_sharing"] == "independent"
        if neighbours:
            yield point, point, ACROSS_INITIALISATIONS if independent else ACROSS_REPLICATES, neighbours
    for a, b in combinations(spec["points"], 2):
        if differing_axes(a, b) == ["init_seed"]:
            yield a, b, ACROSS_INITIALISATIONS, [(k, k) for k in range(replicates)]


def write_table(frame: pd.DataFrame, path: str) -> None:
    """Write a table as CSV, whole or not at all; nine significant digits, missing values empty."""
    with atomic_path(path) as temporary:
        frame.to_csv(temporary, index=False, float_format="%.9g")
    note_written(path)
