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

With `--compile`, what `compile: on` brings is measured in their place: processor time and break-even.

    single     the engine step by step, where it does several in one call of a kernel
    eager      the engine without compiled kernels, by PyTorch's operations
    step       the engine with the whole step compiled by torch.compile

All train by SGD without momentum on images of noise. preresnet8 (one block a stage) is measured on a CPU in
place of preresnet32 (five), which `--models preresnet32` measures.
"""

import argparse
import os
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from itertools import product
from time import monotonic, perf_counter, process_time
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.common import Parser, cores, measure
from benchmarks.contenders import Plain, Products, Vmap
from benchmarks.library import (
    MODELS,
    PRECISIONS,
    WITHOUT_KERNELS,
    Case,
    Compiled,
    Eager,
    Engine,
    Single,
    set_arithmetic,
)
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
OF_COMPILATION: dict[str, Callable[[Case], Any]] = {
    "engine": Engine,
    "single": Single,
    "eager": Eager,
    "step": Compiled,
    "vmap": Vmap,
}
LEAST_REPETITIONS, REPETITIONS = 3, 7
LEAST_SECONDS = 0.05
"""Shortest repetition of a contender, where the budget allows it."""
Row = dict[str, Any]


def main(argv: list[str]) -> None:
    """Measure the chosen cases, print a table and write the CSV file."""
    options = _options(argv)
    sizes = product(options.precisions, options.threads, options.models, options.batch, sorted(options.replicates))
    cases = [Case(model, b, r, options.device, threads, precision) for precision, threads, model, b, r in sizes]
    print(f"{describe(torch.device(options.device))}, PyTorch {torch.__version__}, {len(cases)} cases")
    print(f"{cores()} CPU cores, load {os.getloadavg()[0]:.2g}: ratios on a busy machine are not to be trusted\n")
    others = list(OF_COMPILATION if options.compile else CONTENDERS)[1:]
    heads = "".join(f"{name if name == 'products' else f'over {name}':>20}" for name in others)
    print(f"{'':<42}{'member-steps/s':>26}{heads}  n", flush=True)
    deadline = monotonic() + 60 * options.minutes
    rows: list[Row] = []
    too_large: dict[tuple, str] = {}
    for case in cases:
        kind = (case.model, case.batch, case.threads, case.precision)
        arguments = (case, options.seconds, options.compile)
        try:
            if monotonic() > deadline:
                raise InputError(f"the {options.minutes:g} minutes for all cases are used up")
            if kind in too_large:
                raise InputError(f"already with fewer replicates: {too_large[kind]}")
            # In a process of its own, one that runs out of memory ends alone.
            found = measured(*arguments) if case.on_cuda else measure(measured, *arguments)[0]
        except InputError as error:
            found = [_left_out(case, "engine", str(error))]
        if "note" in found[0]:
            too_large.setdefault(kind, found[0]["note"])
        print(_line(found, others), flush=True)
        rows += found
    write_table(pd.DataFrame(rows), options.out)


def _options(argv: list[str]) -> argparse.Namespace:
    """Read the command line and fill in what depends on the device."""
    parser = Parser("engine", __doc__)
    add = parser.add_argument
    add("--models", nargs="+", choices=[*MODELS, *WITHOUT_KERNELS])
    add(
        "--compile",
        action="store_true",
        help="compare steps that torch.compile has compiled; default mlp, 1 16 64",
    )
    add("--replicates", nargs="+", type=int, help="default 1 8 64 256 on a CPU, 16 128 on CUDA")
    add("--batch", nargs="+", type=int, help="default 32 128 on a CPU, 128 on CUDA")
    add("--threads", nargs="+", type=int, help="CPU threads; default 1 and all on a CPU, all on CUDA")
    add("--precisions", nargs="+", choices=PRECISIONS, help="default all on CUDA, float32 on a CPU")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    add("--seconds", type=float, help="time for a case, larger ones are left out; default 6 on a CPU, 2 on CUDA")
    add("--minutes", type=float, help="time for all, after which no case begins; default 13 on a CPU, 8 on CUDA")
    add("--quick", action="store_true", help="1, 8 and 64 replicates, batch 32, all threads: about three minutes")
    options = parser.parse_args(argv)
    options.device = str(resolve(options.device))
    models = ["mlp", "cnn4_8x8", "cnn4_28x28", "preresnet8"]
    if options.device.startswith("cuda"):
        models = ["mlp", "cnn4_28x28", "preresnet32"]
        defaults = (models, [16, 128], [128], [cores()], list(PRECISIONS), 2.0, 8.0)
    elif options.compile:
        defaults = (["mlp"], [1, 16, 64], [32], [1], ["float32"], 6.0, 13.0)
    elif options.quick:
        defaults = (models, [1, 8, 64], [32], [cores()], ["float32"], 3.0, 13.0)
    else:
        defaults = (models, [1, 8, 64, 256], [32, 128], sorted({1, cores()}), ["float32"], 6.0, 13.0)
    names = ("models", "replicates", "batch", "threads", "precisions", "seconds", "minutes")
    for name, default in zip(names, defaults, strict=True):
        if getattr(options, name) is None:
            setattr(options, name, default)
    largest = min({**MODELS, **WITHOUT_KERNELS}[model].images for model in options.models)
    for name, low, high in (("replicates", 1, 10**6), ("batch", 2, largest), ("threads", 1, 10**3)):
        if wrong := [value for value in getattr(options, name) if not low <= value <= high]:
            raise InputError(f"--{name}: must be from {low} to {high}, got {wrong[0]}")
    return options


def _left_out(case: Case, contender: str, reason: str) -> Row:
    return asdict(case) | {"contender": contender, "note": reason}


def measured(case: Case, budget: float, compilation: bool = False) -> list[Row]:
    """Measure the contenders of a case in so many seconds; return a row for each, the engine's first."""
    contenders, estimates, left_out = {}, {}, []
    for name, build in (OF_COMPILATION if compilation else CONTENDERS).items():
        if name == "compiled" and not case.on_cuda:
            continue
        try:
            set_arithmetic(case)
            contender = build(case)
            seconds = min(timed(contender, 1, case) for _ in range(4 if case.on_cuda else 2))
            if LEAST_REPETITIONS * seconds > budget:
                raise RuntimeError(f"a step takes {seconds:.1f} s, {LEAST_REPETITIONS} of them over {budget:g} s")
            contenders[name], estimates[name] = contender, seconds
        except RuntimeError as error:
            left_out.append(_left_out(case, name, str(error).partition("\n")[0]))
            if name == "engine":
                return left_out
    times, steps = interleave(contenders, estimates, case, budget)
    rates = {name: contenders[name].members / seconds for name, seconds in times.items()}
    rows = {name: row(case, name, rates, steps[name]) for name in rates}
    if compiled := contenders.get("step"):
        rows["step"] |= of_compilation(compiled, times)
    return [*rows.values(), *left_out]


