"""The figures of the analyses: from a table and the experiment's description to a matplotlib figure.

Wherever there is a null or a floor it is drawn. The look is that of `style`.
"""

from textwrap import fill
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.figures.style import (
    DASHES,
    HEAT,
    MARKERS,
    PAGE,
    band,
    bar_style,
    legend_below,
    logarithmic,
    ordered_colours,
    panels,
    replicates_text,
    scientific,
    spread,
    styled,
    ticks,
)
from intrinsic_lr.stats.loss_curves import CHAOTIC, CONVERGING, DIVERGED
from intrinsic_lr.stats.theory import equilibrium_effective_lr

TRAJECTORIES = 4
"""At most so many starting times T are drawn."""
SIGNIFICANCE = 0.05
"""Below this p-value a total variation counts as above the floor (a filled marker)."""
_SYMBOLS = {
    "lr": r"$\eta$",
    "weight_decay": r"$\lambda$",
    "intrinsic_lr": r"$\lambda_e$",
    "init_seed": "initialisation",
    "init_scale": "initial scale",
    "momentum": r"$\mu$",
}


def _starts(within: pd.DataFrame) -> list[Any]:
    """Return the starting times T to draw: spread out, of those with a third of the most lags or more."""
    lags = within.groupby("step")["delta"].nunique()
    return spread(lags[lags >= lags.max() / 3].index, TRAJECTORIES)


def _variant(point: pd.Series, reference: pd.Series) -> str:
    """Name what sets a point apart from the first one of its intrinsic learning rate."""
    parts = []
    for axis in ("lr", "momentum", "init_seed", "init_scale", "batch_size", "schedule", "model"):
        if point[axis] != reference[axis]:
            value = point[axis]
            text = scientific(value) if isinstance(value, float) else value
            sign = " = " if axis in ("lr", "momentum") else " "
            parts.append(f"{_SYMBOLS.get(axis, axis.replace('_', ' '))}{sign}{text}")
    return ", ".join(parts) or "reference"


@styled
def curves_figure(table: pd.DataFrame, spec: dict[str, Any]) -> Figure:
    """Draw squared norm and effective learning rate over time, with the equilibrium that theory expects."""
    # Grids are rounded: rates that agree to two digits are one.
    table = table.assign(intrinsic_lr=[float(f"{rate:.1e}") for rate in table["intrinsic_lr"]])
    points = table.drop_duplicates("point").reset_index(drop=True)
    timed = bool((points["intrinsic_lr"] > 0).all())
    x, label = ("intrinsic_time", r"$\lambda_e t$") if timed else ("step", "steps")
    rates = sorted(points["intrinsic_lr"].unique())
    colours = ordered_colours(rates)
    references = {rate: points[points["intrinsic_lr"] == rate].iloc[0] for rate in rates}
    variants = list(dict.fromkeys(_variant(p, references[p["intrinsic_lr"]]) for _, p in points.iterrows()))
    dashes = {variant: DASHES[index % len(DASHES)] for index, variant in enumerate(variants)}
    figure, ((norm, effective),) = panels(1, 2, 3.0)
    for _, point in points.iterrows():
        rows = table[table["point"] == point["point"]]
        rate = point["intrinsic_lr"]
        variant = _variant(point, references[rate])
        # The first line is broad and pale, so that one that coincides with it shows on top.
        first = variant == variants[0] and len(variants) > 1
        style = {"color": colours[rate], "ls": dashes[variant], **_REFERENCE} if first else {
            "color": colours[rate], "ls": dashes[variant], "lw": 1.3,
        }  # fmt: skip
        band(norm, rows, x, "squared_norm", **style)
        band(effective, rows, x, "effective_lr", **style)
    for rate, point in references.items():
        expected = _expected_effective_lr(table[table["point"] == point["point"]], point)
        if np.isfinite(expected):
            effective.axhline(expected, color=colours[rate], **_EXPECTED)
    logarithmic(norm, "y", table["squared_norm_mean"])
    logarithmic(effective, "y", table["effective_lr_mean"])
    norm.set(xlabel=label, ylabel=r"squared norm $\|w\|^2$", title="Norm of the weights")
    effective.set(xlabel=label, ylabel=r"$\eta / \|w\|^2$ (per step)", title="Effective learning rate")
    handles = [Line2D([], [], color=colours[rate], label=rf"$\lambda_e$ = {scientific(rate)}") for rate in rates]
    if len(variants) > 1:
        handles.append(Line2D([], [], color="0.3", label=variants[0], **_REFERENCE))
        handles += [Line2D([], [], color="0.3", ls=dashes[name], lw=1.3, label=name) for name in variants[1:]]
    if effective.get_lines() and any(line.get_gid() == _EXPECTED["gid"] for line in effective.get_lines()):
        label = r"expected: $(2\lambda_e/E\|\hat g\|^2)^{1/2}$"
        handles.append(Line2D([], [], color="0.3", label=label, **_EXPECTED))
    legend_below(figure, handles, 4, f"mean and 95 % band over {replicates_text(table)} per setting")
    figure.suptitle(f"Norm and effective learning rate over time ({spec['experiment']})")
    return figure


