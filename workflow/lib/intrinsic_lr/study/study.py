"""From the configuration to the study: validated experiments, and the trainings that they share.

Parsed by every job of the workflow, so nothing here imports torch, pandas or numpy.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator, validators
from jsonschema.exceptions import ValidationError

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.kinds import check_options
from intrinsic_lr.core.paths import MAX_BLOCKS
from intrinsic_lr.data import dataset_sizes
from intrinsic_lr.study.analyses import product_names
from intrinsic_lr.study.claims import CLAIMS
from intrinsic_lr.study.config_files import check_plain
from intrinsic_lr.study.experiment import Experiment, PlannedPoint
from intrinsic_lr.study.model_spec import ModelSpec
from intrinsic_lr.study.plan import TrainingPlan
from intrinsic_lr.study.points import Point, check_precision, check_sphere, expand
from intrinsic_lr.study.schedules import OPTIONS, Clock, Timeline, compile_schedule, lookup

SCHEMA = Path(__file__).parents[3] / "schemas" / "config.schema.yaml"
HISTORY_POINTS = 40
TRACE_POINTS = 200
FIGURE_FORMATS = ("svg", "pdf", "png")
FIGURE_WIDTHS = {"column": 3.25, "page": 6.75}
"""Inches: one of two columns of a paper's page, and the whole of it."""
LONGEST_NAME = 200
"""Characters of a point's name: file systems allow 255, and files in the making have longer names."""
LONGEST_COMMAND = 100_000
"""Characters of a training's plan: Linux allows 128 kiB for the line that a shell is given."""


