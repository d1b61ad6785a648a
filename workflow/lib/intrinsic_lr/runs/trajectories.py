"""Single replicates along their checkpoints, read from disk in the parts that are asked for; nothing is kept."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import safe_open

from intrinsic_lr.core.block_files import CHECKPOINTS, PREDICTIONS
from intrinsic_lr.runs.ensembles import Ensemble

if TYPE_CHECKING:
    from torch import Tensor

    from intrinsic_lr.stats.distance import Network


class StoredParameter:
    """One replicate's parameter: at place `index` of the slice that `safe_open` gives of a tensor (R, ...)."""

    def __init__(self, stored: Any, index: int) -> None:
        self._stored, self._index = stored, index
        self.shape = tuple(stored.get_shape()[1:])

    def __getitem__(self, rows: slice) -> "Tensor":
        """Read a part of the parameter along its first axis."""
        return self._stored[self._index, rows]


def trajectory(ensemble: Ensemble, replicate: int, steps: Sequence[int]) -> "list[Network]":
    """Return the networks of one replicate at the given steps, in their order, to be read in parts."""
    block, index = ensemble.locate(replicate)
    # The files are mapped into memory, which takes no open file, for as long as the networks are in use.
    files = [safe_open(block.tensors(CHECKPOINTS, step), framework="pt") for step in steps]
    names = list(ensemble.model().shapes)
    return [{name: StoredParameter(file.get_slice(name), index) for name in names} for file in files]


def label_trajectory(ensemble: Ensemble, replicate: int, steps: Sequence[int]) -> np.ndarray:
    """Return the labels that one replicate predicts at the given steps, (T, N); -1 where it is not finite."""
    block, index = ensemble.locate(replicate)
    files = [safe_open(block.tensors(PREDICTIONS, step), framework="np") for step in steps]
    return np.stack([file.get_slice("labels")[index] for file in files])
