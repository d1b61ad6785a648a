"""The state of a training, which it carries from one step to the next, and what one step did."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from intrinsic_lr.models.ensemble import EnsembleModel
from intrinsic_lr.stats.geometry import squared_norms
from intrinsic_lr.study.optimisers import buffer_names
from intrinsic_lr.study.plan import TrainingPlan

DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass
class State:
    """All that a training carries from step to step: random draws depend on names and the step alone."""

    step: int  # number of updates done
    params: dict[str, Tensor]  # of shape (R, ...)
    # What the optimiser keeps of each trained parameter, by the buffer's name and the parameter's.
    buffers: dict[str, dict[str, Tensor]]
    radii: dict[str, Tensor]  # norm (R,) that each scale group keeps under the sphere constraint, in float64
    lost: Tensor  # the first step whose batch loss was not finite, int64 (R,), or NEVER

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
        for kind in buffer_names(plan):
            state.buffers[kind] = {name: torch.zeros_like(state.params[name]) for name in model.trainable}
        factor = plan.timeline.first_buffer
        if factor and plan.momentum:
            scaled = {name for names in model.scale_groups.values() for name in names}
            for name in scaled.intersection(model.trainable):
                state.buffers["momentum"][name] = state.params[name] * factor
        if plan.constraint == "sphere":
            norms = squared_norms(state.params, model.scale_groups)
            state.radii = {group: norm.sqrt() for group, norm in norms.items()}
        return state

    def to_tensors(self) -> dict[str, Tensor]:
        """Return all that the state holds but its step, in one flat mapping that `from_tensors` reads."""
        kinds = {"params": self.params, "radii": self.radii}
        kinds |= {f"buffers/{kind}": values for kind, values in self.buffers.items()}
        named = {f"{kind}/{name}": value for kind, values in kinds.items() for name, value in values.items()}
        return {**named, "lost": self.lost}

    @staticmethod
    def from_tensors(step: int, tensors: Mapping[str, Tensor], device: torch.device) -> "State":
        """Return the state that `to_tensors` was taken of, on a device; other tensors are ignored."""
        kinds: dict[str, dict[str, Tensor]] = {"params": {}, "radii": {}}
        for key, value in tensors.items():
            kind, _, name = key.rpartition("/")
            if kind in kinds or kind.startswith("buffers/"):
                kinds.setdefault(kind, {})[name] = value.to(device)
        params, radii = kinds.pop("params"), kinds.pop("radii")
        buffers = {kind.removeprefix("buffers/"): values for kind, values in kinds.items()}
        return State(step, params, buffers, radii, tensors["lost"].to(device))


@dataclass(frozen=True)
class Step:
    """What one update did: its rates, mean batch loss (R,) and gradients of the trained parameters."""

    lr: float
    weight_decay: float
    loss: Tensor
    gradients: dict[str, Tensor]
