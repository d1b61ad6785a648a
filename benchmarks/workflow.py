"""The workflow's own cost: imports, planning jobs, and what Snakemake adds to a job."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
import yaml

from benchmarks.common import Parser
from intrinsic_lr.analyses.tables import write_table
from intrinsic_lr.core.errors import InputError

REPOSITORY = Path(__file__).parents[1]
IMPORTS = {
    "python alone": "pass",
    "pandas and pyarrow": "import pandas, pyarrow",
    "seaborn": "import seaborn",
    "torch": "import torch",
}
TRIVIAL_JOBS = 12


def main(argv: list[str]) -> None:
    """Measure, print a table, and write it."""
    parser = Parser("workflow", __doc__)
    parser.add_argument(
        "--done", type=Path, default=REPOSITORY, help="folder in which the default study is finished"
    )
    options = parser.parse_args(argv)
    rows = [timed(f"import: {name}", [sys.executable, "-c", code], 5) for name, code in IMPORTS.items()]
    with tempfile.TemporaryDirectory() as folder:
        grid = Path(folder, "grid.yaml")
        grid.write_text(yaml.safe_dump(config(lr=40, weight_decay=50)))
        rows.append(dry_run("dry run of the default config, nothing made", Path(folder), 3))
        rows.append(dry_run("dry run of 2,000 points", Path(folder), 1, "--configfile", str(grid)))
    if (options.done / "results" / "claims.csv").exists():
        rows.append(dry_run("no-op dry run of the default config, all made", options.done, 3))
    else:
        print(f"left out: the no-op dry run, because {options.done} has no finished default study")
    rows.append(overhead())
    table = pd.DataFrame(rows)
    print(table.to_string(index=False, float_format="%.3g"))
    write_table(table, options.out)


def timed(what: str, words: Sequence[str], repetitions: int) -> dict[str, Any]:
    """Run a command so often and return its wall times; the first run, which fills the caches, is not counted."""
    seconds = []
    for _ in range(repetitions + 1):
        started = time.perf_counter()
        done = subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        seconds.append(time.perf_counter() - started)
        if done.returncode:
            raise InputError(f"{what}: failed with {done.stderr.strip().splitlines()[-1:]}")
    counted = seconds[1:]
    return {"what": what, "seconds": median(counted), "low": min(counted), "high": max(counted)}


def dry_run(what: str, folder: Path, repetitions: int, *options: str) -> dict[str, Any]:
    """Time a dry run in a folder."""
    return timed(what, [*snakemake(folder), "--dry-run", *options], repetitions)


def snakemake(folder: Path, *targets: str) -> list[str]:
    """Return the words that run the workflow in a folder, quietly and one job at a time."""
    files = {"--snakefile": "Snakefile", "--workflow-profile": "profiles/default"}
    words = [word for option, file in files.items() for word in (option, str(REPOSITORY / file))]
    return [
        *(sys.executable, "-m", "snakemake", *targets, "--cores", "1", "--quiet", "all"),
        *("--directory", str(folder), *words),
    ]


def config(lr: int, weight_decay: int, steps: int = 1000) -> dict[str, Any]:
    """Return a config of one experiment with so many learning rates and weight decays."""
    experiment = {
        "dataset": "digits", "model": "mlp", "batch_size": 32, "replicates": 1, "block_size": 1,
        "grid": {
            "lr": [round(0.01 * (1 + step), 2) for step in range(lr)],
            "weight_decay": [round(0.001 * (1 + step), 3) for step in range(weight_decay)],
        },
        "length": {"steps": steps}, "checkpoints": {"steps": [steps]}, "analyses": ["grid"],
    }  # fmt: skip
    return {"run": ["large"], "judge": [], "experiments": {"large": experiment}}


def overhead() -> dict[str, Any]:
    """Return what Snakemake adds to a job: wall time of trivial trainings, less that of the jobs themselves."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "trivial.yaml")
        file.write_text(yaml.safe_dump(config(lr=TRIVIAL_JOBS, weight_decay=1, steps=1)))
        words = [*snakemake(Path(folder), "trainings"), "--configfile", str(file)]
        planning = timed("planning", [*words, "--dry-run"], 1)["seconds"]
        started = time.perf_counter()
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wall = time.perf_counter() - started
        jobs = [
            pd.read_csv(path, sep="\t")["s"].iloc[0] for path in Path(folder).rglob("results/benchmarks/**/*.tsv")
        ]
    return {"what": f"Snakemake, per job (of {len(jobs)})", "seconds": (wall - planning - sum(jobs)) / len(jobs)}
