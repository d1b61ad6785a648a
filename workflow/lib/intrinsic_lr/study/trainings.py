"""The trainings that experiments share: every point is trained once, for all experiments that have it."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from intrinsic_lr.core.errors import InputError, prefixed
from intrinsic_lr.core.paths import MAX_BLOCKS
from intrinsic_lr.core.user_code import UserCode
from intrinsic_lr.data import dataset_sizes
from intrinsic_lr.study.analyses import ANALYSES
from intrinsic_lr.study.compilation import compilation_pays
from intrinsic_lr.study.config_types import show, unknown
from intrinsic_lr.study.experiment import Experiment, PlannedPoint
from intrinsic_lr.study.model_spec import ModelSpec
from intrinsic_lr.study.optimisers import OPTIONS
from intrinsic_lr.study.plan import Recording, TrainingPlan
from intrinsic_lr.study.points import (
    AUGMENTATIONS,
    Point,
    check_precision,
    check_sphere,
    expand,
    is_augmentation,
)
from intrinsic_lr.study.schedules import Clock, Exponential, compile_schedule, expand_seeds, lookup
from intrinsic_lr.study.schema import Config, ExperimentConfig
from intrinsic_lr.study.timeline import Timeline

LONGEST_NAME = 200
"""Characters of a point's name: file systems allow 255, and temporary files have longer names."""
LONGEST_COMMAND = 100_000
"""Characters of a training's plan: Linux allows 128 kiB for the line that a shell is given."""


