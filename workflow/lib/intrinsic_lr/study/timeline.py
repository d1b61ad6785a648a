"""The learning rate and weight decay of every step of a training, in segments of steps."""

import math
from dataclasses import dataclass, replace
from typing import Literal

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.user_code import UserCode

LARGEST_GROWTH = 1e16
"""Largest growth of a learning rate: squared norms grow alike and their squares must fit in float32."""


@dataclass(frozen=True)
class Segment:
    """Steps with one weight decay and a learning rate that is constant, grows exponentially or is interpolated.

    The growth may settle in: t steps into the segment the learning rate is
    lr growth^t F(0) / F(t) with F(t) = (1 + b q^t) (1 + b q^(t+1)), the tapered exponential schedule of
    Li and Arora (arXiv:1910.07454).

    Of the two ends of an interpolation the larger is the learning rate of a step and the smaller is not: a linear
    rise from 0 over n steps begins at 1/n of its end, and a fall to 0 ends at 1/n of its start.

    Attributes:
        steps: number of steps.
        lr: learning rate of the first step, or the start of the interpolation.
        weight_decay: weight decay of every step.
        growth: factor of the learning rate from one step to the next, once the taper has died away.
        taper: b, 0 for a growth that is geometric from the first step on.
        taper_ratio: q, below 1.
        shape: how the learning rate is interpolated between `lr` and `lr_end`, `none` where it is not.
        lr_end: the end of the interpolation.
        span: steps of the interpolation where the training ends before it, 0 where they are those of the segment.
        gradient: factor of the gradients at the first step, which grows as the learning rate does; 0 leaves all
            gradients as they are.
    """

    steps: int
    lr: float
    weight_decay: float
    growth: float = 1.0
    taper: float = 0.0
    taper_ratio: float = 0.0
    shape: Literal["none", "linear", "cosine"] = "none"
    lr_end: float = 0.0
    span: int = 0
    gradient: float = 0.0

    def lr_at(self, offset: int) -> float:
        """Return the learning rate of the step `offset` steps into the segment."""
        if self.shape != "none":
            return self._interpolated(offset)
        rate = self.lr * self.growth**offset
        return rate * self._settling(0) / self._settling(offset) if self.taper else rate

    def gradient_at(self, offset: int) -> float:
        """Return the factor of the gradients `offset` steps into the segment."""
        return self.gradient * self.growth**offset if self.gradient else 1.0

    def truncated(self, steps: int) -> "Segment":
        """Return the first `steps` steps of the segment."""
        if steps >= self.steps:
            return self
        span = (self.span or self.steps) if self.shape != "none" else 0
        return replace(self, steps=steps, span=span)

    def _interpolated(self, offset: int) -> float:
        rising = self.lr < self.lr_end
        share = (offset + 1 if rising else offset) / (self.span or self.steps)
        if self.shape == "cosine":
            share = (1.0 - math.cos(math.pi * share)) / 2.0
        return self.lr * (1.0 - share) + self.lr_end * share

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
        code: the function of the user's that gives the rates of every step, from those of the segments.
    """

    segments: tuple[Segment, ...]
    first_buffer: float = 0.0
    code: UserCode | None = None

    @property
    def steps(self) -> int:
        """Number of steps of the training."""
        return sum(segment.steps for segment in self.segments)

    def at(self, step: int) -> tuple[float, float]:
        """Return learning rate and weight decay of the update from state `step` to state `step + 1`.

        Raises:
            InputError: where code of the user's fails, or gives no such rates.
        """
        segment, offset = self._locate(step)
        rates = segment.lr_at(offset), segment.weight_decay
        return self._own_rates(step, *rates) if self.code else rates

    def _own_rates(self, step: int, lr: float, weight_decay: float) -> tuple[float, float]:
        found = self.code.function("rates")(step, lr, weight_decay)
        try:
            lr, weight_decay = map(float, found)
            fine = 0 < lr < math.inf and 0 <= weight_decay < math.inf
        except (TypeError, ValueError):
            fine = False
        if not fine:
            raise InputError(
                f"{self.code.file}: rates: expected a learning rate above 0 and a weight decay from 0 on, got "
                f"{found!r} at step {step}"
            )
        return lr, weight_decay

    def check(self) -> None:
        """Ask code of the user's for the rates of every step, before anything is trained; raises as `at`."""
        for step in range(self.steps if self.code else 0):
            self.at(step)

    @property
    def scales_gradients(self) -> bool:
        """Whether the gradients of any step have a factor."""
        return any(segment.gradient for segment in self.segments)

    def gradient_factor(self, step: int) -> float:
        """Return the factor of the gradients in the update from state `step` to state `step + 1`."""
        segment, offset = self._locate(step)
        return segment.gradient_at(offset)

    def truncated(self, steps: int) -> "Timeline":
        """Return the first `steps` steps."""
        kept = []
        for segment in self.segments:
            if steps <= 0:
                break
            kept.append(segment.truncated(steps))
            steps -= segment.steps
        return replace(self, segments=tuple(kept))

    def _locate(self, step: int) -> tuple[Segment, int]:
        """Return the segment that a step lies in, and the steps before it there."""
        for segment in self.segments:
            if step < segment.steps:
                return segment, step
            step -= segment.steps
        raise IndexError("step past the end of the timeline")


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


def equivalent_of_sgd(original: Timeline, momentum: float) -> Timeline:
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
            raise overgrown(original.steps)
        last = segment
    return Timeline(tuple(segments), first_buffer)


def equivalent_of_adamw(original: Timeline) -> Timeline:
    """Return the timeline without weight decay that trains the same functions under AdamW or Lion.

    With alpha_t = 1 - eta_t lambda_t and c_t the product of the earlier alphas, x_t / c_t trains at the learning
    rates eta_t / c_(t+1) without weight decay when its gradients are divided by c_t, which makes them those of the
    original; that is the same as multiplying beta1 by alpha, beta2 by alpha^2 and eps by c_t (derived; see
    `stats.theory.adamw_exponential`).

    Raises:
        InputError: where a step's decay is 1 or more, or the equivalent outgrows float32.
    """
    segments: list[Segment] = []
    scale = 1.0
    for segment in original.segments:
        alpha = exp_lr_growth(segment.lr, segment.weight_decay, 0.0)
        rate = segment.lr / (scale * alpha)
        segments.append(Segment(segment.steps, rate, 0.0, 1.0 / alpha, gradient=1.0 / scale))
        scale *= alpha**segment.steps
        if scale < LARGEST_GROWTH**-0.5:
            raise overgrown(original.steps)
    return Timeline(tuple(segments))


def overgrown(steps: int) -> InputError:
    """Return the error of an exponential schedule that grows too large within `steps` steps."""
    return InputError(
        f"an exponential schedule grows by more than {LARGEST_GROWTH:g} within {steps} steps, where float32 "
        "overflows; expected fewer steps or a slower growth"
    )
