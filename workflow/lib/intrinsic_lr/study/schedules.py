"""Schedules of learning rate and weight decay as a config defines them, compiled to segments of steps."""

import math
import random
import re
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.seeding import stream_seed
from intrinsic_lr.core.user_code import UserCode
from intrinsic_lr.study.config_types import (
    Allowed,
    Duration,
    File,
    Index,
    Many,
    Moments,
    Nonnegative,
    Part,
    Positive,
    Range,
    Text,
    by_kind,
    problem,
    unknown,
)
from intrinsic_lr.study.timeline import (
    LARGEST_GROWTH,
    Segment,
    Timeline,
    canonical,
    equivalent_of_adamw,
    equivalent_of_sgd,
    number,
    overgrown,
)

MOST_STEPS = 10**12
LARGEST_RATE = 1e36
"""Largest rate of a step: the product of two rates of the config."""


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
        if unit == "epochs":
            value *= self.steps_per_epoch()
        elif unit == "inverse_intrinsic_lr":
            if self.intrinsic_lr == 0:
                raise InputError("expected steps or epochs at weight decay 0, got inverse_intrinsic_lr")
            value /= self.intrinsic_lr
        if value > MOST_STEPS:
            raise InputError(f"{unit}: expected at most {MOST_STEPS:g} steps, got {number(value)}")
        return round(value)

    def read(self, duration: Mapping[str, Any]) -> list[int]:
        """Return the steps of a mapping like `{epochs: [1, 2]}` or `{steps: 100}`."""
        ((unit, value),) = duration.items()
        return [self.steps(unit, item) for item in (value if isinstance(value, list) else [value])]


class _Warm(Part):
    """Schedules that may begin with a warm-up."""

    warmup: Duration | None = None
    """how long the learning rate rises linearly from 0 at first"""

    def rise(self, lr: float, weight_decay: float, steps: int, clock: Clock) -> Segment:
        """Return the segment of the warm-up."""
        length = _within(steps, "warmup", self.warmup, clock) if self.warmup else 0
        return Segment(length, 0.0, weight_decay, shape="linear", lr_end=lr)


def _within(steps: int, key: str, duration: Mapping[str, Any], clock: Clock) -> int:
    """Return the steps of a part of a training that has `steps` steps for it."""
    (length,) = clock.read(duration)
    if length > steps:
        raise InputError(f"{key}: expected at most {steps} steps, which the training has for it, got {length}")
    return length


class Constant(_Warm):
    """The rates of the point at every step."""

    kind: Literal["constant"]

    def segments(self, lr: float, weight_decay: float, steps: int, clock: Clock) -> list[Segment]:
        """Return the segments of a training of `steps` steps at a point's rates."""
        rise = self.rise(lr, weight_decay, steps, clock)
        return [rise, Segment(steps - rise.steps, lr, weight_decay)]


class _Annealed(_Warm):
    """Schedules whose learning rate falls until the end of the training."""

    decay: Duration | None = None
    """how long it falls, at the point's own rate before (warm-up, stable, decay); without it all of the time after
    the warm-up"""
    end_factor: Nonnegative = 0.0
    """the learning rate that it falls to over the point's own"""

    def segments(self, lr: float, weight_decay: float, steps: int, clock: Clock) -> list[Segment]:
        """Return the segments of a training of `steps` steps at a point's rates."""
        rise = self.rise(lr, weight_decay, steps, clock)
        left = steps - rise.steps
        falling = _within(left, "decay", self.decay, clock) if self.decay else left
        end = canonical(lr * self.end_factor)
        fall = Segment(falling, lr, weight_decay, shape=self.kind, lr_end=end)
        return [rise, Segment(left - falling, lr, weight_decay), fall]


class Linear(_Annealed):
    """A learning rate that falls linearly."""

    kind: Literal["linear"]


class Cosine(_Annealed):
    """A learning rate that falls as half a wave of the cosine."""

    kind: Literal["cosine"]


class MultiStep(Part):
    """Rates that are multiplied by a factor at milestones."""

    kind: Literal["multi_step"]
    lr_milestones: Moments | None = None
    """when the learning rate is multiplied, such as `{epochs: [80, 120]}`"""
    weight_decay_milestones: Moments | None = None
    """when the weight decay is multiplied"""
    factor: Positive = 0.1
    """the factor"""

    def segments(self, lr: float, weight_decay: float, steps: int, clock: Clock) -> list[Segment]:
        """Return the segments of a training of `steps` steps at a point's rates."""
        given = (self.lr_milestones, self.weight_decay_milestones)
        lr_at, decay_at = (sorted(clock.read(moments)) if moments else [] for moments in given)
        edges = sorted({0, steps, *(edge for edge in lr_at + decay_at if 0 < edge < steps)})
        return [
            Segment(
                end - start,
                canonical(lr * self.factor ** bisect_right(lr_at, start)),
                canonical(weight_decay * self.factor ** bisect_right(decay_at, start)),
            )
            for start, end in pairwise(edges)
        ]


