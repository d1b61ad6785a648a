"""The ensemble engine against plain PyTorch and against the machine's limit, its own matrix products.

Every case (a network, a batch size, a number R of replicates, threads or precision) is measured in one go: in each
repetition the engine, the baselines and the bare products take turns, for an epoch of steps where time allows it.
Numbers are medians over repetitions, with quartiles in brackets; a ratio is taken within each repetition.

    engine     the library's training of R networks at once, batches and shuffling included
    loader     torch.nn, a DataLoader over tensors, torch.optim.SGD; one network: R of them take R times as long
    tensors    the same with the data in the device's memory and no DataLoader
    vmap       torch.func.vmap over R stacked networks
    compiled   CUDA: tensors under torch.compile with CUDA graphs
    products   the step's own matrix products and convolutions alone, each at its fastest layout

All train by SGD without momentum on images of noise. preresnet8 (one block a stage) is measured on a CPU in place of
preresnet32 (five), which `--models preresnet32` measures.
"""

import argparse
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from functools import partial
from itertools import product
from pathlib import Path
from time import monotonic, perf_counter, process_time
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.cases import MODELS, PRECISIONS, Case, arithmetic, synchronize
from benchmarks.common import Parser, cores, measure
from benchmarks.contenders import Plain, Products, Vmap
from benchmarks.library import Engine
from intrinsic_lr.analyses.tables import write_table
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.models.devices import describe, resolve

CONTENDERS: dict[str, Callable[[Case], Any]] = {
    "engine": Engine,
    "loader": partial(Plain, loader=True),
    "tensors": Plain,
    "vmap": Vmap,
    "compiled": partial(Plain, compiled=True),
    "products": Products,
}
COLUMNS = (
    "model", "batch", "replicates", "device", "threads", "precision", "contender",
    "member_steps_per_second", "member_steps_per_second_low", "member_steps_per_second_high",
    "ratio", "ratio_low", "ratio_high", "repetitions", "steps", "other_cores", "note",
)  # fmt: skip
LEAST_REPETITIONS = 3
LEAST_SECONDS = 0.05
"""Shortest repetition of a contender, where the budget allows it."""
WARM_UP = 3
"""Steps before the first that is timed."""
DISTURBING = 0.1
"""Cores in use by other processes from which on a measurement is not to be trusted."""
Row = dict[str, Any]


def main(argv: list[str]) -> None:
    """Measure the chosen cases, print a table and write the CSV file."""
    options = _options(argv)
    cases = _cases(options)
    name = describe(torch.device(options.device))
    print(f"{name}, {cores()} CPU cores, PyTorch {torch.__version__}, {len(cases)} cases\n\n{_head()}", flush=True)
    rows: list[Row] = []
    for found in _measured(cases, options):
        rows += found
        print(_line(found), flush=True)
    write_table(pd.DataFrame(rows, columns=COLUMNS), options.out)
    print(f"written: {options.out}")


