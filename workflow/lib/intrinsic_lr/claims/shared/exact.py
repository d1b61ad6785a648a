"""Verdicts on exact statements: the largest deviation over all that was planned, where nothing is sampled."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from intrinsic_lr.claims.shared.spec import ClaimSpec, constant
from intrinsic_lr.claims.shared.verdicts import Finding, Range
from intrinsic_lr.figures.style import spread
from intrinsic_lr.study.model_spec import ModelSpec

FARTHEST = float(np.finfo(np.float64).max)
"""Stands for an infinite deviation, so that it compares as a number."""
EQUIVALENCE = {
    "directions": "distance of the weights at unit norm",
    "logits": "relative difference of test logits",
}
"""The deviations of two trainings that ought to be one; see `equivalence.deviations`."""
SMALLEST = 1e-17
"""Where an exact zero is drawn on a logarithmic axis."""


def worst_finding(
    table: pd.DataFrame,
    quantity: str,
    cells: Sequence[str],
    planned: int,
    spec: ClaimSpec,
    statement: str,
    statistic: str,
    limit: float,
    *roles: str,
    control: bool = False,
    complete: bool = True,
) -> Finding:
    """Judge a criterion by its worst cell, a control by its best one, so that every single cell has to fail.

    A cell (a network, a replicate of a pair) is named by the columns `cells`, its deviations are in the column
    `quantity`. One of NaN is missing, and so is a cell that misses one: a run is not judged on the part of it that
    was finite. An infinite one counts. Where fewer than `planned` cells are there, or `complete` is False (say, a
    kind of pair is missing), the estimate is NaN, unless what is there already speaks against the claim, or for
    what the control is about.
    """
    largest = table.groupby(list(cells), sort=False)[quantity].agg(["max", "count", "size"])
    found = largest.loc[largest["count"] == largest["size"], "max"].astype(np.float64).clip(upper=FARTHEST)
    estimate = (found.min() if control else found.max()) if len(found) else np.nan
    missing = len(found) < max(planned, 1) or not complete
    if missing and (estimate <= limit) != control:
        estimate = np.nan
    judged = spec.control if control else spec.criterion
    what = f"{statistic}, where that is smallest" if control else statistic
    return judged(statement, what, constant(estimate, len(found)), *roles, allowed=Range(high=limit))


def plot_largest(axes: Axes, rows: pd.DataFrame, quantity: str, floor: float = SMALLEST, **look: Any) -> None:
    """Draw the largest finite deviation at each of at most 60 steps, on a logarithmic axis from `floor`."""
    largest = rows[np.isfinite(rows[quantity])].groupby("step")[quantity].max().clip(lower=floor)
    if len(largest):  # a line of no points would spoil the axis
        largest = largest.loc[spread(list(largest.index), 60)]
        axes.plot(largest.index, largest, **look)


def network_names(texts: Sequence[str]) -> list[str]:
    """Return a short name of each model: its kind, or its whole text where several are of one kind."""
    kinds = [ModelSpec.from_string(text).kind for text in texts]
    return [kind if kinds.count(kind) == 1 else text for kind, text in zip(kinds, texts, strict=True)]
