"""Layers for R members at once: each takes the place of a plain layer whose parameters got a leading axis R.

Activations of linear layers are (R, F, B): with the images last the products `W x` take and give contiguous
tensors, gradients included. Activations of convolutions are (B, R * C, H, W); on a CPU they lie in memory channels
last, where normalising costs a quarter (docs/performance.md). Those of patches are (R, B * T, D), as PyTorch's
layer norm wants them. Images shared by all members are (F, B) and (B, C, H, W) before the first layer.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from intrinsic_lr.models.networks import (
    Attention,
    Norm,
    Patches,
    PatchMean,
    Positions,
    TokenLinear,
    TokenNorm,
    attend,
)
from intrinsic_lr.models.normalisation import BatchStatistics, Normalizer, layer_norm, standardize


@dataclass
class Pass:
    """What the layers share during one forward pass: the number R of members, and what supplies statistics."""

    members: int = 0
    normalizer: Normalizer = field(default_factory=BatchStatistics)


class Replicated(nn.Module):
    """Base of the replicated layers.

    Args:
        layer: the plain layer, whose parameters' names are kept.
        name: its name in the network.
        run: what all layers of the network share.
    """

    def __init__(self, layer: nn.Module, name: str, run: Pass) -> None:
        super().__init__()
        self.plain, self.name, self.run = (layer,), name, run  # in a tuple, lest its parameters count twice
        for key, value in layer.named_parameters(recurse=False):
            self.register_parameter(key, value)


class ReplicatedLinear(Replicated):
    """The product of weights (R, out, in) and activations (R, in, B), or (in, B) shared by all members."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (R, out, B); a shared batch broadcasts without being copied R times."""
        return torch.matmul(self.weight, x)


class ReplicatedConv2d(Replicated):
    """The convolution of activations (B, R * C, H, W) by weights (R, out, C, k, k), as one of R groups."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, R * out, H', W')."""
        (layer,) = self.plain
        # The input of the first layer may be shared by all members; then one plain convolution serves all.
        groups = x.shape[1] // self.weight.shape[2]
        return F.conv2d(x, self.weight.flatten(0, 1), stride=layer.stride, padding=layer.padding, groups=groups)


class ReplicatedNorm(Replicated):
    """A norm of activations (R, C, B) or (B, R * C, H, W); the normalizer of the pass supplies the statistics."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise, then rectify where the plain layer does."""
        (layer,) = self.plain
        images_last = x.dim() == 3
        fused = layer.rectify and layer.kind == "batch" and not layer.affine
        if layer.kind == "batch" and images_last:
            x = self.run.normalizer(self.name, x.flatten(0, 1).unsqueeze(0), fused).view(x.shape)
        elif layer.kind == "batch":
            x = self.run.normalizer(self.name, x, fused)
        elif images_last:
            x = standardize(x.unflatten(1, (layer.groups, -1)), (2,)).flatten(1, 2)
        else:
            grouped = x.unflatten(1, (self.run.members, layer.groups, -1))
            x = standardize(grouped, (3, 4, 5)).flatten(1, 3)
        if layer.affine:
            shape = (self.run.members, -1, 1) if images_last else (-1, 1, 1)
            x = x * self.weight.view(shape) + self.bias.view(shape)
        return torch.relu(x) if layer.rectify and not fused else x


class ReplicatedPool(Replicated):
    """The mean over all positions."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, R * C, 1, 1)."""
        return x.mean(dim=(2, 3), keepdim=True)


class ReplicatedFlatten(Replicated):
    """Activations of convolutions as those of linear layers."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (R, C * H * W, B); images that are arranged for a linear layer stay as they are."""
        return x.unflatten(1, (self.run.members, -1)).flatten(2).permute(1, 2, 0) if x.dim() == 4 else x


class ReplicatedPatches(Replicated):
    """Images (R, B, C, H, W), or (B, C, H, W) shared by all members, as rows of patches."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (R, B * T, C * p * p), or (B * T, C * p * p)."""
        (layer,) = self.plain
        rows = layer(x.flatten(0, -4))
        return rows if x.dim() == 4 else rows.unflatten(0, (len(x), -1))


class ReplicatedPositions(Replicated):
    """Vectors (R, T, D) added to rows (R, B * T, D)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (R, B * T, D)."""
        return (x.unflatten(1, (-1, self.weight.shape[1])) + self.weight.unsqueeze(1)).flatten(1, 2)


