"""The look of all figures, and the pieces that they share.

Width and font are set by a `Look`. All else is the same in every figure, whatever a user's matplotlibrc says: a
palette safe for colour-blind readers, markers or dashes beside colours, and text that stays text in vector
formats.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import wraps
from itertools import pairwise
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont
from matplotlib.lines import Line2D
from matplotlib.ticker import (
    AutoLocator,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
    StrMethodFormatter,
)

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.storage import atomic_path, note_written

PAGE = 6.75
"""Text width of a page, in inches."""
NARROW_SCREEN = 3.25
"""Width of a figure for a telephone, in inches: on 390 pixels its text is as large as the text of the page."""
_NARROW, _STACKED = 5.0, 4
"""In a figure less wide than this, in inches, panels stand below each other: up to so many in one column."""
STYLE = {
    "axes.titlesize": "medium",
    "axes.labelsize": "medium",
    "legend.fontsize": "small",
    "xtick.labelsize": "small",
    "ytick.labelsize": "small",
    "figure.titlesize": "large",
    "axes.grid": True,
    "grid.color": "0.9",
    "svg.fonttype": "none",
    "svg.hashsalt": "intrinsic-lr",
    "pdf.fonttype": 42,
    "figure.constrained_layout.use": True,
}
_RULER_DPI = 400
DASHES = [
    "-", (0, (5, 2)), ":", "-.", (0, (6, 1, 1, 1, 1, 1)), (0, (1, 3)), (0, (9, 2)), (0, (3, 1, 3, 4)),
]  # fmt: skip
HEAT = ListedColormap(plt.get_cmap("viridis")(np.linspace(0.05, 0.92, 256)))
MARKERS = ["o", "s", "^", "D", "v", "P"]
_METADATA: dict[str, dict[str, Any]] = {
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "png": {"Software": None},
}


@dataclass(frozen=True)
class Look:
    """What a figure has to fit into."""

    width: float = PAGE  # inches
    family: str = "DejaVu Sans"  # `serif`, `sans-serif`, `monospace`, or the name of an installed font
    size: float = 9.0  # of the text in points; titles are larger, tick labels and legends smaller, in proportion

    @staticmethod
    def read(text: str) -> "Look":
        """Read the JSON of `Study.look`; InputError if the font is not installed."""
        look = Look(**json.loads(text))
        try:
            findfont(FontProperties(family=[look.family]), fallback_to_default=False)
        except ValueError:
            raise InputError(
                "config: figures.font.family must be serif, sans-serif, monospace or an installed font, "
                f"got {look.family!r}"
            ) from None
        return look

    def in_use(self) -> AbstractContextManager[None]:
        """Return a context in which matplotlib draws and writes in this look, from its own defaults on."""
        parameters = STYLE | {
            "figure.figsize": (self.width, self.width / 2),
            "font.family": [self.family],
            "font.size": self.size,
            "mathtext.fontset": "dejavuserif" if self.family == "serif" else "dejavusans",
        }
        return plt.style.context(["default", sns.axes_style("ticks"), parameters])


DEFAULT = Look()


def save(figure: Figure, paths: Iterable[str], look: Look = DEFAULT) -> None:
    """Write a figure, drawn in this look, to files whose endings say the format; always with the same bytes."""
    with look.in_use():
        for path in paths:
            extension = str(path).rsplit(".", 1)[1]
            with atomic_path(path) as temporary:
                figure.savefig(temporary, format=extension, dpi=200, metadata=_METADATA[extension])
            note_written(path)
    plt.close(figure)


def save_drawn(draw: Callable[..., Figure], look: Look, paths: Sequence[str], narrow: str) -> None:
    """Draw a figure in this look into some files, and once more into one for a narrow screen.

    `draw` takes the argument `look`.
    """
    save(draw(look=look), paths, look)
    small = replace(look, width=NARROW_SCREEN)
    save(draw(look=small), [narrow], small)


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Let a drawing function take the argument `look`, and draw in the style of all figures."""

    @wraps(draw)
    def in_style(*arguments: Any, look: Look = DEFAULT, **options: Any) -> Figure:
        with look.in_use():
            figure = draw(*arguments, **options)
            _make_linear_where_nothing_is_positive(figure)
            if figure.get_suptitle():
                figure.suptitle(wrapped(figure, figure.get_suptitle(), "large"))
            if look.width < _NARROW:
                _fit_labels(figure)
            _fit_to_axes(figure)
            return figure

    return in_style


