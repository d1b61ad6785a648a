"""Function space: label distributions of pairs of settings, compared checkpoint by checkpoint."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import combinations
from textwrap import fill
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from intrinsic_lr.analyses.tables import AnalysisData, differing_axes, same_intrinsic_lr
from intrinsic_lr.core.seeding import stream_seed
from intrinsic_lr.figures import style
from intrinsic_lr.stats.disagreement import compare
from intrinsic_lr.study.experiment import Experiment, PlannedPoint

Comparison = tuple[PlannedPoint, PlannedPoint, int, int, int]
"""Point, partner, number of the checkpoint, and its step of each."""


def measure(data: AnalysisData) -> dict[str, pd.DataFrame]:
    """Return the table `disagreement`."""
    truth = {name: data.truth(name) for name in data.datasets}
    # Counting releases the interpreter's lock, so that threads count side by side.
    with ThreadPoolExecutor(data.threads) as threads:
        rows = threads.map(partial(_compared, data, truth), _comparisons(data.experiment))
        return {"disagreement": pd.DataFrame(rows)}


def _comparisons(experiment: Experiment) -> Iterator[Comparison]:
    """Yield the comparisons in the order of the table; a function space belongs to one data set."""
    for a, b in combinations(experiment.points, 2):
        if (experiment.compare == "all" or same_intrinsic_lr(a, b)) and a.dataset == b.dataset:
            for checkpoint, steps in enumerate(zip(a.steps, b.steps, strict=True)):
                yield a, b, checkpoint, *steps


def _compared(
    data: AnalysisData, truth: Mapping[str, tuple[np.ndarray, int]], comparison: Comparison
) -> dict[str, Any]:
    """Return one row of the table. It reads the labels that it compares and no others."""
    (a, b, checkpoint, step_a, step_b), settings = comparison, data.settings
    return {
        "point_a": a.name,
        "point_b": b.name,
        "differs": "+".join(differing_axes(a, b)),
        "same_intrinsic_lr": same_intrinsic_lr(a, b),
        "intrinsic_lr_a": a.intrinsic_lr,
        "intrinsic_lr_b": b.intrinsic_lr,
        "checkpoint": checkpoint,
        "step_a": step_a,
        "step_b": step_b,
        "intrinsic_time_a": step_a * a.intrinsic_lr,
        "intrinsic_time_b": step_b * b.intrinsic_lr,
        **compare(
            data.ensembles[a.name].labels(step_a),
            data.ensembles[b.name].labels(step_b),
            *truth[a.dataset],
            **{name: settings[name] for name in ("permutations", "bootstrap", "confidence")},
            seed=stream_seed(settings["seed"], "disagreement", a.name, b.name, checkpoint),
        ),
    }


SIGNIFICANCE = 0.05
"""Below this p-value a total variation counts as above the floor (a filled marker)."""


@style.styled
def draw_total_variation(table: pd.DataFrame, experiment: Experiment) -> Figure:
    """Draw the total variation between settings of equal lambda_e against lambda_e t, with its floor."""
    rows = _against_reference(table, experiment).dropna(subset=["total_variation"])
    kinds = list(dict.fromkeys(rows["differs"]))[:3]
    rates = sorted(rows["intrinsic_lr_a"].unique())
    colours = style.ordered_colours(rates)
    figure, axes = style.panels(1, max(len(kinds), 1), 3.0, sharey=True)
    for panel, kind in zip(axes[0], kinds, strict=False):
        for index, rate in enumerate(rates):
            chosen = rows[(rows["differs"] == kind) & (rows["intrinsic_lr_a"] == rate)]
            chosen = chosen.sort_values("intrinsic_time_a")
            time, colour = chosen["intrinsic_time_a"], colours[rate]
            errors = chosen["total_variation_low"], chosen["total_variation_high"]
            panel.plot(time, chosen["total_variation"], color=colour, lw=1.4)
            for above, face in ((True, colour), (False, "white")):
                part = chosen[(chosen["p_value"] <= SIGNIFICANCE) == above]
                points = {"color": colour, "mfc": face, "marker": style.MARKERS[index % 6], "ms": 4.5, "ls": ""}
                panel.plot(part["intrinsic_time_a"], part["total_variation"], **points)
            panel.vlines(time, *errors, color=colour, lw=1)
            panel.fill_between(time, chosen["null_mean"], chosen["null_q95"], color=colour, alpha=0.25, lw=0)
        style.logarithmic(panel, "x", rows["intrinsic_time_a"])
        style.logarithmic(panel, "y", rows["total_variation"])
        panel.set(xlabel=r"$\lambda_e t$", title=_differs_title(kind))
        style.ticks(panel, rows["intrinsic_time_a"])
    axes[0, 0].set(ylabel="total variation of predicted labels")
    handles = []
    for index, rate in enumerate(rates):
        label = rf"$\lambda_e$ = {style.scientific(rate)}"
        handles.append(style.handle(label, marker=style.MARKERS[index % 6], ms=4, color=colours[rate]))
    floor = "floor: permutation null, mean to 95 %"
    handles.append(plt.Rectangle((0, 0), 1, 1, color="0.5", alpha=0.4, lw=0, label=floor))
    note = "no pair of settings with finite runs at equal intrinsic learning rate"
    if len(rows):
        runs, count = int(rows["replicates_a"].min()), int(np.nan_to_num(rows["permutations"].max()))
        note = (
            f"{runs} runs a side; open markers: not above the floor (p > {SIGNIFICANCE:g}, {count} permutations)\n"
            "bars: conservative 95 % intervals of the true distance"
        )
    style.legend_below(figure, handles, 4, note)
    figure.suptitle(f"Distance in function space between settings of equal $\\lambda_e$ ({experiment.name})")
    return figure


def _against_reference(table: pd.DataFrame, experiment: Experiment) -> pd.DataFrame:
    """Keep the pairs whose first point is the first of its intrinsic learning rate; at equal rates only."""
    # The first of a rate is the last to be put in.
    reference = {point.intrinsic_lr: point.name for point in reversed(experiment.points)}
    same = table[table["same_intrinsic_lr"]]
    return same[same["point_a"].isin(list(reference.values()))]


def _differs_title(kind: str) -> str:
    titles = {
        "init_seed": "another initialisation",
        "init_scale": "another initial scale",
        "lr": r"another $\eta$ at equal $\lambda_e$",
    }
    return titles.get(kind, "differs in " + kind.replace("_", " ").replace("+", ", "))


@style.styled
def draw_disagreement(table: pd.DataFrame, experiment: Experiment) -> Figure:
    """Draw how often runs disagree within and across settings beside what independent errors would give."""
    rows = _against_reference(table, experiment)
    if (rows["differs"] == "init_seed").any():
        rows = rows[rows["differs"] == "init_seed"]
    # Each pair at its own last checkpoint: settings need not have equally many.
    rows = rows.sort_values("checkpoint", kind="stable").drop_duplicates(["point_a", "point_b"], keep="last")
    rows = rows.sort_index().reset_index(drop=True)
    bars = (
        ("within one setting", (rows["within_a"] + rows["within_b"]) / 2, None, None),
        ("across", rows["across"], rows["across_low"], rows["across_high"]),
        ("excess of across", rows["excess"], rows["excess_low"], rows["excess_high"]),
        ("test error $e$", (rows["error_a"] + rows["error_b"]) / 2, None, None),
        ("independent errors, $2e(1-e)$", rows["independent_errors"], None, None),
    )
    figure, ((axes,),) = style.panels(1, 1, 3.0)
    for index, (label, values, low, high) in enumerate(bars):
        place = np.arange(len(rows)) + (index - 2) * 0.16
        axes.bar(place, values * 100, width=0.15, label=label, **style.bar_style(index))
        if low is not None and high is not None:
            error = np.nan_to_num(np.array([values - low, high - values]) * 100).clip(min=0)
            axes.errorbar(place, values * 100, yerr=error, color="black", ls="", capsize=2, lw=1)
    axes.axhline(0, color="0.3", lw=0.8)
    upright = 90 if len(rows) > _WRAPPED * figure.get_figwidth() / style.PAGE else 0
    labels = [_pair_label(row, rows) for _, row in rows.iterrows()]
    axes.set_xticks(range(len(rows)), labels, rotation=upright)
    axes.set_xlim(-0.9, max(len(rows), 1) - 0.1)
    axes.grid(axis="x", visible=False)
    axes.set(ylabel="share of test images (%)")
    note = "no pair of settings with finite runs at equal intrinsic learning rate"
    if len(rows):
        runs, times = int(rows["replicates_a"].min()), rows["intrinsic_time_a"]
        low, high = f"{times.min():.2g}", f"{times.max():.2g}"
        time = high if low == high else f"{low} to {high}"
        note = f"{runs} runs a side at $\\lambda_e t$ = {time}; error bars: 95 % bootstrap intervals over runs"
    style.legend_below(figure, axes.get_legend_handles_labels()[0], 3, note)
    figure.suptitle(f"Disagreement of runs within and across settings ({experiment.name})")
    return figure


_WRAPPED = 6
"""Labels of up to so many groups of bars on a page's width stand level and wrapped; of more, upright."""


def _pair_label(row: pd.Series, rows: pd.DataFrame) -> str:
    label = rf"$\lambda_e$ = {style.scientific(row['intrinsic_lr_a'])}"
    if rows["differs"].nunique() == 1:
        return label
    width = 30 if len(rows) > _WRAPPED else 76 // len(rows)
    return f"{label}\n{fill(_differs_title(row['differs']), width, break_long_words=False)}"
