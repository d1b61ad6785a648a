"""What a claim's test is given: its settings and thresholds, and the files of its experiments."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from intrinsic_lr.analyses.tables import block_folders, with_point
from intrinsic_lr.claims.shared.verdicts import (
    CONTROL,
    CRITERION,
    Finding,
    Range,
    by_containing,
    by_p_value,
    by_range,
)
from intrinsic_lr.core.seeding import stream_seed
from intrinsic_lr.data.prepared import true_labels
from intrinsic_lr.runs.ensembles import Ensemble, open_ensemble
from intrinsic_lr.study.experiment import Experiment, PlannedPoint

if TYPE_CHECKING:
    from intrinsic_lr.data.dataset import Dataset

Interval = tuple[float, float]


@dataclass(frozen=True)
class ClaimSpec:
    """A claim as the config asks it.

    Attributes:
        name: the claim's short id.
        statement: what is claimed.
        source: where from.
        experiments: for each role its experiment.
        thresholds: the numbers that decide.
        settings: other numbers and names that the test takes.
        analysis: the config's `analysis`: `confidence`, `permutations`, `bootstrap`, ...
        seed: the study's seed.
    """

    name: str
    statement: str = ""
    source: str = ""
    experiments: Mapping[str, Experiment] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    analysis: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0

    @property
    def confidence(self) -> float:
        """Coverage of every interval."""
        return self.analysis["confidence"]

    @property
    def alpha(self) -> float:
        """Level of every test, one less the confidence."""
        return 1 - self.confidence

    @staticmethod
    def read(plan: str, analysis: Mapping[str, Any], seed: int) -> "ClaimSpec":
        """Read what the workflow passes: `plan` as `Study.describe_claim` writes it."""
        known = json.loads(plan)
        experiments = {role: Experiment.from_json(text) for role, text in known.pop("experiments").items()}
        return ClaimSpec(**known, experiments=experiments, analysis=analysis, seed=seed)

    def points(self, role: str) -> Sequence[PlannedPoint]:
        """Return the points of a role's experiment."""
        return self.experiments[role]["points"]

    def generator(self, *names: object) -> np.random.Generator:
        """Return the generator of a random stream of this claim."""
        return np.random.default_rng(stream_seed(self.seed, "claim", self.name, *names))

    def criterion(
        self, statement: str, statistic: str, estimate: float, interval: Interval | None, **rest
    ) -> Finding:
        """Return a criterion judged by `allowed`, `contains` or a p-value; see `_finding`."""
        return self._finding(CRITERION, statement, statistic, estimate, interval, **rest)

    def control(
        self, statement: str, statistic: str, estimate: float, interval: Interval | None, **rest
    ) -> Finding:
        """Return a control, judged as a criterion is: it has to fail."""
        return self._finding(CONTROL, statement, statistic, estimate, interval, **rest)

    def _finding(
        self,
        role: str,
        statement: str,
        statistic: str,
        estimate: float,
        interval: Interval | None,
        *,
        n: int,
        roles: Sequence[str] = (),
        allowed: Range | None = None,
        contains: float | None = None,
        p_value: float = float("nan"),
        null: str = "",
    ) -> Finding:
        """Judge an estimate.

        Args:
            role: criterion or control.
            statement: what is tested, in words.
            statistic: what the estimate is.
            estimate: the number.
            interval: its interval; None where nothing is random, so that it is the estimate itself.
            n: replicates behind it.
            roles: the roles of the experiments behind it.
            allowed: the range that the whole interval has to lie in.
            contains: the value that the interval has to contain, where there is no such range.
            p_value: of a test, if there is one. It decides where neither of the two is given, against `alpha` and
                under the null hypothesis `null`, which is what the claim says.
            null: the null hypothesis in words; otherwise an addition to the range.
        """
        low, high = interval or (estimate, estimate)
        if allowed is not None:
            verdict, threshold = by_range(low, high, allowed, role), f"{allowed} {null}".strip()
        elif contains is not None:
            verdict, threshold = by_containing(low, high, contains, role), f"{contains:.4g} inside {null}".strip()
        else:
            verdict, threshold = by_p_value(p_value, self.alpha, role), null
        names = dict.fromkeys(self.experiments[name]["experiment"] for name in roles)
        return Finding(
            role, statement, " + ".join(names), statistic, float(estimate), float(low), float(high), threshold,
            float(p_value), int(n), verdict,
        )  # fmt: skip


