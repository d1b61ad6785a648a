"""Verdicts on exact statements: the largest deviation over all that was planned, where nothing is sampled."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from intrinsic_lr.claims.shared.spec import ClaimSpec, constant
from intrinsic_lr.claims.shared.verdicts import Finding, Range
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


def worst(table: pd.DataFrame, quantity: str, cells: Sequence[str]) -> pd.Series:
    """Return the largest deviation of each cell (a network, a replicate of a pair); NaN where one is missing.

    A deviation of NaN is missing, and a cell that misses one is missing as a whole: a run is not judged on the
    part of it that was finite. An infinite one stays infinite.
    """
    largest = table.groupby(list(cells), sort=False)[quantity].agg(["max", "count", "size"])
    return largest["max"].astype(np.float64).where(largest["count"] == largest["size"])


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

    Args:
        table: the rows to judge.
        quantity: column of deviations, as `worst` takes them.
        cells: columns that name a cell.
        planned: number of cells that there should be. Where fewer are there the estimate is NaN, unless those that
            are there already speak against the claim, or for what the control is about.
        spec: the claim's.
        statement: what is tested, in words.
        statistic: what `quantity` is.
        limit: largest deviation allowed.
        roles: of the experiments behind it.
        control: whether this is a control.
        complete: False where something is missing that is no cell, such as a kind of pair.
    """
    found = worst(table, quantity, cells).dropna().clip(upper=FARTHEST)
    estimate = (found.min() if control else found.max()) if len(found) else np.nan
    missing = len(found) < max(planned, 1) or not complete
    if missing and (estimate <= limit) != control:
        estimate = np.nan
    judged = spec.control if control else spec.criterion
    what = f"{statistic}, where that is smallest" if control else statistic
    return judged(statement, what, constant(estimate, len(found)), *roles, allowed=Range(high=limit))


def largest_by_step(rows: pd.DataFrame, quantity: str) -> pd.Series:
    """Return the largest finite deviation at each step, to be drawn on a logarithmic axis."""
    return rows[np.isfinite(rows[quantity])].groupby("step")[quantity].max().clip(lower=SMALLEST)


def network_names(texts: Sequence[str]) -> list[str]:
    """Return a short name of each model: its kind, or its whole text where several are of one kind."""
    kinds = [ModelSpec.from_string(text).kind for text in texts]
    return [kind if kinds.count(kind) == 1 else text for kind, text in zip(kinds, texts, strict=True)]
