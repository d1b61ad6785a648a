"""Whether runs forget where they began: settings of several initialisations with several runs each.

A setting is one point, or several that differ in `init_seed` alone. Which share of the distance of two of its runs
is there because they began at different weights? Two settings are compared likewise, with whole initialisations in
the place of runs. Distances are those of predicted labels, how often two runs disagree, and those of logits.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from intrinsic_lr.analyses.tables import POINT_COLUMNS
from intrinsic_lr.claims.shared.sameness import POWER, power_of
from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec
from intrinsic_lr.claims.shared.verdicts import Finding, Findings, Range
from intrinsic_lr.runs.ensembles import Ensemble
from intrinsic_lr.stats import components
from intrinsic_lr.stats.intervals import holm
from intrinsic_lr.study.experiment import PlannedPoint
from intrinsic_lr.study.pairs import paired, repeated_initialisations

LABELS, LOGITS = "labels", "logits"
DISTANCES = {LABELS: components.label_distances, LOGITS: components.logit_distances}
SHARES = {
    LABELS: "share of two runs' disagreement that is caused",
    LOGITS: "share of two runs' mean distance of logits that is caused",
}
MEASURED = ["share", "share_low", "share_high", "p_value"]
"""The columns of a comparison that a verdict is drawn from."""
COLUMNS = [
    "part", "setting", "distance", "point", "other_point", *POINT_COLUMNS, "step", "intrinsic_time",
    "initialisations", "runs", "missing", "across", "within", "excess", "share", "share_low", "share_high",
    "null_q95", "p_value", "detectable", "error", "half_of_disagreement",
]  # fmt: skip
MOST_INITIALISATIONS = 10**6


@dataclass(frozen=True)
class Runs:
    """The runs of a setting that are finite at all its checkpoints, of initialisations with two such runs or more.

    Attributes:
        points: the setting's points, which have the same steps.
        kept: for each point the numbers of these replicates.
        starts: the initialisation of each run (R,).
        missing: how many are left out.
    """

    points: Sequence[PlannedPoint]
    ensembles: Sequence[Ensemble]
    kept: Sequence[np.ndarray]
    starts: np.ndarray
    missing: int

    @staticmethod
    def read(data: ClaimData, role: str, points: Sequence[PlannedPoint]) -> "Runs":
        """Open the runs of points of a role; reads the labels of all checkpoints."""
        ensembles, kept, starts, missing = [data.ensemble(role, point) for point in points], [], [], 0
        for place, (point, ensemble) in enumerate(zip(points, ensembles, strict=True)):
            finite = np.all([(ensemble.labels(step) >= 0).all(axis=1) for step in point.steps], axis=0)
            of_point = np.array([point.initialisation(replicate) for replicate in range(len(finite))])
            together = np.bincount(of_point, weights=finite)[of_point] > 1
            kept.append(np.flatnonzero(finite & together))
            missing += len(finite) - len(kept[-1])
            starts.append(of_point[kept[-1]] + place * MOST_INITIALISATIONS)
        return Runs(points, ensembles, kept, np.concatenate(starts), missing)

    @property
    def first(self) -> PlannedPoint:
        """The first point, which stands for the setting."""
        return self.points[0]

    @property
    def sizes(self) -> np.ndarray:
        """How many runs each initialisation has, (G,)."""
        return np.unique(self.starts, return_counts=True)[1]

    def predictions(self, step: int) -> dict[str, np.ndarray]:
        """Return `labels` (R, N) and `logits` (R, N, K) at a step."""
        predicted = [ensemble.predictions(step) for ensemble in self.ensembles]
        return {
            name: np.concatenate([of[name][kept] for of, kept in zip(predicted, self.kept, strict=True)])
            for name in DISTANCES
        }


def first_of_each_rate(points: Sequence[PlannedPoint], replicates: int) -> list[list[PlannedPoint]]:
    """Return the first setting of each intrinsic rate of which several initialisations are repeated."""
    found: dict[float, list[PlannedPoint]] = {}
    for setting in repeated_initialisations(points, replicates):
        found.setdefault(setting[0].intrinsic_lr, setting)
    return list(found.values())


def compare_initialisations(
    data: ClaimData,
    part: str,
    setting: str,
    runs: Runs,
    steps: Iterable[int],
    tested: bool = False,
    powered: bool = False,
) -> list[dict[str, Any]]:
    """Return a row for each step and kind of distance: which share the initialisation of the runs causes.

    If they are `tested`, with the exact p-value (runs dealt to the initialisations anew); if `powered`, with the
    share of the disagreement of labels that this test would find with probability `POWER`.
    """
    spec, rows = data.spec, []
    truth = data.test_labels(runs.first.dataset)
    for step in steps:
        predicted = runs.predictions(step)
        of_labels = {
            "error": _mean(predicted[LABELS] != truth),
            "half_of_disagreement": components.half_of_disagreement(predicted[LABELS]) if len(runs.starts) else 0,
        }
        for distance, measure in DISTANCES.items():
            row = _row(part, setting, distance, runs, step)
            if len(runs.sizes) > 1:
                distances = measure(predicted[distance])
                means = components.group_means(distances, runs.starts)
                found = components.component(means)
                # One stream for all steps: a resample follows the same initialisations through time.
                generator = spec.generator(runs.first.name, "resampled")
                drawn = components.resampled_groups(means, runs.sizes, spec.analysis["bootstrap"], generator)
                ends = components.group_interval(found.share, drawn, runs.sizes, spec.confidence)
                row |= found._asdict() | dict(zip(("share_low", "share_high"), ends, strict=True))
                if tested:
                    generator = spec.generator(runs.first.name, step, distance)
                    row |= _tested(spec, distances, runs.starts, found.share, generator)
                    if distance == LABELS and powered:
                        row["detectable"] = _detectable(predicted[LABELS], runs.starts, row["null_q95"], generator)
            rows.append(row | of_labels)
    return rows


def compare_settings(data: ClaimData, part: str, setting: str, one: Runs, other: Runs) -> list[dict[str, Any]]:
    """Return a row for each kind of distance: which share the setting causes, at the last step of each.

    Whole initialisations are resampled, and dealt anew for the p-value. Settings whose runs share initial weights
    or batches are not compared.
    """
    spec, sides, rows = data.spec, (one, other), []
    predicted = [side.predictions(side.first.steps[-1]) for side in sides]
    starts = np.concatenate([one.starts, other.starts + len(one.points) * MOST_INITIALISATIONS])
    runs = np.concatenate([one.sizes, other.sizes])
    settings = np.repeat([0, 1], [len(side.sizes) for side in sides])
    fewest = min(len(side.sizes) for side in sides)
    for distance, measure in DISTANCES.items():
        row = _row(part, setting, distance, one, one.first.steps[-1])
        row |= {"other_point": other.first.name, "initialisations": fewest}
        row |= {"runs": min(len(side.starts) for side in sides), "missing": one.missing + other.missing}
        if fewest > 1 and not any(paired(a, b) for a, b in product(one.points, other.points)):
            distances = measure(np.concatenate([side[distance] for side in predicted]))
            means = components.group_means(distances, starts)
            found = components.component(components.group_means(means, settings))
            generator = spec.generator(one.first.name, other.first.name, distance)
            drawn = components.resampled_settings(means, runs, settings, spec.analysis["bootstrap"], generator)
            ends = components.setting_interval(drawn, spec.confidence, fewest)
            row |= found._asdict() | dict(zip(("share_low", "share_high"), ends, strict=True))
            row |= _tested(spec, means, settings, found.share, generator)
        rows.append(row)
    return rows


def _tested(
    spec: ClaimSpec, distances: np.ndarray, groups: np.ndarray, share: float, generator: np.random.Generator
) -> dict[str, float]:
    null = components.permuted_shares(distances, groups, spec.analysis["permutations"], generator)
    return {"null_q95": float(np.quantile(null, 0.95)), "p_value": components.p_value(share, null)}


def _detectable(labels: np.ndarray, starts: np.ndarray, critical: float, generator: np.random.Generator) -> float:
    def is_found(simulated: np.ndarray) -> bool:
        means = components.group_means(components.label_distances(simulated), starts)
        return components.component(means).share > critical

    return components.detectable_share(labels, starts, is_found, POWER, generator)


def _row(part: str, setting: str, distance: str, runs: Runs, step: int) -> dict[str, Any]:
    point = runs.first
    named = {"part": part, "setting": setting, "distance": distance, "point": point.name, "other_point": ""}
    named |= {column: getattr(point, column) for column in POINT_COLUMNS}
    named |= {"step": step, "intrinsic_time": step * point.intrinsic_lr}
    return named | {"initialisations": len(runs.sizes), "runs": len(runs.starts), "missing": runs.missing}


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else np.nan


def as_table(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return the table of comparisons; one of none has the columns that verdicts need."""
    return pd.DataFrame(rows, columns=COLUMNS)


