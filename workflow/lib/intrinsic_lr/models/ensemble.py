"""R members of one network as one program, derived from the plain module that defines the network."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import cached_property
from math import prod

import torch
from torch import Tensor
from torch.func import functional_call

from intrinsic_lr.models.networks import ImageShape, Network, Norm, build_network
from intrinsic_lr.models.normalisation import BatchStatistics, Normalizer
from intrinsic_lr.models.replicated import ReplicatedConv2d, ReplicatedLinear, arrange, replicate
from intrinsic_lr.study.model_spec import ModelSpec

Params = Mapping[str, Tensor]


def build(spec: ModelSpec, image_shape: ImageShape, classes: int) -> "EnsembleModel":
    """Return the ensemble model of a spec for images (C, H, W) and a number of classes."""
    return EnsembleModel(spec, image_shape, classes)


class EnsembleModel:
    """A network whose parameters carry a leading replicate axis R.

    Attributes:
        network: the plain network, without numbers (on the meta device).
        shapes: shape of each parameter of one member, in forward order.
        frozen: parameters that are not trained.
        trainable: the other ones, in forward order.
        size: number of parameters of one member, the frozen ones included.
        scale_groups: for each group, the parameters that are scale-invariant together.
        norms: channels of each normalisation layer.
    """

    def __init__(self, spec: ModelSpec, image_shape: ImageShape, classes: int) -> None:
        self.spec, self.image_shape, self.classes = spec, image_shape, classes
        with torch.device("meta"):
            self.network: Network = build_network(spec, image_shape, classes)
        named = dict(self.network.named_parameters())
        self.shapes = {name: tuple(value.shape) for name, value in named.items()}
        self.trainable = tuple(name for name, value in named.items() if value.requires_grad)
        self.frozen = frozenset(named) - set(self.trainable)
        self.size = sum(map(prod, self.shapes.values()))
        self.scale_groups = self.network.scale_groups()
        modules = list(self.network.named_modules())
        self.norms = {name: layer.channels for name, layer in modules if isinstance(layer, Norm)}
        self._first = next(layer for _, layer in modules if not list(layer.children()))
        self._program = deepcopy(self.network)
        self._pass = replicate(self._program)

    def module(self) -> Network:
        """Return one member as an ordinary network with the same parameter names."""
        return build_network(self.spec, self.image_shape, self.classes)

    def forward(self, params: Params, images: Tensor, normalizer: Normalizer) -> Tensor:
        """Return logits (R, B, K) for images (R, B, C, H, W), or (B, C, H, W) shared by all members.

        They are a view of (R, K, B): a softmax over an axis that is not the last runs along the vector registers.
        """
        self._pass.members, self._pass.normalizer = len(next(iter(params.values()))), normalizer
        x = arrange(images, self._first)
        return functional_call(self._program, dict(params), (x,), tie_weights=False).transpose(1, 2)

    def initialize(
        self, seeds: Sequence[int], scale: float, dtype: torch.dtype, head_seed: int = 0
    ) -> dict[str, Tensor]:
        """Return the initial parameters of one member per seed, tensors of shape (R, ...).

        Weights are drawn from N(0, 2/fan_in) in float64 from each member's own generator, so that a seed gives
        one network in any block and dtype. `scale` multiplies the scale-invariant weights. A fixed head comes
        from `head_seed` and is the same for all members: what is never trained is no initial condition that
        training could forget, but a part of the architecture.
        """
        members = [self._initialize_member(seed, scale) for seed in seeds]
        params = {name: torch.stack([member[name] for member in members]) for name in self.shapes}
        for name in self.frozen:
            shared = self._draw(name, torch.Generator().manual_seed(head_seed))
            params[name] = shared.expand(len(seeds), *shared.shape).clone()
        return {name: value.to(dtype) for name, value in params.items()}

    def _initialize_member(self, seed: int, scale: float) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        scaled = {name for group in self.scale_groups.values() for name in group}
        return {name: self._draw(name, generator) * (scale if name in scaled else 1.0) for name in self.shapes}

    def _draw(self, name: str, generator: torch.Generator) -> Tensor:
        """Draw a weight; scales and shifts of a norm begin at 1 and 0."""
        shape = self.shapes[name]
        if len(shape) == 1:
            return torch.full(shape, float(name.endswith(".weight")), dtype=torch.float64)
        return torch.randn(shape, generator=generator, dtype=torch.float64) * (2.0 / prod(shape[1:])) ** 0.5

    @cached_property
    @torch.no_grad()
    def activations(self) -> int:
        """Numbers that the largest product makes of one image of one member."""
        sizes: list[int] = []
        products = [
            layer for layer in self._program.modules() if isinstance(layer, ReplicatedLinear | ReplicatedConv2d)
        ]
        hooks = [
            layer.register_forward_hook(lambda _, __, result: sizes.append(result.numel())) for layer in products
        ]
        params = {name: torch.zeros(1, *shape) for name, shape in self.shapes.items()}
        self.forward(params, torch.zeros(1, *self.image_shape), BatchStatistics())
        for hook in hooks:
            hook.remove()
        return max(sizes)
