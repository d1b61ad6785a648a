"""Trained ensembles read from disk, joined over their blocks, with checksums verified.

Reading histories and labels imports no torch, which would take longer than many a small job.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from intrinsic_lr.core.block_files import (
    CHECKPOINTS,
    EXTRACT,
    HISTORY,
    PREDICTIONS,
    RUN,
    STATISTICS,
    TRACE,
    step_file,
)
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.records import ExtractRecord, TrainingRecord
from intrinsic_lr.core.rerun import rerun_command
from intrinsic_lr.core.storage import read_json, verify
from intrinsic_lr.study.experiment import PlannedPoint
from intrinsic_lr.study.plan import TrainingPlan

if TYPE_CHECKING:
    from torch import Tensor, nn

    from intrinsic_lr.models.ensemble import EnsembleModel


class Block:
    """One block's folder, with its `run.json`.

    Every reader raises InputError where a file is missing, damaged, or not the one recorded.

    Attributes:
        record: what `run.json` says.
        plan: what was trained.
        replicates: the replicates that the block holds.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.record = read_json(self.folder / RUN, TrainingRecord)
        self.plan = self._read_plan()
        self._check_code()
        self.replicates: range = self.plan.members
        self._verified: set[str] = set()

    def table(self, name: str) -> pd.DataFrame:
        """Return the table in `HISTORY` or `TRACE`."""
        return pd.read_parquet(self._verify(name, self.record, RUN))

    def tensors(self, kind: str, step: int) -> Path:
        """Return the file of `CHECKPOINTS`, `PREDICTIONS` or `STATISTICS` at a step."""
        if step not in self.plan.checkpoints:
            known = ", ".join(map(str, self.plan.checkpoints))
            raise InputError(f"{self.folder}: step must be one of {known}, got {step}")
        source = RUN if kind == CHECKPOINTS else EXTRACT
        return self._verify(step_file(kind, step), self.record if source == RUN else self._extracted, source)

    def weights(self, step: int) -> "dict[str, Tensor]":
        """Return the parameters of the block's replicates at a step, tensors of shape (R, ...)."""
        from safetensors.torch import load_file

        return load_file(self.tensors(CHECKPOINTS, step))

    def build_model(self) -> "EnsembleModel":
        """Return the model that the block's weights belong to.

        Where that is code of the user's own it is run.
        """
        from intrinsic_lr.models.ensemble import build
        from intrinsic_lr.models.invariance import Invariance

        data = self.record["data"]
        found = Invariance.from_dict(self.record["invariance"]) if "invariance" in self.record else None
        return build(self.plan.model, tuple(data["shape"]), data["classes"], found)

    @cached_property
    def _extracted(self) -> dict[str, Any]:
        extracted = read_json(self.folder / EXTRACT, ExtractRecord)
        if extracted["checkpoints"] != checkpoint_sums(self.record):
            raise self._refusal(EXTRACT, f"made from other checkpoints than those of {RUN}")
        return extracted

    def _refusal(self, name: str, why: str) -> InputError:
        file = self.folder / name
        return InputError(f"{file}: {why}; repair with `{rerun_command(file)}`")

    def _verify(self, name: str, record: dict[str, Any], source: str) -> Path:
        """Return the path of a file whose checksum stands in a record; to make the record again repairs it."""
        path = self.folder / name
        if name not in record["sha256"]:
            raise self._refusal(source, f"has no checksum of {name}")
        if name not in self._verified:
            verify(path, record["sha256"][name], rerun_command(self.folder / source))
            self._verified.add(name)
        return path

    def _check_code(self) -> None:
        """Refuse code of the user's that came with the results: those that others handed on run nothing."""
        results = self.folder.absolute().parents[2].resolve()
        for file, _ in self.plan.code:
            if Path(file).resolve().is_relative_to(results):
                raise InputError(f"{self.folder / RUN}: names code among the results, {file}, which is not run")

    def _read_plan(self) -> TrainingPlan:
        """Refuse a record that is no training's, or of another block than the folder's name says."""
        try:
            plan = TrainingPlan.from_json(self.record["plan"])
        except InputError as error:
            raise self._refusal(RUN, f"describes no training of this version ({error})") from None
        (first, end), folder = plan.replicates, self.folder.absolute()
        number = re.fullmatch(r"block_(\d{4})", folder.name)
        if number and (plan.point, first) != (folder.parent.name, int(number[1]) * (end - first)):
            named = f"of the replicates {first} to {end - 1} of {plan.point}, which belong elsewhere"
            raise self._refusal(RUN, named)
        return plan


def checkpoint_sums(record: dict[str, Any]) -> dict[str, str]:
    """Return the SHA-256 of each checkpoint of a training's record, by its path in the block's folder."""
    return {name: value for name, value in record["sha256"].items() if name.startswith(f"{CHECKPOINTS}/")}