def last_steps(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of each comparison at its last checkpoint."""
    latest = table.groupby(["part", "point", "other_point"], dropna=False)["step"].transform("max")
    return table[table["step"] == latest]


Judge = Callable[..., Finding]


def test_forgotten(judge: Judge, rows: pd.DataFrame, spec: ClaimSpec, *roles: str, powered: bool) -> Findings:
    """Ask of each row whether at most the margin is caused by what is compared: the whole interval lies below it.

    `judge` is `spec.criterion`, or `spec.control`, which has to fail. Where it is `powered`, with the
    probability that the interval would lie below the margin if nothing were caused.
    """
    margin = spec.thresholds["share"]
    for row, estimate, statement in _estimates(rows):
        judged: dict[str, Any] = {"allowed": Range(high=margin)}
        if powered:
            interval = row.share_low, row.share_high
            sizes = row.initialisations, row.runs / row.initialisations
            power = components.power_within(*interval, *sizes, spec.confidence, margin)
            judged |= {"power_for": 0.0, "power": power}
        yield judge(f"{statement}: the same up to the margin", SHARES[row.distance], estimate, *roles, **judged)


def test_one_distribution(judge: Judge, rows: pd.DataFrame, *roles: str) -> Findings:
    """Ask of each row whether what is compared makes no difference at all; p-values by Holm over these rows."""
    adjusted = iter(holm(rows["p_value"]))
    for row, estimate, statement in _estimates(rows):
        null = f"exchangeable: 95 % of permutations below {row.null_q95:.3g}"
        null += f", Holm over {len(rows)}" if len(rows) > 1 else ""
        judged = {"p_value": next(adjusted), "null": null, **power_of(row.detectable)}
        yield judge(f"{statement}: one distribution", SHARES[row.distance], estimate, *roles, **judged)


def _estimates(rows: pd.DataFrame) -> Iterable[tuple[Any, tuple[float, float, float, int], str]]:
    for row in rows.itertuples():
        estimate = row.share, row.share_low, row.share_high, int(row.runs)
        yield row, estimate, f"{row.setting}, {row.distance}"
