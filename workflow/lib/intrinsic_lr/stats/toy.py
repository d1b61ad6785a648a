"""Descent on the smallest scale-invariant loss, L(x, y) = x^2 / (x^2 + y^2), in float64.

With weight decay at the intrinsic rate lambda_e = eta lambda the update is w <- (1 - lambda_e) w - eta grad L(w).
Only lambda_e matters: another eta rescales the start (paper, section 1). The whole y axis is a minimum, and yet
descent with weight decay never settles there.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from intrinsic_lr.core.errors import InputError

DESCENT = np.pi**2 / 8
"""lambda_e times the nats by which |x| falls while k = eta/||w||^2 rises from 0 to 1.

A step multiplies x by 1 - 2k, and k grows at the rate 2 lambda_e: the integral of -log|1 - 2k| / (2k) from 0 to 1
(derived).
"""


class Descent(NamedTuple):
    """What was measured along some runs (...) at the T steps kept.

    The loss is NaN once x is exactly 0 under weight decay: then the gradient stays 0 and the norm collapses.
    """

    steps: np.ndarray  # (T,)
    loss: np.ndarray  # (T, ...)
    squared_norm: np.ndarray  # ||w||^2, (T, ...)
    mean_loss: np.ndarray  # over the last half of the steps with weight decay, (...)
    last: np.ndarray  # the final weights, (..., 2)


def smallest_intrinsic_lr(dtype: type = np.float64) -> float:
    """Return the intrinsic learning rate below which x can reach exactly 0.

    Before the first excursion |x| falls by exp(-DESCENT / lambda_e), whatever the learning rate (derived).
    """
    return float(DESCENT / -np.log(np.finfo(dtype).smallest_subnormal, dtype=np.float64))


def two_cycle(lr: ArrayLike, intrinsic_lr: ArrayLike) -> np.ndarray:
    """Return the start (..., 2) of the exact cycle of two steps, along which ||w||^2 = eta and L = lambda_e/2.

    Only the sign of x changes: both equations of the update hold identically there (derived).
    """
    lr, height = np.broadcast_arrays(np.asarray(lr, np.float64), np.asarray(intrinsic_lr, np.float64) / 2)
    return np.stack([np.sqrt(lr * height), np.sqrt(lr * (1 - height))], axis=-1)


def descend(
    start: ArrayLike, lr: ArrayLike, intrinsic_lr: float, steps: int, steps_without: int = 0, keep_every: int = 1
) -> Descent:
    """Run descent with weight decay for `steps`, then without it for `steps_without`.

    Every start (..., 2) is a run, and the learning rates `lr` broadcast against the runs (...). `intrinsic_lr` is
    0 for no weight decay; InputError if it is so small that x underflows to 0.
    """
    lowest = smallest_intrinsic_lr()
    if 0 < intrinsic_lr < lowest:
        raise InputError(
            f"toy loss: intrinsic_lr must be 0 or at least {lowest:.2g}, got {intrinsic_lr:g}: x would fall below "
            "the smallest float64 number"
        )
    x, y = np.moveaxis(np.array(start, np.float64), -1, 0).copy()
    lr = np.broadcast_to(np.asarray(lr, np.float64), x.shape)
    kept, total, counted = [], np.zeros_like(x), 0
    for step in range(steps + steps_without + 1):
        decay = intrinsic_lr if step < steps else 0.0
        squared_norm = x * x + y * y
        value = x * x / squared_norm
        if steps // 2 <= step < steps:
            total += value
            counted += 1
        last = step == steps + steps_without
        if step % keep_every == 0 or last:
            kept.append((step, value, squared_norm))
        if last:
            break
        grad_scale = lr * 2 * x * y / squared_norm**2
        x, y = (1 - decay) * x - grad_scale * y, (1 - decay) * y + grad_scale * x
        if decay and not x.all():
            x, y = np.where(x == 0, np.nan, x), np.where(x == 0, np.nan, y)
    rows, losses, norms = (np.asarray(part) for part in zip(*kept, strict=True))
    return Descent(rows, losses, norms, total / max(counted, 1), np.stack([x, y], axis=-1))