class Draw(Part):
    """Random rates: equal pieces of a phase, each at log-uniformly drawn factors of the point's own rates."""

    seed: Index | None = None
    """what is drawn; a seed draws the same in every study"""
    seeds: Many[Index] | None = None
    """in place of `seed`: the schedule stands for one schedule per seed, called `<name>_<seed>`. In a grid its own
    name stands for all of them"""
    changes: Annotated[int, Field(ge=1, le=10_000), Allowed("a whole number from 1 to 10000")]
    """number of pieces; the last takes the remainder"""
    lr_factor: Range
    """range of the factors of the learning rate"""
    weight_decay_factor: Range
    """range of the factors of the weight decay"""

    @model_validator(mode="after")
    def _check(self) -> "Draw":
        if (self.seed is None) == (self.seeds is None):
            raise problem("expected either seed or seeds")
        return self

    def segments(self, lr: float, weight_decay: float, steps: int) -> list[Segment]:
        """Return equal pieces of `steps` steps, the last with the remainder, at log-uniformly drawn rates."""
        if self.changes > steps:
            raise InputError(f"draw.changes: expected at most one a step, got {self.changes} in {steps} steps")
        stream = random.Random(stream_seed("schedule", self.seed))
        piece = steps // self.changes
        segments = []
        for length in [piece] * (self.changes - 1) + [steps - piece * (self.changes - 1)]:
            rates = (
                canonical(rate * low * (high / low) ** stream.random())
                for rate, (low, high) in ((lr, self.lr_factor), (weight_decay, self.weight_decay_factor))
            )
            segments.append(Segment(length, *rates))
        return segments


class Phase(Part):
    """A part of a schedule with rates of its own, or with random rates."""

    length: Duration | None = None
    """how long it lasts; one phase may leave it out and lasts as long as the others leave time"""
    lr: Positive | None = None
    """its learning rate"""
    lr_factor: Nonnegative = 1.0
    """its learning rate over the point's own, in place of `lr`"""
    shape: Literal["constant", "linear", "cosine", "exponential"] = "constant"
    """how the learning rate goes from there to its end"""
    lr_end: Nonnegative | None = None
    """its learning rate in the end"""
    lr_end_factor: Nonnegative | None = None
    """its learning rate in the end over the point's own, in place of `lr_end`"""
    weight_decay: Nonnegative | None = None
    """its weight decay"""
    weight_decay_factor: Nonnegative = 1.0
    """its weight decay over the point's own, in place of `weight_decay`"""
    draw: Draw | None = None
    """random rates in place of given ones, beside `length` alone"""

    @model_validator(mode="after")
    def _check(self) -> "Phase":
        # Without a length a phase would be cut otherwise in a longer training.
        if self.draw and self.model_fields_set != {"draw", "length"}:
            beside = ", ".join(sorted(self.model_fields_set - {"draw"})) or "nothing"
            raise problem(f"expected beside it length alone, which it needs, got {beside}", ".draw")
        ends = [key for key in ("lr_end", "lr_end_factor") if getattr(self, key) is not None]
        if len(ends) != (self.shape != "constant"):
            expected = "no lr_end" if self.shape == "constant" else "one of lr_end and lr_end_factor"
            raise problem(f"expected beside {self.shape} {expected}, got {', '.join(ends) or 'none'}", ".shape")
        return self

    def with_seed(self, seed: int) -> "Phase":
        """Return the phase with one seed in place of its list."""
        if self.draw is None or self.draw.seeds is None:
            return self
        return self.model_copy(update={"draw": self.draw.model_copy(update={"seed": seed, "seeds": None})})

    def segments(self, lr: float, weight_decay: float, steps: int) -> list[Segment]:
        """Return the segments of a phase of `steps` steps at a point's rates."""
        if self.draw:
            return self.draw.segments(lr, weight_decay, steps)
        start = _rate(self.lr, lr * self.lr_factor)
        decay = _rate(self.weight_decay, weight_decay * self.weight_decay_factor)
        if self.shape == "constant" or steps == 0:
            return [Segment(steps, start, decay)]
        end = _rate(self.lr_end, lr * (self.lr_end_factor or 0.0))
        if self.shape != "exponential":
            return [Segment(steps, start, decay, shape=self.shape, lr_end=end)]
        if not start or not end:
            raise InputError(f"exponential phase: expected learning rates above 0, got {start:g} to {end:g}")
        return [Segment(steps, start, decay, (end / start) ** (1.0 / steps))]


