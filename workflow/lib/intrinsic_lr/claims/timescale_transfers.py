"""The best time scale 1/(eta lambda) of AdamW at two sizes of the training set: the same in epochs, or not."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from intrinsic_lr.claims.shared.spec import NOTHING, ClaimData, ClaimSpec, Estimate
from intrinsic_lr.claims.shared.verdicts import Findings, Range
from intrinsic_lr.figures import style
from intrinsic_lr.stats.intervals import mean_interval
from intrinsic_lr.stats.loss_curves import lowest_point

GRID = "grid"
SMALL, LARGE = "small", "large"
COLUMNS = ["size", "steps_per_epoch", "point", "lr", "weight_decay", "intrinsic_lr", "replicate", "test_loss"]
TIMESCALE, WEIGHT_DECAY, LR = "timescale", "weight_decay", "lr"
"""What is compared between the two sizes: the time scale 1/(eta lambda) in epochs, and the controls."""
QUANTITIES = {
    TIMESCALE: "time scale 1/(eta lambda) in epochs",
    WEIGHT_DECAY: "weight decay at fixed learning rate",
    LR: "learning rate at fixed weight decay",
}


class Grid(NamedTuple):
    """The test losses of one size of the training set, at the C points of the grid."""

    rates: np.ndarray  # (C,) eta lambda
    lr: np.ndarray  # (C,)
    steps_per_epoch: int
    losses: np.ndarray  # (C, R) of each point's replicates, NaN where one is not finite

    def best_rate(self, drawn: np.ndarray, quantity: str, window: float) -> float:
        """Return the logarithm of the best eta lambda, over the grid or along the lines of what is held fixed.

        `drawn` are the replicates that count, `window` is a factor on eta lambda; see `lowest_point`.
        """
        fixed = {TIMESCALE: np.ones(len(self.lr)), WEIGHT_DECAY: self.lr, LR: self.rates / self.lr}[quantity]
        means = self.losses[:, drawn].mean(axis=1)
        # Products of rates that are one number differ in their last digits.
        rates, lines = (np.round(np.log(values), 6) for values in (self.rates, fixed))
        return lowest_point(rates, means, lines, np.log(window))


def measure(data: ClaimData) -> pd.DataFrame:
    """Return the final test loss of every replicate at both sizes, with the steps of an epoch."""
    points = data.spec.points(GRID)
    steps = {p.name: data.ensemble(GRID, p).blocks[0].record["steps_per_epoch"] for p in points}
    ends = {point.name: point.length for point in points}
    history = data.history(GRID)
    table = history[history["step"] == history["point"].map(ends)]
    table = table.assign(steps_per_epoch=table["point"].map(steps))
    sizes = {min(steps.values()): SMALL, max(steps.values()): LARGE}
    return table.assign(size=table["steps_per_epoch"].map(sizes))[COLUMNS].reset_index(drop=True)


def grid_of(table: pd.DataFrame, size: str) -> Grid | None:
    """Return the losses of one size of the training set; None where the table has none."""
    rows = table[table["size"] == size]
    if rows.empty:
        return None
    axes = ["intrinsic_lr", "lr"]
    cells = rows.pivot_table(index=axes, columns="replicate", values="test_loss", dropna=False).dropna(how="all")
    rates, lr = (cells.index.get_level_values(axis).to_numpy(np.float64) for axis in axes)
    losses = cells.to_numpy(np.float64)
    return Grid(rates, lr, int(rows["steps_per_epoch"].iloc[0]), np.where(np.isfinite(losses), losses, np.nan))


def ratio(table: pd.DataFrame, spec: ClaimSpec, quantity: str) -> Estimate:
    """Return the best value of a quantity on the larger set over that on the smaller one.

    The interval is by a bootstrap over replicates, each with its runs at all points of its size.
    """
    small, large = grid_of(table, SMALL), grid_of(table, LARGE)
    if small is None or large is None:
        return NOTHING
    window = spec.settings["window"]

    def statistic(of_small: np.ndarray, of_large: np.ndarray) -> float:
        change = large.best_rate(of_large, quantity, window) - small.best_rate(of_small, quantity, window)
        if quantity == TIMESCALE:
            change = -change - np.log(large.steps_per_epoch / small.steps_per_epoch)
        return float(np.exp(change))

    return spec.bootstrap(statistic, [small.losses.shape[1], large.losses.shape[1]], quantity)


def judge(table: pd.DataFrame, spec: ClaimSpec) -> Findings:
    """Compare the best time scale in epochs between the sizes; the best of one rate at the other has to differ."""
    factor = spec.thresholds["factor"]
    for quantity, words in QUANTITIES.items():
        judged = spec.criterion if quantity == TIMESCALE else spec.control
        statement = f"The best {words} is the same at both sizes of the training set."
        statistic = f"best {words}: that of the larger set over that of the smaller one"
        allowed = Range(1 / factor, factor)
        yield judged(statement, statistic, ratio(table, spec, quantity), GRID, allowed=allowed)


@style.styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw the test loss of both sizes against the time scale in epochs, and the ratios of what is best."""
    figure, ((small, large, ratios),) = style.panels(1, 3, 2.8, width_ratios=[1, 1, 0.9])
    for panel, size in ((small, SMALL), (large, LARGE)):
        _draw_losses(panel, table, spec, size)
    small.set_ylabel("final test loss (nats)")
    _draw_ratios(ratios, table, spec)
    runs = style.count_text(table.groupby("point")["replicate"].nunique())
    note = (
        f"curves: one learning rate each, mean and {spec.percent} interval of {runs} runs;\n"
        f"right: {spec.percent} bootstrap intervals over runs; shaded: factors that count as the same"
    )
    title = "The best time scale of AdamW, counted in epochs, at two sizes of the training set"
    return style.legend_below(figure, style.labelled(figure), 4, note, title)


