"""Scale groups of any network, found: sets of weights whose common factor does not change the loss.

By Euler's theorem weights w_i are scale-invariant together exactly where `sum <w_i, grad_i L> = 0` at all weights
(derived; F1 for all weights at once). Here that is asked at random weights on random images, in float64.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

Forward = Callable[[dict[str, Tensor], Tensor], Tensor]

TOLERANCE = 1e-12
"""Largest `|<w, grad L>|`, relative to the product of norms, that counts as 0. Rounding leaves 1e-16 to 1e-15 of
it; an eps of 1e-5 in every norm leaves 5e-9 and more (ResNet-18)."""
IMAGES = 4
MOST_NUMBERS = 1 << 23
"""Numbers in the weights of all networks that are computed at once."""
PROBES = 2
"""Random losses for single tensors; for what is left there are this many more than tensors."""
LEAST_SPREAD = 1e-2
"""Least standard deviation of the random weights around those that a network begins with."""
WHOLE = 1e-4
"""How far an entry of a reduced null vector may lie from 0 or 1 to be looked at as one."""
JOINT = "joint"
"""Name of a group of several tensors, followed by a number where there are several such groups."""


@dataclass(frozen=True)
class Invariance:
    """What is scale-invariant of a network's trained parameters, each of which is in exactly one place.

    Attributes:
        groups: for each group, the parameters that are scale-invariant together.
        without_effect: parameters that the loss does not depend on, such as a bias in front of a batch norm.
        others: parameters that are in no scale group.
    """

    groups: dict[str, tuple[str, ...]]
    without_effect: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the same as plain data, which `from_dict` reads."""
        return asdict(self)

    @staticmethod
    def from_dict(known: Mapping[str, Any]) -> "Invariance":
        """Read what `to_dict` wrote, also after JSON made its tuples lists."""
        groups = {group: tuple(names) for group, names in known["groups"].items()}
        return Invariance(groups, tuple(known["without_effect"]), tuple(known["others"]))


def find_invariance(
    forward: Forward, weights: Mapping[str, Tensor], trained: Sequence[str], image_shape: tuple[int, int, int]
) -> Invariance:
    """Find the scale groups of a network under the statistics of its batches.

    Single tensors are tested first, and what is left jointly: a set of tensors is a group where the indicator of
    the set lies in the null space of the matrix of all `<w_i, grad_i L>`, a row for each random loss.

    Args:
        forward: from parameters (R, ...) and images (R, B, C, H, W) to logits (R, B, K).
        weights: the parameters that a network begins with, in float64.
        trained: names of those that are trained, in the order of the groups.
        image_shape: shape of one image.
    """
    probe = _Probe(forward, weights, trained, image_shape)
    inner, sizes = probe.rows(PROBES)
    largest = sizes.max(dim=1, keepdim=True).values
    idle = (sizes <= TOLERANCE * largest).all(dim=0)
    single = (inner.abs() <= TOLERANCE * sizes).all(dim=0) & ~idle
    left = (~idle & ~single).nonzero().squeeze(1)
    joint: list[list[int]] = []
    if len(left) > 1:
        more = probe.rows(len(left) + PROBES)
        inner, sizes = (values[:, left] for values in more)
        joint = [left[group].tolist() for group in _joint_groups(inner, sizes)]
    groups: dict[str, tuple[str, ...]] = {}
    for place, name in enumerate(probe.names):
        if single[place]:
            groups[name.removesuffix(".weight")] = (name,)
    for number, group in enumerate(joint, start=1):
        groups[JOINT if len(joint) == 1 else f"{JOINT}{number}"] = tuple(probe.names[place] for place in group)
    grouped = {name for names in groups.values() for name in names}
    unused = tuple(name for name, without in zip(probe.names, idle.tolist(), strict=True) if without)
    others = tuple(name for name in probe.names if name not in grouped and name not in unused)
    return Invariance(groups, unused, others)


class _Probe:
    """Random losses at random weights, one of each of several networks, which are computed at once."""

    def __init__(
        self,
        forward: Forward,
        weights: Mapping[str, Tensor],
        trained: Sequence[str],
        image_shape: tuple[int, int, int],
    ) -> None:
        self.names, self._forward, self._centres, self._shape = trained, forward, weights, image_shape
        self._generator = torch.Generator().manual_seed(0)
        self._most = max(1, MOST_NUMBERS // sum(value.numel() for value in weights.values()))

    def rows(self, count: int) -> tuple[Tensor, Tensor]:
        """Return `<w_i, grad_i L>` and `|w_i| |grad_i L|` of that many losses, each (count, N)."""
        found = [self._rows(min(self._most, count - start)) for start in range(0, count, self._most)]
        return torch.cat([inner for inner, _ in found]), torch.cat([size for _, size in found])

    def _rows(self, count: int) -> tuple[Tensor, Tensor]:
        params = {name: centre.expand(count, *centre.shape) for name, centre in self._centres.items()}
        for name in self.names:
            # Some weights begin at 0, as shifts do.
            spread = max(float(self._centres[name].square().mean().sqrt()), LEAST_SPREAD)
            params[name] = (params[name] + spread * self._draw(params[name].shape)).requires_grad_()
        logits = self._forward(params, self._draw((count, IMAGES, *self._shape)))
        loss = (logits * self._draw(logits.shape)).sum()
        weights = [params[name] for name in self.names]
        gradients = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)
        inner, sizes = [], []
        for weight, grad in zip(weights, gradients, strict=True):
            weight, grad = weight.detach().flatten(1), grad.flatten(1)
            inner.append((weight * grad).sum(dim=1))
            sizes.append(weight.norm(dim=1) * grad.norm(dim=1))
        return torch.stack(inner, dim=1), torch.stack(sizes, dim=1)

    def _draw(self, shape: Sequence[int]) -> Tensor:
        return torch.randn(shape, generator=self._generator).double()


def _joint_groups(inner: Tensor, sizes: Tensor) -> list[list[int]]:
    """Return the sets of columns whose sum vanishes in every row.

    The reduced row echelon form of a null space that disjoint sets span consists of their indicators. Other
    symmetries, such as that of a product of two matrices, give rows of other entries.
    """
    rows = inner / sizes.max(dim=1, keepdim=True).values
    _, singular, right = torch.linalg.svd(rows, full_matrices=False)
    null = right[singular <= TOLERANCE * singular[0]]
    found = []
    for vector in _row_echelon(null):
        members = ((vector - 1).abs() < WHOLE).nonzero().squeeze(1)
        is_indicator = bool(((vector.abs() < WHOLE) | ((vector - 1).abs() < WHOLE)).all())
        if not is_indicator or not len(members):
            continue
        total, size = inner[:, members].sum(dim=1).abs(), sizes[:, members].square().sum(dim=1).sqrt()
        if bool((total <= TOLERANCE * size).all()):
            found.append(members.tolist())
    return found


def _row_echelon(rows: Tensor) -> Tensor:
    """Return the reduced row echelon form of a matrix of full row rank."""
    rows, place = rows.clone(), 0
    for column in range(rows.shape[1]):
        if place == len(rows):
            break
        best = place + int(rows[place:, column].abs().argmax())
        if rows[best, column].abs() < WHOLE:
            continue
        rows[[place, best]] = rows[[best, place]]
        rows[place] /= rows[place, column].clone()
        others = [row for row in range(len(rows)) if row != place]
        rows[others] -= rows[others, column, None] * rows[place]
        place += 1
    return rows
