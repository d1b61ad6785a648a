"""Command line: compare the results with the config, and name what is stale, missing, damaged or foreign.

Snakemake says which results are missing, and which are older than what they are made from or were made in another
way. What Snakemake does not look at is checked here: every byte, by the checksums in the logs of the jobs and in
the files that carry those of others; and that each block was trained as the config says.
"""

import json
import re
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

from intrinsic_lr.commands.options import Parser
from intrinsic_lr.core import paths
from intrinsic_lr.core.block_files import ASIDE, EXTRACT, KEPT, OTHERS, RESUME, RUN
from intrinsic_lr.core.errors import InputError, printable
from intrinsic_lr.core.locks import is_running
from intrinsic_lr.core.rerun import rerun_command
from intrinsic_lr.core.storage import read_json, sha256, written
from intrinsic_lr.runs.ensembles import checkpoint_sums
from intrinsic_lr.study.config_files import merge_files
from intrinsic_lr.study.study import Study

ROOT = Path(__file__).parents[4]
KINDS = ("stale", "missing", "damaged", "foreign")
STALE = {
    "updated input files": "older than what it is made from",
    "set of input files changed": "made from other files than it would be now",
    "params changed": "made with other settings than those of the config, or by other code",
    "ok": "made from what is to be made again, or by a job that did not end",
}
"""What Snakemake's words for the status of a file mean."""
UNCHECKED = re.compile(
    r"results/(README\.md|seeds/.+|.+/\.snakemake_timestamp|([^/]+/)?(snakemake-report\.html|logs/.+\.log|benchmarks/.+\.tsv)|benchmarks/(engine|analyses|workflow)\.csv)"
)
"""Files that nothing is made from, and that differ from one time to the next."""

Fault = tuple[str, str, str]
"""What is wrong with one file: its path, one of `KINDS`, and the reason in words."""


def main(argv: list[str] | None = None) -> None:
    """Print a line for each fault and one with the counts; exit with status 1 where there are faults."""
    parser = Parser("audit", __doc__)
    parser.add_config()
    parser.add_argument("--directory", type=Path, default=Path("."), help="the folder that holds results/")
    arguments = parser.parse_args(argv)
    study = Study.read(merge_files(arguments.config), arguments.directory / "results")
    if is_running(arguments.directory / ".snakemake"):
        raise InputError(f"{arguments.directory}: a run is at work there; wait for its end, or stop it first")
    asked = summary(arguments.config, arguments.directory)
    lines = audit(study, asked, arguments.directory, arguments.config)
    print("\n".join(map(printable, lines)))
    if len(lines) > 1:
        raise SystemExit(1)


def summary(config: Sequence[Path], folder: Path) -> dict[str, str]:
    """Return Snakemake's word for the status of every file of the config, empty where nothing is to be done."""
    # Modules in the working directory are none of Python's.
    command = [sys.executable, "-P", "-m", "snakemake", "--summary", "--snakefile", str(ROOT / "Snakefile")]
    command += ["--cores", "1", "--directory", str(folder)]
    command += ["--configfile", *map(str, config)] if config else []
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"snakemake --summary: {done.stderr.strip().splitlines()[-1].removeprefix('error: ')}")
    header, *rows = (line.split("\t") for line in done.stdout.splitlines() if "\t" in line)
    file, status, plan = (header.index(name) for name in ("output_file", "status", "plan"))
    return {row[file]: row[status] if row[plan] != "no update" else "" for row in rows}


def audit(study: Study, asked: Mapping[str, str], folder: Path, config: Sequence[Path] = ()) -> list[str]:
    """Compare the files below `folder` with a study; return a line for each fault, and one with the counts.

    A file is known when the config asks for it, or when the log of the job that wrote it is there: another config,
    or an earlier version of this one, may have asked for that. Anything else is foreign. `asked` is what `summary`
    returns; `config` are the files that the commands which repair name.
    """
    known = checksums(folder)
    # Of the faults of a file the first says most.
    faults: dict[str, tuple[str, str]] = {}
    found = (_of_snakemake(asked), _of_files(known, asked, folder), _of_blocks(study, asked, folder))
    for path, kind, reason in chain(*found):
        faults.setdefault(path, (kind, reason))
    lines = []
    for path, (kind, reason) in faults.items():
        if kind in ("stale", "missing"):
            repair = rerun_command(path, "", config)
        elif product := _product(path, asked):
            repair = rerun_command(product, config=config)
        else:
            repair = f"rm {shlex.quote(path)}"
        lines.append(f"{path}: {kind}, {reason}; repair with `{repair}`")
    counts = Counter(kind for kind, _ in faults.values())
    others = sum(not _product(path, asked) for path in known)
    more = f"; {others} files that another config or target asked for" if others else ""
    return [*lines, f"{len(asked)} results of the config: {', '.join(f'{counts[k]} {k}' for k in KINDS)}{more}"]


