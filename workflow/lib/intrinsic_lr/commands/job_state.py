"""What has become of a job, told from the files that it leaves: its result, its log, and how young that is.

Nothing but files is looked at, so a second terminal, another machine on a shared disk and the login node of a
cluster see the same. Imports no torch.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from intrinsic_lr.core.job_log import SILENT_SECONDS
from intrinsic_lr.core.progress import Progress, read_progress

TAIL_BYTES = 1 << 14
"""What is read of a log, from its end."""
_FAILED = re.compile(r"^(error: |Traceback \(most recent call last\))", re.MULTILINE)
_STOPPED = re.compile(r"^stopped (after|before) ", re.MULTILINE)


class State(StrEnum):
    """What has become of a job."""

    DONE = "done"
    RUNNING = "running"
    WAITING = "waiting"
    STOPPED = "stopped"
    KILLED = "killed"
    FAILED = "failed"


@dataclass(frozen=True)
class Job:
    """A job of the workflow, by what it leaves.

    Attributes:
        name: what to call it.
        result: the file that is there once it has succeeded.
        log: its log, which every start of it empties.
    """

    name: str
    result: Path
    log: Path


@dataclass(frozen=True)
class Sighting:
    """What is seen of a job.

    Attributes:
        state: what has become of it.
        progress: how far it was when it said so last, or None.
        quiet: seconds since its last sign of life; None before it was started.
        text: the end of its log.
    """

    state: State
    progress: Progress | None = None
    quiet: float | None = None
    text: str = ""

    def last_lines(self, number: int) -> list[str]:
        """Return the last lines of the log that are not empty."""
        return [line for line in self.text.splitlines() if line.strip()][-number:]


def look(job: Job, now: float) -> Sighting:
    """Look at a job at the time `now`, in seconds since 1970.

    A job without a result whose log neither grows nor names an error is running as long as it gives signs of life,
    see `heartbeat`; after that it was killed: by a signal that no program can answer, for its memory, or with its
    machine.
    """
    if job.result.exists():
        return Sighting(State.DONE)
    try:
        quiet, text = now - job.log.stat().st_mtime, _tail(job.log)
    except FileNotFoundError:
        return Sighting(State.WAITING)
    return Sighting(_state(text, quiet), read_progress(text), quiet, text)


def _state(text: str, quiet: float) -> State:
    if _FAILED.search(text):
        return State.FAILED
    if _STOPPED.search(text):
        return State.STOPPED
    return State.RUNNING if quiet < SILENT_SECONDS else State.KILLED


def _tail(log: Path) -> str:
    with open(log, "rb") as handle:
        handle.seek(max(0, log.stat().st_size - TAIL_BYTES))
        return handle.read().decode(errors="replace")
