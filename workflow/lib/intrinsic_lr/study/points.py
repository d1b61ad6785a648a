"""Points of the grid: what identifies one training ensemble, and its canonical name."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from itertools import product
from math import prod
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.study.config_types import Allowed, Count, Flag, Index, Name, Nonnegative, Positive, Text
from intrinsic_lr.study.optimisers import OPTIONS, optimiser_options
from intrinsic_lr.study.timeline import Timeline, canonical, number

MOST_POINTS = 10_000
RATES = ("lr", "weight_decay", "intrinsic_lr")


BatchSize = Annotated[
    Annotated[int, Field(ge=2, le=10**9)] | Literal["full"], Allowed("a whole number from 2 on, or full")
]
Momentum = Annotated[float, Field(ge=0, le=0.999999), Allowed("a number from 0 to 0.999999")]
Smoothing = Annotated[float, Field(ge=0, le=0.99), Allowed("a number from 0 to 0.99")]
AUGMENTATIONS = "none, flip, crop=N or crop=N,flip, with N from 1 to 99"
_AUGMENTATION = "^(none|flip|crop=[1-9][0-9]?(,flip)?)$"
Augmentation = Annotated[
    Annotated[str, Field(pattern=_AUGMENTATION)] | Name, Allowed(f"{AUGMENTATIONS}, or a name of augmentations")
]
Optimiser = Annotated[
    Literal[tuple(OPTIONS)] | Name, Allowed(f"one of {', '.join(OPTIONS)}, or a name of optimisers")
]


def is_augmentation(text: str) -> bool:
    """Tell whether a text is an augmentation that needs no code of the user's."""
    return bool(re.fullmatch(_AUGMENTATION, text))


def _on_or_off(value: Any) -> Any:
    """Return the word that stands in the YAML file, which reads `on` and `off` as truth values."""
    return ("off", "on")[value] if isinstance(value, bool) else value


Compile = Annotated[
    Literal["off", "on", "auto"],
    BeforeValidator(_on_or_off, json_schema_input_type=bool | Literal["off", "on", "auto"]),
    Allowed("auto, off or on"),
]


