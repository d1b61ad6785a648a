"""What the workflow makes of a study: the files of its results, and the jobs that make them from one another.

The rules and the audit read it, so nothing here imports torch, pandas or numpy.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from intrinsic_lr import paths
from intrinsic_lr.claims.catalogue import CLAIMS

if TYPE_CHECKING:
    from intrinsic_lr.config import Study


@dataclass(frozen=True)
class Analysis:
    """What an analysis of an experiment reads and makes, files named <product>_<experiment>.

    Attributes:
        tables: the tables that it makes.
        figures: for each figure the table that it shows.
        reads: the files that it reads of every block, besides `run.json`.
        reads_data: whether it reads the experiment's data sets.
    """

    tables: tuple[str, ...]
    figures: Mapping[str, str]
    reads: tuple[str, ...]
    reads_data: bool = False


ANALYSES: Mapping[str, Analysis] = MappingProxyType(
    {
        "curves": Analysis(("curves",), {"curves": "curves"}, (paths.HISTORY,)),
        "swa": Analysis(("swa", "swa_summary"), {"swa": "swa_summary"}, (paths.CHECKPOINTS,), True),
        "distance": Analysis(
            ("distance", "distance_across", "distance_summary"),
            {"distance": "distance_summary"},
            (paths.CHECKPOINTS,),
        ),
        "epochs": Analysis(
            ("epochs",), {"epochs": "epochs"}, (paths.CHECKPOINTS, paths.PREDICTIONS, paths.EXTRACT), True
        ),
        "disagreement": Analysis(
            ("disagreement",),
            {"total_variation": "disagreement", "disagreement": "disagreement"},
            (paths.PREDICTIONS, paths.EXTRACT),
            True,
        ),
        "grid": Analysis(("grid",), {"grid": "grid"}, (paths.HISTORY,)),
        "phase": Analysis(("phase",), {"phase": "phase"}, (paths.TRACE,)),
    }
)
CLAIM_FILES = MappingProxyType(
    {
        "history": (paths.HISTORY,),
        "trace": (paths.TRACE,),
        "checkpoints": (paths.CHECKPOINTS,),
        "predictions": (paths.PREDICTIONS, paths.EXTRACT),
    }
)
"""What a claim's test may read of every block, besides `run.json`."""

TRAINED = (paths.CHECKPOINTS, paths.HISTORY, paths.TRACE, paths.RUN)
EXTRACTED = (paths.PREDICTIONS, paths.STATISTICS, paths.EXTRACT)
PREPARED = (paths.DATA, paths.DATA_INFO)


def tables(study: "Study") -> list[str]:
    """Return the tables of all analyses and claims."""
    names = [f"{table}_{name}" for kind, name in _analyses(study) for table in ANALYSES[kind].tables]
    return [paths.TABLE.format(name=name) for name in [*names, *study.claims]]


def figures(study: "Study") -> list[str]:
    """Return the figures of all analyses and claims, in every format."""
    names = [f"{figure}_{name}" for kind, name in _analyses(study) for figure in ANALYSES[kind].figures]
    names += [*study.claims, "scorecard"] if study.claims else []
    return [path for name in names for path in paths.figure_files(name)]


def findings(study: "Study") -> list[str]:
    """Return the files with the criteria and controls of each claim."""
    return [paths.FINDINGS.format(claim=claim) for claim in study.claims]


def scorecards(study: "Study") -> list[str]:
    """Return the files that sum the claims up."""
    return [paths.SCORECARD, paths.CONTROLS, paths.PAPER] if study.claims else []


def wanted(study: "Study") -> list[str]:
    """Return all that a user asks for by naming no target."""
    return figures(study) + tables(study) + findings(study) + scorecards(study)


def compared_claims(study: "Study") -> list[str]:
    """Return the claims to judge for which a source gives numbers."""
    return [claim for claim in study.claims if CLAIMS[claim].paper]


def blocks(study: "Study") -> Iterator[tuple[str, str]]:
    """Yield the point and the block of every training, as the wildcards of a path have them."""
    for name, training in study.trainings.items():
        for block in training.blocks:
            yield name, paths.block_name(block)


