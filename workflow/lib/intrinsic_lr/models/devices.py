"""The device that a computation runs on."""

import os
import platform
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import torch
from torch._subclasses.fake_tensor import FakeTensor

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.leases import VISIBLE
from intrinsic_lr.models.precision import use_full_precision

Result = TypeVar("Result")


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


def processor() -> str:
    """Return the product name of the machine's processor, or its architecture where the system does not say."""
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line for line in lines if line.startswith("model name"))
        return name.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def in_float64(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor in float64, on the CPU where the device has no float64 (mps)."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return a tensor of the CPU on a device; a GPU goes on with the work in its queue meanwhile."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def is_traced(tensor: torch.Tensor) -> bool:
    """Tell whether a tensor has no numbers: it stands for others while a step is traced to be compiled."""
    return isinstance(tensor, FakeTensor)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an exception says that a device's memory did not suffice: PyTorch's own, or a library's."""
    libraries = ("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "CUDA error: out of memory")
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in libraries)


class MemberLimit:
    """How many members of an ensemble are computed at once; halved where the device's memory does not suffice.

    A member does not depend on those computed beside it.

    Attributes:
        members: the limit.
    """

    def __init__(self, members: int = sys.maxsize) -> None:
        self.members = members

    def map(self, compute: Callable[[slice], Result], count: int, most: int = sys.maxsize) -> list[Result]:
        """Return what `compute` makes of slices of `count` members, each of `most` members at the most.

        Raises:
            RuntimeError: of PyTorch, where memory does not suffice for a single member.
        """
        results: list[Result] = []
        start = 0
        while start < count:
            size = min(self.members, most, count - start)
            try:
                results.append(compute(slice(start, start + size)))
                start += size
                continue
            except RuntimeError as error:
                if size == 1 or not is_out_of_memory(error):
                    raise
            # Only here, after the exception and the tensors in its frames are gone, is there memory to give back.
            torch.cuda.empty_cache()
            self.members = size // 2
            print(f"out of device memory: going on with {self.members} members at a time", file=sys.stderr)
        return results
