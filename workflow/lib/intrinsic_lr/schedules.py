"""Schedules of learning rate and weight decay, compiled to segments of steps."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from intrinsic_lr.errors import InputError


@dataclass(frozen=True)
class Segment:
    """A stretch of steps with one weight decay and a constant or exponentially growing learning rate.

    Attributes:
        steps: number of steps.
        lr: learning rate of the first step.
        weight_decay: weight decay of every step.
        growth: factor of the learning rate from one step to the next.
    """

    steps: int
    lr: float
    weight_decay: float
    growth: float = 1.0

    def lr_at(self, offset: int) -> float:
        """Return the learning rate of the step `offset` steps into the segment."""
        return self.lr * self.growth**offset


@dataclass(frozen=True)
class Timeline:
    """The learning rate and weight decay of every step of a training."""

    segments: tuple[Segment, ...]

    @property
    def steps(self) -> int:
        """Number of steps of the training."""
        return sum(segment.steps for segment in self.segments)

    def at(self, step: int) -> tuple[float, float]:
        """Return learning rate and weight decay of the update from state `step` to state `step + 1`."""
        for segment in self.segments:
            if step < segment.steps:
                return segment.lr_at(step), segment.weight_decay
            step -= segment.steps
        raise IndexError("step past the end of the timeline")

    def truncated(self, steps: int) -> "Timeline":
        """Return the first `steps` steps."""
        kept = []
        for segment in self.segments:
            if steps <= 0:
                break
            kept.append(replace(segment, steps=min(segment.steps, steps)))
            steps -= segment.steps
        return Timeline(tuple(kept))

    def spell(self) -> str:
        """Return the timeline as `STEPS@LR@WEIGHT_DECAY[@GROWTH]`, segments joined by commas."""
        parts = []
        for segment in self.segments:
            fields = [str(segment.steps), number(segment.lr), number(segment.weight_decay)]
            if segment.growth != 1.0:
                fields.append(repr(segment.growth))
            parts.append("@".join(fields))
        return ",".join(parts)

    @staticmethod
    def parse(text: str) -> "Timeline":
        """Read what `spell` wrote."""
        segments = []
        for part in text.split(","):
            fields = part.split("@")
            try:
                segment = Segment(int(fields[0]), *(float(field) for field in fields[1:]))
            except (ValueError, TypeError):
                raise InputError(f"timeline: segment {part!r} is not STEPS@LR@WEIGHT_DECAY[@GROWTH]") from None
            if len(fields) < 3 or segment.steps < 1:
                raise InputError(f"timeline: segment {part!r} is not STEPS@LR@WEIGHT_DECAY[@GROWTH]")
            segments.append(segment)
        return Timeline(tuple(segments))


def number(value: float) -> str:
    """Spell a number canonically: 12 significant digits, so that 1, 1.0 and 0.1 * 10 are one text."""
    return f"{float(value):.12g}"


def exp_lr_growth(lr: float, weight_decay: float, momentum: float) -> float:
    """Return alpha of the exponential schedule that replaces weight decay.

    alpha is the larger root of x^2 - (1 + mu - eta*lambda) x + mu = 0; without momentum 1 - eta*lambda.
    Source: Li and Arora, An Exponential Learning Rate Schedule for Deep Learning (arXiv:1910.07454).

    Raises:
        InputError: when the roots are complex, where no exponential twin exists.
    """
    b = 1.0 + momentum - lr * weight_decay
    discriminant = b * b - 4.0 * momentum
    if discriminant < 0 or b <= 0:
        raise InputError(
            f"exponential schedule: learning rate {number(lr)} times weight decay {number(weight_decay)} "
            f"is too large for momentum {number(momentum)}; allowed is at most (1 - sqrt(momentum))^2"
        )
    return (b + discriminant**0.5) / 2.0


UNITS = ("steps", "epochs", "inverse_intrinsic_lr")


@dataclass(frozen=True)
class Clock:
    """Converts the config's units of time to steps for one point.

    Attributes:
        intrinsic_lr: base intrinsic learning rate of the point, per step.
        steps_per_epoch: returns the steps of an epoch, or raises `InputError` when it is not known.
    """

    intrinsic_lr: float
    steps_per_epoch: Callable[[], int]

    def steps(self, unit: str, value: float) -> int:
        """Return `value` steps, epochs or multiples of 1/lambda_e as the nearest whole number of steps."""
        if unit == "steps":
            return round(value)
        if unit == "epochs":
            return round(value * self.steps_per_epoch())
        if self.intrinsic_lr == 0:
            raise InputError("found inverse_intrinsic_lr at weight decay 0; allowed there: steps, epochs")
        return round(value / self.intrinsic_lr)

    def read(self, duration: Mapping[str, Any]) -> list[int]:
        """Return the steps of a mapping like `{epochs: [1, 2]}` or `{steps: 100}`."""
        ((unit, value),) = duration.items()
        return [self.steps(unit, item) for item in (value if isinstance(value, list) else [value])]


CONSTANT: Mapping[str, Any] = {"kind": "constant"}
_DECAY_NAME = re.compile(r"wd_(\d+)_(\d+)_lr_(\d+)_(\d+)")


def lookup(name: str, schedules: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the definition behind a schedule's name.

    Besides the config's own names there are `constant` and `wd_x_y_lr_z_u`: the weight decay divided by 10
    at epochs x and y, the learning rate at epochs z and u (the naming of Li, Lyu, Arora 2020).

    Raises:
        InputError: for any other name.
    """
    if name in schedules:
        return schedules[name]
    if name == "constant":
        return CONSTANT
    if match := _DECAY_NAME.fullmatch(name):
        x, y, z, u = (int(epoch) for epoch in match.groups())
        return {
            "kind": "multi_step",
            "weight_decay_milestones": {"epochs": [x, y]},
            "lr_milestones": {"epochs": [z, u]},
        }
    known = ", ".join(["constant", *schedules])
    raise InputError(f"found the unknown schedule {name!r}; allowed: {known}, or wd_x_y_lr_z_u with four epochs")


