"""Two initialisations, and whether their runs predict alike after O(1/lambda_e) steps."""

from itertools import combinations
from math import isclose

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from intrinsic_lr.analyses.tables import differing_axes
from intrinsic_lr.claims.shared.sameness import (
    EXCESS,
    SHARE,
    VARIATION,
    absent,
    compare_points,
    initialisations,
    last_checkpoints,
    no_excess,
    strict,
    up_to_margin,
)
from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec
from intrinsic_lr.claims.shared.verdicts import Finding
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.figures import style
from intrinsic_lr.stats.intervals import holm

INITIALISATION, RATE, BATCH, SHORT = "initialisation", "intrinsic_lr", "batch_size", "too_short"
"""Kinds of pairs: what the claim is about, and the controls."""


def measure(data: ClaimData) -> pd.DataFrame:
    """Compare initialisations at every checkpoint, and what has to differ at the last one.

    A tenfold rate and another batch size are compared from one initialisation, the first of each pair.

    Raises:
        InputError: when no two points of `mixing` differ in their initialisation alone.
    """
    spec = data.spec
    pairs, bases = [], {}
    for a, b in initialisations(spec.points("mixing")):
        steps = list(zip(a["steps"], b["steps"], strict=True))
        pairs.append((INITIALISATION, ("mixing", a), ("mixing", b), steps))
        bases[a["name"]] = a
    if not pairs:
        raise InputError(
            f"{spec.name}: experiment {spec.experiments['mixing']['experiment']}: found no two points "
            "that differ in init_seed alone; needs two initialisations at each intrinsic rate"
        )
    for a, b in combinations(bases.values(), 2):
        ratio = max(a["intrinsic_lr"], b["intrinsic_lr"]) / min(a["intrinsic_lr"], b["intrinsic_lr"])
        if differing_axes(a, b) == ["intrinsic_lr"] and isclose(ratio, 10, rel_tol=0.05):
            pairs.append((RATE, ("mixing", a), ("mixing", b), [(a["steps"][-1], b["steps"][-1])]))
    for a in bases.values():
        for b in spec.points("other_batch"):
            if differing_axes(a, b) == ["batch_size"]:
                pairs.append((BATCH, ("mixing", a), ("other_batch", b), [(a["steps"][-1], b["steps"][-1])]))
    for a, b in initialisations(spec.points("too_short")):
        pairs.append((SHORT, ("too_short", a), ("too_short", b), [(a["steps"][-1], b["steps"][-1])]))
    return compare_points(data, pairs)


def judge(table: pd.DataFrame, spec: ClaimSpec) -> list[Finding]:
    """Ask, at the end of the runs, for one distribution: strictly, without excess, and up to the margin.

    Controls have to fail: all of them the first two questions, and runs that end too soon the margin as well.
    """
    # The least like the claim first, which then stands for it in the scorecard.
    last = last_checkpoints(table).sort_values("p_value", kind="stable")
    same = last[last["part"] == INITIALISATION]
    told, roles = [_told(row) for row in same.itertuples()], [["mixing"]] * len(same)
    words = "one distribution", "no excess disagreement", "the same up to the margin"
    statements = [[f"{text}: {word}" for text in told] for word in words]
    findings = strict(spec, spec.criterion, same, statements[0], roles)
    findings += no_excess(spec.criterion, same, statements[1], roles)
    findings += up_to_margin(spec, spec.criterion, same, statements[2], roles)
    if same.empty:
        findings += [
            absent(spec.criterion, f"two initialisations: {word}", statistic, ["mixing"])
            for word, statistic in zip(words, (VARIATION, EXCESS, SHARE), strict=True)
        ]
    other = last[last["part"] != INITIALISATION]
    told, roles = [_told(row) for row in other.itertuples()], [_roles(row.part) for row in other.itertuples()]
    findings += strict(spec, spec.control, other, [f"{text}: {words[0]}" for text in told], roles)
    findings += no_excess(spec.control, other, [f"{text}: {words[1]}" for text in told], roles)
    short = other[other["part"] == SHORT]
    told = [f"{_told(row)}: {words[2]}" for row in short.itertuples()]
    findings += up_to_margin(spec, spec.control, short, told, [_roles(SHORT)] * len(short))
    findings += [
        absent(spec.control, text, VARIATION, _roles(part))
        for part, text in _WANTED.items()
        if part not in set(other["part"])
    ]
    return findings


