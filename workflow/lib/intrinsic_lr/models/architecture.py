"""What the networks consist of: shapes of parameters, groups of them, norms. Imports no torch.

The sizes of a study are known from this before anything is trained.
"""

from abc import ABC, abstractmethod
from math import prod

from intrinsic_lr.study.model_spec import ModelSpec


class Architecture(ABC):
    """The parts of one network.

    Attributes:
        shapes: shape of each parameter of one member, in forward order.
        frozen: parameters that are not trained.
        scale_groups: for each group, the parameters that are scale-invariant together.
        norms: channels of each normalisation layer.
        activations: numbers that the largest layer makes of one image.
    """

    activations: int

    def __init__(self, spec: ModelSpec, image_shape: tuple[int, int, int], classes: int) -> None:
        self.spec = spec
        self.image_shape = image_shape
        self.classes = classes
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.scale_groups: dict[str, tuple[str, ...]] = {}
        self.norms: dict[str, int] = {}
        features = self._declare()
        self.shapes["head.weight"] = (classes, features)
        self.frozen = frozenset({"head.weight"} if spec.head == "fixed" else set())

    @property
    def trainable(self) -> tuple[str, ...]:
        """Names of the trained parameters, in forward order."""
        return tuple(name for name in self.shapes if name not in self.frozen)

    @property
    def size(self) -> int:
        """Number of parameters of one member, the frozen ones included."""
        return sum(map(prod, self.shapes.values()))

    @abstractmethod
    def _declare(self) -> int:
        """Declare layers and norms in forward order; return the number of features that the head sees."""

    def _declare_layer(self, name: str, shape: tuple[int, ...], group: str | None = None) -> None:
        self.shapes[f"{name}.weight"] = shape
        group = group or name
        self.scale_groups[group] = (*self.scale_groups.get(group, ()), f"{name}.weight")

    def _declare_norm(self, name: str, channels: int) -> None:
        self.norms[name] = channels
        if self.spec.affine:
            self.shapes[f"{name}.weight"] = (channels,)
            self.shapes[f"{name}.bias"] = (channels,)


class MlpArchitecture(Architecture):
    """Linear layers without bias, each followed by norm and ReLU."""

    def _declare(self) -> int:
        fan_in = prod(self.image_shape)
        self.activations = self.spec.width
        for layer in range(1, self.spec.depth + 1):
            self._declare_layer(f"linear{layer}", (self.spec.width, fan_in))
            self._declare_norm(f"norm{layer}", self.spec.width)
            fan_in = self.spec.width
        return fan_in


class Cnn4Architecture(Architecture):
    """Four 3x3 convolutions, each followed by norm and ReLU; strides 1, 2, 1, 2; global average pool."""

    STRIDES = (1, 2, 1, 2)

    def _declare(self) -> int:
        channels = self.image_shape[0]
        self.activations = self.spec.width * prod(self.image_shape[1:])
        for layer, width in enumerate(self._widths, start=1):
            self._declare_layer(f"conv{layer}", (width, channels, 3, 3))
            self._declare_norm(f"norm{layer}", width)
            channels = width
        return channels

    @property
    def _widths(self) -> tuple[int, ...]:
        width = self.spec.width
        return (width, width, 2 * width, 2 * width)


class PreResNetArchitecture(Architecture):
    """Pre-activation residual network of 6n + 2 layers, as the paper's authors use it in later work.

    A shape-changing shortcut normalises before its 1x1 convolution. All weights that write to the residual
    stream are scale-invariant together, the first convolution of each block by itself.
    """

    STREAM = "stream"

    def _declare(self) -> int:
        channels = self.spec.width
        self.activations = self.spec.width * prod(self.image_shape[1:])
        self._declare_layer("conv", (channels, self.image_shape[0], 3, 3), self.STREAM)
        for name, width, _, changes in self._blocks():
            self._declare_norm(f"{name}.norm1", channels)
            self._declare_layer(f"{name}.conv1", (width, channels, 3, 3))
            self._declare_norm(f"{name}.norm2", width)
            self._declare_layer(f"{name}.conv2", (width, width, 3, 3), self.STREAM)
            if changes:
                self._declare_norm(f"{name}.shortcut_norm", channels)
                self._declare_layer(f"{name}.shortcut", (width, channels, 1, 1), self.STREAM)
            channels = width
        self._declare_norm("norm", channels)
        return channels

    def _blocks(self) -> list[tuple[str, int, int, bool]]:
        """Return (name, width, stride, whether the shape changes) of every block."""
        blocks = self.spec.blocks or 0
        return [
            (f"stage{stage}.block{block}", self.spec.width * 2 ** (stage - 1), 2 if changes else 1, changes)
            for stage in (1, 2, 3)
            for block in range(1, blocks + 1)
            for changes in [stage > 1 and block == 1]
        ]


def describe(spec: ModelSpec, image_shape: tuple[int, int, int], classes: int) -> Architecture:
    """Return the architecture of a spec for images (C, H, W) and a number of classes."""
    kinds = {"mlp": MlpArchitecture, "cnn4": Cnn4Architecture, "preresnet": PreResNetArchitecture}
    return kinds[spec.kind](spec, image_shape, classes)
