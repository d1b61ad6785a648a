"""Long trainings go on where they were stopped: what is saved meanwhile, and when a training stops by itself.

The state of all parts lies in one file that the workflow does not declare and hence does not delete. It carries
the SHA-256 of its own content, and those of the checkpoints written so far, which grow in a file of their own.
"""

import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from safetensors.torch import load, save

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.storage import TensorWriter, atomic_path
from intrinsic_lr.core.version import TRAINING_VERSION
from intrinsic_lr.study.plan import TrainingPlan
from intrinsic_lr.training.parts import Part, Setting

STATE = "resume.state"
STOPPED = 75
"""Exit status of a training that stopped with its state saved, `EX_TEMPFAIL`: starting it again goes on."""


@dataclass
class Saved:
    """What a stopped training left.

    Attributes:
        parts: the parts, as far as they were.
        partial: the file that the checkpoints were growing in.
        written: its pieces, as `TensorWriter.written`.
        seconds: wall time that the training had taken.
    """

    parts: list[Part]
    partial: Path
    written: list[tuple[str, int, int, str]]
    seconds: float


def fingerprint(plan: TrainingPlan, data_sha256: str) -> str:
    """Return a checksum of all that decides a training's numbers; a state of another one is no use."""
    meaning = {"plan": plan.to_dict(), "data": data_sha256, "version": TRAINING_VERSION}
    return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()


def save_state(path: Path, mark: str, parts: Sequence[Part], writer: TensorWriter, seconds: float) -> None:
    """Save all parts, after the checkpoints that they have written are on the disk; the writer's file stays."""
    writer.flush()
    about = {
        "fingerprint": mark,
        "parts": [{"replicates": part.plan.replicates, "step": part.state.step} for part in parts],
        "partial": writer.temporary.name,
        "written": writer.written,
        "seconds": seconds,
    }
    tensors = {
        f"{place}/{name}": value for place, part in enumerate(parts) for name, value in part.tensors().items()
    }
    content = save(
        {name: value.cpu().contiguous() for name, value in tensors.items()}, {"about": json.dumps(about)}
    )
    with atomic_path(path) as temporary, open(temporary, "wb") as handle:
        handle.write(hashlib.sha256(content).hexdigest().encode() + b"\n")
        handle.write(content)
    writer.keep = True


def load_state(path: Path, mark: str, plan: TrainingPlan, setting: Setting) -> Saved | None:
    """Return what a stopped training of this fingerprint left in a state file, or None where there is no such.

    Raises:
        InputError: when the file is damaged.
    """
    if not path.exists():
        return None
    digest, _, content = path.read_bytes().partition(b"\n")
    if hashlib.sha256(content).hexdigest().encode() != digest:
        raise InputError(f"{path}: damaged; train from the beginning after `rm {path}`")
    about = _about(content)
    partial = path.with_name(about["partial"])
    if about["fingerprint"] != mark or not partial.exists():
        print(
            f"{path}: of another training, or without its checkpoints; beginning anew",
            file=sys.stderr,
        )
        return None
    tensors = load(content)
    parts = []
    for place, entry in enumerate(about["parts"]):
        prefix = f"{place}/"
        held = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        first, end = entry["replicates"]
        parts.append(Part.restored(replace(plan, replicates=(first, end)), setting, entry["step"], held))
    return Saved(parts, partial, [tuple(piece) for piece in about["written"]], about["seconds"])


def _about(content: bytes) -> dict:
    """Return the description in the header of a safetensors file's content."""
    length = int.from_bytes(content[:8], "little")
    return json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["about"])


class Watch:
    """Tells when to save the state, and when to stop: on a signal, after a time limit, or with the parent gone.

    A workflow that was killed leaves its trainings running; started again it would train the same block beside
    them.

    Args:
        every: seconds from one saving to the next.
        limit: seconds after which to stop, or None.
        parent: the process that started this one, to stop when it has ended; None to go on then.
    """

    def __init__(self, every: float, limit: float | None, parent: int | None) -> None:
        self._every, self._limit, self._parent = every, limit, parent
        self._started = self._saved = time.monotonic()
        self.reason = ""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _frame: object) -> None:
        self.reason = signal.Signals(number).name

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def stops(self) -> bool:
        """Tell whether to stop; `reason` then says why."""
        if not self.reason and self._limit is not None and self.seconds > self._limit:
            self.reason = f"the time limit of {self._limit:g} s"
        if not self.reason and self._parent not in (None, os.getppid()):
            self.reason = "the end of the process that started it"
        return bool(self.reason)

    def saves(self) -> bool:
        """Tell whether it is time to save, and count from now on where it is."""
        now = time.monotonic()
        due = now - self._saved >= self._every
        if due:
            self._saved = now
        return due