@dataclass(frozen=True)
class Training:
    """The training of one point, as long and dense as any experiment needs it."""

    point: Point
    timeline: Timeline
    checkpoints: tuple[int, ...]  # steps at which weights are kept, ascending
    log_every: int  # steps between two rows of the history
    trace_every: int  # steps between two rows of the trace
    block_size: int  # replicates trained together
    replicates: int  # needed; trained are whole blocks
    code: Mapping[str, UserCode] = field(default_factory=dict)  # the user's own, by the field of the plan

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
        self._code = {axis: _user_code(axis, config) for axis in _FUNCTIONS}

    def add(self, name: str) -> None:
        """Plan an experiment; raise `InputError` for what its points cannot have."""
        config = self._config.experiments[name]
        defaults = {axis: getattr(config, axis) for axis in ("dataset", "model", "batch_size")}
        place = f"config: experiments.{name}."
        with prefixed(place):
            self._check_known(config)
            self._check_axes(config)
            points = expand([self._with_members(axes) for axes in config.grid], defaults, "grid")
            for point in points:
                self._check_known(point)
                _check_length(point.name)
        # An error of a data set names that.
        for dataset in {point.dataset: None for point in points}:
            self.train_count(dataset)
        with prefixed(place):
            planned = tuple(self._plan(point, config) for point in points)
            _check_each_once(planned)
            self.experiments[name] = Experiment(
                name, planned, config.replicates, config.compare, tuple(config.analyses)
            )
            _check_analyses(self.experiments[name])

    def selected(self) -> dict[str, Experiment]:
        """Return the experiments, each point with the rows that all of them together have of it."""
        found = {}
        for name, experiment in self.experiments.items():
            points = []
            for point in experiment.points:
                training = self.trainings[point.name]
                recorded = Recording(training.timeline.steps, training.log_every, training.trace_every)
                kept = tuple(step for step in training.checkpoints if step <= point.length)
                points.append(replace(point, recorded=recorded, kept=kept))
            found[name] = replace(experiment, points=tuple(points))
        return found

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

    def _plan(self, point: Point, config: ExperimentConfig) -> PlannedPoint:
        """Return what an experiment looks at of a point, and share the training that it needs."""
        spec, count = model_spec(point.model, self._config), self.train_count(point.dataset)
        is_full = point.batch_size == "full"
        if not is_full and point.batch_size > count:
            raise InputError(
                f"batch_size: expected 2 to {count}, the training images of {point.dataset}, or full, got "
                f"{point.batch_size}"
            )
        _check_norms(point, spec, count if is_full else point.batch_size, self._config)
        clock = Clock(point.intrinsic_lr, lambda: 1 if is_full else count // point.batch_size)
        length = _length(point, config, clock)
        if point.compile == "auto":
            point = replace(point, compile="on" if compilation_pays(spec, length) else "off")
        with prefixed(f"grid: schedule {point.schedule!r}: "):
            timeline = self._timeline(point, spec, length, clock)
        with prefixed("grid."):
            check_precision(point.precision, point.dtype)
            if point.constraint == "sphere":
                check_sphere(point.momentum, timeline, point.optimiser)
        checkpoints = _checkpoints(point, config, clock, length)
        every = 1 if config.trace_points == "all" else math.ceil(length / config.trace_points)
        size = config.block_size or self._config.block_size
        rows = math.ceil(length / config.history_points)
        own = {axis: self._code[axis].get(getattr(point, axis)) for axis in _FUNCTIONS}
        code = {f"{axis}_code": found for axis, found in own.items() if found}
        self._share(Training(point, timeline, checkpoints, rows, every, size, config.replicates, code))
        return PlannedPoint(**vars(point), length=length, steps=checkpoints)

    def _check_known(self, given: Point | ExperimentConfig) -> None:
        """Refuse data sets, models and analyses that the config does not have."""
        analyses = [*ANALYSES, *self._config.analyses]
        for name in getattr(given, "analyses", ()):
            if name not in analyses:
                raise InputError(f"analyses: {unknown('analysis', name, analyses)}")
        for kind in ("dataset", "model"):
            name, known = getattr(given, kind), getattr(self._config, f"{kind}s")
            if name not in known:
                raise InputError(f"{kind}: {unknown(kind, name, known)}")

    def _check_axes(self, config: ExperimentConfig) -> None:
        """Refuse optimisers and augmentations that neither the project nor the config has."""
        for axes in config.grid:
            for name in axes.get("optimiser", []):
                if name not in OPTIONS and name not in self._code["optimiser"]:
                    raise InputError(
                        f"grid.optimiser: {unknown('optimiser', name, [*OPTIONS, *self._code['optimiser']])}"
                    )
            for text in axes.get("augmentation", []):
                if not is_augmentation(text) and text not in self._code["augmentation"]:
                    raise InputError(
                        f"grid.augmentation: expected {AUGMENTATIONS}, or a name of augmentations, got "
                        f"{show(text)}"
                    )

    def _timeline(self, point: Point, spec: ModelSpec, steps: int, clock: Clock) -> Timeline:
        """Return the rates of a point for the longest of the experiments so far that have it."""
        schedule = lookup(point.schedule, self._schedules)
        exp_lr = isinstance(schedule, Exponential) and schedule.growth == "exp_lr"
        if exp_lr and (point.nesterov or point.clip):
            raise InputError("growth exp_lr has no equivalent with nesterov or clip; expected neither")
        if exp_lr and (spec.head == "trained" or spec.affine or spec.normalise is False):
            raise InputError(
                "growth exp_lr needs a model with head fixed and affine false, or normalise true, whose weights "
                f"are all scale-invariant, got {point.model!r}"
            )
        earlier = self.trainings.get(point.name)
        lengths = [steps, earlier.timeline.steps] if earlier else [steps]
        rates = point.lr, point.weight_decay, point.momentum
        timelines = [
            compile_schedule(schedule, *rates, length, clock, self._schedules, point.optimiser)
            for length in lengths
        ]
        longest = max(timelines, key=lambda found: found.steps)
        if any(longest.truncated(found.steps) != found for found in timelines):
            raise InputError(
                f"its rates depend on the training's length; expected {lengths[-1]} steps, as in another "
                f"experiment with {point.name}, got {steps}"
            )
        return longest

    def _share(self, training: Training) -> None:
        """Merge what this experiment needs of a point with what others need of it."""
        name = training.point.name
        if len(training.blocks) > MAX_BLOCKS:
            raise InputError(
                f"replicates: expected at most {MAX_BLOCKS} blocks, got {training.replicates} in blocks "
                f"of {training.block_size}; choose a block_size from {-(-training.replicates // MAX_BLOCKS)} on"
            )
        if earlier := self.trainings.get(name):
            if earlier.block_size != training.block_size:
                raise InputError(
                    f"block_size: expected {earlier.block_size}, as in another experiment with {name}, "
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
                f"checkpoints: expected a plan of at most {LONGEST_COMMAND} characters, got {length} for {name} "
                f"with {len(training.checkpoints)} checkpoints and {len(training.timeline.segments)} segments"
            )
        self.trainings[name] = training


_FUNCTIONS = {"optimiser": "update", "augmentation": "augment"}
"""What a file of the user's has to define, by the axis that names it."""


def _user_code(axis: str, config: Config) -> dict[str, UserCode]:
    """Return the user's own optimisers or augmentations by name."""
    found = {}
    for name, given in getattr(config, f"{axis}s").items():
        with prefixed(f"config: {axis}s.{name}."):
            state = tuple(getattr(given, "state", ()))
            found[name] = UserCode.read(given.file, _FUNCTIONS[axis], given.options, state)
    return found


def model_spec(name: str, config: Config) -> ModelSpec:
    """Return the specification of a model of the config, or raise `InputError`."""
    with prefixed(f"config: models.{name}."):
        return ModelSpec.from_config(config.models[name].model_dump(exclude_unset=True))


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
        **training.code,
        point=training.point.name,
        model=model_spec(training.point.model, config),
        timeline=training.timeline,
        checkpoints=training.checkpoints,
        log_every=training.log_every,
        trace_every=training.trace_every,
        replicates=(start, start + training.block_size),
        seed=config.seed,
    )


