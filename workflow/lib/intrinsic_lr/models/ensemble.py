"""R members of one network as one program, derived from the plain module that defines the network."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from math import prod

import torch
from torch import Tensor, nn

from intrinsic_lr.models.invariance import Invariance
from intrinsic_lr.models.modules import UserModule
from intrinsic_lr.models.networks import ImageShape, Norm, build_network, draw_weight
from intrinsic_lr.models.normalisation import Normalizer
from intrinsic_lr.models.replicated import ReplicatedProgram
from intrinsic_lr.study.model_spec import ModelSpec

Params = Mapping[str, Tensor]


def build(
    spec: ModelSpec, image_shape: ImageShape, classes: int, invariance: Invariance | None = None
) -> "EnsembleModel":
    """Return the ensemble model of a spec for images (C, H, W) and a number of classes.

    Args:
        spec: the network.
        image_shape: of one image.
        classes: number of classes.
        invariance: what is scale-invariant of it, where that is known already.

    Raises:
        InputError: for a network of a factory's that cannot be trained on such images.
    """
    model = EnsembleModel(spec, image_shape, classes)
    if invariance is not None:
        model.invariance = invariance
    return model


class EnsembleModel:
    """A network whose parameters carry a leading replicate axis R.

    Attributes:
        network: the plain network, its parameters without numbers (on the meta device).
        shapes: shape of each parameter of one member, in forward order.
        frozen: parameters that are not trained.
        trainable: the other ones, in forward order.
        size: number of parameters of one member, the frozen ones included.
        norms: channels of each batch norm.
        notes: what was changed of a factory's network, a line each.
    """

    def __init__(self, spec: ModelSpec, image_shape: ImageShape, classes: int) -> None:
        self.spec, self.image_shape, self.classes = spec, image_shape, classes
        kind = UserModule if spec.kind == "module" else _BuiltIn
        self._source: UserModule | _BuiltIn = kind(spec, image_shape, classes)
        self.network, self._program, self.notes = self._source.network, self._source.program, self._source.notes
        named = dict(self.network.named_parameters())
        self.shapes = {name: tuple(value.shape) for name, value in named.items()}
        self.trainable = tuple(name for name, value in named.items() if value.requires_grad)
        self.frozen = frozenset(named) - set(self.trainable)
        self.size = sum(map(prod, self.shapes.values()))
        norms = [(name, layer) for name, layer in self.network.named_modules() if isinstance(layer, Norm)]
        self.norms = {name: layer.channels for name, layer in norms if layer.kind == "batch"}

    @cached_property
    def invariance(self) -> Invariance:
        """What is scale-invariant: declared by the project's own networks, found of others (some seconds)."""
        return self._source.invariance()

    @property
    def scale_groups(self) -> dict[str, tuple[str, ...]]:
        """For each group, the parameters that are scale-invariant together."""
        return self.invariance.groups

    @property
    def measured_groups(self) -> dict[str, tuple[str, ...]]:
        """Groups whose norms and angles are measured: the scale groups, or else all trained weights."""
        return self.scale_groups or {"weights": self.trainable}

    @property
    def activations(self) -> int:
        """Numbers that the largest product makes of one image of one member."""
        return self._source.activations()

    def module(self) -> nn.Module:
        """Return one member as an ordinary network with the same parameter names."""
        return self._source.build()

    def forward(self, params: Params, images: Tensor, normalizer: Normalizer) -> Tensor:
        """Return logits (R, B, K) for images (R, B, C, H, W), or (B, C, H, W) shared by all members."""
        return self._program(params, images, normalizer)

    def initialize(
        self, seeds: Sequence[int], scale: float, dtype: torch.dtype, head_seed: int = 0
    ) -> dict[str, Tensor]:
        """Return the initial parameters of one member per seed, tensors of shape (R, ...).

        Weights are drawn from N(0, 2/fan_in) in float64 from each member's own generator, or by a factory's own
        rule from its seed, so that a seed gives one network in any block and dtype. `scale` multiplies the
        scale-invariant weights. A fixed head comes from `head_seed` and is the same for all members: what is
        never trained is no initial condition that training could forget, but a part of the architecture.
        """
        scaled = set() if scale == 1 else {name for group in self.scale_groups.values() for name in group}
        members = [self._source.draw(seed, self.trainable) for seed in seeds]
        fixed = self._source.draw(head_seed, tuple(name for name in self.shapes if name in self.frozen))
        params = {}
        for name, shape in self.shapes.items():
            if name in fixed:
                params[name] = fixed[name].expand(len(seeds), *shape).clone().to(dtype)
            else:
                drawn = torch.stack([member[name] for member in members])
                params[name] = (drawn * (scale if name in scaled else 1.0)).to(dtype)
        return params


class _BuiltIn:
    """A network of the project's own."""

    notes: tuple[str, ...] = ()

    def __init__(self, spec: ModelSpec, image_shape: ImageShape, classes: int) -> None:
        self._definition = spec, image_shape, classes
        with torch.device("meta"):
            self.network = self.build()
        self.program = ReplicatedProgram(self.network, image_shape)

    def build(self) -> nn.Module:
        return build_network(*self._definition)

    def invariance(self) -> Invariance:
        groups = self.network.scale_groups()
        grouped = {name for names in groups.values() for name in names}
        trained = (name for name, value in self.network.named_parameters() if value.requires_grad)
        return Invariance(groups, others=tuple(name for name in trained if name not in grouped))

    def activations(self) -> int:
        return self.program.activations

    def draw(self, seed: int, names: Sequence[str]) -> dict[str, Tensor]:
        """Draw weights in float64 from one generator, in their order."""
        generator = torch.Generator().manual_seed(seed)
        return {name: draw_weight(name, self.network.get_parameter(name).shape, generator) for name in names}
