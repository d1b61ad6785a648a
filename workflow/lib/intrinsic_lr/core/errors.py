"""Mistakes of a user, and refusals of the system, reported as one line instead of a traceback."""

import contextlib
import sys
from collections.abc import Iterator, Sequence

LONGEST = 2_000
"""Characters of a message; the middle of a longer one is left out."""


def printable(text: str) -> str:
    """Return a text as one line that a terminal can show: what is not printable is escaped as Python does."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


class InputError(Exception):
    """A mistake in what the user or the machine gave: names the place, what was found and what is allowed."""

    def __init__(self, message: str) -> None:
        line, half = printable(message), LONGEST // 2
        super().__init__(line if len(line) <= LONGEST else f"{line[:half]} ... {line[-half:]}")


@contextlib.contextmanager
def prefixed(place: str) -> Iterator[None]:
    """Put a place, such as `config: experiments.`, before the message of an `InputError`."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{place}{error}") from None


def abridged(names: Sequence[str], most: int = 6) -> str:
    """Return the first names of a list, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def format_os_error(error: OSError) -> str:
    """Return what the system refused, with the file where the error knows it."""
    reason = error.strerror or str(error)
    return f"{error.filename}: {reason}" if error.filename else reason


@contextlib.contextmanager
def one_line() -> Iterator[None]:
    """End the program with one line on standard error and exit status 2 on an `InputError` or an `OSError`."""
    try:
        yield
    except BrokenPipeError:
        raise  # the reader of the output has seen enough
    except (InputError, OSError) as error:
        text = printable(format_os_error(error)) if isinstance(error, OSError) else error
        # The log may lie on the very disk that is full.
        with contextlib.suppress(OSError):
            print(f"error: {text}", file=sys.stderr)
        raise SystemExit(2) from None
