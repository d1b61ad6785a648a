"""Reading trained ensembles: weights, history and predictions, joined over blocks, with checksums verified.

Reading histories and labels imports no torch, which costs seconds that small jobs would be drowned in.
"""

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from safetensors import safe_open

from intrinsic_lr.core.block_files import CHECKPOINTS, EXTRACT, HISTORY, PREDICTIONS, RUN, STATISTICS, TRACE, key
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.rerun import rerun_command
from intrinsic_lr.core.storage import read_json, verify
from intrinsic_lr.study.plan import TrainingPlan

if TYPE_CHECKING:
    from torch import Tensor, nn

    from intrinsic_lr.models.ensemble import EnsembleModel


class Block:
    """One block's folder.

    Args:
        folder: the folder that holds `run.json`.

    Raises:
        InputError: from every reader, when a file is missing, damaged, or not the one recorded.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.record: dict[str, Any] = read_json(self.folder / RUN)
        self.plan = self._read_plan()

    @property
    def replicates(self) -> range:
        """The replicates that the block holds."""
        return self.plan.members

    @cached_property
    def checkpoints(self) -> Path:
        """Path of the verified checkpoint file."""
        return self._verified(CHECKPOINTS, self.record["sha256"])

    @cached_property
    def history(self) -> Path:
        """Path of the verified history."""
        return self._verified(HISTORY, self.record["sha256"])

    @cached_property
    def trace(self) -> Path:
        """Path of the verified trace."""
        return self._verified(TRACE, self.record["sha256"])

    @cached_property
    def predictions(self) -> Path:
        """Path of the verified predictions."""
        return self._verified(PREDICTIONS, self._extracted["sha256"])

    @cached_property
    def statistics(self) -> Path:
        """Path of the verified batch-norm statistics."""
        return self._verified(STATISTICS, self._extracted["sha256"])

    @cached_property
    def _extracted(self) -> dict[str, Any]:
        extracted = read_json(self.folder / EXTRACT)
        if extracted["checkpoints_sha256"] != self.record["sha256"][CHECKPOINTS]:
            raise InputError(
                f"{self.folder / EXTRACT}: made from other checkpoints than those of {RUN}; "
                f"repair with `{rerun_command(self.folder / EXTRACT)}`"
            )
        return extracted

    def _read_plan(self) -> TrainingPlan:
        """Refuse a record that is no training's, or of another block than the folder's name says."""
        file = self.folder / RUN
        try:
            plan, _ = TrainingPlan.from_json(self.record["plan"]), self.record["sha256"]
        except (KeyError, InputError):
            raise InputError(
                f"{file}: describes no training of this version; repair with `{rerun_command(file)}`"
            ) from None
        first, end = plan.replicates
        folder = self.folder.absolute()
        number = re.fullmatch(r"block_(\d{4})", folder.name)
        if number and (plan.point, first) != (folder.parent.name, int(number[1]) * (end - first)):
            raise InputError(
                f"{file}: of the replicates {first} to {end - 1} of {plan.point}, which belong elsewhere; "
                f"repair with `{rerun_command(file)}`"
            )
        return plan

    def _verified(self, name: str, sums: dict[str, str]) -> Path:
        path = self.folder / name
        verify(path, sums[name], rerun_command(path))
        return path

    def weights(self, step: int) -> "dict[str, Tensor]":
        """Return the parameters of the block's replicates at a step, tensors of shape (R, ...)."""
        return _read(self.checkpoints, step, "pt")

    def build_model(self) -> "EnsembleModel":
        """Return the model that the block's weights belong to."""
        from intrinsic_lr.models.ensemble import build

        data = self.record["data"]
        return build(self.plan.model, tuple(data["shape"]), data["classes"])


