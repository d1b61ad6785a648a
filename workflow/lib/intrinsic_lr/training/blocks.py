"""The training of one block of replicates, from its plan to its files."""

import platform
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from intrinsic_lr.core.block_files import HISTORY, RUN, TRACE
from intrinsic_lr.core.commit import current_commit
from intrinsic_lr.core.disk import check_disk
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.locks import alone
from intrinsic_lr.core.storage import atomic_path, sha256, write_json
from intrinsic_lr.core.version import TRAINING_VERSION
from intrinsic_lr.data.dataset import Dataset
from intrinsic_lr.models import kernels
from intrinsic_lr.models.devices import MemberLimit, describe, is_out_of_memory, processor
from intrinsic_lr.models.ensemble import build
from intrinsic_lr.study.plan import TrainingPlan
from intrinsic_lr.training.batches import Batches
from intrinsic_lr.training.evaluation import EvaluationData
from intrinsic_lr.training.loop import train
from intrinsic_lr.training.recorder import Recorder
from intrinsic_lr.training.resume import STOPPED, Store, Watch
from intrinsic_lr.training.state import DTYPES, State


def train_block(
    plan: TrainingPlan, data: Dataset, device: torch.device, out: Path, watch: Watch, note: str = ""
) -> dict[str, Any]:
    """Train a block, write its checkpoints, history, trace and provenance into a folder, and return the latter.

    A state that an earlier call left there is gone on from. Where another program still writes into the folder,
    such as an orphan of a killed workflow, its end is waited for.

    Raises:
        SystemExit: with status `STOPPED` when the watch says so; the state is saved then.
        InputError: when a state is damaged, or memory does not suffice for a single replicate.
    """
    model = build(plan.model, tuple(data.info["shape"]), len(data.info["classes"]))
    plan.timeline.check()
    size = len(plan.members) * len(plan.checkpoints) * model.size * DTYPES[plan.dtype].itemsize
    check_disk(out, size, f"the checkpoints of {plan.point}")
    for axis, asked in (("constraint", plan.constraint == "sphere"), ("init_scale", plan.init_scale != 1)):
        if asked and not model.scale_groups:
            raise InputError(
                f"{axis}: {getattr(plan, axis)} needs a network with scale-invariant weights, got one without"
            )

    def stop_waiting() -> None:
        if watch.should_stop():
            print(f"stopped before the first step by {watch.reason}", file=sys.stderr)
            raise SystemExit(STOPPED)

    with alone(out, stop_waiting):
        batches, compiled, provenance = Batches(plan, data), None, _provenance(plan, data, device, note)
        # Everything that decides the numbers, the arithmetic among it: a stopped training never changes its sums.
        identity = {key: provenance[key] for key in ("plan", "training_version", "kernels", "instructions")}
        if plan.compile == "on":
            # Late: PyTorch's compiler takes seconds to import.
            from intrinsic_lr.training.compilation import compile_step

            compiled = compile_step(plan, model, batches, State.initial(plan, model, device))
            if compiled is None and watch.reason:
                stop_waiting()  # the signal that stops this program may have ended the compiler too
            provenance["step"] = identity["step"] = "inductor" if compiled else "pytorch"
        store, limit = Store(out, {**identity, "data": data.info["sha256"]}, watch), MemberLimit()
        recorder = Recorder(plan, model, EvaluationData.of(data))
        state = store.load(plan, recorder, limit, device) or State.initial(plan, model, device)
        if state.step:
            print(f"going on from step {state.step} of {plan.steps}", file=sys.stderr)
        try:
            train(plan, model, batches, recorder, state, store, limit, compiled)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if compiled:
                raise InputError(
                    f"device memory: too little for {len(plan.members)} replicates of {plan.point} at once, as a "
                    "compiled step computes them; expected a smaller block_size, or compile off"
                ) from None
            raise InputError(
                f"device memory: too little for a single replicate of {plan.point}; expected a device with more, "
                "a smaller batch_size or a smaller model"
            ) from None
        history, trace = (rows.table(plan.members) for rows in (recorder.history, recorder.trace))
        history.insert(4, "intrinsic_lr", history["lr"] * history["weight_decay"])
        for name, table in ((HISTORY, history), (TRACE, trace)):
            with atomic_path(out / name) as temporary:
                table.to_parquet(temporary, index=False)
        store.publish()
        record = {
            **provenance,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "wall_seconds": round(store.seconds, 3),
            "invariance": model.invariance.to_dict(),
            "normalised": list(model.notes),
            "members_at_once": min(limit.members, len(plan.members)),
            "steps_per_epoch": plan.steps_per_epoch(len(data.train_labels)),
            "non_finite": _non_finite(plan, state, history),
            "sha256": {**store.sums, **{name: sha256(out / name) for name in (HISTORY, TRACE)}},
        }
        write_json(out / RUN, record)
        store.keep(state, recorder, limit)
    return record


def _non_finite(plan: TrainingPlan, state: State, history: pd.DataFrame) -> dict[str, int]:
    """Return the first step at which each diverged replicate was not finite: its batch loss, or its evaluation."""
    lost = history[history["test_loss"].isna() | history["squared_norm"].isna()]
    found = lost.groupby("replicate")["step"].min().to_dict()
    for replicate, step in zip(plan.members, state.lost.tolist(), strict=True):
        if step != State.NEVER:
            found[replicate] = min(step, found.get(replicate, step))
    return {str(replicate): int(step) for replicate, step in sorted(found.items())}


def _provenance(plan: TrainingPlan, data: Dataset, device: torch.device, note: str) -> dict[str, Any]:
    return {
        "training_version": TRAINING_VERSION,
        "plan": plan.to_dict(),
        "steps": plan.steps,
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
            "note": note,
            "sha256": data.info["sha256"],
            "shape": data.info["shape"],
            "classes": len(data.info["classes"]),
        },
        "device": describe(device),
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "kernels": kernels.arithmetic(),
        "instructions": kernels.instructions() if device.type == "cpu" else "",
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
        "git_commit": current_commit(),
        "command": shlex.join(["intrinsic-lr", *sys.argv[1:]]),
    }
