"""A sign of life of a running program that others see on a shared disk: its log file stays young. No torch."""

import contextlib
import os
import stat
import threading
from collections.abc import Iterator
from typing import TextIO

BEAT_SECONDS = 10.0
SILENT_SECONDS = 90.0
"""Age of a log from which its program is held dead: clients of NFS show times that are up to a minute old."""


@contextlib.contextmanager
def beating(log: TextIO, every: float = BEAT_SECONDS) -> Iterator[None]:
    """Renew a log file's time of modification while the block runs, however rarely the program writes to it.

    A single step, an evaluation or a test of a claim may take minutes. Does nothing where `log` is no file but a
    terminal, for example.
    """
    try:
        number = log.fileno()
        is_file = stat.S_ISREG(os.fstat(number).st_mode)
    except (OSError, ValueError):
        is_file = False
    if not is_file:
        yield
        return
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(every):
            with contextlib.suppress(OSError):
                os.utime(number)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
