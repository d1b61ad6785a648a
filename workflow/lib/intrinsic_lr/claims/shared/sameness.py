"""Whether two settings learn one function: what the claims on function space have in common.

Two questions, kept apart. Are the runs of both exchangeable? The permutation test of the total variation answers,
and with enough runs it finds the smallest difference. Is the share of two runs' disagreement that their settings
cause below a margin? Its interval answers.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from intrinsic_lr.analyses.tables import POINT_COLUMNS
from intrinsic_lr.claims.shared.spec import NOTHING, ClaimData, Estimate
from intrinsic_lr.claims.shared.verdicts import Finding, Findings, Range
from intrinsic_lr.stats.components import detectable_share
from intrinsic_lr.stats.disagreement import JUDGED, label_distribution, total_variation
from intrinsic_lr.stats.intervals import holm
from intrinsic_lr.study.experiment import PlannedPoint as Point
from intrinsic_lr.study.pairs import paired

Member = tuple[str, Point]
"""A point with the role of its experiment."""
VARIATION = "total variation of predicted labels"
SHARE = "share of two runs' disagreement in excess of that within a setting"
MEASURED = list(JUDGED)
"""The columns of a comparison that a verdict is drawn from; empty where the sides are paired."""
POWER = 0.9
"""Probability with which a share that counts as detectable would be found."""
_OF_A_SIDE = ("point", "step", "intrinsic_time", "replicates", "within", "error", *POINT_COLUMNS)
_OF_BOTH = ("part", "paired", "independent_errors", "null_mean", "detectable")
_COLUMNS = [*_OF_BOTH, *(f"{name}_{side}" for side in "ab" for name in _OF_A_SIDE), *MEASURED]
_PAIRED = " (not judged: replicates of both share their initial weights or batches)"


def compare_points(
    data: ClaimData,
    pairs: Iterable[tuple[str, Member, Member, Sequence[tuple[int, int]]]],
    powered: str | None = None,
) -> pd.DataFrame:
    """Compare the predicted labels of pairs of points; one row per pair and checkpoint.

    `pairs` are the kind of each, its two members, and the step of each at every checkpoint to compare. The columns
    are `part` (the kind), `paired` (as `pairs.paired` tells), for both members `point_*` and the columns that name
    a point, `step_*` and `intrinsic_time_*` (step * lambda_e), and the quantities of `disagreement.compare`. A run
    that is not finite at one of its point's planned steps is left out of all of them, and counted as missing. The
    table of no pair has the columns that verdicts need. The last row of each pair of the kind `powered` tells in
    `detectable` which share of the disagreement the permutation test would find with probability `POWER`.
    """
    labels: dict[str, dict[int, np.ndarray]] = {}
    classes: dict[str, int] = {}
    rows = []
    for part, *members, steps in pairs:
        for role, point in members:
            if point.name not in labels:
                ensemble = data.ensemble(role, point)
                classes[point.name] = ensemble.classes
                labels[point.name] = _whole({step: ensemble.labels(step) for step in point.steps})
        a, b = (point for _, point in members)
        truth = data.test_labels(a.dataset)
        for step_a, step_b in steps:
            row: dict[str, Any] = {"part": part, "paired": paired(a, b)}
            for side, point, step in (("a", a, step_a), ("b", b, step_b)):
                row |= {f"point_{side}": point.name, f"step_{side}": step}
                row[f"intrinsic_time_{side}"] = step * point.intrinsic_lr
                row |= {f"{column}_{side}": getattr(point, column) for column in POINT_COLUMNS}
            sides, names = (labels[a.name][step_a], labels[b.name][step_b]), (a.name, b.name, step_a, step_b)
            row |= data.spec.compare_labels((a, b), sides, truth, classes[a.name], *names)
            row["detectable"] = np.nan
            if part == powered and step_a == a.steps[-1] and np.isfinite(row["p_value"]):
                generator = data.spec.generator(*names, "detectable")
                row["detectable"] = _detectable(sides, classes[a.name], row["null_q95"], generator)
            rows.append(row)
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=_COLUMNS)


def _detectable(
    sides: tuple[np.ndarray, np.ndarray], classes: int, critical: float, generator: np.random.Generator
) -> float:
    finite = [labels[(labels >= 0).all(axis=1)] for labels in sides]
    count = len(finite[0])

    def is_found(labels: np.ndarray) -> bool:
        p, q = (label_distribution(side, classes) for side in (labels[:count], labels[count:]))
        return total_variation(p, q) > critical

    groups = np.repeat([0, 1], [len(side) for side in finite])
    return detectable_share(np.concatenate(finite), groups, is_found, POWER, generator, mixed=True)


def _whole(labels: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
    """Mark the runs that are not finite (-1) at one step as not finite at every step."""
    finite = np.all([(values >= 0).all(axis=1) for values in labels.values()], axis=0)
    return {step: np.where(finite[:, None], values, -1) for step, values in labels.items()}


def last_checkpoints(table: pd.DataFrame) -> pd.DataFrame:
    """Return the row of each kind and pair at its last checkpoint; a table without rows as it is."""
    if table.empty:
        return table
    return table.loc[table.groupby(["part", "point_a", "point_b"], sort=False)["step_a"].idxmax()]


Judge = Callable[..., Finding]
Roles = Callable[[Any], Sequence[str]]


def test_exchangeable(judge: Judge, rows: pd.DataFrame, describe: Callable[[Any], str], roles: Roles) -> Findings:
    """Ask of each row whether the runs of both settings are exchangeable; p-values by Holm over these rows.

    `judge` is `spec.criterion`, or `spec.control`, which sameness has to fail; `rows` are those of
    `compare_points`, and their column `detectable` is the share that would be found with probability `POWER`.
    `describe` puts what a row tests in words, `roles` gives those of the experiments behind it.
    """
    adjusted = iter(holm(rows["p_value"]))
    null = f", Holm over {len(rows)}" if len(rows) > 1 else ""
    for row, statement, estimate in _estimates(rows, "total_variation", describe):
        words = f"one distribution of runs: permutation null of mean {row.null_mean:.4g}{null}"
        power = power_of(row.detectable)
        yield judge(statement, VARIATION, estimate, *roles(row), p_value=next(adjusted), null=words, **power)


def test_within_margin(
    judge: Judge, rows: pd.DataFrame, describe: Callable[[Any], str], roles: Roles, margin: float
) -> Findings:
    """Ask of each row if the settings cause at most this share of the disagreement; see `test_exchangeable`."""
    for row, statement, estimate in _estimates(rows, "excess_share", describe):
        yield judge(statement, SHARE, estimate, *roles(row), allowed=Range(high=margin))


def power_of(detectable: float) -> dict[str, float]:
    """Return the power of a finding whose test would find this share with probability `POWER`; nothing for NaN."""
    return {"power_for": detectable, "power": POWER} if np.isfinite(detectable) else {}


def missing_finding(judge: Judge, statement: str, statistic: str, *roles: str) -> Finding:
    """Return the finding, inconclusive, on a comparison that the experiments do not hold."""
    return judge(f"{statement}: no such pair", statistic, NOTHING, *roles, null="nothing to compare")


def _estimates(rows: pd.DataFrame, column: str, describe: Callable) -> Iterable[tuple[Any, str, Estimate]]:
    for row in rows.itertuples():
        interval = [getattr(row, name) for name in (column, f"{column}_low", f"{column}_high")]
        statement = describe(row) + (_PAIRED if getattr(row, "paired", False) else "")
        yield row, statement, (*interval, min(row.replicates_a, row.replicates_b))