@dataclass(frozen=True)
class ClaimData:
    """The claim as the config asks it, with the files behind it.

    Attributes:
        spec: the claim as the config asks it.
        folders: for each point's name the folders of its blocks.
        datasets: for each data set's name its data file and description.
        tables: for each name of an analysis' table, `<table>_<experiment>`, its file.
        device: device for what is computed anew, as the config names it.
        threads: CPU threads.
    """

    spec: ClaimSpec
    folders: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    datasets: Mapping[str, tuple[Path, Path]] = field(default_factory=dict)
    tables: Mapping[str, Path] = field(default_factory=dict)
    device: str = "cpu"
    threads: int = 1

    @staticmethod
    def read(
        plan: str, analysis: Mapping[str, Any], seed: int, files: Sequence[str], device: str, threads: int
    ) -> "ClaimData":
        """Read what the workflow passes: `plan` as `Study.describe_claim` writes it, and the input files."""
        spec = ClaimSpec.read(plan, analysis, seed)
        infos = [Path(file) for file in files if file.endswith(".json") and Path(file).parent.name == "data"]
        datasets = {info.stem: (info.with_suffix(".safetensors"), info) for info in infos}
        tables = {Path(file).stem: Path(file) for file in files if file.endswith(".csv")}
        return ClaimData(spec, block_folders(files), datasets, tables, device, threads)

    def ensemble(self, role: str, point: PlannedPoint) -> Ensemble:
        """Open the ensemble of a role's point, with the replicates of that experiment."""
        return open_ensemble(self.folders[point["name"]], self.spec.experiments[role]["replicates"])

    def history(self, role: str) -> pd.DataFrame:
        """Return the histories of a role's points up to their lengths, headed by the columns that name a point.

        The rates at each step are `lr_now`, `weight_decay_now` and `intrinsic_lr_now`.
        """
        return self._records(role, "history")

    def trace(self, role: str) -> pd.DataFrame:
        """Return the traces of a role's points, as `history` does."""
        return self._records(role, "trace")

    def table(self, role: str, name: str) -> pd.DataFrame:
        """Return a table that an analysis of a role's experiment made (`tables` in the catalogue)."""
        return pd.read_csv(self.tables[f"{name}_{self.spec.experiments[role]['experiment']}"])

    def _records(self, role: str, kind: str) -> pd.DataFrame:
        parts = []
        for point in self.spec.points(role):
            frame = getattr(self.ensemble(role, point), kind)()
            frame = frame[frame["step"] <= point["length"]].reset_index(drop=True)
            now = {rate: f"{rate}_now" for rate in ("lr", "weight_decay", "intrinsic_lr")}
            frame = with_point(frame.rename(columns=now), point)
            parts.append(frame)
        return pd.concat(parts, ignore_index=True)

    def test_labels(self, name: str) -> np.ndarray:
        """Return the true labels (N,) of a data set's test images; imports no torch."""
        return true_labels(*self.datasets[name])[1]

    def dataset(self, name: str, dtype: str = "float32") -> "Dataset":
        """Read a data set onto the device; images normalise to `dtype`."""
        import torch

        from intrinsic_lr.data.dataset import load
        from intrinsic_lr.models.devices import resolve

        torch.set_num_threads(self.threads)
        return load(*self.datasets[name], resolve(self.device), getattr(torch, dtype))
