"""What each network is: a plain `torch.nn.Module` from images (B, C, H, W) to logits (B, K).

The ensemble is derived from this module (ensemble.py), and a trained member is read back as this very module.
Layers are registered in the order of the forward pass, which is the order of the parameters in checkpoints and of
the random draws of an initialisation. A new network is one class here, named in `NETWORKS`, and its options in
`study.model_spec`.
"""

from collections import OrderedDict
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.models.normalisation import standardize
from intrinsic_lr.study.model_spec import ModelSpec

ImageShape = tuple[int, int, int]


class Norm(nn.Module):
    """Batch, group or layer norm, then ReLU where asked; batch norm keeps no running average.

    In training mode a batch norm uses the batch's statistics; in evaluation mode its buffers, which are to be
    loaded from statistics recomputed on the training set (variance inf marks a constant channel).

    Args:
        channels: of the activations.
        kind: `batch`, `group` or `layer`.
        groups: over which a group norm takes its statistics.
        affine: whether it has a scale and a shift.
        rectify: whether a ReLU follows.
        eps: of a batch norm; 0 is scale-invariant.
    """

    def __init__(
        self,
        channels: int,
        kind: str = "batch",
        groups: int = 1,
        affine: bool = False,
        rectify: bool = True,
        eps: float = 0.0,
    ) -> None:
        super().__init__()
        self.kind, self.groups, self.affine = kind, groups, affine
        self.channels, self.rectify, self.eps = channels, rectify, eps
        if affine:
            self.weight = nn.Parameter(torch.ones(channels))
            self.bias = nn.Parameter(torch.zeros(channels))
        if kind == "batch":
            self.register_buffer("running_mean", torch.zeros(channels))
            self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise activations (B, C) or (B, C, H, W)."""
        shape = (1, -1) + (1,) * (x.dim() - 2)
        if self.kind == "batch" and not self.training:
            y = (x - self.running_mean.view(shape)) / (self.running_var.view(shape) + self.eps).sqrt()
        elif self.kind == "batch":
            y = standardize(x, (0, *range(2, x.dim())), self.eps)
        else:
            y = standardize(x.reshape(x.shape[0], self.groups, -1), (2,)).reshape(x.shape)
        if self.affine:
            y = y * self.weight.view(shape) + self.bias.view(shape)
        return torch.relu(y) if self.rectify else y

    def extra_repr(self) -> str:
        """Return what a printed network says of the layer."""
        return f"{self.kind}, {self.channels}" + (", ReLU" if self.rectify else "")


def _norm(spec: ModelSpec, channels: int, rectify: bool = True) -> Norm:
    return Norm(channels, spec.norm, spec.group_count, spec.affine, rectify)


class Network(nn.Module):
    """A network whose last layer is `head`, a linear layer without bias.

    Parameters that require no gradient are frozen: they are a part of the architecture and are not trained.
    """

    head: nn.Linear

    def group_of(self, layer: str) -> str:
        """Return the scale group of a layer below the head: its weights are scale-invariant together."""
        return layer

    def scale_groups(self) -> dict[str, tuple[str, ...]]:
        """Return the names of the weights of each scale group."""
        groups: dict[str, tuple[str, ...]] = {}
        for name, layer in self.named_modules():
            if isinstance(layer, nn.Linear | nn.Conv2d | Positions) and layer is not self.head:
                group = self.group_of(name)
                groups[group] = (*groups.get(group, ()), f"{name}.weight")
        return groups


class Mlp(Network, nn.Sequential):
    """Linear layers without bias, each followed by norm and ReLU."""

    def __init__(self, spec: ModelSpec, image_shape: ImageShape, classes: int) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
        fan_in = prod(image_shape)
        for layer in range(1, (spec.depth or 0) + 1):
            layers[f"linear{layer}"] = nn.Linear(fan_in, spec.width, bias=False)
            layers[f"norm{layer}"] = _norm(spec, spec.width)
            fan_in = spec.width
        layers["head"] = nn.Linear(fan_in, classes, bias=False)
        super().__init__(layers)


class Cnn4(Network, nn.Sequential):
    """Four 3x3 convolutions, each followed by norm and ReLU; strides 1, 2, 1, 2; global average pool."""

    def __init__(self, spec: ModelSpec, image_shape: ImageShape, classes: int) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        channels = image_shape[0]
        for layer, (factor, stride) in enumerate(((1, 1), (1, 2), (2, 1), (2, 2)), start=1):
            width = spec.width * factor
            layers[f"conv{layer}"] = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
            layers[f"norm{layer}"] = _norm(spec, width)
            channels = width
        layers["pool"] = nn.AdaptiveAvgPool2d(1)
        layers["flatten"] = nn.Flatten()
        layers["head"] = nn.Linear(channels, classes, bias=False)
        super().__init__(layers)


class Block(nn.Module):
    """A pre-activation residual block; a shortcut that changes the shape normalises before its 1x1 convolution."""

    def __init__(self, spec: ModelSpec, channels: int, width: int) -> None:
        super().__init__()
        self.changes = channels != width
        stride = 2 if self.changes else 1
        self.norm1 = _norm(spec, channels)
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.norm2 = _norm(spec, width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        if self.changes:
            self.shortcut_norm = _norm(spec, channels, rectify=False)
            self.shortcut = nn.Conv2d(channels, width, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        branch = self.conv2(self.norm2(self.conv1(self.norm1(x))))
        return (self.shortcut(self.shortcut_norm(x)) if self.changes else x) + branch


class PreResNet(Network):
    """Pre-activation residual network of 6n + 2 layers, as the paper's authors use it in later work.

    All weights that write to the residual stream are scale-invariant together, the first convolution of each block
    by itself.
    """

    def __init__(self, spec: ModelSpec, image_shape: ImageShape, classes: int) -> None:
        super().__init__()
        channels = spec.width
        self.conv = nn.Conv2d(image_shape[0], channels, 3, padding=1, bias=False)
        for stage in (1, 2, 3):
            width = spec.width * 2 ** (stage - 1)
            blocks: OrderedDict[str, nn.Module] = OrderedDict()
            for block in range(1, (spec.blocks or 0) + 1):
                blocks[f"block{block}"] = Block(spec, channels, width)
                channels = width
            self.add_module(f"stage{stage}", nn.Sequential(blocks))
        self.norm = _norm(spec, channels, rectify=bool(spec.final_relu))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(channels, classes, bias=False)

    def group_of(self, layer: str) -> str:
        """Return `stream` for all that writes to the residual stream."""
        return layer if layer.endswith("conv1") else "stream"

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, K)."""
        x = self.norm(self.stage3(self.stage2(self.stage1(self.conv(x)))))
        return self.head(self.flatten(self.pool(x)))


