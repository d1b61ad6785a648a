"""Shared by all parts: command lines, and measurements in a process of their own."""

import argparse
import multiprocessing
import os
import re
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

from intrinsic_lr.core.errors import InputError


class Parser(argparse.ArgumentParser):
    """Reads the options of one part, described by its module's text; a wrong option is answered in one line."""

    def __init__(self, part: str, text: str) -> None:
        raw = argparse.RawDescriptionHelpFormatter
        super().__init__(prog=f"python -m benchmarks {part}", description=text, formatter_class=raw)
        out = Path(f"results/benchmarks/{part}.csv")
        self.add_argument("--out", type=Path, default=out, help=f"table to write; default {out}")

    def error(self, message: str) -> NoReturn:
        """Raise `InputError`."""
        raise InputError(message)


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0))


def measure(function: Callable[..., Any], *arguments: Any) -> tuple[Any, int]:
    """Call a function of a module in a new process; return its value and the peak memory of the process in bytes.

    Raises:
        InputError: when the process ends without a result.
    """
    fresh = multiprocessing.get_context("spawn")
    receiver, sender = fresh.Pipe(duplex=False)
    process = fresh.Process(target=_call, args=(sender, function, arguments))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        raise InputError(f"{function.__name__}: ended without a result; is there enough memory?") from None
    finally:
        process.join()


def _call(sender: Connection, function: Callable[..., Any], arguments: tuple) -> None:
    value = function(*arguments)
    # Unlike ru_maxrss this does not begin with the peak of the process that started this one.
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
    sender.send((value, peak))
