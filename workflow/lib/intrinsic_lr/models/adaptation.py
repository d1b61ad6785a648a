"""A network made scale-invariant where it can be: norms exact, biases in front of them gone, the head fixed.

What a network is made of is seen by running it once: which layers it calls, in which order, and what they hand on.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from intrinsic_lr.core.errors import abridged
from intrinsic_lr.models.networks import ImageShape, Norm
from intrinsic_lr.models.normalisation import standardize

SMALL_IMAGE = 64
"""Pixels a side up to which the first convolution goes over every pixel."""
IMAGES = 4

Products = nn.Conv2d | nn.Linear
Pools = nn.MaxPool2d | nn.AvgPool2d
Norms = nn.modules.batchnorm._BatchNorm | nn.modules.instancenorm._InstanceNorm | nn.GroupNorm | nn.LayerNorm


@dataclass
class Adaptation:
    """What was changed.

    Attributes:
        notes: a line for each kind of change.
        redrawn: names of weights that are not drawn by the factory's own rule any more.
    """

    notes: list[str] = field(default_factory=list)
    redrawn: set[str] = field(default_factory=set)


class LayerNorm(nn.Module):
    """Layer norm over some axes with eps = 0, without scale and shift."""

    def __init__(self, dims: tuple[int, ...]) -> None:
        super().__init__()
        self.dims = dims

    def forward(self, x: Tensor) -> Tensor:
        """Normalise activations."""
        return standardize(x, self.dims)


def adapt(network: nn.Module, image_shape: ImageShape) -> Adaptation:
    """Make a network for images of a shape as scale-invariant as it can be, in place.

    Raises:
        Exception: whatever the network raises on such images after its stem was adapted.
    """
    done = Adaptation()
    _adapt_stem(network, image_shape, done)
    calls = _calls(network, image_shape)
    _remove_biases(calls, done)
    _fix_head(calls, done)
    _make_exact(network, done)
    return done


@dataclass
class _Call:
    """One call of a layer: its name, what it was given and what it returned, None where it failed."""

    name: str
    layer: nn.Module
    given: object
    returned: object = None


def _calls(network: nn.Module, image_shape: ImageShape) -> list[_Call]:
    """Run a network on images of noise and return the calls of its layers, in their order."""
    calls, error = _try(network, image_shape)
    if error:
        raise error
    return calls


@torch.no_grad()
def _try(network: nn.Module, image_shape: ImageShape) -> tuple[list[_Call], Exception | None]:
    calls: list[_Call] = []
    hooks = []
    for name, layer in network.named_modules():
        if list(layer.children()):
            continue

        def before(layer: nn.Module, given: tuple[object, ...], name: str = name) -> None:
            calls.append(_Call(name, layer, given[0] if given else None))

        def after(layer: nn.Module, _: object, returned: object) -> None:
            next(call for call in reversed(calls) if call.layer is layer).returned = returned

        hooks += [layer.register_forward_pre_hook(before), layer.register_forward_hook(after)]
    images = torch.randn(IMAGES, *image_shape, generator=torch.Generator().manual_seed(0))
    try:
        network.train()(images)
    except Exception as error:
        return calls, error
    finally:
        for hook in hooks:
            hook.remove()
    return calls, None


def _adapt_stem(network: nn.Module, image_shape: ImageShape, done: Adaptation) -> None:
    channels, *sides = image_shape
    calls, _ = _try(network, image_shape)
    first = next((call for call in calls if isinstance(call.layer, Products)), None)
    if first and isinstance(first.layer, nn.Conv2d):
        conv, small = first.layer, min(sides) <= SMALL_IMAGE
        overlapping = all(kernel > stride for kernel, stride in zip(conv.kernel_size, conv.stride, strict=True))
        strided = small and overlapping and max(conv.stride) > 1
        geometry = (3, 1, 1) if strided else (conv.kernel_size, conv.stride, conv.padding)
        if strided or conv.in_channels != channels:
            bias = conv.bias is not None
            made = nn.Conv2d(channels, conv.out_channels, *geometry, bias=bias)
            network.set_submodule(first.name, made)
            done.redrawn |= {f"{first.name}.weight"} | ({f"{first.name}.bias"} if bias else set())
            kernel = "x".join(map(str, made.kernel_size))
            done.notes.append(
                f"first convolution {first.name}: channels {channels}, kernel {kernel}, stride {made.stride[0]} "
                f"(was {conv.in_channels}, {'x'.join(map(str, conv.kernel_size))}, {conv.stride[0]})"
            )
        if strided:
            _remove_stem_pool(network, image_shape, done)
    _remove_pools_without_pixels(network, image_shape, done)


def _remove_stem_pool(network: nn.Module, image_shape: ImageShape, done: Adaptation) -> None:
    """Remove a pooling between the first convolution and the second."""
    calls, _ = _try(network, image_shape)
    second = [place for place, call in enumerate(calls) if isinstance(call.layer, Products)][1:2]
    for call in calls[: second[0]] if second else []:
        if isinstance(call.layer, Pools):
            network.set_submodule(call.name, nn.Identity())
            done.notes.append(f"removed after the first convolution: pooling {call.name}")


def _remove_pools_without_pixels(network: nn.Module, image_shape: ImageShape, done: Adaptation) -> None:
    removed = []
    while True:
        calls, error = _try(network, image_shape)
        if error is None or not calls or not isinstance(calls[-1].layer, Pools):
            break
        removed.append(calls[-1].name)
        network.set_submodule(calls[-1].name, nn.Identity())
    if removed:
        done.notes.append(f"removed, as the images have no pixels left for it: pooling {abridged(removed)}")


def _remove_biases(calls: list[_Call], done: Adaptation) -> None:
    """Remove the bias of every convolution and linear layer whose result a norm is given."""
    made = {id(call.returned): call for call in calls if isinstance(call.layer, Products)}
    removed = []
    for call in calls:
        before = made.get(id(call.given)) if isinstance(call.layer, Norms) else None
        if before and before.layer.bias is not None:
            before.layer.bias = None
            removed.append(before.name)
    if removed:
        done.notes.append(f"bias removed in front of a norm: {abridged(removed)}")


def _fix_head(calls: list[_Call], done: Adaptation) -> None:
    """Freeze the last linear layer, or else the last convolution, without its bias."""
    linear = [call for call in calls if isinstance(call.layer, nn.Linear)]
    if not (candidates := linear or [call for call in calls if isinstance(call.layer, nn.Conv2d)]):
        done.notes.append("not fixed: a head, as there is no linear layer and no convolution")
        return
    head = candidates[-1]
    bias = " without its bias" if head.layer.bias is not None else ""
    head.layer.bias = None
    head.layer.weight.requires_grad_(False)
    done.redrawn.add(f"{head.name}.weight")
    done.notes.append(f"head {head.name} fixed at N(0, 2/fan_in), the same for all replicates{bias}")


def _make_exact(network: nn.Module, done: Adaptation) -> None:
    """Replace norms by those with eps = 0 and without scale and shift."""
    replaced: list[str] = []
    for name, layer in list(network.named_modules()):
        if isinstance(layer, Norms) and (exact := _exact(layer)):
            network.set_submodule(name, exact)
            replaced.append(name)
    if replaced:
        done.notes.append(f"norms without scale and shift, eps 0: {abridged(replaced)}")


def _exact(layer: nn.Module) -> nn.Module | None:
    if isinstance(layer, nn.modules.batchnorm._BatchNorm):
        return Norm(layer.num_features, rectify=False)
    if isinstance(layer, nn.modules.instancenorm._InstanceNorm):
        return Norm(layer.num_features, "group", layer.num_features, rectify=False)
    if isinstance(layer, nn.GroupNorm):
        return Norm(layer.num_channels, "group", layer.num_groups, rectify=False)
    if type(layer) is nn.LayerNorm:
        return LayerNorm(tuple(range(-len(layer.normalized_shape), 0)))
    # torchvision's norm over the channels of images.
    return LayerNorm((1,)) if type(layer).__name__ == "LayerNorm2d" else None
