"""Command line: how far a study is: what is done, running, waiting and failed, and the time left.

Told from the files below the working directory alone, so it serves from a second terminal, on a shared disk and on
Slurm, while the workflow runs, before it and afterwards. Imports no torch.
"""

import json
import re
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from intrinsic_lr.commands.budget import predicted_points, wall_seconds
from intrinsic_lr.commands.options import Parser
from intrinsic_lr.core import paths
from intrinsic_lr.core.disk import format_duration
from intrinsic_lr.core.errors import InputError, printable
from intrinsic_lr.core.job_log import SILENT_SECONDS
from intrinsic_lr.core.progress import Progress, read_progress
from intrinsic_lr.core.storage import open_result, read_json
from intrinsic_lr.core.version import TRAINING_VERSION
from intrinsic_lr.study.config_files import merge_files
from intrinsic_lr.study.plan import TrainingPlan
from intrinsic_lr.study.results import Results, blocks_of
from intrinsic_lr.study.study import Study

LOGS = Path("results/logs")
LAST_LINES, TAIL_BYTES = 5, 1 << 14
"""Lines shown of the log of a job that failed or was killed, and bytes looked at from its end."""
ALL = "all, shared ones once"
_FAILED = re.compile(r"^(error: |Traceback \(most recent call last\))", re.MULTILINE)
_STOPPED = re.compile(r"^stopped (after|before) ", re.MULTILINE)

Key = tuple[str, int]
"""A block: its point's name and its number."""


State = StrEnum("State", ["DONE", "RUNNING", "WAITING", "STOPPED", "KILLED", "FAILED"])
"""What has become of a job."""


class Job(NamedTuple):
    """What is seen of a job."""

    log: Path  # which every start of it empties
    state: State
    progress: Progress | None = None
    quiet: float = 0.0  # seconds since its last sign of life
    text: str = ""  # the end of the log
    total: int = 0  # member-steps of a training
    wall: float | None = None  # seconds that it took, once it is done

    @property
    def done(self) -> int:
        """Member-steps done, as far as the training has said."""
        if self.state is State.DONE:
            return self.total
        return self.progress.done if self.progress else 0


def look(result: Path, log: Path, now: float) -> Job:
    """Look at a job at the time `now`, in seconds since 1970.

    A job without a result whose log names no error is running as long as the log is young (`job_log.heartbeat`).
    After that it was killed: by a signal that no program can answer, for its memory, or with its machine.
    """
    if result.exists():
        return Job(log, State.DONE)
    try:
        with open_result(log) as handle:
            text = handle.read()[-TAIL_BYTES:].decode(errors="replace")
        quiet = now - log.stat().st_mtime
    except FileNotFoundError:
        return Job(log, State.WAITING)
    if _FAILED.search(text):
        state = State.FAILED
    elif _STOPPED.search(text):
        state = State.STOPPED
    else:
        state = State.RUNNING if quiet < SILENT_SECONDS else State.KILLED
    return Job(log, state, read_progress(text), max(0.0, quiet), text)


def main(argv: list[str] | None = None) -> None:
    """Print how far the study is."""
    parser = Parser("status", __doc__)
    parser.add_config()
    parser.add_argument("--folder", action="store_true", help="say only where the study's tables and page lie")
    given = parser.parse_args(argv)
    config = merge_files(given.config)
    if given.folder:
        print(paths.StudyPaths.of(config["study"]).folder)
        return
    study = Study.read(config, Path("results"))
    print("\n".join(map(printable, report(study, time.time()))))


def report(study: Study, now: float) -> list[str]:
    """Return the lines on the files below the working directory, at a time in seconds since 1970."""
    blocks = look_at_trainings(study, now)
    seconds = seconds_left(study, blocks)
    running = sum(job.state is State.RUNNING for job in blocks.values())
    slots = max(1, running)
    lines = [*_table(study, blocks, seconds, slots), "", *_sums(study)]
    if not seconds:
        lines.append("all trainings are done")
    else:
        known = [value for value in seconds.values() if value is not None]
        unknown = len(seconds) - len(known)
        more = f"; of {unknown} nothing like them was timed yet (`make estimate` times them)" if unknown else ""
        expected = format_duration(wall_seconds(known, slots)) if known else "unknown"
        lines.append(f"expected: {expected} for the trainings, {slots} at a time{more}")
        if not running:
            lines.append("no training is running; `make results` goes on with what is left")
    jobs = [*blocks.values(), *_failed(study, now)]
    return lines + [line for state in State for job in jobs if job.state is state for line in _detail(job)]


def look_at_trainings(study: Study, now: float) -> dict[Key, Job]:
    """Look at every training; one that was done otherwise than the config says now waits to be done again."""
    jobs = {}
    changed = {name for name in study.datasets if _images_changed(study, name)}
    for name, training in study.trainings.items():
        for number in training.blocks:
            block, plan = paths.block_name(number), study.training_plan(name, number)
            result = Path(paths.RUN.format(point=name, block=block))
            job = look(result, Path(paths.LOG.format(rule="train", job=f"{name}/block_{block}")), now)
            if job.state is State.DONE:
                job = _judged(job, result, plan, training.point.dataset in changed)
            jobs[name, number] = job._replace(total=plan.steps * len(plan.members))
    return jobs