def _rate(given: float | None, otherwise: float) -> float:
    return canonical(otherwise if given is None else given)


class Phases(Part):
    """Phases one after the other."""

    kind: Literal["phases"]
    phases: Many[Phase]
    """the phases in their order"""

    @model_validator(mode="after")
    def _check(self) -> "Phases":
        if sum(phase.length is None for phase in self.phases) > 1:
            raise problem("expected at most one phase without length, got several")
        return self

    def segments(self, lr: float, weight_decay: float, steps: int, clock: Clock) -> list[Segment]:
        """Return the segments of a training of `steps` steps at a point's rates."""
        given = [clock.read(phase.length)[0] if phase.length else None for phase in self.phases]
        left = steps - sum(length for length in given if length is not None)
        if left > 0 and None not in given:
            raise InputError(f"the phases end {left} steps before the training; leave out the last length")
        segments, start = [], 0
        for phase, length in zip(self.phases, given, strict=True):
            length = max(0, left) if length is None else length
            if phase.shape != "constant" and start + length > steps:
                raise InputError(
                    f"{phase.shape} phase: expected to end within the {steps} steps of the training, got its end "
                    f"at step {start + length}"
                )
            segments += phase.segments(lr, weight_decay, length)
            start += length
        return segments


class Exponential(Part):
    """A learning rate that grows by a factor a step."""

    kind: Literal["exponential"]
    growth: Annotated[
        Literal["exp_lr"] | Annotated[float, Field(ge=1, le=1e18)], Allowed("exp_lr, or a number from 1 to 1e18")
    ]
    """`exp_lr` for the schedule without weight decay that trains the same functions (Li and Arora 2020), or a
    factor per step. The equivalence is exact where all trained weights are scale-invariant; a trained head or
    affine norms are refused"""
    of: Text = "constant"
    """with `growth: exp_lr` the schedule to which it is equivalent, not exponential"""
    first_buffer: Literal["corrected", "zero"] = "corrected"
    """with `growth: exp_lr` and momentum: `corrected` starts the momentum buffer where the equivalence needs it,
    `zero` as `torch.optim.SGD` does, at which it is no longer exact. With `adamw` and `lion` likewise: `corrected`
    divides the gradients by the growth of the weights, `zero` leaves them as they are"""

    @model_validator(mode="after")
    def _check(self) -> "Exponential":
        for key in ("of", "first_buffer"):
            if key in self.model_fields_set and self.growth != "exp_lr":
                raise problem(f"expected beside growth: exp_lr only, got growth {self.growth}", f".{key}")
        return self


class OwnSchedule(Part):
    """A schedule of your own: the function `rates` of a Python file."""

    kind: Literal["file"]
    file: File
    """a Python file, which is run: name only code that you trust. Its `rates(step, lr, weight_decay)` returns the
    two rates of a step, from those of the point"""
    options: dict[str, Any] = Field({})
    """further arguments of the function, by name"""

    def segments(self, lr: float, weight_decay: float, steps: int, clock: Clock) -> list[Segment]:
        """Return one segment of the point's own rates, which the function is given."""
        return [Segment(steps, lr, weight_decay)]


Schedule = Constant | Linear | Cosine | MultiStep | Phases | Exponential | OwnSchedule
ScheduleConfig = by_kind(Constant, Linear, Cosine, MultiStep, Phases, Exponential, OwnSchedule)
_DECAY_NAME = re.compile(r"wd_([0-9]{1,6})_([0-9]{1,6})_lr_([0-9]{1,6})_([0-9]{1,6})")


def expand_seeds(schedules: Mapping[str, Schedule]) -> dict[str, dict[str, Schedule]]:
    """Return, for each schedule with a list of seeds, the schedules that it stands for, by their names."""
    expanded = {}
    for name, schedule in schedules.items():
        phases = schedule.phases if isinstance(schedule, Phases) else []
        for seeds in [phase.draw.seeds for phase in phases if phase.draw and phase.draw.seeds][:1]:
            expanded[name] = {
                f"{name}_{seed}": schedule.model_copy(
                    update={"phases": [phase.with_seed(seed) for phase in phases]}
                )
                for seed in seeds
            }
    return expanded


