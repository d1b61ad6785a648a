"""Compiled kernels for what surrounds the products of a training step on a CPU, where a C compiler is at hand.

PyTorch normalises, rectifies and updates in some ten passes over memory, which take longer than the products of a
narrow network; `kernels.c` does it in three (docs/performance.md). It is compiled when first needed, in half a
second, into the user's cache, under a name that stands for its text, the compiler and the processor. Without
`gcc`, or with `INTRINSIC_LR_KERNELS=off` in the environment, PyTorch's own operations are used. The two round
differently; run.json says which it was.
"""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from intrinsic_lr.errors import InputError
from intrinsic_lr.storage import atomic_path

SOURCE = Path(__file__).with_name("kernels.c")
SWITCH = "INTRINSIC_LR_KERNELS"
FLAGS = (
    "-O3",
    "-mprefer-vector-width=512",
    "-march=native",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fopenmp",
    "-fPIC",
    "-shared",
)
COMPILE_SECONDS = 60

PARTS = 32
"""Parts that kernels.c splits a column into."""

_POINTER, _COUNT, _REAL, _FLAG = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float, ctypes.c_int
_SIGNATURES = {
    "normalise_rows": [_POINTER] * 4 + [_COUNT, _COUNT, _REAL, _FLAG, _FLAG],
    "differentiate_rows": [_POINTER] * 6 + [_COUNT, _COUNT, _FLAG, _FLAG],
    "normalise_columns": [_POINTER] * 5 + [_COUNT, _COUNT, _REAL, _FLAG, _FLAG],
    "differentiate_columns": [_POINTER] * 8 + [_COUNT, _COUNT, _FLAG, _FLAG],
    "cross_entropy": [_POINTER] * 4 + [_COUNT] * 3 + [_FLAG],
    "step": [_POINTER] * 2 + [_COUNT, _REAL, _REAL, _FLAG],
}


class Kernels:
    """The kernels of one compiled library; they take contiguous float32 tensors on the CPU.

    Args:
        library: the file.

    Raises:
        OSError: it cannot be loaded.
    """

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))
        for name, arguments in _SIGNATURES.items():
            function = getattr(self._library, name)
            function.argtypes, function.restype = arguments, None

    def normalise(self, x: Tensor, limit: float, rectify: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Return (x - mean) / deviation per channel, rectified where asked, the means and the inverse deviations.

        Args:
            x: activations that `lies_well` accepts.
            limit: a variance not above this share of the mean square makes a constant channel, which becomes 0.
            rectify: whether a ReLU follows.
        """
        channels, count = _sizes(x)
        y = torch.empty_like(x)
        mean, inverse = x.new_empty(channels), x.new_empty(channels)
        given = _pointers(x, y, mean, inverse)
        if x.dim() == 3:
            self._library.normalise_rows(*given, channels, count, limit, rectify, torch.get_num_threads())
        else:
            sums = torch.empty(PARTS * channels, dtype=torch.float64)
            self._library.normalise_columns(
                *given, *_pointers(sums), channels, count, limit, rectify, torch.get_num_threads()
            )
        return y, mean, inverse

    def differentiate(self, slope: Tensor, x: Tensor, y: Tensor | None, mean: Tensor, inverse: Tensor) -> Tensor:
        """Return the derivative in `x`, given the one in what `normalise` returned; `y` where it was rectified."""
        channels, count = _sizes(x)
        slope = slope.contiguous() if x.dim() == 3 else slope.contiguous(memory_format=torch.channels_last)
        result = torch.empty_like(x)
        given = _pointers(slope, x, x if y is None else y, mean, inverse, result)
        if x.dim() == 3:
            self._library.differentiate_rows(*given, channels, count, y is not None, torch.get_num_threads())
        else:
            sums = torch.empty(2 * PARTS * channels, dtype=torch.float64)
            means = x.new_empty(2 * channels)
            self._library.differentiate_columns(
                *given, *_pointers(sums, means), channels, count, y is not None, torch.get_num_threads()
            )
        return result

    def cross_entropy(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean losses (R,) of logits (R, K, B) under labels (R, B), and the derivatives in the logits.

        Labels are to be from 0 to K - 1, which data sets are checked for.
        """
        loss, slope = logits.new_empty(len(logits)), torch.empty_like(logits)
        labels = labels.contiguous()
        self._library.cross_entropy(
            *_pointers(logits, labels, loss, slope), *logits.shape, torch.get_num_threads()
        )
        return loss, slope

    def step(self, weight: Tensor, gradient: Tensor, keep: float, lr: float) -> None:
        """Set `weight` to keep * weight - lr * gradient."""
        self._library.step(*_pointers(weight, gradient), weight.numel(), keep, lr, torch.get_num_threads())


def lies_well(x: Tensor) -> bool:
    """Tell whether the kernels take activations: float32 on the CPU, (1, C, N) or channels last (B, C, H, W)."""
    if x.dtype != torch.float32 or x.device.type != "cpu" or not x.numel():
        return False
    if x.dim() == 4:
        return x.is_contiguous(memory_format=torch.channels_last)
    return x.dim() == 3 and len(x) == 1 and x.is_contiguous()


def lies_flat(x: Tensor) -> bool:
    """Tell whether `step` takes a tensor: float32, contiguous, on the CPU."""
    return x.dtype == torch.float32 and x.device.type == "cpu" and x.is_contiguous()


@cache
def load() -> Kernels | None:
    """Return the kernels, compiled if need be, or None where they cannot be had or are switched off."""
    compiler = shutil.which("gcc")
    if compiler is None or os.environ.get(SWITCH) == "off":
        return None
    try:
        library = _cache_folder() / f"kernels-{_fingerprint(compiler)}.so"
        if not library.exists():
            _compile(compiler, library)
        return Kernels(library)
    except (InputError, OSError, RuntimeError, subprocess.SubprocessError):
        return None


def _compile(compiler: str, library: Path) -> None:
    library.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(library) as temporary:
        command = [compiler, *FLAGS, str(SOURCE), "-o", str(temporary), "-lm"]
        subprocess.run(command, check=True, capture_output=True, timeout=COMPILE_SECONDS)


def _sizes(x: Tensor) -> tuple[int, int]:
    return x.shape[1], x.numel() // x.shape[1]


def _pointers(*tensors: Tensor) -> list[int]:
    return [tensor.data_ptr() for tensor in tensors]


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "intrinsic_lr"


def _fingerprint(compiler: str) -> str:
    """Return a name for the source, its compilation and this machine's processor: a shared home serves many."""
    processor = platform.processor() or platform.machine()
    described = Path("/proc/cpuinfo")
    if described.exists():
        lines = described.read_text().splitlines()
        processor += "".join(
            sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))})
        )
    text = "\n".join([SOURCE.read_text(), " ".join(FLAGS), compiler, processor])
    return hashlib.sha256(text.encode()).hexdigest()[:20]
