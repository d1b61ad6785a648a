"""Mistakes of a user, reported as one line instead of a traceback."""

import sys
from collections.abc import Callable

from intrinsic_lr.heartbeat import beating


class InputError(Exception):
    """A mistake in what the user gave: names the place, the value found and what is allowed."""


def run_command(main: Callable[[], None]) -> None:
    """Run a command-line program, its log beating; an `InputError` ends it with one line and exit status 2."""
    try:
        with beating(sys.stderr):
            main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