_WANTED = {
    RATE: "two intrinsic rates a factor of ten apart, of one initialisation",
    BATCH: "two batch sizes, otherwise alike",
    SHORT: "two initialisations, stopped too soon",
}
"""The controls, each of which there has to be."""


def _roles(part: str) -> list[str]:
    return {RATE: ["mixing"], BATCH: ["mixing", "other_batch"]}.get(part, [part])


def _told(row) -> str:
    time, rate = f"{row.intrinsic_time_a:.3g}/lambda_e", f"lambda_e {row.intrinsic_lr_a:.3g}"
    seeds = f"initialisations {row.init_seed_a} and {row.init_seed_b}"
    return {
        INITIALISATION: f"{seeds}, {rate} at {time}",
        RATE: f"{rate} against {row.intrinsic_lr_b:.3g}",
        BATCH: f"batch {row.batch_size_a} against {row.batch_size_b} at {rate}",
        SHORT: f"{seeds}, {rate}, stopped at {time}",
    }[row.part]


@style.styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw the five disagreements of two initialisations against time, and every comparison at its end."""
    same = table[table["part"] == INITIALISATION]
    same = same.assign(
        within=same[["within_a", "within_b"]].mean(axis=1), error=same[["error_a", "error_b"]].mean(axis=1)
    )
    rates = sorted(same["intrinsic_lr_a"].unique(), reverse=True)
    colours = sns.color_palette("colorblind")
    looks = {
        "across": dict(color=colours[0], marker="o", label="across initialisations"),
        "within": dict(color=colours[1], marker="s", label="within an initialisation"),
        "excess": dict(color=colours[3], marker="^", label="excess: across less within"),
        "error": dict(color="0.35", ls="--", label="$e$: test error"),
        "independent_errors": dict(color="0.35", ls=":", label="$2e(1-e)$: were errors independent"),
    }
    figure, axes = style.panels(2, max(len(rates), 1), 5.6, beside="row", height_ratios=[1.15, 1])
    for panel, rate in zip(axes[0], rates, strict=False):
        for _, rows in same[same["intrinsic_lr_a"] == rate].groupby(["point_a", "point_b"]):
            rows = rows.sort_values("intrinsic_time_a")
            time = rows["intrinsic_time_a"]
            for quantity, look in looks.items():
                panel.plot(time, 100 * rows[quantity], **{"ms": 3, "lw": 1.2, **look})
            panel.fill_between(
                time, 100 * rows["excess_low"], 100 * rows["excess_high"], color=colours[3], alpha=0.25, lw=0
            )
        panel.axhline(0, color="0.2", lw=0.7)
        panel.set(title=rf"$\lambda_e$ = {style.scientific(rate)}", xlabel=r"steps $\times\ \lambda_e$")
        style.logarithmic(panel, "x", time)
        # Zero has to be seen, where the excess ends; the first steps, before anything is learnt, are far above.
        panel.set_yscale("symlog", linthresh=1, linscale=0.8)
        panel.set_ylim(-0.4, 100)
        panel.set_yticks([0, 0.5, 1, 5, 10, 50], ["0", "0.5", "1", "5", "10", "50"])
        _quarter_ticks(panel, time)
    axes[0, 0].set_ylabel("test images, %")
    for panel in axes[0, 1:]:
        panel.tick_params(labelleft=False)
    for panel in axes[1]:
        panel.remove()
    cells = axes[1, 0].get_gridspec()
    below = -(-axes.shape[1] // cells.ncols)
    # The names of the comparisons reach into the free first column, where there is one.
    first = 1 if 1 < axes.shape[1] == cells.ncols else 0
    _draw_ends(figure.add_subplot(cells[below:, first:]), table, spec, colours, names_inside=first == 0)
    figure.suptitle("Two initialisations: how often two runs disagree, and how much the initialisation adds")
    handles = [Line2D([], [], **{"ms": 4, "lw": 1.2, **look}) for look in looks.values()]
    handles.append(Line2D([], [], color=colours[0], marker="o", ms=5, lw=2, label="below: two initialisations"))
    handles.append(
        Line2D([], [], color=colours[7], marker="D", ms=5, lw=2, label="below: controls, which must differ")
    )
    style.legend_below(figure, handles, 3, _note(table, spec))
    return figure


def _quarter_ticks(panel, times) -> None:
    """Put ticks on a logarithmic axis at the powers of 4 that it shows."""
    if len(times):
        powers = 4.0 ** np.arange(np.ceil(np.log(times.min()) / np.log(4)), np.log(times.max()) / np.log(4) + 0.01)
        style.ticks(panel, powers)


def _draw_ends(panel, table: pd.DataFrame, spec: ClaimSpec, colours, names_inside: bool) -> None:
    """Draw the share of the excess at the end of every comparison, with the p-value of the strict test.

    The names of the comparisons narrow the panel if they are to stay inside its part of the figure.
    """
    last = last_checkpoints(table)
    margin = spec.thresholds["excess_share"]
    control = (last["part"] != INITIALISATION).to_numpy()
    adjusted = np.full(len(last), np.nan)
    for chosen in (control, ~control):
        adjusted[chosen] = holm(last["p_value"].to_numpy()[chosen])
    for place, (row, is_control, p_value) in enumerate(zip(last.itertuples(), control, adjusted, strict=True)):
        colour = colours[7] if is_control else colours[0]
        span = [100 * row.excess_share_low, 100 * row.excess_share_high]
        panel.plot(span, [place, place], color=colour, lw=2)
        panel.plot(100 * row.excess_share, place, "D" if is_control else "o", color=colour, ms=5)
        told = f"p = {p_value:.2g}" if p_value == p_value else "p: none"
        plate = dict(fc="white", ec="none", pad=1)
        place_at = dict(xycoords=("axes fraction", "data"), va="center", ha="right", fontsize="small")
        panel.annotate(told, (1, place), bbox=plate, **place_at)
    panel.axvspan(0, 100 * margin, color="0.93", lw=0, zorder=0)
    panel.axvline(100 * margin, color="0.3", lw=0.9, ls="--")
    panel.axvline(0, color="0.2", lw=0.7)
    names = [_told(row).replace("lambda_e", r"$\lambda_e$") for row in last.itertuples()]
    names = [name.split(", ", 1)[1] if name.startswith("initialisations") else name for name in names]
    panel.set_yticks(range(len(last)), names)
    for label in panel.get_yticklabels():
        label.set_in_layout(names_inside)
    panel.set_ylim(max(len(last), 1) - 0.5, -0.5)
    panel.set_xscale("symlog", linthresh=20, linscale=2)
    panel.set_xlim(right=260)
    panel.set_xticks([0, 5, 10, 15, 20, 50, 100], ["0", "5", "10", "15", "20", "50", "100"])
    panel.set_xlabel("at the end: excess, % of the disagreement across (dashed: margin)")
    sns.despine(ax=panel)


def _note(table: pd.DataFrame, spec: ClaimSpec) -> str:
    runs = table[["replicates_a", "replicates_b"]].to_numpy() if len(table) else np.zeros((1, 1))
    low, high = int(runs.min()), int(runs.max())
    count = f"{high}" if low == high else f"{low} to {high}"
    return (
        f"{count} runs of each initialisation; {100 * spec.confidence:.3g} % bootstrap intervals over runs; "
        f"p by {spec.analysis['permutations']} permutations, Holm within criteria and within controls"
    )
