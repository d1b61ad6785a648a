"""Command line: train one block of replicates of one point."""

import argparse
import dataclasses
import os
from pathlib import Path

from intrinsic_lr.commands.options import Parser, job_device
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.storage import read_json
from intrinsic_lr.study.plan import TrainingPlan


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser("train", __doc__)
    parser.add_job()
    add = parser.add_argument
    add("--plan", help="what to train, as JSON, or @FILE that holds it")
    add("--from", type=Path, dest="record", help="run.json of a training, whose plan is taken instead of --plan")
    add("--replicates", help="FIRST:END, to train these in place of the plan's")
    add("--note", default="", help="where the data come from, in words, for run.json")
    add("--out", type=Path, required=True, help="folder of the results")
    add("--diverged", choices=("keep", "fail"), default="keep", help="replicates not finite at the end")
    add("--save-every", type=float, default=120.0, help="seconds from one saving of the state to the next")
    add("--stop-after", type=float, help="seconds after which to save the state and exit with status 75")
    add("--stop-with-parent", action="store_true", help="likewise when the process that started it has ended")
    return parser.parse_args(argv)


def _plan(arguments: argparse.Namespace) -> TrainingPlan:
    if (arguments.plan is None) == (arguments.record is None):
        raise InputError("plan: expected one of --plan and --from")
    text = arguments.plan
    if arguments.record:
        text = read_json(arguments.record).get("plan", {})
    elif text.startswith("@"):
        text = _read_text(Path(text[1:]))
    plan = TrainingPlan.from_json(text)
    if not arguments.replicates:
        return plan
    try:
        first, end = map(int, arguments.replicates.split(":"))
    except ValueError:
        raise InputError(f"--replicates: expected FIRST:END, got {arguments.replicates!r}") from None
    return dataclasses.replace(plan, replicates=(first, end))


def _read_text(file: Path) -> str:
    # That of a shell's <(...) has a writer; another would be waited for.
    if file.is_fifo() and file.parent != Path("/dev/fd"):
        raise InputError(f"--plan: expected a file, got a pipe, {file}")
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InputError(f"--plan: expected JSON in UTF-8, got other bytes in {file}") from None


def main(argv: list[str] | None = None) -> None:
    """Train one block and write its checkpoints, history, trace and provenance."""
    # Asked for at once: a parent that ends during the seconds of imports is to be missed too.
    parent = os.getppid()
    arguments = _arguments(argv)
    plan = _plan(arguments)
    with job_device(arguments) as device:
        from intrinsic_lr.data.dataset import load
        from intrinsic_lr.training.blocks import train_block
        from intrinsic_lr.training.resume import Watch
        from intrinsic_lr.training.state import DTYPES

        watch = Watch(arguments.save_every, arguments.stop_after, parent if arguments.stop_with_parent else None)
        data = load(arguments.data, arguments.info, device, DTYPES[plan.dtype])
        lost = train_block(plan, data, device, arguments.out, watch, arguments.note)["non_finite"]
    if lost and arguments.diverged == "fail":
        steps = ", ".join(f"{replicate} at step {step}" for replicate, step in lost.items())
        raise InputError(
            f"{plan.point}: {len(lost)} of {len(plan.members)} replicates are not finite any more ({steps}); "
            "diverged must be keep, which marks them as missing, for this to pass"
        )
