"""Points of the grid: what identifies one training ensemble, and its canonical name."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.study.schedules import Timeline, number

MOST_POINTS = 10_000
RATES = ("lr", "weight_decay", "intrinsic_lr")


@dataclass(frozen=True)
class Point:
    """One setting of the grid; its replicates differ in their seeds only.

    Attributes:
        dataset, model, schedule: names of entries of the config.
        batch_size: images a step, or `full` for full-batch gradient descent.
        lr: base learning rate eta (the schedule's factors apply to it).
        weight_decay: base weight decay lambda.
        momentum: momentum mu of `torch.optim.SGD`.
        init_seed: which initialisation.
        init_sharing: `independent` (every replicate its own) or `shared` (all start at the same weights).
        init_scale: factor on the scale-invariant weights at initialisation.
        augmentation: `none`, or pad-crop and flip as `crop=4,flip`.
        dtype: `float32` or `float64`.
        data_order: number of a stream of data order and augmentation that points share; None for the point's own.
        constraint: `none`, or `sphere`: every scale group keeps the norm it had at initialisation.
        precision: of the products and convolutions of a training step, `float32`, `tf32` or `bfloat16`.
    """

    dataset: str
    model: str
    batch_size: int | str
    lr: float
    weight_decay: float
    schedule: str = "constant"
    momentum: float = 0.0
    init_seed: int = 0
    init_sharing: str = "independent"
    init_scale: float = 1.0
    augmentation: str = "none"
    dtype: str = "float32"
    data_order: int | None = None
    constraint: str = "none"
    precision: str = "float32"

    @property
    def intrinsic_lr(self) -> float:
        """Intrinsic learning rate lambda_e = eta * lambda, per step."""
        return canonical(self.lr * self.weight_decay)

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
        optional = (
            (self.schedule != "constant", f"schedule_{self.schedule}"),
            (self.momentum != 0, f"momentum{number(self.momentum)}"),
            (self.init_seed != 0, f"init{self.init_seed}"),
            (self.init_sharing != "independent", self.init_sharing),
            (self.init_scale != 1, f"scale{number(self.init_scale)}"),
            (self.augmentation != "none", self.augmentation.replace(",", "_")),
            (self.dtype != "float32", self.dtype),
            (self.data_order is not None, f"order{self.data_order}"),
            (self.constraint != "none", self.constraint),
            (self.precision != "float32", self.precision),
        )
        return "-".join(parts + [text for differs, text in optional if differs])


def check_sphere(momentum: float, timeline: Timeline) -> None:
    """Refuse what a training on the sphere cannot have.

    Without weight decay and momentum the update of a scale-invariant weight is tangent to its sphere, so that
    the projection back only undoes the growth of the norm (Kodryan et al. 2022).

    Raises:
        InputError: naming the key, the value found and what is allowed.
    """
    decays = {segment.weight_decay for segment in timeline.segments}
    for key, value in (("momentum", momentum), ("weight_decay", max(decays))):
        if value != 0:
            raise InputError(f"{key}: found {number(value)} with constraint sphere; allowed there is 0")


def check_precision(precision: str, dtype: str) -> None:
    """Refuse a reduced precision of products for weights in float64.

    Raises:
        InputError: naming the key, the value found and what is allowed.
    """
    if precision != "float32" and dtype != "float32":
        raise InputError(f"precision: found {precision} with dtype {dtype}; allowed there is float32")


def canonical(value: float) -> float:
    """Round to the 12 significant digits that names carry, so that name and value agree."""
    return float(number(value))


def expand(
    grid: Mapping[str, Any] | list[Mapping[str, Any]], defaults: Mapping[str, Any], place: str
) -> list[Point]:
    """Return the points of a grid in the order given.

    A grid is a mapping from axis to value or list of values, whose product is taken, or a list of such
    mappings, whose products are joined (the convention of scikit-learn's ParameterGrid). Of the three rates
    `lr`, `weight_decay` and `intrinsic_lr` each mapping gives exactly two; the third follows.

    Args:
        grid: the grid as the config has it.
        defaults: values of axes that the mappings leave out.
        place: where the grid stands in the config, for messages.

    Raises:
        InputError: on an empty axis, a wrong choice of rates, or two points with one name.
    """
    mappings = [grid] if isinstance(grid, Mapping) else list(grid)
    count = sum(
        prod(len(values) for values in mapping.values() if isinstance(values, list)) for mapping in mappings
    )
    if count > MOST_POINTS:
        raise InputError(f"{place}: found {count:,} points; allowed are up to {MOST_POINTS:,} in an experiment")
    if not mappings:
        raise InputError(f"{place}: found an empty list; allowed is at least one mapping from axis to values")
    points: list[Point] = []
    names: dict[str, str] = {}
    for index, mapping in enumerate(mappings):
        here = place if isinstance(grid, Mapping) else f"{place}[{index}]"
        for values in _product(mapping, here):
            point = _point({**defaults, **values}, here)
            if point.name in names:
                raise InputError(
                    f"{here}: found two points with one name, {point.name!r} (first in {names[point.name]}); "
                    "allowed is each point once in an experiment"
                )
            names[point.name] = here
            points.append(point)
    return points


def _product(mapping: Mapping[str, Any], place: str) -> list[dict[str, Any]]:
    axes = {axis: value if isinstance(value, list) else [value] for axis, value in mapping.items()}
    for axis, values in axes.items():
        if not values:
            raise InputError(f"{place}.{axis}: found an empty list; allowed is at least one value")
    return [dict(zip(axes, combination, strict=True)) for combination in product(*axes.values())]


def _point(values: dict[str, Any], place: str) -> Point:
    given = [rate for rate in RATES if rate in values]
    if len(given) != 2:
        raise InputError(
            f"{place}: found {', '.join(given) or 'none'} of the rates {', '.join(RATES)}; "
            "allowed are exactly two of them, the third follows"
        )
    intrinsic = values.pop("intrinsic_lr", None)
    if "lr" not in values:
        if values["weight_decay"] == 0:
            raise InputError(
                f"{place}.weight_decay: found 0; allowed is a number above 0 where lr follows from it"
            )
        values["lr"] = intrinsic / values["weight_decay"]
    elif "weight_decay" not in values:
        values["weight_decay"] = intrinsic / values["lr"]
    for axis in ("lr", "weight_decay", "momentum", "init_scale"):
        if axis in values:
            values[axis] = canonical(values[axis])
    return Point(**values)