def _check_norms(point: Point, spec: ModelSpec, batch: int, config: Config) -> None:
    """Refuse a norm over so few numbers that it gives the same for all of them: the network would be constant."""
    if spec.kind == "module":
        return
    # Images are no smaller than those of the digits, unless they are made so.
    side = getattr(config.datasets[point.dataset], "image_size", None) or 8
    numbers = spec.smallest_norm(batch, side)
    if numbers < 3:
        raise InputError(
            f"model: expected norms over 3 numbers or more, got {numbers} in {spec.norm} norm of {point.model!r} "
            f"with batches of {batch}; a network of such norms is constant"
        )


def _check_each_once(points: Sequence[PlannedPoint]) -> None:
    """Refuse a point that is there twice, once with `compile: auto`."""
    for name, times in Counter(point.name for point in points).items():
        if times > 1:
            raise InputError(f"grid.compile: expected each point once, got {name} also as what auto stands for")


def _check_length(name: str) -> None:
    if len(name) > LONGEST_NAME:
        raise InputError(
            f"grid: expected names of at most {LONGEST_NAME} characters, got {name!r} of {len(name)}; shorten "
            "the names of the data set, the model or the schedule"
        )


def _length(point: Point, config: ExperimentConfig, clock: Clock) -> int:
    with prefixed("length: "):
        (steps,) = clock.read(config.length)
    if steps < 1:
        raise InputError(f"length: expected at least 1 step, got {config.length}, 0 steps for {point.name}")
    return steps


def _checkpoints(point: Point, config: ExperimentConfig, clock: Clock, steps: int) -> tuple[int, ...]:
    with prefixed("checkpoints: "):
        planned = clock.read(config.checkpoints)
    if max(planned) > steps:
        raise InputError(f"checkpoints: expected steps 0 to {steps}, the end of {point.name}, got {max(planned)}")
    if planned != sorted(set(planned)):
        raise InputError(f"checkpoints: expected ascending steps, each once, got {planned} for {point.name}")
    return tuple(planned)


def _check_analyses(experiment: Experiment) -> None:
    """Refuse analyses that the experiment's design cannot feed."""
    points, replicates = len(experiment.points), experiment.replicates
    checkpoints = min(len(point.steps) for point in experiment.points)
    for analysis in experiment.analyses:
        if analysis in ("swa", "distance") and checkpoints < 3:
            raise InputError(f"analyses: {analysis} needs at least 3 checkpoints, got {checkpoints} checkpoints")
    if "disagreement" in experiment.analyses and (replicates < 2 or points < 2):
        raise InputError(
            "analyses: disagreement needs at least 2 replicates of 2 points, got "
            f"{replicates} replicates of {points} points"
        )