@dataclass(frozen=True)
class Training:
    """The training of one point, long and dense enough for every experiment that wants it.

    Attributes:
        point: the setting.
        timeline: learning rate and weight decay of every step.
        checkpoints: steps at which weights are kept, ascending.
        log_every: steps between two rows of the history.
        trace_every: steps between two rows of the trace.
        block_size: replicates trained together.
        replicates: replicates wanted; trained are whole blocks.
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


@dataclass
class Study:
    """The validated configuration.

    Raises:
        InputError: from the constructor `read`, for the first mistake found in the config.
    """

    config: Mapping[str, Any]
    experiments: dict[str, Experiment] = field(default_factory=dict)
    trainings: dict[str, Training] = field(default_factory=dict)
    _counts: dict[str, int | None] = field(default_factory=dict, repr=False)

    @staticmethod
    def read(config: Mapping[str, Any]) -> "Study":
        """Validate a configuration and lay out its trainings."""
        validate(config)
        study = Study(config)
        for name in config["models"]:
            study._check_model(name)
        for name, definition in config["schedules"].items():
            check_options(definition, OPTIONS, f"config: schedules.{name}")
        for name in study.selected:
            study._add(name, config["experiments"][name])
        for name in config["claims"]:
            study._check_claim(name)
        study._check_judge()
        for name in study.datasets:
            study._train_count(name)
        # Refuses names of experiments that would give two tables or figures one name.
        _ = study.tables, study.figures
        return study

    @property
    def selected(self) -> list[str]:
        """Names of the experiments to run, in the config's order."""
        known = list(self.config["experiments"])
        if self.config["run"] == "all":
            return known
        for name in self.config["run"]:
            if name not in known:
                raise InputError(
                    f"config: run: found the unknown experiment {name!r}; allowed: {', '.join(known)}"
                )
        return [name for name in known if name in self.config["run"]]

    def with_analysis(self, analysis: str) -> list[str]:
        """Names of the selected experiments that want an analysis."""
        return [name for name, experiment in self.experiments.items() if analysis in experiment.analyses]

    @cached_property
    def tables(self) -> dict[str, tuple[str, str]]:
        """Analysis and experiment of every table of an analysis, by its name."""
        return product_names(self.experiments.values(), "tables")

    @cached_property
    def figures(self) -> dict[str, tuple[str, str]]:
        """Analysis and experiment of every figure of an analysis, by its name."""
        return product_names(self.experiments.values(), "figures")

    @cached_property
    def claims(self) -> list[str]:
        """Names of the claims to judge, in the catalogue's order: those of `judge` whose experiments are run."""
        judge = self.config["claims"] if self.config["judge"] == "all" else self.config["judge"]
        return [name for name in CLAIMS if name in judge and not self._missing_experiments(name)]

    def claim_experiments(self, claim: str) -> list[str]:
        """Names of the experiments behind a claim, each once."""
        return list(dict.fromkeys(self.config["claims"][claim].get("experiments", {}).values()))

    def claim_tables(self, claim: str) -> list[str]:
        """Names of the tables of analyses that a claim's test reads."""
        roles = self.config["claims"][claim].get("experiments", {})
        return [f"{table}_{roles[role]}" for role, tables in CLAIMS[claim].tables.items() for table in tables]

    def claim_datasets(self, claim: str) -> list[str]:
        """Names of the data sets that a claim's test reads."""
        if not CLAIMS[claim].reads_data:
            return []
        named = self.config["claims"][claim].get("settings", {}).get("dataset")
        of_points = {
            point.dataset for name in self.claim_experiments(claim) for point in self.experiments[name].points
        }
        return sorted(of_points | ({named} if named else set()))

    def describe_claim(self, claim: str) -> str:
        """Canonical JSON of a claim's question: all that its test takes from the config but the data."""
        configured, stated = self.config["claims"][claim], CLAIMS[claim]
        settings = dict(configured.get("settings", {}))
        for key in ("model", "models"):
            if key in settings:
                names = settings[key] if isinstance(settings[key], list) else [settings[key]]
                texts = [self.model_text(name) for name in names]
                settings[key] = texts if isinstance(settings[key], list) else texts[0]
        return json.dumps(
            {
                "name": claim,
                "statement": stated.statement,
                "source": stated.source,
                "experiments": {
                    role: self.describe(name) for role, name in configured.get("experiments", {}).items()
                },
                "thresholds": {
                    name: threshold["value"] for name, threshold in configured.get("thresholds", {}).items()
                },
                "settings": settings,
            },
            sort_keys=True,
        )

    @property
    def formats(self) -> list[str]:
        """Formats of every figure, in one order; SVG is among them: the report shows it, tables name it."""
        return [name for name in FIGURE_FORMATS if name == "svg" or name in self.config["figures"]["formats"]]

    @property
    def look(self) -> str:
        """Canonical JSON of the width, in inches, and the font of every figure."""
        figures = self.config["figures"]
        width = FIGURE_WIDTHS.get(figures["width"], figures["width"])
        font = figures["font"]
        spelt = {"width": float(width), "family": font["family"], "size": float(font["size"])}
        return json.dumps(spelt, sort_keys=True)

    @cached_property
    def datasets(self) -> list[str]:
        """Names of the data sets in use."""
        of_trainings = {training.point.dataset for training in self.trainings.values()}
        return sorted(of_trainings.union(*map(self.claim_datasets, self.claims)))

    def dataset_spec(self, name: str) -> str:
        """Canonical JSON of a data set's definition, which the command that prepares it takes.

        Its note is left out: it says nothing of the bytes, so a reworded one remakes nothing.
        """
        spec = self.config["datasets"][name]
        return json.dumps({key: value for key, value in spec.items() if key != "note"}, sort_keys=True)

    def dataset_note(self, name: str) -> str:
        """What the config says in words of where a data set comes from; empty if nothing."""
        return self.config["datasets"][name].get("note", "")

    def model_text(self, name: str) -> str:
        """Canonical text of a model's definition."""
        return ModelSpec.from_config(self.config["models"][name]).spell()

    def training_plan(self, point: str, block: int) -> TrainingPlan:
        """Return what is trained as one block of a point.

        The data set stands in it by the point's name only: the workflow follows the checksum of its content.
        """
        training = self.trainings[point]
        start = block * training.block_size
        return self._plan(training, (start, start + training.block_size))

    def _plan(self, training: Training, replicates: tuple[int, int]) -> TrainingPlan:
        axes = asdict(training.point)
        for name in ("dataset", "lr", "weight_decay", "schedule", "model"):
            del axes[name]
        return TrainingPlan(
            **axes,
            point=training.point.name,
            model=ModelSpec.from_config(self.config["models"][training.point.model]),
            timeline=training.timeline,
            checkpoints=training.checkpoints,
            log_every=training.log_every,
            trace_every=training.trace_every,
            replicates=replicates,
            seed=self.config["seed"],
        )

    def describe(self, experiment: str) -> str:
        """Canonical JSON of what an analysis needs to know of an experiment."""
        return self.experiments[experiment].to_json()

    def _missing_experiments(self, claim: str) -> list[str]:
        return [name for name in self.claim_experiments(claim) if name not in self.experiments]

    def _check_judge(self) -> None:
        """Refuse claims asked for by name that are not configured, or whose experiments are not run."""
        configured = self.config["claims"]
        for name in [] if self.config["judge"] == "all" else self.config["judge"]:
            if name not in configured:
                raise InputError(
                    f"config: judge: found the claim {name!r}; allowed: {', '.join(configured) or 'none'}"
                )
            if missing := self._missing_experiments(name):
                raise InputError(
                    f"config: judge: found the claim {name!r}, whose experiment {missing[0]!r} is not run; "
                    f"allowed are claims of the experiments {', '.join(self.experiments)}"
                )

    def _check_claim(self, claim: str) -> None:
        """Refuse a claim that nobody states, or one that is not given exactly what its test takes."""
        place = f"config: claims.{claim}"
        if claim not in CLAIMS:
            raise InputError(f"{place}: found an unknown claim; allowed: {', '.join(CLAIMS)}")
        stated = CLAIMS[claim]
        meanings = {key: setting.meaning for key, setting in stated.settings.items()}
        parts = {"experiments": stated.experiments, "thresholds": stated.thresholds, "settings": meanings}
        for part, wanted in parts.items():
            given = self.config["claims"][claim].get(part, {})
            for key in given:
                if key not in wanted:
                    raise InputError(
                        f"{place}.{part}: found the unknown key {key!r}; allowed: {', '.join(wanted) or 'none'}"
                    )
            for key, meaning in wanted.items():
                if key not in given:
                    raise InputError(f"{place}.{part}: the key {key!r} is missing ({meaning})")
        for role, name in self.config["claims"][claim].get("experiments", {}).items():
            if name not in self.config["experiments"]:
                known = ", ".join(self.config["experiments"])
                raise InputError(
                    f"{place}.experiments.{role}: found the unknown experiment {name!r}; allowed: {known}"
                )
            for table in CLAIMS[claim].tables.get(role, ()):
                # A table is called as its analysis, or begins with its name: distance, distance_across.
                analysis = table.split("_")[0]
                if analysis not in self.config["experiments"][name]["analyses"]:
                    raise InputError(
                        f"{place}.experiments.{role}: found {name!r}, which lacks the analysis {analysis!r}; "
                        "allowed are experiments that have it"
                    )
        self._check_settings(claim)

    def _check_settings(self, claim: str) -> None:
        """Refuse a claim's settings of another kind, and data sets and models that the config does not have."""
        settings = self.config["claims"][claim].get("settings", {})
        for key, setting in CLAIMS[claim].settings.items():
            of_kind = {"$ref": f"#/$defs/{setting.kind}", "$defs": _schema()["$defs"]}
            _check(settings[key], of_kind, ("claims", claim, "settings", key))
            self._check_beside(claim, key)
        for key, kind in (("dataset", "datasets"), ("model", "models"), ("models", "models")):
            named = settings.get(key, [])
            for name in named if isinstance(named, list) else [named]:
                if name not in self.config[kind]:
                    known = ", ".join(self.config[kind])
                    raise InputError(f"config: claims.{claim}.settings.{key}: found {name!r}; allowed: {known}")

    def _check_beside(self, claim: str, key: str) -> None:
        """Refuse a setting that does not go with the one that it belongs to."""
        setting, settings = CLAIMS[claim].settings[key], self.config["claims"][claim]["settings"]
        place, found = f"config: claims.{claim}.settings.{key}", settings[key]
        if setting.of_each and len(found) != len(settings[setting.of_each]):
            wanted = len(settings[setting.of_each])
            raise InputError(f"{place}: found {len(found)}; allowed: {wanted}, one for each of {setting.of_each}")
        if setting.among and found not in settings[setting.among]:
            known = ", ".join(map(str, settings[setting.among]))
            raise InputError(f"{place}: found {found}; allowed: one of {setting.among}, {known}")

    def _add(self, name: str, settings: Mapping[str, Any]) -> None:
        place = f"config: experiments.{name}"
        defaults = {axis: settings[axis] for axis in ("dataset", "model", "batch_size")}
        points = expand(settings["grid"], defaults, f"{place}.grid")
        planned = []
        for point in points:
            self._check_names(point, place)
            length = self._length(point, settings, place)
            training = self._training(point, settings, length, place)
            planned.append(PlannedPoint(**vars(point), length=length, steps=training.checkpoints))
            self._share(training, place)
        self.experiments[name] = Experiment(
            name,
            tuple(planned),
            settings["replicates"],
            settings.get("compare", "all"),
            tuple(settings["analyses"]),
        )
        _check_analyses(self.experiments[name], place)

    def _check_names(self, point: Point, place: str) -> None:
        for kind in ("dataset", "model"):
            known = self.config[f"{kind}s"]
            found = getattr(point, kind)
            if found not in known:
                raise InputError(
                    f"{place}.{kind}: found the unknown {kind} {found!r}; allowed: {', '.join(known)}"
                )
        if len(point.name) > LONGEST_NAME:
            raise InputError(
                f"{place}.grid: found the name {point.name!r} of {len(point.name)} characters; allowed are "
                f"up to {LONGEST_NAME}: shorten the names of the data set, the model or the schedule"
            )

    def _check_model(self, name: str) -> None:
        try:
            ModelSpec.from_config(self.config["models"][name])
        except InputError as error:
            raise InputError(f"config: models.{name}: {error}") from None

    def _clock(self, point: Point) -> Clock:
        return Clock(point.intrinsic_lr, lambda: self._steps_per_epoch(point))

    def _length(self, point: Point, settings: Mapping[str, Any], place: str) -> int:
        (steps,) = self._moments(self._clock(point), settings["length"], f"{place}.length")
        if steps < 1:
            raise InputError(
                f"{place}.length: found {dict(settings['length'])}, which is {steps} steps for {point.name}; "
                "allowed is at least 1 step"
            )
        return steps

    def _training(self, point: Point, settings: Mapping[str, Any], steps: int, place: str) -> Training:
        clock = self._clock(point)
        planned = tuple(self._moments(clock, settings["checkpoints"], f"{place}.checkpoints"))
        if max(planned) > steps:
            raise InputError(
                f"{place}.checkpoints: found a checkpoint at step {max(planned)}, past the end of "
                f"{point.name}; allowed are steps 0 to {steps}"
            )
        if len(set(planned)) < len(planned) or list(planned) != sorted(planned):
            raise InputError(
                f"{place}.checkpoints: found the steps {list(planned)} for {point.name}; "
                "allowed are different steps in ascending order"
            )
        try:
            definition = lookup(point.schedule, self.config["schedules"])
            timeline = compile_schedule(
                definition,
                point.lr,
                point.weight_decay,
                point.momentum,
                self._merged_steps(point, steps),
                clock,
            )
        except InputError as error:
            raise InputError(f"{place}: schedule {point.schedule!r}: {error}") from None
        self._check_batch(point, place)
        self._check_twin(point, definition, place)
        try:
            check_precision(point.precision, point.dtype)
            if point.constraint == "sphere":
                check_sphere(point.momentum, timeline)
        except InputError as error:
            raise InputError(f"{place}.grid.{error}") from None
        points = settings.get("trace_points", TRACE_POINTS)
        return Training(
            point,
            timeline,
            planned,
            math.ceil(steps / settings.get("history_points", HISTORY_POINTS)),
            1 if points == "all" else math.ceil(steps / points),
            settings.get("block_size", self.config["block_size"]),
            settings["replicates"],
        )

    def _check_twin(self, point: Point, definition: Mapping[str, Any], place: str) -> None:
        """Refuse the exponential twin of weights that are not scale-invariant, where it is no twin."""
        spec = ModelSpec.from_config(self.config["models"][point.model])
        if definition.get("growth") == "exp_lr" and (spec.head == "trained" or spec.affine):
            raise InputError(
                f"{place}: schedule {point.schedule!r}: found growth exp_lr for the model {point.model!r} with "
                "trained weights that are not scale-invariant; allowed are models with head fixed and affine false"
            )

    def _merged_steps(self, point: Point, steps: int) -> int:
        earlier = self.trainings.get(point.name)
        return max(steps, earlier.timeline.steps) if earlier else steps

    def _moments(self, clock: Clock, moments: Mapping[str, Any], place: str) -> list[int]:
        try:
            return clock.read(moments)
        except InputError as error:
            raise InputError(f"{place}: {error}") from None

    def _train_count(self, dataset: str) -> int:
        if dataset not in self._counts:
            spec = self.config["datasets"][dataset]
            self._counts[dataset] = dataset_sizes.train_count(spec, f"config: datasets.{dataset}")
        return self._counts[dataset]

    def _steps_per_epoch(self, point: Point) -> int:
        if point.batch_size == "full":
            return 1
        return self._train_count(point.dataset) // int(point.batch_size)

    def _check_batch(self, point: Point, place: str) -> None:
        count = self._train_count(point.dataset)
        if point.batch_size != "full" and int(point.batch_size) > count:
            raise InputError(
                f"{place}.batch_size: found {point.batch_size}; allowed are 2 to {count}, the training "
                f"images of {point.dataset}, or full"
            )

    def _share(self, training: Training, place: str) -> None:
        """Merge what this experiment wants of a point with what others want of it."""
        name = training.point.name
        if len(training.blocks) > MAX_BLOCKS:
            raise InputError(
                f"{place}.replicates: found {training.replicates} in blocks of {training.block_size}; allowed are "
                f"{MAX_BLOCKS} blocks of a point, so a block_size from "
                f"{math.ceil(training.replicates / MAX_BLOCKS)} on"
            )
        earlier = self.trainings.get(name)
        if earlier is None:
            self._check_size(training, place)
            self.trainings[name] = training
            return
        if earlier.block_size != training.block_size:
            raise InputError(
                f"{place}.block_size: found {training.block_size}, but another experiment trains {name} in "
                f"blocks of {earlier.block_size}; allowed is one block size for a shared point"
            )
        merged = Training(
            training.point,
            training.timeline,
            tuple(sorted({*earlier.checkpoints, *training.checkpoints})),
            min(earlier.log_every, training.log_every),
            min(earlier.trace_every, training.trace_every),
            training.block_size,
            max(earlier.replicates, training.replicates),
        )
        self._check_size(merged, place)
        self.trainings[name] = merged

    def _check_size(self, training: Training, place: str) -> None:
        """Refuse a training whose command is too long."""
        spelt = len(self._plan(training, (0, training.block_size)).to_json())
        if spelt > LONGEST_COMMAND:
            raise InputError(
                f"{place}: found {len(training.checkpoints)} checkpoints and {len(training.timeline.segments)} "
                f"stretches of the schedule for {training.point.name}, which take {spelt} characters of a "
                f"command; allowed are up to {LONGEST_COMMAND}"
            )


