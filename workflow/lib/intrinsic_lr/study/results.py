"""Which files the rules of the workflow read and make. Imports nothing heavy."""

from collections.abc import Iterable
from dataclasses import dataclass

from intrinsic_lr.core import paths
from intrinsic_lr.study.study import Study


def blocks_of(study: Study, experiment: str) -> list[tuple[str, int]]:
    """Return (point, block) for all blocks that an experiment's replicates lie in."""
    selected = study.experiments[experiment]
    return [
        (point.name, block)
        for point in selected.points
        for block in range(-(-selected.replicates // study.trainings[point.name].block_size))
    ]


@dataclass(frozen=True)
class Results:
    """The files of a study, relative to the working directory."""

    study: Study

    @property
    def blocks(self) -> list[dict[str, str]]:
        """The wildcards of every training."""
        trainings = self.study.trainings.items()
        return [{"point": name, "block": paths.block_name(k)} for name, each in trainings for k in each.blocks]

    @property
    def runs(self) -> list[str]:
        """The record of every training."""
        return [paths.RUN.format(**block) for block in self.blocks]

    @property
    def events(self) -> list[str]:
        """The event files of TensorBoard, if the config asks for them."""
        return [paths.EVENTS.format(**block) for block in self.blocks if self.study.config["tensorboard"]]

    @property
    def tables(self) -> list[str]:
        """The tables of all analyses and claims."""
        return [self.study.paths.table(name) for name in [*self.study.tables, *self.study.claims]]

    @property
    def figures(self) -> list[str]:
        """Every figure in every format."""
        scorecard = ["scorecard"] if self.study.claims else []
        names = [*self.study.figures, *self.study.claims, *scorecard]
        made = self.study.paths
        files = [file for name in names for file in made.figure(name, self.study.formats)]
        return files + [made.narrow_figure(name) for name in names]

    @property
    def findings(self) -> list[str]:
        """Criteria and controls of every claim."""
        return [self.study.paths.findings(claim) for claim in self.study.claims]

    @property
    def scorecards(self) -> list[str]:
        """What sums up the claims, if there are any."""
        made = self.study.paths
        return [made.scorecard, made.controls, made.paper] if self.study.claims else []

    @property
    def checked(self) -> list[str]:
        """The results whose kinds `check_targets` knows: a target of such a kind is one of them, or a mistake."""
        return self.figures + self.tables + self.findings + self.scorecards

    @property
    def compared(self) -> list[str]:
        """The claims to judge for which a source gives numbers."""
        return [claim for claim in self.study.claims if self.study.catalogue[claim].paper]

    def products(self) -> dict[str, dict[str, list[str]]]:
        """Return the names of the `figures` and `tables` of each experiment with analyses."""
        found: dict[str, dict[str, list[str]]] = {}
        for kind in ("figures", "tables"):
            for name, (_, experiment) in getattr(self.study, kind).items():
                found.setdefault(experiment, {"figures": [], "tables": []})[kind].append(name)
        return found

    def of_analysis(self, analysis: str, experiment: str) -> list[str]:
        """Return what an analysis of an experiment reads."""
        spec = self.study.analyses[analysis]
        datasets = {point.dataset for point in self.study.experiments[experiment].points} if spec.data else ()
        return [*self._of_blocks(experiment, spec.reads), *_of_data(sorted(datasets))]

    def of_claim(self, claim: str) -> list[str]:
        """Return what the test of a claim reads, each file once."""
        kinds, experiments = self.study.catalogue[claim].files, self.study.claim_experiments(claim)
        files = [file for experiment in experiments for file in self._of_blocks(experiment, kinds)]
        files += [self.study.paths.table(name) for name in self.study.claim_tables(claim)]
        return list(dict.fromkeys([*files, *_of_data(self.study.claim_datasets(claim))]))

    def computes(self, claim: str) -> bool:
        """Tell whether the test of a claim computes with networks; the others read tables."""
        stated = self.study.catalogue[claim]
        return stated.reads_data or "checkpoints" in stated.files

    def _of_blocks(self, experiment: str, kinds: Iterable[str]) -> list[str]:
        """Return the records, and files of these kinds, of all blocks that an experiment's replicates lie in."""
        patterns = [*(pattern for kind in kinds for pattern in paths.KINDS[kind]), paths.RUN]
        blocks = [(point, paths.block_name(block)) for point, block in blocks_of(self.study, experiment)]
        return [pattern.format(point=point, block=block) for pattern in patterns for point, block in blocks]


def _of_data(datasets: Iterable[str]) -> list[str]:
    return [pattern.format(dataset=name) for name in datasets for pattern in (paths.DATA_INFO, paths.DATA)]