class ReplicatedTokenLinear(Replicated):
    """The product of rows (R, N, in), or (N, in) shared by all members, and weights (R, out, in)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (R, N, out)."""
        return torch.matmul(x, self.weight.mT)


class ReplicatedTokenNorm(Replicated):
    """Layer norm of rows (R, N, D)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (R, N, D)."""
        return layer_norm(x)


class ReplicatedAttention(Replicated):
    """Attention among the rows (R, B * T, D) of each image."""

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Return (R, B * T, D)."""
        (layer,) = self.plain
        size = (len(queries), -1, layer.patches, layer.heads, queries.shape[2] // layer.heads)
        q, k, v = (x.view(size).transpose(2, 3) for x in (queries, keys, values))  # (R, B, heads, T, d)
        return attend(layer_norm(q), layer_norm(k), v).transpose(2, 3).reshape(queries.shape)


class ReplicatedPatchMean(Replicated):
    """The mean over the patches of an image."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (R, D, B), as the head takes it."""
        (layer,) = self.plain
        return x.unflatten(1, (-1, layer.patches)).mean(dim=2).mT


FORMS: dict[type[nn.Module], type[Replicated]] = {
    nn.Linear: ReplicatedLinear,
    nn.Conv2d: ReplicatedConv2d,
    Norm: ReplicatedNorm,
    nn.AdaptiveAvgPool2d: ReplicatedPool,
    nn.Flatten: ReplicatedFlatten,
    Patches: ReplicatedPatches,
    TokenLinear: ReplicatedTokenLinear,
    TokenNorm: ReplicatedTokenNorm,
    Positions: ReplicatedPositions,
    Attention: ReplicatedAttention,
    PatchMean: ReplicatedPatchMean,
}


def replicate(network: nn.Module) -> Pass:
    """Put replicated layers in the place of a network's own; return what they share during a forward pass."""
    run = Pass()
    for name, layer in list(network.named_modules()):
        if form := FORMS.get(type(layer)):
            network.set_submodule(name, form(layer, name, run))
    return run


class ReplicatedProgram:
    """The forward pass of R members of a network that is made of the layers in `FORMS`."""

    def __init__(self, network: nn.Module, image_shape: tuple[int, int, int]) -> None:
        self._first = next(layer for layer in network.modules() if not list(layer.children()))
        self._network, self._image_shape = deepcopy(network), image_shape
        self._pass = replicate(self._network)

    def __call__(self, params: Mapping[str, Tensor], images: Tensor, normalizer: Normalizer) -> Tensor:
        """Return logits (R, B, K) for images (R, B, C, H, W), or (B, C, H, W) shared by all members.

        They are a view of (R, K, B): a softmax over an axis that is not the last runs along the vector registers.
        """
        self._pass.members, self._pass.normalizer = len(next(iter(params.values()))), normalizer
        x = arrange(images, self._first)
        return functional_call(self._network, dict(params), (x,), tie_weights=False).transpose(1, 2)

    @cached_property
    @torch.no_grad()
    def activations(self) -> int:
        """Numbers that the largest product makes of one image of one member."""
        sizes: list[int] = []
        kinds = ReplicatedLinear | ReplicatedConv2d | ReplicatedTokenLinear
        products = [layer for layer in self._network.modules() if isinstance(layer, kinds)]
        hooks = [layer.register_forward_hook(lambda _, __, y: sizes.append(y.numel())) for layer in products]
        params = {name: torch.zeros(1, *value.shape) for name, value in self._network.named_parameters()}
        self(params, torch.zeros(1, *self._image_shape), BatchStatistics())
        for hook in hooks:
            hook.remove()
        return max(sizes)


def arrange(images: Tensor, first: nn.Module) -> Tensor:
    """Return images (R, B, C, H, W), or (B, C, H, W) shared by all members, as activations of a first layer."""
    if isinstance(first, Patches):
        return images
    if not isinstance(first, nn.Conv2d):
        return images.flatten(-3).transpose(-1, -2)
    last = images.permute(0, 2, 3, 1) if images.dim() == 4 else images.permute(1, 3, 4, 0, 2).flatten(3)
    x = last.permute(0, 3, 1, 2)
    return x.contiguous(memory_format=torch.channels_last if x.device.type == "cpu" else torch.contiguous_format)
