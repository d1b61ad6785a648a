"""How a script of the workflow reports: everything to its log, a user's mistake as one line."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path

from intrinsic_lr.errors import InputError
from intrinsic_lr.heartbeat import beating


@contextmanager
def reported(log: str | Path) -> Iterator[None]:
    """Send standard error to a log file; end the program with one line on an `InputError`.

    What else goes wrong is told in the log too, not on the terminal alone.
    """
    with open(log, "w", encoding="utf-8", buffering=1) as handle, redirect_stderr(handle):
        try:
            with beating(handle):
                yield
        except InputError as error:
            print(f"error: {error}", file=handle)
            sys.exit(2)
        except Exception:
            traceback.print_exc(file=handle)
            raise
