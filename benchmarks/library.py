"""The ensembles that are measured, and the one place that knows how the library trains them."""

import os
from dataclasses import dataclass
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from tempfile import TemporaryDirectory
from typing import NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor, nn

from benchmarks.common import measure
from intrinsic_lr.data.dataset import Dataset
from intrinsic_lr.models import kernels
from intrinsic_lr.models.ensemble import build
from intrinsic_lr.models.networks import Norm
from intrinsic_lr.study.model_spec import ModelSpec
from intrinsic_lr.study.plan import TrainingPlan
from intrinsic_lr.study.timeline import Segment, Timeline
from intrinsic_lr.training.batches import Batches
from intrinsic_lr.training.loop import Program, take_step, take_steps
from intrinsic_lr.training.state import State

CLASSES = 10
LR, WEIGHT_DECAY = 0.1, 0.0005
PRECISIONS = ("float32", "tf32", "bfloat16")


class Model(NamedTuple):
    """A network in the library's text, the shape (C, H, W) of its images and the number of training images."""

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
RESNET18 = '{"factory": "torchvision.models.resnet18", "normalise": true, "options": {"num_classes": 10}}'
WITHOUT_KERNELS = {
    "mlp_layer_norm": Model("mlp:width=64,depth=2,norm=layer", (1, 8, 8), 1437),
    "vit_8x8": Model("vit", (1, 8, 8), 1437),
    "resnet18_8x8": Model(f"module:{RESNET18}", (1, 8, 8), 1437),
}
"""Networks whose gradients no compiled kernel computes, beside `preresnet`: `torch.compile` is for them."""


@dataclass(frozen=True)
class Case:
    """One ensemble on one device.

    Attributes:
        model: name in `MODELS` or `WITHOUT_KERNELS`.
        batch: images a step of each member.
        replicates: members R.
        device: `cpu`, `cuda` or `cuda:N`.
        threads: CPU threads.
        precision: `float32`, `tf32` or `bfloat16`: of matrix products and convolutions; all else is float32.
    """

    model: str
    batch: int
    replicates: int
    device: str = "cpu"
    threads: int = 1
    precision: str = "float32"

    @property
    def net(self) -> Model:
        """The network and its images."""
        return {**MODELS, **WITHOUT_KERNELS}[self.model]

    @property
    def on_cuda(self) -> bool:
        """Whether the device is a CUDA one."""
        return self.device.startswith("cuda")

    def synchronize(self) -> None:
        """Wait until the device has done all its work."""
        if self.on_cuda:
            torch.cuda.synchronize(self.device)


class Engine:
    """The library's training of an ensemble, step by step as `intrinsic-lr train` runs it."""

    def __init__(self, case: Case) -> None:
        self.members = case.replicates
        self._plan = TrainingPlan(
            point="benchmark", model=ModelSpec.from_string(case.net.spec), batch_size=case.batch,
            timeline=Timeline((Segment(10**9, LR, WEIGHT_DECAY),)), checkpoints=(10**9,), log_every=10**9,
            trace_every=10**9, replicates=(0, case.replicates), precision=case.precision,
        )  # fmt: skip
        self.model = build(ModelSpec.from_string(case.net.spec), case.net.image, CLASSES)
        self._batches = Batches(self._plan, dataset(case))
        self.state = State.initial(self._plan, self.model, torch.device(case.device))
        self._compiled: Program | None = None

    def step(self) -> None:
        """Advance every member by one update."""
        take_step(self.state, self._plan, self.model, self._batches, compiled=self._compiled)

    def steps(self, count: int) -> None:
        """Advance every member by so many updates, as a training does where it records nothing."""
        take_steps(self.state, self._plan, self.model, self._batches, count)


class Single(Engine):
    """The same, step by step."""

    def steps(self, count: int) -> None:
        """Advance every member by so many updates."""
        for _ in range(count):
            self.step()


class Eager(Single):
    """The same by PyTorch's own operations alone."""

    def step(self) -> None:
        """Advance every member by one update."""
        loaded, kernels.load = kernels.load, lambda: None
        try:
            super().step()
        finally:
            kernels.load = loaded


class Compiled(Single):
    """The same with the whole step compiled by `torch.compile`.

    Attributes:
        compile_seconds: processor time that a process takes to compile it, imports included, with an empty cache.
        kept_seconds: that of another process, with what the first one left in the cache.
    """

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        with TemporaryDirectory() as folder, patch.dict(os.environ, TORCHINDUCTOR_CACHE_DIR=folder):
            self.compile_seconds, self.kept_seconds = (measure(compile_seconds, case)[0] for _ in range(2))
            self.compile()

    def compile(self) -> None:
        """Compile the step."""
        # Late, as in a training, so that it counts.
        from intrinsic_lr.training.compilation import CompiledStep

        self._compiled = CompiledStep(self._plan, self.model, self._batches, self.state)


def compile_seconds(case: Case) -> float:
    """Compile a case's step; return the processor time of that, the ended compilers that it started included."""
    set_arithmetic(case)
    engine = Engine(case)
    before = _processor_seconds()
    Compiled.compile(engine)
    return _processor_seconds() - before


def _processor_seconds() -> float:
    return sum(sum(getrusage(whose)[:2]) for whose in (RUSAGE_SELF, RUSAGE_CHILDREN))


def dataset(case: Case) -> Dataset:
    """Return images of noise as a data set on the case's device."""
    generator = torch.Generator().manual_seed(0)
    shape = (case.net.images, *case.net.image)
    images = torch.randint(256, shape, generator=generator, dtype=torch.uint8).to(case.device)
    labels = torch.randint(CLASSES, shape[:1], generator=generator).to(case.device)
    scaled = images.to(torch.float32).div_(255)
    info = {"shape": list(case.net.image), "classes": [str(label) for label in range(CLASSES)]}
    return Dataset(images, labels, images[:1], labels[:1], scaled.mean((0, 2, 3)), scaled.std((0, 2, 3)), info)


def tensors(case: Case) -> tuple[Tensor, Tensor]:
    """Return the case's normalised images (N, C, H, W) in float32 and labels (N,) on its device."""
    data = dataset(case)
    return data.normalize(data.train_images), data.train_labels


def network(case: Case, seed: int = 0) -> nn.Module:
    """Return one of the case's networks on its device: the library's module with torch's own batch norms."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = build(ModelSpec.from_string(case.net.spec), case.net.image, CLASSES).module()
    kind = nn.BatchNorm1d if case.model == "mlp" else nn.BatchNorm2d
    for name, module in list(net.named_modules()):
        if isinstance(module, Norm) and module.kind == "batch":
            norm = kind(module.channels, affine=False)
            net.set_submodule(name, nn.Sequential(norm, nn.ReLU()) if module.rectify else norm)
    return net.to(case.device).train()


def set_arithmetic(case: Case) -> None:
    """Set the CPU threads and the arithmetic of float32 products that a case asks for.

    The library sets and resets the latter in its own steps, so it has to be set again for every other contender.
    """
    torch.set_num_threads(case.threads)
    for flag in (torch.backends.cuda.matmul, torch.backends.cudnn):
        flag.allow_tf32 = case.precision == "tf32"


def autocast(case: Case) -> torch.autocast:
    """Return the context of a forward pass, in bfloat16 where the case asks for it."""
    # Every weight is cast once a step; a cache of casts would outlive a CUDA graph's capture.
    enabled = case.precision == "bfloat16"
    return torch.autocast(torch.device(case.device).type, torch.bfloat16, enabled=enabled, cache_enabled=False)
