"""Whether two settings learn one function: what the claims on function space have in common.

Two questions, kept apart. Strictly: are the runs of both exchangeable? The permutation test of the total
variation answers, and with enough runs it finds the smallest difference. Up to a margin: is the share of two runs'
disagreement that their settings cause below a bound? Its interval answers.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from intrinsic_lr.analyses.tables import POINT_COLUMNS, differing_axes
from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec
from intrinsic_lr.claims.shared.verdicts import Finding, Range
from intrinsic_lr.core.seeding import stream_seed
from intrinsic_lr.stats.disagreement import compare
from intrinsic_lr.stats.intervals import holm

Member = tuple[str, Mapping[str, Any]]
"""A point with the role of its experiment."""
VARIATION = "total variation of predicted labels"
SHARE = "share of two runs' disagreement in excess of that within a setting"
EXCESS = "disagreement of two runs in excess of that within a setting"
MEASURED = [
    "total_variation", "total_variation_low", "total_variation_high", "p_value",
    "excess", "excess_low", "excess_high", "excess_share", "excess_share_low", "excess_share_high",
]  # fmt: skip
"""The columns of a comparison that a verdict is drawn from."""


def initialisations(points: Iterable[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Return all pairs of points that differ in their initialisation alone."""
    return [(a, b) for a, b in combinations(points, 2) if differing_axes(a, b) == ["init_seed"]]


def first_of_each_rate(
    pairs: Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]],
) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Return the first pair at each intrinsic rate, so that every rate counts once and no run twice."""
    first: dict[float, Any] = {}
    for a, b in pairs:
        first.setdefault(a["intrinsic_lr"], (a, b))
    return list(first.values())


def paired(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Tell whether replicate k of both points shares a random draw: initial weights of its own, or batches.

    Runs are then not exchangeable between the points one by one: both sides look more alike than two independent
    samples do, and the p-value of a permutation test leans towards 1. One initialisation that *all* runs of
    both sides share pairs nothing.
    """
    independent = a["init_sharing"] == b["init_sharing"] == "independent"
    weights = independent and a["init_seed"] == b["init_seed"]
    return weights or (a["data_order"] is not None and a["data_order"] == b["data_order"])


def compare_points(
    data: ClaimData, pairs: Iterable[tuple[str, Member, Member, Sequence[tuple[int, int]]]]
) -> pd.DataFrame:
    """Compare the predicted labels of pairs of points; one row per pair and checkpoint.

    Args:
        data: holds the predictions and the data sets.
        pairs: kind of the pair, its two members, and the step of each at every checkpoint to compare.

    Returns:
        `part` (the kind), `paired` (see there), for both members `point_*` and the columns that name a point,
        `step_*` and `intrinsic_time_*` (step * lambda_e), and the quantities of `disagreement.compare`. A run
        that is not finite at one of its point's planned steps is left out of all of them, and counted as
        missing. The table of no pair has the columns that verdicts need.
    """
    spec = data.spec
    labels: dict[str, dict[int, np.ndarray]] = {}
    classes: dict[str, int] = {}
    rows = []
    for part, a, b, steps in pairs:
        for role, point in (a, b):
            if point["name"] not in labels:
                ensemble = data.ensemble(role, point)
                classes[point["name"]] = ensemble.classes
                labels[point["name"]] = _whole({step: ensemble.labels(step) for step in point["steps"]})
        truth = data.test_labels(a[1]["dataset"])
        for step_a, step_b in steps:
            row: dict[str, Any] = {"part": part, "paired": paired(a[1], b[1])}
            for side, (_, point), step in (("a", a, step_a), ("b", b, step_b)):
                row |= {f"point_{side}": point["name"], f"step_{side}": step}
                row[f"intrinsic_time_{side}"] = step * point["intrinsic_lr"]
                row |= {f"{column}_{side}": point[column] for column in POINT_COLUMNS}
            names = (a[1]["name"], b[1]["name"], step_a, step_b)
            row |= compare(
                labels[a[1]["name"]][step_a],
                labels[b[1]["name"]][step_b],
                truth,
                classes[a[1]["name"]],
                permutations=spec.analysis["permutations"],
                bootstrap=spec.analysis["bootstrap"],
                confidence=spec.confidence,
                seed=stream_seed(spec.seed, "claim", spec.name, *names),
            )
            rows.append(row)
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=[*_NAMES, *MEASURED])