class Ensemble:
    """The replicates of one point, joined over its blocks.

    Args:
        blocks: the blocks in order of their replicates.
        replicates: how many replicates to read, from the first on.
    """

    def __init__(self, blocks: Sequence[Block], replicates: int) -> None:
        self.blocks = sorted(blocks, key=lambda block: block.replicates.start)
        self.replicates = replicates
        held = [replicate for block in self.blocks for replicate in block.replicates]
        if held[:replicates] != list(range(replicates)):
            raise InputError(
                f"{self.blocks[0].folder.parent}: found the replicates {held}; wanted are 0 to {replicates - 1}"
            )
        if len({block.record["data"]["sha256"] for block in self.blocks}) > 1:
            raise InputError(
                f"{self.blocks[0].folder.parent}: found blocks trained on different data; "
                f"repair with `{rerun_command('train', '--forcerun')}`"
            )

    def model(self) -> "EnsembleModel":
        """Return the ensemble's model."""
        return self.blocks[0].build_model()

    @cached_property
    def scale_groups(self) -> dict[str, tuple[str, ...]]:
        """Parameters that are scale-invariant together, by group."""
        return self.model().scale_groups

    @property
    def classes(self) -> int:
        """Number of classes of the data."""
        return self.blocks[0].record["data"]["classes"]

    @property
    def steps(self) -> list[int]:
        """Steps at which weights were kept."""
        return list(self.blocks[0].plan.checkpoints)

    def weights(self, step: int) -> "dict[str, Tensor]":
        """Return the parameters at a step, tensors of shape (R, ...)."""
        import torch

        parts = [block.weights(step) for block in self.blocks]
        return {name: torch.cat([part[name] for part in parts])[: self.replicates] for name in parts[0]}

    def history(self) -> pd.DataFrame:
        """Return the histories, one row per replicate and logged step."""
        return self._joined([block.history for block in self.blocks])

    def trace(self) -> pd.DataFrame:
        """Return the traces, one row per replicate and traced step."""
        return self._joined([block.trace for block in self.blocks])

    def _joined(self, paths: Sequence[Path]) -> pd.DataFrame:
        frame = pd.concat(map(pd.read_parquet, paths), ignore_index=True)
        return frame[frame["replicate"] < self.replicates].reset_index(drop=True)

    def predictions(self, step: int) -> dict[str, np.ndarray]:
        """Return `logits` (R, N, K), `labels` (R, N; -1 where not finite) and `losses` (R, N) on the test set."""
        parts = [_read(block.predictions, step, "np") for block in self.blocks]
        return {name: np.concatenate([part[name] for part in parts])[: self.replicates] for name in parts[0]}

    def labels(self, step: int) -> np.ndarray:
        """Return the predicted labels on the test set (R, N); -1 where a member is not finite."""
        parts = []
        for block in self.blocks:
            with safe_open(block.predictions, framework="np") as tensors:
                parts.append(tensors.get_tensor(key(step, "labels")))
        return np.concatenate(parts)[: self.replicates]


def open_ensemble(folders: Sequence[Path | str], replicates: int) -> Ensemble:
    """Open the first `replicates` replicates of a point from the folders of its blocks."""
    return Ensemble([Block(folder) for folder in folders], replicates)


def member(folder: Path | str, step: int, replicate: int) -> "nn.Module":
    """Return one member of a block as an ordinary network in evaluation mode.

    Args:
        folder: the block's folder.
        step: one of its checkpoints.
        replicate: the study's number of the replicate.

    Returns:
        A module from images (B, C, H, W), normalised as the data set's description says, to logits (B, K).
        Batch-norm statistics are those that `extract` recomputed on the training set.
    """
    block = Block(folder)
    if replicate not in block.replicates:
        raise InputError(
            f"{folder}: found replicate {replicate}; allowed: {block.replicates.start} to "
            f"{block.replicates.stop - 1}"
        )
    index = replicate - block.replicates.start
    network = block.build_model().module()
    tensors = block.weights(step) | _read(block.statistics, step, "pt")
    network.to(next(iter(tensors.values())).dtype)
    network.load_state_dict({name: value[index] for name, value in tensors.items()})
    return network.eval()


def _read(path: Path, step: int, framework: str) -> dict[str, Any]:
    """Read the tensors of one step."""
    prefix = key(step, "")
    with safe_open(path, framework=framework) as tensors:
        names = [name for name in tensors.keys() if name.startswith(prefix)]  # noqa: SIM118 - not a mapping
        if not names and path.name != STATISTICS:
            steps = sorted({int(name.split("/")[0]) for name in tensors.keys()})  # noqa: SIM118
            raise InputError(f"{path}: found no step {step}; allowed: {', '.join(map(str, steps))}")
        return {name.removeprefix(prefix): tensors.get_tensor(name) for name in names}
