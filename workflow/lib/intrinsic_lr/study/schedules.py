"""Schedules of learning rate and weight decay, compiled to segments of steps."""

import math
import random
import re
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.kinds import Options
from intrinsic_lr.core.seeding import stream_seed


@dataclass(frozen=True)
class Segment:
    """A stretch of steps with one weight decay and a constant or exponentially growing learning rate.

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
        segments: stretches of steps, one after the other.
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

    def spell(self) -> str:
        """Return the timeline's canonical text.

        Segments `STEPS@LR@WEIGHT_DECAY[@GROWTH[@TAPER@TAPER_RATIO]]` are joined by commas, after `buffer=NUMBER`
        where there is a first buffer.
        """
        parts = [f"{_BUFFER}{self.first_buffer!r}"] if self.first_buffer else []
        for segment in self.segments:
            fields = [str(segment.steps), _exact(segment.lr), number(segment.weight_decay)]
            if segment.growth != 1.0 or segment.taper:
                fields.append(repr(segment.growth))
            if segment.taper:
                fields += [repr(segment.taper), repr(segment.taper_ratio)]
            parts.append("@".join(fields))
        return ",".join(parts)

    @staticmethod
    def parse(text: str) -> "Timeline":
        """Read what `spell` wrote."""
        first_buffer = 0.0
        if text.startswith(_BUFFER):
            spelled, _, text = text.removeprefix(_BUFFER).partition(",")
            try:
                first_buffer = float(spelled)
            except ValueError:
                raise InputError(f"timeline: {_BUFFER + spelled!r} is not {_BUFFER}NUMBER") from None
        return Timeline(tuple(map(_parse_segment, text.split(","))), first_buffer)


_BUFFER = "buffer="
_SEGMENT = "STEPS@LR@WEIGHT_DECAY[@GROWTH[@TAPER@TAPER_RATIO]]"


def _parse_segment(text: str) -> Segment:
    fields = text.split("@")
    try:
        segment = Segment(int(fields[0]), *(float(field) for field in fields[1:]))
    except (ValueError, TypeError):
        raise InputError(f"timeline: segment {text!r} is not {_SEGMENT}") from None
    if len(fields) not in (3, 4, 6) or segment.steps < 1:
        raise InputError(f"timeline: segment {text!r} is not {_SEGMENT}")
    return segment


def number(value: float) -> str:
    """Spell a number canonically: 12 significant digits, so that 1, 1.0 and 0.1 * 10 are one text, and no plus."""
    return f"{float(value):.12g}".replace("+", "")


def _exact(value: float) -> str:
    """Spell a number so that it is read back as it is: canonically, with all its digits where 12 do not do."""
    return number(value) if float(number(value)) == value else repr(value)


def exp_lr_growth(lr: float, weight_decay: float, momentum: float) -> float:
    """Return alpha of the exponential schedule that replaces weight decay.

    alpha is the larger root of x^2 - (1 + mu - eta*lambda) x + mu = 0; without momentum 1 - eta*lambda.
    Source: Li and Arora, An Exponential Learning Rate Schedule for Deep Learning (arXiv:1910.07454).

    Raises:
        InputError: when the roots are complex or equal, where no exponential twin exists.
    """
    decay = lr * weight_decay
    b = 1.0 + momentum - decay
    # b^2 - 4 mu, without the cancellation that would cost alpha its last digits, which grow with every step.
    discriminant = (1.0 - momentum) ** 2 - decay * (2.0 + 2.0 * momentum - decay)
    if discriminant <= 0 or b <= 0:
        raise InputError(
            f"exponential schedule: learning rate {number(lr)} times weight decay {number(weight_decay)} "
            f"is too large for momentum {number(momentum)}; allowed is less than (1 - sqrt(momentum))^2"
        )
    return (b + discriminant**0.5) / 2.0


UNITS = ("steps", "epochs", "inverse_intrinsic_lr")
MOST_STEPS = 10**12


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
                raise InputError("found inverse_intrinsic_lr at weight decay 0; allowed there: steps, epochs")
            value /= self.intrinsic_lr
        if value > MOST_STEPS:
            raise InputError(f"{unit}: found {number(value)} steps; allowed are up to {MOST_STEPS:g}")
        return round(value)

    def read(self, duration: Mapping[str, Any]) -> list[int]:
        """Return the steps of a mapping like `{epochs: [1, 2]}` or `{steps: 100}`."""
        ((unit, value),) = duration.items()
        return [self.steps(unit, item) for item in (value if isinstance(value, list) else [value])]


CONSTANT: Mapping[str, Any] = {"kind": "constant"}
OPTIONS: Options = {
    "constant": ((), ()),
    "multi_step": ((), ("lr_milestones", "weight_decay_milestones", "factor")),
    "phases": (("phases",), ()),
    "exponential": (("growth",), ("of", "first_buffer")),
}
"""What the definition of a schedule has besides its kind."""
_DECAY_NAME = re.compile(r"wd_([0-9]{1,6})_([0-9]{1,6})_lr_([0-9]{1,6})_([0-9]{1,6})")


def lookup(name: str, schedules: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the definition behind a schedule's name.

    Besides the config's own names there are `constant` and `wd_x_y_lr_z_u`: the weight decay divided by 10
    at epochs x and y, the learning rate at epochs z and u (the naming of Li, Lyu, Arora 2020). In an exponential
    twin `of` is replaced by the definition that it names.

    Raises:
        InputError: for any other name, and for a twin of an exponential schedule.
    """
    if name in schedules:
        definition = schedules[name]
        return {**definition, "of": _original(definition["of"], schedules)} if "of" in definition else definition
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


