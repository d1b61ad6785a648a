"""Command that sets right what a killed run or a clock left in a folder: `python -m intrinsic_lr.commands.unlock`.

`make results` calls it before Snakemake, which refuses to run where a killed run left its lock, and which takes a
file dated in the future for a new one for as long as that future lasts.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterable
from pathlib import Path

from intrinsic_lr.core.errors import InputError, run_command
from intrinsic_lr.core.locks import MARK

RESULTS, SCRIPTS = Path("results"), Path("workflow", "scripts")
LAST_SECOND = 1_000_000_000
"""Nanoseconds before the present that files from the future are put into."""


def clear_lock(folder: Path) -> bool:
    """Remove the locks that a killed Snakemake left in `folder`, its `.snakemake`; tell whether there were any.

    Whoever is at work holds `folder/running` before it takes a lock (`running.mark_running`).

    Raises:
        InputError: a run is at work there.
    """
    locks = list((folder / "locks").glob("*"))
    if not locks:
        return False
    with open(folder / MARK, "a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"another run is at work in {folder.absolute().parent}; wait for it, or stop it first"
            ) from None
        for lock in locks:
            lock.unlink(missing_ok=True)
    return True


def bring_to_present(results: Path, scripts: Path, now: int) -> int:
    """Date files of the future to the last second, in their order; return how many there were in `results`.

    Whether one of these results is older than an edit of a script cannot be told any more. So where there are
    some, every script is dated to the present, and all that is made by one is made again: tables and figures, but
    no training.

    Args:
        results: folder of the results, with all below.
        scripts: folder of the scripts.
        now: the present in nanoseconds since 1970.
    """
    late = _later(_files(results), now)
    for place, path in enumerate(late):
        _date(path, now - LAST_SECOND + place * LAST_SECOND // len(late))
    for path in _files(scripts) if late else _later(_files(scripts), now):
        _date(path, now)
    return len(late)


def _files(folder: Path) -> list[Path]:
    return [Path(place, name) for place, _, names in os.walk(folder) for name in names]


def _later(files: Iterable[Path], now: int) -> list[Path]:
    """Return the files dated after `now`, the earliest first."""
    times = {path: path.lstat().st_mtime_ns for path in files}
    return sorted((path for path, time_ in times.items() if time_ > now), key=times.__getitem__)


def _date(path: Path, nanoseconds: int) -> None:
    with contextlib.suppress(OSError):
        os.utime(path, ns=(nanoseconds, nanoseconds), follow_symlinks=False)


def main() -> None:
    """Set right the working directory, and say what was done."""
    if clear_lock(Path(".snakemake")):
        print("== clearing the lock that a killed run left behind")
    if count := bring_to_present(RESULTS, SCRIPTS, time.time_ns()):
        print(f"== {count} results were dated in the future: dated anew; tables and figures are made again")


if __name__ == "__main__":
    run_command(main)
