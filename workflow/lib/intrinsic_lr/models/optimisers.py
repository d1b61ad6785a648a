"""Optimisers of an ensemble: functions that change the weights in place, given their gradients.

Each member is trained as by the optimiser of that name in `torch.optim`, Lion as in Chen et al. 2023 (Symbolic
Discovery of Optimization Algorithms, arXiv:2302.06675, Algorithm 2). Every operation is elementwise, so members do
not depend on each other. What an optimiser keeps between steps are buffers, one tensor for each weight, which
begin at 0. A new optimiser is a function here, and its options and buffers in `study.optimisers`.

All take lists of tensors of one order: the weights, their gradients, and each buffer. Equilibrium, relaxation and
effective learning rate of each stand in `stats.theory`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.func import vmap

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.user_code import UserCode
from intrinsic_lr.models import kernels
from intrinsic_lr.stats.geometry import squared_norms
from intrinsic_lr.study.optimisers import optimiser_options
from intrinsic_lr.study.plan import TrainingPlan

Tensors = list[Tensor]
Buffers = Mapping[str, Tensors]


Scalar = float | Tensor


class Rates(NamedTuple):
    """The number of a step, counted from 1, its rates eta and lambda, and the factor of its gradients.

    While a step is traced to be compiled they are tensors without axes.
    """

    step: int | Tensor
    lr: Scalar
    weight_decay: Scalar
    gradient: Scalar = 1.0


def sgd(weights: Tensors, grads: Tensors, buffers: Buffers, rates: Rates, momentum: float, nesterov: bool) -> None:
    """Stochastic gradient descent with the weight decay in the gradient, as `torch.optim.SGD`.

    Without momentum `w <- (1 - eta lambda) w - eta g`; with it `d = g + lambda w`, `v <- mu v + d`,
    `w <- w - eta v`, with Nesterov's `w <- w - eta (d + mu v)`.
    """
    if not momentum:
        _plain_sgd(weights, grads, rates)
        return
    velocity = buffers["momentum"]
    decayed = _scaled(torch._foreach_add, grads, weights, rates.weight_decay)
    torch._foreach_mul_(velocity, momentum)
    torch._foreach_add_(velocity, decayed)
    change = torch._foreach_add(decayed, velocity, alpha=momentum) if nesterov else velocity
    _scaled(torch._foreach_add_, weights, change, -rates.lr)


def _plain_sgd(weights: Tensors, grads: Tensors, rates: Rates) -> None:
    if compiled := _compiled(weights + grads):
        for weight, grad in zip(weights, grads, strict=True):
            compiled.step(weight, grad, rates.lr * rates.weight_decay, rates.lr)
        return
    _decay_and_subtract(weights, torch._foreach_mul(grads, rates.lr), rates)


def adamw(
    weights: Tensors, grads: Tensors, buffers: Buffers, rates: Rates, beta1: float, beta2: float, eps: float
) -> None:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv:1711.05101), as `torch.optim.AdamW`.

    `m <- beta1 m + (1 - beta1) g`, `v <- beta2 v + (1 - beta2) g^2`, `u = m^ / (sqrt(v^) + eps)` with
    `m^ = m / (1 - beta1^t)` and `v^ = v / (1 - beta2^t)` at step t, and `w <- w - eta lambda w - eta u`.
    """
    first, second = buffers["first_moment"], buffers["second_moment"]
    lr, root = rates.lr / (1 - beta1**rates.step), (1 - beta2**rates.step) ** 0.5
    if compiled := _compiled([*weights, *grads, *first, *second]):
        decay = rates.lr * rates.weight_decay
        for tensors in zip(weights, grads, first, second, strict=True):
            compiled.adamw_step(*tensors, (beta1, beta2), root, eps, lr, decay)
        return
    torch._foreach_lerp_(first, grads, 1 - beta1)
    torch._foreach_mul_(second, beta2)
    torch._foreach_addcmul_(second, grads, grads, 1 - beta2)
    divisor = torch._foreach_sqrt(second)
    torch._foreach_div_(divisor, root)
    torch._foreach_add_(divisor, eps)
    change = torch._foreach_div(first, divisor)
    torch._foreach_mul_(change, lr)
    _decay_and_subtract(weights, change, rates)


def adam(
    weights: Tensors, grads: Tensors, buffers: Buffers, rates: Rates, beta1: float, beta2: float, eps: float
) -> None:
    """Adam with the weight decay in the gradient, `g <- g + lambda w`, as `torch.optim.Adam`."""
    decayed = _scaled(torch._foreach_add, grads, weights, rates.weight_decay)
    adamw(weights, decayed, buffers, rates._replace(weight_decay=0.0), beta1, beta2, eps)


