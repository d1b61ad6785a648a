"""The ensemble engine against plain PyTorch and against its own matrix products.

Every case (a net, a batch size, a number R of replicates, threads or precision) is measured in one go: in each
repetition the engine, the baselines and the bare products take turns, for an epoch of steps where time allows it.
Numbers are medians over repetitions, with quartiles in brackets; a ratio is taken within each repetition.

    engine     the library's training of R networks at once, batches and shuffling included
    loader     torch.nn, a DataLoader over tensors, torch.optim.SGD; one net: R of them take R times as long
    tensors    the same with the data in the device's memory and no DataLoader
    vmap       torch.func.vmap over R stacked nets
    compiled   CUDA: tensors under torch.compile with CUDA graphs
    products   the step's own matrix products and convolutions alone, each at its fastest layout

All train by SGD without momentum on images of noise. preresnet8 (one block a stage) stands in on a CPU for
preresnet32 (five), which `--models preresnet32` measures.
"""

import argparse
import gc
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict
from itertools import product
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks import report, targets
from benchmarks.baselines import BASELINES, Contender
from benchmarks.cases import MODELS, PRECISIONS, Case, arithmetic
from benchmarks.commands import Parser
from benchmarks.library import Engine
from benchmarks.measure import (
    LEAST_REPETITIONS,
    SkippedError,
    Timing,
    check_time,
    first_line,
    interleave,
    others_seconds,
    probe,
    warm_up,
)
from benchmarks.roofline import Products, bandwidth, bytes_moved
from benchmarks.ways import WAYS
from intrinsic_lr.analyses.tables import write_table
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.models.devices import describe, resolve

RIVALS: dict[str, Callable[[Case], Contender]] = {"engine": Engine, **BASELINES, "products": Products}
CONTENDERS = {**RIVALS, **WAYS}
ON_CUDA = ("compiled", "grouped_graph", "streams_graph")
COLUMNS = (
    "model", "batch", "replicates", "device", "threads", "precision", "contender",
    "member_steps_per_second", "member_steps_per_second_low", "member_steps_per_second_high",
    "ratio", "ratio_low", "ratio_high", "repetitions", "steps",
    "other_cores", "peak_bytes_per_member", "bytes_seconds", "layouts", "note",
)  # fmt: skip
OUT = Path("results/benchmarks/engine.csv")
Row = dict[str, Any]


def main(argv: list[str]) -> None:
    """Measure the chosen cases, print the tables and write the CSV file."""
    options = _options(argv)
    cases = _cases(options)
    name = describe(torch.device(options.device))
    print(f"{name}, {_cores()} CPU cores, PyTorch {torch.__version__}, {len(cases)} cases\n")
    print(report.header(options.device.startswith("cuda")), flush=True)
    rows: list[Row] = []
    for found in _measured(cases, options):
        rows += found
        print(report.case(found), flush=True)
    print(report.ways(rows))
    print(report.targets(rows))
    write_table(pd.DataFrame(rows, columns=COLUMNS), options.out)
    print(f"written: {options.out}")


def _options(argv: list[str]) -> argparse.Namespace:
    """Read the command line, fill in what depends on the device, and check it."""
    parser = Parser("engine", __doc__)
    add = parser.add_argument
    add("--models", type=_texts, help=f"of {', '.join(MODELS)}")
    add("--replicates", type=_numbers, help="default 1,8,64,256, and those that targets name")
    add("--batch", type=_numbers, help="default 32,128")
    add("--threads", type=_threads, help="CPU threads, `all` for all cores; default 1,all on a CPU, all on CUDA")
    add("--precisions", type=_texts, help=f"of {', '.join(PRECISIONS)}; default all on CUDA, float32 on a CPU")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    add("--repetitions", type=int, default=7, help=f"at most so many; at least {LEAST_REPETITIONS}")
    add("--seconds", type=float, help="time for a case, larger ones are left out; default 6 on a CPU, 2 on CUDA")
    add("--minutes", type=float, help="time for all, after which no case begins; default 13 on a CPU, 8 on CUDA")
    ways = "cases at which ways to convolve and compiled nets join in; default: those that targets name"
    add("--ways", choices=("targets", "all", "none"), default="targets", help=ways)
    add("--quick", action="store_true", help="1, 8 and 64 replicates, batch 32, all threads: about three minutes")
    add("--out", type=Path, default=OUT, help=f"default {OUT}")
    options = parser.parse_args(argv)
    options.device = str(resolve(options.device))
    options.named = options.replicates is None
    for key, value in _defaults(options.device.startswith("cuda"), options.quick).items():
        if getattr(options, key) is None:
            setattr(options, key, value)
    _check(options)
    return options


def _defaults(cuda: bool, quick: bool) -> dict[str, Any]:
    cores = _cores()
    return {
        "models": ("mlp", "cnn4_8x8", "cnn4_28x28", "preresnet32" if cuda else "preresnet8"),
        "replicates": (1, 8, 64) if quick else (1, 8, 64, 256),
        "batch": (32,) if quick else (32, 128),
        "threads": (cores,) if quick or cuda else tuple(sorted({1, cores})),
        "precisions": PRECISIONS if cuda else ("float32",),
        "seconds": 2.0 if cuda else 3.0 if quick else 6.0,
        "minutes": 8.0 if cuda else 13.0,
    }


