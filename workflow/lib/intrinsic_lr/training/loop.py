"""Training of an ensemble: plain SGD on R networks at once, with everything that the study measures."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.data.augmentation import Augmentation
from intrinsic_lr.data.dataset import Dataset
from intrinsic_lr.models import kernels
from intrinsic_lr.models.ensemble import EnsembleModel
from intrinsic_lr.models.gradients import gradients
from intrinsic_lr.stats.geometry import squared_norms
from intrinsic_lr.study.plan import TrainingPlan
from intrinsic_lr.training.recorder import Recorder

DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass
class State:
    """All that a training carries from step to step: random draws depend on names and the step alone.

    Attributes:
        step: number of updates done.
        params: tensors of shape (R, ...).
        buffers: momentum buffers of the trained parameters; empty before the first step with momentum, unless
            the timeline gives them.
        radii: under the sphere constraint the norm (R,) that each scale group keeps, in float64.
        lost: the first step whose batch loss was not finite, int64 (R,), or `NEVER`.
    """

    step: int
    params: dict[str, Tensor]
    buffers: dict[str, Tensor]
    radii: dict[str, Tensor]
    lost: Tensor

    NEVER: ClassVar[int] = -1

    @staticmethod
    def of_params(params: dict[str, Tensor]) -> "State":
        """Return the state of these parameters before any step, without momentum and constraint."""
        first = next(iter(params.values()))
        return State(0, params, {}, {}, torch.full((len(first),), State.NEVER, device=first.device))

    @staticmethod
    def initial(plan: TrainingPlan, model: EnsembleModel, device: torch.device) -> "State":
        """Return the state before the first step."""
        drawn = model.initialize(plan.init_seeds(), plan.init_scale, DTYPES[plan.dtype], plan.head_seed())
        state = State.of_params({name: value.to(device) for name, value in drawn.items()})
        if factor := plan.timeline.first_buffer:
            scaled = {name for names in model.scale_groups.values() for name in names}
            state.buffers = {
                name: state.params[name] * (factor if name in scaled else 0.0) for name in model.trainable
            }
        if plan.constraint == "sphere":
            norms = squared_norms(state.params, model.scale_groups)
            state.radii = {group: norm.sqrt() for group, norm in norms.items()}
        return state

    def tensors(self) -> dict[str, Tensor]:
        """Return all that the state holds but its step, by names that `of_tensors` reads."""
        kinds = {"params": self.params, "buffers": self.buffers, "radii": self.radii}
        named = {f"{kind}/{name}": value for kind, values in kinds.items() for name, value in values.items()}
        return {**named, "lost": self.lost}

    @staticmethod
    def of_tensors(step: int, tensors: Mapping[str, Tensor]) -> "State":
        """Return the state that `tensors` was taken of; it holds these very tensors."""
        kinds: dict[str, dict[str, Tensor]] = {"params": {}, "buffers": {}, "radii": {}}
        for key, value in tensors.items():
            kind, _, name = key.partition("/")
            if kind in kinds:
                kinds[kind][name] = value
        return State(step, **kinds, lost=tensors["lost"])

    def copy(self) -> "State":
        """Return a state of its own tensors."""
        return State.of_tensors(self.step, {name: value.clone() for name, value in self.tensors().items()})


class Batches:
    """Supplies the mini-batches of each step: shuffles without replacement, the last incomplete batch dropped.

    Args:
        plan: names the random streams.
        data: the data set on its device.
    """

    def __init__(self, plan: TrainingPlan, data: Dataset) -> None:
        self._plan = plan
        self._data = data
        self._augmentation = Augmentation.parse(plan.augmentation)
        count = len(data.train_labels)
        self.full = plan.batch_size == "full"
        self.size = count if self.full else int(plan.batch_size)
        if self.size > count:
            raise InputError(f"batch size: found {self.size}; allowed are 2 to {count} training images, or full")
        self.steps_per_epoch = plan.steps_per_epoch(count)
        # Without augmentation the images are normalised once; a row of (N, C*H*W) is gathered per image.
        self._images = None if self._augmentation else data.normalize(data.train_images)
        self._epoch = -1
        self._order = torch.empty(0)
        self._draws: Tensor | None = None

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """Return images (R, B, C, H, W) and labels (R, B) of a step; (N, C, H, W), (N,) where all share them."""
        if self.full and self._images is not None:
            return self._images, self._data.train_labels
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._shuffle(epoch)
        chosen = slice(position * self.size, (position + 1) * self.size)
        shape = (len(self._order), self.size)
        index = self._order[:, chosen].flatten()
        labels = self._data.train_labels.index_select(0, index).view(shape)
        if self._images is not None:
            return self._images.index_select(0, index).unflatten(0, shape), labels
        images = self._data.train_images.index_select(0, index).unflatten(0, shape)
        return self._data.normalize(self._augmentation.apply(images, self._draws[:, chosen])), labels

    def _shuffle(self, epoch: int) -> None:
        device, count = self._data.train_labels.device, len(self._data.train_labels)
        if self.full:
            order = [torch.arange(count) for _ in self._plan.members]
        else:
            order = [_permutation(seed, count) for seed in self._plan.epoch_seeds("order", epoch)]
        self._order = _sent(torch.stack(order), device)
        if self._augmentation:
            seeds = self._plan.epoch_seeds("augmentation", epoch)
            self._draws = _sent(self._augmentation.draws(seeds, count), device)
        self._epoch = epoch


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on its device; a GPU goes on with the steps in its queue meanwhile."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _permutation(seed: int, count: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class Step:
    """What one update did: its rates, mean batch loss (R,) and gradients of the trained parameters."""

    lr: float
    weight_decay: float
    loss: Tensor
    gradients: dict[str, Tensor]


@torch.no_grad()
def update(state: State, gradient: dict[str, Tensor], lr: float, weight_decay: float, momentum: float) -> None:
    """Apply one step of SGD with coupled weight decay, in place.

    Without momentum `w <- (1 - eta lambda) w - eta g`; with it as `torch.optim.SGD` does:
    `d = g + lambda w`, `v <- mu v + d` (first buffer: d), `w <- w - eta v`.
    """
    weights = [state.params[name] for name in gradient]
    found = list(gradient.values())
    if momentum == 0:
        compiled = kernels.load() if all(map(kernels.is_supported_weight, weights + found)) else None
        if compiled:
            for weight, slope in zip(weights, found, strict=True):
                compiled.step(weight, slope, 1 - lr * weight_decay, lr)
            return
        torch._foreach_mul_(weights, 1 - lr * weight_decay)
        torch._foreach_add_(weights, found, alpha=-lr)
        return
    decayed = torch._foreach_add(found, weights, alpha=weight_decay)
    if state.buffers:
        buffers = [state.buffers[name] for name in gradient]
        torch._foreach_mul_(buffers, momentum)
        torch._foreach_add_(buffers, decayed)
    else:
        state.buffers = dict(zip(gradient, decayed, strict=True))
        buffers = list(decayed)
    torch._foreach_add_(weights, buffers, alpha=-lr)


def take_step(state: State, plan: TrainingPlan, model: EnsembleModel, batches: Batches) -> Step:
    """Advance the state by one update and return what it did."""
    lr, weight_decay = plan.timeline.at(state.step)
    loss, gradient = gradients(model, state.params, *batches.at(state.step), plan.precision)
    _mark_lost(state, loss)
    update(state, gradient, lr, weight_decay, plan.momentum)
    project(state, model)
    state.step += 1
    return Step(lr, weight_decay, loss, gradient)


def _mark_lost(state: State, loss: Tensor) -> None:
    """Note the coming step for every member whose loss is not finite for the first time."""
    # One look at the sum is cheaper, but a GPU would have to be waited for.
    if loss.device.type == "cpu" and math.isfinite(loss.sum().item()):
        return
    state.lost.masked_fill_((state.lost == State.NEVER) & ~loss.isfinite(), state.step + 1)


@torch.no_grad()
def project(state: State, model: EnsembleModel) -> None:
    """Bring every scale group that has a radius back to it, in place."""
    norms = squared_norms(state.params, {group: model.scale_groups[group] for group in state.radii})
    for group, radius in state.radii.items():
        for name in model.scale_groups[group]:
            weight = state.params[name]
            weight.mul_((radius / norms[group].sqrt()).to(weight).view(-1, *[1] * (weight.dim() - 1)))


def run(
    state: State, plan: TrainingPlan, model: EnsembleModel, batches: Batches, recorder: Recorder, until: int
) -> Iterator[State]:
    """Train from the state's step to step `until`; yield the state after every step, and before the first.

    Training on from a state that a previous call ended at gives the same bits as one call would. An exception,
    such as memory that ran out, leaves the state and the rows of the last whole step.
    """
    if not len(recorder.history):
        recorder.record(state, None, None)
        yield state
    while state.step < until:
        step = state.step + 1
        measured = recorder.wants(step) or recorder.traces(step)
        before = state.copy() if measured else None
        done = take_step(state, plan, model, batches)
        if before is not None:
            try:
                recorder.record(state, before.params, done)
            except BaseException:
                vars(state).update(vars(before))
                raise
        yield state
