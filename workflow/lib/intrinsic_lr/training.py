"""Training of an ensemble: plain SGD on R networks at once, with everything that the study measures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from intrinsic_lr.augmentation import Augmentation
from intrinsic_lr.data import Dataset
from intrinsic_lr.devices import in_float64
from intrinsic_lr.errors import InputError
from intrinsic_lr.evaluation import EvaluationData, evaluate
from intrinsic_lr.models import explicit
from intrinsic_lr.models.ensemble import EnsembleModel
from intrinsic_lr.models.normalisation import BatchStatistics
from intrinsic_lr.precision import products_in
from intrinsic_lr.schedules import Timeline
from intrinsic_lr.seeding import stream_seed
from intrinsic_lr.theory import norm_recursion_residual

DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class TrainingPlan:
    """Everything that decides the numbers of one block's training.

    Attributes:
        point: canonical name of the point, which names the streams of data order and augmentation.
        seed: the study's seed.
        model: the model's canonical text.
        timeline: learning rate and weight decay of every step.
        momentum: momentum mu.
        batch_size: images a step, or `full`.
        checkpoints: steps at which weights are kept, ascending.
        log_every: steps between two rows of the history.
        trace_every: steps between two rows of the trace.
        replicates: first replicate and one past the last.
        init_seed, init_sharing, init_scale: the initialisation.
        augmentation: text of the augmentation, or `none`.
        dtype: `float32` or `float64`.
        data_order: names the streams of data order and augmentation in place of the point, which points of one
            batch size then share.
        constraint: `none`, or `sphere`: every scale group is brought back to its initial norm after each step.
        precision: of the products and convolutions of a step, `float32`, `tf32` or `bfloat16`.
    """

    point: str
    seed: int
    model: str
    timeline: Timeline
    momentum: float
    batch_size: int | str
    checkpoints: tuple[int, ...]
    log_every: int
    trace_every: int
    replicates: tuple[int, int]
    init_seed: int
    init_sharing: str
    init_scale: float
    augmentation: str
    dtype: str
    data_order: int | None = None
    constraint: str = "none"
    precision: str = "float32"

    @property
    def members(self) -> range:
        """The replicates of the block."""
        return range(*self.replicates)

    def init_seeds(self) -> list[int]:
        """Return the seed of each member's initialisation."""
        shared = self.init_sharing == "shared"
        return [stream_seed(self.seed, "init", self.init_seed, "shared" if shared else k) for k in self.members]

    def head_seed(self) -> int:
        """Return the seed of a fixed head, one for all networks of a study."""
        return stream_seed(self.seed, "head")

    def epoch_seeds(self, stream: str, epoch: int) -> list[int]:
        """Return the seed of each member's `order` or `augmentation` in an epoch."""
        owner = (self.point,) if self.data_order is None else ("shared", self.data_order)
        return [stream_seed(self.seed, stream, *owner, k, epoch) for k in self.members]


