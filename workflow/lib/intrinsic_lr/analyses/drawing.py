"""What the figures of analyses share: how settings are told apart, in words and in lines."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pandas as pd
import seaborn as sns

from intrinsic_lr.figures.style import DASHES, MARKERS, replicates_text, scientific, spread
from intrinsic_lr.stats.intervals import percent
from intrinsic_lr.study.experiment import Experiment, PlannedPoint
from intrinsic_lr.study.pairs import AXES, differing_axes

TRAJECTORIES = 4
"""At most so many starting times T are drawn."""
ACROSS_COLOUR = sns.color_palette("colorblind")[3]
"""Of what is across trajectories."""
REFERENCE = "reference"
LINES = [{"ls": dash, "marker": ""} for dash in DASHES]
LINES += [{"ls": dash, "marker": marker} for dash in DASHES for marker in MARKERS]
"""Lines that are told apart without their colour."""
_WORDS = {
    "dataset": "data set {}", "model": "network {}", "batch_size": "batch size {}", "lr": r"$\eta$ = {}",
    "weight_decay": r"$\lambda$ = {}", "intrinsic_lr": r"$\lambda_e$ = {}", "momentum": r"$\mu$ = {}",
    "init_seed": "initialisation {}", "init_sharing": "{} initialisations", "init_scale": "initial scale {}",
    "runs_per_init": "{} runs an initialisation",
    "optimiser": "{}", "beta1": r"$\beta_1$ = {}", "beta2": r"$\beta_2$ = {}", "eps": r"$\epsilon$ = {}",
}  # fmt: skip


def mean_note(table: pd.DataFrame, confidence: float, interval: str = "band") -> str:
    """Say what is drawn of replicates: their mean, with an interval or a band of this confidence."""
    return f"mean and {percent(confidence)} {interval} over {replicates_text(table)}"


def drawn_points(table: pd.DataFrame, experiment: Experiment) -> list[PlannedPoint]:
    """Return the points of an experiment that a table has rows of."""
    named = set(table["point"])
    return [point for point in experiment.points if point.name in named]


def varied_axes(points: Collection[PlannedPoint]) -> list[str]:
    """Return the axes in which some points differ."""
    return [axis for axis in AXES if len({getattr(point, axis) for point in points}) > 1]


def setting_text(point: PlannedPoint, axes: Iterable[str]) -> str:
    """Return the values that a point has on some axes, in words."""
    return ", ".join(_value_text(axis, point.value_of(axis)) for axis in axes)


def schedule_text(name: str) -> str:
    """Return a schedule's name in words: of `wd_x_y_lr_z_u` the epochs at which each rate is divided by 10."""
    if found := re.fullmatch(r"wd_(\d+)_(\d+)_lr_(\d+)_(\d+)", name):
        return r"$\lambda$/10 at epochs {} and {}, $\eta$/10 at {} and {}".format(*found.groups())
    return name.replace("_", " ")


def _value_text(axis: str, value: Any) -> str:
    if axis == "schedule":
        return f"schedule {schedule_text(value)}"
    if value is None:
        return f"own {axis.replace('_', ' ')}"
    if isinstance(value, float):
        # A rounded number would make two settings one.
        value = scientific(value) if value == float(f"{value:.3g}") else f"{value:.12g}"
    return _WORDS.get(axis, axis.replace("_", " ") + " {}").format(value)


def effective_lr_text(points: Iterable[PlannedPoint]) -> str:
    """Return the formula of the effective learning rate of some points, as `stats.theory` has it."""
    texts = {r"$\eta/\|w\|^2$" if point.optimiser == "sgd" else r"$\eta/\|w\|$" for point in points}
    return " or ".join(sorted(texts, reverse=True))


def rounded(rate: float) -> float:
    """Return an intrinsic learning rate to two digits: grids are rounded, and rates that agree so far are one."""
    return float(f"{rate:.1e}")


def variants(
    points: Iterable[PlannedPoint], on_axis: Mapping[str, Collection[str]] = MappingProxyType({})
) -> dict[str, str]:
    """Return for each point's name what sets it apart from the first of its `rounded` intrinsic rate, in words.

    `on_axis` are axes of a point, by its name, that the place in the figure tells.
    """
    references: dict[float, PlannedPoint] = {}
    found = {}
    for point in points:
        reference = references.setdefault(rounded(point.intrinsic_lr), point)
        axes = [axis for axis in differing_axes(reference, point) if axis not in on_axis.get(point.name, ())]
        if "intrinsic_lr" in axes and len(axes) > 1:
            axes.remove("intrinsic_lr")
        found[point.name] = setting_text(point, axes) or REFERENCE
    return found


def lines_of(texts: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return a line for each of the first texts, as many as there are `LINES`."""
    return dict(zip(dict.fromkeys(texts), LINES, strict=False))


def left_out(texts: Iterable[str], lines: Collection[str]) -> str:
    """Say how many settings have no line of their own and are therefore not drawn."""
    count = sum(text not in lines for text in texts)
    return f"; {count} more settings stand in the table alone" if count else ""


def first_point(table: pd.DataFrame, experiment: Experiment) -> tuple[pd.DataFrame, str]:
    """Keep the rows of the first point, one message a figure; say which it is where there are others."""
    points = drawn_points(table, experiment)
    if len(points) < 2:
        return table, ""
    which = setting_text(points[0], varied_axes(points))
    return table[table["point"] == points[0].name], f"\nof {len(points)} settings the first: {which}"


def partners(across: pd.DataFrame, experiment: Experiment) -> list[tuple[str, str, pd.DataFrame]]:
    """Return (relation, which partner if there are several, rows) of each pair of trajectories of a point."""
    named = {point.name: point for point in experiment.points}
    found = []
    for relation, rows in across.groupby("relation", sort=False):
        several = rows["partner_point"].nunique() > 1
        for name, part in rows.groupby("partner_point", sort=False):
            found.append((relation, f"initialisation {named[name].init_seed}" if several else "", part))
    return found


def starting_times(within: pd.DataFrame) -> Sequence[Any]:
    """Return the starting times T to draw: spread out, of those with a third of the most lags or more."""
    lags = within.groupby("step")["delta"].nunique()
    return spread(lags[lags >= lags.max() / 3].index, TRAJECTORIES)
