"""Norms and angles of an ensemble's weights, group by group of parameters, in float64."""

from collections.abc import Sequence

import torch
from torch import Tensor

from intrinsic_lr.devices import in_float64

CPU_WEIGHTS = 1 << 16
"""Weights whose angle a CPU takes at once: temporaries that stay in its cache take a third of the time."""


def squared_norms(tensors: dict[str, Tensor], groups: dict[str, tuple[str, ...]]) -> dict[str, Tensor]:
    """Return the squared norm of each group of parameters, (R,) in float64."""
    return {group: sum(_row_norms(tensors[name]).square() for name in names) for group, names in groups.items()}


def _row_norms(tensor: Tensor) -> Tensor:
    """Return each member's norm (R,), summed in float64 without a copy of the tensor in float64."""
    tensor = tensor.cpu() if tensor.device.type == "mps" else tensor
    return torch.linalg.vector_norm(tensor.flatten(1), dim=1, dtype=torch.float64)


def angles(
    before: dict[str, Tensor], after: dict[str, Tensor], groups: dict[str, tuple[str, ...]]
) -> dict[str, Tensor]:
    """Return the angle in radians (R,) between two weights, for each group."""
    return {
        group: _angle([before[name] for name in names], [after[name] for name in names])
        for group, names in groups.items()
    }


def _angle(before: Sequence[Tensor], after: Sequence[Tensor]) -> Tensor:
    """Return each member's angle (R,) between the vectors that the tensors (R, ...) make together.

    2 atan2(|u - v|, |u + v|) of the unit vectors u and v keeps its digits at small angles, where the
    arccosine of their product has none left (Kahan 2006).
    """

    def units(tensors: Sequence[Tensor], members: slice) -> Tensor:
        vector = torch.cat([in_float64(tensor[members]).flatten(1) for tensor in tensors], dim=1)
        return vector / vector.norm(dim=1, keepdim=True)

    count, weights = len(before[0]), sum(tensor[0].numel() for tensor in before)
    size = max(1, CPU_WEIGHTS // weights) if before[0].device.type == "cpu" else count
    found = []
    for start in range(0, count, size):
        u, v = (units(tensors, slice(start, start + size)) for tensors in (before, after))
        found.append(2 * torch.atan2((u - v).norm(dim=1), (u + v).norm(dim=1)))
    return torch.cat(found)