def validate(config: Mapping[str, Any]) -> None:
    """Check a configuration against the schema; raise `InputError` for the first mistake.

    The line names the key, the value found and what is allowed.
    """
    check_plain(config)
    _check(config, _schema())


@cache
def _schema() -> Mapping[str, Any]:
    return yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))


def _check(value: Any, schema: Mapping[str, Any], path: tuple[str, ...] = ()) -> None:
    """Check what stands at a path of the config against a schema; raise `InputError` for the first mistake."""
    errors = sorted(_Validator(schema).iter_errors(value), key=lambda error: list(map(str, error.path)))
    if errors:
        raise InputError(f"config: {_explain(_deepest(errors[0]), path)}")


# JSON Schema takes 4.0 for a whole number, which Python does not.
_Validator = validators.extend(
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    ),
)


def _deepest(error: ValidationError) -> ValidationError:
    """Follow a failed alternative down to the mistake, unless no alternative was meant."""
    while error.context:
        meant = [inner for inner in error.context if inner.relative_path or inner.validator not in _SHAPE]
        if not meant:
            return error
        error = max(meant, key=lambda inner: len(inner.relative_path))
    return error


_SHAPE = ("type", "const", "enum")


def _explain(error: ValidationError, path: tuple[str, ...]) -> str:
    place = ".".join(map(str, (*path, *error.absolute_path))) or "top level"
    if error.validator == "additionalProperties":
        allowed = error.schema["properties"]
        unknown = next(key for key in error.instance if key not in allowed)
        return f"{place}: found the unknown key {unknown!r}; allowed: {', '.join(allowed)}"
    if error.validator == "required":
        missing = next(key for key in error.validator_value if key not in error.instance)
        return f"{place}: the key {missing!r} is missing; allowed: {', '.join(error.schema['properties'])}"
    described = next((node for node in _lineage(error) if "allowed" in node.schema), None)
    allowed = described.schema["allowed"] if described else error.message
    return f"{place}: found {_show(error.instance)}; allowed: {allowed}{_hint(error.instance)}"


