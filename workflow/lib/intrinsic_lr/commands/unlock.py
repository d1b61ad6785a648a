"""Command line: remove the lock that a killed run left, and date results of the future to the present.

`make results` calls it before Snakemake, which refuses to run where a killed run left its lock, and which makes
again what is older than a file dated in the future, for as long as that future lasts.
"""

import contextlib
import fcntl
import os
import time
from pathlib import Path

from intrinsic_lr.commands.options import Parser
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.locks import MARK

LAST_SECOND = 1_000_000_000
"""Nanoseconds before the present that files from the future are put into."""


def clear_lock(folder: Path) -> bool:
    """Remove the locks that a killed Snakemake left in `folder`, its `.snakemake`; tell whether there were any.

    A workflow at work holds `folder/running` before it takes a lock (`locks.mark_running`). InputError where a run
    is at work, OSError where the file system has no locks, so that nobody can tell.
    """
    locks = list((folder / "locks").glob("*"))
    if not locks:
        return False
    with open(folder / MARK, "a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            place = folder.absolute().parent
            raise InputError(f"another run is at work in {place}; wait for it, or stop it first") from None
        for lock in locks:
            lock.unlink(missing_ok=True)
    return True


def bring_to_present(results: Path, now: int) -> int:
    """Date files of the future to the last second, in their order; return how many there were.

    Args:
        results: folder of the results, with all below.
        now: the present in nanoseconds since 1970.
    """
    times = {path: path.lstat().st_mtime_ns for path in results.rglob("*") if not path.is_dir()}
    late = sorted((path for path, dated in times.items() if dated > now), key=times.__getitem__)
    for place, path in enumerate(late):
        dated = now - LAST_SECOND + place * LAST_SECOND // len(late)
        with contextlib.suppress(OSError):
            os.utime(path, ns=(dated, dated), follow_symlinks=False)
    return len(late)


def main(argv: list[str] | None = None) -> None:
    """Put the working directory right, and say what was done."""
    Parser("unlock", __doc__).parse_args(argv)
    if clear_lock(Path(".snakemake")):
        print("== removing the lock that a killed run left behind")
    if count := bring_to_present(Path("results"), time.time_ns()):
        print(f"== {count} results were dated in the future: dated to the present")
