"""Networks, ensembles of them, and the images that they are trained on in the benchmark of the engine."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

CLASSES = 10
LR, WEIGHT_DECAY = 0.1, 0.0005
PRECISIONS = ("float32", "tf32", "bfloat16")


@dataclass(frozen=True)
class Model:
    """A network of the study and the size of its images.

    Attributes:
        spec: the library's canonical text.
        image: shape (C, H, W).
        images: training images. Shuffling takes a time proportional to their number, once an epoch, so that its
            share of a step does not depend on it; fewer images let a short measurement cover whole epochs.
    """

    spec: str
    image: tuple[int, int, int]
    images: int


MODELS = {
    "mlp": Model("mlp:width=64,depth=2", (1, 8, 8), 1437),
    "cnn4_8x8": Model("cnn4:width=16", (1, 8, 8), 1437),
    "cnn4_28x28": Model("cnn4:width=16", (1, 28, 28), 6000),
    "preresnet8": Model("preresnet:width=16,blocks=1", (3, 32, 32), 5000),
    "preresnet32": Model("preresnet:width=16,blocks=5", (3, 32, 32), 5000),
}


@dataclass(frozen=True)
class Case:
    """One ensemble on one device.

    Attributes:
        model: name in `MODELS`.
        batch: images a step of each member.
        replicates: members R.
        device: `cpu`, `cuda` or `cuda:N`.
        threads: CPU threads.
        precision: `float32`, `tf32` or `bfloat16`: of matrix products and convolutions; all else is float32.
    """

    model: str
    batch: int
    replicates: int
    device: str
    threads: int
    precision: str

    @property
    def net(self) -> Model:
        """The network and its images."""
        return MODELS[self.model]

    @property
    def on_cuda(self) -> bool:
        """Whether the device is a CUDA one."""
        return self.device.startswith("cuda")


@contextmanager
def arithmetic(case: Case) -> Iterator[None]:
    """Set the CPU threads and the arithmetic of float32 products that a case asks for.

    The library sets and resets the latter in its own steps, so it has to be set again for every other contender.
    """
    flags = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = (torch.get_num_threads(), [flag.allow_tf32 for flag in flags])
    torch.set_num_threads(case.threads)
    for flag in flags:
        flag.allow_tf32 = case.precision == "tf32"
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        for flag, allowed in zip(flags, before[1], strict=True):
            flag.allow_tf32 = allowed


def autocast(case: Case) -> torch.autocast:
    """Return the context of a forward pass, in bfloat16 where the case asks for it."""
    # Every weight is cast once a step; a cache of casts would outlive a CUDA graph's capture.
    enabled = case.precision == "bfloat16"
    return torch.autocast(torch.device(case.device).type, torch.bfloat16, enabled=enabled, cache_enabled=False)


def synchronize(device: str) -> None:
    """Wait until a device has done all its work."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
