"""Command line: what a study will take on this machine, by a short calibration that needs no data."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from intrinsic_lr.commands.budget import Budget, budgets, wall_seconds
from intrinsic_lr.commands.options import Parser
from intrinsic_lr.core.disk import check_disk, format_bytes, format_duration, nearest
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.user_code import UserCode
from intrinsic_lr.data.dataset_sizes import Sizes
from intrinsic_lr.study.config_files import FOLDER, merge_files
from intrinsic_lr.study.model_spec import ModelSpec
from intrinsic_lr.study.plan import TrainingPlan
from intrinsic_lr.study.study import Study
from intrinsic_lr.study.timeline import Segment, Timeline

SECONDS, ALL_SECONDS = 1.0, 20.0
"""How long the steps of one setting, and of all settings together, are timed at most, if a step is not longer."""
IMAGES, EVALUATED_IMAGES = 2048, 512
"""Images of the full batch, and of either set in an evaluation, that are timed; more take in proportion."""
RESULTS = Path("results")


class Setting(NamedTuple):
    """What the speed of a training depends on; `members` are the replicates trained together."""

    model: ModelSpec
    sizes: Sizes
    batch_size: int | str
    members: int
    dtype: str = "float32"
    precision: str = "float32"
    augmentation: str = "none"
    optimiser: str = "sgd"
    optimiser_code: UserCode | None = None
    augmentation_code: UserCode | None = None


class Speed(NamedTuple):
    """Measured times in seconds: of a step of the block, and of evaluating one member on all images once."""

    step: float
    evaluation: float


def main(argv: list[str] | None = None) -> None:
    """Print trainings, member-steps, hours and disk of a study, and refuse one that the disk has no room for."""
    parser = Parser("estimate", __doc__)
    parser.add_config()
    parser.add_argument("--cores", default="all", help="cores that the workflow may use, or all")
    arguments = parser.parse_args(argv)
    if arguments.cores != "all" and not (arguments.cores.isdecimal() and int(arguments.cores)):
        raise InputError(f"--cores: must be all or a whole number from 1 on, got {arguments.cores!r}")
    cores = os.cpu_count() or 1 if arguments.cores == "all" else int(arguments.cores)
    study = Study.read(merge_files(arguments.config))
    found, unknown = budgets(study)
    settings = {item.name: _setting(study, item) for item in found}
    jobs = max(1, cores // study.config["threads"])
    print(f"calibrating {len(set(settings.values()))} settings, {jobs} at a time ...", file=sys.stderr, flush=True)
    speeds = calibrate(set(settings.values()), study.config["device"], study.config["threads"], jobs)
    start = start_seconds()
    seconds = {}
    for item in found:
        speed, training = speeds[settings[item.name]], item.training
        evaluations = item.rows * training.block_size
        seconds[item.name] = start + training.timeline.steps * speed.step + evaluations * speed.evaluation
    print("\n".join(report(study, found, len(unknown), seconds, jobs)))
    for file in map(Path, arguments.config):
        if (smaller := FOLDER / f"{file.stem}_small.yaml").is_file():
            print(f"less of the same: {smaller.parent.name}/{smaller.name}")
    needed = sum(item.bytes for item in found)
    check_disk(RESULTS, needed, "the checkpoints, records and predictions of the study")


def _setting(study: Study, item: Budget) -> Setting:
    point, members = item.training.point, item.training.block_size
    spec = ModelSpec.from_config(study.config["models"][point.model])
    axes = point.dtype, point.precision, point.augmentation, point.optimiser
    return Setting(spec, item.sizes, point.batch_size, members, *axes, **item.training.code)


def calibrate(settings: Iterable[Setting], device: str, threads: int, jobs: int) -> dict[Setting, Speed]:
    """Time every setting in as many processes at once as the workflow will run: they share the memory's speed."""
    ordered = sorted(settings, key=repr)
    seconds = min(SECONDS, ALL_SECONDS * jobs / max(len(ordered), 1))
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        found = pool.map(partial(measure, device=device, threads=threads, seconds=seconds), ordered)
        return dict(zip(ordered, found, strict=True))


