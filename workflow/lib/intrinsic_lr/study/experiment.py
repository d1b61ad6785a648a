"""Experiments as analyses and claims are given them: points of the grid with the steps to look at."""

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from intrinsic_lr.study.optimisers import OPTIONS
from intrinsic_lr.study.plan import Recording
from intrinsic_lr.study.points import Point
from intrinsic_lr.study.timeline import number

_LISTED = 6
"""Up to so many values of an axis are named one by one in a caption."""


@dataclass(frozen=True)
class PlannedPoint(Point):
    """A point of an experiment; its training may be longer, with more checkpoints, for another experiment."""

    length: int = 0  # steps that the experiment looks at
    steps: tuple[int, ...] = ()  # of its checkpoints, ascending; the i-th ones of two points belong together
    recorded: Recording | None = None  # rows that the study takes of those that lie there; None for all,
    kept: tuple[int, ...] = ()  # and rows of the history at these steps

    def value_of(self, axis: str) -> Any:
        """Return the value of an axis, the optimiser's default for an option that is not given."""
        value = getattr(self, axis)
        return OPTIONS.get(self.optimiser, {}).get(axis) if value is None else value

    @property
    def logged(self) -> set[int] | None:
        """Steps of the rows of the history, None for all that lie there."""
        return self.recorded and {*self.recorded.multiples(self.recorded.log_every), *self.kept}

    @property
    def traced(self) -> set[int] | None:
        """Steps of the rows of the trace, None for all that lie there."""
        return self.recorded and self.recorded.multiples(self.recorded.trace_every)

    def checkpoint_at(self, time: float) -> int | None:
        """Return the planned step at a time in 1/lambda_e, if there is one."""
        wanted = time / self.intrinsic_lr
        nearest = min(self.steps, key=lambda step: abs(step - wanted))
        return nearest if abs(nearest - wanted) <= 1 else None


@dataclass(frozen=True)
class Experiment:
    """A named selection of points and the analyses of them."""

    name: str
    points: tuple[PlannedPoint, ...] = ()
    replicates: int = 0  # used of each point
    compare: str = "all"  # pairs of points in the disagreement table, or `same_intrinsic_lr`
    analyses: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """The name in words."""
        return self.name.replace("_", " ")

    def caption(self, first_only: bool = False) -> str:
        """Return in reStructuredText which points are drawn, all or the first: replicates, and the values of axes.

        Axes at their default in every point are left out.
        """
        points = self.points[:1] if first_only else self.points
        told = []
        for axis in fields(Point):
            values = sorted({getattr(point, axis.name) for point in points}, key=_order)
            if values == [axis.default]:
                continue
            texts = [number(value) if isinstance(value, float) else str(value) for value in values]
            if len(texts) > _LISTED:
                texts = [f"{texts[0]} to {texts[-1]} ({len(texts)} values)"]
            told.append(f"{axis.name.replace('_', ' ')} {', '.join(texts)}")
        several = first_only and len(self.points) > 1
        whose = f"the first of {len(self.points)} settings" if several else "each setting"
        return f"Experiment ``{self.name}``, {self.replicates} replicates of {whose}: {'; '.join(told)}."

    def to_json(self) -> str:
        """Return the canonical JSON of what an analysis needs to know: all but the other analyses."""
        known = asdict(self)
        del known["analyses"]
        return json.dumps(known, sort_keys=True)

    @staticmethod
    def from_json(text: str) -> "Experiment":
        """Return the experiment that `to_json` wrote."""
        known = json.loads(text)
        points = []
        for point in known.pop("points"):
            recorded = point["recorded"] and Recording(**point["recorded"])
            lists = {key: tuple(point[key]) for key in ("steps", "kept")}
            points.append(PlannedPoint(**{**point, **lists, "recorded": recorded}))
        return Experiment(**known, points=tuple(points))


def _order(value: Any) -> tuple[bool, float, str]:
    """Return the place of a value of an axis: numbers by size, then texts."""
    is_number = isinstance(value, int | float)
    return not is_number, value if is_number else 0.0, str(value)