@dataclass(frozen=True)
class Point:
    """One setting of the grid; its replicates differ in their seeds only.

    Each field is an axis of the config's grids. Its metadata say how a value that is not the default stands in the
    point's name. A new axis is one field, the last.

    Attributes:
        dataset: what is trained on, in place of the experiment's.
        model: what is trained, in place of the experiment's.
        batch_size: images a step, in place of the experiment's.
        lr: base learning rate eta, to which a schedule's factors apply.
        weight_decay: base weight decay lambda.
        schedule: how the rates change.
        momentum: momentum mu of `sgd`.
        init_seed: which initialisation.
        init_sharing: `independent`, every replicate has its own initialisation; `shared`, all start at the same
            weights and differ in data order.
        init_scale: factor on the scale-invariant weights at initialisation.
        augmentation: what is done to the training images of every batch: pad, crop and flip, or one of your own.
        dtype: arithmetic of the training.
        data_order: points of one `data_order` and batch size see the same batches, replicate by replicate; without
            it each point has its own.
        constraint: `sphere` brings every scale-invariant group back to its initial norm after each update, so the
            effective learning rate stays fixed (Kodryan et al. 2022); needs momentum 0 and weight decay 0.
        precision: of the matrix products and convolutions of a training step (`tf32` on GPUs that have it); norms,
            statistics, weights, updates and evaluation stay in float32.
        optimiser: `sgd`, `adam` (weight decay in the gradient) and `adamw` (decoupled) as in `torch.optim`, or
            `lion` (Chen et al. 2023); or one of your own.
        nesterov: Nesterov's form of the momentum of `sgd`.
        beta1: decay of the first moment of `adam` and `adamw`, by default 0.9; for `lion` the share of the moment
            in the update, by default 0.9.
        beta2: decay of the second moment of `adam` and `adamw`, by default 0.999; for `lion` of the first, by
            default 0.99.
        eps: what `adam` and `adamw` add to the root of the second moment, by default 1e-8.
        clip: largest norm of a replicate's gradient over all trained weights; a longer one is scaled down to it.
        label_smoothing: share of the target that is spread evenly over all classes, in the training loss only.
        runs_per_init: consecutive replicates that start at the same weights and differ in data order: 8 gives 128
            replicates 16 initialisations of 8 runs each; needs `init_sharing` independent.
        compile: `on` compiles the whole step by `torch.compile`, `auto` where the training is long enough for that
            to pay.
    """

    dataset: Text
    model: Text
    batch_size: BatchSize
    lr: Positive
    weight_decay: Nonnegative
    schedule: Text = field(default="constant", metadata={"name": "schedule_{}"})
    momentum: Momentum = field(default=0.0, metadata={"name": "momentum{}"})
    init_seed: Index = field(default=0, metadata={"name": "init{}"})
    init_sharing: Literal["independent", "shared"] = field(default="independent", metadata={"name": "{}"})
    init_scale: Positive = field(default=1.0, metadata={"name": "scale{}"})
    augmentation: Augmentation = field(default="none", metadata={"name": "{}"})
    dtype: Literal["float32", "float64"] = field(default="float32", metadata={"name": "{}"})
    data_order: Index | None = field(default=None, metadata={"name": "order{}"})
    constraint: Literal["none", "sphere"] = field(default="none", metadata={"name": "{}"})
    precision: Literal["float32", "tf32", "bfloat16"] = field(default="float32", metadata={"name": "{}"})
    optimiser: Optimiser = field(default="sgd", metadata={"name": "{}"})
    nesterov: Flag = field(default=False, metadata={"name": "nesterov"})
    beta1: Momentum | None = field(default=None, metadata={"name": "beta1={}"})
    beta2: Momentum | None = field(default=None, metadata={"name": "beta2={}"})
    eps: Nonnegative | None = field(default=None, metadata={"name": "eps={}"})
    clip: Positive | None = field(default=None, metadata={"name": "clip={}"})
    label_smoothing: Smoothing = field(default=0.0, metadata={"name": "smoothing{}"})
    runs_per_init: Count = field(default=1, metadata={"name": "runs_per_init{}"})
    compile: Compile = field(default="off", metadata={"name": "compile_{}"})

    @property
    def intrinsic_lr(self) -> float:
        """Intrinsic learning rate lambda_e = eta * lambda, per step."""
        return canonical(self.lr * self.weight_decay)

    def initialisation(self, replicate: int) -> int:
        """Return which of the point's initialisations a replicate starts at, from 0 on."""
        return 0 if self.init_sharing == "shared" else replicate // self.runs_per_init

    @property
    def name(self) -> str:
        """The canonical name: values in a fixed order, axes at their default left out.

        A new axis therefore renames no existing point. Only letters, digits, `.`, `_`, `-` and `=` occur.
        """
        parts = [
            self.dataset,
            self.model,
            f"b{self.batch_size}",
            f"lr{number(self.lr)}",
            f"wd{number(self.weight_decay)}",
        ]
        for axis in fields(self):
            value = getattr(self, axis.name)
            if axis.metadata and value != axis.default:
                text = number(value) if isinstance(value, float) else str(value).replace(",", "_")
                parts.append(_label(axis.name, value) or axis.metadata["name"].format(text))
        return "-".join(parts)


def _label(axis: str, value: Any) -> str:
    """Return how an optimiser or augmentation of the user's own stands in names: not as one of the project's."""
    own = (axis == "optimiser" and value not in OPTIONS) or (axis == "augmentation" and not is_augmentation(value))
    return f"{axis}_{value}" if own else ""