def _options(argv: list[str]) -> argparse.Namespace:
    """Read the command line, fill in what depends on the device, and check it."""
    parser = Parser("engine", __doc__)
    add = parser.add_argument
    add("--models", type=lambda text: tuple(text.split(",")), help=f"of {', '.join(MODELS)}")
    add("--replicates", type=_numbers, help="default 1,8,64,256 on a CPU, 16,128 on CUDA")
    add("--batch", type=_numbers, help="default 32,128 on a CPU, 128 on CUDA")
    add("--threads", type=_numbers, help="CPU threads, `all` for all cores; default 1,all on a CPU, all on CUDA")
    precisions = f"of {', '.join(PRECISIONS)}; default all on CUDA, float32 on a CPU"
    add("--precisions", type=lambda text: tuple(text.split(",")), help=precisions)
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    add("--repetitions", type=int, default=7, help=f"at most so many; at least {LEAST_REPETITIONS}")
    add("--seconds", type=float, help="time for a case, larger ones are left out; default 6 on a CPU, 2 on CUDA")
    add("--minutes", type=float, help="time for all, after which no case begins; default 13 on a CPU, 8 on CUDA")
    add("--quick", action="store_true", help="1, 8 and 64 replicates, batch 32, all threads: about three minutes")
    options = parser.parse_args(argv)
    options.device = str(resolve(options.device))
    cuda, quick = options.device.startswith("cuda"), options.quick
    defaults = {
        "models": ("mlp", "cnn4_28x28", "preresnet32")
        if cuda
        else ("mlp", "cnn4_8x8", "cnn4_28x28", "preresnet8"),
        "replicates": (16, 128) if cuda else (1, 8, 64) if quick else (1, 8, 64, 256),
        "batch": (128,) if cuda else (32,) if quick else (32, 128),
        "threads": (cores(),) if quick or cuda else tuple(sorted({1, cores()})),
        "precisions": PRECISIONS if cuda else ("float32",),
        "seconds": 2.0 if cuda else 3.0 if quick else 6.0,
        "minutes": 8.0 if cuda else 13.0,
    }
    for key, value in defaults.items():
        if getattr(options, key) is None:
            setattr(options, key, value)
    for key, allowed in (("models", MODELS), ("precisions", PRECISIONS)):
        for value in getattr(options, key):
            if value not in allowed:
                raise InputError(f"--{key}: must be one of {', '.join(allowed)}, got {value!r}")
    most = min(MODELS[model].images for model in options.models)
    for key, low, high in (("replicates", 1, None), ("batch", 2, most), ("threads", 1, None)):
        for value in getattr(options, key):
            if value < low or (high and value > high):
                raise InputError(f"--{key}: must be from {low} on{f' to {high}' if high else ''}, got {value}")
    for key, low in (("repetitions", LEAST_REPETITIONS), ("seconds", 0), ("minutes", 0)):
        if getattr(options, key) < low:
            raise InputError(f"--{key}: must be at least {low}, got {getattr(options, key)}")
    return options


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(cores() if part == "all" else int(part) for part in text.split(","))


# argparse names the type of a value that it cannot read.
_numbers.__name__ = "list of whole numbers or `all`"


def _cases(options: argparse.Namespace) -> list[Case]:
    """Return the chosen cases, smaller before larger ones."""
    sizes = product(options.precisions, options.threads, options.models, options.batch, sorted(options.replicates))
    return [
        Case(model, batch, replicates, options.device, threads, precision)
        for precision, threads, model, batch, replicates in sizes
    ]


def _measured(cases: Iterable[Case], options: argparse.Namespace) -> Iterator[list[Row]]:
    """Measure one case after another and yield its rows, or one row with a note for what is left out."""
    deadline = monotonic() + 60 * options.minutes
    too_large: dict[tuple, str] = {}
    for case in cases:
        kind = (case.model, case.batch, case.threads, case.precision)
        arguments = (case, options.seconds, options.repetitions)
        if monotonic() > deadline:
            rows = [_left_out(case, "engine", f"the {options.minutes:g} minutes for all cases are used up")]
        elif kind in too_large:
            rows = [_left_out(case, "engine", f"already with fewer replicates: {too_large[kind]}")]
        elif case.on_cuda:
            rows = measured(*arguments)
        else:
            try:
                # In a process of its own: one that runs out of memory ends alone.
                rows = measure(measured, *arguments).value
            except InputError as error:
                rows = [_left_out(case, "engine", str(error))]
        if "note" in rows[0]:
            too_large.setdefault(kind, rows[0]["note"])
        yield rows


def _left_out(case: Case, contender: str, reason: str) -> Row:
    return asdict(case) | {"contender": contender, "note": reason}


def measured(case: Case, budget: float, repetitions: int) -> list[Row]:
    """Measure the contenders of a case in so many seconds; return a row for each, the engine's first."""
    contenders, estimates, left_out = {}, {}, []
    for name, build in CONTENDERS.items():
        if name == "compiled" and not case.on_cuda:
            continue
        try:
            with arithmetic(case):
                contender = build(case)
            seconds = min(timed(contender, 1, case) for _ in range(WARM_UP + 1 if case.on_cuda else 2))
            if LEAST_REPETITIONS * seconds > budget:
                raise RuntimeError(f"a step takes {seconds:.1f} s, {LEAST_REPETITIONS} of them over {budget:g} s")
            contenders[name], estimates[name] = contender, seconds
        except RuntimeError as error:
            left_out.append(_left_out(case, name, str(error).partition("\n")[0]))
            if name == "engine":
                return left_out
    others, started = _others_seconds(), monotonic()
    times, steps = interleave(contenders, estimates, case, budget, repetitions)
    busy = (_others_seconds() - others) / (monotonic() - started)
    rates = {name: contenders[name].members / seconds for name, seconds in times.items()}
    return [row(case, name, rates, steps[name], busy) for name in rates] + left_out