_OF_A_SIDE = ("point", "step", "intrinsic_time", "replicates", "within", "error", *POINT_COLUMNS)
_OF_BOTH = ("part", "paired", "l1", "across", "independent_errors", "null_mean")
_NAMES = [*_OF_BOTH, *(f"{name}_{side}" for side in "ab" for name in _OF_A_SIDE)]


def _whole(labels: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
    """Mark the runs that are not finite (-1) at one step as not finite at every step."""
    finite = np.all([(values >= 0).all(axis=1) for values in labels.values()], axis=0)
    return {step: np.where(finite[:, None], values, -1) for step, values in labels.items()}


def last_checkpoints(table: pd.DataFrame) -> pd.DataFrame:
    """Return the row of each kind and pair at its last checkpoint; a table without rows as it is."""
    if table.empty:
        return table
    return table.loc[table.groupby(["part", "point_a", "point_b"], sort=False)["step_a"].idxmax()]


def strict(
    spec: ClaimSpec,
    role: Callable[..., Finding],
    rows: pd.DataFrame,
    statements: Sequence[str],
    roles: Sequence[Sequence[str]],
) -> list[Finding]:
    """Ask of each row whether the runs of both settings are exchangeable; p-values by Holm over these rows.

    Args:
        spec: the claim's.
        role: `spec.criterion`, or `spec.control`, which sameness has to fail.
        rows: rows of `compare_points`.
        statements: in words, one per row.
        roles: of the experiments behind each row.
    """
    rows, statements = _judgeable(rows, statements)
    adjusted = holm(rows["p_value"])
    return [
        role(
            statement,
            VARIATION,
            row.total_variation,
            (row.total_variation_low, row.total_variation_high),
            n=min(row.replicates_a, row.replicates_b),
            roles=of,
            p_value=p_value,
            null=f"one distribution of runs: permutation null of mean {row.null_mean:.4g}"
            + (f", Holm over {len(rows)}" if len(rows) > 1 else ""),
        )
        for row, statement, of, p_value in zip(rows.itertuples(), statements, roles, adjusted, strict=True)
    ]


def up_to_margin(
    spec: ClaimSpec,
    role: Callable[..., Finding],
    rows: pd.DataFrame,
    statements: Sequence[str],
    roles: Sequence[Sequence[str]],
) -> list[Finding]:
    """Ask of each row whether the settings cause less of the disagreement than the threshold; see `strict`."""
    allowed = {"allowed": Range(high=spec.thresholds["excess_share"])}
    return _by_interval("excess_share", SHARE, allowed, role, rows, statements, roles)


def no_excess(
    role: Callable[..., Finding],
    rows: pd.DataFrame,
    statements: Sequence[str],
    roles: Sequence[Sequence[str]],
) -> list[Finding]:
    """Ask of each row whether the excess disagreement has 0 in its interval; see `strict`."""
    return _by_interval("excess", EXCESS, {"contains": 0.0}, role, rows, statements, roles)


def absent(role: Callable[..., Finding], statement: str, statistic: str, roles: Sequence[str]) -> Finding:
    """Return the finding, inconclusive, on a comparison that the experiments do not hold."""
    return role(f"{statement}: no such pair", statistic, np.nan, None, n=0, roles=roles, null="nothing to compare")


def _by_interval(column: str, statistic: str, judged_by, role, rows, statements, roles) -> list[Finding]:
    rows, statements = _judgeable(rows, statements)
    return [
        role(
            statement,
            statistic,
            getattr(row, column),
            (getattr(row, f"{column}_low"), getattr(row, f"{column}_high")),
            n=min(row.replicates_a, row.replicates_b),
            roles=of,
            **judged_by,
        )
        for row, statement, of in zip(rows.itertuples(), statements, roles, strict=True)
    ]


def _judgeable(rows: pd.DataFrame, statements: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    """Blank what was measured on paired sides, and say so: neither null nor bootstrap knows of pairs."""
    if "paired" not in rows:
        return rows, list(statements)
    told = rows["paired"].eq(True).to_numpy()
    blank = rows.copy()
    blank.loc[told, MEASURED] = np.nan
    words = " (not judged: replicates of both share their initial weights or batches)"
    return blank, [text + words if pair else text for text, pair in zip(statements, told, strict=True)]