def is_named(name: str) -> bool:
    """Tell whether a schedule of this name needs no definition."""
    return name == "constant" or bool(_DECAY_NAME.fullmatch(name))


def lookup(name: str, schedules: Mapping[str, Schedule]) -> Schedule:
    """Return the schedule behind a name.

    Besides the config's own names there are `constant` and `wd_x_y_lr_z_u`: the weight decay divided by 10
    at epochs x and y, the learning rate at epochs z and u (the naming of Li, Lyu, Arora 2020).

    Raises:
        InputError: for any other name.
    """
    if name in schedules:
        return schedules[name]
    if name == "constant":
        return Constant(kind="constant")
    if match := _DECAY_NAME.fullmatch(name):
        x, y, z, u = map(int, match.groups())
        decays = {"weight_decay_milestones": {"epochs": [x, y]}, "lr_milestones": {"epochs": [z, u]}}
        return MultiStep(kind="multi_step", **decays)
    raise InputError(unknown("schedule", name, ["constant", *schedules, "wd_x_y_lr_z_u (four epochs)"]))


def compile_schedule(
    schedule: Schedule,
    lr: float,
    weight_decay: float,
    momentum: float,
    steps: int,
    clock: Clock,
    schedules: Mapping[str, Schedule] = MappingProxyType({}),
    optimiser: str = "sgd",
) -> Timeline:
    """Compile a schedule to the timeline of a training of `steps` steps.

    Args:
        schedule: the schedule, as `lookup` gives it.
        lr: base learning rate of the point.
        weight_decay: base weight decay of the point.
        momentum: momentum of the point, on which the ExpLR-equivalent schedule depends.
        steps: length of the training.
        clock: converts epochs and multiples of 1/lambda_e.
        schedules: the schedules that `of` may name.
        optimiser: the point's, on which the ExpLR-equivalent schedule depends too.
    """
    try:
        if not isinstance(schedule, Exponential):
            segments = schedule.segments(lr, weight_decay, steps, clock)
            timeline = Timeline(tuple(segment for segment in segments if segment.steps > 0)).truncated(steps)
            if isinstance(schedule, OwnSchedule):
                code = UserCode.read(schedule.file, "rates", schedule.options)
                timeline = replace(timeline, code=code)
        elif schedule.growth == "exp_lr":
            of = lookup(schedule.of, schedules)
            if isinstance(of, Exponential):
                raise InputError(f"of: expected a schedule that is not exponential, got {schedule.of!r}")
            original = compile_schedule(of, lr, weight_decay, momentum, steps, clock)
            timeline = _equivalent(original, schedule, momentum, optimiser)
        else:
            if steps * math.log(schedule.growth) > math.log(LARGEST_GROWTH):
                raise overgrown(steps)
            timeline = Timeline((Segment(steps, lr, weight_decay, schedule.growth),))
    except OverflowError:
        raise _out_of_range("more than a number holds") from None
    for segment in timeline.segments:
        rates = segment.lr_at(0), segment.lr_at(segment.steps - 1)
        if not min(rates) > 0 or not max(rates) <= LARGEST_RATE or not segment.weight_decay <= LARGEST_RATE:
            raise _out_of_range(f"{number(segment.lr)} and {number(segment.weight_decay)}")
    return timeline


def _equivalent(original: Timeline, schedule: Exponential, momentum: float, optimiser: str) -> Timeline:
    """Return the equivalent without weight decay of a timeline of constant pieces."""
    if original.code or any(segment.growth != 1.0 or segment.shape != "none" for segment in original.segments):
        raise InputError(f"of: expected a schedule of constant pieces, got {schedule.of!r}")
    if optimiser not in ("sgd", "adamw", "lion"):
        raise InputError(
            f"growth exp_lr: expected optimiser sgd, adamw or lion, got {optimiser}, without equivalent"
        )
    timeline = equivalent_of_sgd(original, momentum) if optimiser == "sgd" else equivalent_of_adamw(original)
    if schedule.first_buffer == "corrected":
        return timeline
    kept = tuple(replace(segment, gradient=0.0) for segment in timeline.segments)
    return replace(timeline, segments=kept, first_buffer=0.0)


def _out_of_range(found: str) -> InputError:
    return InputError(f"expected learning rates above 0 and rates up to {LARGEST_RATE:g}, got rates of {found}")
