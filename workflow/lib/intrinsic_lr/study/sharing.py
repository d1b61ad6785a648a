"""Trainings that lie there already: used as they are, or gone on with, and never shortened."""

import contextlib
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from intrinsic_lr.core.block_files import KEPT, OTHERS, RUN, STATE
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.storage import read_json
from intrinsic_lr.core.version import TRAINING_VERSION
from intrinsic_lr.study.plan import Recording, TrainingPlan

LENGTHS = ("timeline", "checkpoints", "log_every", "trace_every", "also")
"""What may differ between two plans of one training."""


def difference(there: TrainingPlan, asked: TrainingPlan) -> str | None:
    """Return the name of what differs between the trainings of two plans; None where one continues the other."""
    ours, theirs = asked.to_dict(), there.to_dict()
    for name in ours.keys() | theirs.keys():
        if name not in LENGTHS and ours.get(name) != theirs.get(name):
            return name
    shorter, longer = sorted((there.timeline, asked.timeline), key=lambda timeline: timeline.steps)
    return None if longer.truncated(shorter.steps) == shorter else "timeline"


def united(there: TrainingPlan, asked: TrainingPlan) -> TrainingPlan:
    """Return the plan that does what two plans of one training do; the first one where that is all."""
    longer, shorter = (there, asked) if there.steps >= asked.steps else (asked, there)
    checkpoints = tuple(sorted({*there.checkpoints, *asked.checkpoints}))
    kept: list[Recording] = []
    for recording in (*longer.recordings, *shorter.recordings):
        if not any(_covers(other, recording, checkpoints) for other in kept):
            kept.append(recording)
    return replace(longer, checkpoints=checkpoints, also=tuple(kept[1:]))


def _covers(dense: Recording, other: Recording, checkpoints: tuple[int, ...]) -> bool:
    """Tell whether a recording has all rows of another one; the history has rows at checkpoints too."""
    if other.steps > dense.steps or other.log_every % dense.log_every or other.trace_every % dense.trace_every:
        return False
    logged = other.steps % dense.log_every == 0 or other.steps in checkpoints
    return other.steps == dense.steps or (logged and other.steps % dense.trace_every == 0)


def continues(saved: TrainingPlan, asked: TrainingPlan, step: int) -> bool:
    """Tell whether the state that one plan reaches at a step is that of another, with the same files so far."""
    if difference(saved, asked) or step > asked.steps:
        return False
    kept, wanted = ([k for k in plan.checkpoints if k <= step] for plan in (saved, asked))
    return (kept, saved.logged(step), saved.traced(step)) == (wanted, asked.logged(step), asked.traced(step))


def plans_in(block: Path) -> list[TrainingPlan]:
    """Return the plans that a block's folder was trained by in this version: the present one, then others kept.

    The record is read where the workflow does not delete it before it trains on, if it has deleted the other.
    """
    records = [finished_record(block), *(_record(folder / RUN) for folder in sorted((block / OTHERS).glob("*")))]
    plans = []
    for record in records:
        if record and record.get("training_version") == TRAINING_VERSION:
            with contextlib.suppress(InputError, KeyError, TypeError):
                plans.append(TrainingPlan.from_json(record["plan"]))
    return plans


def finished_record(block: Path) -> Mapping[str, Any] | None:
    """Return what the record of a finished training says, None where there is none or it is damaged."""
    return _record(block / RUN) or _record(block / KEPT / RUN)


def _record(file: Path) -> Mapping[str, Any] | None:
    try:
        return read_json(file) if file.is_file() else None
    except InputError:
        return None


def replacement(block: Path, asked: TrainingPlan) -> str | None:
    """Return in words what a plan replaces in a block, None where that is nothing or is continued."""
    record = finished_record(block)
    if record is None:
        return None
    try:
        there = TrainingPlan.from_json(record["plan"])
    except (InputError, KeyError, TypeError):
        return f"{block}: a training of an unknown plan"
    comes_back = False
    if record.get("training_version") != TRAINING_VERSION:
        by = "one of this version"
    elif name := difference(there, asked):
        by, comes_back = f"one with another {name}", True
    elif continues(there, asked, there.steps) and there != asked:
        return None
    else:
        by = "the same from its beginning"
        if there != asked:
            every = f"every {there.log_every} steps of the history and every {there.trace_every} of the trace"
            by += f", since checkpoints or rows are asked for that it lacks (it has one {every})"
    line = f"{block}: a training of {there.steps:,} steps with {len(there.checkpoints)} checkpoints, by {by}"
    return line + ("; its own config brings it back" if comes_back and (block / KEPT / STATE).is_file() else "")


def finished_plans(results: Path, points: Collection[str]) -> dict[str, dict[int, list[TrainingPlan]]]:
    """Return the plans by which blocks were trained, by point and number, of those below a folder of results."""
    found: dict[str, dict[int, list[TrainingPlan]]] = {}
    for folder in sorted((results / "runs").glob("*/block_[0-9][0-9][0-9][0-9]")):
        point, number = folder.parent.name, int(folder.name[-4:])
        if point in points and (plans := plans_in(folder)):
            found.setdefault(point, {})[number] = plans
    return found
