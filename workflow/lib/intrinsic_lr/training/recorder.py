"""What a training measures on its way: the history with its evaluations, and the denser, cheap trace."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import fields

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from intrinsic_lr.models.devices import in_float64
from intrinsic_lr.models.ensemble import EnsembleModel
from intrinsic_lr.stats.geometry import angles, squared_norms
from intrinsic_lr.stats.theory import effective_learning_rate, norm_recursion_residual
from intrinsic_lr.study.plan import TrainingPlan
from intrinsic_lr.training.evaluation import Evaluation, EvaluationData, evaluate
from intrinsic_lr.training.state import State, Step


class Rows:
    """Quantities of every member, a row per step: room for `capacity` rows, Q `names` in the order of columns.

    Thousands of small tensors among the large temporaries of the steps would tear the heap into pieces, of which
    gigabytes add up; and rows that stay on their device make nobody wait for it.
    """

    def __init__(self, capacity: int, names: Sequence[str]) -> None:
        self._capacity, self._names = capacity, tuple(names)
        self._rates: list[tuple[int, float, float]] = []
        self._values = torch.empty(0)

    def __len__(self) -> int:
        return len(self._rates)

    def add(self, step: int, lr: float, weight_decay: float, values: Mapping[str, Tensor]) -> None:
        """Add the row of a step; `values` has a tensor (R,) for every quantity."""
        row = torch.stack([in_float64(values[name]) for name in self._names])
        if not len(self):
            self._values = row.new_empty(self._capacity, *row.shape)
        self._values[len(self)] = row
        self._rates.append((step, lr, weight_decay))

    def table(self, replicates: range) -> pd.DataFrame:
        """Return `step`, `replicate`, `lr`, `weight_decay` and the quantities, by step and then by member."""
        step, lr, weight_decay = (np.repeat(column, len(replicates)) for column in zip(*self._rates, strict=True))
        values = self._values[: len(self)].cpu().numpy()
        return pd.DataFrame(
            {
                "step": step,
                "replicate": np.tile(replicates, len(self)),
                "lr": lr,
                "weight_decay": weight_decay,
                **{name: values[:, place].reshape(-1) for place, name in enumerate(self._names)},
            }
        )

    def to_tensors(self) -> tuple[Tensor, Tensor]:
        """Return step and rates (rows, 3), and the quantities (rows, Q, R)."""
        return torch.tensor(self._rates, dtype=torch.float64).view(-1, 3), self._values[: len(self)]

    def restore(self, rates: Tensor, values: Tensor, device: torch.device) -> None:
        """Take the rows that `to_tensors` returned, on a device, or on the CPU where it has no float64 (mps)."""
        self._rates = [(int(step), lr, weight_decay) for step, lr, weight_decay in rates.tolist()]
        place = "cpu" if device.type == "mps" else device
        self._values = torch.empty(self._capacity, *values.shape[1:], dtype=values.dtype, device=place)
        self._values[: len(self)] = values


class Recorder:
    """Fills the rows of the history, with evaluations on `data`, and of the trace, without."""

    ALL = "all"
    OF_STEP = ("batch_loss", "unit_gradient_squared_norm", "angle", "norm_recursion_residual")
    TRACED = ("batch_loss", "squared_norm", "unit_gradient_squared_norm", "effective_lr", "angle")

    def __init__(self, plan: TrainingPlan, model: EnsembleModel, data: EvaluationData) -> None:
        self._plan, self._model, self._data = plan, model, data
        self._whole = {self.ALL: tuple(n for names in model.measured_groups.values() for n in names)}
        self._logged, self._traced = frozenset(plan.logged()), frozenset(plan.traced())
        self._recorded = sorted(self._logged | self._traced)
        names = (
            *(field.name for field in fields(Evaluation)),
            *self.OF_STEP,
            *(f"angle:{group}" for group in model.measured_groups),
            "squared_norm",
            "effective_lr",
            *(f"squared_norm:{group}" for group in model.measured_groups),
        )
        self.history = Rows(len(self._logged), names)
        self.trace = Rows(len(self._traced), self.TRACED)

    def should_log(self, step: int) -> bool:
        """Return whether the history has a row at a step."""
        return step in self._logged

    def should_trace(self, step: int) -> bool:
        """Return whether the trace has a row at a step."""
        return step in self._traced

    def should_record(self, step: int) -> bool:
        """Return whether a step is to be measured at all."""
        return self.should_log(step) or self.should_trace(step)

    def unrecorded(self, step: int) -> int:
        """Return how many steps in a row are not to be measured, from the one after a step on."""
        later = bisect_right(self._recorded, step)
        return self._recorded[later] - step - 1 if later < len(self._recorded) else 0

    def to_tensors(self) -> dict[str, Tensor]:
        """Return all rows in one flat mapping that `restore` reads."""
        named = {}
        for kind, rows in (("history", self.history), ("trace", self.trace)):
            named[f"{kind}/rates"], named[f"{kind}/values"] = rows.to_tensors()
        return named

    def restore(self, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        """Take the rows that `to_tensors` returned, on a device; other tensors are ignored."""
        for kind, rows in (("history", self.history), ("trace", self.trace)):
            rows.restore(tensors[f"{kind}/rates"], tensors[f"{kind}/values"], device)

    def record(self, state: State, before: dict[str, Tensor] | None, done: Step | None) -> None:
        """Add the rows of a state, if any; `before` are the weights before the step `done`, None at the start."""
        if not self.should_record(state.step):
            return
        logged, groups = self.should_log(state.step), self._model.measured_groups
        norms = squared_norms(state.params, self._whole | groups if logged else self._whole)
        norm = norms[self.ALL]
        lr, weight_decay = (done.lr, done.weight_decay) if done else self._plan.timeline.at(0)
        effective = effective_learning_rate(lr, norm, self._plan.optimiser)
        values = {**self._of_step(before, done, state, norm), "squared_norm": norm, "effective_lr": effective}
        if logged:
            missing = dict.fromkeys(groups, torch.full_like(norm, torch.nan))
            turned = missing if before is None else angles(before, state.params, groups)
            values |= {f"squared_norm:{group}": norms[group] for group in groups}
            values |= {f"angle:{group}": turned[group] for group in groups}
            values |= vars(evaluate(self._model, state.params, self._data))
            self.history.add(state.step, lr, weight_decay, values)
        if self.should_trace(state.step):
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
        plan = self._plan
        plain = plan.optimiser == "sgd" and not plan.momentum and plan.clip is None and plan.constraint == "none"
        return {
            "batch_loss": done.loss,
            "unit_gradient_squared_norm": gradient,
            "angle": angles(before, state.params, self._whole)[self.ALL],
            "norm_recursion_residual": residual if plain else missing,
        }
