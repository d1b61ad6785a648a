"""Loss and gradients of an ensemble on one batch."""

import sys

import torch
import torch.nn.functional as F
from torch import Tensor

from intrinsic_lr.models.devices import MemberLimit, is_traced
from intrinsic_lr.models.ensemble import EnsembleModel
from intrinsic_lr.models.kernels import chain
from intrinsic_lr.models.normalisation import BatchStatistics
from intrinsic_lr.models.precision import products_in


def gradients(
    model: EnsembleModel,
    params: dict[str, Tensor],
    images: Tensor,
    labels: Tensor,
    precision: str = "float32",
    limit: MemberLimit | None = None,
    label_smoothing: float = 0.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return each member's mean loss (R,) and its gradients, under the batch's own statistics.

    The loss differentiated is the sum over members, whose gradients are therefore independent. At most `limit`
    members are computed at once.

    Args:
        model: the network.
        params: tensors of shape (R, ...).
        images: (R, B, C, H, W), or (B, C, H, W) shared by all members.
        labels: (R, B), or (B,) shared by all members.
        precision: of the products, `float32`, `tf32` or `bfloat16`.
        limit: most members at once, halved where the memory does not suffice.
        label_smoothing: share of the target that is spread evenly over all classes.
    """
    members = len(next(iter(params.values())))
    labels = labels.expand(members, -1)
    plain = precision != "bfloat16" and label_smoothing == 0
    if plain and (compiled := chain.gradients(model, params, images, labels)):
        return compiled

    def of_part(part: slice) -> tuple[Tensor, dict[str, Tensor]]:
        held = {name: value[part] for name, value in params.items()}
        shown = images if images.dim() == 4 else images[part]
        return _autograd(model, held, shown, labels[part], label_smoothing)

    with products_in(precision, images.device):
        parts = (limit or MemberLimit()).map(of_part, members, _members_at_once(model, images))
    if len(parts) == 1:
        return parts[0]
    losses, found = zip(*parts, strict=True)
    return torch.cat(losses), {name: torch.cat([part[name] for part in found]) for name in found[0]}


CPU_BYTES = 4 << 20
"""Bytes of the largest activations of the members that a CPU takes at once: they are to stay in its cache."""


def _members_at_once(model: EnsembleModel, images: Tensor) -> int:
    """Return how many members a CPU is to take at once, two at least; elsewhere, and compiled, all are."""
    if images.device.type != "cpu" or is_traced(images):
        return sys.maxsize
    return max(2, CPU_BYTES // (model.activations * images.shape[-4] * images.element_size()))


def _autograd(
    model: EnsembleModel, params: dict[str, Tensor], images: Tensor, labels: Tensor, label_smoothing: float
) -> tuple[Tensor, dict[str, Tensor]]:
    names = model.trainable
    leaves = {name: value.requires_grad_(name in names) for name, value in params.items()}
    logits = model.forward(leaves, images, BatchStatistics())
    logits = logits.transpose(1, 2)
    loss = F.cross_entropy(logits, labels, reduction="none", label_smoothing=label_smoothing).mean(dim=1)
    found = torch.autograd.grad(loss.sum(), [leaves[name] for name in names])
    for value in params.values():
        value.requires_grad_(False)
    return loss.detach(), dict(zip(names, found, strict=True))