class TokenLinear(nn.Linear):
    """A linear layer without bias, of patches."""

    def __init__(self, fan_in: int, fan_out: int) -> None:
        super().__init__(fan_in, fan_out, bias=False)


class TokenNorm(Norm):
    """Layer norm of patches, without scale and shift."""

    def __init__(self, width: int) -> None:
        super().__init__(width, "layer", rectify=False)


class Patches(nn.Module):
    """Images (B, C, H, W) as rows of patches (B * T, C * p * p), the T patches of an image one after the other."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        """Cut images into patches."""
        return F.unfold(x, self.side, stride=self.side).transpose(1, 2).flatten(0, 1)


class Positions(nn.Module):
    """Adds a trained vector to each of the T patches of an image."""

    def __init__(self, patches: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(patches, width))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B * T, D)."""
        return (x.unflatten(0, (-1, len(self.weight))) + self.weight).flatten(0, 1)


class Attention(nn.Module):
    """Softmax attention among the patches of an image, with queries and keys normalised head by head."""

    def __init__(self, patches: int, heads: int) -> None:
        super().__init__()
        self.patches, self.heads = patches, heads

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Return (B * T, D) for rows (B * T, D)."""
        parts = [x.view(-1, self.patches, self.heads, x.shape[1] // self.heads) for x in (queries, keys, values)]
        q, k, v = (part.transpose(1, 2) for part in parts)  # (B, heads, T, D / heads)
        return attend(standardize(q, (3,)), standardize(k, (3,)), v).transpose(1, 2).flatten(2).flatten(0, 1)


def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Return softmax(q k^T / sqrt(d)) v for tensors (..., T, d) (Vaswani et al. 2017, equation 1)."""
    scores = queries @ keys.mT * queries.shape[-1] ** -0.5
    return scores.softmax(dim=-1) @ values


