"""Command line: how far a study is: what is done, running, waiting and failed, and the time left.

Told from the files below the working directory alone, so it serves from a second terminal, on a shared disk and on
Slurm, while the workflow runs, before it and afterwards. Imports no torch.
"""

import argparse
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

from intrinsic_lr.commands.budget import predicted_points
from intrinsic_lr.commands.estimate import merged, spell_time, wall_seconds
from intrinsic_lr.commands.job_state import Job, Sighting, State, look
from intrinsic_lr.core import paths
from intrinsic_lr.core.job_log import run_command
from intrinsic_lr.core.storage import read_json
from intrinsic_lr.core.version import TRAINING_VERSION
from intrinsic_lr.study.study import Study, Training

LAST_LINES = 5
"""Lines shown of the log of a job that failed or was killed."""
ENDED_BADLY = (State.FAILED, State.KILLED, State.STOPPED)
Key = tuple[str, int]
"""A block: its point's name and its number."""


@dataclass(frozen=True)
class Block:
    """One block's training as it is seen.

    Attributes:
        training: the training of its point.
        job: what it leaves.
        seen: what has become of it.
        wall: seconds that it took, once it is done.
    """

    training: Training
    job: Job
    seen: Sighting
    wall: float | None = None

    @property
    def total(self) -> int:
        """Member-steps of the block."""
        return self.training.timeline.steps * self.training.block_size

    @property
    def done(self) -> int:
        """Member-steps that are behind it, as far as it has said."""
        if self.seen.state is State.DONE:
            return self.total
        return self.seen.progress.done if self.seen.progress else 0


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="intrinsic-lr status", description=__doc__)
    parser.add_argument("--config", type=Path, nargs="*", default=[], help="files laid over the default config")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Print how far the study is."""
    study = Study.read(merged(_arguments(argv).config))
    print("\n".join(report(study, time.time())))


def report(study: Study, now: float) -> list[str]:
    """Return the lines of the report on the files below the working directory, at a time in seconds since 1970."""
    blocks = {key: _see(study, key, training, now) for key, training in _keys(study)}
    others = {kind: [(job, look(job, now)) for job in jobs] for kind, jobs in _others(study).items()}
    seconds = seconds_left(study, blocks)
    slots = max(1, sum(block.seen.state is State.RUNNING for block in blocks.values()))
    return [
        *_table(study, blocks, seconds, slots),
        "",
        *_sums(others),
        *_expected(blocks, seconds, slots),
        *_details(blocks, others, _broken_figures(study, now)),
    ]


def _keys(study: Study) -> Iterator[tuple[Key, Training]]:
    for name, training in study.trainings.items():
        for block in training.blocks:
            yield (name, block), training


def _see(study: Study, key: Key, training: Training, now: float) -> Block:
    """Look at a training; one that the config no longer asks for like this is waiting to be trained again."""
    job = _job("train", key, paths.RUN)
    block = Block(training, job, look(job, now))
    if block.seen.state is not State.DONE:
        return block
    record = read_json(job.result)
    planned = study.training_plan(*key).to_dict()
    if record["training_version"] != TRAINING_VERSION or record["plan"] != planned:
        return replace(block, seen=Sighting(State.WAITING))
    return replace(block, wall=record["wall_seconds"])


def _job(rule: str, key: Key, result: str) -> Job:
    point, block = key[0], paths.block_name(key[1])
    name = f"{point}/block_{block}"
    log = paths.LOG.format(rule=rule, job=name)
    return Job(f"{rule} {name}", Path(result.format(point=point, block=block)), Path(log))


def _blocks_of(study: Study, experiment: str) -> list[Key]:
    """Return the blocks that an experiment's replicates lie in."""
    wanted = study.experiments[experiment]
    return [
        (point.name, block)
        for point in wanted.points
        for block in range(ceil(wanted.replicates / study.trainings[point.name].block_size))
    ]


def _others(study: Study) -> dict[str, list[Job]]:
    """Return the jobs beside the trainings by what they make, as far as something reads it."""

    def job(rule: str, name: str, result: str) -> Job:
        return Job(f"{rule} {name}", Path(result), Path(paths.LOG.format(rule=rule, job=name)))

    predicted = predicted_points(study)
    analyses = [(name, analysis) for name, wanted in study.experiments.items() for analysis in wanted.analyses]
    return {
        "data sets": [job("prepare_data", name, paths.DATA_INFO.format(dataset=name)) for name in study.datasets],
        "predictions": [_job("extract", key, paths.EXTRACT) for key, _ in _keys(study) if key[0] in predicted],
        "analyses": [job(kind, name, paths.TABLE.format(name=f"{kind}_{name}")) for name, kind in analyses],
        "claims": [job("claim", claim, paths.FINDINGS.format(claim=claim)) for claim in study.claims],
    }


def _broken_figures(study: Study, now: float) -> list[tuple[Job, Sighting]]:
    """Return the drawings and summaries that failed: their logs say so until they are tried again."""
    logs = Path(paths.LOG.format(rule="", job="any")).parent
    found = [log for name in study.experiments for log in sorted(logs.glob(f"figure_*/{name}.log"))]
    found += sorted(logs.glob("*.log"))
    jobs = [Job(str(log.relative_to(logs).with_suffix("")), log / "none", log) for log in found]
    seen = [(job, look(job, now)) for job in jobs]
    return [(job, sighting) for job, sighting in seen if sighting.state is State.FAILED]


