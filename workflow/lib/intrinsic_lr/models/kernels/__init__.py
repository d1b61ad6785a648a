"""Compiled kernels for a training step on a CPU, where a C compiler is at hand.

A core computes the gradients of one member after the other from what stays in its cache (`chain.c`); networks that
are no chain have batch norm with ReLU in three passes over memory (docs/performance.md). Without `gcc`, or with
`INTRINSIC_LR_KERNELS=off` in the environment, PyTorch's own operations are used, which round differently.
"""

import ctypes
import itertools
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.models.devices import is_traced
from intrinsic_lr.models.kernels import library

SWITCH = "INTRINSIC_LR_KERNELS"

PARTS = 32
"""Parts that norm.c splits a column into."""
Shape = tuple[int, int, int, int, int, int]
"""Channels, results, side of the kernel, stride, height and width of a convolution's input."""

_POINTER, _COUNT, _REAL, _FLAG = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float, ctypes.c_int
_SIGNATURES = {
    "normalize_rows": [_POINTER] * 4 + [_COUNT, _COUNT, _REAL, _FLAG, _FLAG],
    "normalize_backward_rows": [_POINTER] * 6 + [_COUNT, _COUNT, _FLAG, _FLAG],
    "normalize_columns": [_POINTER] * 5 + [_COUNT, _COUNT, _REAL, _FLAG, _FLAG],
    "normalize_backward_columns": [_POINTER] * 8 + [_COUNT, _COUNT, _FLAG, _FLAG],
    "chain_bytes": [_POINTER] + [_COUNT] * 3,
    "chain": [_POINTER, _COUNT, *[_POINTER] * 3, _FLAG, *[_POINTER] * 2, *[_COUNT] * 3, _REAL, _POINTER, _FLAG],
    "train_chain": [
        *[_POINTER, _COUNT, _POINTER, _FLAG, *[_POINTER] * 3, _COUNT, *[_POINTER] * 3, *[_COUNT] * 4],
        *[_REAL, _POINTER, _COUNT, _FLAG],
    ],
    "sgd_step": [_POINTER] * 2 + [_COUNT, _REAL, _REAL, _FLAG],
    "adamw_step": [_POINTER] * 4 + [_COUNT] + [_REAL] * 7 + [_FLAG],
}


