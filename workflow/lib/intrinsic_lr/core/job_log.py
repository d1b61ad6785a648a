"""How a script of the workflow reports: everything to its log, a user's mistake as one line."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path

from intrinsic_lr.core.errors import one_line
from intrinsic_lr.core.heartbeat import beating


@contextmanager
def reported(log: str | Path) -> Iterator[None]:
    """Send standard error to a log file; end the program with one line on a mistake or a refusal of the system.

    What else goes wrong is told in the log too, not on the terminal alone.
    """
    with open(log, "w", encoding="utf-8", buffering=1) as handle, redirect_stderr(handle):
        try:
            with one_line(), beating(handle):
                yield
        except Exception:
            traceback.print_exc(file=handle)
            raise