def _check(options: argparse.Namespace) -> None:
    for key, allowed in (("models", MODELS), ("precisions", PRECISIONS)):
        for value in getattr(options, key):
            if value not in allowed:
                raise InputError(f"--{key}: found {value!r}; allowed: {', '.join(allowed)}")
    least = {"replicates": 1, "batch": 2, "threads": 1}
    for key, low in least.items():
        for value in getattr(options, key):
            if value < low:
                raise InputError(f"--{key}: found {value}; allowed: whole numbers from {low} on")
    most = min(MODELS[model].images for model in options.models)
    if max(options.batch) > most:
        raise InputError(f"--batch: found {max(options.batch)}; allowed: up to {most}, the images of a set")
    if options.repetitions < LEAST_REPETITIONS:
        raise InputError(f"--repetitions: found {options.repetitions}; allowed: from {LEAST_REPETITIONS} on")
    for key in ("seconds", "minutes"):
        if not getattr(options, key) > 0:
            raise InputError(f"--{key}: found {getattr(options, key)}; allowed: numbers above 0")


def _texts(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _threads(text: str) -> tuple[int, ...]:
    return tuple(_cores() if part == "all" else int(part) for part in text.split(","))


# argparse names the type of a value that it cannot read.
_numbers.__name__ = "list of whole numbers"
_threads.__name__ = "list of whole numbers or `all`"


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _cases(options: argparse.Namespace) -> list[Case]:
    """Return the chosen cases: those that targets name first, smaller before larger ones."""
    sizes = set(product(options.models, options.batch, options.replicates))
    if options.named:
        cuda = options.device.startswith("cuda")
        sizes |= {
            (model, target.batch, target.replicates)
            for target in targets.TARGETS
            if target.names_a_case and cuda == (target.device == "cuda")
            for model in target.models
            if model in options.models and target.batch in options.batch
        }
    cases = [
        Case(model, batch, replicates, options.device, threads, precision)
        for precision in options.precisions
        for threads in options.threads
        for model, batch, replicates in sorted(sizes, key=lambda size: (list(MODELS).index(size[0]), *size[1:]))
    ]
    return sorted(cases, key=lambda case: not targets.names(case))


def _measured(cases: Iterable[Case], options: argparse.Namespace) -> Iterable[list[Row]]:
    """Measure one case after the other and yield its rows; yield one row with a note for what is left out."""
    deadline = monotonic() + 60 * options.minutes
    bytes_per_second = bandwidth(options.device) if options.device.startswith("cuda") else None
    too_large: list[tuple[Case, str]] = []
    for case in cases:
        try:
            if monotonic() > deadline:
                raise SkippedError(f"the {options.minutes:g} minutes for all cases are used up")
            for smaller, reason in too_large:
                if _is_smaller(smaller, case):
                    raise SkippedError(
                        f"already with {smaller.replicates} replicates of batch {smaller.batch}: {reason}"
                    )
            yield measure(case, options, bytes_per_second)
            if case.on_cuda:
                gc.collect()
                torch.cuda.empty_cache()
        except SkippedError as skipped:
            too_large.append((case, str(skipped)))
            yield [asdict(case) | {"contender": "engine", "note": str(skipped)}]


def _is_smaller(case: Case, other: Case) -> bool:
    same = ("model", "device", "threads", "precision")
    return (
        all(getattr(case, key) == getattr(other, key) for key in same)
        and case.replicates <= other.replicates
        and case.batch <= other.batch
    )


def measure(case: Case, options: argparse.Namespace, bytes_per_second: float | None) -> list[Row]:
    """Measure the contenders of a case and return a row for each, the engine's first.

    Raises:
        SkippedError: when the engine takes too long or too much memory.
    """
    seen = probe(case, options.seconds)
    check_time(seen.seconds, options.seconds)
    contenders, estimates, notes = {}, {}, {}
    for name in _contenders(case, options.ways):
        try:
            with arithmetic(case):
                contender = CONTENDERS[name](case)
            estimates[name] = warm_up(contender, case, options.seconds)
            contenders[name] = contender
        except (SkippedError, RuntimeError) as reason:
            notes[name] = first_line(reason)
    if "engine" in notes:
        raise SkippedError(notes["engine"])
    epoch = case.net.images // case.batch
    others, started = others_seconds(), monotonic()
    timings = interleave(contenders, estimates, case, epoch, options.seconds, options.repetitions)
    busy = (others_seconds() - others) / (monotonic() - started)
    rows = {name: row(case, name, timing, timings["engine"]) for name, timing in timings.items()}
    rows["engine"] |= {"peak_bytes_per_member": seen.peak_bytes / case.replicates, "other_cores": busy}
    if bytes_per_second:
        rows["engine"]["bytes_seconds"] = bytes_moved(case) / bytes_per_second
    if "products" in rows:
        rows["products"]["layouts"] = contenders["products"].spell()
    return [*rows.values(), *(asdict(case) | {"contender": name, "note": note} for name, note in notes.items())]


def _contenders(case: Case, ways: str) -> list[str]:
    """Return the names of a case's contenders, the engine first."""
    weighed = ways == "all" or (ways == "targets" and targets.names(case))
    chosen = CONTENDERS if weighed and case.model != "mlp" else RIVALS
    return [name for name in chosen if name not in ON_CUDA or (case.on_cuda and weighed)]


def row(case: Case, name: str, timing: Timing, engine: Timing) -> Row:
    """Return what is known of a contender, its rate and how many times as fast the engine is."""
    rates = _spread("member_steps_per_second", timing.rates)
    ratios = _spread("ratio", engine.rates / timing.rates)
    counts = {"repetitions": len(timing.seconds), "steps": timing.steps}
    return asdict(case) | {"contender": name} | rates | ratios | counts


def _spread(name: str, values: np.ndarray) -> dict[str, float]:
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75))
    return {name: median, f"{name}_low": low, f"{name}_high": high}
