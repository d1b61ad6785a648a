"""Normalisation of ensembles, with eps = 0 and exact scale invariance.

A positive eps inside the square root would break the invariance `L(c w) = L(w)`. Without it a constant input
divides by zero, and an input that is constant up to rounding has its rounding errors blown up to unit variance.
Where the variance is not above `(16 * machine epsilon)^2` times the mean square, the input therefore counts as
constant and becomes exactly 0, with gradient 0. Both sides of this criterion are homogeneous, so the invariance
stays exact. Rounding errors of a constant c are below a few machine epsilons times |c|, while an input with real
variation would need a spread below a millionth of its mean (float32) to be hit.

Variances are population variances throughout. A batch norm of an ensemble treats the channels of all members as
channels of one network. Compiled kernels, or else PyTorch's own, normalise them in one call: three times faster,
or more, than the same formula in single operations (docs/performance.md).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from intrinsic_lr.models import kernels
from intrinsic_lr.models.devices import in_float64, is_traced

CONSTANT_FACTOR = 16.0

Normalizer = Callable[[str, Tensor, bool, float], Tensor]
"""From a layer's name, activations (B, R * C, ...), whether a ReLU follows, and eps to normalised activations."""


@dataclass(frozen=True)
class Statistics:
    """Batch-norm statistics of one layer: mean and variance of shape (R, C); variance inf marks a constant."""

    mean: Tensor
    variance: Tensor


def standardize(x: Tensor, dims: tuple[int, ...], eps: float = 0.0) -> Tensor:
    """Return x with mean 0 and variance 1 over `dims`, and exactly 0 where it is constant there.

    A positive `eps` is added to the variance, as in PyTorch's norms.
    """
    mean, centred, variance = moments(x, dims)
    return centred * ((variance + eps).rsqrt() if eps else inverse_deviation(mean, variance))