def _make_linear_where_nothing_is_positive(figure: Figure) -> None:
    """Replace logarithmic axes that matplotlib could not lay out: diverged runs may leave no positive number."""
    for axes in figure.axes:
        for name, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
            if axis.get_scale() == "log" and not min(axis.get_view_interval()) > 0:
                axes.set(**{f"{name}scale": "linear"})


def panels(
    rows: int,
    columns: int,
    height: float,
    *,
    sharex: Any = False,
    sharey: Any = False,
    beside: str = "col",
    **ratios: Any,
) -> tuple[Figure, np.ndarray]:
    """Return a figure of the look's width and its axes (rows, columns), without the upper and right frame.

    `height` is that of the panels, in inches; they share axes as in `plt.subplots`, which takes `ratios` too.
    In a narrow figure of many panels those of a `row` or of a `col` stay `beside` each other.
    """
    width = plt.rcParams["figure.figsize"][0]
    if width >= _NARROW or columns == 1:
        options = {"sharex": sharex, "sharey": sharey, "squeeze": False, **ratios}
        figure, axes = plt.subplots(rows, columns, figsize=(width, height), **options)
    else:
        axes = np.arange(rows * columns).reshape(rows, columns)
        places = axes if beside == "row" or axes.size <= _STACKED else axes.T
        across = 1 if axes.size <= _STACKED else 2
        down = -(-axes.size // across)
        figure, grid = plt.subplots(down, across, figsize=(width, height / rows * down), squeeze=False)
        for left_over in grid.flat[axes.size :]:
            left_over.remove()
        axes = grid.flat[np.argsort(places, axis=None)].reshape(rows, columns)
        _share(axes, "x", sharex)
        _share(axes, "y", sharey)
    sns.despine(figure)
    return figure, axes


def _share(axes: np.ndarray, axis: str, shared: Any) -> None:
    """Let panels share an axis as `plt.subplots` does, but keep the tick labels of each."""
    groups = {"row": list(axes), "col": list(axes.T), True: [axes.ravel()], "all": [axes.ravel()]}
    for first, *others in groups.get(shared, []):
        for other in others:
            getattr(other, f"share{axis}")(first)


def _fit_labels(figure: Figure) -> None:
    """Break long titles and labels; a panel gets tick labels, and its label from those that share its axis."""
    for axes in figure.axes:
        for axis, groups in (("x", axes.get_shared_x_axes()), ("y", axes.get_shared_y_axes())):
            labels = [getattr(other, f"get_{axis}label")() for other in groups.get_siblings(axes)]
            if not getattr(axes, f"get_{axis}label")() and any(labels):
                axes.set(**{f"{axis}label": next(filter(None, labels))})
        cell = axes.get_subplotspec()
        if cell:
            axes.tick_params(labelleft=True)
        share = 0.75 * len(cell.colspan) / cell.get_gridspec().ncols if cell else 0.75
        axes.set_title(wrapped(figure, axes.get_title(), "medium", share))
        axes.set_xlabel(wrapped(figure, axes.get_xlabel(), "medium", share))


_GAP = 3
"""Least space between two tick labels, in pixels of the screen."""


def _fit_to_axes(figure: Figure) -> None:
    """Break labels that stand out of their axes or the figure; leave out tick labels that would touch others."""
    figure.draw_without_rendering()
    # A broken label takes room from the axes, in which others may not fit then.
    for _ in range(3):
        if not any([_break_labels(axes) for axes in figure.axes]):
            break
        figure.draw_without_rendering()
    for axes in figure.axes:
        for axis, along in ((axes.xaxis, "x"), (axes.yaxis, "y")):
            _thin(axis, along)


def _break_labels(axes: Axes) -> bool:
    """Break a vertical label taller than its axes, and other labels that the figure cuts; tell whether any was."""
    width, label = axes.figure.bbox.width, axes.yaxis.label
    limits = {}
    if label.get_window_extent().height > axes.get_window_extent().height:
        limits[label] = 0.95 * axes.get_window_extent().height / width
    for text in (axes.xaxis.label, axes.title):
        box = text.get_window_extent()
        if box.x0 < 0 or box.x1 > width:
            middle = (box.x0 + box.x1) / 2 / width
            limits[text] = 1.9 * min(middle, 1 - middle)
    broken = {
        text: wrapped(axes.figure, text.get_text(), text.get_size(), limit) for text, limit in limits.items()
    }
    changed = any(text.get_text() != lines for text, lines in broken.items())
    for text, lines in broken.items():
        text.set_text(lines)
    return changed


def _thin(axis: Axis, along: str) -> None:
    """Take fewer ticks while labels of one size touch: of a linear axis others, of any other every second one."""
    if axis.get_scale() == "log" and _touching(axis.get_minorticklabels(), along):
        axis.set_minor_formatter(NullFormatter())
    for bins in range(6, 1, -1):
        labels = axis.get_majorticklabels()
        if not _touching(labels, along):
            return
        if isinstance(axis.get_major_locator(), AutoLocator | MaxNLocator):
            axis.set_major_locator(MaxNLocator(bins))
        else:
            places, texts = axis.get_majorticklocs(), [label.get_text() for label in labels]
            axis.set_ticks(places[::2], texts[::2])
        axis.figure.draw_without_rendering()


def _touching(labels: Iterable[Any], along: str) -> bool:
    """Tell whether two neighbouring labels of an axis touch."""
    boxes = [label.get_window_extent() for label in labels if label.get_text() and label.get_visible()]
    ends = sorted((getattr(box, f"{along}0"), getattr(box, f"{along}1")) for box in boxes)
    return any(after[0] - before[1] < _GAP * (along == "x") for before, after in pairwise(ends))


def wrapped(figure: Figure, text: str, size: str | float, share: float = 0.95) -> str:
    """Break the lines of a text that are longer than this share of the figure's width, never inside a formula."""
    limit = share * figure.get_figwidth()
    lines = []
    for paragraph in text.split("\n"):
        line = ""
        for word in re.findall(r"(?:\$[^$]*\$|\S)+", paragraph):
            if line and text_width(f"{line} {word}", size) > limit:
                lines.append(line)
                line = word
            else:
                line = f"{line} {word}".lstrip()
        lines.append(line)
    return "\n".join(lines)


def text_width(text: str, size: str | float) -> float:
    """Return the width of a text's longest line, in inches."""
    # At the resolution of a screen hinting makes a text up to 7 % narrower than it is in the files.
    renderer, font = RendererAgg(1, 1, _RULER_DPI), FontProperties(size=size)
    lines = text.split("\n")
    widths = [renderer.get_text_width_height_descent(line, font, ismath="$" in line)[0] for line in lines]
    return max(widths) / _RULER_DPI


def ordered_colours(values: Sequence[Any]) -> dict[Any, Any]:
    """Return a colour for each of some ordered values, none too light to be seen on white."""
    places = np.linspace(0.1, 0.78, max(len(values), 2))
    return dict(zip(values, map(tuple, plt.get_cmap("viridis")(places)), strict=False))


def replicates_text(table: pd.DataFrame) -> str:
    """Say how many replicates are behind a table's means, and how many are missing."""
    if not len(table):
        return "no replicates"
    missing = int(table["missing"].max()) if "missing" in table else 0
    left_out = f", up to {missing} not finite and left out" if missing else ""
    return f"{count_text(table['replicates'])} replicates{left_out}"


def count_text(counts: Iterable[Any]) -> str:
    """Return the range of some counts in words: "5", "5 to 8", or "no" where there is none."""
    counts = sorted({int(count) for count in counts if count == count})
    return " to ".join(map(str, dict.fromkeys([counts[0], counts[-1]]))) if counts else "no"


def handle(label: str, **style: Any) -> Line2D:
    """Return what a legend shows for a line or a marker of this style."""
    return Line2D([], [], label=label, **style)


def labelled(figure: Figure) -> list[Any]:
    """Return what a legend shows of a figure: for each label in its panels the first artist that has it."""
    found: dict[str, Any] = {}
    for axes in figure.axes:
        for artist, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, artist)
    return list(found.values())