_REFERENCE = {"lw": 3.2, "alpha": 0.45}
_EXPECTED = {"lw": 1.0, "ls": (0, (8, 3)), "alpha": 0.9, "gid": "expected"}


def _expected_effective_lr(rows: pd.DataFrame, point: pd.Series) -> float:
    """Return the equilibrium of the paper's equation for the squared gradient norm measured late in the run."""
    if point["momentum"] != 0 or point["weight_decay"] == 0 or point["schedule"] != "constant":
        return float("nan")
    late = rows[rows["step"] >= 0.75 * rows["step"].max()]["unit_gradient_squared_norm_mean"].mean()
    return float(equilibrium_effective_lr(point["lr"], point["weight_decay"], late)) if late > 0 else float("nan")


@styled
def swa_figure(table: pd.DataFrame, spec: dict[str, Any]) -> Figure:
    """Draw accuracy and loss of two-checkpoint averages within a trajectory and across trajectories."""
    table = _first_point(table)
    table = table[(table["average"] == "pair") & (table["normalisation"] == "raw")]
    within = table[table["relation"] == "within"]
    across = table[table["relation"] != "within"]
    across = across[across["step"] == across["step"].max()]
    starts = _starts(within)
    colours = ordered_colours(starts)
    figure, axes = panels(2, 2, 4.6, width_ratios=[2.4, 1])
    percent = [c for c in table if c.startswith("test_accuracy") and "gain" not in c]
    within, across = (part.assign(**{c: part[c] * 100 for c in percent}) for part in (within, across))
    for row, (quantity, label) in enumerate(
        (("test_accuracy", "test accuracy (%)"), ("test_loss", "test loss (nats)"))
    ):
        left, right = axes[row]
        for start in starts:
            rows = within[within["step"] == start]
            band(left, rows, "delta", quantity, color=colours[start], marker="o", ms=3, lw=1.4)
            left.plot(rows["delta"], rows[f"{quantity}_end_mean"], color=colours[start], ls=":", lw=1.2)
        left.set(ylabel=label, xlabel=r"$\Delta$ (steps)" if row else "")
        _across_bars(right, across, quantity)
    axes[0, 0].set_title("Within a trajectory: average of $T$ and $T + \\Delta$")
    axes[0, 1].set_title("Across, at the last $T$")
    handles = [Line2D([], [], color=colours[start], marker="o", ms=3, label=f"$T$ = {start}") for start in starts]
    if starts:
        handles.append(Line2D([], [], color="0.3", ls=":", label=r"the later end, $T + \Delta$, alone"))
    if len(across):
        handles.append(Line2D([], [], color=_AVERAGE, marker="o", ls="", label="average of two trajectories"))
        handles.append(Line2D([], [], color=_END, marker="s", ls="", label="their ends alone"))
    note = (
        f"mean and 95 % interval over {replicates_text(table)}; batch-norm statistics recomputed for every network"
    )
    legend_below(figure, handles, 4, note)
    figure.suptitle(f"Averages of two checkpoints, within a trajectory and across two ({spec['experiment']})")
    return figure


_AVERAGE, _END = sns.color_palette("colorblind")[3], sns.color_palette("colorblind")[7]