def measure(setting: Setting, device: str, threads: int, seconds: float = SECONDS) -> Speed:
    """Time the steps of one setting, and an evaluation, on random images, for about so many seconds.

    Where a step would be longer, fewer members are timed: the others take in proportion.
    """
    import torch

    from intrinsic_lr.data.dataset import Dataset
    from intrinsic_lr.models.devices import resolve
    from intrinsic_lr.models.ensemble import build
    from intrinsic_lr.training.batches import Batches
    from intrinsic_lr.training.evaluation import EvaluationData, evaluate
    from intrinsic_lr.training.loop import take_steps
    from intrinsic_lr.training.state import DTYPES, State

    torch.set_num_threads(threads)
    place, sizes = resolve(device), setting.sizes
    generator = torch.Generator().manual_seed(0)
    full = setting.batch_size == "full"
    count = min(sizes.train, IMAGES) if full else max(setting.batch_size, min(sizes.train, IMAGES))
    images = torch.randint(256, (count, *sizes.shape), generator=generator, dtype=torch.uint8).to(place)
    labels = torch.randint(sizes.classes, (count,), generator=generator).to(place)
    middle = torch.full((sizes.shape[0],), 0.5, dtype=DTYPES[setting.dtype], device=place)
    data = Dataset(images, labels, images[:1], labels[:1], middle, middle / 2, {})
    own = {name: value for name, value in setting._asdict().items() if name not in ("sizes", "members")}
    plan = TrainingPlan(
        **own,
        point="calibration",
        timeline=Timeline((Segment(10**9, 0.001, 0.001),)),
        checkpoints=(0,),
        log_every=1,
        trace_every=1,
        replicates=(0, 1),
    )
    model = build(plan.model, sizes.shape, sizes.classes)

    def run(plan: TrainingPlan, seconds: float) -> tuple[State, float]:
        """Train for about so many seconds; return the state and the seconds that a step takes."""
        state, batches = State.initial(plan, model, place), Batches(plan, data)

        def steps(number: int) -> float:
            started = time.perf_counter()
            take_steps(state, plan, model, batches, number)
            if place.type == "cuda":
                torch.cuda.synchronize()
            return time.perf_counter() - started

        steps(1)  # a warm-up
        number = max(1, round(seconds / steps(1)))
        return state, steps(number) / number

    state, step = run(plan, 0.0)
    members = min(setting.members, max(1, int(seconds / step)))
    if step < seconds:
        state, step = run(replace(plan, replicates=(0, members)), seconds)
    step *= setting.members / members * (sizes.train / count if full else 1)
    shown = data.normalize(images[:EVALUATED_IMAGES])
    part = EvaluationData(shown, labels[:EVALUATED_IMAGES], shown, labels[:EVALUATED_IMAGES])
    evaluate(model, state.params, part)
    started = time.perf_counter()
    evaluate(model, state.params, part)
    spent = (time.perf_counter() - started) / members / (2 * len(shown))
    return Speed(step, spent * (sizes.train + sizes.test))


def start_seconds() -> float:
    """Return the seconds that a job takes to start."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-P", "-c", "import torch, pandas, pyarrow"], check=True)
    return time.perf_counter() - started


def report(
    study: Study, found: Sequence[Budget], unknown: int, seconds: Mapping[str, float], jobs: int
) -> list[str]:
    """Return the lines of the report: an experiment each, and the sums.

    Of `unknown` points the data set's sizes are not known yet; `seconds` are those of a block of each point.
    """
    lines = study.code
    table = [("experiment", "blocks", "member-steps", "time, one by one", "disk")]
    points = {name: {point.name for point in each.points} for name, each in study.experiments.items()}
    rows = {name: [item for item in found if item.name in named] for name, named in points.items()}
    for name, items in (rows | {"all, shared trainings once": found}).items():
        blocks = sum(len(item.training.blocks) for item in items)
        steps = sum(item.member_steps for item in items)
        spent = sum(seconds[item.name] * len(item.training.blocks) for item in items)
        size = format_bytes(sum(item.bytes for item in items))
        table.append((name, f"{blocks:,}", f"{steps:,}", format_duration(spent), size))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines += ["  ".join([f"{name:{widths[0]}}", *map(str.rjust, rest, widths[1:])]) for name, *rest in table]
    each = [seconds[item.name] for item in found for _ in item.training.blocks]
    parts = ", ".join(
        f"{part}s {format_bytes(sum(getattr(item, f'{part}_bytes') for item in found))}"
        for part in ("checkpoint", "prediction", "record")
    )
    expected, longest = format_duration(wall_seconds(each, jobs)), format_duration(max(each, default=0.0))
    lines += [
        f"expected: {expected} for the trainings, {jobs} at a time; the longest takes {longest}",
        f"disk: {parts}; free: {format_bytes(shutil.disk_usage(nearest(RESULTS)).free)}",
        "not counted: extraction, analyses, claims and figures (seconds each)",
    ]
    if unknown:
        lines.append(f"not counted: {unknown} points of data sets whose sizes only their images tell")
    return lines