class PatchMean(nn.Module):
    """The mean over the patches of an image."""

    def __init__(self, patches: int) -> None:
        super().__init__()
        self.patches = patches

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, D) for rows (B * T, D)."""
        return x.unflatten(0, (-1, self.patches)).mean(dim=1)


class TransformerBlock(nn.Module):
    """`x + W_O LN(attention)`, then `x + W_2 LN(relu(W_1 LN(x)))`; no biases, norms without scale and shift."""

    def __init__(self, width: int, patches: int, heads: int) -> None:
        super().__init__()
        self.norm1 = TokenNorm(width)
        self.query = TokenLinear(width, width)
        self.key = TokenLinear(width, width)
        self.value = TokenLinear(width, width)
        self.attention = Attention(patches, heads)
        self.attention_norm = TokenNorm(width)
        self.out = TokenLinear(width, width)
        self.norm2 = TokenNorm(width)
        self.linear1 = TokenLinear(width, MLP_RATIO * width)
        self.relu = nn.ReLU()
        self.mlp_norm = TokenNorm(MLP_RATIO * width)
        self.linear2 = TokenLinear(MLP_RATIO * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        y = self.norm1(x)
        x = x + self.out(self.attention_norm(self.attention(self.query(y), self.key(y), self.value(y))))
        return x + self.linear2(self.mlp_norm(self.relu(self.linear1(self.norm2(x)))))


MLP_RATIO = 4
"""Width of a transformer's hidden layers over that of its stream, as in the original (Vaswani et al. 2017)."""


class Vit(Network):
    """A vision transformer whose weights are all scale-invariant (derived).

    Queries and keys are normalised, and so is all that a product is given; what writes to the stream (embedding,
    positions, `out` and `linear2` of every block) is scale-invariant together, every other weight by itself.
    """

    def __init__(self, spec: ModelSpec, image_shape: ImageShape, classes: int) -> None:
        super().__init__()
        (channels, *sides), width, patch = image_shape, spec.width, spec.patch
        if any(side % patch for side in sides):
            raise InputError(f"patch: must divide the sides {sides[0]}x{sides[1]} of the images, got {patch}")
        patches = prod(side // patch for side in sides)
        self.patches = Patches(patch)
        self.embedding = TokenLinear(channels * patch**2, width)
        self.positions = Positions(patches, width)
        blocks = {
            f"block{block}": TransformerBlock(width, patches, spec.heads) for block in range(1, spec.depth + 1)
        }
        self.blocks = nn.Sequential(OrderedDict(blocks))
        self.norm = TokenNorm(width)
        self.mean = PatchMean(patches)
        self.head = nn.Linear(width, classes, bias=False)

    def group_of(self, layer: str) -> str:
        """Return `stream` for all that writes to the stream."""
        writes = layer.endswith((".out", ".linear2")) or layer in ("embedding", "positions")
        return "stream" if writes else layer

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, K)."""
        x = self.positions(self.embedding(self.patches(x)))
        return self.head(self.mean(self.norm(self.blocks(x))))


def draw_weight(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw a weight in float64 from N(0, 2/fan_in); scales and shifts of a norm begin at 1 and 0."""
    if len(shape) == 1:
        return torch.full(shape, float(name.endswith(".weight")), dtype=torch.float64)
    return torch.randn(shape, generator=generator, dtype=torch.float64) * (2.0 / prod(shape[1:])) ** 0.5


NETWORKS: dict[str, type[Network]] = {"mlp": Mlp, "cnn4": Cnn4, "preresnet": PreResNet, "vit": Vit}


def build_network(spec: ModelSpec, image_shape: ImageShape, classes: int) -> Network:
    """Return one network of a spec for images (C, H, W) of `image_shape`."""
    network = NETWORKS[spec.kind](spec, image_shape, classes)
    network.head.weight.requires_grad_(spec.head == "trained")
    return network