def moments(x: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean, x - mean, and variance over `dims`, which are kept.

    Two passes over the data: as accurate as `torch.var_mean` and, on a CPU, about twice as fast.
    """
    mean = x.mean(dim=dims, keepdim=True)
    centred = x - mean
    return mean, centred, centred.square().mean(dim=dims, keepdim=True)


def constant_limit(dtype: torch.dtype) -> float:
    """Return the largest ratio of variance to mean square of a constant (the module's criterion)."""
    return (CONSTANT_FACTOR * torch.finfo(dtype).eps) ** 2


def inverse_deviation(mean: Tensor, variance: Tensor) -> Tensor:
    """Return 1/sqrt(variance), and 0 for what counts as constant."""
    with torch.no_grad():
        constant = variance <= constant_limit(variance.dtype) * (variance + mean.square())
    return torch.where(constant, 0.0, torch.where(constant, 1.0, variance).rsqrt())


def normalize_forward(x: Tensor, rectify: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Batch norm of activations (B, channels, ...), then ReLU where asked; constant channels become 0.

    Returns:
        The result, and mean and inverse deviation of each channel, of which the latter is 0 for a constant.
    """
    compiled = kernels.load() if kernels.is_supported_activation(x) else None
    if compiled:
        return compiled.normalize(x, constant_limit(x.dtype), rectify)
    if is_traced(x):
        y, mean, inverse = _normalize_traced(x)
        return y.relu() if rectify else y, mean, inverse
    y, mean, inverse = torch.native_batch_norm(x, None, None, None, None, True, 0.0, 0.0)
    ratio = (mean * inverse).square_()
    eps = torch.finfo(mean.dtype).eps
    if x.device.type == "cpu":
        # A CPU kernel that adds up N equal numbers one by one is wrong by up to N eps / 4 of their mean (derived).
        limit = (max(CONSTANT_FACTOR, x.numel() / x.shape[1] / 4) * eps) ** -2
        if not bool((ratio < limit).all()):
            _normalize_exactly(x, y, mean, inverse, (~(ratio < limit)).nonzero().squeeze(1))
    else:
        # A GPU adds up in a tree, and would have to be waited for: the criterion costs it one more pass. 0 * inf,
        # of a channel of zeros, is not below the limit either; a channel that is not finite is not constant.
        constant = ~(ratio < (CONSTANT_FACTOR * eps) ** -2) & ~inverse.isnan()
        inverse.masked_fill_(constant, 0.0)
        y.masked_fill_(constant.view(1, -1, *[1] * (x.dim() - 2)), 0.0)
    return y.relu_() if rectify else y, mean, inverse


def _normalize_traced(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise by operations that a compiler fuses, without a look at the numbers.

    In whatever order it adds up: numbers that equal the first of their channel leave differences of exactly 0.
    """
    others = range(2, x.dim())
    first = x[:1]
    for axis in others:
        first = first.narrow(axis, 0, 1)
    shift, centred, variance = moments(x - first, (0, *others))
    mean = first + shift
    inverse = inverse_deviation(mean, variance)
    return centred * inverse, mean.flatten(), inverse.flatten()


def _normalize_exactly(x: Tensor, y: Tensor, mean: Tensor, inverse: Tensor, channels: Tensor) -> None:
    """Normalise some channels again, in place, by exact moments and the module's own criterion."""
    exact_mean, centred, variance = moments(x.index_select(1, channels), (0, *range(2, x.dim())))
    exact_inverse = inverse_deviation(exact_mean, variance)
    y.index_copy_(1, channels, centred * exact_inverse)
    mean.index_copy_(0, channels, exact_mean.flatten())
    inverse.index_copy_(0, channels, exact_inverse.flatten())


class _BatchNorm(torch.autograd.Function):
    """`normalize_forward` with a graph, differentiable twice.

    Saved are input and output only, and the ReLU works in place: memory traffic is what such a layer costs.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, rectify: bool) -> tuple[Tensor, Tensor, Tensor]:
        # Statistics stay in float32 after a convolution in bfloat16; a CPU kernel would take those of its input.
        x = x.float() if x.dtype == torch.bfloat16 and x.device.type == "cpu" else x
        y, mean, inverse = normalize_forward(x, rectify)
        ctx.save_for_backward(x, y if rectify else None, mean, inverse)
        ctx.mark_non_differentiable(mean, inverse)
        return y, mean, inverse

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor, *_: Tensor) -> tuple[Tensor, None]:
        x, y, mean, inverse = ctx.saved_tensors
        # A derivative that is to be differentiated again needs operations that autograd knows.
        compiled = kernels.load() if kernels.is_supported_activation(x) and not torch.is_grad_enabled() else None
        if compiled:
            return compiled.normalize_backward(grad_output, x, y, mean, inverse), None
        if y is not None:
            grad_output = torch.ops.aten.threshold_backward(grad_output, y, 0)
        return torch.ops.aten.native_batch_norm_backward(
            grad_output, x, None, None, None, mean, inverse, True, 0.0, [True, False, False]
        )[0], None


class _LayerNorm(torch.autograd.Function):
    """Normalises over the last axis by PyTorch's own kernels, differentiable twice; constants become 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.float() if x.dtype == torch.bfloat16 else x
        y, mean, inverse = torch.native_layer_norm(x, x.shape[-1:], None, None, 0.0)
        factor = max(CONSTANT_FACTOR, x.shape[-1] / 4)  # as in `normalize_forward`
        limit = (factor * torch.finfo(x.dtype).eps) ** -2
        constant = ~((mean * inverse).square() < limit) & ~inverse.isnan()
        if x.device.type != "cpu" or is_traced(x) or bool(constant.any()):
            inverse, y = inverse.masked_fill(constant, 0.0), y.masked_fill(constant, 0.0)
        ctx.save_for_backward(x, mean, inverse)
        return y

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        x, mean, inverse = ctx.saved_tensors
        return torch.ops.aten.native_layer_norm_backward(
            grad_output, x, x.shape[-1:], mean, inverse, None, None, [True, False, False]
        )[0]


def layer_norm(x: Tensor) -> Tensor:
    """Return x with mean 0 and variance 1 over its last axis, and exactly 0 where it is constant there."""
    return _LayerNorm.apply(x)


class BatchStatistics:
    """Normalise every batch by its own statistics, as in training."""

    def __call__(self, name: str, x: Tensor, rectify: bool, eps: float = 0.0) -> Tensor:
        """Normalise by the batch."""
        return _with_eps(x, rectify, eps) if eps else _BatchNorm.apply(x, rectify)[0]


def _with_eps(x: Tensor, rectify: bool, eps: float) -> Tensor:
    x = x.float() if x.dtype == torch.bfloat16 and x.device.type == "cpu" else x
    y = torch.native_batch_norm(x, None, None, None, None, True, 0.0, eps)[0]
    return y.relu() if rectify else y


class CollectedStatistics:
    """Normalise every batch by its own statistics, and pool the statistics of all batches.

    The pooled variance is the total one: within batches and between their means. It is merged batch by
    batch in float64 by Chan's update, which does not cancel.

    Args:
        channels: channels C of each batch-norm layer of one member.
    """

    def __init__(self, channels: Mapping[str, int]) -> None:
        self._channels = channels
        self._pooled: dict[str, tuple[int, Tensor, Tensor]] = {}
        self._smoothed: set[str] = set()
        self._like = torch.empty(0)

    def __call__(self, name: str, x: Tensor, rectify: bool, eps: float = 0.0) -> Tensor:
        """Normalise by the batch, and remember its statistics."""
        count = x.numel() // x.shape[1]
        if eps:
            self._smoothed.add(name)
            y = _with_eps(x, rectify, eps)
            variance, self._like = torch.var_mean(x, (0, *range(2, x.dim())), correction=0)
            squares = in_float64(variance) * count
        else:
            y, self._like, inverse = _BatchNorm.apply(x, rectify)
            squares = torch.where(inverse == 0, 0.0, in_float64(inverse).reciprocal()).square() * count
        mean = in_float64(self._like)
        if name in self._pooled:
            before, pooled_mean, pooled_squares = self._pooled[name]
            total = before + count
            shift = mean - pooled_mean
            mean = pooled_mean + shift * (count / total)
            squares = pooled_squares + squares + shift.square() * (before * count / total)
            count = total
        self._pooled[name] = (count, mean, squares)
        return y

    def result(self) -> dict[str, Statistics]:
        """Return the pooled statistics of every batch-norm layer."""
        found = {}
        for name, (count, pooled_mean, squares) in self._pooled.items():
            pooled = (pooled_mean, squares / count)
            mean, variance = (value.to(self._like).view(-1, self._channels[name]) for value in pooled)
            if name not in self._smoothed:
                variance = variance.masked_fill(inverse_deviation(mean, variance) == 0, torch.inf)
            found[name] = Statistics(mean, variance)
        return found


class FixedStatistics:
    """Normalise by given statistics, as in evaluation."""

    def __init__(self, statistics: Mapping[str, Statistics]) -> None:
        self._statistics = statistics

    def __call__(self, name: str, x: Tensor, rectify: bool, eps: float = 0.0) -> Tensor:
        """Normalise by the statistics of layer `name`."""
        statistics = self._statistics[name]
        y = F.batch_norm(x, statistics.mean.flatten(), statistics.variance.flatten(), eps=eps)
        return y.relu_() if rectify else y