def _lineage(error: ValidationError) -> Iterator[ValidationError]:
    node: ValidationError | None = error
    while node is not None:
        yield node
        node = node.parent


def _show(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _hint(value: Any) -> str:
    """Explain the commonest surprise of YAML: 1e-3 without a point is text."""
    try:
        is_number = isinstance(value, str) and math.isfinite(float(value))
    except ValueError:
        is_number = False
    return " (this is text in YAML: write 1.0e-3 or 0.001, without quotes)" if is_number else ""


def _check_analyses(experiment: Experiment, place: str) -> None:
    """Refuse analyses that the experiment's design cannot feed."""
    planned = min(len(point.steps) for point in experiment.points)
    for analysis in {"swa", "distance"} & set(experiment.analyses):
        if planned < 3:
            raise InputError(f"{place}.analyses: found {analysis} with {planned} checkpoints; allowed from 3 on")
    if "disagreement" in experiment.analyses and (experiment.replicates < 2 or len(experiment.points) < 2):
        raise InputError(
            f"{place}.analyses: found disagreement with {experiment.replicates} replicates of "
            f"{len(experiment.points)} points; allowed from 2 replicates of 2 points on"
        )


def check_targets(targets: Iterable[str], study: Study, made: Sequence[str]) -> None:
    """Refuse a requested result that the configured grid does not have; other targets are left to Snakemake.

    Args:
        targets: what was asked for on the command line.
        study: the configured study.
        made: the figures, tables, findings and scorecards that it makes.

    Raises:
        InputError: naming the target and what is configured.
    """
    for target in targets:
        parts = Path(target).parts
        if parts[:2] == ("results", "runs") and len(parts) >= 4:
            _check_run(target, parts[2], parts[3], study)
        elif len(parts) > 1 and parts[0] == "results" and parts[1] in _MADE and target not in made:
            known = [file for file in made if Path(file).parts[1] == parts[1]]
            raise InputError(
                f"target {target}: found a result that the config does not make; allowed: "
                f"{', '.join(known) or 'none of this kind'}"
            )


_MADE = ("figures", "tables", "claims", "claims.csv", "controls.csv", "paper_vs_here.csv")


def _check_run(target: str, point: str, block: str, study: Study) -> None:
    training = study.trainings.get(point)
    if training is None:
        known = list(study.trainings)
        raise InputError(
            f"target {target}: found the point {point!r}, which no experiment of the config has; "
            f"allowed are the {len(known)} configured points, such as {', '.join(known[:3])}"
        )
    if block not in {f"block_{index:04d}" for index in training.blocks}:
        raise InputError(
            f"target {target}: found {block!r}; allowed are block_0000 to block_{training.blocks[-1]:04d}"
        )
