"""Command line: train one block of replicates of one point."""

import argparse
import platform
import subprocess
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from intrinsic_lr.errors import InputError, run_command
from intrinsic_lr.grid import check_precision, check_sphere
from intrinsic_lr.schedules import Timeline
from intrinsic_lr.version import TRAINING_VERSION


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(message)


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = _Parser(prog="python -m intrinsic_lr.train", description=__doc__)
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
    add("--out", type=Path, required=True, help="folder of the results")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    add("--threads", type=int, default=1, help="CPU threads")
    return parser.parse_args(argv)


def _plan(arguments: argparse.Namespace):
    from intrinsic_lr.training import TrainingPlan

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
    arguments = _arguments(argv)
    plan = _plan(arguments)
    import torch

    from intrinsic_lr.data import load
    from intrinsic_lr.devices import resolve
    from intrinsic_lr.training import DTYPES

    device = resolve(arguments.device)
    torch.set_num_threads(arguments.threads)
    data = load(arguments.data, arguments.info, device, DTYPES[plan.dtype])
    started = time.perf_counter()
    result = _train(plan, data, device, arguments.out)
    provenance = _provenance(plan, data, device, time.perf_counter() - started)
    from intrinsic_lr.storage import write_json

    write_json(arguments.out / "run.json", {**provenance, **result})


def _train(plan, data, device, out: Path) -> dict:
    """Run the training, write checkpoints, history and trace, and return what was seen and their checksums."""
    import pandas as pd

    from intrinsic_lr.evaluation import EvaluationData
    from intrinsic_lr.models.ensemble import build
    from intrinsic_lr.models.spec import ModelSpec
    from intrinsic_lr.progress import progress
    from intrinsic_lr.runs import CHECKPOINTS, HISTORY, TRACE, key
    from intrinsic_lr.storage import TensorWriter, atomic_path, sha256
    from intrinsic_lr.training import DTYPES, Batches, Recorder, State, run

    shape, classes = tuple(data.info["shape"]), len(data.info["classes"])
    model = build(ModelSpec.parse(plan.model), shape, classes)
    state = State.initial(plan, model, device)
    batches = Batches(plan, data)
    recorder = Recorder(plan, model, EvaluationData.of(data))
    members = len(plan.members)
    layout = {
        key(step, name): (DTYPES[plan.dtype], (members, *shape))
        for step in plan.checkpoints
        for name, shape in model.shapes.items()
    }
    metadata = {"model": plan.model, "image_shape": ",".join(map(str, shape)), "classes": str(classes)}
    checkpoints, history, trace = out / CHECKPOINTS, out / HISTORY, out / TRACE
    with (
        TensorWriter(checkpoints, layout, metadata) as writer,
        progress(plan.timeline.steps, state.step, f"{plan.point}, {members} replicates") as shown,
    ):
        for reached in run(state, plan, model, batches, recorder, plan.timeline.steps):
            if reached.step in plan.checkpoints:
                for name, value in reached.params.items():
                    writer.write(key(reached.step, name), value)
            shown.update(reached.step - shown.n)
    frame = pd.DataFrame(recorder.rows)
    traced = pd.DataFrame({name: column.numpy() for name, column in recorder.trace_columns().items()})
    for path, table in ((history, frame), (trace, traced)):
        with atomic_path(path) as temporary:
            table.to_parquet(temporary, index=False)
    return {
        "steps_per_epoch": batches.steps_per_epoch,
        "non_finite": _non_finite(frame),
        "sha256": {path.name: sha256(path) for path in (checkpoints, history, trace)},
    }


def _non_finite(history) -> dict[str, int]:
    """Return the first logged step at which each diverged replicate was not finite."""
    lost = history[history["test_loss"].isna() | history["squared_norm"].isna()]
    return {str(replicate): int(step) for replicate, step in lost.groupby("replicate")["step"].min().items()}


def _provenance(plan, data, device, seconds: float) -> dict:
    import numpy
    import torch

    from intrinsic_lr.devices import describe

    return {
        "training_version": TRAINING_VERSION,
        "plan": {**asdict(plan), "timeline": plan.timeline.spell()},
        "steps": plan.timeline.steps,
        "head_seed": plan.head_seed(),
        "seeds": [
            {"replicate": k, "init": init, "order_epoch_0": order, "augmentation_epoch_0": augmentation}
            for k, init, order, augmentation in zip(
                plan.members,
                plan.init_seeds(),
                plan.epoch_seeds("order", 0),
                plan.epoch_seeds("augmentation", 0),
                strict=True,
            )
        ],
        "data": {
            "name": data.info["name"],
            "sha256": data.info["sha256"],
            "shape": data.info["shape"],
            "classes": len(data.info["classes"]),
        },
        "device": describe(device),
        "threads": torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": numpy.__version__,
        },
        "git_commit": _git_commit(),
        "command": " ".join(["python", "-m", "intrinsic_lr.train", *sys.argv[1:]]),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "wall_seconds": round(seconds, 3),
    }


def _git_commit() -> str | None:
    """Return the commit of the library's repository, or None outside of one."""
    try:
        done = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


if __name__ == "__main__":
    run_command(main)