@dataclass
class State:
    """All that a training carries from step to step: random draws depend on names and the step alone.

    Attributes:
        step: number of updates done.
        params: tensors of shape (R, ...).
        buffers: momentum buffers of the trained parameters; empty before the first step with momentum, unless
            the timeline gives them.
        radii: under the sphere constraint the norm (R,) that each scale group keeps, in float64.
    """

    step: int
    params: dict[str, Tensor]
    buffers: dict[str, Tensor] = field(default_factory=dict)
    radii: dict[str, Tensor] = field(default_factory=dict)

    @staticmethod
    def initial(plan: TrainingPlan, model: EnsembleModel, device: torch.device) -> "State":
        """Return the state before the first step."""
        drawn = model.initialise(plan.init_seeds(), plan.init_scale, DTYPES[plan.dtype], plan.head_seed())
        state = State(0, {name: value.to(device) for name, value in drawn.items()})
        if factor := plan.timeline.first_buffer:
            scaled = {name for names in model.scale_groups.values() for name in names}
            state.buffers = {
                name: state.params[name] * (factor if name in scaled else 0.0) for name in model.trainable
            }
        if plan.constraint == "sphere":
            norms = squared_norms(state.params, model.scale_groups)
            state.radii = {group: norm.sqrt() for group, norm in norms.items()}
        return state


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
        self.steps_per_epoch = count // self.size
        # Without augmentation the images are normalised once; a row of (N, C*H*W) is gathered per image.
        self._images = None if self._augmentation else data.normalise(data.train_images)
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
        index = self._order[:, chosen]
        labels = self._data.train_labels[index]
        if self._images is not None:
            flat = self._images.index_select(0, index.flatten())
            return flat.unflatten(0, index.shape), labels
        images = self._data.train_images.index_select(0, index.flatten()).unflatten(0, index.shape)
        return self._data.normalise(self._augmentation.apply(images, self._draws[:, chosen])), labels

    def _shuffle(self, epoch: int) -> None:
        device, count = self._data.train_labels.device, len(self._data.train_labels)
        if self.full:
            order = [torch.arange(count) for _ in self._plan.members]
        else:
            order = [_permutation(seed, count) for seed in self._plan.epoch_seeds("order", epoch)]
        self._order = torch.stack(order).to(device)
        if self._augmentation:
            seeds = self._plan.epoch_seeds("augmentation", epoch)
            self._draws = self._augmentation.draws(seeds, count).to(device)
        self._epoch = epoch


