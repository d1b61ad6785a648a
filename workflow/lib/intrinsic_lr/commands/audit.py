"""Command line: hold the results against the config, and say what is stale, missing, damaged or foreign.

Snakemake says which results are missing, and which are older than what they are made from or were made in another
way. What Snakemake does not look at is checked here: every byte, by the checksums in the logs of the jobs and in
the files that carry those of others; and that blocks and tables hold the replicates that the config asks for.
"""

import argparse
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from intrinsic_lr.core import paths
from intrinsic_lr.core.block_files import EXTRACT, HISTORY, RUN, TRACE
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.job_log import run_command
from intrinsic_lr.core.locks import is_running
from intrinsic_lr.core.rerun import remake
from intrinsic_lr.core.storage import read_json, sha256, written
from intrinsic_lr.study.config_files import merged
from intrinsic_lr.study.study import Study

ROOT = Path(__file__).parents[4]
STALE = {
    "updated input files": "older than what it is made from",
    "rule implementation changed": "made by another version of its rule",
    "set of input files changed": "made from other files than it would be now",
    "params changed": "made with other settings than those of the config",
    "ok": "made from what is to be made again, or by a job that did not end",
}
"""What Snakemake's words for the status of a file mean."""
UNHELD = re.compile(
    r"results/(README\.md|snakemake-report\.html|logs/.+\.log|benchmarks/.+\.tsv|benchmarks/(engine|analyses|workflow)\.csv)"
)
"""Files that nothing is made from, and that differ from one time to the next."""


@dataclass(frozen=True)
class Fault:
    """What is wrong with one file.

    Attributes:
        path: the file.
        kind: `stale`, `missing`, `damaged` or `foreign`.
        what: what is wrong, in words.
        repair: the command that repairs it.
    """

    path: str
    kind: str
    what: str
    repair: str

    def __str__(self) -> str:
        return f"{self.path}: {self.kind}, {self.what}; repair with `{self.repair}`"


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Attributes:
        faults: what is wrong, a fault a file.
        products: number of files that the config asks for.
        others: number of files that jobs wrote for another config, or on request.
    """

    faults: tuple[Fault, ...]
    products: int
    others: int

    def closing(self) -> str:
        """Return one line with the counts."""
        kinds = [fault.kind for fault in self.faults]
        found = ", ".join(f"{kinds.count(kind)} {kind}" for kind in ("stale", "missing", "damaged", "foreign"))
        others = f"; {self.others} files that another config or target asked for" if self.others else ""
        return f"{self.products} results of the config: {found}{others}"


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="intrinsic-lr audit", description=__doc__)
    add = parser.add_argument
    add("--config", type=Path, nargs="*", default=[], help="files laid over the default config, in this order")
    add("--directory", type=Path, default=Path("."), help="the folder that holds results/")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Print a line for each fault and one with the counts; exit with status 1 where there are faults."""
    arguments = _arguments(argv)
    study = Study.read(merged(arguments.config))
    if is_running(arguments.directory / ".snakemake"):
        raise InputError(f"{arguments.directory}: found a run at work; wait for its end, or stop it first")
    audit = judge(study, statuses(arguments.config, arguments.directory), arguments.directory, arguments.config)
    for fault in audit.faults:
        print(fault)
    print(audit.closing())
    if audit.faults:
        raise SystemExit(1)


def statuses(config: Sequence[Path], folder: Path) -> dict[str, str]:
    """Ask Snakemake about every file that the config asks for.

    Returns:
        For each path Snakemake's word for its status, empty where nothing is to be done.
    """
    command = [sys.executable, "-m", "snakemake", "--summary", "--snakefile", str(ROOT / "Snakefile")]
    command += ["--cores", "1", "--directory", str(folder)]
    command += ["--configfile", *map(str, config)] if config else []
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"snakemake --summary: {done.stderr.strip().splitlines()[-1].removeprefix('error: ')}")
    header, *rows = (line.split("\t") for line in done.stdout.splitlines() if "\t" in line)
    file, status, plan = (header.index(name) for name in ("output_file", "status", "plan"))
    return {row[file]: row[status] if row[plan] != "no update" else "" for row in rows}


