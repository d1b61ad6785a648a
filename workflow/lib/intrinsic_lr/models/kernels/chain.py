"""Gradients of a plain chain of products, batch norms and ReLUs by the compiled kernels."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn

from intrinsic_lr.models import kernels
from intrinsic_lr.models.ensemble import EnsembleModel
from intrinsic_lr.models.networks import Norm
from intrinsic_lr.models.normalisation import constant_limit

LINEAR_BYTES, CONVOLUTION_BYTES = 3 << 18, 16 << 20
"""Space of one member up to which the kernels are faster than PyTorch's products. Those of matrices are soon the
faster ones, those of convolutions where a core's cache is exceeded several times over (docs/performance.md)."""

WORK = 3 * 10**9
"""Multiplications in one call of `train`, about a tenth of a second: nothing stops a training within."""


@torch.no_grad()
def gradients(
    model: EnsembleModel, params: Mapping[str, Tensor], images: Tensor, labels: Tensor
) -> tuple[Tensor, dict[str, Tensor]] | None:
    """Return what `models.gradients` does, or None where PyTorch has to compute it; `labels` are (R, B).

    That is where the network is no chain, where there are no kernels, or where they would be slower. A member's
    bits depend neither on the members beside it nor on the number of threads.
    """
    if (loaded := _loaded_for(model, params, images)) is None:
        return None
    shapes, weights = _shapes_of(model), [params[name] for name in model.shapes]
    found = loaded.gradients(shapes, weights, images, labels, *_limits(model, images))
    return found and (found[0], dict(zip(model.trainable, found[1], strict=True)))


@torch.no_grad()
def train(
    model: EnsembleModel,
    params: Mapping[str, Tensor],
    images: Tensor,
    labels: Tensor,
    order: Tensor,
    rates: Sequence[tuple[float, float]],
) -> Tensor | None:
    """Do several steps of SGD in place, with the bits of single ones; return mean losses before each (steps, R).

    Of a data set's images (N, C, H, W) and labels (N,), `order` (R, steps, B) says which ones each member sees.
    `rates` are learning rate and weight decay of each step. None where PyTorch computes it, as for `gradients`.
    """
    if (loaded := _loaded_for(model, params, images)) is None:
        return None
    shapes, weights = _shapes_of(model), [params[name] for name in model.shapes]
    decays = [(lr * weight_decay, lr) for lr, weight_decay in rates]
    return loaded.train(shapes, weights, images, labels, order, decays, *_limits(model, images))


def most_steps(model: EnsembleModel, images: int) -> int:
    """Return how many steps of so many images, of all members together, `train` is to do in one call."""
    work = sum(
        taken * out * kernel**2 * (h // by) * (w // by) for taken, out, kernel, by, h, w in _shapes_of(model)
    )
    return max(1, WORK // (3 * work * images)) if work else 0


def _loaded_for(model: EnsembleModel, params: Mapping[str, Tensor], images: Tensor) -> kernels.Kernels | None:
    """Return the kernels where they compute such a network's gradients."""
    tensors = [*(params[name] for name in model.shapes), images]
    supported = all(map(kernels.is_supported_weight, tensors)) and _shapes_of(model)
    return kernels.load() if supported else None


def _limits(model: EnsembleModel, images: Tensor) -> tuple[float, bool, int]:
    """Return the limit of constants, whether the head is fixed, and the most bytes for a member."""
    most_bytes = LINEAR_BYTES if _shapes_of(model)[0][2] == 1 else CONVOLUTION_BYTES
    return constant_limit(images.dtype), "head.weight" in model.frozen, most_bytes


def describe(network: nn.Module, image_shape: tuple[int, int, int]) -> tuple[kernels.Shape, ...]:
    """Return the products below the head, none where the network is not what the kernels compute.

    A linear layer is a convolution of images of one pixel.
    """
    layers = list(network) if isinstance(network, nn.Sequential) else []
    kinds = [type(layer) for layer in layers]
    norms = [layer for layer in layers if isinstance(layer, Norm)]
    if not all(norm.kind == "batch" and norm.rectify and not norm.affine for norm in norms):
        return ()
    if kinds == [nn.Flatten, *[nn.Linear, Norm] * len(norms), nn.Linear]:
        return tuple((layer.in_features, layer.out_features, 1, 1, 1, 1) for layer in layers[1:-1:2])
    if kinds != [*[nn.Conv2d, Norm] * len(norms), nn.AdaptiveAvgPool2d, nn.Flatten, nn.Linear]:
        return ()
    shapes, (_, height, width) = [], image_shape
    for layer in layers[:-3:2]:
        (kernel, _), (stride, _) = layer.kernel_size, layer.stride
        shapes.append((layer.in_channels, layer.out_channels, kernel, stride, height, width))
        height, width = -(-height // stride), -(-width // stride)
    return tuple(shapes)


@lru_cache(maxsize=8)
def _shapes_of(model: EnsembleModel) -> tuple[kernels.Shape, ...]:
    return describe(model.network, model.image_shape)