def scientific(value: float) -> str:
    """Return a rate as mathtext: 0.001 as 10^-3, 0.003 as 3 10^-3, 0.1 as 0.1."""
    if value == 0 or 0.01 < abs(value) < 1000:
        return f"{value:.3g}"
    mantissa, exponent = f"{value:.2e}".split("e")
    factor = f"{float(mantissa):.3g}"
    power = f"10^{{{int(exponent)}}}"
    return f"${power}$" if factor == "1" else rf"${factor}\times {power}$"


_FORMULAS = {
    "E||g^||^2": r"$E\|\hat{g}\|^2$", "||w||^2": r"$\|w\|^2$", "lambda_e": r"$\lambda_e$", "gamma": r"$\gamma$",
    "<=": "\u2264", ">=": "\u2265",
}  # fmt: skip


def mathtext(text: str) -> str:
    """Return the words of a table or a statement with their formulas as mathtext."""
    for words, formula in _FORMULAS.items():
        text = text.replace(words, formula)
    return text


def band(axes: Axes, table: pd.DataFrame, x: str, quantity: str, **style: Any) -> None:
    """Draw `<quantity>_mean` against x with the band from `<quantity>_low` to `<quantity>_high`."""
    table = table.sort_values(x)
    (line,) = axes.plot(table[x], table[f"{quantity}_mean"], **style)
    ends = table[f"{quantity}_low"], table[f"{quantity}_high"]
    axes.fill_between(table[x], *ends, color=line.get_color(), alpha=0.2, lw=0)


