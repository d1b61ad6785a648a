"""The workflow's own cost: imports, laying out jobs, and what a job costs besides its work."""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import yaml

from benchmarks.commands import Parser
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.storage import atomic_path

REPOSITORY = Path(__file__).parents[1]
OUT = Path("results/benchmarks/workflow.csv")
IMPORTS = {
    "python alone": "pass",
    "pandas and pyarrow": "import pandas, pyarrow",
    "seaborn": "import seaborn",
    "torch": "import torch",
}
STEPS = {"train": "training", "extract": "extraction", "claim": "claims", "prepare_data": "data"}
"""What the rules count as; figures count as drawing, all others as analyses."""
TRIVIAL_JOBS = 12


@dataclass(frozen=True)
class Cost:
    """One measured cost.

    Attributes:
        what: what was done.
        seconds: median wall time of the repetitions.
        cpu_seconds: median of user and system time.
        low, high: least and largest wall time.
        repetitions: how often it was done.
        most: seconds that it may take, or None.
    """

    what: str
    seconds: float
    cpu_seconds: float
    low: float
    high: float
    repetitions: int
    most: float | None = None


def main(argv: list[str]) -> None:
    """Measure, print a table, and write it."""
    arguments = _arguments(argv)
    if arguments.shares:
        print(shares(arguments.shares).to_string(index=False))
        return
    costs = [timed(f"import: {name}", [sys.executable, "-c", code], 5) for name, code in IMPORTS.items()]
    with tempfile.TemporaryDirectory() as folder:
        costs.append(_dry_run("dry run of the default config, nothing made", Path(folder), [], 3))
        grid = Path(folder, "grid.yaml")
        grid.write_text(yaml.safe_dump(large_grid()), encoding="utf-8")
        costs.append(_dry_run("dry run of 2,000 points", Path(folder), ["--configfile", str(grid)], 1, most=15))
    if (arguments.done / "results" / "claims.csv").exists():
        costs.append(_dry_run("no-op dry run of the default config, all made", arguments.done, [], 3, most=3))
    else:
        print(f"left out: the no-op dry run, because {arguments.done} holds no finished default study")
    costs.append(overhead())
    table = pd.DataFrame(map(asdict, costs))
    print(table.to_string(index=False, float_format="%.3g"))
    with atomic_path(arguments.out) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g")


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = Parser("workflow", __doc__)
    add = parser.add_argument
    add("--done", type=Path, default=REPOSITORY, help="folder in which the default study is finished")
    add("--shares", type=Path, help="only print what the jobs of this finished results folder spent their time on")
    add("--out", type=Path, default=OUT, help="table to write")
    return parser.parse_args(argv)


def timed(what: str, words: Sequence[str], repetitions: int, most: float | None = None) -> Cost:
    """Run a command so often and return its cost; the first run, which fills the caches, is not counted."""
    walls, cpus = [], []
    for _ in range(repetitions + 1):
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        walls.append(time.perf_counter() - started)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpus.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
        if done.returncode:
            raise InputError(f"{what}: failed with {done.stderr.strip().splitlines()[-1:]}")
    walls, cpus = walls[1:], cpus[1:]
    middle = statistics.median
    return Cost(what, middle(walls), middle(cpus), min(walls), max(walls), repetitions, most)


def _dry_run(what: str, folder: Path, options: Sequence[str], repetitions: int, most: float | None = None) -> Cost:
    return timed(what, [*snakemake(folder), "--dry-run", *options], repetitions, most=most)


def snakemake(folder: Path, *targets: str) -> list[str]:
    """Return the words that run the workflow in a folder, quietly."""
    words = [
        sys.executable,
        "-m",
        "snakemake",
        *targets,
        "--snakefile",
        str(REPOSITORY / "Snakefile"),
        "--cores",
        "1",
    ]
    profile = str(REPOSITORY / "profiles" / "default")
    return [*words, "--cores", "1", "--directory", str(folder), "--workflow-profile", profile, "--quiet", "all"]


def large_grid() -> dict:
    """Return a config of one experiment with 40 x 50 points."""
    experiment = {
        "dataset": "digits",
        "model": "mlp",
        "batch_size": 32,
        "replicates": 4,
        "block_size": 4,
        "grid": {
            "lr": [round(0.01 * (1 + step), 2) for step in range(40)],
            "weight_decay": [round(0.001 * (1 + step), 3) for step in range(50)],
        },
        "length": {"steps": 1000},
        "checkpoints": {"steps": [1000]},
        "analyses": ["grid"],
    }
    return {"run": ["large"], "judge": [], "experiments": {"large": experiment}}


def overhead() -> Cost:
    """Return what Snakemake adds to a job: wall time of trivial trainings, less that of the jobs themselves."""
    experiment = large_grid()["experiments"]["large"] | {
        "grid": {"lr": [0.1 * (1 + step) for step in range(TRIVIAL_JOBS)], "weight_decay": 0.01},
        "replicates": 1,
        "block_size": 1,
        "length": {"steps": 1},
        "checkpoints": {"steps": [1]},
    }
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "trivial.yaml")
        config.write_text(yaml.safe_dump({"run": ["large"], "judge": [], "experiments": {"large": experiment}}))
        words = [*snakemake(Path(folder), "trainings"), "--configfile", str(config)]
        empty = timed("layout", [*words, "--dry-run"], 1).seconds
        started = time.perf_counter()
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wall = time.perf_counter() - started
        jobs = job_seconds(Path(folder, "results"))
    each = (wall - empty - jobs["seconds"].sum()) / len(jobs)
    return Cost(f"Snakemake, per job (of {len(jobs)}, one at a time)", each, float("nan"), each, each, 1)


def job_seconds(results: Path) -> pd.DataFrame:
    """Return the wall seconds of every job of a results folder, by its rule, as Snakemake measured them."""
    rows = []
    for path in sorted((results / "benchmarks").rglob("*.tsv")):
        rule = path.relative_to(results / "benchmarks").parts[0].removesuffix(".tsv")
        rows.append({"rule": rule, "seconds": float(pd.read_csv(path, sep="\t")["s"].iloc[0])})
    return pd.DataFrame(rows, columns=["rule", "seconds"])


def shares(results: Path) -> pd.DataFrame:
    """Return what the jobs of a finished study spent their wall time on, imports taken out of each."""
    start = timed("start", [sys.executable, "-c", "import torch, pandas"], 3).seconds
    drawn = timed("start", [sys.executable, "-c", "import seaborn"], 3).seconds
    jobs = job_seconds(results)
    jobs["of"] = ["drawing" if rule.startswith("figure") else STEPS.get(rule, "analyses") for rule in jobs["rule"]]
    jobs["imports"] = jobs["of"].map(lambda kind: drawn if kind == "drawing" else start)
    jobs["imports"] = jobs[["imports", "seconds"]].min(axis=1)
    table = jobs.groupby("of").agg(jobs=("rule", "size"), seconds=("seconds", "sum"), imports=("imports", "sum"))
    table["work"] = table["seconds"] - table["imports"]
    total = table["seconds"].sum()
    rows = [
        {"of": kind, "jobs": row.jobs, "seconds": row.work, "share": row.work / total}
        for kind, row in table.iterrows()
    ]
    imports = table["imports"].sum()
    rows.append({"of": "imports", "jobs": int(table["jobs"].sum()), "seconds": imports, "share": imports / total})
    return pd.DataFrame(rows)