def _across_bars(axes: Axes, across: pd.DataFrame, quantity: str) -> None:
    """Draw the average and its ends for each relation, with intervals."""
    relations = sorted(across["relation"].unique())
    for index, relation in enumerate(relations):
        rows = across[across["relation"] == relation]
        for offset, suffix, colour, marker in ((-0.12, "", _AVERAGE, "o"), (0.12, "_start", _END, "s")):
            mean, low, high = (rows[f"{quantity}{suffix}_{part}"].mean() for part in ("mean", "low", "high"))
            error = np.nan_to_num([[mean - low], [high - mean]])
            axes.errorbar(index + offset, mean, yerr=error, color=colour, marker=marker, ms=5, capsize=3, ls="")
    names = {"across_initialisations": "two initial-\nisations", "across_replicates": "one initial-\nisation"}
    axes.set_xticks(range(len(relations)), [names.get(relation, relation) for relation in relations])
    axes.set_xlim(-0.6, max(len(relations), 1) - 0.4)


def _first_point(table: pd.DataFrame) -> pd.DataFrame:
    """Keep the rows of the first point: one message a figure; the table holds the others."""
    return table[table["point"] == table["point"].iloc[0]] if len(table) else table


@styled
def distance_figure(table: pd.DataFrame, spec: dict[str, Any]) -> Figure:
    """Draw distance and cosine between checkpoints against their lag, with both nulls."""
    table = _first_point(table)
    within = table[table["relation"] == "within"]
    raw = within[within["layer"] == "all"]
    starts = _starts(raw)
    colours = ordered_colours(starts)
    figure, ((distance, cosine),) = panels(1, 2, 3.2)
    for start in starts:
        rows = raw[raw["step"] == start].sort_values("delta")
        band(distance, rows, "delta", "l2", color=colours[start], marker="o", ms=3, lw=1.4)
        distance.plot(rows["delta"], rows["ou_l2"], color=colours[start], ls="--", lw=1.1)
        band(cosine, rows, "delta", "cosine", color=colours[start], marker="o", ms=3, lw=1.4)
    walk = raw.drop_duplicates("delta").sort_values("delta")
    cosine.plot(walk["delta"], walk["sphere_walk_cosine"], color="black", ls=":", lw=1.4)
    across = table[(table["relation"] == "across_initialisations") & (table["layer"] == "all")]
    if len(across):
        last = across[across["step"] == across["step"].max()]
        distance.axhline(last["l2_mean"].mean(), color=_AVERAGE, lw=1.2, ls=(0, (6, 2)))
        cosine.axhline(last["cosine_mean"].mean(), color=_AVERAGE, lw=1.2, ls=(0, (6, 2)))
    distance.set(xlabel=r"$\Delta$ (steps)", ylabel=r"$\|w_T - w_{T+\Delta}\|$", title="Distance", ylim=(0, None))
    cosine.set(xlabel=r"$\Delta$ (steps)", ylabel=r"$\cos(w_T, w_{T+\Delta})$", title="Cosine")
    handles = [Line2D([], [], color=colours[start], marker="o", ms=3, label=f"$T$ = {start}") for start in starts]
    if raw.loc[raw["step"].isin(starts), "ou_l2"].notna().any():
        handles.append(Line2D([], [], color="0.3", ls="--", label="OU process, fitted\nto the short lags"))
    if walk["sphere_walk_cosine"].notna().any():
        handles.append(Line2D([], [], color="black", ls=":", label="noise-only walk on\nthe sphere"))
    if len(across):
        label = "two initialisations,\nat the last $T$"
        handles.append(Line2D([], [], color=_AVERAGE, ls=(0, (6, 2)), label=label))
    note = f"mean and 95 % band over {replicates_text(table)}; all scale-invariant weights, raw"
    legend_below(figure, handles, 4, note)
    figure.suptitle(f"Distances within a trajectory against the lag ({spec['experiment']})")
    return figure


