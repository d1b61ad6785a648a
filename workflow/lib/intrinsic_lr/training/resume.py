"""Long trainings go on where they were stopped: what is saved meanwhile, and when a training stops by itself.

Meanwhile checkpoints and state lie in the block's folder `resume`, which the workflow does not declare and hence
does not delete. The folder of checkpoints gets its place when all of them are there. At the end `resume` becomes
`kept`: a longer training of the same block goes on from there. Where another config trains the block otherwise,
what was kept goes to `others`, and comes back when it is asked for again.
"""

import hashlib
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save

from intrinsic_lr.core.block_files import ASIDE, CHECKPOINTS, KEPT, OTHERS, RESUME, RUN, step_file
from intrinsic_lr.core.block_files import STATE as STATE_NAME
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.storage import atomic_path, open_result, sha256, write_tensors
from intrinsic_lr.models.devices import MemberLimit
from intrinsic_lr.study.plan import TrainingPlan
from intrinsic_lr.study.sharing import continues, difference
from intrinsic_lr.training.recorder import Recorder
from intrinsic_lr.training.state import State

STATE = f"{RESUME}/{STATE_NAME}"
STOPPED = 75
"""Exit status of a training that stopped with its state saved, `EX_TEMPFAIL`: starting it again goes on."""


class Store:
    """The checkpoints and the saved state of a training that has not ended, in the folder of its block.

    Args:
        folder: the block's folder.
        identity: all that decides the training's numbers, as plain data; a state of another one is no use.
        watch: says when to save the state and when to stop.

    Attributes:
        sums: SHA-256 of each checkpoint written so far, by its path in the block's folder.
    """

    def __init__(self, folder: Path, identity: dict[str, Any], watch: "Watch") -> None:
        self._folder, self._identity, self.watch = folder, identity, watch
        self.sums: dict[str, str] = {}
        self._seconds_before = 0.0

    @property
    def seconds(self) -> float:
        """Wall time of the training so far, without that between a stop and the next start."""
        return self._seconds_before + self.watch.seconds

    def write_checkpoint(self, state: State) -> None:
        """Write the parameters of a state."""
        name = step_file(CHECKPOINTS, state.step)
        self.sums[name] = write_tensors(self._folder / RESUME / name, state.params)

    def save(self, state: State, recorder: Recorder, limit: MemberLimit) -> None:
        """Save the state with its rows."""
        about = {
            "identity": self._identity,
            "step": state.step,
            "checkpoints": self.sums,
            "members_at_once": limit.members,
            "seconds": self.seconds,
        }
        tensors = {**state.to_tensors(), **recorder.to_tensors()}
        content = save(
            {name: value.cpu().contiguous() for name, value in tensors.items()}, {"about": json.dumps(about)}
        )
        with atomic_path(self._folder / STATE) as temporary, open(temporary, "wb") as handle:
            handle.write(hashlib.sha256(content).hexdigest().encode() + b"\n")
            handle.write(content)

    def load(
        self, plan: TrainingPlan, recorder: Recorder, limit: MemberLimit, device: torch.device
    ) -> State | None:
        """Return the state to go on from, its rows given to the recorder.

        That is one that a stopped training of this identity saved, or the last one of a training that this plan
        continues. None where there is no such. A stopped training of another length is set aside, any other is
        removed. InputError where a file of a stopped training is damaged.
        """
        was_stopped, aside = (self._folder / STATE).exists(), self._folder / ASIDE
        if aside.exists() and not was_stopped:
            self.remove()
            os.replace(aside, self._folder / RESUME)
        found = self._stopped()
        if found is None:
            self._set_aside(plan)
            came_back = self._bring_back(plan)
            # Asked for again without another one in between, a training is to be done again.
            found = self._ended(plan, may_be_same=was_stopped or came_back)
        if found is None:
            return None
        about, content = found
        self.sums, self._seconds_before = about["checkpoints"], about["seconds"]
        limit.members = about["members_at_once"]
        tensors = load(content)
        recorder.restore(tensors, device)
        return State.from_tensors(about["step"], tensors, device)

    def _stopped(self) -> tuple[dict[str, Any], bytes] | None:
        """Return the description and the content of the state of a stopped training, if it is this one's."""
        path = self._folder / STATE
        if not path.exists():
            return None
        about, content = _read(path)
        if about is None:
            raise InputError(f"{path}: damaged; train from the beginning after `rm {path}`")
        other = [key for key, value in self._identity.items() if about["identity"].get(key) != value]
        missing = [name for name in about["checkpoints"] if not (self._folder / RESUME / name).exists()]
        if other or missing:
            why = f"of another training (other {', '.join(other)})" if other else f"without {missing[0]}"
            print(f"{path}: {why}; the training does not go on from it", file=sys.stderr)
            return None
        for name, expected in about["checkpoints"].items():
            file = self._folder / RESUME / name
            if sha256(file) != expected:
                raise InputError(f"{file}: damaged; train from the beginning after `rm {file}`")
        for file in (self._folder / RESUME / CHECKPOINTS).glob("*"):
            if f"{CHECKPOINTS}/{file.name}" not in about["checkpoints"]:
                file.unlink()
        return about, content

    def _set_aside(self, plan: TrainingPlan) -> None:
        """Keep a stopped training of another length for when it is asked for again; remove any other."""
        state, aside = self._folder / STATE, self._folder / ASIDE
        about, _ = _read(state) if state.exists() else (None, b"")
        if about and self._is_same_but_for_plan(about):
            stopped = TrainingPlan.from_json(about["identity"]["plan"])
            if stopped != plan and difference(stopped, plan) is None:
                shutil.rmtree(aside, ignore_errors=True)
                os.replace(self._folder / RESUME, aside)
        self.remove()

    def _bring_back(self, plan: TrainingPlan) -> bool:
        """Let what is kept of this training and of another one change places; tell whether they did."""
        kept = self._folder / KEPT
        for other in sorted((self._folder / OTHERS).glob("*")):
            about = _ended_about(other)
            if about and self._is_one(about, plan):
                self._keep_other(plan)
                os.replace(other, kept)
                return True
        return False

    def _keep_other(self, plan: TrainingPlan) -> None:
        """Make room for what is kept of this training: that of another one of this version goes to `others`."""
        kept = self._folder / KEPT
        about = _ended_about(kept)
        is_usable = about and about["identity"]["training_version"] == self._identity["training_version"]
        if is_usable and not self._is_one(about, plan):
            name = hashlib.sha256(json.dumps(about["identity"], sort_keys=True).encode()).hexdigest()[:16]
            place = self._folder / OTHERS / name
            place.parent.mkdir(exist_ok=True)
            shutil.rmtree(place, ignore_errors=True)
            os.replace(kept, place)
        shutil.rmtree(kept, ignore_errors=True)

    def _is_one(self, about: dict[str, Any], plan: TrainingPlan) -> bool:
        """Tell whether one of a training that has ended and of this one continues the other."""
        ended = TrainingPlan.from_json(about["identity"]["plan"])
        return self._is_same_but_for_plan(about) and difference(ended, plan) is None

    def _is_same_but_for_plan(self, about: dict[str, Any]) -> bool:
        return all(about["identity"].get(key) == value for key, value in self._identity.items() if key != "plan")

    def _ended(self, plan: TrainingPlan, may_be_same: bool) -> tuple[dict[str, Any], bytes] | None:
        """Return the same of a training that has ended and that this plan continues, its checkpoints linked."""
        kept = self._folder / KEPT
        about, content = _read(kept / STATE_NAME) if (kept / STATE_NAME).exists() else (None, b"")
        if about is None:
            return None
        if not self._is_same_but_for_plan(about):
            return None
        ended = TrainingPlan.from_json(about["identity"]["plan"])
        if not continues(ended, plan, about["step"]) or (ended == plan and not may_be_same):
            return None
        files = {name: kept / name for name in about["checkpoints"]}
        if any(not file.is_file() or sha256(file) != about["checkpoints"][name] for name, file in files.items()):
            print(f"{kept}: a checkpoint is missing or damaged; the training begins anew", file=sys.stderr)
            return None
        _link(kept / CHECKPOINTS, self._folder / RESUME / CHECKPOINTS)
        return about, content

    def publish(self) -> None:
        """Give the folder of checkpoints its place."""
        own, place = self._folder / RESUME / CHECKPOINTS, self._folder / CHECKPOINTS
        linked = own.with_name("linked")
        shutil.rmtree(linked, ignore_errors=True)
        shutil.rmtree(place, ignore_errors=True)
        try:
            _link(own, linked)
            os.replace(linked, place)
        except OSError:
            # A file system without hard links, or without room for more names: there is nothing to keep then.
            os.replace(own, place)

    def keep(self, state: State, recorder: Recorder, limit: MemberLimit) -> None:
        """Keep the end of a training whose record is written: the state, the checkpoints and the record."""
        resume, kept = self._folder / RESUME, self._folder / KEPT
        if not (resume / CHECKPOINTS).exists():
            self.remove()
            return
        try:
            self.save(state, recorder, limit)
            shutil.copyfile(self._folder / RUN, resume / RUN)
            self._keep_other(TrainingPlan.from_json(self._identity["plan"]))
            os.replace(resume, kept)
        except (InputError, OSError) as error:
            print(f"{kept}: not kept ({error}); a longer training would begin anew", file=sys.stderr)
            self.remove()

    def remove(self) -> None:
        """Remove what a training that has not ended left."""
        shutil.rmtree(self._folder / RESUME, ignore_errors=True)


