"""Schedules of learning rate and weight decay, compiled to segments of steps."""

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
from intrinsic_lr.study.config_types import (
    Allowed,
    Duration,
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


@dataclass(frozen=True)
class Segment:
    """Steps with one weight decay and a constant or exponentially growing learning rate.

    The growth may settle in: t steps into the segment the learning rate is
    lr growth^t F(0) / F(t) with F(t) = (1 + b q^t) (1 + b q^(t+1)), the tapered exponential schedule of
    Li and Arora (arXiv:1910.07454).

    Attributes:
        steps: number of steps.
        lr: learning rate of the first step.
        weight_decay: weight decay of every step.
        growth: factor of the learning rate from one step to the next, once the taper has died away.
        taper: b, 0 for a growth that is geometric from the first step on.
        taper_ratio: q, below 1.
    """

    steps: int
    lr: float
    weight_decay: float
    growth: float = 1.0
    taper: float = 0.0
    taper_ratio: float = 0.0

    def lr_at(self, offset: int) -> float:
        """Return the learning rate of the step `offset` steps into the segment."""
        rate = self.lr * self.growth**offset
        return rate * self._settling(0) / self._settling(offset) if self.taper else rate

    def _settling(self, offset: int) -> float:
        """Return F(offset)."""
        b, q = self.taper, self.taper_ratio
        return (1.0 + b * q**offset) * (1.0 + b * q ** (offset + 1))


@dataclass(frozen=True)
class Timeline:
    """The learning rate and weight decay of every step of a training.

    Attributes:
        segments: one after the other.
        first_buffer: the momentum buffer before the first step, as a multiple of the scale-invariant weights
            there; 0 is how `torch.optim.SGD` starts.
    """

    segments: tuple[Segment, ...]
    first_buffer: float = 0.0

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
        return replace(self, segments=tuple(kept))


def number(value: float) -> str:
    """Spell a number canonically: 12 significant digits, so that 1, 1.0 and 0.1 * 10 are one text, and no plus."""
    return f"{float(value):.12g}".replace("+", "")


def canonical(value: float) -> float:
    """Round to the 12 significant digits that names carry, so that name and value agree."""
    return float(number(value))


def exp_lr_growth(lr: float, weight_decay: float, momentum: float) -> float:
    """Return alpha of the exponential schedule that replaces weight decay.

    alpha is the larger root of x^2 - (1 + mu - eta*lambda) x + mu = 0; without momentum 1 - eta*lambda.
    Source: Li and Arora, An Exponential Learning Rate Schedule for Deep Learning (arXiv:1910.07454).

    Raises:
        InputError: when the roots are complex or equal, where no ExpLR-equivalent schedule exists.
    """
    decay = lr * weight_decay
    b = 1.0 + momentum - decay
    # b^2 - 4 mu, without the cancellation that would cost alpha its last digits, which grow with every step.
    discriminant = (1.0 - momentum) ** 2 - decay * (2.0 + 2.0 * momentum - decay)
    if discriminant <= 0 or b <= 0:
        raise InputError(
            f"exponential schedule: learning rate {number(lr)} times weight decay {number(weight_decay)} "
            f"is too large for momentum {number(momentum)}; expected less than (1 - sqrt(momentum))^2"
        )
    return (b + discriminant**0.5) / 2.0


MOST_STEPS = 10**12
LARGEST_RATE = 1e36
"""Largest rate of a step: the product of two rates of the config."""
LARGEST_GROWTH = 1e16
"""Largest growth of a learning rate: squared norms grow alike and their squares must fit in float32."""


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


class Constant(Part):
    """The rates of the point at every step."""

    kind: Literal["constant"]

    def segments(self, lr: float, weight_decay: float, steps: int, clock: Clock) -> list[Segment]:
        """Return the segments of a training of `steps` steps at a point's rates."""
        return [Segment(steps, lr, weight_decay)]


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
    """how long it lasts; left out in the last phase: until the end"""
    lr: Positive | None = None
    """its learning rate"""
    lr_factor: Positive = 1.0
    """its learning rate over the point's own, in place of `lr`"""
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
        return self

    def with_seed(self, seed: int) -> "Phase":
        """Return the phase with one seed in place of its list."""
        if self.draw is None or self.draw.seeds is None:
            return self
        return self.model_copy(update={"draw": self.draw.model_copy(update={"seed": seed, "seeds": None})})


class Phases(Part):
    """Phases one after the other."""

    kind: Literal["phases"]
    phases: Many[Phase]
    """the phases in their order"""

    def segments(self, lr: float, weight_decay: float, steps: int, clock: Clock) -> list[Segment]:
        """Return the segments of a training of `steps` steps at a point's rates."""
        segments, left = [], steps
        for phase in self.phases:
            length = clock.read(phase.length)[0] if phase.length else left
            if phase.draw:
                segments += phase.draw.segments(lr, weight_decay, length)
            else:
                rate = lr * phase.lr_factor if phase.lr is None else phase.lr
                decay = phase.weight_decay
                decay = weight_decay * phase.weight_decay_factor if decay is None else decay
                segments.append(Segment(length, canonical(rate), canonical(decay)))
            left = max(0, left - length)
        if left:
            raise InputError(f"the phases end {left} steps before the training; leave out the last length")
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
    `zero` as `torch.optim.SGD` does, at which it is no longer exact"""

    @model_validator(mode="after")
    def _check(self) -> "Exponential":
        for key in ("of", "first_buffer"):
            if key in self.model_fields_set and self.growth != "exp_lr":
                raise problem(f"expected beside growth: exp_lr only, got growth {self.growth}", f".{key}")
        return self


Schedule = Constant | MultiStep | Phases | Exponential
ScheduleConfig = by_kind(Constant, MultiStep, Phases, Exponential)
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
    """
    try:
        if not isinstance(schedule, Exponential):
            segments = schedule.segments(lr, weight_decay, steps, clock)
            timeline = Timeline(tuple(segment for segment in segments if segment.steps > 0)).truncated(steps)
        elif schedule.growth == "exp_lr":
            of = lookup(schedule.of, schedules)
            if isinstance(of, Exponential):
                raise InputError(f"of: expected a schedule that is not exponential, got {schedule.of!r}")
            timeline = _equivalent(compile_schedule(of, lr, weight_decay, momentum, steps, clock), momentum)
            if schedule.first_buffer == "zero":
                timeline = replace(timeline, first_buffer=0.0)
        else:
            if steps * math.log(schedule.growth) > math.log(LARGEST_GROWTH):
                raise _overgrown(steps)
            timeline = Timeline((Segment(steps, lr, weight_decay, schedule.growth),))
    except OverflowError:
        raise _out_of_range("more than a number holds") from None
    for segment in timeline.segments:
        if not 0 < segment.lr <= LARGEST_RATE or not segment.weight_decay <= LARGEST_RATE:
            raise _out_of_range(f"{number(segment.lr)} and {number(segment.weight_decay)}")
    return timeline


def _out_of_range(found: str) -> InputError:
    return InputError(f"expected learning rates above 0 and rates up to {LARGEST_RATE:g}, got rates of {found}")


def _equivalent(original: Timeline, momentum: float) -> Timeline:
    """Return the timeline without weight decay that trains the same functions as segments of constant rates.

    Let eta_t and lambda_t be the rates of the original, r_t = eta_t / eta_(t-1), x_t its weights. Then
    w_t = x_t / c_t trains at the learning rates eta_t / (c_t c_(t+1)) without weight decay, with
    c_(t+1) = (1 + mu r_t - eta_t lambda_t) c_t - mu r_t c_(t-1), c_0 = 1 and c_(-1) = 1 / alpha (derived; for one
    segment c_t = alpha^t, the schedule of Li and Arora, arXiv:1910.07454). Within a segment
    c_t = A (alpha^t + b beta^t) with the roots alpha > beta of `exp_lr_growth`, whose product is mu. The original
    starts without a momentum buffer, as if x_(-1) = x_0; its equivalent's first buffer is therefore
    (w_(-1) - w_0) / (eta_0 alpha) = -(1 - alpha) / (eta_0 alpha) w_0.

    Raises:
        InputError: where there is no equivalent, or one that outgrows float32.
    """
    segments: list[Segment] = []
    last = original.segments[0]
    now = before = 1.0  # c_t and c_(t-1) at the start of a segment
    first_buffer = 0.0
    for segment in original.segments:
        alpha = exp_lr_growth(segment.lr, segment.weight_decay, momentum)
        scale, taper = now, 0.0  # A and b
        # The first segment has no taper, by the choice of c_(-1); without momentum none has.
        if momentum and segments:
            inertia, beta = momentum * segment.lr / last.lr, momentum / alpha
            after = (1.0 + inertia - segment.lr * segment.weight_decay) * now - inertia * before
            scale = (after - beta * now) / (alpha - beta)
            taper = (alpha * now - after) / ((alpha - beta) * scale) if scale else 0.0
        elif momentum:
            first_buffer = (alpha - 1.0) / (segment.lr * alpha)
        if scale <= 0:
            raise InputError(
                f"the learning rate rises from {number(last.lr)} to {number(segment.lr)}, to which no exponential "
                f"schedule is equivalent at momentum {number(momentum)}; expected a smaller rise"
            )
        ratio = momentum / alpha**2
        rate = segment.lr / (scale**2 * alpha * (1.0 + taper) * (1.0 + taper * ratio))
        segments.append(Segment(segment.steps, rate, 0.0, alpha**-2, taper, ratio if taper else 0.0))
        now, before = (scale * alpha**t * (1.0 + taper * ratio**t) for t in (segment.steps, segment.steps - 1))
        if now < LARGEST_GROWTH**-0.5:
            raise _overgrown(original.steps)
        last = segment
    return Timeline(tuple(segments), first_buffer)


def _overgrown(steps: int) -> InputError:
    return InputError(
        f"an exponential schedule grows by more than {LARGEST_GROWTH:g} within {steps} steps, where float32 "
        "overflows; expected fewer steps or a slower growth"
    )