@styled
def epochs_figure(table: pd.DataFrame, spec: dict[str, Any]) -> Figure:
    """Draw the checkpoint-by-checkpoint matrices of Fort et al. 2019, within a trajectory and across two."""
    table = _first_point(table)
    relations = ["within", *(name for name in table["relation"].unique() if name.startswith("across"))][:2]
    figure, axes = panels(len(relations), len(_EPOCHS), 2.15 * len(relations) + 0.3)
    for column, (quantity, title, factor) in enumerate(_EPOCHS):
        means = [
            factor * table[table["relation"] == name].groupby(["step", "partner_step"])[quantity].mean().unstack()
            for name in relations
        ]
        values = np.concatenate([mean.to_numpy(dtype=float).ravel() for mean in means])
        values = values[np.isfinite(values)]
        limits = {"vmin": values.min(), "vmax": values.max()} if len(values) else {"vmin": 0, "vmax": 1}
        for row, mean in enumerate(means):
            image = _matrix(axes[row, column], mean, spec, limits)
            axes[row, column].set(title=title if row == 0 else "")
            if row == len(relations) - 1:
                axes[row, column].set_xlabel(r"$\lambda_e t$ of the " + ("other" if row else "second"))
        bar = figure.colorbar(image, ax=list(axes[:, column]), location="bottom", aspect=22, pad=0.03)
        bar.ax.tick_params(labelsize="x-small")
    for row, relation in enumerate(relations):
        axes[row, 0].set_ylabel(f"{_RELATIONS[relation]}\n" + r"$\lambda_e t$ of the one")
    within = table[table["relation"] == "within"]
    note = f"means over {within['replicate'].nunique()} trajectories or pairs of them; axes go from checkpoint to "
    legend_below(figure, [], 1, note + "checkpoint, not in proportion to time")
    figure.suptitle(f"Checkpoint by checkpoint: weights and predictions ({spec['experiment']})")
    return figure


_EPOCHS = (
    ("cosine", "cosine of weights", 1.0),
    ("disagreement", "disagreement (% of test images)", 100.0),
    ("disagreement_over_error", "disagreement / error", 1.0),
)
_RELATIONS = {
    "within": "one trajectory",
    "across_initialisations": "two initialisations",
    "across_replicates": "two trajectories of\none initialisation",
}


def _matrix(axes: Axes, mean: pd.DataFrame, spec: dict[str, Any], limits: dict[str, float]):
    """Draw one matrix of checkpoints (rows) by checkpoints (columns), labelled with their times."""
    values = np.ma.masked_invalid(mean.to_numpy(dtype=float).reshape(mean.shape))
    image = axes.pcolormesh(values if mean.size else np.ma.masked_all((1, 1)), cmap=HEAT, **limits)
    rate = spec["points"][0]["intrinsic_lr"] or 1.0
    for axis, steps in ((axes.xaxis, mean.columns), (axes.yaxis, mean.index)):
        shown = spread(range(len(steps)), 6)
        axis.set_ticks(np.array(shown) + 0.5, [f"{steps[place] * rate:.3g}" for place in shown])
        axis.set_tick_params(labelsize="x-small")
    axes.grid(visible=False)
    axes.set_aspect("equal")
    return image