def judge(study: Study, asked: Mapping[str, str], folder: Path, config: Sequence[Path] = ()) -> Audit:
    """Hold the files below `folder` against a study.

    A file is known when the config asks for it, or when the log of the job that wrote it is there: another config,
    or an earlier version of this one, may have asked for that. Anything else is foreign.

    Args:
        study: the study.
        asked: what Snakemake says of each file, as `statuses` returns it.
        folder: the folder that holds `results`.
        config: the config files, for the commands that repair.
    """
    known = checksums(folder)
    # The first that is found of a file tells most.
    faults: dict[str, Fault] = {}
    found = (
        *_of_snakemake(asked, config),
        *_of_files(known, asked, folder, config),
        *_of_blocks(study, asked, folder, config),
        *_of_tables(study, asked, folder, config),
    )
    for fault in found:
        faults.setdefault(fault.path, fault)
    return Audit(tuple(faults.values()), len(asked), len(known.keys() - asked.keys()))


def _of_snakemake(asked: Mapping[str, str], config: Sequence[Path]) -> Iterator[Fault]:
    for path, status in asked.items():
        if status == "missing":
            yield Fault(path, "missing", "the config asks for it", remake(path, "", config))
        elif status:
            yield Fault(path, "stale", STALE.get(status, status), remake(path, "", config))


def checksums(folder: Path) -> dict[str, str | None]:
    """Return the recorded SHA-256 of every file that a job wrote below `folder`.

    It stands in the job's log, or in a JSON file beside it whose own stands there. None where that is damaged or
    missing.
    """
    found: dict[str, str | None] = {}
    for log in sorted((folder / "results/logs").rglob("*.log")):
        found |= written(log)
    for path in [path for path in found if path.endswith(".json")]:
        whole = (folder / path).is_file() and sha256(folder / path) == found[path]
        for sibling, digest in _carried(folder / path, Path(path)) if whole else _beside(folder, path):
            found.setdefault(sibling, digest)
    return {path: digest for path, digest in found.items() if (folder / path).is_file()}


def _carried(file: Path, path: Path) -> Iterator[tuple[str, str]]:
    """Yield the files whose checksums a JSON file carries: that of the data, or one for each name."""
    sums = read_json(file)["sha256"]
    named = sums if isinstance(sums, dict) else {f"{path.stem}.safetensors": sums}
    for name, digest in named.items():
        yield str(path.with_name(name)), digest


def _beside(folder: Path, path: str) -> Iterator[tuple[str, None]]:
    """Yield the files that a JSON file, damaged or gone, vouched for: those of its block, or of its data set."""
    damaged = folder / path
    for file in damaged.parent.glob("*"):
        if file.parent.name.startswith("block_") or file.stem == damaged.stem:
            yield str(Path(path).with_name(file.name)), None


def _of_files(
    known: Mapping[str, str | None], asked: Mapping[str, str], folder: Path, config: Sequence[Path]
) -> Iterator[Fault]:
    for file in sorted((folder / "results").rglob("*")):
        path = file.relative_to(folder).as_posix()
        if file.is_dir() or UNHELD.fullmatch(path) or _unfinished(file):
            continue
        if path in known:
            if known[path] is not None and sha256(file) != known[path]:
                repair = remake(path, config=config) if path in asked else f"rm {shlex.quote(path)}"
                yield Fault(path, "damaged", "its checksum is not the recorded one", repair)
        elif path in asked:
            yield Fault(path, "damaged", "no log records its checksum", remake(path, config=config))
        else:
            yield Fault(path, "foreign", "no job of the workflow wrote it", f"rm {shlex.quote(path)}")


def _unfinished(file: Path) -> bool:
    """Tell whether a file is what a training, which has not ended yet, goes on from."""
    left = file.name == "resume.state" or (file.name.startswith(".") and file.name.endswith(".tmp"))
    return left and file.parent.name.startswith("block_") and not file.with_name(RUN).exists()


