"""Mistakes of a user, reported as one line instead of a traceback."""

import sys
from collections.abc import Callable

LONGEST = 2_000
"""Characters of a message; what lies between its halves is left out of a longer one."""


class InputError(Exception):
    """A mistake in what the user gave: names the place, the value found and what is allowed.

    The message is one line that a terminal can show: what is no printable character in it is spelt as Python does.
    """

    def __init__(self, message: str) -> None:
        line = "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in message)
        half = LONGEST // 2
        super().__init__(line if len(line) <= LONGEST else f"{line[:half]} ... {line[-half:]}")


def run_command(main: Callable[[], None]) -> None:
    """Run a command-line program; an `InputError` ends it with one line and exit status 2."""
    try:
        main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