class Kernels:
    """The kernels of the compiled library in a file; they take contiguous float32 tensors on the CPU.

    Raises OSError where it cannot be loaded, and AttributeError where it lacks a function.
    """

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))
        for name, arguments in _SIGNATURES.items():
            function = getattr(self._library, name)
            function.argtypes, function.restype = arguments, _COUNT if name == "chain_bytes" else None

    def normalize(self, x: Tensor, limit: float, rectify: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Return (x - mean) / deviation per channel, rectified where asked, the means and the inverse deviations.

        A channel of `x`, which `is_supported_activation` accepts, is constant and becomes 0 where its variance is
        not above `limit` times its mean square.
        """
        channels, count = _sizes(x)
        found = torch.empty_like(x), x.new_empty(channels), x.new_empty(channels)
        layout, space = "rows", ()
        if x.dim() == 4:
            layout, space = "columns", (torch.empty(PARTS * channels, dtype=torch.float64),)
        kernel = getattr(self._library, f"normalize_{layout}")
        kernel(*_pointers(x, *found, *space), channels, count, limit, rectify, torch.get_num_threads())
        return found

    def normalize_backward(
        self, grad_output: Tensor, x: Tensor, y: Tensor | None, mean: Tensor, inverse: Tensor
    ) -> Tensor:
        """Return the derivative in `x`, given the one in what `normalize` returned; `y` where it was rectified."""
        channels, count = _sizes(x)
        layout, space, order = "rows", (), torch.contiguous_format
        if x.dim() == 4:
            sums = torch.empty(2 * PARTS * channels, dtype=torch.float64)
            layout, space, order = "columns", (sums, x.new_empty(2 * channels)), torch.channels_last
        grad_output, result = grad_output.contiguous(memory_format=order), torch.empty_like(x)
        given = _pointers(grad_output, x, x if y is None else y, mean, inverse, result, *space)
        kernel = getattr(self._library, f"normalize_backward_{layout}")
        kernel(*given, channels, count, y is not None, torch.get_num_threads())
        return result

    def gradients(
        self,
        shapes: Sequence[Shape],
        weights: Sequence[Tensor],
        images: Tensor,
        labels: Tensor,
        limit: float,
        fixed_head: bool,
        most_bytes: int = sys.maxsize,
    ) -> tuple[Tensor, list[Tensor]] | None:
        """Return mean losses (R,) of a chain of convolutions, and their derivatives in the trained weights.

        Args:
            shapes: of the convolutions, each padded by half its kernel and followed by batch norm and ReLU.
            weights: of each (R, out, channels, kernel, kernel), and of the head (R, K, F) on means over places.
            images: (R, B, C, H, W), or (B, C, H, W) shared by all members.
            labels: (R, B), from 0 to K - 1, which data sets are checked for.
            limit: as for `normalize`.
            fixed_head: whether the head is not trained.
            most_bytes: most that a thread may work in; None is returned where it would need more.
        """
        members, classes, batch = len(weights[0]), weights[-1].shape[1], labels.shape[1]
        described = _described(shapes)
        bytes_each = self._library.chain_bytes(described, len(shapes), batch, classes)
        if bytes_each > most_bytes:
            return None
        threads = min(torch.get_num_threads(), members)
        space = torch.empty(threads * bytes_each, dtype=torch.uint8)
        images, labels, loss = images.contiguous(), labels.contiguous(), weights[0].new_empty(members)
        found = [torch.empty_like(weight) for weight in (weights[:-1] if fixed_head else weights)]
        several = _POINTER * len(weights)
        self._library.chain(
            *(described, len(shapes), several(*_pointers(*weights)), several(*_pointers(*found))),
            *(images.data_ptr(), images.dim() == 4, *_pointers(labels, loss)),
            *(members, batch, classes, limit, space.data_ptr(), threads),
        )
        return loss, found

    def train(
        self,
        shapes: Sequence[Shape],
        weights: Sequence[Tensor],
        images: Tensor,
        labels: Tensor,
        order: Tensor,
        rates: Sequence[tuple[float, float]],
        limit: float,
        fixed_head: bool,
        most_bytes: int = sys.maxsize,
    ) -> Tensor | None:
        """Change the weights by steps of SGD, the same bits as `gradients` and `step`; return losses (steps, R).

        Of the data set with images (N, C, H, W) and labels (N,), `order` (R, steps, B) says which ones each member
        sees; each member's are contiguous. `rates` are decay and learning rate of each step, as for `step`, all
        else is as for `gradients`.
        """
        (members, steps, batch), classes = order.shape, weights[-1].shape[1]
        described = _described(shapes)
        bytes_each = self._library.chain_bytes(described, len(shapes), batch, classes)
        if bytes_each > most_bytes:
            return None
        # Behind it the gradients of one member.
        bytes_each += 4 * sum(weight[0].numel() for weight in weights)
        threads = min(torch.get_num_threads(), members)
        space = torch.empty(threads * bytes_each, dtype=torch.uint8)
        decays, lrs = torch.tensor(rates, dtype=torch.float32).T.contiguous()
        losses = weights[0].new_empty(steps, members)
        self._library.train_chain(
            *(described, len(shapes), (_POINTER * len(weights))(*_pointers(*weights)), fixed_head),
            *(*_pointers(images, labels, order), order.stride(0), *_pointers(decays, lrs, losses)),
            *(steps, members, batch, classes, limit, space.data_ptr(), bytes_each, threads),
        )
        return losses

    def step(self, weight: Tensor, gradient: Tensor, decay: float, lr: float) -> None:
        """Set `weight` to weight - (decay * weight + lr * gradient)."""
        self._library.sgd_step(*_pointers(weight, gradient), weight.numel(), decay, lr, torch.get_num_threads())

    def adamw_step(
        self,
        weight: Tensor,
        gradient: Tensor,
        first: Tensor,
        second: Tensor,
        betas: tuple[float, float],
        root: float,
        eps: float,
        lr: float,
        decay: float,
    ) -> None:
        """Update the moments `first` and `second`, and `weight` by decay * weight + lr * first / denominator.

        The denominator is sqrt(second) / root + eps; `lr` and `root` hold the bias corrections.
        """
        beta1, beta2 = betas
        rates = 1 - beta1, beta2, 1 - beta2, root, eps, lr, decay
        given = _pointers(weight, gradient, first, second)
        self._library.adamw_step(*given, weight.numel(), *rates, torch.get_num_threads())


def is_supported_activation(x: Tensor) -> bool:
    """Tell whether the kernels take activations: float32 on the CPU, (1, C, N) or channels last (B, C, H, W)."""
    if x.dtype != torch.float32 or x.device.type != "cpu" or not x.numel() or is_traced(x):
        return False
    if x.dim() == 4:
        return x.is_contiguous(memory_format=torch.channels_last)
    return x.dim() == 3 and len(x) == 1 and x.is_contiguous()


def is_supported_weight(x: Tensor) -> bool:
    """Tell whether `step` takes a tensor: float32, contiguous, on the CPU."""
    return x.dtype == torch.float32 and x.device.type == "cpu" and x.is_contiguous() and not is_traced(x)


@cache
def load() -> Kernels | None:
    """Return the kernels, compiled if need be, or None where they are switched off or fail, which is said once.

    Raises InputError for a switch that is neither `on` nor `off`.
    """
    switch = os.environ.get(SWITCH, "on")
    if switch not in ("on", "off"):
        raise InputError(f"{SWITCH}: must be on or off, got {switch!r}")
    compiler = shutil.which("gcc")
    if compiler is None or switch == "off":
        return None
    try:
        kernels = Kernels(library.build(compiler))
        _test(kernels)
        return kernels
    except (AttributeError, InputError, OSError, RuntimeError, subprocess.SubprocessError) as error:
        reason = getattr(error, "stderr", None) or error
        print(f"warning: compiled kernels are not used, PyTorch computes instead: {reason}", file=sys.stderr)
        return None


def arithmetic() -> str:
    """Return `compiled` where the kernels are used on a CPU, else `pytorch`."""
    return "compiled" if load() else "pytorch"


def instructions() -> str:
    """Return the processor's instructions that sums are computed by, such as `AVX512`: others round otherwise."""
    return torch.backends.cpu.get_cpu_capability()


def _test(kernels: Kernels) -> None:
    """Compute cases known by heart; raise `RuntimeError` where a kernel returns something else."""
    weight = torch.tensor([[3.0, -1.0]])
    kernels.step(weight, torch.tensor([[2.0, 2.0]]), 0.5, 0.25)
    moved, first, second = torch.tensor([3.0, -1.0]), torch.zeros(2), torch.zeros(2)
    kernels.adamw_step(moved, torch.tensor([2.0, 2.0]), first, second, (0.5, 0.75), 0.5, 0.0, 0.5, 0.5)
    expected, found = [1.0, -1.0, 1.25, -0.75, 1.0, 1.0, 1.0, 1.0], [weight, moved, first, second]
    for x in (torch.tensor([[[1.0, 5.0]]]), torch.tensor([1.0, 5.0]).view(2, 1, 1, 1)):
        x = x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x
        y, mean, inverse = kernels.normalize(x, 0.0, True)
        found += [y, mean, inverse, kernels.normalize_backward(torch.ones_like(x), x, y, mean, inverse)]
        # Two numbers become -1 and 1 whatever they are: the gradient in them is 0.
        expected += [0.0, 1.0, 3.0, 0.5, 0.0, 0.0]
    # Equal images are a constant, which becomes 0: every class is as likely as the other.
    shapes, images = [(1, 1, 1, 1, 1, 1)], torch.ones(1, 3, 1, 1, 1)
    weights, labels = [torch.ones(1, 1, 1), torch.ones(1, 4, 1)], torch.tensor([[0, 1, 3]])
    loss, gradient = kernels.gradients(shapes, weights, images, labels, 1e-12, False)
    found += [loss, *gradient]
    expected += [math.log(4), 0.0, 0.0, 0.0, 0.0, 0.0]
    rates, order = [(0.5, 0.25)] * 2, torch.tensor([[[0, 1, 2], [2, 1, 0]]])
    losses = kernels.train(shapes, weights, images[0], labels[0], order, rates, 1e-12, False)
    found += [losses, *weights]
    expected += [math.log(4), math.log(4), 0.25, 0.25, 0.25, 0.25, 0.25]
    values = torch.cat([value.flatten() for value in found])
    if not torch.allclose(values, torch.tensor(expected), rtol=0, atol=1e-6):
        raise RuntimeError(f"their self-test gave {values.tolist()}, expected {expected}")


def _described(shapes: Sequence[Shape]) -> ctypes.Array:
    return (_COUNT * (6 * len(shapes)))(*itertools.chain.from_iterable(shapes))


def _sizes(x: Tensor) -> tuple[int, int]:
    return x.shape[1], x.numel() // x.shape[1]


def _pointers(*tensors: Tensor) -> list[int]:
    return [tensor.data_ptr() for tensor in tensors]
