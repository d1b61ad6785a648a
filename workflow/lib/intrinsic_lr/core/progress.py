"""How far a long computation is: a live bar on a terminal, whole lines in a log file."""

import re
import sys
from typing import NamedTuple, TextIO

from tqdm import tqdm

LOG_SECONDS = 10.0
_LINE = "{desc}: {n_fmt} of {total_fmt} {unit}s ({percentage:.0f} %), {rate_fmt}, {elapsed} gone, {remaining} left"
_READ = re.compile(r": (\d+) of (\d+) \S+ \(\d+ %\), .* gone, (?:\?|([\d:]+)) left$", re.MULTILINE)


class Progress(NamedTuple):
    """Units of work done and in all, and the seconds left at the last rate, or None before there was one."""

    done: int
    total: int
    seconds: float | None


def read_progress(log: str) -> Progress | None:
    """Return the last that a log's text says of a computation's progress, or None where it says nothing."""
    if not (lines := _READ.findall(log)):
        return None
    done, total, left = lines[-1]
    seconds = sum(int(part) * 60**power for power, part in enumerate(reversed(left.split(":")))) if left else None
    return Progress(int(done), int(total), seconds)


class _Lines:
    """A text stream that makes a line of each carriage return of tqdm's."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.flush = stream.flush

    def write(self, text: str) -> None:
        if line := text.strip("\r\n "):
            self._stream.write(line + "\n")


def progress(total: int, initial: int, description: str, unit: str = "step") -> tqdm:
    """Return a progress display on standard error: steps done, share, rate and time left."""
    terminal = sys.stderr.isatty()
    return tqdm(
        total=total,
        initial=initial,
        desc=description,
        unit=unit,
        file=sys.stderr if terminal else _Lines(sys.stderr),
        mininterval=0.2 if terminal else LOG_SECONDS,
        maxinterval=LOG_SECONDS,
        bar_format=None if terminal else _LINE,
    )
