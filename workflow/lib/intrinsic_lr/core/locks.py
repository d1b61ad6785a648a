"""Locks that say who is at work in a folder; the kernel frees them however their program ends."""

import contextlib
import fcntl
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

POLL_SECONDS = 0.2
MARK = "running"


def mark_running(folder: Path) -> TextIO | None:
    """Hold a shared lock on `folder/running` while the returned file is open, in this process alone.

    It tells a lock file of Snakemake that is in use from one that a killed run left. Returns None where the file
    system has no such locks.
    """
    with contextlib.suppress(OSError):
        folder.mkdir(exist_ok=True)
        # Open to be read as well: network file systems share a lock only among those who may read.
        handle = open(folder / MARK, "a+")  # noqa: SIM115 - open for as long as the process lives
        fcntl.flock(handle, fcntl.LOCK_SH)
        return handle
    return None


def is_running(folder: Path) -> bool:
    """Tell whether another process holds the lock of `mark_running`; False where the file system has no locks."""
    mark = folder / MARK
    # Open to be written as well: network file systems lock exclusively only among those who may write.
    with contextlib.suppress(FileNotFoundError), open(mark, "r+" if os.access(mark, os.W_OK) else "r") as handle:
        return _is_held(handle.fileno())
    return False


@contextlib.contextmanager
def alone(folder: Path, while_waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold an exclusive lock on a folder, made where it is not there; wait while another program holds it.

    A workflow that was killed leaves its jobs at work for a moment. Started again, it would write the same files
    beside them. Where the file system has no such locks, nothing is waited for. While it waits, `while_waiting` is
    called over and over; an exception of it ends the waiting.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        told = False
        while _is_held(handle):
            if not told:
                print(f"{folder}: waiting for another program that writes there", file=sys.stderr)
                told = True
            while_waiting()
            time.sleep(POLL_SECONDS)
        yield
    finally:
        os.close(handle)


def _is_held(handle: int) -> bool:
    """Take an exclusive lock on an open file; tell whether another program holds one instead."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
