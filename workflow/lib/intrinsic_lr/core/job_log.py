"""What a program of the workflow leaves in its log: a mistake as one line, a fault in full, and signs of life."""

import os
import stat
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from pathlib import Path
from typing import TextIO

from intrinsic_lr.core.errors import one_line

HEARTBEAT_SECONDS = 10.0
SILENT_SECONDS = 90.0
"""Age of a log from which its program counts as dead: clients of NFS show times that are up to a minute old."""


def run_command(main: Callable[[], None]) -> None:
    """Run a command-line program: a mistake ends it in one line, and its log stays young."""
    with one_line(), heartbeat(sys.stderr):
        main()


@contextmanager
def reported(log: str | Path) -> Iterator[None]:
    """Do the same for a script of the workflow, with standard error and the traceback of a fault sent to `log`."""
    with open(log, "w", encoding="utf-8", buffering=1) as handle, redirect_stderr(handle):
        try:
            with one_line(), heartbeat(handle):
                yield
        except Exception:
            traceback.print_exc(file=handle)
            raise


@contextmanager
def heartbeat(log: TextIO, every: float = HEARTBEAT_SECONDS) -> Iterator[None]:
    """Renew a log file's time of modification while the block runs, which others see on a shared disk.

    A single step, an evaluation or the test of a claim may write nothing for minutes. Does nothing where `log` is
    no file, but a terminal for example.
    """
    number = None
    with suppress(OSError, ValueError):
        number = log.fileno() if stat.S_ISREG(os.fstat(log.fileno()).st_mode) else None
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(every):
            with suppress(OSError):
                os.utime(number)

    thread = threading.Thread(target=beat, daemon=True)
    if number is not None:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        if number is not None:
            thread.join()
