"""Command line: what a study will take on this machine, by a short calibration that needs no data."""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from intrinsic_lr.commands import budget
from intrinsic_lr.commands.budget import Budget
from intrinsic_lr.core.job_log import run_command
from intrinsic_lr.data.dataset_sizes import Sizes
from intrinsic_lr.study.config_files import merged
from intrinsic_lr.study.model_spec import ModelSpec
from intrinsic_lr.study.plan import TrainingPlan
from intrinsic_lr.study.schedules import Segment, Timeline
from intrinsic_lr.study.study import Study

SECONDS = 1.0
"""How long the steps of one setting are timed."""
EVALUATED_IMAGES = 512
"""Images of either set on which evaluation is timed; its cost is proportional to their number."""


@dataclass(frozen=True)
class Setting:
    """What the speed of a training depends on.

    Attributes:
        model: canonical text.
        sizes: of the data set.
        batch_size: images a step, or `full`.
        members: replicates trained together.
        dtype, precision, augmentation: as a point has them.
    """

    model: str
    sizes: Sizes
    batch_size: int | str
    members: int
    dtype: str
    precision: str
    augmentation: str


@dataclass(frozen=True)
class Speed:
    """Measured times in seconds: of a step of the block, and of evaluating one member on all images once."""

    step: float
    evaluation: float


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="intrinsic-lr estimate", description=__doc__)
    add = parser.add_argument
    add("--config", type=Path, nargs="*", default=[], help="files laid over the default config, in this order")
    add("--cores", type=int, default=os.cpu_count() or 1, help="cores that the workflow may use")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Print trainings, member-steps, hours and disk of a study, and refuse one that the disk has no room for."""
    arguments = _arguments(argv)
    study = Study.read(merged(arguments.config))
    found, unknown = budget.budgets(study)
    settings = {item.training.point.name: setting_of(study, item) for item in found}
    jobs = max(1, arguments.cores // study.config["threads"])
    print(f"calibrating {len(set(settings.values()))} settings, {jobs} at a time ...", file=sys.stderr, flush=True)
    speeds = calibrate(set(settings.values()), study.config["device"], study.config["threads"], jobs)
    seconds = {item.training.point.name: block_seconds(item, speeds, settings) for item in found}
    print("\n".join(report(study, found, unknown, seconds, start_seconds(), jobs)))
    needed = sum(item.bytes for item in found)
    budget.check_disk(Path("results"), needed, "the checkpoints, records and predictions of the study")


def setting_of(study: Study, item: Budget) -> Setting:
    """Return what the speed of a point's training depends on."""
    point = item.training.point
    sizes = budget.known_sizes(study, point.dataset)
    return Setting(
        study.model_text(point.model),
        sizes,
        point.batch_size,
        item.training.block_size,
        point.dtype,
        point.precision,
        point.augmentation,
    )


def calibrate(settings: Iterable[Setting], device: str, threads: int, jobs: int) -> dict[Setting, Speed]:
    """Time every setting in as many processes at once as the workflow will run: they share the memory's speed."""
    ordered = sorted(settings, key=repr)
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        found = pool.map(measure, ordered, [device] * len(ordered), [threads] * len(ordered))
        return dict(zip(ordered, found, strict=True))


def measure(setting: Setting, device: str, threads: int) -> Speed:
    """Time the steps of one setting, and an evaluation, on random images."""
    import torch

    from intrinsic_lr.data.dataset import Dataset
    from intrinsic_lr.models.devices import resolve
    from intrinsic_lr.models.ensemble import build
    from intrinsic_lr.training.evaluation import EvaluationData, evaluate
    from intrinsic_lr.training.loop import DTYPES, Batches, State, take_step

    torch.set_num_threads(threads)
    place, sizes = resolve(device), setting.sizes
    generator = torch.Generator().manual_seed(0)
    count = sizes.train if setting.batch_size == "full" else max(setting.batch_size, min(sizes.train, 2048))
    images = torch.randint(256, (count, *sizes.shape), generator=generator, dtype=torch.uint8).to(place)
    labels = torch.randint(sizes.classes, (count,), generator=generator).to(place)
    middle = torch.full((sizes.shape[0],), 0.5, dtype=DTYPES[setting.dtype], device=place)
    data = Dataset(images, labels, images[:1], labels[:1], middle, middle / 2, {})
    plan = _plan(setting)
    model = build(plan.model, sizes.shape, sizes.classes)
    state, batches = State.initial(plan, model, place), Batches(plan, data)

    def steps(number: int) -> float:
        """Return the seconds that so many steps take."""
        started = time.perf_counter()
        for _ in range(number):
            take_step(state, plan, model, batches)
        if place.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    steps(2)
    once = steps(1)
    number = max(1, round(SECONDS / once))
    shown = data.normalize(images[:EVALUATED_IMAGES])
    part = EvaluationData(shown, labels[:EVALUATED_IMAGES], shown, labels[:EVALUATED_IMAGES])
    step = steps(number) / number
    evaluate(model, state.params, part)
    started = time.perf_counter()
    evaluate(model, state.params, part)
    spent = (time.perf_counter() - started) / setting.members / (2 * len(shown))
    return Speed(step, spent * (sizes.train + sizes.test))


