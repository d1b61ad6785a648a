"""The training of one block of replicates, from its plan to its files."""

import platform
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from intrinsic_lr.core.block_files import CHECKPOINTS, HISTORY, RUN, TRACE, key
from intrinsic_lr.core.commit import current_commit
from intrinsic_lr.core.disk import check_disk
from intrinsic_lr.core.locks import alone
from intrinsic_lr.core.progress import progress
from intrinsic_lr.core.storage import TensorWriter, atomic_path, remove_abandoned, sha256, write_json
from intrinsic_lr.core.version import TRAINING_VERSION
from intrinsic_lr.data.dataset import Dataset
from intrinsic_lr.models import kernels
from intrinsic_lr.models.devices import describe
from intrinsic_lr.models.ensemble import EnsembleModel, build
from intrinsic_lr.study.plan import TrainingPlan
from intrinsic_lr.training.evaluation import EvaluationData
from intrinsic_lr.training.loop import DTYPES, State
from intrinsic_lr.training.parts import Part, Setting, train_parts
from intrinsic_lr.training.resume import STATE, STOPPED, Watch, fingerprint, load_state, save_state


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
    kept = len(plan.members) * len(plan.checkpoints) * model.size * DTYPES[plan.dtype].itemsize
    check_disk(out, kept, f"the checkpoints of {plan.point}")
    setting = Setting(model, data, EvaluationData.of(data), device)
    with alone(out, lambda: _stop_waiting(watch)):
        return _train_alone(plan, setting, out, watch, note)


def _stop_waiting(watch: Watch) -> None:
    if watch.stops():
        print(f"stopped before the first step by {watch.reason}", file=sys.stderr)
        raise SystemExit(STOPPED)


def _train_alone(plan: TrainingPlan, setting: Setting, out: Path, watch: Watch, note: str) -> dict[str, Any]:
    """Train a block in a folder that nobody else writes into; otherwise as `train_block`."""
    parts, seconds = _train(plan, setting, out, watch)
    tables = {HISTORY: _joined(parts, "history"), TRACE: _joined(parts, "trace")}
    history = tables[HISTORY]
    history.insert(4, "intrinsic_lr", history["lr"] * history["weight_decay"])
    for name, table in tables.items():
        with atomic_path(out / name) as temporary:
            table.to_parquet(temporary, index=False)
    record = {
        **_provenance(plan, setting.data, setting.device, note),
        "wall_seconds": round(seconds, 3),
        "parts": [list(part.plan.replicates) for part in parts],
        "steps_per_epoch": plan.steps_per_epoch(len(setting.data.train_labels)),
        "non_finite": _non_finite(parts, history),
        "sha256": {name: sha256(out / name) for name in (CHECKPOINTS, HISTORY, TRACE)},
    }
    write_json(out / RUN, record)
    (out / STATE).unlink(missing_ok=True)
    return record


def _train(plan: TrainingPlan, setting: Setting, out: Path, watch: Watch) -> tuple[list[Part], float]:
    """Write the checkpoints; return the parts at their end and the wall time in seconds, stops left out."""
    mark = fingerprint(plan, setting.data.info["sha256"])
    saved = load_state(out / STATE, mark, plan, setting)
    parts = saved.parts if saved else [Part(plan, setting)]
    before = saved.seconds if saved else 0.0
    kept, steps = frozenset(plan.checkpoints), plan.timeline.steps
    with (
        _checkpoint_writer(plan, setting.model, out / CHECKPOINTS) as writer,
        progress(steps * len(plan.members), _steps_done(parts), plan.point, unit="member-step") as shown,
    ):
        if saved:
            print(f"going on from step {min(part.state.step for part in parts)} of {steps}", file=sys.stderr)
            writer.adopt(saved.partial, saved.written)
            save_state(out / STATE, mark, parts, writer, before)
            saved.partial.unlink()
        remove_abandoned(out / CHECKPOINTS)

        def after_step(part: Part) -> None:
            step = part.state.step
            if step in kept:
                for name, value in part.state.params.items():
                    writer.write(key(step, name), value, part.plan.members.start - plan.members.start)
            stops = watch.stops()
            if stops or watch.saves():
                save_state(out / STATE, mark, parts, writer, before + watch.seconds)
            if stops:
                print(f"stopped after step {step} of {steps} by {watch.reason}; state saved", file=sys.stderr)
                raise SystemExit(STOPPED)
            shown.update(len(part.plan.members) if step else 0)

        train_parts(parts, after_step)
    return parts, before + watch.seconds


def _checkpoint_writer(plan: TrainingPlan, model: EnsembleModel, path: Path) -> TensorWriter:
    layout = {
        key(step, name): (DTYPES[plan.dtype], (len(plan.members), *shape))
        for step in plan.checkpoints
        for name, shape in model.shapes.items()
    }
    return TensorWriter(path, layout)


def _steps_done(parts: Sequence[Part]) -> int:
    """Return the member-steps that all parts together have behind them."""
    return sum(part.state.step * len(part.plan.members) for part in parts)


def _joined(parts: Sequence[Part], rows: str) -> pd.DataFrame:
    """Return the history or the trace of all parts as one table, by step and then by replicate."""
    columns = [getattr(part.recorder, rows).columns(part.plan.members) for part in parts]
    tables = [pd.DataFrame({name: value.numpy() for name, value in part.items()}) for part in columns]
    return pd.concat(tables).sort_values(["step", "replicate"], ignore_index=True)


def _non_finite(parts: Sequence[Part], history: pd.DataFrame) -> dict[str, int]:
    """Return the first step at which each diverged replicate was not finite: its batch loss, or its evaluation."""
    lost = history[history["test_loss"].isna() | history["squared_norm"].isna()]
    found = lost.groupby("replicate")["step"].min().to_dict()
    for part in parts:
        for replicate, step in zip(part.plan.members, part.state.lost.tolist(), strict=True):
            if step != State.NEVER:
                found[replicate] = min(step, found.get(replicate, step))
    return {str(replicate): int(step) for replicate, step in sorted(found.items())}


def _provenance(plan: TrainingPlan, data: Dataset, device: torch.device, note: str) -> dict[str, Any]:
    return {
        "training_version": TRAINING_VERSION,
        "plan": plan.to_dict(),
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
            "note": note,
            "sha256": data.info["sha256"],
            "shape": data.info["shape"],
            "classes": len(data.info["classes"]),
        },
        "device": describe(device),
        "threads": torch.get_num_threads(),
        "kernels": "compiled" if kernels.load() else "PyTorch",
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
        "git_commit": current_commit(),
        "command": shlex.join(["intrinsic-lr", *sys.argv[1:]]),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
