"""Results for a user of the library: verdicts and tables of a study, tensors and modules of what it trained.

The checksum of every file is verified before anything of it is returned.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn

from intrinsic_lr.analyses.averaging import Weights, score
from intrinsic_lr.analyses.tables import read_table
from intrinsic_lr.claims.shared.verdicts import overall
from intrinsic_lr.core import paths
from intrinsic_lr.core.block_files import RUN
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.data.dataset import Dataset, load
from intrinsic_lr.models.ensemble import EnsembleModel
from intrinsic_lr.runs.ensembles import Block, Ensemble
from intrinsic_lr.study.config_types import unknown
from intrinsic_lr.training.evaluation import EvaluationData
from intrinsic_lr.training.state import DTYPES


class Predictions(NamedTuple):
    """Predictions of every replicate on the test set.

    Logits are float32 (R, N, K), labels int64 (R, N) with -1 where logits are not finite, losses float32 (R, N) in
    nats.
    """

    logits: Tensor
    labels: Tensor
    losses: Tensor


class Run:
    """All R replicates of one point, numbered from 0, as `load_run` opens them.

    Attributes:
        record: what `run.json` of the first block says: plan, seeds, versions, device, checksums.
        name: name of the point.
        replicates: number of replicates.
        steps: steps at which weights were kept.
    """

    def __init__(self, ensemble: Ensemble) -> None:
        self._ensemble, block = ensemble, ensemble.blocks[0]
        self.record, self.name = block.record, block.plan.point
        self.replicates, self.steps = ensemble.replicates, ensemble.steps

    def __repr__(self) -> str:
        return f"<Run {self.name}: {self.replicates} replicates, checkpoints at steps {self.steps}>"

    @cached_property
    def model(self) -> EnsembleModel:
        """The network of all replicates at once; its `scale_groups` are the weights that have free norms."""
        return self._ensemble.model()

    @cached_property
    def history(self) -> pd.DataFrame:
        """A row per replicate and logged step; columns as results/README.md describes them."""
        return self._ensemble.history()

    @cached_property
    def trace(self) -> pd.DataFrame:
        """A row per replicate and traced step: denser than the history, without evaluation."""
        return self._ensemble.trace()

    def weights(self, step: int) -> dict[str, Tensor]:
        """Return the parameters at a checkpoint, tensors of shape (R, ...)."""
        return self._ensemble.weights(step)

    def predictions(self, step: int) -> Predictions:
        """Return the predictions at a checkpoint, which the workflow's rule `extract` made."""
        found = {name: torch.from_numpy(value) for name, value in self._ensemble.predictions(step).items()}
        return Predictions(found["logits"], found["labels"].long(), found["losses"])

    def network(self, step: int, replicate: int) -> nn.Module:
        """Return one replicate at a checkpoint as an ordinary module, from normalised images to logits.

        Its batch-norm statistics are those that the workflow's rule `extract` recomputed on the training set.
        """
        return self._ensemble.member(step, replicate)

    def data(self, device: str = "cpu") -> Dataset:
        """Return the data set that the run was trained on, from `data/` beside `runs/`.

        Raises:
            InputError: it is not there, is damaged, or is another one.
        """
        results, described = self._ensemble.blocks[0].folder.absolute().parents[2], self.record["data"]
        folder = results / Path(paths.DATA).parent.name
        files = (folder / f"{described['name']}.{kind}" for kind in ("safetensors", "json"))
        data = load(*files, device, DTYPES[self._ensemble.blocks[0].plan.dtype])
        if data.info["sha256"] != described["sha256"]:
            raise InputError(
                f"{folder / described['name']}.json: expected the data that {self.name} was trained on, sha256 "
                f"{described['sha256']}, got {data.info['sha256']}"
            )
        return data

    def evaluate(self, weights: Weights, device: str = "cpu") -> pd.DataFrame:
        """Return loss and accuracy on the training and the test set of any weights of this network.

        The weights are tensors of shape (R, ...), such as an average of checkpoints; batch-norm statistics are
        recomputed on the training set. One row per member: `train_loss`, `train_accuracy`, `test_loss`,
        `test_accuracy`.
        """
        moved = {name: value.to(device) for name, value in weights.items()}
        return pd.DataFrame(score(self.model, moved, EvaluationData.of(self.data(device))))


