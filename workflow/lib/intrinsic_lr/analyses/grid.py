"""Accuracy at the end of training for every point of a grid of learning rate and weight decay."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from intrinsic_lr.analyses.drawing import drawn_points, mean_note, setting_text, varied_axes
from intrinsic_lr.analyses.tables import AnalysisData, with_point
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.figures import style
from intrinsic_lr.stats.intervals import summarize
from intrinsic_lr.study.experiment import Experiment

QUANTITIES = ["test_accuracy", "train_accuracy", "test_loss", "train_loss", "squared_norm", "effective_lr"]


def measure(data: AnalysisData) -> dict[str, pd.DataFrame]:
    """Return the table `grid`: a row for each point, its last step."""
    rows = []
    for point in data.experiment.points:
        history = data.ensembles[point.name].history()
        last = history[history["step"] == point.length]
        rows.append(with_point(summarize(last, ["step"], QUANTITIES, data.settings["confidence"]), point))
    return {"grid": pd.concat(rows)}


_FACETS = 6
"""At most so many settings of the other axes have panels of their own."""


@style.styled
def draw_grid(table: pd.DataFrame, experiment: Experiment, confidence: float) -> Figure:
    """Draw test accuracy over learning rate and weight decay, and against the intrinsic learning rate.

    Points that differ in other axes stand in rows of panels of their own.
    """
    points = drawn_points(table, experiment)
    if not points:
        raise InputError("grid: expected at least one point, got an empty table")
    others = [axis for axis in varied_axes(points) if axis not in ("lr", "weight_decay")]
    facets = {}
    for point in points:
        facets.setdefault(setting_text(point, others), []).append(point.name)
    shown = dict(list(facets.items())[:_FACETS])
    quantities = [f"test_accuracy_{part}" for part in ("mean", "low", "high")]
    table = table.assign(**{name: 100 * table[name] for name in quantities})
    drawn = table[table["point"].isin([name for names in shown.values() for name in names])]
    rates = sorted(drawn["lr"].unique())
    looks = {
        rate: {"marker": style.MARKERS[index % len(style.MARKERS)], "ms": 4, "lw": 1.2, "color": colour}
        for index, (rate, colour) in enumerate(style.ordered_colours(rates).items())
    }
    known = drawn["test_accuracy_mean"].dropna()
    limits = {"vmin": known.min(), "vmax": known.max()} if len(known) else {}
    figure, axes = style.panels(len(shown), 2, 3.5 * len(shown), width_ratios=[1.25, 1])
    hatched = False
    for (heat, line), (text, names) in zip(axes, shown.items(), strict=True):
        rows = drawn[drawn["point"].isin(names)]
        # Every rate keeps its row and column, though all its runs diverged.
        cells = rows.pivot(index="lr", columns="weight_decay", values="test_accuracy_mean")
        hatched |= _heat_map(heat, cells, limits)
        _diagonals(heat, cells)
        for rate, of_rate in rows[rows["intrinsic_lr"] > 0].groupby("lr"):
            style.band(line, of_rate, "intrinsic_lr", "test_accuracy", **looks[rate])
        style.logarithmic(line, "x", rows.loc[rows["test_accuracy_mean"].notna(), "intrinsic_lr"])
        line.set(xlabel=r"intrinsic learning rate $\lambda_e = \eta\lambda$", ylabel="test accuracy (%)")
        heat.set_title("\n".join(filter(None, ["Test accuracy (%)", text])))
        line.set_title("The same, against $\\lambda_e$")
    note = mean_note(drawn, confidence) + r" per cell; dashed: equal $\lambda_e$"
    if hatched:
        note += "; hatched: no finite result"
    if len(facets) > len(shown):
        note += f"; {len(shown)} of {len(facets)} settings of {', '.join(others)} are drawn"
    handles = [style.handle(rf"$\eta$ = {rate:g}", **look) for rate, look in looks.items()]
    style.legend_below(figure, handles, 5, note)
    lengths = style.count_text(drawn["step"])
    figure.suptitle(f"Test accuracy after {lengths} steps ({experiment.words})")
    return figure


def _heat_map(axes: Axes, cells: pd.DataFrame, limits: dict[str, float]) -> bool:
    """Draw and annotate the cells, those without a value grey and hatched; return whether there are any."""
    values = cells.to_numpy()
    image = axes.pcolormesh(
        np.ma.masked_invalid(values), cmap=style.HEAT, edgecolors="white", linewidth=0.5, **limits
    )
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
    axes.set(xlabel=r"weight decay $\lambda$", ylabel=r"learning rate $\eta$")
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
        text = style.scientific(float(f"{10**level:.0e}"))
        axes.text(*place, text, ha="center", va="center", fontsize="x-small", bbox=box, zorder=4)
