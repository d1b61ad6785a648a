"""R members of any module as one program: `torch.func.vmap` over `functional_call`.

What the module's own code does is vectorised by vmap. Convolutions and batch norms are put together by hand, as
one convolution of R groups and one norm of R * C channels: activations then lie in memory as those of
`models.replicated`, which is faster, and a batch norm's statistics come from outside.
"""

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from intrinsic_lr.models.networks import Norm
from intrinsic_lr.models.normalisation import Normalizer
from intrinsic_lr.models.replicated import Pass, Replicated, ReplicatedPool


class VmappedProgram:
    """The forward pass of R members of a module, whose batch norms are instances of `Norm`."""

    def __init__(self, network: nn.Module) -> None:
        self.network, self._pass = without_numbers(network).train(), Pass()
        for name, layer in list(self.network.named_modules()):
            if type(layer) is nn.Conv2d and layer.padding_mode == "zeros":
                self.network.set_submodule(name, _Conv2d(layer, name, self._pass))
            if isinstance(layer, Norm) and layer.kind == "batch":
                self.network.set_submodule(name, _BatchNorm(layer, name, self._pass))
            if isinstance(layer, nn.AdaptiveAvgPool2d) and layer.output_size in (1, (1, 1)):
                self.network.set_submodule(name, ReplicatedPool(layer, name, self._pass))

    def __call__(self, params: Mapping[str, Tensor], images: Tensor, normalizer: Normalizer) -> Tensor:
        """Return logits (R, B, K) for images (R, B, C, H, W), or (B, C, H, W) shared by all members."""
        self._pass.normalizer, like = normalizer, next(iter(params.values()))
        buffers = {
            name: value.to(like.device, like.dtype if value.is_floating_point() else value.dtype)
            for name, value in self.network.named_buffers()
        }

        def of_member(own: dict[str, Tensor], x: Tensor) -> Tensor:
            return functional_call(self.network, {**own, **buffers}, (x,))

        shared = None if images.dim() == 4 else 0
        # Attention in single operations: vmap would compute its fused kernel member by member.
        with sdpa_kernel(SDPBackend.MATH):
            return torch.vmap(of_member, in_dims=(0, shared))(dict(params), images)


def without_numbers(network: nn.Module) -> nn.Module:
    """Return a copy of a module whose parameters lie on the meta device; its buffers keep their numbers."""
    empty = {id(value): nn.Parameter(value.to("meta"), value.requires_grad) for value in network.parameters()}
    return deepcopy(network, empty)


class _OfAllMembers(torch.autograd.Function):
    """Calls, from within vmap, a function of the tensors of all members.

    The function gets tensors (R, ...), those that all members share with R = 1, and returns a tensor (R, ...).
    """

    @staticmethod
    def forward(compute: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        return compute(*(tensor.unsqueeze(0) for tensor in tensors)).squeeze(0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], compute: Callable[..., Tensor], *tensors: Tensor) -> Any:
        placed = zip(tensors, in_dims[1:], strict=True)
        return compute(*(t.unsqueeze(0) if dim is None else t.movedim(dim, 0) for t, dim in placed)), 0


class _Conv2d(Replicated):
    def forward(self, x: Tensor) -> Tensor:
        """Return the member's convolution of activations (B, C, H, W)."""
        parameters = [value for value in (self.weight, getattr(self, "bias", None)) if value is not None]
        return _OfAllMembers.apply(self._convolve, x, *parameters)

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        (layer,), members = self.plain, len(weight)
        if layer.groups > 1 and len(x) < members:
            x = x.expand(members, *x.shape[1:])
        x = _fold(x)
        if x.device.type == "cpu":
            x = x.contiguous(memory_format=torch.channels_last)
        # Images that all members share meet one plain convolution.
        groups = layer.groups * (members if x.shape[1] == members * layer.in_channels else 1)
        bias = None if bias is None else bias.flatten()
        y = F.conv2d(x, weight.flatten(0, 1), bias, layer.stride, layer.padding, layer.dilation, groups)
        return _unfold(y, members)


class _BatchNorm(Replicated):
    def forward(self, x: Tensor) -> Tensor:
        """Return the member's normalised activations (B, C, ...)."""
        (layer,) = self.plain
        y = _OfAllMembers.apply(self._normalize, x)
        if layer.affine:
            shape = (-1, *[1] * (x.dim() - 2))
            y = y * self.weight.view(shape) + self.bias.view(shape)
        return torch.relu(y) if layer.rectify else y

    def _normalize(self, x: Tensor) -> Tensor:
        (layer,) = self.plain
        return _unfold(self.run.normalizer(self.name, _fold(x), False, layer.eps), len(x))


def _fold(x: Tensor) -> Tensor:
    """Return activations (R, B, C, ...) as (B, R * C, ...)."""
    return x.movedim(0, 1).flatten(1, 2)


def _unfold(x: Tensor, members: int) -> Tensor:
    return x.unflatten(1, (members, -1)).movedim(1, 0)