def _permutation(seed: int, count: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class Step:
    """What one update did: its rates, mean batch loss (R,) and gradients of the trained parameters."""

    lr: float
    weight_decay: float
    loss: Tensor
    gradients: dict[str, Tensor]


def gradients(
    model: EnsembleModel, params: dict[str, Tensor], images: Tensor, labels: Tensor, precision: str = "float32"
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return each member's mean loss (R,) and its gradients, under the batch's own statistics.

    The loss differentiated is the sum over members, whose gradients are therefore independent.
    """
    with products_in(precision, images.device):
        if precision != "bfloat16" and explicit.applies(model):
            return explicit.gradients(model, params, images, labels.expand(len(next(iter(params.values()))), -1))
        return _autograd(model, params, images, labels)


def _autograd(
    model: EnsembleModel, params: dict[str, Tensor], images: Tensor, labels: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    names = model.trainable
    leaves = {name: value.requires_grad_(name in names) for name, value in params.items()}
    logits = model.forward(leaves, images, BatchStatistics())
    labels = labels.expand(logits.shape[:2])
    loss = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none").mean(dim=1)
    found = torch.autograd.grad(loss.sum(), [leaves[name] for name in names])
    for value in params.values():
        value.requires_grad_(False)
    return loss.detach(), dict(zip(names, found, strict=True))


@torch.no_grad()
def update(state: State, gradient: dict[str, Tensor], lr: float, weight_decay: float, momentum: float) -> None:
    """Apply one step of SGD with coupled weight decay, in place.

    Without momentum `w <- (1 - eta lambda) w - eta g`; with it as `torch.optim.SGD` does:
    `d = g + lambda w`, `v <- mu v + d` (first buffer: d), `w <- w - eta v`.
    """
    weights = [state.params[name] for name in gradient]
    found = list(gradient.values())
    if momentum == 0:
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
    update(state, gradient, lr, weight_decay, plan.momentum)
    project(state, model)
    state.step += 1
    return Step(lr, weight_decay, loss, gradient)


@torch.no_grad()
def project(state: State, model: EnsembleModel) -> None:
    """Bring every scale group that has a radius back to it, in place."""
    norms = squared_norms(state.params, {group: model.scale_groups[group] for group in state.radii})
    for group, radius in state.radii.items():
        for name in model.scale_groups[group]:
            weight = state.params[name]
            weight.mul_((radius / norms[group].sqrt()).to(weight).view(-1, *[1] * (weight.dim() - 1)))


def squared_norms(tensors: dict[str, Tensor], groups: dict[str, tuple[str, ...]]) -> dict[str, Tensor]:
    """Return the squared norm of each group of parameters, (R,) in float64."""
    return {group: sum(_row_norms(tensors[name]).square() for name in names) for group, names in groups.items()}


def _row_norms(tensor: Tensor) -> Tensor:
    """Return each member's norm (R,), summed in float64 without a copy of the tensor in float64."""
    tensor = tensor.cpu() if tensor.device.type == "mps" else tensor
    return torch.linalg.vector_norm(tensor.flatten(1), dim=1, dtype=torch.float64)


CPU_WEIGHTS = 1 << 16
"""Weights whose angle a CPU takes at once: temporaries that stay in its cache take a third of the time."""


def angles(
    before: dict[str, Tensor], after: dict[str, Tensor], groups: dict[str, tuple[str, ...]]
) -> dict[str, Tensor]:
    """Return the angle in radians (R,) between two weights, for each group."""
    return {
        group: _angle([before[name] for name in names], [after[name] for name in names])
        for group, names in groups.items()
    }


def _angle(before: Sequence[Tensor], after: Sequence[Tensor]) -> Tensor:
    """Return each member's angle (R,) between the vectors that the tensors (R, ...) make together.

    2 atan2(|u - v|, |u + v|) of the unit vectors u and v keeps its digits at small angles, where the
    arccosine of their product has none left (Kahan 2006).
    """

    def units(tensors: Sequence[Tensor], members: slice) -> Tensor:
        vector = torch.cat([in_float64(tensor[members]).flatten(1) for tensor in tensors], dim=1)
        return vector / vector.norm(dim=1, keepdim=True)

    count, weights = len(before[0]), sum(tensor[0].numel() for tensor in before)
    size = max(1, CPU_WEIGHTS // weights) if before[0].device.type == "cpu" else count
    found = []
    for start in range(0, count, size):
        u, v = (units(tensors, slice(start, start + size)) for tensors in (before, after))
        found.append(2 * torch.atan2((u - v).norm(dim=1), (u + v).norm(dim=1)))
    return torch.cat(found)


class Recorder:
    """Collects the rows of the history, and of the trace, which is denser and cheap: nothing is evaluated for it.

    Args:
        plan: the training.
        model: its model.
        data: images and labels to evaluate on.
    """

    ALL = "all"
    TRACED = ("batch_loss", "squared_norm", "unit_gradient_squared_norm", "effective_lr", "angle")

    def __init__(self, plan: TrainingPlan, model: EnsembleModel, data: EvaluationData) -> None:
        self._plan, self._model, self._data = plan, model, data
        self._whole = {self.ALL: tuple(n for names in model.scale_groups.values() for n in names)}
        self._groups = {**model.scale_groups, **self._whole}
        self.rows: list[dict[str, object]] = []
        self._traced: list[tuple[int, float, float]] = []
        self._trace: dict[str, Tensor] = {}

    def wants(self, step: int) -> bool:
        """Tell whether the history has a row at a step."""
        plan = self._plan
        return step % plan.log_every == 0 or step in plan.checkpoints or step == plan.timeline.steps

    def traces(self, step: int) -> bool:
        """Tell whether the trace has a row at a step."""
        return step % self._plan.trace_every == 0 or step == self._plan.timeline.steps

    def trace(self, state: State, before: dict[str, Tensor] | None, done: Step | None) -> None:
        """Add a row per member to the trace, of the same meaning as those that `record` adds to the history."""
        norm = squared_norms(state.params, self._whole)[self.ALL]
        lr, weight_decay = self._rates(done)
        values = {**self._of_step(before, done, state, norm), "squared_norm": norm, "effective_lr": lr / norm}
        if not self._trace:
            # One block of memory for the whole run: thousands of small tensors kept among the large temporaries of
            # the steps would tear the heap into pieces, of which gigabytes add up.
            rows = self._plan.timeline.steps // self._plan.trace_every + 2
            self._trace = {name: norm.new_empty(rows, len(norm)) for name in self.TRACED}
        for name, column in self._trace.items():
            column[len(self._traced)] = values[name]
        self._traced.append((state.step, lr, weight_decay))

    def trace_columns(self) -> dict[str, Tensor]:
        """Return the columns of the trace, one row per traced step and member."""
        members = torch.tensor(self._plan.members)
        step, lr, weight_decay = zip(*self._traced, strict=True)
        rates = {"lr": lr, "weight_decay": weight_decay}
        return {
            "step": torch.tensor(step).repeat_interleave(len(members)),
            "replicate": members.repeat(len(self._traced)),
            **{
                name: torch.tensor(rate, dtype=torch.float64).repeat_interleave(len(members))
                for name, rate in rates.items()
            },
            **{name: column[: len(self._traced)].flatten().cpu() for name, column in self._trace.items()},
        }

    def record(self, state: State, before: dict[str, Tensor] | None, done: Step | None) -> None:
        """Add a row per member on the state and the step that led to it (None at the beginning)."""
        norms = squared_norms(state.params, self._groups)
        lr, weight_decay = self._rates(done)
        evaluation = evaluate(self._model, state.params, self._data)
        values = {
            "train_loss": evaluation.train_loss,
            "train_accuracy": evaluation.train_accuracy,
            "test_loss": evaluation.test_loss,
            "test_accuracy": evaluation.test_accuracy,
            **self._of_step(before, done, state, norms[self.ALL]),
            **self._of_groups(before, state, norms[self.ALL]),
            "squared_norm": norms[self.ALL],
            "effective_lr": lr / norms[self.ALL],
            **{f"squared_norm:{group}": norms[group] for group in self._model.scale_groups},
        }
        columns = {name: in_float64(value).tolist() for name, value in values.items()}
        for row, replicate in enumerate(self._plan.members):
            self.rows.append(
                {
                    "step": state.step,
                    "replicate": replicate,
                    "lr": lr,
                    "weight_decay": weight_decay,
                    "intrinsic_lr": lr * weight_decay,
                    **{name: column[row] for name, column in columns.items()},
                }
            )

    def _rates(self, done: Step | None) -> tuple[float, float]:
        """Return learning rate and weight decay of a step, those of the first one at the beginning."""
        return (done.lr, done.weight_decay) if done else self._plan.timeline.at(0)

    def _of_step(
        self, before: dict[str, Tensor] | None, done: Step | None, state: State, norm: Tensor
    ) -> dict[str, Tensor]:
        """Return the quantities of the step itself, NaN where there was none; `norm` is squared, after it."""
        missing = torch.full_like(norm, torch.nan)
        if before is None or done is None:
            names = ("batch_loss", "unit_gradient_squared_norm", "angle", "norm_recursion_residual")
            return dict.fromkeys(names, missing)
        norm_before = squared_norms(before, self._whole)[self.ALL]
        gradient = squared_norms(done.gradients, self._whole)[self.ALL] * norm_before
        residual = norm_recursion_residual(norm_before, norm, done.lr, done.weight_decay, gradient)
        plain = self._plan.momentum == 0 and self._plan.constraint == "none"
        return {
            "batch_loss": done.loss,
            "unit_gradient_squared_norm": gradient,
            "angle": angles(before, state.params, self._whole)[self.ALL],
            "norm_recursion_residual": residual if plain else missing,
        }

    def _of_groups(self, before: dict[str, Tensor] | None, state: State, norm: Tensor) -> dict[str, Tensor]:
        """Return the angle that the step turned each scale group by, NaN where there was no step."""
        groups = self._model.scale_groups
        if before is None:
            return dict.fromkeys((f"angle:{group}" for group in groups), torch.full_like(norm, torch.nan))
        return {f"angle:{group}": angle for group, angle in angles(before, state.params, groups).items()}


def run(
    state: State, plan: TrainingPlan, model: EnsembleModel, batches: Batches, recorder: Recorder, until: int
) -> Iterator[State]:
    """Train from the state's step to step `until`; yield the state at every step worth keeping or logging.

    Training on from a state that a previous call ended at gives the same bits as one call would.
    """
    if state.step == 0:
        recorder.trace(state, None, None)
        recorder.record(state, None, None)
        yield state
    while state.step < until:
        logged, traced = recorder.wants(state.step + 1), recorder.traces(state.step + 1)
        before = {name: value.clone() for name, value in state.params.items()} if logged or traced else None
        done = take_step(state, plan, model, batches)
        if traced:
            recorder.trace(state, before, done)
        if logged:
            recorder.record(state, before, done)
            yield state
