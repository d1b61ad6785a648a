"""Accuracy at the end of training for every point of a grid of learning rate and weight decay."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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


@style.styled
def draw_grid(table: pd.DataFrame, experiment: Experiment) -> Figure:
    """Draw test accuracy over learning rate and weight decay, and against the intrinsic learning rate."""
    if not len(table):
        raise InputError("grid: expected at least one point, got an empty table")
    figure, ((heat, line),) = style.panels(1, 2, 3.5, width_ratios=[1.25, 1])
    # Every rate keeps its row and column, though all its runs diverged.
    cells = 100 * table.groupby(["lr", "weight_decay"])["test_accuracy_mean"].mean().unstack()
    hatched = _heat_map(heat, cells)
    _diagonals(heat, cells)
    rates = sorted(table["lr"].unique())
    colours = style.ordered_colours(rates)
    handles = []
    for index, rate in enumerate(rates):
        rows = table[(table["lr"] == rate) & (table["intrinsic_lr"] > 0)].sort_values("intrinsic_lr")
        values = {f"test_accuracy_{part}": rows[f"test_accuracy_{part}"] * 100 for part in ("mean", "low", "high")}
        marker = style.MARKERS[index % len(style.MARKERS)]
        line_style = {"marker": marker, "ms": 4, "lw": 1.2, "color": colours[rate]}
        style.band(line, rows.assign(**values), "intrinsic_lr", "test_accuracy", **line_style)
        handles.append(style.handle(rf"$\eta$ = {rate:g}", **line_style))
    style.logarithmic(line, "x", table.loc[table["test_accuracy_mean"].notna(), "intrinsic_lr"])
    line.set(
        xlabel=r"intrinsic learning rate $\lambda_e = \eta\lambda$",
        ylabel="test accuracy (%)",
        title="The same, against $\\lambda_e$",
    )
    note = f"mean and 95 % band over {style.replicates_text(table)} per cell; dashed: equal $\\lambda_e$"
    style.legend_below(figure, handles, 5, note + ("; hatched: no finite result" if hatched else ""))
    figure.suptitle(f"Test accuracy after {int(table['step'].max())} steps ({experiment.name})")
    return figure


def _heat_map(axes: Axes, cells: pd.DataFrame) -> bool:
    """Draw and annotate the cells, those without a value grey and hatched; return whether there are any."""
    values = cells.to_numpy()
    image = axes.pcolormesh(np.ma.masked_invalid(values), cmap=style.HEAT, edgecolors="white", linewidth=0.5)
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
        text = style.scientific(float(f"{10**level:.0e}"))
        axes.text(*place, text, ha="center", va="center", fontsize="x-small", bbox=box, zorder=4)
