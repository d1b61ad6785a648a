"""The path of each result, relative to the working directory; no other module writes these out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

BLOCK = "results/runs/{point}/block_{block}"
DATA = "results/data/{dataset}.safetensors"
DATA_INFO = "results/data/{dataset}.json"
IMAGES = ".snakemake/images/{dataset}.json"
"""What is known of the files in a folder of images: no result, only the time to read them again."""
CHECKPOINTS = f"{BLOCK}/checkpoints"
HISTORY = f"{BLOCK}/history.parquet"
TRACE = f"{BLOCK}/trace.parquet"
RUN = f"{BLOCK}/run.json"
PREDICTIONS = f"{BLOCK}/predictions"
STATISTICS = f"{BLOCK}/statistics"
EXTRACT = f"{BLOCK}/extract.json"
EVENTS = "results/tensorboard/{point}/block_{block}/events.out.tfevents"
LOG = "results/logs/{rule}/{job}.log"
SEEDS = "results/seeds"
"""Where the study is run with other seeds, each in a folder of its own with its own trainings."""
FOLDERS = ("runs", "data", "tensorboard", "tables", "figures", "claims", "logs", "benchmarks", "seeds")
"""Folders of `results`, which no study is called by."""

KINDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "history": (HISTORY,),
        "trace": (TRACE,),
        "checkpoints": (CHECKPOINTS,),
        "predictions": (PREDICTIONS, EXTRACT),
    }
)
"""What an analysis or a claim may read of each block, besides `run.json`: the files to wait for."""

MAX_BLOCKS = 10_000
"""Blocks of a point that `block_name` has names for, and the workflow's wildcard."""


def block_name(block: int) -> str:
    """Return the wildcard text of a block's index."""
    return f"{block:04d}"


@dataclass(frozen=True)
class StudyPaths:
    """Paths of what one study makes of the trainings, which all studies share."""

    folder: str = "results"

    @staticmethod
    def of(study: str) -> "StudyPaths":
        """Return the paths of a study by its name; the default one's folder is that of all."""
        return StudyPaths("results" if study == "default" else f"results/{study}")

    @property
    def scorecard(self) -> str:
        """The verdict on every claim."""
        return f"{self.folder}/claims.csv"

    @property
    def controls(self) -> str:
        """The verdict on every control."""
        return f"{self.folder}/controls.csv"

    @property
    def paper(self) -> str:
        """The numbers of the sources beside those of the study."""
        return f"{self.folder}/paper_vs_here.csv"

    @property
    def report(self) -> str:
        """The page."""
        return f"{self.folder}/report.html"

    def table(self, name: str) -> str:
        """Return the path of a table."""
        return f"{self.folder}/tables/{name}.csv"

    def findings(self, claim: str) -> str:
        """Return the path of the criteria and controls of a claim."""
        return f"{self.folder}/claims/{claim}.csv"

    def figure(self, name: str, formats: Iterable[str]) -> list[str]:
        """Return a figure's files, one for each format."""
        return [f"{self.folder}/figures/{name}.{extension}" for extension in formats]

    def narrow_figure(self, name: str) -> str:
        """Return the path of a figure as it is drawn for a narrow screen."""
        return f"{self.folder}/figures/narrow/{name}.svg"

    def log(self, job: str) -> str:
        """Return the path of a job's log, named by its rule and what it makes."""
        return f"{self.folder}/logs/{job}.log"

    def benchmark(self, job: str) -> str:
        """Return the path of Snakemake's record of a job's time and memory."""
        return f"{self.folder}/benchmarks/{job}.tsv"
