"""Experiments as analyses and claims are given them: points of the grid with the steps to look at."""

import json
from dataclasses import asdict, dataclass

from intrinsic_lr.study.points import Point


@dataclass(frozen=True)
class PlannedPoint(Point):
    """A point of an experiment.

    Attributes:
        length: steps that the experiment looks at; the training may be longer for another experiment.
        steps: of its checkpoints, ascending. The i-th ones of two points of an experiment belong together.
    """

    length: int = 0
    steps: tuple[int, ...] = ()


@dataclass(frozen=True)
class Experiment:
    """A named selection of points and the analyses of them.

    Attributes:
        name: name in the config.
        points: the grid.
        replicates: replicates used of each point.
        compare: which pairs of points the disagreement table holds, `all` or `same_intrinsic_lr`.
        analyses: names of its analyses.
    """

    name: str
    points: tuple[PlannedPoint, ...] = ()
    replicates: int = 0
    compare: str = "all"
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
        points = (PlannedPoint(**{**point, "steps": tuple(point["steps"])}) for point in known.pop("points"))
        return Experiment(**known, points=tuple(points))