def block_files(study: "Study", experiment: str, patterns: Sequence[str]) -> list[str]:
    """Return these files of every block that an experiment's replicates lie in."""
    wanted_of = study.experiments[experiment]
    size = {point.name: study.trainings[point.name].block_size for point in wanted_of.points}
    return [
        pattern.format(point=point, block=paths.block_name(block))
        for pattern in patterns
        for point in size
        for block in range(-(-wanted_of.replicates // size[point]))
    ]


def claim_files(study: "Study", claim: str) -> list[str]:
    """Return the files that a claim's test reads, each once; of data sets the descriptions alone."""
    patterns = [paths.RUN, *(pattern for kind in CLAIMS[claim].files for pattern in CLAIM_FILES[kind])]
    files = [
        *(file for name in study.claim_experiments(claim) for file in block_files(study, name, patterns)),
        *(paths.TABLE.format(name=name) for name in study.claim_tables(claim)),
        *(paths.DATA_INFO.format(dataset=dataset) for dataset in study.claim_datasets(claim)),
    ]
    return list(dict.fromkeys(files))


@dataclass(frozen=True)
class Job:
    """A job of the workflow.

    Attributes:
        outputs: the files that it makes.
        inputs: the files that it makes them from; of data sets the descriptions, which carry their checksums.
        record: its log without `results/logs/` and `.log`; its benchmark is called likewise.
    """

    outputs: tuple[str, ...]
    inputs: tuple[str, ...]
    record: str

    @property
    def records(self) -> tuple[str, str]:
        """The log and the benchmark, which nobody reads on."""
        return f"results/logs/{self.record}.log", f"results/benchmarks/{self.record}.tsv"


def jobs(study: "Study") -> Iterator[Job]:
    """Yield every job that the workflow can do for a study, after those that it depends on."""
    for dataset in study.datasets:
        yield Job(_filled(PREPARED, dataset=dataset), (), f"prepare_data/{dataset}")
    for point, block in blocks(study):
        here = {"point": point, "block": block}
        info = paths.DATA_INFO.format(dataset=study.trainings[point].point.dataset)
        trained, place = _filled(TRAINED, **here), f"{point}/block_{block}"
        yield Job(trained, (info,), f"train/{place}")
        run = _filled((paths.CHECKPOINTS, paths.RUN), **here)
        yield Job(_filled(EXTRACTED, **here), (info, *run), f"extract/{place}")
    for kind, name in _analyses(study):
        yield from _analysis_jobs(study, kind, name)
    for claim in study.claims:
        made = _filled((paths.TABLE, paths.FINDINGS), name=claim, claim=claim)
        yield Job((*made, *paths.figure_files(claim)), tuple(claim_files(study, claim)), f"claim/{claim}")
    if study.claims:
        yield from _scorecard_jobs(study)


def _analysis_jobs(study: "Study", kind: str, name: str) -> Iterator[Job]:
    analysis = ANALYSES[kind]
    inputs = block_files(study, name, (*analysis.reads, paths.RUN))
    if analysis.reads_data:
        datasets = sorted({point.dataset for point in study.experiments[name].points})
        inputs += [paths.DATA_INFO.format(dataset=dataset) for dataset in datasets]
    made = tuple(paths.TABLE.format(name=f"{table}_{name}") for table in analysis.tables)
    yield Job(made, tuple(inputs), f"{kind}/{name}")
    for figure, table in analysis.figures.items():
        shown = (paths.TABLE.format(name=f"{table}_{name}"),)
        yield Job(tuple(paths.figure_files(f"{figure}_{name}")), shown, f"figure_{figure}/{name}")


def _scorecard_jobs(study: "Study") -> Iterator[Job]:
    cards = (paths.SCORECARD, paths.CONTROLS)
    yield Job(cards, tuple(findings(study)), "scorecard")
    compared = compared_claims(study)
    read = [paths.TABLE.format(name=claim) for claim in compared]
    read += [paths.FINDINGS.format(claim=claim) for claim in compared]
    yield Job((paths.PAPER,), tuple(read), "paper_vs_here")
    yield Job(tuple(paths.figure_files("scorecard")), cards, "figure_scorecard")


def _analyses(study: "Study") -> Iterator[tuple[str, str]]:
    """Yield the kind and the experiment of every analysis."""
    for kind in ANALYSES:
        for name in study.with_analysis(kind):
            yield kind, name


def _filled(patterns: Iterable[str], **wildcards: str) -> tuple[str, ...]:
    return tuple(pattern.format(**wildcards) for pattern in patterns)
