"""Whether two settings learn one function: what the claims on function space have in common.

Two questions, kept apart. Strictly: are the runs of both exchangeable? The permutation test of the total
variation answers, and with enough runs it finds the smallest difference. Up to a margin: is the share of two runs'
disagreement that their settings cause below a bound? Its interval answers.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from intrinsic_lr.claims.question import Inputs, Question
from intrinsic_lr.claims.verdicts import Finding, Range
from intrinsic_lr.disagreement import compare
from intrinsic_lr.intervals import holm
from intrinsic_lr.seeding import stream_seed
from intrinsic_lr.tables import POINT_COLUMNS

Member = tuple[str, Mapping[str, Any]]
"""A point with the role of its experiment."""


def compare_points(
    inputs: Inputs, pairs: Iterable[tuple[str, Member, Member, Sequence[tuple[int, int]]]]
) -> pd.DataFrame:
    """Compare the predicted labels of pairs of points; one row per pair and checkpoint.

    Args:
        inputs: holds the predictions and the data sets.
        pairs: kind of the pair, its two members, and the step of each at every checkpoint to compare.

    Returns:
        `part` (the kind), for both members `point_*` and the columns that name a point, `step_*` and
        `intrinsic_time_*` (step * lambda_e), and the quantities of `disagreement.compare`.
    """
    question = inputs.question
    ensembles: dict[str, Any] = {}
    rows = []
    for part, a, b, steps in pairs:
        for role, point in (a, b):
            ensembles.setdefault(point["name"], inputs.ensemble(role, point))
        truth = inputs.test_labels(a[1]["dataset"])
        for step_a, step_b in steps:
            row: dict[str, Any] = {"part": part}
            for side, (_, point), step in (("a", a, step_a), ("b", b, step_b)):
                row |= {f"point_{side}": point["name"], f"step_{side}": step}
                row[f"intrinsic_time_{side}"] = step * point["intrinsic_lr"]
                row |= {f"{column}_{side}": point[column] for column in POINT_COLUMNS}
            first, second = ensembles[a[1]["name"]], ensembles[b[1]["name"]]
            names = (a[1]["name"], b[1]["name"], step_a, step_b)
            row |= compare(
                first.labels(step_a),
                second.labels(step_b),
                truth,
                first.classes,
                permutations=question.analysis["permutations"],
                bootstrap=question.analysis["bootstrap"],
                confidence=question.confidence,
                seed=stream_seed(question.seed, "claim", question.name, *names),
            )
            rows.append(row)
    return pd.DataFrame(rows)


def last_checkpoints(table: pd.DataFrame) -> pd.DataFrame:
    """Return the row of each kind and pair at its last checkpoint."""
    return table.loc[table.groupby(["part", "point_a", "point_b"], sort=False)["step_a"].idxmax()]


def strict(
    question: Question,
    role: Callable[..., Finding],
    rows: pd.DataFrame,
    statements: Sequence[str],
    roles: Sequence[Sequence[str]],
) -> list[Finding]:
    """Ask of each row whether the runs of both settings are exchangeable; p-values by Holm over these rows.

    Args:
        question: the claim's.
        role: `question.criterion`, or `question.control`, which sameness has to fail.
        rows: rows of `compare_points`.
        statements: in words, one per row.
        roles: of the experiments behind each row.
    """
    adjusted = holm(rows["p_value"])
    return [
        role(
            statement,
            "total variation of predicted labels",
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
    question: Question,
    role: Callable[..., Finding],
    rows: pd.DataFrame,
    statements: Sequence[str],
    roles: Sequence[Sequence[str]],
) -> list[Finding]:
    """Ask of each row whether the settings cause less of the disagreement than the threshold; see `strict`."""
    return [
        role(
            statement,
            "share of two runs' disagreement in excess of that within a setting",
            row.excess_share,
            (row.excess_share_low, row.excess_share_high),
            n=min(row.replicates_a, row.replicates_b),
            roles=of,
            allowed=Range(high=question.thresholds["excess_share"]),
        )
        for row, statement, of in zip(rows.itertuples(), statements, roles, strict=True)
    ]
