"""The ensembles that are measured, and the one place that knows how the library trains them."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from intrinsic_lr.data.dataset import Dataset
from intrinsic_lr.models.ensemble import build
from intrinsic_lr.models.networks import Norm, build_network
from intrinsic_lr.study.model_spec import ModelSpec
from intrinsic_lr.study.plan import TrainingPlan
from intrinsic_lr.study.timeline import Segment, Timeline
from intrinsic_lr.training.batches import Batches
from intrinsic_lr.training.loop import take_step
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
    device: str = "cpu"
    threads: int = 1
    precision: str = "float32"

    @property
    def net(self) -> Model:
        """The network and its images."""
        return MODELS[self.model]

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

    def step(self) -> None:
        """Advance every member by one update."""
        take_step(self.state, self._plan, self.model, self._batches)


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
        net = build_network(ModelSpec.from_string(case.net.spec), case.net.image, CLASSES)
    kind = nn.BatchNorm1d if case.model == "mlp" else nn.BatchNorm2d
    for name, module in list(net.named_modules()):
        if isinstance(module, Norm):
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
