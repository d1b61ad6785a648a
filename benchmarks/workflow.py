"""The workflow's own cost: imports, and how long Snakemake takes to plan its jobs."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import yaml

from benchmarks.common import Parser
from intrinsic_lr.analyses.tables import write_table
from intrinsic_lr.core.errors import InputError

REPOSITORY = Path(__file__).parents[1]
IMPORTS = {"python alone": "pass", "pandas": "import pandas", "seaborn": "import seaborn", "torch": "import torch"}


def main(argv: list[str]) -> None:
    """Measure, print a table, and write it."""
    parser = Parser("workflow", __doc__)
    options = parser.parse_args(argv)
    commands = {f"import: {name}": ["-c", code] for name, code in IMPORTS.items()}
    with tempfile.TemporaryDirectory() as folder:
        grid = Path(folder, "grid.yaml")
        grid.write_text(yaml.safe_dump(large_grid()))
        commands["dry run of the default config"] = dry_run(folder)
        commands["dry run of 2,000 points"] = [*dry_run(folder), "--configfile", str(grid)]
        table = pd.DataFrame([{"what": what, "seconds": seconds(words)} for what, words in commands.items()])
    print(table.to_string(index=False, float_format="%.3g"))
    write_table(table, options.out)


def seconds(words: list[str], repetitions: int = 3) -> float:
    """Run Python with these arguments so often and return the least wall time."""
    times = []
    for _ in range(repetitions):
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        times.append(time.perf_counter() - started)
        if done.returncode:
            raise InputError(f"{' '.join(words)}: failed with {done.stderr.strip().splitlines()[-1:]}")
    return min(times)


def dry_run(folder: Path | str) -> list[str]:
    """Return the arguments of Python for a dry run of the workflow in a folder."""
    words = ["-m", "snakemake", "--dry-run", "--quiet", "all", "--cores", "1", "--directory", str(folder)]
    return [*words, "--snakefile", str(REPOSITORY / "Snakefile")]


def large_grid() -> dict:
    """Return a config of one experiment with 40 x 50 points."""
    grid = {
        "lr": [round(0.01 * (1 + step), 2) for step in range(40)],
        "weight_decay": [round(0.001 * (1 + step), 3) for step in range(50)],
    }
    experiment = {
        "dataset": "digits", "model": "mlp", "batch_size": 32, "replicates": 4, "block_size": 4, "grid": grid,
        "length": {"steps": 1000}, "checkpoints": {"steps": [1000]}, "analyses": ["grid"],
    }  # fmt: skip
    return {"run": ["large"], "judge": [], "experiments": {"large": experiment}}
