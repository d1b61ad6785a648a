"""Times of contenders in turn, so that whatever disturbs the machine disturbs all alike; and peak memory."""

import contextlib
import multiprocessing
import os
import re
import resource
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import torch

from benchmarks.baselines import Contender
from benchmarks.cases import Case, arithmetic, synchronise
from benchmarks.library import Engine

LEAST_REPETITIONS = 3
LEAST_SECONDS = 0.05
"""Shortest repetition of a contender, where the budget allows it."""
WARM_UP = {"cpu": 1, "cuda": 3}
"""Steps before the first that is timed."""
RIVALS_MEMORY = 4
"""How many times the engine's memory is kept free for the other contenders."""
PATIENCE = 4
"""How many budgets a first look at a case may take: it starts a process, builds the nets and takes two steps."""
CHILD = multiprocessing.get_context("forkserver")
CHILD.set_forkserver_preload(["benchmarks.library"])


class SkippedError(Exception):
    """A measurement that is left out; its text is the reason."""


@dataclass(frozen=True)
class Timing:
    """Seconds of one step of all its members, for each repetition.

    Attributes:
        seconds: array of one number per repetition.
        steps: steps that each repetition averages over.
        members: networks that a step advances.
    """

    seconds: np.ndarray
    steps: int
    members: int

    @property
    def rates(self) -> np.ndarray:
        """Member-steps per second of each repetition."""
        return self.members / self.seconds


@dataclass(frozen=True)
class Probe:
    """A first look at the engine.

    Attributes:
        seconds: of a step.
        peak_bytes: of the weights and of all that a step adds to them at its peak. On a CPU they are those of the
            process, with some 10 MB that its first step takes once, whatever the number of members.
    """

    seconds: float
    peak_bytes: int


def warm_up(contender: Contender, case: Case, budget: float) -> float:
    """Run a contender in and return the seconds of a step.

    Raises:
        SkippedError: when the least number of repetitions would take longer than the budget.
    """
    steps = WARM_UP["cuda" if case.on_cuda else "cpu"]
    seconds = min(_time(contender, 1, case) for _ in range(steps + 1))
    check_time(seconds, budget)
    return seconds


def check_time(seconds: float, budget: float) -> None:
    """Raise `SkippedError` when a step of so many seconds does not fit the budget."""
    if LEAST_REPETITIONS * seconds > budget:
        raise SkippedError(f"a step takes {seconds:.1f} s, {LEAST_REPETITIONS} of them more than {budget:g} s")


def interleave(
    contenders: Mapping[str, Contender],
    estimates: Mapping[str, float],
    case: Case,
    epoch: int,
    budget: float,
    repetitions: int,
) -> dict[str, Timing]:
    """Time contenders in turn within each repetition, which begins with another contender each time.

    Args:
        contenders: by name; each goes on training from where it is.
        estimates: seconds of a step of each.
        case: what they train, for the device.
        epoch: steps of an epoch; a repetition takes that many where the budget allows it, so that shuffling
            has its share.
        budget: seconds for all of it; the least number of repetitions may take longer.
        repetitions: how often each contender is timed where the budget allows it.
    """
    names = list(contenders)
    share = budget / (len(names) * repetitions)
    steps = {}
    for name in names:
        wanted = max(epoch, round(LEAST_SECONDS / estimates[name]))
        steps[name] = max(1, min(wanted, int(share / estimates[name])))
    expected = sum(steps[name] * estimates[name] for name in names)
    count = min(repetitions, max(LEAST_REPETITIONS, int(budget / expected)))
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for repetition in range(count):
        first = repetition % len(names)
        for name in names[first:] + names[:first]:
            seconds[name].append(_time(contenders[name], steps[name], case))
    return {name: Timing(np.array(seconds[name]), steps[name], contenders[name].members) for name in names}


def others_seconds() -> float:
    """Return the CPU seconds that all processes but this one have taken since the machine started."""
    user, nice, system, _, _, interrupt, soft_interrupt, stolen = map(
        int, Path("/proc/stat").read_text().split(maxsplit=9)[1:9]
    )
    ticks = user + nice + system + interrupt + soft_interrupt + stolen
    return ticks / os.sysconf("SC_CLK_TCK") - process_time()


def probe(case: Case, budget: float) -> Probe:
    """Take two steps of the engine: on a CPU in a process of its own, whose memory is nobody else's.

    Raises:
        SkippedError: when they take too long or too much memory.
    """
    if case.on_cuda:
        try:
            return _probe_cuda(case)
        except RuntimeError as error:
            raise SkippedError(first_line(error)) from None
    receiver, sender = CHILD.Pipe(duplex=False)
    process = CHILD.Process(target=_probe_cpu, args=(case, sender))
    process.start()
    sender.close()
    try:
        if not receiver.poll(PATIENCE * budget):
            raise SkippedError(f"two steps take more than {PATIENCE * budget:g} s")
        found = receiver.recv()
    except EOFError:
        raise SkippedError("the process that measures its memory ended without a result") from None
    finally:
        process.kill()
        process.join()
    if isinstance(found, str):
        raise SkippedError(found)
    available = _entry_bytes("/proc/meminfo", "MemAvailable")
    if RIVALS_MEMORY * found.peak_bytes > available:
        needed = f"{found.peak_bytes / 1e9:.1f} GB, its rivals up to {RIVALS_MEMORY} times as much"
        raise SkippedError(f"the engine takes {needed}, and {available / 1e9:.1f} GB are free")
    return found


def _probe_cpu(case: Case, sender: Connection) -> None:
    available = _entry_bytes("/proc/meminfo", "MemAvailable")
    limit = _entry_bytes("/proc/self/status", "VmSize") + available
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        with arithmetic(case):
            engine = Engine(case)
            before = _entry_bytes("/proc/self/status", "VmRSS")
            # Forget the peak so far; where the kernel cannot, what is found is an upper bound.
            with contextlib.suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")
            seconds = min(_time(engine, 1, case) for _ in range(2))
            peak = _entry_bytes("/proc/self/status", "VmHWM")
            sender.send(Probe(seconds, peak - before + engine.weight_bytes))
    except RuntimeError as error:
        sender.send(_reason(error, available))


def _probe_cuda(case: Case) -> Probe:
    engine = Engine(case)
    before = torch.cuda.memory_allocated(case.device)
    torch.cuda.reset_peak_memory_stats(case.device)
    seconds = min(_time(engine, 1, case) for _ in range(2))
    peak = torch.cuda.max_memory_allocated(case.device)
    return Probe(seconds, peak - before + engine.weight_bytes)


def _reason(error: RuntimeError, available: int) -> str:
    if "allocate memory" in str(error):
        return f"takes more than the {available / 1e9:.1f} GB of free memory"
    return first_line(error)


def first_line(error: Exception) -> str:
    """Return what an error says first."""
    return str(error).partition("\n")[0]


def _entry_bytes(path: str, key: str) -> int:
    """Return an entry of a file of /proc, in bytes."""
    return int(re.search(rf"{key}:\s+(\d+) kB", Path(path).read_text())[1]) * 1024


def _time(contender: Contender, steps: int, case: Case) -> float:
    """Return the mean seconds of a step."""
    with arithmetic(case):
        synchronise(case.device)
        started = perf_counter()
        for _ in range(steps):
            contender.step()
        synchronise(case.device)
        return (perf_counter() - started) / steps
