"""A block's training in parts: all members at once where the device's memory allows, in smaller groups where not.

A member does not depend on the members beside it, so groups of any size give the same networks (up to the order in
which kernels add up, where they choose it by the size of the group).
"""

import dataclasses
import sys
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.data.dataset import Dataset
from intrinsic_lr.models.devices import is_out_of_memory
from intrinsic_lr.models.ensemble import EnsembleModel
from intrinsic_lr.study.plan import TrainingPlan
from intrinsic_lr.training.evaluation import EvaluationData
from intrinsic_lr.training.loop import Batches, State, run
from intrinsic_lr.training.recorder import Recorder


@dataclasses.dataclass(frozen=True)
class Setting:
    """What all parts of a block share.

    Attributes:
        model: the network.
        data: the data set on the device.
        evaluation: the same, normalised.
        device: where training takes place.
    """

    model: EnsembleModel
    data: Dataset
    evaluation: EvaluationData
    device: torch.device


class Part:
    """Some members of a block on their way.

    Args:
        plan: the block's plan, with the part's replicates.
        setting: what it shares with the other parts.
        state: how far it is; None before anything was drawn.

    Attributes:
        recorder: its history and trace.
    """

    STATE, HISTORY, TRACE = "state", "history", "trace"

    def __init__(self, plan: TrainingPlan, setting: Setting, state: State | None = None) -> None:
        self.plan, self._setting = plan, setting
        self.state = state or State.initial(plan, setting.model, torch.device("cpu"))
        self.recorder = Recorder(plan, setting.model, setting.evaluation)

    @property
    def done(self) -> bool:
        """Whether the part is at its end."""
        return self.state.step == self.plan.timeline.steps

    def tensors(self) -> dict[str, Tensor]:
        """Return all that the part holds but its step, by names that `restored` reads."""
        kinds = {
            self.STATE: self.state.tensors(),
            self.HISTORY: self.recorder.history.tensors(),
            self.TRACE: self.recorder.trace.tensors(),
        }
        return {f"{kind}/{name}": value for kind, values in kinds.items() for name, value in values.items()}

    @staticmethod
    def restored(
        plan: TrainingPlan,
        setting: Setting,
        step: int,
        tensors: Mapping[str, Tensor],
        members: slice = slice(None),
    ) -> "Part":
        """Return the part that `tensors` was taken of, or these members of it, with copies on the CPU."""
        kinds: dict[str, dict[str, Tensor]] = {Part.STATE: {}, Part.HISTORY: {}, Part.TRACE: {}}
        for key, value in tensors.items():
            kind, _, name = key.partition("/")
            kinds[kind][name] = value.cpu()
        state = {name: value[members].clone() for name, value in kinds[Part.STATE].items()}
        part = Part(plan, setting, State.of_tensors(step, state))
        part.recorder.history.restore(kinds[Part.HISTORY], members)
        part.recorder.trace.restore(kinds[Part.TRACE], members)
        return part

    def train(self, after_step: Callable[["Part"], None]) -> None:
        """Train to the end, on the device, and call `after_step` with the part after every step."""
        held = {name: value.to(self._setting.device) for name, value in self.state.tensors().items()}
        self.state = State.of_tensors(self.state.step, held)
        for rows in (self.recorder.history, self.recorder.trace):
            rows.move(self._setting.device)
        model, steps = self._setting.model, self.plan.timeline.steps
        batches = Batches(self.plan, self._setting.data)
        for _ in run(self.state, self.plan, model, batches, self.recorder, steps):
            after_step(self)

    def halves(self) -> list["Part"]:
        """Return the part as two of half as many members, each as far as it is."""
        first, end = self.plan.replicates
        middle = first + (end - first) // 2
        tensors, step = self.tensors(), self.state.step
        return [
            Part.restored(
                dataclasses.replace(self.plan, replicates=(start, stop)),
                self._setting,
                step,
                tensors,
                slice(start - first, stop - first),
            )
            for start, stop in ((first, middle), (middle, end))
        ]


def train_parts(parts: list[Part], after_step: Callable[[Part], None]) -> None:
    """Train all parts to their end, one after another; one that memory does not suffice for is halved, in place.

    Raises:
        InputError: when memory does not suffice for a single member.
    """
    while (place := next((place for place, part in enumerate(parts) if not part.done), None)) is not None:
        part = parts[place]
        try:
            part.train(after_step)
            continue
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        # Only here, after the exception and the tensors in its frames are gone, is there memory to give back.
        first, end = part.plan.replicates
        if end - first == 1:
            raise InputError(
                f"device memory: found too little for a single replicate of {part.plan.point}; allowed is a "
                "device with more of it, a smaller batch_size or a smaller model"
            )
        parts[place : place + 1] = part.halves()
        del part
        torch.cuda.empty_cache()
        print(
            f"out of device memory at step {parts[place].state.step}: going on from there with the replicates "
            f"{first} to {end - 1} in two parts",
            file=sys.stderr,
        )
