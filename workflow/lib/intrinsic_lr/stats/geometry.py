"""Norms and angles of an ensemble's weights, group by group of parameters, in float64."""

import torch
from torch import Tensor


def squared_norms(tensors: dict[str, Tensor], groups: dict[str, tuple[str, ...]]) -> dict[str, Tensor]:
    """Return the squared norm of each group of parameters (R, ...), shape (R,) in float64.

    >>> squared_norms({"w": torch.tensor([[3.0, 4.0], [0.0, 2.0]])}, {"layer": ("w",)})
    {'layer': tensor([25.,  4.], dtype=torch.float64)}
    """
    return {group: sum(_row_norms(tensors[name]).square() for name in names) for group, names in groups.items()}


def angles(
    before: dict[str, Tensor], after: dict[str, Tensor], groups: dict[str, tuple[str, ...]]
) -> dict[str, Tensor]:
    """Return the angle in radians (R,) between two weights, for each group.

    With the difference d = after - before, which floating point gives without error where the two are close, and
    c = <before, d> / |before|^2, it is atan2(|d - c before|, |before| (1 + c)) (derived). That keeps its digits at
    small angles, where the arccosine of the cosine has none left, and makes no copies in float64.

    >>> angles({"w": torch.tensor([[1.0, 0.0]])}, {"w": torch.tensor([[0.0, 2.0]])}, {"layer": ("w",)})
    {'layer': tensor([1.5708], dtype=torch.float64)}
    """
    names = {name for members in groups.values() for name in members}
    starts = {name: _where_float64_is(before[name]).flatten(1) for name in names}
    moves = {name: _where_float64_is(after[name]).flatten(1) - starts[name] for name in names}
    squares = {name: _row_norms(start).square() for name, start in starts.items()}
    along = {name: (starts[name] * moves[name]).sum(dim=1, dtype=torch.float64) for name in names}
    found = {}
    for group, members in groups.items():
        squared = sum(squares[name] for name in members)
        stretch = sum(along[name] for name in members) / squared
        aside = sum(_row_norms(moves[name] - _column(stretch, starts[name])).square() for name in members)
        found[group] = torch.atan2(aside.sqrt(), squared.sqrt() * (1 + stretch))
    return found


def _column(stretch: Tensor, start: Tensor) -> Tensor:
    """Return each member's row of `start` (R, P) times its `stretch` (R,)."""
    return stretch.to(start.dtype).unsqueeze(1) * start


def _row_norms(tensor: Tensor) -> Tensor:
    """Return each member's norm (R,), summed in float64 without a copy of the tensor in float64."""
    return torch.linalg.vector_norm(_where_float64_is(tensor).flatten(1), dim=1, dtype=torch.float64)


def _where_float64_is(tensor: Tensor) -> Tensor:
    return tensor.cpu() if tensor.device.type == "mps" else tensor