def timed(contender: Any, steps: int, case: Case) -> float:
    """Return the mean seconds of a step."""
    with arithmetic(case):
        synchronize(case.device)
        started = perf_counter()
        for _ in range(steps):
            contender.step()
        synchronize(case.device)
        return (perf_counter() - started) / steps


def interleave(
    contenders: dict[str, Any], estimates: dict[str, float], case: Case, budget: float, repetitions: int
) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Time contenders in turn within each repetition, which begins with another contender each time.

    A repetition takes an epoch of steps where the budget of seconds allows it, so that shuffling has its share.

    Returns:
        Seconds of a step for each repetition, and the steps of a repetition, by contender.
    """
    names, epoch, steps = list(contenders), case.net.images // case.batch, {}
    for name in names:
        wanted = max(epoch, round(LEAST_SECONDS / estimates[name]))
        share = budget / (len(names) * repetitions)
        steps[name] = max(1, min(wanted, int(share / estimates[name])))
    expected = sum(steps[name] * estimates[name] for name in names)
    count = min(repetitions, max(LEAST_REPETITIONS, int(budget / expected)))
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for repetition in range(count):
        first = repetition % len(names)
        for name in names[first:] + names[:first]:
            seconds[name].append(timed(contenders[name], steps[name], case))
    return {name: np.array(found) for name, found in seconds.items()}, steps


def _others_seconds() -> float:
    """Return the CPU seconds that all processes but this one have taken since the machine started."""
    user, nice, system, _, _, *interrupts = map(int, Path("/proc/stat").read_text().split(maxsplit=9)[1:9])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK") - process_time()


def row(case: Case, name: str, rates: dict[str, np.ndarray], steps: int, busy: float) -> Row:
    """Return a contender's rate, and how many times as fast the engine is, from the rates of each repetition."""
    found = asdict(case) | {
        "contender": name,
        "repetitions": len(rates[name]),
        "steps": steps,
        "other_cores": busy,
    }
    for quantity, values in (
        ("member_steps_per_second", rates[name]),
        ("ratio", rates["engine"] / rates[name]),
    ):
        low, found[quantity], high = np.quantile(values, (0.25, 0.5, 0.75))
        found |= {f"{quantity}_low": low, f"{quantity}_high": high}
    return found


def _head() -> str:
    ratios = "".join(f"{name if name == 'products' else f'over {name}':>22}" for name in list(CONTENDERS)[1:])
    return f"{'':<42}{'member-steps/s':>28}{ratios}  n"


def _line(rows: list[Row]) -> str:
    """Return a line on a case's engine, and remarks: contenders left out, a busy machine."""
    case, found = rows[0], {row["contender"]: row for row in rows if "ratio" in row}
    place = f"{case['device']} {case['threads']} thr {case['precision']}"
    line = f"{case['model']:<11} b{case['batch']:<4} R{case['replicates']:<4} {place}".ljust(42)
    if engine := found.get("engine"):
        line += f"{_spread(engine, 'member_steps_per_second'):>28}"
        for name in list(CONTENDERS)[1:]:
            line += f"{_spread(found[name], 'ratio') if name in found else '-':>22}"
        line += f"  {engine['repetitions']}x{engine['steps']}"
        if engine["other_cores"] > DISTURBING:
            line += f"\n    not to be trusted: other processes took {engine['other_cores']:.1f} cores meanwhile"
    remarks = [f"    {row['contender']} left out: {row['note']}" for row in rows if "note" in row]
    return "\n".join([line, *remarks])


def _spread(row: Row, name: str) -> str:
    middle, low, high = (
        f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
        for value in (row[name], row[f"{name}_low"], row[f"{name}_high"])
    )
    return f"{middle} [{low}, {high}]"