def _plan(setting: Setting) -> TrainingPlan:
    return TrainingPlan(
        point="calibration",
        model=ModelSpec.parse(setting.model),
        timeline=Timeline((Segment(10**9, 0.001, 0.001),)),
        batch_size=setting.batch_size,
        checkpoints=(0,),
        log_every=1,
        trace_every=1,
        replicates=(0, setting.members),
        augmentation=setting.augmentation,
        dtype=setting.dtype,
        precision=setting.precision,
    )


def block_seconds(item: Budget, speeds: dict[Setting, Speed], settings: dict[str, Setting]) -> float:
    """Return the seconds that one block of a point takes: its steps, and the evaluations of its history."""
    speed, training = speeds[settings[item.training.point.name]], item.training
    return training.timeline.steps * speed.step + item.rows * training.block_size * speed.evaluation


def start_seconds() -> float:
    """Return the seconds that a job takes to start."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch, pandas, pyarrow"], check=True)
    return time.perf_counter() - started


def wall_seconds(blocks: Sequence[float], jobs: int) -> float:
    """Return how long jobs take that are begun longest first, so many at a time."""
    ends = [0.0] * jobs
    for seconds in sorted(blocks, reverse=True):
        ends[ends.index(min(ends))] += seconds
    return max(ends)


def report(
    study: Study,
    found: Sequence[Budget],
    unknown: Sequence[str],
    seconds: dict[str, float],
    start: float,
    jobs: int,
) -> list[str]:
    """Return the lines of the report: an experiment each, and the sums."""
    by_name = {item.training.point.name: item for item in found}
    lines = [f"{'experiment':32}{'blocks':>8}{'member-steps':>16}{'hours':>10}{'disk':>10}"]
    for name, experiment in study.experiments.items():
        items = [by_name[point.name] for point in experiment.points if point.name in by_name]
        lines.append(_row(name, items, seconds, start))
    lines.append(_row("all, shared trainings once", list(found), seconds, start))
    blocks = [seconds[item.training.point.name] + start for item in found for _ in item.training.blocks]
    free = shutil.disk_usage(Path.cwd()).free
    parts = {
        "checkpoints": sum(item.checkpoint_bytes for item in found),
        "predictions": sum(item.prediction_bytes for item in found),
        "records": sum(item.record_bytes for item in found),
    }
    lines += [
        f"expected: {spell_time(wall_seconds(blocks, jobs))} for the trainings, {jobs} at a time; "
        f"the longest takes {spell_time(max(blocks, default=0.0))}",
        f"disk: {', '.join(f'{part} {budget.format_bytes(size)}' for part, size in parts.items())}; free: "
        f"{budget.format_bytes(free)}",
        "not counted: extraction, analyses, claims and figures (seconds each)",
    ]
    if unknown:
        lines.append(f"not counted: {len(unknown)} points of data sets whose sizes only their images tell")
    return lines


def _row(name: str, items: Sequence[Budget], seconds: dict[str, float], start: float) -> str:
    blocks = sum(len(item.training.blocks) for item in items)
    steps = sum(item.member_steps for item in items)
    spent = sum((seconds[item.training.point.name] + start) * len(item.training.blocks) for item in items)
    size = budget.format_bytes(sum(item.bytes for item in items))
    return f"{name:32}{blocks:>8}{steps:>16,}{spent / 3600:>10.3f}{size:>10}"


def spell_time(seconds: float) -> str:
    """Return a time in words: 1.5 hours, 12 minutes or 40 seconds."""
    if seconds >= 5400:
        return f"{seconds / 3600:.1f} hours"
    return f"{seconds / 60:.0f} minutes" if seconds >= 180 else f"{seconds:.0f} seconds"


if __name__ == "__main__":
    run_command(main)
