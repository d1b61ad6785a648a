"""Function space: label distributions of pairs of settings, compared checkpoint by checkpoint."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import combinations
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from intrinsic_lr.analyses.drawing import left_out, setting_text
from intrinsic_lr.analyses.tables import AnalysisData
from intrinsic_lr.core.seeding import stream_seed
from intrinsic_lr.figures import style
from intrinsic_lr.stats.disagreement import COLUMNS, NULL_QUANTILE, compare
from intrinsic_lr.stats.intervals import percent
from intrinsic_lr.study.experiment import Experiment, PlannedPoint
from intrinsic_lr.study.pairs import differing_axes, paired, same_intrinsic_lr

KEYS = (
    "point_a", "point_b", "differs", "same_intrinsic_lr", "intrinsic_lr_a", "intrinsic_lr_b", "checkpoint",
    "step_a", "step_b", "intrinsic_time_a", "intrinsic_time_b",
)  # fmt: skip
Comparison = tuple[PlannedPoint, PlannedPoint, int, int, int]
"""Point, partner, number of the checkpoint, and its step of each."""


def measure(data: AnalysisData) -> dict[str, pd.DataFrame]:
    """Return the table `disagreement`."""
    truth = {name: data.truth(name) for name in data.datasets}
    # Counting releases the interpreter's lock, so that threads count side by side.
    with ThreadPoolExecutor(data.threads) as threads:
        rows = threads.map(partial(_compared, data, truth), _comparisons(data.experiment))
        # Where there is no pair, the table has its columns all the same.
        return {"disagreement": pd.DataFrame(rows, columns=[*KEYS, *COLUMNS])}


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
    keys = (
        a.name, b.name, "+".join(differing_axes(a, b)), same_intrinsic_lr(a, b), a.intrinsic_lr, b.intrinsic_lr,
        checkpoint, step_a, step_b, step_a * a.intrinsic_lr, step_b * b.intrinsic_lr,
    )  # fmt: skip
    compared = compare(
        data.ensembles[a.name].labels(step_a),
        data.ensembles[b.name].labels(step_b),
        *truth[a.dataset],
        **{name: settings[name] for name in ("permutations", "bootstrap", "confidence")},
        seed=stream_seed(settings["seed"], "disagreement", a.name, b.name, checkpoint),
        paired=paired(a, b),
    )
    return dict(zip(KEYS, keys, strict=True)) | compared


SIGNIFICANCE = 0.05
"""Below this p-value a total variation counts as above the floor (a filled marker)."""
_COLUMNS = 3
"""Panels of the total variation beside each other."""
_NO_PAIRS = "no pair of settings with finite runs at equal intrinsic learning rate"


@style.styled
def draw_total_variation(table: pd.DataFrame, experiment: Experiment, confidence: float) -> Figure:
    """Draw the total variation between settings of equal lambda_e against lambda_e t, with its floor.

    A panel for each kind of difference; where it holds several pairs of one rate, dashes tell them apart.
    """
    reference = _against_reference(table, experiment)
    rows = reference.dropna(subset=["total_variation"])
    kinds = list(dict.fromkeys(rows["kind"]))
    pairs = rows.drop_duplicates(["point_a", "point_b"])
    several = pairs.duplicated(["kind", "intrinsic_lr_a"]).any()
    lines = dict(zip(dict.fromkeys(pairs["partner"]), style.DASHES, strict=False)) if several else {}
    rates = sorted(rows["intrinsic_lr_a"].unique())
    colours = style.ordered_colours(rates)
    markers = {rate: style.MARKERS[index % len(style.MARKERS)] for index, rate in enumerate(rates)}
    down, across = -(-max(len(kinds), 1) // _COLUMNS), min(max(len(kinds), 1), _COLUMNS)
    figure, axes = style.panels(down, across, 3.0 * down, sharey=True)
    for empty in axes.flat[max(len(kinds), 1) :]:
        empty.remove()
    for panel, kind in zip(axes.flat, kinds, strict=False):
        for (*_, rate, partner), pair in rows[rows["kind"] == kind].groupby(_PAIR, sort=False):
            if several and partner not in lines:
                continue
            pair, colour = pair.sort_values("intrinsic_time_a"), colours[rate]
            time, dash = pair["intrinsic_time_a"], lines.get(partner, "-")
            panel.plot(time, pair["total_variation"], color=colour, lw=1.4, ls=dash)
            for above, face in ((True, colour), (False, "white")):
                part = pair[(pair["p_value"] <= SIGNIFICANCE) == above]
                points = {"color": colour, "mfc": face, "marker": markers[rate], "ms": 4.5, "ls": ""}
                panel.plot(part["intrinsic_time_a"], part["total_variation"], **points)
            panel.vlines(time, pair["total_variation_low"], pair["total_variation_high"], color=colour, lw=1)
            panel.fill_between(time, pair["null_mean"], pair["null_q95"], color=colour, alpha=0.25, lw=0)
        style.logarithmic(panel, "x", rows["intrinsic_time_a"])
        style.logarithmic(panel, "y", rows["total_variation"])
        panel.set(xlabel=r"$\lambda_e t$", title=kind)
        style.ticks(panel, rows["intrinsic_time_a"])
    for left in axes[:, 0]:
        left.set(ylabel="total variation of predicted labels")
    handles = []
    for rate in rates:
        label = rf"$\lambda_e$ = {style.scientific(rate)}"
        handles.append(style.handle(label, marker=markers[rate], ms=4, color=colours[rate]))
    if several:
        handles += [style.handle(text, color="0.3", ls=dash) for text, dash in lines.items()]
    floor = f"floor: permutation null, mean to {NULL_QUANTILE:g} quantile"
    handles.append(plt.Rectangle((0, 0), 1, 1, color="0.5", alpha=0.4, lw=0, label=floor))
    note = _NO_PAIRS
    if len(rows):
        runs, count = _runs(rows), int(np.nan_to_num(rows["permutations"].max()))
        note = (
            f"{runs} runs a side; open markers: not above the floor (p > {SIGNIFICANCE:g}, {count} permutations)\n"
            f"bars: conservative {percent(confidence)} intervals of the true distance"
        )
        note += left_out(pairs["partner"], lines) if several else ""
    note += _paired_text(reference, experiment)
    style.legend_below(figure, handles, 4, note)
    figure.suptitle(f"Distance in function space between settings of equal $\\lambda_e$ ({experiment.words})")
    return figure


_PAIR = ["point_a", "point_b", "intrinsic_lr_a", "partner"]


def _against_reference(table: pd.DataFrame, experiment: Experiment) -> pd.DataFrame:
    """Keep the pairs whose first point is the first of its intrinsic learning rate and data set.

    Adds, in words, the `kind` of difference, what the `partner` is, and the `data` where there are several sets.
    """
    named = {point.name: point for point in experiment.points}
    # The first of a rate is the last to be put in.
    reference = {(point.dataset, point.intrinsic_lr): point.name for point in reversed(experiment.points)}
    same = table[table["same_intrinsic_lr"].astype(bool) & table["point_a"].isin(list(reference.values()))]
    several = len({dataset for dataset, _ in reference}) > 1
    told: dict[str, list[str]] = {"data": [], "kind": [], "partner": []}
    for row in same.itertuples():
        data = f"data set {named[row.point_a].dataset}: " if several else ""
        told["data"].append(data)
        told["kind"].append(data + _differs_title(row.differs))
        told["partner"].append(setting_text(named[row.point_b], row.differs.split("+")))
    return same.assign(**{name: pd.Series(texts, same.index, object) for name, texts in told.items()})


def _differs_title(kind: str) -> str:
    titles = {
        "init_seed": "another initialisation",
        "init_scale": "another initial scale",
        "lr": r"another $\eta$ at equal $\lambda_e$",
    }
    return titles.get(kind, "differs in " + kind.replace("_", " ").replace("+", ", "))


def _paired_text(rows: pd.DataFrame, experiment: Experiment) -> str:
    """Say how many pairs are not judged because their runs are not independent."""
    named = {point.name: point for point in experiment.points}
    pairs = rows[["point_a", "point_b"]].drop_duplicates().itertuples(index=False, name=None)
    count = sum(paired(named[a], named[b]) for a, b in pairs)
    if count == 0:
        return ""
    return f"\nleft out: {count} of the pairs, whose replicates share their initial weights or batches"


def _runs(rows: pd.DataFrame) -> str:
    """Return the range of the numbers of runs a side."""
    return style.count_text([*rows["replicates_a"], *rows["replicates_b"]])


@style.styled
def draw_disagreement(table: pd.DataFrame, experiment: Experiment, confidence: float) -> Figure:
    """Draw how often runs disagree within and across settings beside what independent errors would give."""
    rows = _against_reference(table, experiment)
    kinds = set(rows["kind"])
    if (rows["differs"] == "init_seed").any():
        rows = rows[rows["differs"] == "init_seed"]
    # Each pair at its own last checkpoint: settings need not have equally many.
    rows = rows.sort_values("checkpoint", kind="stable").drop_duplicates(["point_a", "point_b"], keep="last")
    rows = rows.sort_index().sort_values("intrinsic_lr_a", kind="stable").reset_index(drop=True)
    shown = (
        ("within one setting", (rows["within_a"] + rows["within_b"]) / 2, None),
        ("across", rows["across"], "across"),
        ("excess of across", rows["excess"], "excess"),
        ("test error $e$", (rows["error_a"] + rows["error_b"]) / 2, None),
        ("independent errors, $2e(1-e)$", rows["independent_errors"], None),
    )
    figure, ((axes,),) = style.panels(1, 1, 3.0)
    for index, (label, values, interval) in enumerate(shown):
        # A marker is seen at zero too, where a bar has no height.
        place = np.arange(len(rows)) + (index - 2) * 0.16
        look = {"color": sns.color_palette("colorblind")[index], "marker": style.MARKERS[index]}
        axes.plot(place, values * 100, ls="", ms=6, label=label, **look)
        for at, row in zip(place, rows.to_dict("records") if interval else (), strict=False):
            estimate = [100 * row[interval + end] for end in ("", "_low", "_high")]
            style.error_bar(axes, at, estimate, color=look["color"], capsize=2, lw=1)
    axes.axhline(0, color="0.3", lw=0.8)
    upright = 90 if len(rows) > _WRAPPED * figure.get_figwidth() / style.PAGE else 0
    labels = [_pair_label(row, rows, figure) for _, row in rows.iterrows()]
    axes.set_xticks(range(len(rows)), labels, rotation=upright)
    axes.set_xlim(-0.9, max(len(rows), 1) - 0.1)
    axes.grid(axis="x", visible=False)
    axes.set(ylabel="share of test images (%)")
    note = _NO_PAIRS
    if len(rows):
        ends = rows["intrinsic_time_a"].agg(["min", "max"])
        time = " to ".join(dict.fromkeys(f"{end:.2g}" for end in ends))
        note = f"{_runs(rows)} runs a side at $\\lambda_e t$ = {time}"
        note += f"; error bars: {percent(confidence)} bootstrap intervals over runs"
        note += "\npairs of two initialisations; the table holds the others" if kinds > set(rows["kind"]) else ""
    note += _paired_text(rows, experiment)
    style.legend_below(figure, axes.get_legend_handles_labels()[0], 3, note)
    figure.suptitle(f"Disagreement of runs within and across settings ({experiment.words})")
    return figure


_WRAPPED = 6
"""Labels of up to so many groups of bars on a page's width stand level and wrapped; of more, upright."""


def _pair_label(row: pd.Series, rows: pd.DataFrame, figure: Figure) -> str:
    """Return the rate of a pair, and as much else as tells it from the others."""
    label = rf"$\lambda_e$ = {style.scientific(row['intrinsic_lr_a'])}"
    of_kind = rows[rows["kind"] == row["kind"]]
    ambiguous = of_kind["intrinsic_lr_a"].duplicated().any()
    if len(of_kind) == len(rows) and not ambiguous:
        return label
    words = row["data"] + row["partner"] if ambiguous else row["kind"]
    share = 0.3 if len(rows) > _WRAPPED else 0.7 / len(rows)
    return f"{label}\n{style.wrapped(figure, words, 'small', share)}"
