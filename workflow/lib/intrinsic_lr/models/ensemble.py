"""Networks with a leading replicate axis: R members of one architecture as one program."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from intrinsic_lr.models.architecture import (
    Architecture,
    Cnn4Architecture,
    MlpArchitecture,
    PreResNetArchitecture,
)
from intrinsic_lr.models.module import build_module
from intrinsic_lr.models.normalisation import Normalizer, standardize
from intrinsic_lr.study.model_spec import ModelSpec

Params = Mapping[str, Tensor]


def build(spec: ModelSpec, image_shape: tuple[int, int, int], classes: int) -> "EnsembleModel":
    """Return the ensemble model of a spec for images (C, H, W) and a number of classes."""
    return {"mlp": Mlp, "cnn4": Cnn4, "preresnet": PreResNet}[spec.kind](spec, image_shape, classes)


class EnsembleModel(Architecture):
    """A network whose parameters carry a leading replicate axis R."""

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

    def forward(self, params: Params, images: Tensor, normalizer: Normalizer) -> Tensor:
        """Return logits (R, B, K) for images (R, B, C, H, W), or (B, C, H, W) shared by all members.

        They are a view of (R, K, B): a softmax over an axis that is not the last runs along the vector registers.
        """
        return torch.bmm(params["head.weight"], self._features(params, images, normalizer)).transpose(1, 2)

    def module(self) -> nn.Module:
        """Return one member as an ordinary network with the same parameter names."""
        return build_module(self.spec, self.image_shape, self.classes)

    @abstractmethod
    def _features(self, params: Params, images: Tensor, normalizer: Normalizer) -> Tensor:
        """Return features (R, F, B) for images as `forward` takes them."""

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


class Mlp(MlpArchitecture, EnsembleModel):
    """Activations are (R, width, B).

    With the images last the products `W x` take and give contiguous tensors, gradients included.
    """

    @staticmethod
    def arrange(images: Tensor) -> Tensor:
        """Return images as activations (R, F, B), or (F, B) where all members share them."""
        return images.flatten(-3).transpose(-1, -2)

    def _features(self, params: Params, images: Tensor, normalizer: Normalizer) -> Tensor:
        x = self.arrange(images)
        for layer in range(1, self.spec.depth + 1):
            # A shared batch (F, B) broadcasts against (R, width, F) without being copied R times.
            x = torch.matmul(params[f"linear{layer}.weight"], x)
            x = self._norm(f"norm{layer}", params, x, normalizer)
        return x

    def _norm(self, name: str, params: Params, x: Tensor, normalizer: Normalizer) -> Tensor:
        """Normalise activations (R, C, B), then rectify them."""
        rectified = self.spec.norm == "batch" and not self.spec.affine
        if self.spec.norm == "batch":
            x = normalizer(name, x.flatten(0, 1).unsqueeze(0), rectified).view(x.shape)
        else:
            x = standardize(x.unflatten(1, (self.spec.group_count, -1)), (2,)).flatten(1, 2)
        if self.spec.affine:
            x = x * params[f"{name}.weight"].unsqueeze(2) + params[f"{name}.bias"].unsqueeze(2)
        return x if rectified else torch.relu(x)


class ConvolutionalModel(EnsembleModel):
    """Convolutions without bias as grouped convolutions; activations are (B, R * C, H, W).

    On a CPU they lie in memory channels last, where normalising costs a quarter (docs/performance.md).
    """

    @staticmethod
    def arrange(images: Tensor) -> Tensor:
        """Return images as activations (B, R * C, H, W), or (B, C, H, W) where all members share them."""
        last = images.permute(0, 2, 3, 1) if images.dim() == 4 else images.permute(1, 3, 4, 0, 2).flatten(3)
        x = last.permute(0, 3, 1, 2)
        return x.contiguous(
            memory_format=torch.channels_last if x.device.type == "cpu" else torch.contiguous_format
        )

    def _conv(self, name: str, params: Params, x: Tensor, stride: int = 1) -> Tensor:
        weight = params[f"{name}.weight"]
        # The input of the first layer may be shared by all members; then one plain convolution serves all.
        groups = x.shape[1] // weight.shape[2]
        return F.conv2d(x, weight.flatten(0, 1), stride=stride, padding=weight.shape[-1] // 2, groups=groups)

    def _norm(self, name: str, params: Params, x: Tensor, normalizer: Normalizer, rectify: bool = True) -> Tensor:
        """Normalise activations (B, R * C, H, W), then rectify them unless told not to."""
        rectified = rectify and self.spec.norm == "batch" and not self.spec.affine
        if self.spec.norm == "batch":
            x = normalizer(name, x, rectified)
        else:
            grouped = x.unflatten(1, (-1, self.spec.group_count, self.norms[name] // self.spec.group_count))
            x = standardize(grouped, (3, 4, 5)).flatten(1, 3)
        if self.spec.affine:
            scale, shift = (params[f"{name}.{part}"].view(-1, 1, 1) for part in ("weight", "bias"))
            x = x * scale + shift
        return torch.relu(x) if rectify and not rectified else x

    @staticmethod
    def pool(x: Tensor, channels: int) -> Tensor:
        """Return the means of activations (B, R * C, H, W) over positions, (R, C, B)."""
        return x.mean(dim=(2, 3)).unflatten(1, (-1, channels)).permute(1, 2, 0)


class Cnn4(Cnn4Architecture, ConvolutionalModel):
    """Four convolutions in a row."""

    def _features(self, params: Params, images: Tensor, normalizer: Normalizer) -> Tensor:
        x = self.arrange(images)
        for layer, stride in enumerate(self.STRIDES, start=1):
            x = self._conv(f"conv{layer}", params, x, stride)
            x = self._norm(f"norm{layer}", params, x, normalizer)
        return self.pool(x, self._widths[-1])


class PreResNet(PreResNetArchitecture, ConvolutionalModel):
    """Residual blocks."""

    def _features(self, params: Params, images: Tensor, normalizer: Normalizer) -> Tensor:
        x = self._conv("conv", params, self.arrange(images))
        for name, _, stride, changes in self._blocks():
            branch = self._norm(f"{name}.norm1", params, x, normalizer)
            branch = self._conv(f"{name}.conv1", params, branch, stride)
            branch = self._norm(f"{name}.norm2", params, branch, normalizer)
            branch = self._conv(f"{name}.conv2", params, branch)
            if changes:
                x = self._norm(f"{name}.shortcut_norm", params, x, normalizer, rectify=False)
                x = self._conv(f"{name}.shortcut", params, x, stride)
            x = x + branch
        x = self._norm("norm", params, x, normalizer, rectify=bool(self.spec.final_relu))
        return self.pool(x, self.norms["norm"])
