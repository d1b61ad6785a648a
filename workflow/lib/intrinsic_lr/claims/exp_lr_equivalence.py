"""Weight decay against its exponential twin: the same directions and logits, step by step, but for rounding.

The twin of a schedule trains without weight decay at a learning rate that grows exponentially (Li and Arora,
arXiv:1910.07454). Both see the same batches from the same initialisation. SGD is chaotic, so that rounding errors
grow along a run: the runs are short, and the growth is drawn.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from intrinsic_lr.analyses.tables import differing_axes
from intrinsic_lr.claims.shared.exact import worst_finding
from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec
from intrinsic_lr.claims.shared.verdicts import Finding
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.figures.style import MARKERS, legend_below, ordered_colours, panels, styled

EXACT, ROUNDED, UNCORRECTED = "exact", "rounded", "uncorrected"
"""Kinds of pairs: in float64, in a coarser dtype, and with a momentum buffer that starts at zero (the control)."""
QUANTITIES = {
    "directions": "distance of the weights at unit norm",
    "logits": "relative difference of test logits",
}
_SMALLEST = 1e-17
"""Where an exact zero is drawn on a logarithmic axis."""


def measure(data: ClaimData) -> pd.DataFrame:
    """Return both deviations of every pair: one row per pair, checkpoint and replicate."""
    from intrinsic_lr.claims.shared.equivalence import deviations

    parts = []
    for kind, original, twin in pairs(data.spec):
        dataset = data.dataset(original["dataset"], original["dtype"])
        a, b = (data.ensemble("runs", point) for point in (original, twin))
        found = deviations(a, b, original["steps"], dataset)
        named = {"kind": kind, "point": original["name"], "partner": twin["name"]}
        named |= {"schedule": original["schedule"], "twin": twin["schedule"]}
        named |= {axis: original[axis] for axis in ("dtype", "momentum", "lr", "intrinsic_lr")}
        parts.append(found.assign(**named)[[*named, *found.columns]])
    if not parts:
        experiment = data.spec.experiments["runs"]["experiment"]
        raise InputError(f"experiment {experiment}: found no schedule with its twin on the same batches")
    return pd.concat(parts, ignore_index=True)


def pairs(spec: ClaimSpec) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Yield the pairs (kind, original, twin) of points that differ in their schedule alone.

    The settings `originals` and `twins` name the schedules that belong together, `uncorrected` the twin of the
    first original whose momentum buffer starts at zero.
    """
    settings, points = spec.settings, spec.points("runs")
    partners = list(zip(settings["originals"], settings["twins"], strict=True))
    partners.append((settings["originals"][0], settings["uncorrected"]))
    for a in points:
        for b in points:
            if (a["schedule"], b["schedule"]) in partners and differing_axes(a, b) == ["schedule"]:
                exact = EXACT if a["dtype"] == "float64" else ROUNDED
                yield UNCORRECTED if b["schedule"] == settings["uncorrected"] else exact, a, b


def judge(table: pd.DataFrame, spec: ClaimSpec) -> list[Finding]:
    """Hold the largest deviation over pairs, checkpoints and replicates against the threshold.

    Every twin that the settings name has to be there in float64. Of the control every replicate has to be apart.
    """
    settings, planned = spec.settings, list(pairs(spec))
    twins = {EXACT: settings["twins"], UNCORRECTED: [settings["uncorrected"]]}
    findings = []
    for kind, words in (
        (EXACT, "In float64 a schedule with weight decay and its twin agree"),
        (UNCORRECTED, "A twin whose momentum buffer starts at zero agrees"),
    ):
        there = [twin["schedule"] for found, _, twin in planned if found == kind]
        for quantity, statistic in QUANTITIES.items():
            findings.append(
                worst_finding(
                    table[table["kind"] == kind],
                    quantity,
                    ["point", "partner", "replicate"],
                    len(there) * spec.experiments["runs"]["replicates"],
                    spec,
                    f"{words} in {quantity}.",
                    f"largest {statistic} over the run",
                    spec.thresholds["deviation"],
                    control=kind == UNCORRECTED,
                    complete=set(twins[kind]) <= set(there),
                    roles=["runs"],
                )
            )
    return findings


_PAIR = ["kind", "schedule", "twin", "dtype", "momentum"]


@styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw the largest deviation of each pair against the step, with the threshold."""
    figure, axes = panels(1, 2, 3.0, sharex=True, sharey=True)
    named = table[[*_PAIR]].drop_duplicates()
    exact = named[named["kind"] == EXACT]
    colours = dict(zip(exact.index, ordered_colours(list(exact.index)).values(), strict=True))
    handles, limit = [], {"color": "black", "lw": 1, "ls": ":"}
    for number, (index, pair) in enumerate(named.iterrows()):
        colour = colours.get(index, "tab:red" if pair["kind"] == UNCORRECTED else "0.45")
        style = {"color": colour, "marker": MARKERS[number % len(MARKERS)], "ms": 3.5, "lw": 1}
        style["ls"] = "-" if pair["kind"] == EXACT else "--"
        rows = table[(table[_PAIR] == pair).all(axis=1)]
        for ax, quantity in zip(axes[0], QUANTITIES, strict=True):
            finite = rows[np.isfinite(rows[quantity])]
            largest = finite.groupby("step")[quantity].max().clip(lower=_SMALLEST)
            ax.plot(largest.index, largest, **style)
        handles.append(Line2D([], [], **style, label=_label(pair)))
    for ax, quantity in zip(axes[0], QUANTITIES, strict=True):
        ax.axhline(spec.thresholds["deviation"], **limit)
        ax.set(yscale="log", xlabel="step", title=QUANTITIES[quantity], ylim=(_SMALLEST / 3, 10))
    axes[0, 0].set_ylabel("largest over replicates")
    handles.append(Line2D([], [], **limit, label="threshold (float64)"))
    replicates = table["replicate"].nunique()
    legend_below(
        figure,
        handles,
        2,
        f"schedules against their exponential twins; each marker: the largest of {replicates} replicates",
    )
    figure.suptitle("Weight decay and an exponentially growing learning rate train the same functions")
    return figure


def _label(pair: pd.Series) -> str:
    """Name a pair in the legend."""
    before, after = {
        EXACT: ("", ""),
        ROUNDED: ("", f", {pair['dtype']}"),
        UNCORRECTED: ("control: ", ", first buffer zero"),
    }[pair["kind"]]
    return f"{before}{pair['schedule'].replace('_', ' ')}, momentum {pair['momentum']:g}{after}"