@styled
def total_variation_figure(table: pd.DataFrame, spec: dict[str, Any]) -> Figure:
    """Draw the total variation between settings of equal lambda_e against lambda_e t, with its floor."""
    rows = _against_reference(table, spec).dropna(subset=["total_variation"])
    kinds = list(dict.fromkeys(rows["differs"]))[:3]
    rates = sorted(rows["intrinsic_lr_a"].unique())
    colours = ordered_colours(rates)
    figure, axes = panels(1, max(len(kinds), 1), 3.0, sharey=True)
    for panel, kind in zip(axes[0], kinds, strict=False):
        for index, rate in enumerate(rates):
            chosen = rows[(rows["differs"] == kind) & (rows["intrinsic_lr_a"] == rate)]
            chosen = chosen.sort_values("intrinsic_time_a")
            time, colour = chosen["intrinsic_time_a"], colours[rate]
            errors = chosen["total_variation_low"], chosen["total_variation_high"]
            panel.plot(time, chosen["total_variation"], color=colour, lw=1.4)
            for above, face in ((True, colour), (False, "white")):
                part = chosen[(chosen["p_value"] <= SIGNIFICANCE) == above]
                style = {"color": colour, "mfc": face, "marker": MARKERS[index % 6], "ms": 4.5, "ls": ""}
                panel.plot(part["intrinsic_time_a"], part["total_variation"], **style)
            panel.vlines(time, *errors, color=colour, lw=1)
            panel.fill_between(time, chosen["null_mean"], chosen["null_q95"], color=colour, alpha=0.25, lw=0)
        logarithmic(panel, "x", rows["intrinsic_time_a"])
        logarithmic(panel, "y", rows["total_variation"])
        panel.set(xlabel=r"$\lambda_e t$", title=_differs_title(kind))
        ticks(panel, rows["intrinsic_time_a"])
    axes[0, 0].set(ylabel="total variation of predicted labels")
    handles = [
        Line2D(
            [], [], color=colours[rate], marker=MARKERS[i % 6], ms=4, label=rf"$\lambda_e$ = {scientific(rate)}"
        )
        for i, rate in enumerate(rates)
    ]
    handles.append(
        plt.Rectangle((0, 0), 1, 1, color="0.5", alpha=0.4, lw=0, label="floor: permutation null, mean to 95 %")
    )
    note = "no pair of settings with finite runs at equal intrinsic learning rate"
    if len(rows):
        runs, count = int(rows["replicates_a"].min()), int(np.nan_to_num(rows["permutations"].max()))
        note = (
            f"{runs} runs a side; open markers: not above the floor (p > {SIGNIFICANCE:g}, {count} permutations)\n"
            "bars: conservative 95 % intervals of the true distance"
        )
    legend_below(figure, handles, 4, note)
    figure.suptitle(f"Distance in function space between settings of equal $\\lambda_e$ ({spec['experiment']})")
    return figure


def _against_reference(table: pd.DataFrame, spec: dict[str, Any]) -> pd.DataFrame:
    """Keep the pairs whose first point is the first of its intrinsic learning rate; at equal rates only."""
    reference: dict[float, str] = {}
    for point in spec["points"]:
        reference.setdefault(point["intrinsic_lr"], point["name"])
    same = table[table["same_intrinsic_lr"]]
    return same[same["point_a"].isin(list(reference.values()))]


def _differs_title(kind: str) -> str:
    titles = {
        "init_seed": "another initialisation",
        "init_scale": "another initial scale",
        "lr": r"another $\eta$ at equal $\lambda_e$",
    }
    return titles.get(kind, "differs in " + kind.replace("_", " ").replace("+", ", "))


@styled
def disagreement_figure(table: pd.DataFrame, spec: dict[str, Any]) -> Figure:
    """Draw how often runs disagree within and across settings beside what independent errors would give."""
    rows = _against_reference(table, spec)
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
    figure, ((axes,),) = panels(1, 1, 3.0)
    for index, (label, values, low, high) in enumerate(bars):
        place = np.arange(len(rows)) + (index - 2) * 0.16
        axes.bar(place, values * 100, width=0.15, label=label, **bar_style(index))
        if low is not None and high is not None:
            error = np.nan_to_num(np.array([values - low, high - values]) * 100).clip(min=0)
            axes.errorbar(place, values * 100, yerr=error, color="black", ls="", capsize=2, lw=1)
    axes.axhline(0, color="0.3", lw=0.8)
    upright = 90 if len(rows) > _WRAPPED * figure.get_figwidth() / PAGE else 0
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
    legend_below(figure, axes.get_legend_handles_labels()[0], 3, note)
    figure.suptitle(f"Disagreement of runs within and across settings ({spec['experiment']})")
    return figure


def _pair_label(row: pd.Series, rows: pd.DataFrame) -> str:
    label = rf"$\lambda_e$ = {scientific(row['intrinsic_lr_a'])}"
    if rows["differs"].nunique() == 1:
        return label
    width = 30 if len(rows) > _WRAPPED else 76 // len(rows)
    return f"{label}\n{fill(_differs_title(row['differs']), width, break_long_words=False)}"


_WRAPPED = 6
"""Labels of up to so many groups of bars on a page's width stand level and wrapped; of more, upright."""