class Ensemble:
    """The first `replicates` replicates of one point, joined over its blocks.

    Of histories and traces it gives the rows that `point` has, or all. InputError where replicates are missing, or
    blocks are not of one training of the study's `seed` (None: of any).

    Attributes:
        folder: of the point.
        steps: at which weights were kept.
        classes: number of classes of the data.
    """

    def __init__(
        self,
        blocks: Sequence[Block],
        replicates: int,
        point: PlannedPoint | None = None,
        seed: int | None = None,
    ) -> None:
        self.blocks = sorted(blocks, key=lambda block: block.replicates.start)
        self.replicates = replicates
        self._rows = {HISTORY: point.logged, TRACE: point.traced} if point else {}
        self.folder = self.blocks[0].folder.parent
        self.steps = sorted(set.intersection(*(set(block.plan.checkpoints) for block in self.blocks)))
        self.classes: int = self.blocks[0].record["data"]["classes"]
        found = [replicate for block in self.blocks for replicate in block.replicates]
        if found[:replicates] != list(range(replicates)):
            raise InputError(f"{self.folder}: expected the replicates 0 to {replicates - 1}, got {found}")
        expected = _identity(self.blocks[0]) | ({} if seed is None else {"seed": seed})
        for block in self.blocks:
            for key, value in _identity(block).items():
                if value != expected[key]:
                    file, found = block.folder / RUN, f"{key} {json.dumps(value)}"
                    raise InputError(
                        f"{file}: trained with {found}, expected {json.dumps(expected[key])}; "
                        f"repair with `{rerun_command(file)}`"
                    )

    def model(self) -> "EnsembleModel":
        """Return the ensemble's model."""
        return self.blocks[0].build_model()

    @cached_property
    def scale_groups(self) -> dict[str, tuple[str, ...]]:
        """Parameters that are scale-invariant together, by group."""
        return self.model().scale_groups

    @cached_property
    def measured_groups(self) -> dict[str, tuple[str, ...]]:
        """Groups whose norms, angles and distances are measured: the scale groups, or else all trained weights."""
        return self.model().measured_groups

    def weights(self, step: int) -> "dict[str, Tensor]":
        """Return the parameters at a step, tensors of shape (R, ...)."""
        import torch

        parts = [block.weights(step) for block in self.blocks]
        return {name: torch.cat([part[name] for part in parts])[: self.replicates] for name in parts[0]}

    def history(self) -> pd.DataFrame:
        """Return the histories, one row per replicate and logged step."""
        return self._joined(HISTORY)

    def trace(self) -> pd.DataFrame:
        """Return the traces, one row per replicate and traced step."""
        return self._joined(TRACE)

    def _joined(self, name: str) -> pd.DataFrame:
        frame = pd.concat([block.table(name) for block in self.blocks])
        wanted, rows = frame["replicate"] < self.replicates, self._rows.get(name)
        if rows is not None:
            wanted &= frame["step"].isin(rows)
        return frame[wanted].reset_index(drop=True)

    def predictions(self, step: int) -> dict[str, np.ndarray]:
        """Return `logits` (R, N, K), `labels` (R, N; -1 where not finite) and `losses` (R, N) on the test set."""
        from safetensors.numpy import load_file

        parts = [load_file(block.tensors(PREDICTIONS, step)) for block in self.blocks]
        return {name: np.concatenate([part[name] for part in parts])[: self.replicates] for name in parts[0]}

    def labels(self, step: int) -> np.ndarray:
        """Return the predicted labels on the test set (R, N); -1 where a member is not finite."""
        from safetensors import safe_open

        files = [safe_open(block.tensors(PREDICTIONS, step), framework="np") for block in self.blocks]
        return np.concatenate([file.get_tensor("labels") for file in files])[: self.replicates]

    def locate(self, replicate: int) -> tuple[Block, int]:
        """Return the block that holds a replicate, and the replicate's place in it."""
        if not 0 <= replicate < self.replicates:
            raise InputError(f"{self.folder}: replicate must be from 0 to {self.replicates - 1}, got {replicate}")
        block = next(block for block in self.blocks if replicate in block.replicates)
        return block, replicate - block.replicates.start

    def member(self, step: int, replicate: int) -> "nn.Module":
        """Return one replicate at a checkpoint as an ordinary network in evaluation mode.

        It takes images (B, C, H, W), normalised as the data set's description says, and returns logits (B, K).
        """
        from safetensors.torch import load_file

        block, index = self.locate(replicate)
        network = block.build_model().module()
        tensors = block.weights(step) | load_file(block.tensors(STATISTICS, step))
        network.to(next(iter(tensors.values())).dtype)
        constant = network.state_dict()
        network.load_state_dict({**constant, **{name: value[index] for name, value in tensors.items()}})
        return network.eval()


def _identity(block: Block) -> dict[str, Any]:
    """Return what the blocks of a point have in common: all but how long, how densely and which replicates."""
    own = ("timeline", "checkpoints", "log_every", "trace_every", "also", "replicates")
    plan = {field.name: getattr(block.plan, field.name) for field in fields(block.plan) if field.name not in own}
    return {**plan, "model": block.plan.model.to_string(), "data": block.record["data"]["sha256"]}


def open_ensemble(
    folders: Sequence[Path | str], replicates: int, point: PlannedPoint | None = None, seed: int | None = None
) -> Ensemble:
    """Open the first `replicates` replicates of a point from the folders of its blocks, as `Ensemble` does."""
    return Ensemble([Block(folder) for folder in folders], replicates, point, seed)
