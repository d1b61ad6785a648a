"""What a claim's test is given: its settings and thresholds, and the files of its experiments."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partialmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from intrinsic_lr.analyses.tables import block_folders, dataset_files, read_table, with_point
from intrinsic_lr.claims.shared.verdicts import (
    CONTROL,
    CRITERION,
    OF_CONTROLS,
    Finding,
    Range,
    judge_containing,
    judge_p_value,
)
from intrinsic_lr.core.errors import InputError, abridged
from intrinsic_lr.core.seeding import stream_seed
from intrinsic_lr.data.prepared import true_labels
from intrinsic_lr.runs.ensembles import Ensemble, open_ensemble
from intrinsic_lr.stats.disagreement import compare
from intrinsic_lr.stats.intervals import Difference, bootstrap_interval, percent, root_mean_square_interval
from intrinsic_lr.study.experiment import Experiment, PlannedPoint
from intrinsic_lr.study.pairs import Pair, paired

if TYPE_CHECKING:
    from intrinsic_lr.data.dataset import Dataset

Labels = tuple[np.ndarray, np.ndarray]
Estimate = tuple[float, float, float, int]
"""A number, the ends of its interval, and how many replicates are behind it."""
NOTHING: Estimate = (np.nan, np.nan, np.nan, 0)


def exponential(estimate: Estimate) -> Estimate:
    """Return a geometric mean from the estimate of a mean logarithm."""
    *logs, n = estimate
    return *np.exp(logs), n


def constant(value: float, n: int) -> Estimate:
    """Return the estimate of a number that is not random."""
    return value, value, value, n


def estimate_of(found: Difference) -> Estimate:
    """Return the estimate of a difference."""
    return found.estimate, found.low, found.high, found.n


@dataclass(frozen=True)
class ClaimSpec:
    """A claim as the config asks for it."""

    name: str
    statement: str = ""
    source: str = ""
    experiments: Mapping[str, Experiment] = field(default_factory=dict)  # by role
    thresholds: Mapping[str, float] = field(default_factory=dict)  # the numbers that decide
    settings: Mapping[str, Any] = field(default_factory=dict)  # what else the test takes
    analysis: Mapping[str, Any] = field(default_factory=dict)  # the config's `analysis`: `confidence`, ...
    seed: int = 0  # the study's
    needs_invariance: bool = False  # whether all trained weights have to be scale-invariant

    @staticmethod
    def read(plan: str, analysis: Mapping[str, Any], seed: int) -> "ClaimSpec":
        """Read what the workflow passes: `plan` as `Study.describe_claim` writes it."""
        known = json.loads(plan)
        experiments = {role: Experiment.from_json(text) for role, text in known.pop("experiments").items()}
        return ClaimSpec(**known, experiments=experiments, analysis=analysis, seed=seed)

    @property
    def confidence(self) -> float:
        """Coverage of every interval."""
        return self.analysis["confidence"]

    @property
    def percent(self) -> str:
        """The confidence in words, such as "95 %"."""
        return percent(self.confidence)

    @property
    def alpha(self) -> float:
        """Level of every test: 1 - confidence."""
        return 1 - self.confidence

    def points(self, role: str) -> Sequence[PlannedPoint]:
        """Return the points of a role's experiment."""
        return self.experiments[role].points

    def replicates(self, role: str) -> int:
        """Return the number of replicates of each point of a role."""
        return self.experiments[role].replicates

    def error(self, role: str, problem: str) -> InputError:
        """Return an error about a role's experiment."""
        return InputError(f"{self.name}: experiment {self.experiments[role].name}: {problem}")

    def stream(self, *names: object) -> int:
        """Return the seed of a random stream of this claim."""
        return stream_seed(self.seed, "claim", self.name, *names)

    def generator(self, *names: object) -> np.random.Generator:
        """Return the generator of a random stream of this claim."""
        return np.random.default_rng(self.stream(*names))

    def bootstrap(self, statistic: Callable[..., float], groups: Sequence[int], *names: object) -> Estimate:
        """Return a statistic of groups of replicates with its interval, as `bootstrap_interval` takes them.

        `names` are those of the random stream. Where a group is empty the estimate is NaN.
        """
        if min(groups) == 0:
            return NOTHING
        resamples, generator = self.analysis["bootstrap"], self.generator(*names)
        interval = bootstrap_interval(statistic, groups, resamples, self.confidence, generator)
        return statistic(*map(np.arange, groups)), *interval, min(groups)

    def root_mean_square(
        self, mean_square: Callable[..., float], groups: Sequence[int], *names: object
    ) -> Estimate:
        """Return a root mean square free of what sampling adds to it; see `root_mean_square_interval`."""
        resamples, generator = self.analysis["bootstrap"], self.generator(*names)
        value, interval = root_mean_square_interval(mean_square, groups, resamples, self.confidence, generator)
        return value, *interval, min(groups)

    def compare_labels(self, pair: Pair, labels: Labels, truth: np.ndarray, classes: int, *names: object):
        """Compare the predicted labels (R, N) of two points; see `disagreement.compare`."""
        options = {key: self.analysis[key] for key in ("permutations", "bootstrap", "confidence")}
        return compare(*labels, truth, classes, seed=self.stream(*names), paired=paired(*pair), **options)

    def _finding(
        self,
        kind: str,
        statement: str,
        statistic: str,
        estimate: Estimate,
        *roles: str,
        allowed: Range | None = None,
        contains: float | None = None,
        p_value: float = float("nan"),
        null: str = "",
        power_for: float = float("nan"),
        power: float = float("nan"),
    ) -> Finding:
        """Judge an estimate of `statistic`, made from the experiments of some roles.

        Its whole interval has to lie in the range `allowed`, or the interval has to contain the value `contains`;
        without either the p-value decides, against `alpha` and under the null hypothesis `null`, which is what the
        claim says. `null` is otherwise an addition to the words of the range. `power` is the probability with
        which the finding would come out as it should were the statistic `power_for`: a deviation is found, or
        sameness is shown.
        """
        value, low, high, n = estimate
        if allowed is not None:
            verdict, threshold = allowed.judge(low, high), f"{allowed} {null}".strip()
        elif contains is not None:
            verdict, threshold = judge_containing(low, high, contains), f"{contains:.4g} inside {null}".strip()
        else:
            verdict, threshold = judge_p_value(p_value, self.alpha), null
        names = dict.fromkeys(self.experiments[name].name for name in roles)
        return Finding(
            kind, statement, " + ".join(names), statistic, float(value), float(low), float(high), threshold,
            float(p_value), int(n), float(power_for), float(power),
            verdict if kind == CRITERION else OF_CONTROLS[verdict],
        )  # fmt: skip

    criterion = partialmethod(_finding, CRITERION)
    """Return a criterion judged by `allowed`, `contains` or a p-value; see `_finding`."""
    control = partialmethod(_finding, CONTROL)
    """Return a control: it is judged as a criterion is, and has to fail."""


