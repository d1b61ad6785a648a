"""The device that a computation runs on."""

import os

import torch

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.leases import VISIBLE
from intrinsic_lr.models.precision import use_full_precision


def resolve(text: str) -> torch.device:
    """Return the device named `auto`, `cpu`, `cuda`, `cuda:N` or `mps`; auto is CUDA where there is one.

    From here on products in float32 are taken in float32.

    Raises:
        InputError: for a device that is not there, with those that are.
    """
    use_full_precision()
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    present = ["cpu", *(["cuda"] if count else []), *(f"cuda:{index}" for index in range(count))]
    present += ["mps"] if torch.backends.mps.is_available() else []
    if text == "auto":
        return torch.device("cuda" if count else "cpu")
    if text not in present:
        raise InputError(f"device: must be one of auto, {', '.join(present)} here, got {text!r}")
    return torch.device(text)


def describe(device: torch.device) -> str:
    """Return the device's product name where it has one, and the UUID under which it is leased."""
    if device.type != "cuda":
        return str(device)
    return f"{torch.cuda.get_device_name(device)} {os.environ.get(VISIBLE, '')}".strip()


def in_float64(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor in float64, on the CPU where the device has no float64 (mps)."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an exception says that a device's memory did not suffice: PyTorch's own, or a library's."""
    libraries = ("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "CUDA error: out of memory")
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in libraries)
