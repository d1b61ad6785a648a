"""Experiments as analyses and claims are given them: points of the grid with the steps to look at."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from intrinsic_lr.study.optimisers import OPTIONS
from intrinsic_lr.study.plan import Recording
from intrinsic_lr.study.points import Point


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
        return OPTIONS[self.optimiser].get(axis) if value is None else value

    @property
    def logged(self) -> set[int] | None:
        """Steps of the rows of the history, None for all that lie there."""
        return self.recorded and {*self.recorded.multiples(self.recorded.log_every), *self.kept}

    @property
    def traced(self) -> set[int] | None:
        """Steps of the rows of the trace, None for all that lie there."""
        return self.recorded and self.recorded.multiples(self.recorded.trace_every)


@dataclass(frozen=True)
class Experiment:
    """A named selection of points and the analyses of them."""

    name: str
    points: tuple[PlannedPoint, ...] = ()
    replicates: int = 0  # used of each point
    compare: str = "all"  # pairs of points in the disagreement table, or `same_intrinsic_lr`
    analyses: tuple[str, ...] = ()

    @property
    def caption(self) -> str:
        """What its points have in common and what differs, in reStructuredText."""

        def values(axis: str) -> str:
            return ", ".join(
                sorted({str(getattr(point, axis)) for point in self.points}, key=lambda v: (len(v), v))
            )

        return (
            f"Experiment ``{self.name}``: data set {values('dataset')}, network {values('model')}, "
            f"batch size {values('batch_size')}, {self.replicates} replicates of each setting "
            f"({len(self.points)} settings), initialisation seeds {values('init_seed')}."
        )

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
