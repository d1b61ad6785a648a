"""The look of all figures, and the pieces that they share.

A page's width, a palette safe for colour-blind readers, ordered quantities in a truncated viridis, intervals as
bands or bars.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from intrinsic_lr.storage import atomic_path, note_written

WIDTH = 7.2
"""Width of a figure in inches: the text width of a page."""
STYLE = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9,
    "legend.fontsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "figure.titlesize": 10.5,
    "axes.grid": True,
    "grid.color": "0.9",
    "svg.fonttype": "path",
    "svg.hashsalt": "intrinsic-lr",
    "pdf.fonttype": 42,
    "figure.constrained_layout.use": True,
}
DASHES = ["-", (0, (5, 2)), ":", "-."]
HEAT = ListedColormap(plt.get_cmap("viridis")(np.linspace(0.05, 0.92, 256)))
MARKERS = ["o", "s", "^", "D", "v", "P"]
_METADATA: dict[str, dict[str, Any]] = {
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "png": {"Software": None},
}


def save(figure: Figure, paths: Iterable[str]) -> None:
    """Write a figure to files whose endings say the format; the same figure gives the same bytes."""
    with plt.rc_context(STYLE):
        for path in paths:
            extension = str(path).rsplit(".", 1)[1]
            with atomic_path(path) as temporary:
                figure.savefig(temporary, format=extension, dpi=200, metadata=_METADATA[extension])
            note_written(path)
    plt.close(figure)


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Make a drawing function draw in the look of all figures."""

    @wraps(draw)
    def in_style(*arguments: Any, **options: Any) -> Figure:
        with sns.axes_style("ticks"), plt.rc_context(STYLE):
            return draw(*arguments, **options)

    return in_style


def panels(rows: int, columns: int, height: float, **options: Any) -> tuple[Figure, np.ndarray]:
    """Return a figure of a page's width and its axes (rows, columns), without the upper and right frame."""
    figure, axes = plt.subplots(rows, columns, figsize=(WIDTH, height), squeeze=False, **options)
    sns.despine(figure)
    return figure, axes


def ordered_colours(values: Sequence[Any]) -> dict[Any, Any]:
    """Return a colour for each of some ordered values, none too light to be seen on white."""
    places = np.linspace(0.1, 0.78, max(len(values), 2))
    return dict(zip(values, map(tuple, plt.get_cmap("viridis")(places)), strict=False))


def replicates_text(table: pd.DataFrame) -> str:
    """Say how many replicates are behind a table's means, and how many are missing."""
    if not len(table):
        return "no replicates"
    low, high = int(table["replicates"].min()), int(table["replicates"].max())
    missing = int(table["missing"].max()) if "missing" in table else 0
    count = f"{high}" if low == high else f"{low} to {high}"
    return f"{count} replicates" + (f", up to {missing} not finite and left out" if missing else "")


def scientific(value: float) -> str:
    """Spell a rate for mathtext: 0.001 as 10^-3, 0.003 as 3 10^-3, 0.1 as 0.1."""
    if value == 0 or 0.01 < abs(value) < 1000:
        return f"{value:.3g}"
    mantissa, exponent = f"{value:.2e}".split("e")
    factor = f"{float(mantissa):.3g}"
    power = f"10^{{{int(exponent)}}}"
    return f"${power}$" if factor == "1" else rf"${factor}\times {power}$"


def band(axes: Axes, table: pd.DataFrame, x: str, quantity: str, **style: Any) -> None:
    """Draw `<quantity>_mean` against x with the band from `<quantity>_low` to `<quantity>_high`."""
    table = table.sort_values(x)
    (line,) = axes.plot(table[x], table[f"{quantity}_mean"], **style)
    axes.fill_between(
        table[x], table[f"{quantity}_low"], table[f"{quantity}_high"], color=line.get_color(), alpha=0.2, lw=0
    )


def logarithmic(axes: Axes, axis: str, values: Any) -> None:
    """Make an axis logarithmic if any of its values can be shown there: diverged runs leave none."""
    values = np.asarray(values, dtype=float)
    if (np.isfinite(values) & (values > 0)).any():
        axes.set(**{f"{axis}scale": "log"})


def spread(values: Sequence[Any], count: int) -> list[Any]:
    """Return at most `count` of the sorted values, spread evenly over their ranks."""
    values = sorted(set(values))
    if len(values) <= count:
        return values
    return [values[index] for index in np.unique(np.linspace(0, len(values) - 1, count).round().astype(int))]


def legend_below(figure: Figure, handles: list[Any], columns: int, note: str) -> None:
    """Put the legend under the panels, headed by a note on what the intervals are."""
    rows = -(-len(handles) // columns)
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + 0.2 * (rows + 1))
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=max(1, min(columns, len(handles))),
        frameon=False,
        title=note,
        title_fontsize=7.5,
    )


def ticks(axes: Axes, values: Iterable[float]) -> None:
    """Put plain tick labels on a logarithmic axis, at most about one for each doubling."""
    kept: list[float] = []
    for value in sorted({value for value in values if value > 0}):
        if not kept or value >= 1.9 * kept[-1]:
            kept.append(value)
    axes.set_xticks(kept, [f"{value:.2g}" for value in kept])
    axes.xaxis.set_minor_locator(NullLocator())
