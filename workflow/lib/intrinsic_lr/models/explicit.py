"""The gradients of plain chains of products, batch norms and ReLUs written out, without a graph.

Autograd's bookkeeping costs 0.2 ms a step, as much as the arithmetic of a dozen networks of width 64. `compiled`
takes members one after the other in kernels of its own, `gradients` layer by layer in PyTorch's operations.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from intrinsic_lr.models import kernels
from intrinsic_lr.models.ensemble import Cnn4, EnsembleModel, Mlp
from intrinsic_lr.models.normalisation import constant_limit, normalize_backward, normalize_forward

MOST_BYTES = {"mlp": 3 << 18, "cnn4": 16 << 20}
"""Space of one member up to which `compiled` is faster. Beyond, PyTorch's products have the better of it: those of
matrices soon, those of convolutions where a core's cache is exceeded several times over (docs/performance.md)."""


def applies(model: EnsembleModel) -> bool:
    """Tell whether `gradients` knows a model: an mlp or cnn4 with batch norm and no trained scale and shift."""
    return isinstance(model, Mlp | Cnn4) and model.spec.norm == "batch" and not model.spec.affine


@torch.no_grad()
def compiled(
    model: EnsembleModel, params: Mapping[str, Tensor], images: Tensor, labels: Tensor
) -> tuple[Tensor, dict[str, Tensor]] | None:
    """Return what `gradients` does, by compiled kernels, or None where there are none or they would be slower.

    A member's bits depend neither on the members beside it nor on the number of threads.
    """
    weights = [params[name] for name in model.shapes]
    loaded = kernels.load() if all(map(kernels.is_supported_weight, [*weights, images])) else None
    shapes = [product.shape for product in _chain(model)]
    if not loaded:
        return None
    bytes_each = loaded.space(shapes, labels.shape[1], model.classes)
    if bytes_each > MOST_BYTES[model.spec.kind]:
        return None
    fixed = "head.weight" in model.frozen
    loss, found = loaded.gradients(
        shapes, weights, images, labels, constant_limit(images.dtype), fixed, bytes_each
    )
    return loss, dict(zip(model.trainable, found, strict=True))


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
    chain = _chain(model)
    x = model.arrange(images)
    tape = []
    for product in chain:
        inner = product.forward(params[product.name], x)
        channels = product.by_channel(inner)
        y, mean, inverse = normalize_forward(channels, rectify=True)
        tape.append((product, x, channels, y, mean, inverse))
        x = y.view(inner.shape) if y.is_contiguous() else y
    features = x if isinstance(model, Mlp) else model.pool(x, model.shapes["head.weight"][1])
    head = params["head.weight"]
    loss, grad_output = _cross_entropy(torch.bmm(head, features), labels)
    found = (
        {} if "head.weight" in model.frozen else {"head.weight": torch.bmm(grad_output, features.transpose(1, 2))}
    )
    grad_output = torch.bmm(head.transpose(1, 2), grad_output)
    if not isinstance(model, Mlp):
        grad_output = _unpooled(grad_output, x)
    for product, below, channels, y, mean, inverse in reversed(tape):
        grad_output = normalize_backward(product.by_channel(grad_output), channels, y, mean, inverse)
        first = product is chain[0]
        grad_output, found[product.name] = product.backward(grad_output, params[product.name], below, not first)
    return loss, {name: found[name] for name in model.trainable}


@dataclass(frozen=True)
class _Linear:
    """The product W x of weights (R, out, in) and activations (R, in, B), or (in, B) shared by all members."""

    name: str
    shape: kernels.Shape

    def forward(self, weight: Tensor, x: Tensor) -> Tensor:
        return torch.matmul(weight, x)

    @staticmethod
    def by_channel(x: Tensor) -> Tensor:
        """Return (R, C, B) as (1, R * C, B), which batch norm takes."""
        return x.flatten(0, 1).unsqueeze(0)

    @staticmethod
    def backward(grad_output: Tensor, weight: Tensor, x: Tensor, downwards: bool) -> tuple[Tensor, Tensor]:
        """Return the derivatives in x, if wanted, and in the weights, given the one in the result by channel."""
        grad_output = grad_output.view(*weight.shape[:2], -1)
        below = torch.bmm(weight.transpose(1, 2), grad_output) if downwards else grad_output
        return below, torch.matmul(grad_output, x.transpose(-1, -2))


@dataclass(frozen=True)
class _Convolution:
    """The grouped convolution of activations (B, R * C, H, W) by weights (R, out, C, 3, 3)."""

    name: str
    shape: kernels.Shape

    @property
    def stride(self) -> int:
        """Step between the places of the result."""
        return self.shape[3]

    def forward(self, weight: Tensor, x: Tensor) -> Tensor:
        return F.conv2d(
            x, weight.flatten(0, 1), stride=self.stride, padding=1, groups=x.shape[1] // weight.shape[2]
        )

    @staticmethod
    def by_channel(x: Tensor) -> Tensor:
        return x

    def backward(self, grad_output: Tensor, weight: Tensor, x: Tensor, downwards: bool) -> tuple[Tensor, Tensor]:
        """Return the derivatives in x, if wanted, and in the weights, given the one in the result."""
        below, found, _ = torch.ops.aten.convolution_backward(
            grad_output,
            x,
            weight.flatten(0, 1),
            None,
            [self.stride] * 2,
            [1, 1],
            [1, 1],
            False,
            [0, 0],
            x.shape[1] // weight.shape[2],
            [downwards, True, False],
        )
        return below, found.unflatten(0, weight.shape[:2])


def _chain(model: EnsembleModel) -> list[_Linear] | list[_Convolution]:
    """Return the layers below the head in forward order; a linear one is a convolution of images of one pixel."""
    names = [name for name in model.shapes if name != "head.weight"]
    if isinstance(model, Mlp):
        sizes = [model.shapes[name] for name in names]
        return [_Linear(name, (fan_in, out, 1, 1, 1, 1)) for name, (out, fan_in) in zip(names, sizes, strict=True)]
    chain, (_, height, width) = [], model.image_shape
    for name, stride in zip(names, model.STRIDES, strict=True):
        out, channels, kernel, _ = model.shapes[name]
        chain.append(_Convolution(name, (channels, out, kernel, stride, height, width)))
        height, width = -(-height // stride), -(-width // stride)
    return chain


def _unpooled(grad_output: Tensor, x: Tensor) -> Tensor:
    """Return the derivative in activations `x` (B, R * C, H, W), given the one in their means (R, C, B)."""
    of_mean = grad_output.permute(2, 0, 1).flatten(1)[:, :, None, None] / (x.shape[2] * x.shape[3])
    return of_mean.expand_as(x).contiguous(memory_format=torch.channels_last)


def _cross_entropy(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return each member's mean loss (R,) of logits (R, K, B), and its derivative in them: (p - indicator) / B."""
    chosen = labels.unsqueeze(1)
    log_p = torch.log_softmax(logits, dim=1)
    loss = -log_p.gather(1, chosen).mean(dim=(1, 2))
    grad_output = log_p.exp_()
    grad_output.scatter_add_(1, chosen, grad_output.new_tensor(-1.0).expand(chosen.shape))
    return loss, grad_output.div_(labels.shape[1])
