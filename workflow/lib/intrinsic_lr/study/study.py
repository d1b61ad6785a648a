"""The study: a validated config, its experiments, the trainings that they share, and the claims to judge.

Read by every job of the workflow, so nothing here imports torch, pandas or numpy.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from intrinsic_lr.core import paths
from intrinsic_lr.core.errors import InputError, prefixed
from intrinsic_lr.core.paths import StudyPaths
from intrinsic_lr.core.user_code import checked_sum
from intrinsic_lr.data import arrays, image_folder
from intrinsic_lr.study.analyses import ANALYSES, Analysis, one, product_names
from intrinsic_lr.study.claim_config import check_claim, check_judge, own_claim
from intrinsic_lr.study.claim_needs import Design, check_needs
from intrinsic_lr.study.claims import CLAIMS, Claim
from intrinsic_lr.study.config_types import unknown
from intrinsic_lr.study.experiment import Experiment
from intrinsic_lr.study.plan import TrainingPlan
from intrinsic_lr.study.schema import FIGURE_FORMATS, FIGURE_WIDTHS, Config, read_config
from intrinsic_lr.study.sharing import difference, finished_plans, united
from intrinsic_lr.study.trainings import Planner, Training, model_spec, training_plan


@dataclass(frozen=True)
class Study:
    """What a config lays out."""

    config: Mapping[str, Any]  # with the defaults of its experiments filled in, as plain data
    settings: Config  # the same, as its types read it
    experiments: Mapping[str, Experiment]  # those that are run, by name
    trainings: Mapping[str, Training]  # which they share, by the point's name
    plans: Mapping[tuple[str, int], TrainingPlan] = field(default_factory=dict)  # of blocks that lie there

    @staticmethod
    def read(config: Mapping[str, Any], results: Path | None = None) -> "Study":
        """Validate a config and lay out its trainings; InputError for the first mistake.

        Trainings that lie below a folder of results already are used as they are, or made longer.
        """
        filled, settings = read_config(config)
        models = {name: model_spec(name, settings) for name in settings.models}
        planner = Planner(settings)
        for name in _selected(settings):
            planner.add(name)
        study = Study(filled, settings, planner.selected(), planner.trainings)
        for name in settings.claims:
            check_claim(name, settings)
        check_judge(settings, list(study.experiments))
        timelines = {name: training.timeline for name, training in study.trainings.items()}
        for name in study.claims:
            asked = settings.claims[name]
            roles = {role: study.experiments[of] for role, of in asked.experiments.items()}
            check_needs(name, Design(roles, asked.settings, models, timelines))
        for name in study.datasets:
            planner.train_count(name)
        # Refuses names of experiments that would give two tables or figures one name.
        _ = study.tables, study.figures
        return study._with_finished(results) if results else study

    def _with_finished(self, results: Path) -> "Study":
        """Return the study with the trainings below a folder of results, in the blocks that they have there."""
        trainings, plans = dict(self.trainings), {}
        for name, finished in finished_plans(results, self.trainings).items():
            training = self._sized(self.trainings[name], finished.get(0, []))
            if training is None:
                # Another training: it is replaced, block by block.
                continue
            trainings[name] = training
            for block, found in finished.items():
                asked = training_plan(training, block, self.settings)
                there = next((plan for plan in found if not difference(plan, asked)), None)
                if block in training.blocks and there:
                    plans[name, block] = united(there, asked)
        return replace(self, trainings=trainings, plans=plans)

    def _sized(self, training: Training, found: list[TrainingPlan]) -> Training | None:
        """Return a training in blocks of the size that it has among the plans of its first block.

        None where all of them are of other trainings; as it is where there are none.
        """
        for plan in found:
            sized = replace(training, block_size=len(plan.members))
            if not difference(plan, training_plan(sized, 0, self.settings)):
                return sized
        return None if found else training

    @property
    def code(self) -> list[str]:
        """A line for each part of the config whose code, of the user's own, is run."""
        models = {training.point.model for training in self.trainings.values()}
        named: dict[str, Any] = {f"model {name}": model_spec(name, self.settings) for name in models}
        for training in self.trainings.values():
            point = training.point
            named[f"schedule {point.schedule}"] = training.timeline.code
            for field_, code in training.code.items():
                axis = field_.removesuffix("_code")
                named[f"{axis} {getattr(point, axis)}"] = code
        files = {name: (code.file, code.sha256) for name, code in named.items() if code and code.file}
        files |= {
            f"analysis {name}": self.analyses[name].own for name in self.analyses if self.with_analysis(name)
        }
        files |= {f"claim {name}": self.catalogue[name].own for name in self.claims}
        return [
            f"code that the config names is run: {own[0]} (sha256 {own[1]}), for the {name}"
            for name, own in sorted(files.items())
            if own
        ]

    @cached_property
    def analyses(self) -> Mapping[str, Analysis]:
        """All analyses by name, those of the config's own among them."""
        own = {}
        for name, given in self.settings.analyses.items():
            with prefixed(f"config: analyses.{name}."):
                file = given.file, checked_sum(given.file, "measure", f"draw_{name}")
            own[name] = one(name, *given.reads, data=given.reads_data, shown=given.shows, own=file)
        return {**ANALYSES, **own}

    @cached_property
    def catalogue(self) -> Mapping[str, Claim]:
        """All claims by name, those of the config's own among them."""
        own = {name: own_claim(name, given) for name, given in self.settings.claims.items() if given.file}
        return {**CLAIMS, **own}

    @property
    def paths(self) -> StudyPaths:
        """Where its tables, figures, claims and page lie."""
        return StudyPaths.of(self.settings.study)

    def with_analysis(self, analysis: str) -> list[str]:
        """Names of the selected experiments that want an analysis."""
        return [name for name, experiment in self.experiments.items() if analysis in experiment.analyses]

    @cached_property
    def tables(self) -> dict[str, tuple[str, str]]:
        """Analysis and experiment of every table of an analysis, by its name."""
        return product_names(self.experiments.values(), "tables", self.analyses, self.catalogue)

    @cached_property
    def figures(self) -> dict[str, tuple[str, str]]:
        """Analysis and experiment of every figure of an analysis, by its name."""
        return product_names(self.experiments.values(), "figures", self.analyses, self.catalogue)

    @cached_property
    def claims(self) -> list[str]:
        """Names of the claims to judge, in the catalogue's order: those of `judge` whose experiments are run."""
        judge = self.settings.claims if self.settings.judge == "all" else self.settings.judge
        return [
            name
            for name in self.catalogue
            if name in judge and self.experiments.keys() >= {*self.claim_experiments(name)}
        ]

    def claim_experiments(self, claim: str) -> list[str]:
        """Names of the experiments behind a claim, each once."""
        return list(dict.fromkeys(self.settings.claims[claim].experiments.values()))

    def captions(self, claim: str) -> list[str]:
        """What stands below a claim's figure of each experiment behind it."""
        return [self.experiments[name].caption() for name in self.claim_experiments(claim)]

    def claim_tables(self, claim: str) -> list[str]:
        """Names of the tables of analyses that a claim's test reads."""
        roles = self.settings.claims[claim].experiments
        return [
            f"{table}_{roles[role]}" for role, tables in self.catalogue[claim].tables.items() for table in tables
        ]

    def claim_datasets(self, claim: str) -> list[str]:
        """Names of the data sets that a claim's test reads."""
        if not self.catalogue[claim].reads_data:
            return []
        named = self.settings.claims[claim].settings.get("dataset")
        of_points = {
            point.dataset for name in self.claim_experiments(claim) for point in self.experiments[name].points
        }
        return sorted(of_points | ({named} if named else set()))

    def describe_claim(self, claim: str) -> str:
        """Canonical JSON of a claim's question: all that its test takes from the config but the data."""
        configured, stated = self.settings.claims[claim], self.catalogue[claim]
        settings = dict(configured.settings)
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
                "experiments": {role: self.describe(name) for role, name in configured.experiments.items()},
                "thresholds": {name: threshold.value for name, threshold in configured.thresholds.items()},
                "settings": settings,
                "needs_invariance": stated.needs_invariance,
            },
            sort_keys=True,
        )

    @property
    def formats(self) -> list[str]:
        """Formats of every figure, in one order; SVG is among them: the report shows it, tables name it."""
        return [name for name in FIGURE_FORMATS if name == "svg" or name in self.settings.figures.formats]

    @property
    def look(self) -> str:
        """Canonical JSON of the width, in inches, and the font of every figure."""
        figures = self.settings.figures
        width = FIGURE_WIDTHS.get(figures.width, figures.width)
        look = {"width": width, "family": figures.font.family, "size": figures.font.size}
        return json.dumps(look, sort_keys=True)

    @cached_property
    def datasets(self) -> list[str]:
        """Names of the data sets in use."""
        of_trainings = {training.point.dataset for training in self.trainings.values()}
        return sorted(of_trainings.union(*map(self.claim_datasets, self.claims)))

    def dataset_spec(self, name: str) -> str:
        """Canonical JSON of a data set's definition, which the command that prepares it takes.

        Its note is left out: it says nothing of the bytes, so a reworded one remakes nothing.
        """
        spec = self.settings.datasets[name].model_dump(exclude_unset=True, exclude={"note"})
        return json.dumps(spec, sort_keys=True)

    def data_source(self, name: str) -> str:
        """Return `dataset_spec` with a checksum of the images where those are files, which may change."""
        spec = json.loads(self.dataset_spec(name))
        if spec["kind"] == "image_folder":
            cache = Path(paths.IMAGES.format(dataset=name))
            spec["images"] = image_folder.content_sum(spec, f"config: datasets.{name}", cache)
        if spec["kind"] in arrays.KINDS:
            spec["images"] = arrays.content_sum(spec, f"config: datasets.{name}")
        return json.dumps(spec, sort_keys=True)

    def dataset_note(self, name: str) -> str:
        """What the config says in words of where a data set comes from; empty if nothing."""
        return self.settings.datasets[name].note or ""

    def model_text(self, name: str) -> str:
        """Canonical text of a model's definition."""
        return model_spec(name, self.settings).to_string()

    def training_plan(self, point: str, block: int) -> TrainingPlan:
        """Return what is trained as one block of a point: never less than what lies there already."""
        return self.plans.get((point, block)) or training_plan(self.trainings[point], block, self.settings)

    def describe(self, experiment: str) -> str:
        """Canonical JSON of what an analysis needs to know of an experiment."""
        return self.experiments[experiment].to_json()


def _selected(config: Config) -> list[str]:
    """Return the names of the experiments to run, in the config's order."""
    known = config.experiments
    run = known if config.run == "all" else config.run
    for name in run:
        if name not in known:
            raise InputError(f"config: run: {unknown('experiment', name, known)}")
    return [name for name in known if name in run]