@styled
def grid_figure(table: pd.DataFrame, spec: dict[str, Any]) -> Figure:
    """Draw test accuracy over learning rate and weight decay, and against the intrinsic learning rate."""
    if not len(table):
        raise InputError("grid: found an empty table; allowed is at least one point")
    figure, ((heat, line),) = panels(1, 2, 3.5, width_ratios=[1.25, 1])
    # Every rate keeps its row and column, though all its runs diverged.
    cells = 100 * table.groupby(["lr", "weight_decay"])["test_accuracy_mean"].mean().unstack()
    hatched = _heat_map(heat, cells)
    _diagonals(heat, cells)
    rates = sorted(table["lr"].unique())
    colours = ordered_colours(rates)
    for index, rate in enumerate(rates):
        rows = table[(table["lr"] == rate) & (table["intrinsic_lr"] > 0)].sort_values("intrinsic_lr")
        values = {f"test_accuracy_{part}": rows[f"test_accuracy_{part}"] * 100 for part in ("mean", "low", "high")}
        style = {"marker": MARKERS[index % len(MARKERS)], "ms": 4, "lw": 1.2, "color": colours[rate]}
        band(line, rows.assign(**values), "intrinsic_lr", "test_accuracy", **style)
    logarithmic(line, "x", table.loc[table["test_accuracy_mean"].notna(), "intrinsic_lr"])
    line.set(
        xlabel=r"intrinsic learning rate $\lambda_e = \eta\lambda$",
        ylabel="test accuracy (%)",
        title="The same, against $\\lambda_e$",
    )
    handles = [
        Line2D(
            [],
            [],
            color=colours[rate],
            marker=MARKERS[i % len(MARKERS)],
            ms=4,
            lw=1.2,
            label=rf"$\eta$ = {rate:g}",
        )
        for i, rate in enumerate(rates)
    ]
    note = f"mean and 95 % band over {replicates_text(table)} per cell; dashed: equal $\\lambda_e$"
    legend_below(figure, handles, 5, note + ("; hatched: no finite result" if hatched else ""))
    figure.suptitle(f"Test accuracy after {int(table['step'].max())} steps ({spec['experiment']})")
    return figure


def _heat_map(axes: Axes, cells: pd.DataFrame) -> bool:
    """Draw and annotate the cells, those without a value grey and hatched; return whether there are any."""
    values = cells.to_numpy()
    image = axes.pcolormesh(np.ma.masked_invalid(values), cmap=HEAT, edgecolors="white", linewidth=0.5)
    for y, x in np.ndindex(values.shape):
        if not np.isfinite(values[y, x]):
            axes.add_patch(
                plt.Rectangle((x, y), 1, 1, facecolor="0.88", edgecolor="0.6", hatch="////", linewidth=0)
            )
            continue
        face = image.cmap(image.norm(values[y, x]))
        # Rec. 709 luma decides whether the cell is dark.
        colour = "white" if np.dot(face[:3], [0.2126, 0.7152, 0.0722]) < 0.45 else "black"
        box = {"facecolor": face, "edgecolor": "none", "pad": 1.2}
        text = f"{values[y, x]:.1f}"
        axes.text(
            x + 0.5, y + 0.5, text, ha="center", va="center", color=colour, fontsize="small", bbox=box, zorder=4
        )
    axes.set_xticks(np.arange(cells.shape[1]) + 0.5, [f"{value:g}" for value in cells.columns])
    axes.set_yticks(np.arange(cells.shape[0]) + 0.5, [f"{value:g}" for value in cells.index])
    axes.grid(visible=False)
    axes.set(xlabel=r"weight decay $\lambda$", ylabel=r"learning rate $\eta$", title="Test accuracy (%)")
    return not np.isfinite(values).all()


def _diagonals(axes: Axes, cells: pd.DataFrame) -> None:
    """Draw lines through the cells of equal intrinsic learning rate, and label them between two cells."""
    products = np.outer(cells.index, cells.columns)
    # A zero weight decay lies on no diagonal.
    exponents = np.log10(products, out=np.full(products.shape, np.nan), where=products > 0)
    # Cells whose products agree to a tenth of a decade count as one diagonal: grids are rounded.
    for level in np.unique(exponents[np.isfinite(exponents)].round(1)):
        y, x = np.nonzero(np.isclose(exponents, level, atol=0.06))
        if len(x) < 2:
            continue
        order = np.argsort(x)
        x, y = x[order] + 0.5, y[order] + 0.5
        axes.plot(x, y, color="0.15", lw=0.8, ls=(0, (4, 2)), zorder=3)
        between = (len(x) - 1) // 2
        place = (x[between : between + 2].mean(), y[between : between + 2].mean())
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.85}
        text = scientific(float(f"{10**level:.0e}"))
        axes.text(*place, text, ha="center", va="center", fontsize="x-small", bbox=box, zorder=4)


