"""Arithmetic of matrix products and convolutions in training; all else stays in the dtype of the weights.

Norms and their statistics, weights, momentum and updates are never reduced, nor is evaluation: a reduced precision
rounds what goes into the products of a training step.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch


def use_full_precision() -> None:
    """Let float32 mean float32 in this process: PyTorch's convolutions on CUDA take TF32 unless told not to."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def products_in(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which products are taken in `float32`, `tf32` (where the device has it) or `bfloat16`.

    A backward pass takes the precision of its forward pass in bfloat16, but that of its own time in tf32: both
    belong within.
    """
    if precision == "bfloat16":
        return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)
    return _tf32() if precision == "tf32" else nullcontext()


@contextmanager
def _tf32() -> Iterator[None]:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    try:
        yield
    finally:
        use_full_precision()