def _draw_losses(panel: Axes, table: pd.DataFrame, spec: ClaimSpec, size: str) -> None:
    rows = table[table["size"] == size]
    colours = style.ordered_colours(sorted(table["lr"].unique()))
    for place, (lr, line) in enumerate(rows.groupby("lr")):
        look = {"color": colours[lr], "marker": style.MARKERS[place], "ms": 3.5}
        times, found = [], []
        for rate, runs in line.groupby("intrinsic_lr"):
            times.append(1 / (rate * runs["steps_per_epoch"].iloc[0]))
            found.append(mean_interval(runs["test_loss"], spec.confidence))
            style.error_bar(panel, times[-1], found[-1], **look)
        label = rf"$\eta$ = {style.scientific(lr)}"
        panel.plot(times, [estimate[0] for estimate in found], lw=1.2, label=label, **look)
    found = grid_of(table, size)
    if found is not None:
        everyone = np.arange(found.losses.shape[1])
        best = np.exp(-found.best_rate(everyone, TIMESCALE, spec.settings["window"])) / found.steps_per_epoch
        panel.axvline(best, color="0.2", lw=1.1, ls="--", label="best over the grid")
        panel.set_title(f"{size} set: {found.steps_per_epoch} steps an epoch")
        times = 1 / (table["intrinsic_lr"] * table["steps_per_epoch"])
        style.logarithmic(panel, "x", times)
        panel.set_xlim(times.min() / 1.5, 1.5 * times.max())
    panel.set_xlabel(r"$1/(\eta\lambda)$ in epochs")


def _draw_ratios(panel: Axes, table: pd.DataFrame, spec: ClaimSpec) -> None:
    names = {
        TIMESCALE: "time scale\nin epochs",
        WEIGHT_DECAY: "$\\lambda$ at\nfixed $\\eta$",
        LR: "$\\eta$ at\nfixed $\\lambda$",
    }
    factor = spec.thresholds["factor"]
    panel.axvspan(1 / factor, factor, color="0.9", lw=0, zorder=0)
    panel.axvline(1, color="0.3", lw=0.8)
    estimates = [ratio(table, spec, quantity) for quantity in names]
    for place, (estimate, colour) in enumerate(zip(estimates, ("#0072B2", "0.45", "0.45"), strict=True)):
        style.error_bar(panel, place, estimate, horizontal=True, marker="o", ms=5, color=colour, elinewidth=2)
    panel.set_yticks(range(len(names)), list(names.values()))
    panel.set_ylim(len(names) - 0.5, -0.5)
    panel.grid(axis="y", visible=False)
    panel.set_xscale("log")
    panel.set(xlabel="best of large set\nover best of small set", title="the same at both sizes?")
    style.plain_ticks(panel.xaxis)