def load_run(run: Path | str, results: Path | str = "results") -> Run:
    """Open the trained replicates of a point; what is in the files is read when it is asked for.

    Args:
        run: name of a point below `results/runs`, the folder of a point with its blocks, or that of one block.
        results: the folder that the workflow wrote.

    Raises:
        InputError: when nothing trained is there; and from every reader, when a file is missing or damaged.

    >>> run = load_run("digits-mlp-b32-lr0.1-wd0.01")
    >>> run.predictions(run.steps[-1]).labels.shape == (run.replicates, len(run.data().test_labels))
    True
    """
    runs = Path(results) / "runs"
    for folder in (runs / run, Path(run)):
        if blocks := [Block(path) for path in _folders(folder)]:
            return Run(Ensemble(blocks, sum(len(block.replicates) for block in blocks)))
    known = sorted(path.name for path in runs.glob("*") if _folders(path))
    some = f"{', '.join(known[:3])}{' ...' if known[3:] else ''}" if known else "none"
    raise InputError(
        f"run: must be the folder of a trained point, or the name of one in {runs} ({some}), got {str(run)!r}"
    )


def _folders(folder: Path) -> list[Path]:
    """Return the folders of the finished blocks of a point, or the folder itself where it is a block's."""
    return [path.parent for path in (folder / RUN, *folder.glob(f"block_*/{RUN}")) if path.is_file()]


@dataclass(frozen=True)
class JudgedClaim:
    """A claim as a study judged it.

    Attributes:
        statement: what the claim says.
        verdict: reproduced, not reproduced or inconclusive, from the findings.
        findings: its criteria and its controls, one per row, with estimates, intervals and their own verdicts.
        table: what was measured.
    """

    name: str
    statement: str
    verdict: str
    findings: pd.DataFrame
    table: pd.DataFrame

    def __repr__(self) -> str:
        return f"<JudgedClaim {self.name}: {self.verdict}>"


class StudyResults:
    """What one study made, as `load_study` opens it.

    Attributes:
        folder: the study's own folder.
        tables: names of its tables, of analyses and claims.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._paths = folder, paths.StudyPaths(str(folder))
        self.tables = sorted(path.stem for path in Path(self._paths.table("any")).parent.glob("*.csv"))

    def __repr__(self) -> str:
        return f"<StudyResults {self.folder}: {len(self.claims)} claims, {len(self.tables)} tables>"

    @cached_property
    def claims(self) -> Mapping[str, JudgedClaim]:
        """Its claims by name; none where it judged none."""
        scorecard = Path(self._paths.scorecard)
        statements = read_table(scorecard).set_index("claim")["statement"] if scorecard.exists() else {}
        return {name: self._claim(str(name), statement) for name, statement in statements.items()}

    @cached_property
    def points(self) -> list[str]:
        """Names of the trained points that its tables name."""
        found: set[str] = set()
        for name in self.tables:
            table = self.table(name)
            for column in {"point", "point_a", "point_b"} & set(table):
                found |= set(table[column].dropna())
        return sorted(name for name in found if _folders(self._runs / name))

    @property
    def _runs(self) -> Path:
        """The trainings: studies share those in `results/runs`, in whose folder each has one of its own."""
        inside = self.folder / "runs"
        return inside if inside.is_dir() else self.folder.absolute().parent / "runs"

    def table(self, name: str) -> pd.DataFrame:
        """Return a table by its name, such as `swa_trajectory`.

        Raises:
            InputError: there is none of this name, or its file was altered.
        """
        if name not in self.tables:
            raise InputError(f"{self.folder}: {unknown('table', name, self.tables)}")
        return read_table(self._paths.table(name))

    def run(self, point: str) -> Run:
        """Open the trained replicates of one of its points."""
        return load_run(point, self._runs.parent)

    def _claim(self, name: str, statement: str) -> JudgedClaim:
        findings = read_table(self._paths.findings(name))
        return JudgedClaim(name, statement, overall(findings), findings, self.table(name))


def load_study(folder: Path | str = "results") -> StudyResults:
    """Open the results of a study; a table is read when it is asked for.

    Args:
        folder: `results` for the default study, or `results/<study>` for one with a name of its own.

    Raises:
        InputError: no study has written there; and from every reader, when a file is missing or was altered.

    >>> study = load_study()
    >>> study.run(study.points[0])
    <Run digits-mlp-b32-lr0.1-wd0.01: 4 replicates, checkpoints at steps [0, 4, 8]>
    """
    study = StudyResults(Path(folder))
    if not study.tables:
        raise InputError(f"folder: must be one in which a study wrote tables, got {str(folder)!r}")
    return study


def stacked(networks: Sequence[nn.Module]) -> dict[str, Tensor]:
    """Return the parameters of networks of one architecture as an ensemble's: tensors of shape (R, ...).

    Copies, without a graph. Buffers such as running means are no parameters and are left out.

    >>> networks = [nn.Linear(2, 1) for _ in range(3)]
    >>> {name: tuple(value.shape) for name, value in stacked(networks).items()}
    {'weight': (3, 1, 2), 'bias': (3, 1)}
    """
    named = [dict(network.named_parameters()) for network in networks]
    return {name: torch.stack([parameters[name].detach() for parameters in named]) for name in named[0]}
