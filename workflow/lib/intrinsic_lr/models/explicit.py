"""The gradients of a batch-norm mlp written out, without a graph.

Autograd's bookkeeping costs 0.2 ms a step, as much as the arithmetic of a dozen networks of width 64.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from intrinsic_lr.models.ensemble import EnsembleModel, Mlp
from intrinsic_lr.models.normalisation import normalise_backward, normalise_forward


def applies(model: EnsembleModel) -> bool:
    """Tell whether `gradients` knows a model: an mlp with batch norm and no trained scale and shift."""
    return isinstance(model, Mlp) and model.spec.norm == "batch" and not model.spec.affine


@torch.no_grad()
def gradients(
    model: EnsembleModel, params: Mapping[str, Tensor], images: Tensor, labels: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return each member's mean loss (R,) and the gradients of its trained parameters.

    Args:
        model: one that `applies` accepts.
        params: tensors of shape (R, ...).
        images: (R, B, C, H, W), or (B, C, H, W) shared by all members.
        labels: (R, B).
    """
    x = images.flatten(-3).transpose(-1, -2)
    weights = [params[f"linear{layer}.weight"] for layer in range(1, (model.spec.depth or 0) + 1)]
    tape = []
    for weight in weights:
        inner = torch.matmul(weight, x)
        y, mean, inverse = normalise_forward(inner.flatten(0, 1).unsqueeze(0), rectify=True)
        tape.append((weight, x, inner, y, mean, inverse))
        x = y.view(inner.shape)
    head = params["head.weight"]
    loss, slope = _cross_entropy(torch.bmm(head, x), labels)
    found = {} if "head.weight" in model.frozen else {"head.weight": torch.bmm(slope, x.transpose(1, 2))}
    above = head
    for layer in range(len(tape), 0, -1):
        weight, x, inner, y, mean, inverse = tape[layer - 1]
        slope = torch.bmm(above.transpose(1, 2), slope).flatten(0, 1).unsqueeze(0)
        flat = inner.flatten(0, 1).unsqueeze(0)
        slope = normalise_backward(slope, flat, y, mean, inverse).view(inner.shape)
        found[f"linear{layer}.weight"] = torch.matmul(slope, x.transpose(-1, -2))
        above = weight
    return loss, {name: found[name] for name in model.trainable}


def _cross_entropy(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return each member's mean loss (R,) of logits (R, K, B), and its derivative in them: (p - indicator) / B."""
    chosen = labels.unsqueeze(1)
    log_p = torch.log_softmax(logits, dim=1)
    loss = -log_p.gather(1, chosen).mean(dim=(1, 2))
    slope = log_p.exp_()
    slope.scatter_add_(1, chosen, slope.new_tensor(-1.0).expand(chosen.shape))
    return loss, slope.div_(labels.shape[1])