@dataclass(frozen=True)
class ClaimData:
    """The claim as the config asks for it, with the files behind it."""

    spec: ClaimSpec
    folders: Mapping[str, Sequence[Path]] = field(default_factory=dict)  # of the blocks, by the point's name
    datasets: Mapping[str, tuple[Path, Path]] = field(default_factory=dict)  # data file and description, by name
    tables: Mapping[str, Path] = field(default_factory=dict)  # of analyses, by `<table>_<experiment>`
    device: str = "cpu"  # as the config names it
    threads: int = 1

    @staticmethod
    def read(
        plan: str, analysis: Mapping[str, Any], seed: int, files: Sequence[str], device: str, threads: int
    ) -> "ClaimData":
        """Read what the workflow passes: `plan` as `Study.describe_claim` writes it, and the input files."""
        spec = ClaimSpec.read(plan, analysis, seed)
        tables = {Path(file).stem: Path(file) for file in files if file.endswith(".csv")}
        return ClaimData(spec, block_folders(files), dataset_files(files), tables, device, threads)

    def ensemble(self, role: str, point: PlannedPoint) -> Ensemble:
        """Open the ensemble of a role's point, with the replicates of that experiment."""
        return open_ensemble(self.folders[point.name], self.spec.replicates(role), point, self.spec.seed)

    def check_invariance(self) -> None:
        """Refuse networks with trained weights that are in no scale group, where the claim's test needs that."""
        for role in self.spec.experiments if self.spec.needs_invariance else ():
            for point in self.spec.points(role):
                record = self.ensemble(role, point).blocks[0].record
                if others := record.get("invariance", {}).get("others"):
                    raise self.spec.error(
                        role,
                        f"expected a network whose trained weights are all scale-invariant, got {point.model}: "
                        f"{abridged(others)} are not",
                    )

    def history(self, role: str) -> pd.DataFrame:
        """Return the histories of a role's points up to their lengths, headed by the columns that name a point.

        The rates at each step are `lr_now`, `weight_decay_now` and `intrinsic_lr_now`.
        """
        return self._records(role, Ensemble.history)

    def trace(self, role: str) -> pd.DataFrame:
        """Return the traces of a role's points, as `history` does."""
        return self._records(role, Ensemble.trace)

    def _records(self, role: str, read: Callable[[Ensemble], pd.DataFrame]) -> pd.DataFrame:
        now = {rate: f"{rate}_now" for rate in ("lr", "weight_decay", "intrinsic_lr")}
        parts = []
        for point in self.spec.points(role):
            frame = read(self.ensemble(role, point)).rename(columns=now)
            parts.append(with_point(frame[frame["step"] <= point.length].reset_index(drop=True), point))
        return pd.concat(parts, ignore_index=True)

    def table(self, role: str, name: str) -> pd.DataFrame:
        """Return a table that an analysis of a role's experiment made (`tables` in the catalogue)."""
        return read_table(self.tables[f"{name}_{self.spec.experiments[role].name}"])

    def test_labels(self, name: str) -> np.ndarray:
        """Return the true labels (N,) of a data set's test images; imports no torch."""
        return true_labels(*self.datasets[name])[1]

    def dataset(self, name: str, dtype: str = "float32") -> "Dataset":
        """Read a data set onto the device; images are normalized in `dtype`."""
        import torch

        from intrinsic_lr.data.dataset import load
        from intrinsic_lr.models.devices import resolve

        torch.set_num_threads(self.threads)
        return load(*self.datasets[name], resolve(self.device), getattr(torch, dtype))