def _product(path: str, asked: Mapping[str, str]) -> str | None:
    """Return what the config asks for that a file is, or that it lies in: a folder of checkpoints."""
    return next((product for product in (path, str(Path(path).parent)) if product in asked), None)


def checksums(folder: Path) -> dict[str, str | None]:
    """Return the recorded SHA-256 of every file that a job wrote below `folder`.

    It is in the job's log, or in a JSON file beside it whose own is there. None where that is damaged or missing.
    """
    found: dict[str, str | None] = {}
    for pattern in ("logs/**/*.log", "*/logs/**/*.log"):
        for log in sorted((folder / "results").glob(pattern)):
            found |= written(log)
    for name in [name for name in found if name.endswith(".json")]:
        path = Path(name)
        if (folder / path).is_file() and sha256(folder / path) == found[name]:
            sums = read_json(folder / path)["sha256"]
            carried = sums if isinstance(sums, dict) else {f"{path.stem}.safetensors": sums}
        else:
            beside = (file.relative_to(folder / path.parent) for file in (folder / path.parent).rglob("*"))
            in_block = path.parent.name.startswith("block_")
            own = (
                file
                for file in beside
                if not {ASIDE, KEPT, OTHERS} & {*file.parts} and (in_block or file.stem == path.stem)
            )
            carried = {str(file): None for file in own}
        for file, digest in carried.items():
            found.setdefault(str(path.parent / file), digest)
    return {path: digest for path, digest in found.items() if (folder / path).is_file()}


def _of_snakemake(asked: Mapping[str, str]) -> Iterator[Fault]:
    for path, status in asked.items():
        if status == "missing":
            yield path, "missing", "the config asks for it"
        elif status:
            yield path, "stale", STALE.get(status, status)


def _of_files(known: Mapping[str, str | None], asked: Mapping[str, str], folder: Path) -> Iterator[Fault]:
    for file in sorted((folder / "results").rglob("*")):
        path = file.relative_to(folder).as_posix()
        if file.is_dir() or UNCHECKED.fullmatch(path) or _is_gone_on_from(file):
            continue
        if path in known:
            if known[path] is not None and sha256(file) != known[path]:
                yield path, "damaged", "its checksum is not the recorded one"
        elif path in asked:
            yield path, "damaged", "no log records its checksum"
        else:
            yield path, "foreign", "no job of the workflow wrote it"


def _is_gone_on_from(file: Path) -> bool:
    """Tell whether a file is what a training goes on from: one that has not ended yet, or one made longer."""
    block = next((parent for parent in file.parents if parent.name.startswith("block_")), None)
    left = RESUME in file.parts or (file.name.startswith(".") and file.name.endswith(".tmp"))
    return block is not None and ({ASIDE, KEPT, OTHERS} & {*file.parts} or (left and not (block / RUN).exists()))


def _of_blocks(study: Study, asked: Mapping[str, str], folder: Path) -> Iterator[Fault]:
    """Yield blocks that were not trained as the config says, or whose files are not of one training."""
    for name, training in study.trainings.items():
        for block in training.blocks:
            here = Path(paths.BLOCK.format(point=name, block=paths.block_name(block)))
            if asked.get(str(here / RUN)) != "" or not (folder / here / RUN).is_file():
                continue
            try:
                data = read_json(folder / paths.DATA_INFO.format(dataset=training.point.dataset))
                wrong = _wrong_block(folder / here, study.training_plan(name, block).to_dict(), data["sha256"])
            except (InputError, KeyError, TypeError, ValueError, OSError) as error:
                wrong = RUN, f"it cannot be read ({error})"
            if wrong:
                yield str(here / wrong[0]), "damaged", wrong[1]


def _wrong_block(folder: Path, planned: Mapping, data: str) -> tuple[str, str] | None:
    """Return the file of a block that is not as planned and what is wrong with it, or None."""
    record = read_json(folder / RUN)
    trained = record["plan"]
    for key in planned | trained:
        if trained.get(key) != planned.get(key):
            plans = trained, planned
            found, wanted = (json.dumps(plan[key]) if key in plan else "the default" for plan in plans)
            return RUN, f"{key} is {found}, the config asks for {wanted}"
    if record["data"]["sha256"] != data:
        return RUN, "trained on other data than those that are there"
    extracted = read_json(folder / EXTRACT) if (folder / EXTRACT).is_file() else {"sha256": {}}
    if extracted["sha256"] and extracted["checkpoints"] != checkpoint_sums(record):
        return EXTRACT, f"made from other checkpoints than those of {RUN}"
    for file, sums in ((RUN, record["sha256"]), (EXTRACT, extracted["sha256"])):
        if missing := [name for name in sums if not (folder / name).is_file()]:
            return file, f"{missing[0]}, whose checksum it carries, is missing"
    return None