@styled
def phase_figure(table: pd.DataFrame, spec: dict[str, Any]) -> Figure:
    """Draw effective gradient norm and training loss against the effective learning rate.

    Left, the path of each point over the tenths of its training, with the lines on which the norm is at rest,
    effective learning rate times gradient norm = sqrt(2 lambda_e). Right, the late training loss.
    """
    figure, ((plane, loss),) = panels(1, 2, 3.3)
    rates = sorted(float(f"{rate:.1e}") for rate in table["intrinsic_lr"].unique())
    rates = list(dict.fromkeys(rates))
    colours = ordered_colours(rates) if rates != [0.0] else {0.0: "0.3"}
    late = table[table["part"] == table["part"].max()]
    for _, path in table.groupby("point", sort=False):
        path, colour = path.sort_values("part"), colours[float(f"{path['intrinsic_lr'].iloc[0]:.1e}")]
        plane.plot(
            path["effective_lr_mean"], path["effective_gradient_norm_mean"], color=colour, lw=0.8, alpha=0.6
        )
        last = path.iloc[-1]
        marker = _REGIME_MARKERS[_majority(last)]
        for panel, value in ((plane, "effective_gradient_norm"), (loss, "batch_loss")):
            mean, low, high = (last[f"{value}_{part}"] for part in ("mean", "low", "high"))
            panel.errorbar(
                last["effective_lr_mean"], mean, yerr=np.nan_to_num([[mean - low], [high - mean]]).clip(min=0),
                color=colour, marker=marker, ms=5, lw=1, ls="",
            )  # fmt: skip
    span = np.array([late["effective_lr_mean"].min(), late["effective_lr_mean"].max()])
    shown = [rate for rate in spread(rates, 5) if rate > 0]
    for rate in shown:
        plane.plot(span, (2 * rate) ** 0.5 / span, color=colours[rate], ls=":", lw=1.1)
    norms = table["effective_gradient_norm_mean"]
    plane.set_ylim(norms[norms > 0].min() / 2, norms.max() * 2)
    for panel in (plane, loss):
        logarithmic(panel, "x", table["effective_lr_mean"])
        panel.set(xlabel=r"effective learning rate $\eta/\|w\|^2$ (per step)")
    logarithmic(plane, "y", norms)
    logarithmic(loss, "y", late["batch_loss_mean"])
    plane.set(ylabel=r"effective gradient norm $\|\hat g\|$", title="Phase diagram")
    loss.set(ylabel="training loss of a mini-batch (nats)", title="Loss in the last tenth")
    handles = [Line2D([], [], color=colours[rate], label=rf"$\lambda_e$ = {scientific(rate)}") for rate in shown]
    handles += [
        Line2D([], [], color="0.3", marker=marker, ls="", ms=5, label=name.replace("_", " "))
        for name, marker in _REGIME_MARKERS.items()
        if late[name].sum() > 0
    ]
    if shown:
        handles.append(
            Line2D([], [], color="0.3", ls=":", label=r"at rest: $\|\hat g\|\,\eta/\|w\|^2 = (2\lambda_e)^{1/2}$")
        )
    note = f"markers: last tenth of the training, mean and 95 % interval over {replicates_text(late)} per setting"
    legend_below(figure, handles, 4, note)
    figure.suptitle(f"Gradient norm and loss against the effective learning rate ({spec['experiment']})")
    return figure


_REGIME_MARKERS = {CONVERGING: "o", CHAOTIC: "s", DIVERGED: "X"}


def _majority(row: pd.Series) -> str:
    """Return the regime of most replicates of a point."""
    return max(_REGIME_MARKERS, key=lambda name: row[name])
