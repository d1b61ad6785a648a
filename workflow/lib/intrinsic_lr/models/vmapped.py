"""R members of any module as one program: `torch.func.vmap` over `functional_call`.

What the module's own code does is vectorised by vmap. Batch norms are put together by hand as one norm of R * C
channels, as in `models.replicated`: their statistics come from outside.
"""

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

import torch
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
            if isinstance(layer, Norm) and layer.kind == "batch":
                self.network.set_submodule(name, _BatchNorm(layer, name, self._pass))
            if isinstance(layer, nn.AdaptiveAvgPool2d) and layer.output_size in (1, (1, 1)):
                self.network.set_submodule(name, ReplicatedPool(layer, name, self._pass))

    def __call__(self, params: Mapping[str, Tensor], images: Tensor, normalizer: Normalizer) -> Tensor:
        """Return logits (R, B, K) for images (R, B, C, H, W), or (B, C, H, W) shared by all members."""
        like = next(iter(params.values()))
        self._pass.members, self._pass.normalizer = len(like), normalizer
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
        """Return the normalised activations of all members, (R, B, C, ...)."""
        (layer,) = self.plain
        x = x.expand(self.run.members, *x.shape[1:]).movedim(0, 1).flatten(1, 2)
        y = self.run.normalizer(self.name, x, False, layer.eps)
        return y.unflatten(1, (self.run.members, -1)).movedim(1, 0)


class _OfAllMembers(torch.autograd.Function):
    """Calls, from within vmap, a function of all members' activations."""

    @staticmethod
    def forward(compute: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Return what is computed of activations that all members share: of the images themselves."""
        return compute(x.unsqueeze(0))[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep nothing: images have no gradient, and what vmap computes knows its own."""

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], compute: Callable[[Tensor], Tensor], x: Tensor) -> Any:
        """Return what is computed of each member's activations, and the axis of the members."""
        return compute(x.movedim(in_dims[1], 0)), 0