def lion(weights: Tensors, grads: Tensors, buffers: Buffers, rates: Rates, beta1: float, beta2: float) -> None:
    """Lion: `w <- w - eta lambda w - eta sign(beta1 m + (1 - beta1) g)`, then `m <- beta2 m + (1 - beta2) g`."""
    moment = buffers["first_moment"]
    change = torch._foreach_sign(torch._foreach_lerp(moment, grads, 1 - beta1))
    torch._foreach_lerp_(moment, grads, 1 - beta2)
    torch._foreach_mul_(change, rates.lr)
    _decay_and_subtract(weights, change, rates)


def _compiled(tensors: Tensors) -> kernels.Kernels | None:
    """Return the compiled kernels, or None where they cannot be had or do not take these tensors."""
    return kernels.load() if all(map(kernels.is_supported_weight, tensors)) else None


def _decay_and_subtract(weights: Tensors, change: Tensors, rates: Rates) -> None:
    """Set each w to w - (eta lambda w + change). A factor 1 - eta lambda would lose a small decay."""
    _scaled(torch._foreach_add_, change, weights, rates.lr * rates.weight_decay)
    torch._foreach_sub_(weights, change)


def _scaled(add: Callable[..., Any], tensors: Tensors, others: Tensors, factor: Scalar) -> Any:
    """Add others, times a factor, by one of PyTorch's functions, whose `alpha` takes numbers alone."""
    if isinstance(factor, Tensor):
        return add(tensors, torch._foreach_mul(others, factor))
    return add(tensors, others, alpha=factor)


UPDATES = {"sgd": sgd, "adam": adam, "adamw": adamw, "lion": lion}


def apply_update(plan: TrainingPlan, weights: Tensors, grads: Tensors, buffers: Buffers, rates: Rates) -> None:
    """Change weights and buffers in place by one step of a plan's optimiser.

    Raises:
        InputError: where an optimiser of the user's own fails, or returns no such weights and state.
    """
    if plan.optimiser_code:
        _own_update(plan.optimiser_code, weights, grads, buffers, rates)
        return
    UPDATES[plan.optimiser](weights, grads, buffers, rates, **optimiser_options(plan))


def _own_update(code: UserCode, weights: Tensors, grads: Tensors, buffers: Buffers, rates: Rates) -> None:
    """Update by a function of one weight of one member, which `vmap` applies to all members."""
    function = code.function("update")

    def of_member(weight: Tensor, grad: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        found = function(weight, grad, state, rates)
        _check_own(code.file, found, weight, state)
        return found

    for index, (weight, grad) in enumerate(zip(weights, grads, strict=True)):
        state = {name: tensors[index] for name, tensors in buffers.items()}
        new_weight, new_state = vmap(of_member)(weight, grad, state)
        weight.copy_(new_weight)
        for name, kept in state.items():
            kept.copy_(new_state[name])


def _check_own(file: str, found: object, weight: Tensor, state: Mapping[str, Tensor]) -> None:
    """Refuse anything but a pair of a weight and a state as they were given."""
    try:
        new_weight, new_state = found
        new = {"weight": new_weight, **{name: new_state[name] for name in state}}
    except (TypeError, ValueError, KeyError, IndexError):
        raise InputError(
            f"{file}: update: expected (weight, state) with the state {{{', '.join(state)}}}, got {found!r:.60}"
        ) from None
    for name, old in {"weight": weight, **state}.items():
        if not isinstance(new[name], Tensor) or (new[name].shape, new[name].dtype) != (old.shape, old.dtype):
            got = getattr(new[name], "shape", type(new[name]).__name__), getattr(new[name], "dtype", "")
            raise InputError(
                f"{file}: update: expected for {name} a tensor of {tuple(old.shape)} in {old.dtype}, got "
                f"{tuple(got[0]) if got[1] else got[0]} {got[1]}".rstrip()
            )


def clipped(grads: dict[str, Tensor], most: float) -> dict[str, Tensor]:
    """Return gradients (R, ...) of which each member's norm over all weights is at most `most`.

    As `torch.nn.utils.clip_grad_norm_` does: multiplied by min(1, most / (norm + 1e-6)).
    """
    norms = squared_norms(grads, {"all": tuple(grads)})["all"].sqrt()
    factor = (most / (norms + 1e-6)).clamp(max=1.0)
    return {name: grad * factor.to(grad).view(-1, *[1] * (grad.dim() - 1)) for name, grad in grads.items()}
