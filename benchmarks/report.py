"""The benchmark's rows as tables of text."""

from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.baselines import BASELINES
from benchmarks.targets import verdicts
from benchmarks.ways import WAYS

Row = Mapping[str, Any]
_RATE, _RATIO = 28, 22
"""Widths of columns that hold a median with its quartiles."""
_NAME = 42
_DISTURBING = 0.1
"""Cores in use by other processes from which on a measurement is not to be trusted."""


def header(cuda: bool) -> str:
    """Return the head of the table whose lines `case` gives."""
    heads = "".join(f"{head:>{_RATIO}}" for head in _ratios(cuda).values())
    bandwidth = f"{'of bandwidth':>14}" if cuda else ""
    return f"{'':<{_NAME}}{'member-steps/s':>{_RATE}}{heads}{bandwidth}{'MB/member':>11}  n"


def case(rows: list[Row]) -> str:
    """Return a line on a case's engine, and what there is to remark: contenders left out, a busy machine."""
    found = {row["contender"]: row for row in rows if "ratio" in row}
    line = _name(rows[0])
    engine = found.get("engine")
    if engine:
        line += f"{_spread(engine, 'member_steps_per_second'):>{_RATE}}"
        for name in _ratios(_on_cuda(engine)):
            line += f"{_spread(found[name], 'ratio') if name in found else '-':>{_RATIO}}"
        if "bytes_seconds" in engine:
            used = engine["bytes_seconds"] * engine["member_steps_per_second"] / engine["replicates"]
            line += f"{used:>14.2f}"
        line += f"{engine['peak_bytes_per_member'] / 1e6:>11.2f}  {engine['repetitions']}x{engine['steps']}"
    remarks = [f"    {row['contender']} left out: {row['note']}" for row in rows if "note" in row]
    if engine and engine["other_cores"] > _DISTURBING:
        remarks.append(f"    not to be trusted: other processes took {engine['other_cores']:.1f} cores meanwhile")
    return "\n".join([line, *remarks])


def ways(rows: Iterable[Row]) -> str:
    """Return the contenders of each case at which ways to convolve were weighed, the fastest first."""
    rows = [row for row in rows if "ratio" in row]
    weighed = dict.fromkeys(_name(row) for row in rows if row["contender"] in WAYS)
    lines = []
    for name in weighed:
        lines.append(f"\n{name}{'member-steps/s':>{_RATE}}{'engine: times this':>{_RATIO}}")
        found = [row for row in rows if _name(row) == name and row["contender"] != "products"]
        for row in sorted(found, key=lambda row: -row["member_steps_per_second"]):
            rate, ratio = _spread(row, "member_steps_per_second"), _spread(row, "ratio")
            lines.append(f"    {row['contender']:<{_NAME - 4}}{rate:>{_RATE}}{ratio:>{_RATIO}}")
    return "\n".join(lines)


def targets(rows: Iterable[Row]) -> str:
    """Return the targets: the ratio asked for, the one found in the worst case, and the outcome."""
    lines = [f"\n{'target':<84}{'least':>7}{'found':>{_RATIO}}{'cases':>7}"]
    for verdict in verdicts(rows):
        text = f"{verdict.target.text} {verdict.precision}"
        found = _spread(verdict.worst, "ratio") if verdict.worst else "-"
        least = f"{verdict.target.least:.3g}"
        lines.append(f"{text:<84}{least:>7}{found:>{_RATIO}}{verdict.cases:>7}  {verdict.outcome}")
    return "\n".join(lines)


def _ratios(cuda: bool) -> dict[str, str]:
    """Return the contenders that have a column, and its head."""
    names = [name for name in BASELINES if cuda or name != "compiled"]
    return {name: f"times {name}" for name in names} | {"products": "of products"}


def _on_cuda(row: Row) -> bool:
    return str(row["device"]).startswith("cuda")


def _name(row: Row) -> str:
    threads = f"{row['threads']} thread{'s' if row['threads'] > 1 else ''}"
    place = f"{row['device']} {row['precision']}" if _on_cuda(row) else f"{threads} {row['precision']}"
    return f"{row['model']:<11} b{row['batch']:<4} R{row['replicates']:<4} {place}".ljust(_NAME)


def _spread(row: Row, name: str) -> str:
    low, high = (_short(row[f"{name}_{end}"]) for end in ("low", "high"))
    return f"{_short(row[name])} [{low} {high}]"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