def of_compilation(compiled: Compiled, times: dict[str, np.ndarray]) -> Row:
    """Return what compiling took, and in how many steps that is saved; infinite where a step is no faster."""
    saved = np.median(times["engine"] - times["step"])
    steps = compiled.compile_seconds / saved if saved > 0 else np.inf
    return {
        "compile_seconds": compiled.compile_seconds,
        "kept_seconds": compiled.kept_seconds,
        "break_even_steps": steps,
    }


def timed(contender: Any, steps: int, case: Case) -> float:
    """Return the mean seconds of a step: of processor time, which others on the machine take nothing of, where it
    is that of one thread.
    """
    clock = process_time if case.threads == 1 and not case.on_cuda else perf_counter
    set_arithmetic(case)
    case.synchronize()
    started = clock()
    if isinstance(contender, Engine):
        contender.steps(steps)
    else:
        for _ in range(steps):
            contender.step()
    case.synchronize()
    return (clock() - started) / steps


def interleave(
    contenders: dict[str, Any], estimates: dict[str, float], case: Case, budget: float
) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Time contenders in turn within each repetition, which begins with another contender each time.

    A repetition takes an epoch of steps where the budget of seconds allows it, so that shuffling has its share.

    Returns:
        Seconds of a step for each repetition, and the steps of a repetition, by contender.
    """
    names, epoch, steps = list(contenders), case.net.images // case.batch, {}
    for name in names:
        wanted = max(epoch, round(LEAST_SECONDS / estimates[name]))
        share = budget / (len(names) * REPETITIONS)
        steps[name] = max(1, min(wanted, int(share / estimates[name])))
    expected = sum(steps[name] * estimates[name] for name in names)
    count = min(REPETITIONS, max(LEAST_REPETITIONS, int(budget / expected)))
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for repetition in range(count):
        first = repetition % len(names)
        for name in names[first:] + names[:first]:
            seconds[name].append(timed(contenders[name], steps[name], case))
    return {name: np.array(found) for name, found in seconds.items()}, steps


def row(case: Case, name: str, rates: dict[str, np.ndarray], steps: int) -> Row:
    """Return a contender's rate, and how many times as fast the engine is, from the rates of each repetition."""
    found = asdict(case) | {"contender": name, "repetitions": len(rates[name]), "steps": steps}
    for quantity, values in (("member_steps_per_second", rates[name]), ("ratio", rates["engine"] / rates[name])):
        low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
        found |= {quantity: middle, f"{quantity}_low": low, f"{quantity}_high": high}
    return found


def _line(rows: list[Row], others: list[str]) -> str:
    case, found = rows[0], {row["contender"]: row for row in rows if "ratio" in row}
    place = f"{case['device']} {case['threads']} thr {case['precision']}"
    line = f"{case['model']:<11} b{case['batch']:<4} R{case['replicates']:<4} {place}".ljust(42)
    if engine := found.get("engine"):
        line += f"{_spread(engine, 'member_steps_per_second'):>26}"
        for name in others:
            line += f"{_spread(found[name], 'ratio') if name in found else '-':>20}"
        line += f"  {engine['repetitions']}x{engine['steps']}"
    if step := found.get("step"):
        kept = f"{step['kept_seconds']:.1f} s with what is kept of that"
        line += f"\n    compiled in {step['compile_seconds']:.1f} s of processor time, {kept}; "
        line += f"saved after {step['break_even_steps']:,.0f} steps"
    return "\n".join([line, *(f"    {row['contender']} left out: {row['note']}" for row in rows if "note" in row)])


def _spread(row: Row, name: str) -> str:
    values = (row[name], row[f"{name}_low"], row[f"{name}_high"])
    middle, low, high = (f"{value:,.0f}" if value >= 100 else f"{value:.3g}" for value in values)
    return f"{middle} [{low}, {high}]"