def _of_blocks(study: Study, asked: Mapping[str, str], folder: Path, config: Sequence[Path]) -> Iterator[Fault]:
    """Yield blocks that were not trained as the config says, or do not fit together."""
    for name, training in study.trainings.items():
        for block in training.blocks:
            here = Path(paths.BLOCK.format(point=name, block=paths.block_name(block)))
            if asked.get(str(here / RUN)) != "" or not (folder / here / RUN).is_file():
                continue
            try:
                wrong = _wrong_block(folder / here, study, name, block)
            except (InputError, KeyError, TypeError, ValueError, OSError) as error:
                wrong = RUN, f"it cannot be read ({error})"
            if wrong:
                path = str(here / wrong[0])
                yield Fault(path, "damaged", wrong[1], remake(path, config=config))


def _wrong_block(folder: Path, study: Study, name: str, block: int) -> tuple[str, str] | None:
    """Return the file of a block that is not as planned and what is wrong with it, or None."""
    training = study.trainings[name]
    first = block * training.block_size
    record = read_json(folder / RUN)
    data = read_json(folder.parents[3] / paths.DATA_INFO.format(dataset=training.point.dataset))
    planned, trained = study.training_plan(name, block).to_dict(), record["plan"]
    for key in planned | trained:
        if trained.get(key) != planned.get(key):
            found, wanted = (json.dumps(plan.get(key)) for plan in (trained, planned))
            return RUN, f"{key} is {found}, the config asks for {wanted}"
    if record["data"]["sha256"] != data["sha256"]:
        return RUN, f"trained on other data than {training.point.dataset} holds"
    members = set(range(first, first + training.block_size))
    for table in (HISTORY, TRACE):
        rows = pd.read_parquet(folder / table, columns=["step", "replicate"])
        if set(rows["replicate"]) != members:
            return table, f"it holds other replicates than {first} to {first + training.block_size - 1}"
        if rows["step"].max() != training.timeline.steps:
            return table, f"it ends at step {rows['step'].max()} of {training.timeline.steps}"
    if (folder / EXTRACT).is_file():
        extracted = read_json(folder / EXTRACT)["checkpoints_sha256"]
        if extracted != record["sha256"]["checkpoints.safetensors"]:
            return EXTRACT, f"made from other checkpoints than those of {RUN}"
    return None


def _of_tables(study: Study, asked: Mapping[str, str], folder: Path, config: Sequence[Path]) -> Iterator[Fault]:
    """Yield tables of analyses whose counts of replicates are not the config's."""
    for name, (_, experiment) in study.tables.items():
        path, wanted = paths.TABLE.format(name=name), study.experiments[experiment].replicates
        if asked.get(path) != "" or not (folder / path).is_file():
            continue
        try:
            counts = replicate_counts(pd.read_csv(folder / path, low_memory=False))
        except (ValueError, OSError) as error:
            yield Fault(path, "damaged", f"it is no table ({error})", remake(path, config=config))
            continue
        if counts - {wanted}:
            found = ", ".join(f"{count:g}" for count in sorted(counts - {wanted}))
            what = f"it counts {found} replicates, the config asks for {wanted}"
            yield Fault(path, "damaged", what, remake(path, config=config))


def replicate_counts(table: pd.DataFrame) -> set[float]:
    """Return the numbers of replicates, missing ones among them, that the rows of a table speak of."""
    if "relation" in table:
        # Between trajectories, replicates are paired: their count is that of the pairs.
        table = table[table["relation"] == "within"]
    counts: set[float] = set()
    for suffix in ("", "_a", "_b"):
        if f"missing{suffix}" in table:
            counts |= set(table[f"replicates{suffix}"] + table[f"missing{suffix}"])
    if "replicate" in table:
        counts |= set(table.groupby("point")["replicate"].nunique())
    return counts


if __name__ == "__main__":
    run_command(main)
