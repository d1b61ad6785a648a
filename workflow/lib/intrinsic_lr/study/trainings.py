"""The trainings that experiments share: every point is trained once, for all experiments that have it."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.paths import MAX_BLOCKS
from intrinsic_lr.data import dataset_sizes
from intrinsic_lr.study.config_types import unknown
from intrinsic_lr.study.experiment import Experiment, PlannedPoint
from intrinsic_lr.study.model_spec import ModelSpec
from intrinsic_lr.study.plan import TrainingPlan
from intrinsic_lr.study.points import Point, check_precision, check_sphere, expand
from intrinsic_lr.study.schedules import (
    Clock,
    Exponential,
    Schedule,
    compile_schedule,
    expand_seeds,
    lookup,
)
from intrinsic_lr.study.schema import Config, ExperimentConfig
from intrinsic_lr.study.timeline import Timeline

LONGEST_NAME = 200
"""Characters of a point's name: file systems allow 255, and temporary files have longer names."""
LONGEST_COMMAND = 100_000
"""Characters of a training's plan: Linux allows 128 kiB for the line that a shell is given."""

T = TypeVar("T")


@dataclass(frozen=True)
class Training:
    """The training of one point, as long and dense as any experiment needs it.

    Attributes:
        point: the setting.
        timeline: learning rate and weight decay of every step.
        checkpoints: steps at which weights are kept, ascending.
        log_every: steps between two rows of the history.
        trace_every: steps between two rows of the trace.
        block_size: replicates trained together.
        replicates: replicates needed; trained are whole blocks.
    """

    point: Point
    timeline: Timeline
    checkpoints: tuple[int, ...]
    log_every: int
    trace_every: int
    block_size: int
    replicates: int

    @property
    def blocks(self) -> range:
        """Indices of the blocks that hold the replicates."""
        return range(math.ceil(self.replicates / self.block_size))


