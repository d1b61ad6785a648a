"""How far a long computation is: a live bar on a terminal, whole lines in a log file."""

import sys
from typing import TextIO

from tqdm import tqdm

LOG_SECONDS = 10.0
_LINE = "{desc}: {n_fmt} of {total_fmt} {unit}s ({percentage:.0f} %), {rate_fmt}, {elapsed} gone, {remaining} left"


class _Lines:
    """A text stream that turns tqdm's carriage returns to lines of their own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        line = text.strip("\r\n ")
        if line:
            self._stream.write(line + "\n")

    def flush(self) -> None:
        self._stream.flush()


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
