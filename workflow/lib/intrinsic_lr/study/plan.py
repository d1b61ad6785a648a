"""The plan of one block's training: everything that decides its numbers, with one canonical JSON. No torch."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, PlainSerializer, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.seeding import stream_seed
from intrinsic_lr.core.user_code import UserCode
from intrinsic_lr.study.model_spec import ModelSpec
from intrinsic_lr.study.optimisers import OPTIONS, optimiser_options
from intrinsic_lr.study.points import (
    AUGMENTATIONS,
    check_precision,
    check_sharing,
    check_sphere,
    is_augmentation,
)
from intrinsic_lr.study.timeline import Timeline


def _model(value: Any) -> Any:
    try:
        return ModelSpec.from_config(value) if isinstance(value, Mapping) else value
    except InputError as error:
        raise ValueError(str(error)) from None


_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


@dataclass(frozen=True, config=_STRICT)
class Recording:
    """Rows of history and trace up to a step: one every so many steps, and one at the end."""

    steps: Annotated[int, Field(ge=1)]
    log_every: Annotated[int, Field(ge=1)]
    trace_every: Annotated[int, Field(ge=1)]

    def multiples(self, every: int, until: int | None = None) -> set[int]:
        """Return the multiples of a number of steps up to the end, and the end itself, as far as a step."""
        last = self.steps if until is None else min(self.steps, until)
        return {*range(0, last + 1, every), *([last] if last == self.steps else [])}


@dataclass(frozen=True, config=_STRICT)
class TrainingPlan:
    """Everything that decides the numbers of one block's training.

    A new axis is one more field with a default: the JSON of every plan without it stays as it was.

    Attributes:
        point: canonical name of the point, which names the streams of data order and augmentation.
        model: the network.
        timeline: learning rate and weight decay of every step.
        batch_size: images a step, or `full`.
        checkpoints: steps at which weights are kept, ascending.
        log_every: steps between two rows of the history.
        trace_every: steps between two rows of the trace.
        replicates: first replicate and one past the last.
        seed: the study's seed.
        momentum: momentum mu.
        init_seed, init_sharing, init_scale, runs_per_init: the initialisation.
        augmentation: text of the augmentation, or `none`.
        dtype: of the weights.
        data_order: names the streams of data order and augmentation in place of the point, which points of one
            batch size then share.
        constraint: `none`, or `sphere`: every scale group is brought back to its initial norm after each step.
        precision: of the products and convolutions of a step.
        optimiser, nesterov, beta1, beta2, eps, clip, label_smoothing: as the axes of a point; None is the
            optimiser's default.
        optimiser_code, augmentation_code: the functions of the user's that these two axes name, None for the
            project's own.
        compile: whether a step is a compiled program.
        also: rows that other studies, which share this training, want besides.

    Raises:
        InputError: for values that do not go together. Use `from_json` for values that a user wrote.
    """

    point: str
    model: Annotated[ModelSpec, BeforeValidator(_model), PlainSerializer(ModelSpec.to_config)]
    timeline: Timeline
    batch_size: int | Literal["full"]
    checkpoints: tuple[int, ...]
    log_every: int
    trace_every: int
    replicates: tuple[int, int]
    seed: int = 0
    momentum: float = 0.0
    init_seed: int = 0
    init_sharing: Literal["independent", "shared"] = "independent"
    init_scale: float = 1.0
    augmentation: str = "none"
    dtype: Literal["float32", "float64"] = "float32"
    data_order: int | None = None
    constraint: Literal["none", "sphere"] = "none"
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
    optimiser: str = "sgd"
    nesterov: bool = False
    beta1: float | None = None
    beta2: float | None = None
    eps: float | None = None
    clip: float | None = None
    label_smoothing: float = 0.0
    runs_per_init: Annotated[int, Field(ge=1)] = 1
    optimiser_code: UserCode | None = None
    augmentation_code: UserCode | None = None
    compile: Literal["off", "on"] = "off"
    also: tuple[Recording, ...] = ()

    def __post_init__(self) -> None:
        first, end = self.replicates
        steps = self.timeline.steps
        ascending = list(self.checkpoints) == sorted(set(self.checkpoints))
        shortest = min((segment.steps for segment in self.timeline.segments), default=0)
        checks = {
            "timeline": (shortest > 0, "segments of 1 step or more"),
            "batch_size": (self.batch_size == "full" or self.batch_size > 0, "a whole number from 1 on, or full"),
            "checkpoints": (
                self.checkpoints and ascending and self.checkpoints[0] >= 0 and self.checkpoints[-1] <= steps,
                f"ascending steps from 0 to {steps}",
            ),
            "log_every": (self.log_every > 0, "a whole number from 1 on"),
            "trace_every": (self.trace_every > 0, "a whole number from 1 on"),
            "optimiser": (self.optimiser in OPTIONS or self.optimiser_code, f"one of {', '.join(OPTIONS)}"),
            "augmentation": (is_augmentation(self.augmentation) or self.augmentation_code, AUGMENTATIONS),
            "replicates": (0 <= first < end, "[FIRST, END] with FIRST below END"),
        }
        for name, (valid, expected) in checks.items():
            if not valid:
                raise InputError(f"plan: {name}: expected {expected}, got {getattr(self, name)}")
        check_precision(self.precision, self.dtype)
        optimiser_options(self)
        check_sharing(self.init_sharing, self.runs_per_init)
        if self.constraint == "sphere":
            check_sphere(self.momentum, self.timeline, self.optimiser)

    @property
    def members(self) -> range:
        """The replicates of the block."""
        return range(*self.replicates)

    @property
    def steps(self) -> int:
        """Number of steps of the training."""
        return self.timeline.steps

    @property
    def code(self) -> list[tuple[str, str]]:
        """File and SHA-256 of all code of the user's that the training runs."""
        found = [self.model, self.optimiser_code, self.augmentation_code, self.timeline.code]
        return [(code.file, str(code.sha256)) for code in found if code and code.file]

    @property
    def recordings(self) -> tuple[Recording, ...]:
        """What is recorded: by this plan's own density, and `also`."""
        return (Recording(self.steps, self.log_every, self.trace_every), *self.also)

    def logged(self, until: int | None = None) -> list[int]:
        """Return the steps with a row in the history, up to a step or to the end."""
        steps = {step for step in self.checkpoints if until is None or step <= until}
        return sorted(steps.union(*(each.multiples(each.log_every, until) for each in self.recordings)))

    def traced(self, until: int | None = None) -> list[int]:
        """Return the steps with a row in the trace, up to a step or to the end."""
        return sorted(set().union(*(each.multiples(each.trace_every, until) for each in self.recordings)))

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as plain data: what JSON holds, defaults left out."""
        return _ADAPTER.dump_python(self, mode="json", exclude_defaults=True)

    def to_json(self) -> str:
        """Return the plan's one canonical text, which `from_json` reads back as an equal plan."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))

    @staticmethod
    def from_json(plan: str | Mapping[str, Any]) -> "TrainingPlan":
        """Read a plan from JSON text, or from what JSON text holds.

        Raises:
            InputError: naming the field that is missing, unknown or wrong.
        """
        try:
            return _ADAPTER.validate_json(plan if isinstance(plan, str) else json.dumps(plan))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"])) or "JSON"
            got = "" if first["type"] in ("missing", "json_invalid") else f", got {str(first['input'])[:60]}"
            raise InputError(f"plan: {place}: {first['msg']}{got}") from None

    def steps_per_epoch(self, count: int) -> int:
        """Return the steps in which `count` training images are seen once."""
        return 1 if self.batch_size == "full" else count // int(self.batch_size)

    def init_seeds(self) -> list[int]:
        """Return the seed of each member's initialisation."""
        if self.init_sharing == "shared":
            starts: list[str | int] = ["shared"] * len(self.members)
        else:
            starts = [k // self.runs_per_init for k in self.members]
        return [stream_seed(self.seed, "init", self.init_seed, start) for start in starts]

    def head_seed(self) -> int:
        """Return the seed of a fixed head, one for all networks of a study."""
        return stream_seed(self.seed, "head")

    def epoch_seeds(self, stream: str, epoch: int) -> list[int]:
        """Return the seed of each member's `order` or `augmentation` in an epoch."""
        owner = (self.point,) if self.data_order is None else ("shared", self.data_order)
        return [stream_seed(self.seed, stream, *owner, k, epoch) for k in self.members]


_ADAPTER = TypeAdapter(TrainingPlan)