def seconds_left(study: Study, blocks: Mapping[Key, Block]) -> dict[Key, float | None]:
    """Return the seconds of training left of each block that is not done; None where nothing like it was timed.

    A running training says so itself. Others take as long for a member-step as the median of the trainings with
    the same network, data, batches and arithmetic that are done or running.
    """
    rates: dict[tuple, list[float]] = defaultdict(list)
    for block in blocks.values():
        progress = block.seen.progress
        if block.wall is not None:
            rates[_kind(study, block)].append(block.wall / block.total)
        elif progress and progress.seconds and progress.done < progress.total:
            rates[_kind(study, block)].append(progress.seconds / (progress.total - progress.done))
    left: dict[Key, float | None] = {}
    for key, block in blocks.items():
        known, progress = rates.get(_kind(study, block)), block.seen.progress
        if block.seen.state is State.RUNNING and progress and progress.seconds is not None:
            left[key] = progress.seconds
        elif block.seen.state is not State.DONE:
            left[key] = statistics.median(known) * (block.total - block.done) if known else None
    return left


def _kind(study: Study, block: Block) -> tuple:
    point = block.training.point
    model = study.model_text(point.model)
    return model, point.dataset, point.batch_size, point.augmentation, point.dtype, point.precision


def _table(
    study: Study, blocks: Mapping[Key, Block], seconds: Mapping[Key, float | None], slots: int
) -> list[str]:
    width = max(map(len, [*study.experiments, ALL])) + 2
    header = f"{'trainings of':{width}}" + "".join(f"{state:>9}" for state in State)
    lines = [f"{header}{'member-steps':>14}{'time left':>14}"]
    rows = {name: _blocks_of(study, name) for name in study.experiments} | {ALL: list(blocks)}
    for name, keys in rows.items():
        lines.append(f"{name:{width}}{_row([blocks[key] for key in keys])}{_left(keys, seconds, slots):>14}")
    return lines


ALL = "all, shared ones once"


def _row(blocks: Sequence[Block]) -> str:
    counts = Counter(block.seen.state for block in blocks)
    share = sum(block.done for block in blocks) / sum(block.total for block in blocks)
    return "".join(f"{counts[state]:>9}" for state in State) + f"{_percent(share):>14}"


def _percent(share: float) -> str:
    """Spell a share, never rounded up to the whole."""
    return f"{int(share * 100)} %"


def _left(keys: Iterable[Key], seconds: Mapping[Key, float | None], slots: int) -> str:
    wanted = [seconds[key] for key in keys if key in seconds]
    if None in wanted:
        return "unknown"
    return spell_time(wall_seconds(wanted, slots)) if wanted else "-"


def _sums(others: Mapping[str, Sequence[tuple[Job, Sighting]]]) -> list[str]:
    """Return a line for each kind of job beside the trainings."""
    lines = []
    for kind, seen in others.items():
        counts = Counter(sighting.state for _, sighting in seen)
        more = "".join(
            f", {counts[state]} {state}" for state in State if state is not State.DONE and counts[state]
        )
        if seen:
            lines.append(f"{kind}: {counts[State.DONE]} of {len(seen)} done{more}")
    return lines


def _expected(blocks: Mapping[Key, Block], seconds: Mapping[Key, float | None], slots: int) -> list[str]:
    """Return the line on the time left."""
    if not seconds:
        return ["all trainings are done"]
    known = [value for value in seconds.values() if value is not None]
    running = any(block.seen.state is State.RUNNING for block in blocks.values())
    unknown = len(seconds) - len(known)
    more = (
        f"; of {unknown} trainings nothing like them was timed yet (`make estimate` times them)" if unknown else ""
    )
    return [
        f"expected: {spell_time(wall_seconds(known, slots))} for the trainings, {slots} at a time{more}",
        *([] if running else ["no training is running; `make results` goes on with what is left"]),
    ]


def _details(
    blocks: Mapping[Key, Block],
    others: Mapping[str, Sequence[tuple[Job, Sighting]]],
    broken: Sequence[tuple[Job, Sighting]],
) -> list[str]:
    """Return what runs, and what ended without a result with the last lines of its log."""
    seen = [(block.job, block.seen) for block in blocks.values()]
    seen += [pair for pairs in others.values() for pair in pairs]
    lines = []
    for state in (State.RUNNING, *ENDED_BADLY):
        for job, sighting in [*seen, *broken]:
            if sighting.state is state:
                lines += ["", *_detail(job, sighting)] if state in ENDED_BADLY else [_detail(job, sighting)[0]]
    return ["", *lines] if lines else []


def _detail(job: Job, sighting: Sighting) -> list[str]:
    progress = sighting.progress
    share = f", {_percent(progress.done / progress.total)}" if progress and progress.total else ""
    left = ""
    if sighting.state is State.RUNNING and progress and progress.seconds is not None:
        left = f", {spell_time(progress.seconds)} left"
    since = f", last sign of life {spell_time(max(0.0, sighting.quiet or 0.0))} ago"
    first = f"{sighting.state}: {job.name}{share}{left}{since}"
    if sighting.state is State.RUNNING:
        return [first]
    return [first, f"  {job.log}:", *(f"    {line}" for line in sighting.last_lines(LAST_LINES))]


if __name__ == "__main__":
    run_command(main)