def _link(folder: Path, place: Path) -> None:
    """Give all files of a folder a second name in a new one."""
    place.mkdir(parents=True)
    for file in folder.iterdir():
        os.link(file, place / file.name)


def _read(path: Path) -> tuple[dict[str, Any] | None, bytes]:
    """Return the description and the content of a saved state, None for one whose checksum is not its own."""
    with open_result(path) as handle:
        digest, _, content = handle.read().partition(b"\n")
    if hashlib.sha256(content).hexdigest().encode() != digest:
        return None, content
    return _about(content), content


def _ended_about(folder: Path) -> dict[str, Any] | None:
    """Return the description of the state that a training ended in, None where there is none or it is damaged."""
    return _read(folder / STATE_NAME)[0] if (folder / STATE_NAME).exists() else None


def _about(content: bytes) -> dict[str, Any]:
    """Return the description in the header of a safetensors file's content."""
    length = int.from_bytes(content[:8], "little")
    return json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["about"])


class Watch:
    """Says when to save the state, and when to stop: on a signal, after a time limit, or with the parent gone.

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

    def should_stop(self) -> bool:
        """Return whether to stop; `reason` then says why."""
        if not self.reason and self._limit is not None and self.seconds > self._limit:
            self.reason = f"the time limit of {self._limit:g} s"
        if not self.reason and self._parent not in (None, os.getppid()):
            self.reason = "the end of the process that started it"
        return bool(self.reason)

    def should_save(self) -> bool:
        """Return whether it is time to save, and count from now on where it is."""
        now = time.monotonic()
        due = now - self._saved >= self._every
        if due:
            self._saved = now
        return due
