"""What the tests of claims share: specs with the default config's numbers, and an example of each claim."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pandas as pd
import yaml

from intrinsic_lr.claims.shared.spec import ClaimSpec
from intrinsic_lr.claims.shared.verdicts import findings_table, overall
from intrinsic_lr.study.experiment import PlannedPoint

_CONFIGS = Path(__file__).parents[2] / "config"
_ASKED = {
    claim: settings
    for name in ("config.yaml", "beyond.yaml")
    for claim, settings in yaml.safe_load((_CONFIGS / name).read_text(encoding="utf-8"))["claims"].items()
}
ANALYSIS = {"confidence": 0.95, "permutations": 199, "bootstrap": 199}


class Point(SimpleNamespace):
    """A planned point of which a test gives what it needs; other axes are at their default."""

    def __getattr__(self, axis):
        default = getattr(PlannedPoint, axis)
        return default.__get__(self) if callable(default) or isinstance(default, property) else default

    def __getitem__(self, axis):
        return getattr(self, axis)


def experiment(name, points=(), replicates=0):
    """Return an experiment of these points, which may be given as mappings."""
    made = [point if isinstance(point, Point) else Point(**point) for point in points]
    return SimpleNamespace(name=name, points=made, replicates=replicates)


def grid(*mappings):
    """Return a grid as the config's type reads it: every axis with a list of values."""
    return [{axis: v if isinstance(v, list) else [v] for axis, v in mapping.items()} for mapping in mappings]


def spec_of(name, points=(), runs=0, thresholds=(), **settings):
    """Return the claim's spec in the default config, or in that beyond the paper, but for what is given.

    Args:
        name: of the claim.
        points: for roles their points; the others have none.
        runs: replicates of every point.
        thresholds: some of the thresholds.
        **settings: some of the settings.
    """
    asked, points = _ASKED.get(name, {}), dict(points)
    roles = {role: experiment(of, points.get(role, ()), runs) for role, of in asked.get("experiments", {}).items()}
    numbers = {key: threshold["value"] for key, threshold in asked.get("thresholds", {}).items()}
    settings = {**asked.get("settings", {}), **settings}
    return ClaimSpec(name, "", "", roles, {**numbers, **dict(thresholds)}, settings, ANALYSIS)


@dataclass
class Example:
    """A claim and tables to judge."""

    claim: ModuleType
    spec: ClaimSpec
    make: Callable[..., pd.DataFrame]  # a table of which the claim holds, and others if it is given a truth
    measured: list[str]  # columns without which nothing can be judged
    criteria: int  # how many findings there are
    controls: int
    unjudged: tuple[str, ...] = ()  # thresholds that `measure` alone uses
    truths: Sequence[tuple[dict, str | list | dict]] = ()
    """Other truths with what is found then: the claim's verdict, those of all findings, or all of a role's."""

    def __post_init__(self):
        self._cached = functools.cache(self.make)

    def table(self, **truth):
        """Return a copy of the table of a world with this truth."""
        return self._cached(**truth).copy()

    def judged(self, table=None, spec=None, **truth):
        """Return the findings on a table, as the workflow writes them."""
        table = self.table(**truth) if table is None else table
        return findings_table(self.spec.name, "", "", self.claim.judge(table, spec or self.spec))

    def overall(self, table=None, spec=None, **truth):
        """Return the verdict on a claim."""
        return overall(self.judged(table, spec, **truth))

    def with_points(self, **points):
        """Return the spec with other points in some roles."""
        old = self.spec.experiments
        new = {role: experiment(old[role].name, given, old[role].replicates) for role, given in points.items()}
        return replace(self.spec, experiments={**old, **new})


def verdicts(findings, role="criterion"):
    """Return the verdicts of the criteria or of the controls."""
    return list(findings.loc[findings["role"] == role, "verdict"])