def compile_schedule(
    definition: Mapping[str, Any], lr: float, weight_decay: float, momentum: float, steps: int, clock: Clock
) -> Timeline:
    """Compile a schedule's definition to the timeline of a training of `steps` steps.

    Args:
        definition: `kind` constant, multi_step, phases or exponential, with its options as in the config.
        lr: base learning rate of the point.
        weight_decay: base weight decay of the point.
        momentum: momentum of the point, which the exponential twin depends on.
        steps: length of the training.
        clock: converts epochs and multiples of 1/lambda_e.
    """
    kind = definition["kind"]
    if kind == "multi_step":
        segments = _multi_step(definition, lr, weight_decay, steps, clock)
    elif kind == "phases":
        segments = _phases(definition["phases"], lr, weight_decay, steps, clock)
    elif kind == "exponential":
        segments = [_exponential(definition["growth"], lr, weight_decay, momentum, steps)]
    else:
        segments = [Segment(steps, lr, weight_decay)]
    return Timeline(tuple(segment for segment in segments if segment.steps > 0)).truncated(steps)


def _multi_step(
    definition: Mapping[str, Any], lr: float, weight_decay: float, steps: int, clock: Clock
) -> list[Segment]:
    factor = definition.get("factor", 0.1)
    lr_at = clock.read(definition.get("lr_milestones", {"steps": []}))
    weight_decay_at = clock.read(definition.get("weight_decay_milestones", {"steps": []}))
    edges = sorted({0, steps, *(edge for edge in lr_at + weight_decay_at if 0 < edge < steps)})
    return [
        Segment(
            end - start,
            _decayed(lr, factor, sum(edge <= start for edge in lr_at)),
            _decayed(weight_decay, factor, sum(edge <= start for edge in weight_decay_at)),
        )
        for start, end in pairwise(edges)
    ]


def _decayed(value: float, factor: float, times: int) -> float:
    return float(number(value * factor**times))


def _phases(
    phases: list[Mapping[str, Any]], lr: float, weight_decay: float, steps: int, clock: Clock
) -> list[Segment]:
    segments = []
    left = steps
    for phase in phases:
        length = clock.read(phase["length"])[0] if "length" in phase else left
        segments.append(
            Segment(
                min(length, left),
                phase.get("lr", float(number(lr * phase.get("lr_factor", 1.0)))),
                phase.get("weight_decay", float(number(weight_decay * phase.get("weight_decay_factor", 1.0)))),
            )
        )
        left -= segments[-1].steps
    if left:
        raise InputError(f"found phases that end {left} steps before the training; leave out the last length")
    return segments


def _exponential(growth: float | str, lr: float, weight_decay: float, momentum: float, steps: int) -> Segment:
    if growth != "exp_lr":
        segment = Segment(steps, lr, weight_decay, float(growth))
    else:
        alpha = exp_lr_growth(lr, weight_decay, momentum)
        segment = Segment(steps, float(number(lr / alpha)), 0.0, alpha**-2)
    if steps * math.log(segment.growth) > math.log(LARGEST_GROWTH):
        raise InputError(
            f"found an exponential schedule that grows by more than {LARGEST_GROWTH:g} within {steps} steps, "
            "where float32 overflows; allowed are fewer steps or a slower growth"
        )
    return segment


LARGEST_GROWTH = 1e16
"""Largest growth of a learning rate: squared norms grow alike and their squares must fit in float32."""
