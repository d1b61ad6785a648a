"""The same networks as ordinary `torch.nn.Module`s, one member each: for loading a checkpoint.

Parameter names are those of the ensembles, so a member's slice of a checkpoint is a state dictionary.
"""

from collections import OrderedDict
from math import prod

import torch
from torch import Tensor, nn

from intrinsic_lr.models.normalisation import inverse_deviation
from intrinsic_lr.study.model_spec import ModelSpec


class Norm(nn.Module):
    """Batch, group or layer norm with eps = 0; batch norm keeps no running average.

    In training mode a batch norm uses the batch's statistics; in evaluation mode its buffers, which are to be
    loaded from statistics recomputed on the training set (variance inf marks a constant channel).
    """

    def __init__(self, kind: str, channels: int, groups: int, affine: bool) -> None:
        super().__init__()
        self.kind, self.groups = kind, groups
        if affine:
            self.weight = nn.Parameter(torch.ones(channels))
            self.bias = nn.Parameter(torch.zeros(channels))
        self.affine = affine
        if kind == "batch":
            self.register_buffer("running_mean", torch.zeros(channels))
            self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise activations (B, C) or (B, C, H, W)."""
        shape = (1, -1) + (1,) * (x.dim() - 2)
        if self.kind == "batch" and not self.training:
            y = (x - self.running_mean.view(shape)) / self.running_var.view(shape).sqrt()
        elif self.kind == "batch":
            y = self._centred(x, [0, *range(2, x.dim())])
        else:
            y = self._centred(x.reshape(x.shape[0], self.groups, -1), [2]).reshape(x.shape)
        return y * self.weight.view(shape) + self.bias.view(shape) if self.affine else y

    @staticmethod
    def _centred(x: Tensor, dims: list[int]) -> Tensor:
        mean = x.mean(dims, keepdim=True)
        centred = x - mean
        return centred * inverse_deviation(mean, centred.square().mean(dims, keepdim=True))


def build_module(spec: ModelSpec, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Return one network of a spec for images (B, C, H, W) of `image_shape`; its outputs are logits (B, K)."""

    def norm(channels: int) -> Norm:
        return Norm(spec.norm, channels, spec.group_count, spec.affine)

    if spec.kind == "mlp":
        return _mlp(spec, prod(image_shape), classes, norm)
    if spec.kind == "cnn4":
        return _cnn4(spec, image_shape[0], classes, norm)
    return PreResNetModule(spec, image_shape[0], classes, norm)


def _mlp(spec: ModelSpec, fan_in: int, classes: int, norm) -> nn.Module:
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for layer in range(1, (spec.depth or 0) + 1):
        layers[f"linear{layer}"] = nn.Linear(fan_in, spec.width, bias=False)
        layers[f"norm{layer}"] = norm(spec.width)
        layers[f"relu{layer}"] = nn.ReLU()
        fan_in = spec.width
    layers["head"] = nn.Linear(fan_in, classes, bias=False)
    return nn.Sequential(layers)


def _cnn4(spec: ModelSpec, channels: int, classes: int, norm) -> nn.Module:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for layer, (factor, stride) in enumerate(((1, 1), (1, 2), (2, 1), (2, 2)), start=1):
        width = spec.width * factor
        layers[f"conv{layer}"] = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        layers[f"norm{layer}"] = norm(width)
        layers[f"relu{layer}"] = nn.ReLU()
        channels = width
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["head"] = nn.Linear(channels, classes, bias=False)
    return nn.Sequential(layers)


class Block(nn.Module):
    """A pre-activation residual block."""

    def __init__(self, channels: int, width: int, stride: int, norm) -> None:
        super().__init__()
        self.norm1 = norm(channels)
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.norm2 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.changes = channels != width
        if self.changes:
            self.shortcut_norm = norm(channels)
            self.shortcut = nn.Conv2d(channels, width, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        branch = self.conv2(torch.relu(self.norm2(self.conv1(torch.relu(self.norm1(x))))))
        return branch + (self.shortcut(self.shortcut_norm(x)) if self.changes else x)


class PreResNetModule(nn.Module):
    """Pre-activation residual network of 6n + 2 layers."""

    def __init__(self, spec: ModelSpec, channels: int, classes: int, norm) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, spec.width, 3, padding=1, bias=False)
        channels = spec.width
        for stage in (1, 2, 3):
            width = spec.width * 2 ** (stage - 1)
            blocks: OrderedDict[str, nn.Module] = OrderedDict()
            for block in range(1, (spec.blocks or 0) + 1):
                blocks[f"block{block}"] = Block(channels, width, 1 if channels == width else 2, norm)
                channels = width
            self.add_module(f"stage{stage}", nn.Sequential(blocks))
        self.norm = norm(channels)
        self.final_relu = spec.final_relu
        self.head = nn.Linear(channels, classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, K)."""
        x = self.norm(self.stage3(self.stage2(self.stage1(self.conv(x)))))
        return self.head((torch.relu(x) if self.final_relu else x).mean(dim=(2, 3)))
