"""One measurement in a process of its own: its time and its peak memory, which is then nobody else's."""

import multiprocessing
import re
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from intrinsic_lr.core.errors import InputError


@dataclass(frozen=True)
class Measurement:
    """What a function took, in seconds and, at the peak of its process, in bytes; and what it returned."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    value: Any


def measure(function: Callable[..., Any], *arguments: Any) -> Measurement:
    """Call a function of a module in a new process; imports are not timed.

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
    started, cpu = perf_counter(), process_time()
    value = function(*arguments)
    seconds, cpu_seconds = perf_counter() - started, process_time() - cpu
    # Unlike ru_maxrss this does not begin with what the process that started this one had.
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
    sender.send(Measurement(seconds, cpu_seconds, peak, value))
