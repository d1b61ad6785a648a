"""How a script of the workflow reports: everything to its log, a user's mistake as one line."""

from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path

from intrinsic_lr.errors import one_line


@contextmanager
def reported(log: str | Path) -> Iterator[None]:
    """Send standard error to a log file; end the program with one line on a mistake or a refusal of the system."""
    with open(log, "w", encoding="utf-8", buffering=1) as handle, redirect_stderr(handle), one_line():
        yield