def error_bar(axes: Axes, place: float, estimate: Sequence[float], horizontal: bool = False, **style: Any) -> None:
    """Draw an estimate (value, low, high, ...) with its interval, as far as they are finite."""
    value, low, high = estimate[:3]
    if np.isfinite(value):
        bar = [[max(value - low, 0)], [max(high - value, 0)]] if np.isfinite(low) else None
        at = {"x": value, "y": place, "xerr": bar} if horizontal else {"x": place, "y": value, "yerr": bar}
        axes.errorbar(**at, ls="", **style)


SHORT_SPAN = 30
"""Largest over smallest value up to which an axis is labelled between the powers of ten."""


def logarithmic(axes: Axes, axis: str, values: Any) -> None:
    """Make an axis logarithmic if any of its values can be shown there: diverged runs leave none.

    One with too short a span for labels at powers of ten stays linear.
    """
    values = np.asarray(values, dtype=float)
    values = values[np.isfinite(values) & (values > 0)]
    if not values.size:
        return
    if axis == "x" and values.max() < 5 * values.min():
        axes.locator_params(axis="x", nbins=4)
        return
    axes.set(**{f"{axis}scale": "log"})
    if axis == "x" and values.max() < SHORT_SPAN * values.min():
        # matplotlib would label all its minor ticks there, one over the other.
        plain_ticks(axes.xaxis)


def plain_ticks(axis: Axis) -> None:
    """Label a logarithmic axis of a short span at 1, 2 and 5 times the powers of ten, by plain numbers."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_locator(NullLocator())


def spread(values: Sequence[Any], count: int) -> list[Any]:
    """Return at most `count` of the sorted values, spread evenly over their ranks."""
    values = sorted(set(values))
    if len(values) <= count:
        return values
    return [values[index] for index in np.unique(np.linspace(0, len(values) - 1, count).round().astype(int))]


def legend_below(figure: Figure, handles: list[Any], columns: int, note: str, title: str = "") -> Figure:
    """Put the legend under the panels, headed by a note on what the intervals are; return the figure.

    The figure grows by the legend's height. It has `columns`, or as many as fit. A title goes on top.
    """
    width, height = figure.get_size_inches()
    for each in handles:
        each.set_label(wrapped(figure, each.get_label(), "small", 0.85))
    texts = [text_width(each.get_label(), "small") for each in handles]
    # Beside its text an entry has a line, and the space around both.
    beside = 0.058 * plt.rcParams["font.size"]
    columns = max(1, min(columns, len(handles)))
    while columns > 1 and sum(max(part) + beside for part in np.array_split(texts, columns)) > width:
        columns -= 1
    rows = -(-len(handles) // columns)
    note = wrapped(figure, note, "small")
    line = plt.rcParams["font.size"] / 45
    figure.set_size_inches(width, height + line * (rows + note.count("\n") + 1))
    place = {"loc": "outside lower center", "ncols": columns, "frameon": False}
    figure.legend(handles=handles, title=note, title_fontsize="small", **place)
    if title:
        figure.suptitle(title)
    return figure


def ticks(axes: Axes, values: Iterable[float]) -> None:
    """Put plain tick labels on a logarithmic axis, at most about one for each doubling."""
    kept: list[float] = []
    for value in sorted({value for value in values if value > 0}):
        if not kept or value >= 1.9 * kept[-1]:
            kept.append(value)
    axes.set_xticks(kept, [f"{value:.2g}" for value in kept])
    axes.xaxis.set_minor_locator(NullLocator())