def _original(name: str, schedules: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    if schedules.get(name, CONSTANT)["kind"] == "exponential":
        raise InputError(f"of: found the exponential schedule {name!r}; allowed are schedules of other kinds")
    return lookup(name, schedules)


def compile_schedule(
    definition: Mapping[str, Any], lr: float, weight_decay: float, momentum: float, steps: int, clock: Clock
) -> Timeline:
    """Compile a schedule's definition to the timeline of a training of `steps` steps.

    Args:
        definition: `kind` constant, multi_step, phases or exponential, with its options as `lookup` gives them.
        lr: base learning rate of the point.
        weight_decay: base weight decay of the point.
        momentum: momentum of the point, which the exponential twin depends on.
        steps: length of the training.
        clock: converts epochs and multiples of 1/lambda_e.
    """
    try:
        timeline = _compile(definition, lr, weight_decay, momentum, steps, clock)
    except OverflowError:
        raise _out_of_range("more than a number holds") from None
    for segment in timeline.segments:
        if not 0 < segment.lr <= LARGEST_RATE or not segment.weight_decay <= LARGEST_RATE:
            raise _out_of_range(f"{number(segment.lr)} and {number(segment.weight_decay)}")
    return timeline


def _out_of_range(found: str) -> InputError:
    return InputError(
        f"found rates that become {found}; allowed are learning rates above 0, and rates up to {LARGEST_RATE:g}"
    )


def _compile(
    definition: Mapping[str, Any], lr: float, weight_decay: float, momentum: float, steps: int, clock: Clock
) -> Timeline:
    kind = definition["kind"]
    if kind == "exponential":
        return _exponential(definition, lr, weight_decay, momentum, steps, clock)
    if kind == "multi_step":
        segments = _multi_step(definition, lr, weight_decay, steps, clock)
    elif kind == "phases":
        segments = _phases(definition["phases"], lr, weight_decay, steps, clock)
    else:
        segments = [Segment(steps, lr, weight_decay)]
    return Timeline(tuple(segment for segment in segments if segment.steps > 0)).truncated(steps)


def _multi_step(
    definition: Mapping[str, Any], lr: float, weight_decay: float, steps: int, clock: Clock
) -> list[Segment]:
    factor = definition.get("factor", 0.1)
    lr_at = sorted(clock.read(definition.get("lr_milestones", {"steps": []})))
    weight_decay_at = sorted(clock.read(definition.get("weight_decay_milestones", {"steps": []})))
    edges = sorted({0, steps, *(edge for edge in lr_at + weight_decay_at if 0 < edge < steps)})
    return [
        Segment(
            end - start,
            _decayed(lr, factor, bisect_right(lr_at, start)),
            _decayed(weight_decay, factor, bisect_right(weight_decay_at, start)),
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
        if "draw" in phase:
            segments += _drawn(phase, length, lr, weight_decay)
        else:
            rate = phase.get("lr", lr * phase.get("lr_factor", 1.0))
            decay = phase.get("weight_decay", weight_decay * phase.get("weight_decay_factor", 1.0))
            segments.append(Segment(length, float(number(rate)), float(number(decay))))
        left = max(0, left - length)
    if left:
        raise InputError(f"found phases that end {left} steps before the training; leave out the last length")
    return segments


def _drawn(phase: Mapping[str, Any], length: int, lr: float, weight_decay: float) -> list[Segment]:
    """Return equal pieces of a phase, the last with the remainder, at log-uniformly drawn multiples of the rates.

    A phase without a length would be cut otherwise in a longer training, so it has to have one.
    """
    draw = phase["draw"]
    if len(phase) != 2 or "length" not in phase:
        beside = ", ".join(sorted(phase.keys() - {"draw"})) or "nothing"
        raise InputError(f"draw: found beside it {beside}; allowed is length alone, which it needs")
    if draw["changes"] > length:
        raise InputError(f"draw.changes: found {draw['changes']} in {length} steps; allowed is at most one a step")
    for key in ("lr_factor", "weight_decay_factor"):
        if draw[key][0] > draw[key][1]:
            raise InputError(f"draw.{key}: found {draw[key]}; allowed: [low, high] with low not above high")
    stream = random.Random(stream_seed("schedule", draw["seed"]))

    def drawn(value: float, low: float, high: float) -> float:
        return float(number(value * low * (high / low) ** stream.random()))

    piece, count = length // draw["changes"], draw["changes"]
    return [
        Segment(
            piece if index < count - 1 else length - piece * (count - 1),
            drawn(lr, *draw["lr_factor"]),
            drawn(weight_decay, *draw["weight_decay_factor"]),
        )
        for index in range(count)
    ]


def _exponential(
    definition: Mapping[str, Any], lr: float, weight_decay: float, momentum: float, steps: int, clock: Clock
) -> Timeline:
    growth = definition["growth"]
    if growth == "exp_lr":
        original = compile_schedule(definition.get("of", CONSTANT), lr, weight_decay, momentum, steps, clock)
        twin = _twin(original, momentum)
        return replace(twin, first_buffer=0.0) if definition.get("first_buffer") == "zero" else twin
    if unused := {"of", "first_buffer"} & definition.keys():
        raise InputError(f"{min(unused)}: found beside the growth {growth}; allowed beside growth: exp_lr")
    if steps * math.log(growth) > math.log(LARGEST_GROWTH):
        raise _overgrown(steps)
    return Timeline((Segment(steps, lr, weight_decay, float(growth)),))


def _twin(original: Timeline, momentum: float) -> Timeline:
    """Return the timeline without weight decay that trains the same functions as segments of constant rates.

    Let eta_t and lambda_t be the rates of the original, r_t = eta_t / eta_(t-1), x_t its weights. Then
    w_t = x_t / c_t trains at the learning rates eta_t / (c_t c_(t+1)) without weight decay, with
    c_(t+1) = (1 + mu r_t - eta_t lambda_t) c_t - mu r_t c_(t-1), c_0 = 1 and c_(-1) = 1 / alpha (derived; for one
    segment c_t = alpha^t, the schedule of Li and Arora, arXiv:1910.07454). Within a segment
    c_t = A (alpha^t + b beta^t) with the roots alpha > beta of `exp_lr_growth`, whose product is mu. The original
    starts without a momentum buffer, as if x_(-1) = x_0; the twin's first buffer is therefore
    (w_(-1) - w_0) / (eta_0 alpha) = -(1 - alpha) / (eta_0 alpha) w_0.

    Raises:
        InputError: where there is no twin, or one that outgrows float32.
    """
    segments: list[Segment] = []
    last = original.segments[0]
    now = before = 1.0  # c_t and c_(t-1) at the start of a segment
    for segment in original.segments:
        alpha = exp_lr_growth(segment.lr, segment.weight_decay, momentum)
        ratio = momentum / alpha**2
        scale, taper = now, 0.0
        # The first segment has no taper, by the choice of c_(-1); without momentum none has.
        if momentum and segments:
            scale, taper = _amplitudes(segment, last, momentum, alpha, now, before)
        if scale <= 0:
            raise InputError(
                f"found a learning rate that rises from {number(last.lr)} to {number(segment.lr)}, where no "
                f"exponential twin exists at momentum {number(momentum)}; allowed is a smaller rise"
            )
        rate = segment.lr / (scale**2 * alpha * (1.0 + taper) * (1.0 + taper * ratio))
        segments.append(Segment(segment.steps, rate, 0.0, alpha**-2, taper, ratio if taper else 0.0))
        now, before = (scale * alpha**t * (1.0 + taper * ratio**t) for t in (segment.steps, segment.steps - 1))
        if now < LARGEST_GROWTH**-0.5:
            raise _overgrown(original.steps)
        last = segment
    return Timeline(tuple(segments), _corrected_buffer(original.segments[0], momentum))


def _corrected_buffer(first: Segment, momentum: float) -> float:
    """Return the twin's momentum buffer before its first step, as a multiple of its weights there."""
    alpha = exp_lr_growth(first.lr, first.weight_decay, momentum)
    return (alpha - 1.0) / (first.lr * alpha) if momentum else 0.0


def _amplitudes(
    segment: Segment, last: Segment, momentum: float, alpha: float, now: float, before: float
) -> tuple[float, float]:
    """Return A and b of c_t = A (alpha^t + b beta^t) from c at a segment's start and one step earlier."""
    inertia, beta = momentum * segment.lr / last.lr, momentum / alpha
    after = (1.0 + inertia - segment.lr * segment.weight_decay) * now - inertia * before
    scale = (after - beta * now) / (alpha - beta)
    return scale, (alpha * now - after) / ((alpha - beta) * scale) if scale else 0.0


def _overgrown(steps: int) -> InputError:
    return InputError(
        f"found an exponential schedule that grows by more than {LARGEST_GROWTH:g} within {steps} steps, "
        "where float32 overflows; allowed are fewer steps or a slower growth"
    )


LARGEST_RATE = 1e36
"""Largest rate of a step: the product of two rates of the config."""
LARGEST_GROWTH = 1e16
"""Largest growth of a learning rate: squared norms grow alike and their squares must fit in float32."""
