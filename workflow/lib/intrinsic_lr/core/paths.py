"""The path of each result, relative to the working directory; no other module writes these out."""

from collections.abc import Iterable, Mapping
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
TABLE = "results/tables/{name}.csv"
FINDINGS = "results/claims/{claim}.csv"
SCORECARD = "results/claims.csv"
CONTROLS = "results/controls.csv"
PAPER = "results/paper_vs_here.csv"
FIGURE = "results/figures/{name}"
EVENTS = "results/tensorboard/{point}/block_{block}/events.out.tfevents"
LOG = "results/logs/{rule}/{job}.log"
REPORT = "results/report.html"

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


def figure_files(name: str, formats: Iterable[str]) -> list[str]:
    """Return a figure's files, one for each format."""
    return [f"{FIGURE.format(name=name)}.{extension}" for extension in formats]
