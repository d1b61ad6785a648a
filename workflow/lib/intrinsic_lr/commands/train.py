"""Command line: train one block of replicates of one point."""

import argparse
import dataclasses
import os
from pathlib import Path
from typing import NoReturn

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.imports import gc_disabled
from intrinsic_lr.core.leases import leased
from intrinsic_lr.core.storage import read_json
from intrinsic_lr.study.plan import TrainingPlan


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(message)


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = _Parser(prog="intrinsic-lr train", description=__doc__)
    add = parser.add_argument
    add("--plan", help="what to train, as JSON, or @FILE that holds it")
    add("--from", type=Path, dest="record", help="run.json of a training, whose plan is taken instead of --plan")
    add("--replicates", help="FIRST:END, to train these in place of the plan's")
    add("--data", type=Path, required=True, help="data file of prepare_data")
    add("--info", type=Path, required=True, help="description of prepare_data")
    add("--note", default="", help="where the data come from, in words, for run.json")
    add("--out", type=Path, required=True, help="folder of the results")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    add("--jobs-per-device", type=int, default=1, help="programs that may share a GPU")
    add("--threads", type=int, default=1, help="CPU threads")
    add("--diverged", choices=("keep", "fail"), default="keep", help="replicates not finite at the end")
    add("--save-every", type=float, default=120.0, help="seconds from one saving of the state to the next")
    add("--stop-after", type=float, help="seconds after which to save the state and exit with status 75")
    add(
        "--stop-with-parent", action="store_true", help="likewise when the process that started this one has ended"
    )
    return parser.parse_args(argv)


def _plan(arguments: argparse.Namespace) -> TrainingPlan:
    if (arguments.plan is None) == (arguments.record is None):
        raise InputError("plan: expected one of --plan and --from")
    if arguments.record:
        plan = TrainingPlan.from_json(read_json(arguments.record).get("plan", {}))
    elif arguments.plan.startswith("@"):
        plan = TrainingPlan.from_json(Path(arguments.plan[1:]).read_text(encoding="utf-8"))
    else:
        plan = TrainingPlan.from_json(arguments.plan)
    if not arguments.replicates:
        return plan
    try:
        first, end = map(int, arguments.replicates.split(":"))
    except ValueError:
        raise InputError(f"--replicates: expected FIRST:END, got {arguments.replicates!r}") from None
    return dataclasses.replace(plan, replicates=(first, end))


def main(argv: list[str] | None = None) -> None:
    """Train one block and write its checkpoints, history, trace and provenance."""
    # Asked for at once: a parent that ends during the seconds of imports is to be missed too.
    parent = os.getppid()
    arguments = _arguments(argv)
    plan = _plan(arguments)
    # A GPU is chosen before torch is imported.
    with leased(arguments.device, arguments.jobs_per_device) as device_name:
        with gc_disabled():
            import torch

            from intrinsic_lr.data.dataset import load
            from intrinsic_lr.models.devices import resolve
            from intrinsic_lr.training.blocks import train_block
            from intrinsic_lr.training.resume import Watch
            from intrinsic_lr.training.state import DTYPES

        watch = Watch(arguments.save_every, arguments.stop_after, parent if arguments.stop_with_parent else None)
        device = resolve(device_name)
        torch.set_num_threads(arguments.threads)
        data = load(arguments.data, arguments.info, device, DTYPES[plan.dtype])
        lost = train_block(plan, data, device, arguments.out, watch, arguments.note)["non_finite"]
    if lost and arguments.diverged == "fail":
        steps = ", ".join(f"{replicate} at step {step}" for replicate, step in lost.items())
        raise InputError(
            f"{plan.point}: {len(lost)} of {len(plan.members)} replicates are not finite any more ({steps}); "
            "diverged must be keep, which marks them as missing, for this to pass"
        )