def check_sphere(momentum: float, timeline: Timeline, optimiser: str = "sgd") -> None:
    """Refuse what a training on the sphere cannot have.

    Without weight decay and momentum the update of a scale-invariant weight is tangent to its sphere, so that
    the projection back only undoes the growth of the norm (Kodryan et al. 2022).

    Raises:
        InputError: naming the key and the value.
    """
    if optimiser != "sgd":
        raise InputError(f"optimiser: expected sgd with constraint sphere, got {optimiser}")
    decays = {segment.weight_decay for segment in timeline.segments}
    for key, value in (("momentum", momentum), ("weight_decay", max(decays))):
        if value != 0:
            raise InputError(f"{key}: expected 0 with constraint sphere, got {number(value)}")


def check_precision(precision: str, dtype: str) -> None:
    """Refuse a reduced precision of products for weights in float64.

    Raises:
        InputError: naming the key and the value.
    """
    if precision != "float32" and dtype != "float32":
        raise InputError(f"precision: expected float32 with dtype {dtype}, got {precision}")


def check_sharing(init_sharing: str, runs_per_init: int) -> None:
    """Refuse runs per initialisation where all runs share one.

    Raises:
        InputError: naming the key and the value.
    """
    if init_sharing == "shared" and runs_per_init != 1:
        raise InputError(f"runs_per_init: expected 1 with init_sharing shared, got {runs_per_init}")


def expand(grid: Iterable[Mapping[str, list[Any]]], defaults: Mapping[str, Any], place: str) -> list[Point]:
    """Return the points of a grid in the order given.

    A grid is a list of mappings from axis to values; the product of each is taken, and the products are joined
    (the convention of scikit-learn's ParameterGrid). Of the three rates `lr`, `weight_decay` and `intrinsic_lr`
    each mapping gives exactly two; the third follows.

    Args:
        grid: the grid as the config's type reads it.
        defaults: values of axes that the mappings leave out.
        place: where the grid stands in the config, for messages.

    Raises:
        InputError: on a wrong choice of rates, two points with one name, or too many points.
    """
    mappings = list(grid)
    count = sum(prod(map(len, mapping.values())) for mapping in mappings)
    if count > MOST_POINTS:
        raise InputError(f"{place}: expected at most {MOST_POINTS:,} points in an experiment, got {count:,}")
    points: dict[str, Point] = {}
    for index, mapping in enumerate(mappings):
        here = place if len(mappings) == 1 else f"{place}.{index}"
        for combination in product(*mapping.values()):
            point = _point({**defaults, **dict(zip(mapping, combination, strict=True))}, here)
            if point.name in points:
                raise InputError(f"{here}: expected each point once in an experiment, got {point.name!r} twice")
            points[point.name] = point
    return list(points.values())


def _point(values: dict[str, Any], place: str) -> Point:
    given = [rate for rate in RATES if rate in values]
    if len(given) != 2:
        raise InputError(
            f"{place}: expected exactly two of the rates {', '.join(RATES)}, of which the third follows, got "
            f"{', '.join(given) or 'none'}"
        )
    intrinsic = values.pop("intrinsic_lr", None)
    if "lr" not in values:
        if values["weight_decay"] == 0:
            raise InputError(f"{place}.weight_decay: expected a number above 0 where lr follows from it, got 0")
        values["lr"] = intrinsic / values["weight_decay"]
    elif "weight_decay" not in values:
        values["weight_decay"] = intrinsic / values["lr"]
    values = {axis: canonical(value) if isinstance(value, float) else value for axis, value in values.items()}
    # A default that is written out names the same point.
    defaults = OPTIONS.get(values.get("optimiser", "sgd"), {})
    for option in ("beta1", "beta2", "eps"):
        if values.get(option) == defaults.get(option):
            values[option] = None
    point = Point(**values)
    try:
        optimiser_options(point)
        check_sharing(point.init_sharing, point.runs_per_init)
    except InputError as error:
        raise InputError(f"{place}.{error}") from None
    return point
