"""The one place that knows how the library trains."""

import torch
from torch import Tensor, nn

from benchmarks.cases import CLASSES, LR, WEIGHT_DECAY, Case, Model
from intrinsic_lr.data.dataset import Dataset
from intrinsic_lr.models.ensemble import EnsembleModel, build
from intrinsic_lr.models.module import Norm, build_module
from intrinsic_lr.study.model_spec import ModelSpec
from intrinsic_lr.study.plan import TrainingPlan
from intrinsic_lr.study.schedules import Segment, Timeline
from intrinsic_lr.training.batches import Batches
from intrinsic_lr.training.loop import take_step
from intrinsic_lr.training.state import State


class Engine:
    """The library's training of an ensemble, step by step as `intrinsic-lr train` runs it.

    Attributes:
        members: networks that a step advances.
    """

    def __init__(self, case: Case) -> None:
        self.members = case.replicates
        self._plan = plan(case)
        self.model = ensemble(case.net)
        self._batches = Batches(self._plan, dataset(case))
        self.state = State.initial(self._plan, self.model, torch.device(case.device))

    def step(self) -> None:
        """Advance every member by one update."""
        take_step(self.state, self._plan, self.model, self._batches)


def plan(case: Case) -> TrainingPlan:
    """Return the plan of a long training without momentum and augmentation."""
    return TrainingPlan(
        point="benchmark", model=ModelSpec.parse(case.net.spec), batch_size=case.batch,
        timeline=Timeline((Segment(10**9, LR, WEIGHT_DECAY),)), checkpoints=(10**9,), log_every=10**9,
        trace_every=10**9, replicates=(0, case.replicates), precision=case.precision,
    )  # fmt: skip


def ensemble(model: Model) -> EnsembleModel:
    """Return the model of an ensemble of these networks."""
    return build(ModelSpec.parse(model.spec), model.image, CLASSES)


def dataset(case: Case) -> Dataset:
    """Return the case's images of noise as a data set on its device."""
    generator = torch.Generator().manual_seed(0)
    shape = (case.net.images, *case.net.image)
    images = torch.randint(256, shape, generator=generator, dtype=torch.uint8).to(case.device)
    labels = torch.randint(CLASSES, shape[:1], generator=generator).to(case.device)
    scaled = images.to(torch.float32).div_(255)
    mean, std = scaled.mean((0, 2, 3)), scaled.std((0, 2, 3))
    info = {"shape": list(case.net.image), "classes": [str(label) for label in range(CLASSES)]}
    return Dataset(images, labels, images[:1], labels[:1], mean, std, info)


def tensors(case: Case) -> tuple[Tensor, Tensor]:
    """Return the case's normalised images (N, C, H, W) in float32 and labels (N,) on its device."""
    data = dataset(case)
    return data.normalize(data.train_images), data.train_labels


def network(case: Case, seed: int = 0) -> nn.Module:
    """Return one of the case's networks on its device: the library's architecture with torch's own batch norms."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = build_module(ModelSpec.parse(case.net.spec), case.net.image, CLASSES)
    kind = nn.BatchNorm1d if case.model == "mlp" else nn.BatchNorm2d
    for name, module in list(net.named_modules()):
        if isinstance(module, Norm):
            net.set_submodule(name, kind(len(module.running_mean), affine=False))
    net.head.weight.requires_grad_(False)
    return net.to(case.device).train()