def _judged(job: Job, result: Path, plan: TrainingPlan, images_changed: bool) -> Job:
    """Return a finished training with the seconds that it took, or as not done where its record says otherwise."""
    try:
        record = read_json(result)
    except InputError as error:
        return job._replace(state=State.FAILED, text=str(error))
    same = record.get("training_version") == TRAINING_VERSION and record.get("plan") == plan.to_dict()
    if same and not images_changed:
        return job._replace(wall=record.get("wall_seconds"))
    return job._replace(state=State.WAITING)


def _images_changed(study: Study, dataset: str) -> bool:
    """Tell whether a folder of images holds others now than those that were prepared."""
    images, info = json.loads(study.data_source(dataset)).get("images"), paths.DATA_INFO.format(dataset=dataset)
    return images is not None and Path(info).exists() and read_json(info).get("images") != images


def seconds_left(study: Study, blocks: Mapping[Key, Job]) -> dict[Key, float | None]:
    """Return the seconds of training left of each block that is not done; None where nothing like it was timed.

    A running training says so itself. Others take as long for a member-step as the median of the trainings with
    the same network, data, batches and arithmetic that are done.
    """

    def kind(key: Key) -> tuple:
        point = study.trainings[key[0]].point
        arithmetic = point.dtype, point.precision, point.compile
        return point.model, point.dataset, point.batch_size, point.augmentation, *arithmetic

    rates: dict[tuple, list[float]] = defaultdict(list)
    for key, job in blocks.items():
        if job.wall is not None:
            rates[kind(key)].append(job.wall / job.total)
    left: dict[Key, float | None] = {}
    for key, job in blocks.items():
        if job.state is State.RUNNING and job.progress and job.progress.seconds is not None:
            left[key] = job.progress.seconds
        elif job.state is not State.DONE:
            known = rates.get(kind(key))
            left[key] = statistics.median(known) * (job.total - job.done) if known else None
    return left


def _table(study: Study, blocks: Mapping[Key, Job], seconds: Mapping[Key, float | None], slots: int) -> list[str]:
    """Return a row for each experiment, of the blocks that its replicates lie in, and one for all."""
    rows = {name: blocks_of(study, name) for name in study.experiments} | {ALL: list(blocks)}
    width = max(map(len, rows)) + 2
    states = "".join(f"{state:>9}" for state in State)
    lines = [f"{'trainings of':{width}}{states}{'member-steps':>14}{'time left':>14}"]
    for name, keys in rows.items():
        jobs = [blocks[key] for key in keys]
        counts = Counter(job.state for job in jobs)
        cells = "".join(f"{counts[state]:>9}" for state in State)
        # Never rounded up to the whole.
        share = 100 * sum(job.done for job in jobs) // sum(job.total for job in jobs)
        left = [seconds[key] for key in keys if key in seconds]
        time_left = "unknown" if None in left else format_duration(wall_seconds(left, slots)) if left else "-"
        lines.append(f"{name:{width}}{cells}{share:>12} %{time_left:>14}")
    return lines


def _sums(study: Study) -> list[str]:
    """Return a line for each kind of result beside the trainings, as far as something reads it."""
    predicted = predicted_points(study) & study.trainings.keys()
    blocks = [(name, paths.block_name(block)) for name in predicted for block in study.trainings[name].blocks]
    results = {
        "data sets": [paths.DATA_INFO.format(dataset=name) for name in study.datasets],
        "predictions": [paths.EXTRACT.format(point=name, block=block) for name, block in blocks],
        "tables of analyses": [study.paths.table(name) for name in study.tables],
        "claims": Results(study).findings,
    }
    done = {kind: sum(Path(file).exists() for file in files) for kind, files in results.items()}
    return [f"{kind}: {done[kind]} of {len(files)} done" for kind, files in results.items() if files]


def _failed(study: Study, now: float) -> list[Job]:
    """Return the jobs beside the trainings that failed: their logs say so until they are tried again."""
    names = {"", *study.experiments, *study.claims, *study.datasets}
    jobs = []
    folders = dict.fromkeys((LOGS, Path(study.paths.folder, "logs")))
    for log in (log for folder in folders for log in sorted(folder.rglob("*.log"))):
        rule, _, name = _job_name(log).partition("/")
        if rule != "train" and (name in names or name.split("/")[0] in study.trainings):
            jobs.append(look(log / "none", log, now))
    return [job for job in jobs if job.state is State.FAILED]


def _job_name(log: Path) -> str:
    """Return the rule of a log's job and what it makes, `train/<point>/<block>`."""
    return log.with_suffix("").as_posix().split("/logs/", 1)[1]


def _detail(job: Job) -> list[str]:
    """Return the lines on a job that runs, or that ended without a result."""
    if job.state in (State.DONE, State.WAITING):
        return []
    line, progress = f"{job.state}: {_job_name(job.log)}", job.progress
    if progress and progress.total:
        line += f", {100 * progress.done // progress.total} %"
    if job.state is State.RUNNING and progress and progress.seconds is not None:
        line += f", {format_duration(progress.seconds)} left"
    line += f", last sign of life {format_duration(job.quiet)} ago"
    if job.state is State.RUNNING:
        return [line]
    shown = [f"    {text}" for text in job.text.splitlines() if text.strip()]
    return ["", line, f"  {job.log}:", *shown[-LAST_LINES:]]
