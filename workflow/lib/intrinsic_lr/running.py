"""A mark that says whether a workflow is at work in a folder, which no death of it can leave behind."""

import contextlib
import fcntl
from pathlib import Path
from typing import TextIO


def mark_running(folder: Path) -> TextIO | None:
    """Hold a shared lock on `folder/running` while the returned file is open, in this process alone.

    The kernel frees it however the process ends, so that a lock file of Snakemake's which nobody stands behind can
    be told from one in use: `flock --nonblock --exclusive folder/running true` succeeds then. Returns None where
    the file system has no such locks.
    """
    with contextlib.suppress(OSError):
        folder.mkdir(exist_ok=True)
        handle = open(folder / "running", "a")  # noqa: SIM115 - open for as long as the process lives
        fcntl.flock(handle, fcntl.LOCK_SH)
        return handle
    return None


def is_running(folder: Path) -> bool:
    """Tell whether another process holds the mark of `mark_running`."""
    with contextlib.suppress(FileNotFoundError), open(folder / "running") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False
