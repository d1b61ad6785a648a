"""What a training measures on its way: the history with its evaluations, and the denser, cheap trace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from intrinsic_lr.models.devices import in_float64
from intrinsic_lr.models.ensemble import EnsembleModel
from intrinsic_lr.stats.geometry import angles, squared_norms
from intrinsic_lr.stats.theory import norm_recursion_residual
from intrinsic_lr.training.evaluation import EvaluationData, evaluate

if TYPE_CHECKING:
    from intrinsic_lr.study.plan import TrainingPlan
    from intrinsic_lr.training.loop import State, Step


class Rows:
    """Quantities of every member, a row per step, in one block of memory for the whole run.

    Thousands of small tensors kept among the large temporaries of the steps would tear the heap into pieces, of
    which gigabytes add up; and rows that stay on their device make nobody wait for it.

    Args:
        capacity: rows that there is room for.
        names: the quantities, in the order of their columns.
    """

    RATES = "rates"

    def __init__(self, capacity: int, names: Sequence[str]) -> None:
        self._capacity, self._names = capacity, tuple(names)
        self._rates: list[tuple[int, float, float]] = []
        self._columns: dict[str, Tensor] = {}

    def __len__(self) -> int:
        return len(self._rates)

    def add(self, step: int, lr: float, weight_decay: float, values: Mapping[str, Tensor]) -> None:
        """Add the row of a step; `values` has a tensor (R,) for every quantity."""
        if not self._columns:
            like = in_float64(values[self._names[0]])
            self._columns = {name: like.new_empty(self._capacity, len(like)) for name in self._names}
        for name, column in self._columns.items():
            column[len(self)] = values[name]
        self._rates.append((step, lr, weight_decay))

    def move(self, device: torch.device) -> None:
        """Keep the rows on a device, or on the CPU where the device has no float64 (mps)."""
        self._columns = {
            name: column if device.type == "mps" else column.to(device) for name, column in self._columns.items()
        }

    def columns(self, replicates: range) -> dict[str, Tensor]:
        """Return `step`, `replicate`, `lr`, `weight_decay` and the quantities, by step and then by member."""
        step, lr, weight_decay = zip(*self._rates, strict=True)
        members = len(replicates)
        return {
            "step": torch.tensor(step).repeat_interleave(members),
            "replicate": torch.tensor(replicates).repeat(len(self)),
            "lr": torch.tensor(lr, dtype=torch.float64).repeat_interleave(members),
            "weight_decay": torch.tensor(weight_decay, dtype=torch.float64).repeat_interleave(members),
            **{name: column[: len(self)].flatten().cpu() for name, column in self._columns.items()},
        }

    def tensors(self) -> dict[str, Tensor]:
        """Return all rows as tensors: `RATES` (rows, 3), and each quantity (rows, R)."""
        rates = torch.tensor(self._rates, dtype=torch.float64).view(-1, 3)
        return {self.RATES: rates, **{name: column[: len(self)] for name, column in self._columns.items()}}

    def restore(self, tensors: Mapping[str, Tensor], members: slice = slice(None)) -> None:
        """Take the rows that `tensors` returned, of these members, in place of those at hand."""
        self._rates = [(int(step), lr, weight_decay) for step, lr, weight_decay in tensors[self.RATES].tolist()]
        self._columns = {}
        for name in self._names if len(self) else ():
            kept = tensors[name][:, members]
            self._columns[name] = kept.new_empty(self._capacity, kept.shape[1])
            self._columns[name][: len(self)] = kept


class Recorder:
    """Fills the rows of the history and of the trace, for which nothing is evaluated.

    Args:
        plan: the training.
        model: its model.
        data: images and labels to evaluate on.

    Attributes:
        history: evaluations, norms and angles, by group of weights too.
        trace: what a step knows of itself.
    """

    ALL = "all"
    EVALUATED = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
    OF_STEP = ("batch_loss", "unit_gradient_squared_norm", "angle", "norm_recursion_residual")
    TRACED = ("batch_loss", "squared_norm", "unit_gradient_squared_norm", "effective_lr", "angle")

    def __init__(self, plan: TrainingPlan, model: EnsembleModel, data: EvaluationData) -> None:
        self._plan, self._model, self._data = plan, model, data
        self._whole = {self.ALL: tuple(n for names in model.scale_groups.values() for n in names)}
        self._groups = {**model.scale_groups, **self._whole}
        self._kept = frozenset(plan.checkpoints) | {plan.timeline.steps}
        steps, groups = plan.timeline.steps, tuple(model.scale_groups)
        names = (
            *self.EVALUATED,
            *self.OF_STEP,
            *(f"angle:{group}" for group in groups),
            "squared_norm",
            "effective_lr",
            *(f"squared_norm:{group}" for group in groups),
        )
        self.history = Rows(steps // plan.log_every + len(self._kept) + 2, names)
        self.trace = Rows(steps // plan.trace_every + 2, self.TRACED)

    def wants(self, step: int) -> bool:
        """Tell whether the history has a row at a step."""
        return step % self._plan.log_every == 0 or step in self._kept

    def traces(self, step: int) -> bool:
        """Tell whether the trace has a row at a step."""
        return step % self._plan.trace_every == 0 or step == self._plan.timeline.steps

    def record(self, state: State, before: dict[str, Tensor] | None, done: Step | None) -> None:
        """Add the rows that a state is to have: all or none, should memory run out.

        `before` holds the weights before the step `done`; both are None at the beginning.
        """
        logged, traced = self.wants(state.step), self.traces(state.step)
        norms = squared_norms(state.params, self._groups if logged else self._whole)
        lr, weight_decay = (done.lr, done.weight_decay) if done else self._plan.timeline.at(0)
        norm = norms[self.ALL]
        values = {
            **self._of_step(before, done, state, norm),
            "squared_norm": norm,
            "effective_lr": lr / norm,
        }
        if logged:
            values |= {f"squared_norm:{group}": norms[group] for group in self._model.scale_groups}
            values |= self._of_groups(before, state, norm)
            # The last that needs memory.
            values |= vars(evaluate(self._model, state.params, self._data))
            self.history.add(state.step, lr, weight_decay, values)
        if traced:
            self.trace.add(state.step, lr, weight_decay, values)

    def _of_step(
        self, before: dict[str, Tensor] | None, done: Step | None, state: State, norm: Tensor
    ) -> dict[str, Tensor]:
        """Return the quantities of the step itself, NaN where there was none; `norm` is squared, after it."""
        missing = torch.full_like(norm, torch.nan)
        if before is None or done is None:
            return dict.fromkeys(self.OF_STEP, missing)
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
