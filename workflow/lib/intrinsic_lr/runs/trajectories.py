"""Single replicates along their checkpoints, read from disk in the parts that are asked for.

`runs` reads all replicates at one step; here it is one replicate at all steps. Nothing is kept: an analysis of any
number of checkpoints and replicates needs the memory of the part in hand.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import safe_open

from intrinsic_lr.core.block_files import key
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.runs.ensembles import Block, Ensemble

if TYPE_CHECKING:
    from torch import Tensor

    from intrinsic_lr.stats.distance import Network


class StoredParameter:
    """One replicate's parameter in an open file of checkpoints.

    Args:
        stored: the slice of all replicates' tensor (R, ...) that `safe_open` gives.
        index: the replicate's place in it.
    """

    def __init__(self, stored: Any, index: int) -> None:
        self._stored, self._index = stored, index
        self.shape = tuple(stored.get_shape()[1:])

    def __getitem__(self, rows: slice) -> "Tensor":
        """Read a part of the parameter along its first axis."""
        return self._stored[self._index, rows]


@contextmanager
def trajectory(ensemble: Ensemble, replicate: int, steps: Sequence[int]) -> "Iterator[list[Network]]":
    """Open the networks of one replicate at the given steps, in their order; they are readable within the block.

    Raises:
        InputError: a step was not kept, or the file is damaged.
    """
    block, index = _held(ensemble, replicate, steps)
    names = list(ensemble.model().shapes)
    with safe_open(block.checkpoints, framework="pt") as tensors:
        yield [
            {name: StoredParameter(tensors.get_slice(key(step, name)), index) for name in names} for step in steps
        ]


def trajectories(ensemble: Ensemble, steps: Sequence[int]) -> "Iterator[list[Network]]":
    """Yield the networks of each replicate as `trajectory` opens them, readable until the next is asked for."""
    for replicate in range(ensemble.replicates):
        with trajectory(ensemble, replicate, steps) as networks:
            yield networks


def label_trajectory(ensemble: Ensemble, replicate: int, steps: Sequence[int]) -> np.ndarray:
    """Return the labels that one replicate predicts at the given steps, (T, N); -1 where it is not finite.

    Raises:
        InputError: a step was not kept, or the file is damaged.
    """
    block, index = _held(ensemble, replicate, steps)
    with safe_open(block.predictions, framework="np") as tensors:
        return np.stack([tensors.get_slice(key(step, "labels"))[index] for step in steps])


def _held(ensemble: Ensemble, replicate: int, steps: Sequence[int]) -> tuple[Block, int]:
    """Return the block that holds a replicate, and the replicate's place in it."""
    block = next(block for block in ensemble.blocks if replicate in block.replicates)
    kept = block.plan.checkpoints
    for step in steps:
        if step not in kept:
            raise InputError(f"{block.folder}: found no step {step}; allowed: {', '.join(map(str, kept))}")
    return block, replicate - block.replicates.start
