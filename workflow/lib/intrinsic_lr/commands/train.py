"""Command line: train one block of replicates of one point."""

import argparse
import os
from pathlib import Path
from typing import NoReturn

from intrinsic_lr.core.errors import InputError, run_command
from intrinsic_lr.core.imports import quick_imports
from intrinsic_lr.core.leases import leased
from intrinsic_lr.study.points import check_precision, check_sphere
from intrinsic_lr.study.schedules import Timeline


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(message)


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = _Parser(prog="python -m intrinsic_lr.commands.train", description=__doc__)
    add = parser.add_argument
    add("--point", required=True, help="name of the point; names the streams of data order and augmentation")
    add("--model", required=True, help="such as mlp:depth=2,norm=batch,width=64")
    add("--timeline", required=True, help="STEPS@LR@WEIGHT_DECAY[@GROWTH[@TAPER@TAPER_RATIO]], joined by commas")
    add("--momentum", type=float, default=0.0)
    add("--batch-size", required=True, help="a whole number, or full")
    add("--checkpoints", required=True, help="steps at which weights are kept, joined by commas")
    add("--log-every", type=int, required=True, help="steps between two rows of the history")
    add("--trace-every", type=int, required=True, help="steps between two rows of the trace")
    add("--replicates", required=True, help="FIRST:END, the replicates of the block")
    add("--seed", type=int, default=0, help="the study's seed")
    add("--init-seed", type=int, default=0)
    add("--init-sharing", choices=("independent", "shared"), default="independent")
    add("--init-scale", type=float, default=1.0)
    add("--augmentation", default="none", help="none, flip, crop=N or crop=N,flip")
    add("--dtype", choices=("float32", "float64"), default="float32")
    add("--data-order", type=int, help="number of a stream of data order and augmentation that points share")
    add("--constraint", choices=("none", "sphere"), default="none", help="sphere: norms stay as initialised")
    add("--precision", choices=("float32", "tf32", "bfloat16"), default="float32", help="of products in a step")
    add("--data", type=Path, required=True, help="data file of prepare_data")
    add("--info", type=Path, required=True, help="description of prepare_data")
    add("--note", default="", help="where the data come from, in words, for run.json")
    add("--out", type=Path, required=True, help="folder of the results")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    add("--jobs-per-device", type=int, default=1, help="programs that may share a GPU")
    add("--threads", type=int, default=1, help="CPU threads")
    add(
        "--diverged",
        choices=("keep", "fail"),
        default="keep",
        help="what to do with replicates not finite at the end",
    )
    add("--save-every", type=float, default=120.0, help="seconds from one saving of the state to the next")
    add("--stop-after", type=float, help="seconds after which to save the state and exit with status 75")
    add(
        "--stop-with-parent", action="store_true", help="likewise when the process that started this one has ended"
    )
    return parser.parse_args(argv)


def _plan(arguments: argparse.Namespace):
    from intrinsic_lr.training.loop import TrainingPlan

    try:
        batch_size = arguments.batch_size if arguments.batch_size == "full" else int(arguments.batch_size)
        first, end = map(int, arguments.replicates.split(":"))
        checkpoints = tuple(map(int, arguments.checkpoints.split(",")))
    except ValueError as error:
        raise InputError(f"batch size, replicates or checkpoints: {error}") from None
    plan = TrainingPlan(
        point=arguments.point,
        seed=arguments.seed,
        model=arguments.model,
        timeline=Timeline.parse(arguments.timeline),
        momentum=arguments.momentum,
        batch_size=batch_size,
        checkpoints=checkpoints,
        log_every=arguments.log_every,
        trace_every=arguments.trace_every,
        replicates=(first, end),
        init_seed=arguments.init_seed,
        init_sharing=arguments.init_sharing,
        init_scale=arguments.init_scale,
        augmentation=arguments.augmentation,
        dtype=arguments.dtype,
        data_order=arguments.data_order,
        constraint=arguments.constraint,
        precision=arguments.precision,
    )
    check_precision(plan.precision, plan.dtype)
    if plan.constraint == "sphere":
        check_sphere(plan.momentum, plan.timeline)
    if not 0 <= first < end:
        raise InputError(f"replicates: found {arguments.replicates!r}; allowed: FIRST:END with FIRST below END")
    for name, steps in (("log every", plan.log_every), ("trace every", plan.trace_every)):
        if steps < 1:
            raise InputError(f"{name}: found {steps}; allowed: a whole number from 1 on")
    if (
        list(checkpoints) != sorted(set(checkpoints))
        or not 0 <= checkpoints[0] <= checkpoints[-1] <= plan.timeline.steps
    ):
        raise InputError(
            f"checkpoints: found {arguments.checkpoints}; allowed: ascending steps from 0 to {plan.timeline.steps}"
        )
    return plan


def main(argv: list[str] | None = None) -> None:
    """Train one block and write its checkpoints, history, trace and provenance."""
    # Asked for at once: a parent that ends during the seconds of imports is to be missed too.
    parent = os.getppid()
    arguments = _arguments(argv)
    with leased(arguments.device, arguments.jobs_per_device) as device:
        _run(arguments, device, parent if arguments.stop_with_parent else None)


def _run(arguments: argparse.Namespace, device_name: str, parent: int | None) -> None:
    with quick_imports():
        import torch

        from intrinsic_lr.data.dataset import load
        from intrinsic_lr.models.devices import resolve
        from intrinsic_lr.training.blocks import train_block
        from intrinsic_lr.training.loop import DTYPES
        from intrinsic_lr.training.resume import Watch
    plan = _plan(arguments)
    watch = Watch(arguments.save_every, arguments.stop_after, parent)
    device = resolve(device_name)
    torch.set_num_threads(arguments.threads)
    data = load(arguments.data, arguments.info, device, DTYPES[plan.dtype])
    record = train_block(plan, data, device, arguments.out, watch, arguments.note)
    lost = record["non_finite"]
    if lost and arguments.diverged == "fail":
        steps = ", ".join(f"{replicate} at step {step}" for replicate, step in lost.items())
        raise InputError(
            f"{plan.point}: found {len(lost)} of {len(plan.members)} replicates not finite any more ({steps}); "
            "with diverged: fail none is allowed, diverged: keep marks them as missing"
        )


if __name__ == "__main__":
    run_command(main)