class Planner:
    """Plans the experiments of a config, one after the other.

    Attributes:
        experiments: those planned so far, by name.
        trainings: the trainings that they share, by the point's name.
    """

    def __init__(self, config: Config) -> None:
        self.experiments: dict[str, Experiment] = {}
        self.trainings: dict[str, Training] = {}
        self._config = config
        self._families = expand_seeds(config.schedules)
        single = {name: one for name, one in config.schedules.items() if name not in self._families}
        self._schedules = single | {k: v for members in self._families.values() for k, v in members.items()}
        self._counts: dict[str, int] = {}

    def add(self, name: str) -> None:
        """Plan an experiment; raise `InputError` for what its points cannot have."""
        place, config = f"config: experiments.{name}", self._config.experiments[name]
        defaults = {axis: getattr(config, axis) for axis in ("dataset", "model", "batch_size")}
        points = expand([self._with_members(axes) for axes in config.grid], defaults, f"{place}.grid")
        planned = []
        for point in points:
            self._check_names(point, place)
            clock = Clock(point.intrinsic_lr, lambda point=point: self._steps_per_epoch(point))
            length = _length(point, config, clock, place)
            training = self._training(point, config, clock, length, place)
            planned.append(PlannedPoint(**vars(point), length=length, steps=training.checkpoints))
            self._share(training, place)
        self.experiments[name] = Experiment(
            name, tuple(planned), config.replicates, config.compare, tuple(config.analyses)
        )
        _check_analyses(self.experiments[name], place)

    def _with_members(self, axes: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """Return axes with the names of schedules with seeds replaced by those that they stand for."""
        names = [self._families.get(name, [name]) for name in axes.get("schedule", [])]
        return {**axes, "schedule": [member for members in names for member in members]} if names else axes

    def train_count(self, dataset: str) -> int:
        """Return the number of training images of a data set."""
        if dataset not in self._counts:
            spec = self._config.datasets[dataset].model_dump(exclude_unset=True)
            self._counts[dataset] = dataset_sizes.train_count(spec, f"config: datasets.{dataset}")
        return self._counts[dataset]

    def _steps_per_epoch(self, point: Point) -> int:
        return 1 if point.batch_size == "full" else self.train_count(point.dataset) // int(point.batch_size)

    def _check_names(self, point: Point, place: str) -> None:
        for kind in ("dataset", "model"):
            name, known = getattr(point, kind), getattr(self._config, f"{kind}s")
            if name not in known:
                raise InputError(f"{place}.{kind}: {unknown(kind, name, known)}")
        if len(point.name) > LONGEST_NAME:
            raise InputError(
                f"{place}.grid: expected names of at most {LONGEST_NAME} characters, got {point.name!r} of "
                f"{len(point.name)}; shorten the names of the data set, the model or the schedule"
            )

    def _training(self, point: Point, config: ExperimentConfig, clock: Clock, steps: int, place: str) -> Training:
        # A schedule may depend on the length, so that of a shared point is compiled for the longest.
        earlier = self.trainings.get(point.name)
        lengths = [steps, earlier.timeline.steps] if earlier else [steps]
        at = f"{place}: schedule {point.schedule!r}"
        schedule = _at(at, lambda: lookup(point.schedule, self._schedules))
        timelines = [_at(at, lambda n=n: self._compiled(point, schedule, n, clock)) for n in lengths]
        timeline = max(timelines, key=lambda found: found.steps)
        if any(timeline.truncated(found.steps) != found for found in timelines):
            raise InputError(
                f"{at}: its rates depend on the training's length; expected {lengths[-1]} steps, as in another "
                f"experiment with {point.name}, got {steps}"
            )
        count = self.train_count(point.dataset)
        if point.batch_size != "full" and int(point.batch_size) > count:
            raise InputError(
                f"{place}.batch_size: expected 2 to {count}, the training images of {point.dataset}, or full, got "
                f"{point.batch_size}"
            )
        self._check_equivalent(point, schedule, at)
        try:
            check_precision(point.precision, point.dtype)
            if point.constraint == "sphere":
                check_sphere(point.momentum, timeline)
        except InputError as error:
            raise InputError(f"{place}.grid.{error}") from None
        return Training(
            point,
            timeline,
            _checkpoints(point, config, clock, steps, place),
            math.ceil(steps / config.history_points),
            1 if config.trace_points == "all" else math.ceil(steps / config.trace_points),
            config.block_size or self._config.block_size,
            config.replicates,
        )

    def _compiled(self, point: Point, schedule: Schedule, steps: int, clock: Clock) -> Timeline:
        rates = point.lr, point.weight_decay, point.momentum
        return compile_schedule(schedule, *rates, steps, clock, self._schedules)

    def _check_equivalent(self, point: Point, schedule: Schedule, place: str) -> None:
        """Refuse the ExpLR-equivalent schedule for weights that are not scale-invariant."""
        spec = model_spec(point.model, self._config)
        exp_lr = isinstance(schedule, Exponential) and schedule.growth == "exp_lr"
        if exp_lr and (spec.head == "trained" or spec.affine):
            raise InputError(
                f"{place}: growth exp_lr needs a model with head fixed and affine false, whose weights are "
                f"all scale-invariant, got {point.model!r}"
            )

    def _share(self, training: Training, place: str) -> None:
        """Merge what this experiment needs of a point with what others need of it."""
        name = training.point.name
        if len(training.blocks) > MAX_BLOCKS:
            raise InputError(
                f"{place}.replicates: expected at most {MAX_BLOCKS} blocks, got {training.replicates} in blocks "
                f"of {training.block_size}; choose a block_size from {-(-training.replicates // MAX_BLOCKS)} on"
            )
        if earlier := self.trainings.get(name):
            if earlier.block_size != training.block_size:
                raise InputError(
                    f"{place}.block_size: expected {earlier.block_size}, as in another experiment with {name}, "
                    f"got {training.block_size}"
                )
            training = replace(
                training,
                checkpoints=tuple(sorted({*earlier.checkpoints, *training.checkpoints})),
                log_every=min(earlier.log_every, training.log_every),
                trace_every=min(earlier.trace_every, training.trace_every),
                replicates=max(earlier.replicates, training.replicates),
            )
        length = len(training_plan(training, 0, self._config).to_json())
        if length > LONGEST_COMMAND:
            raise InputError(
                f"{place}: expected a plan of at most {LONGEST_COMMAND} characters, got {length} for {name} with "
                f"{len(training.checkpoints)} checkpoints and {len(training.timeline.segments)} segments"
            )
        self.trainings[name] = training


def model_spec(name: str, config: Config) -> ModelSpec:
    """Return the specification of a model of the config, or raise `InputError`."""
    try:
        return ModelSpec.from_config(config.models[name].model_dump(exclude_unset=True))
    except InputError as error:
        raise InputError(f"config: models.{name}.{error}") from None


def training_plan(training: Training, block: int, config: Config) -> TrainingPlan:
    """Return what is trained as one block of a point.

    The data set stands in it by the point's name only: the workflow follows the checksum of its content.
    """
    axes = asdict(training.point)
    for name in ("dataset", "lr", "weight_decay", "schedule", "model"):
        del axes[name]
    start = block * training.block_size
    return TrainingPlan(
        **axes,
        point=training.point.name,
        model=model_spec(training.point.model, config),
        timeline=training.timeline,
        checkpoints=training.checkpoints,
        log_every=training.log_every,
        trace_every=training.trace_every,
        replicates=(start, start + training.block_size),
        seed=config.seed,
    )


def _at(place: str, compute: Callable[[], T]) -> T:
    """Return what a function returns, its errors with the place before them."""
    try:
        return compute()
    except InputError as error:
        raise InputError(f"{place}: {error}") from None


def _length(point: Point, config: ExperimentConfig, clock: Clock, place: str) -> int:
    (steps,) = _at(f"{place}.length", lambda: clock.read(config.length))
    if steps < 1:
        raise InputError(
            f"{place}.length: expected at least 1 step, got {config.length}, 0 steps for {point.name}"
        )
    return steps


def _checkpoints(point: Point, config: ExperimentConfig, clock: Clock, steps: int, place: str) -> tuple[int, ...]:
    planned = tuple(_at(f"{place}.checkpoints", lambda: clock.read(config.checkpoints)))
    if max(planned) > steps:
        raise InputError(
            f"{place}.checkpoints: expected steps 0 to {steps}, the end of {point.name}, got {max(planned)}"
        )
    if list(planned) != sorted(set(planned)):
        raise InputError(
            f"{place}.checkpoints: expected ascending steps, each once, got {list(planned)} for {point.name}"
        )
    return planned


def _check_analyses(experiment: Experiment, place: str) -> None:
    """Refuse analyses that the experiment's design cannot feed."""
    planned = min(len(point.steps) for point in experiment.points)
    for analysis in experiment.analyses:
        if analysis in ("swa", "distance") and planned < 3:
            raise InputError(
                f"{place}.analyses: {analysis} needs at least 3 checkpoints, got {planned} checkpoints"
            )
    if "disagreement" in experiment.analyses and (experiment.replicates < 2 or len(experiment.points) < 2):
        raise InputError(
            f"{place}.analyses: disagreement needs at least 2 replicates of 2 points, got {experiment.replicates} "
            f"replicates of {len(experiment.points)} points"
        )
