"""Descent on the toy loss x^2 / (x^2 + y^2): late mean loss, exact two-cycle, and the end of weight decay."""

from itertools import product

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec
from intrinsic_lr.claims.shared.verdicts import Finding, Range
from intrinsic_lr.figures.style import legend_below, ordered_colours, panels, scientific, styled
from intrinsic_lr.stats import toy
from intrinsic_lr.stats.intervals import outermost_mean, share_interval

DECAY, NO_DECAY, CYCLE, CURVE = "decay", "no_decay", "cycle", "curve"
_LENGTHS_OF_CURVE = 10, 4
_ROWS_OF_CURVE = 700
_FLOOR = 1e-12
_RATIOS = 1e-8, 1e3


def measure(data: ClaimData) -> pd.DataFrame:
    """Run the toy at every pair of rates from random starts: with weight decay, then without; never with it."""
    spec = data.spec
    settings = spec.settings
    rates = np.asarray(settings["learning_rates"], np.float64)
    parts = []
    for intrinsic_lr in settings["intrinsic_lrs"]:
        steps, without = (round(settings[key] / intrinsic_lr) for key in ("length", "length_without"))
        every = max(1, without // 4)
        # Runs count as independent over all pairs of rates, so no two pairs share their starts.
        starts = np.stack([_starts(spec, intrinsic_lr, lr, settings["starts"]) for lr in rates])
        runs = toy.descend(starts, rates[:, None], intrinsic_lr, steps, without, every)
        parts.append(_ends(DECAY, runs, rates, intrinsic_lr))
        runs = toy.descend(starts, rates[:, None], 0.0, steps, 0, every)
        parts.append(_ends(NO_DECAY, runs, rates, intrinsic_lr))
        cycle = toy.descend(toy.two_cycle(rates, intrinsic_lr), rates, intrinsic_lr, steps // 10)
        off = np.maximum(
            np.abs(cycle.loss / (intrinsic_lr / 2) - 1).max(axis=0),
            np.abs(cycle.squared_norm / rates - 1).max(axis=0),
        )
        parts.append(pd.DataFrame({"part": CYCLE, "intrinsic_lr": intrinsic_lr, "lr": rates, "deviation": off}))
    shown = min(settings["intrinsic_lrs"])
    parts.append(_curves(_starts(spec, shown, rates[0], 1)[0], rates, shown))
    return pd.concat(parts, ignore_index=True)


def _starts(spec: ClaimSpec, intrinsic_lr: float, lr: float, count: int) -> np.ndarray:
    """Return standard normal starts (count, 2) of a pair of rates."""
    return spec.generator("starts", float(intrinsic_lr), float(lr)).normal(size=(count, 2))


def _ends(part: str, runs: toy.Descent, rates: np.ndarray, intrinsic_lr: float) -> pd.DataFrame:
    """Return a row per run: late mean loss over lambda_e/2, last loss, and drift of the norm up to the end.

    A run that collapsed, whenever it did, has none of them.
    """
    ratio = np.where(np.isfinite(runs.loss[-1]), runs.mean_loss / (intrinsic_lr / 2), np.nan)
    drift = np.abs(runs.squared_norm[-1] / runs.squared_norm[-2] - 1)
    lr, replicate = np.meshgrid(rates, np.arange(ratio.shape[1]), indexing="ij")
    columns = {"lr": lr, "replicate": replicate, "ratio": ratio, "final_loss": runs.loss[-1], "norm_drift": drift}
    flat = {name: values.ravel() for name, values in columns.items()}
    return pd.DataFrame({"part": part, "intrinsic_lr": intrinsic_lr, **flat})


def _curves(start: np.ndarray, rates: np.ndarray, intrinsic_lr: float) -> pd.DataFrame:
    """Return the loss along one run at the smallest, the middle and the largest learning rate."""
    shown = rates[[0, len(rates) // 2, -1]]
    steps, without = (round(length / intrinsic_lr) for length in _LENGTHS_OF_CURVE)
    every = max(1, (steps + without) // _ROWS_OF_CURVE)
    runs = toy.descend(np.broadcast_to(start, (len(shown), 2)), shown, intrinsic_lr, steps, without, every)
    return pd.concat(
        pd.DataFrame(
            {
                "part": CURVE,
                "intrinsic_lr": intrinsic_lr,
                "lr": lr,
                "step": runs.steps,
                "loss": runs.loss[:, column],
            }
        )
        for column, lr in enumerate(shown)
    )


def judge(table: pd.DataFrame, spec: ClaimSpec) -> list[Finding]:
    """Judge the late mean loss at every pair of rates, the cycle, and what happens without weight decay."""
    limits = spec.thresholds
    near = Range(limits["ratio_low"], limits["ratio_high"])
    decay = table[table["part"] == DECAY]
    ratio, *interval, n = _outermost(decay, near, spec)
    settled = (decay["final_loss"] <= limits["final_loss"]) & (decay["norm_drift"] <= limits["norm_drift"])
    # A collapsed run has not settled, and it does not hover: NaN compares as false.
    share, low, high, n_settled = share_interval(int(settled.sum()), len(decay), spec.confidence)
    cycle = table.loc[table["part"] == CYCLE, "deviation"]
    hovering, *hovering_interval, hovering_n = _hovering(decay, near, spec)
    without = table[table["part"] == NO_DECAY]
    # In the control a missing run must not help to reject.
    never, *never_interval, never_n = _hovering(without[without["ratio"].notna()], near, spec)
    statistic = f"share of runs with a late mean loss within {near} of lambda_e/2"
    return [
        spec.criterion(
            "The late mean loss is near lambda_e/2 at every learning rate.",
            "mean late loss over lambda_e/2, at the worst pair of rates",
            ratio, interval, n=n, allowed=near,
        ),
        spec.criterion(
            "The late mean loss is near lambda_e/2 in every run.",
            statistic, hovering, hovering_interval, n=hovering_n, allowed=Range(low=limits["share"]),
        ),
        spec.criterion(
            "Started on it, descent stays on the cycle with ||w||^2 = eta and loss lambda_e/2.",
            "largest relative deviation of loss and squared norm, over all rates",
            cycle.max(skipna=False), None, n=len(cycle), allowed=Range(high=limits["cycle"]),
        ),
        spec.criterion(
            "Once weight decay is off the loss goes to 0 and the norm stays.",
            "share of runs that settle", share, (low, high), n=n_settled, allowed=Range(low=limits["share"]),
        ),
        spec.control(
            "The late mean loss is near lambda_e/2 also without weight decay from the start.",
            statistic, never, never_interval, n=never_n, allowed=Range(low=limits["share"]),
        ),
    ]  # fmt: skip


def _outermost(runs: pd.DataFrame, near: Range, spec: ClaimSpec) -> tuple[float, float, float, int]:
    """Return the mean ratio, over the pairs of rates, that speaks most against the range, its interval, and n."""
    ratios = dict(list(runs.groupby(["intrinsic_lr", "lr"])["ratio"]))
    settings = spec.settings
    pairs = product(settings["intrinsic_lrs"], settings["learning_rates"])
    return outermost_mean([ratios.get(pair, ()) for pair in pairs], spec.confidence, near.low, near.high)


def _hovering(runs: pd.DataFrame, near: Range, spec: ClaimSpec) -> tuple[float, float, float, int]:
    """Return the share of runs whose ratio is in the range, with its interval and their number."""
    return share_interval(int(runs["ratio"].between(near.low, near.high).sum()), len(runs), spec.confidence)


@styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw the loss along three runs, and the late mean loss against the learning rate."""
    figure, axes = panels(1, 2, 2.9, width_ratios=[1.25, 1])
    handles = _draw_curves(axes[0, 0], table[table["part"] == CURVE])
    handles += _draw_ratios(axes[0, 1], table, spec)
    count = int(table["replicate"].max() + 1) if table["replicate"].notna().any() else 0
    rates = ", ".join(scientific(rate) for rate in sorted(table["intrinsic_lr"].dropna().unique()))
    note = (
        f"second panel: {count} random starts at every pair of rates, $\\lambda_e$ = {rates}; shaded: allowed; "
        "lower edge: that or less"
    )
    legend_below(figure, handles, 6, note)
    figure.suptitle(
        "Descent on the toy loss, with weight decay and without: the late mean loss against $\\lambda_e/2$"
    )
    return figure


def _draw_curves(axes: Axes, curves: pd.DataFrame) -> list[Line2D]:
    colours = ordered_colours(sorted(curves["lr"].unique()))
    for lr, rows in curves.groupby("lr"):
        axes.plot(rows["step"] * rows["intrinsic_lr"], rows["loss"].clip(lower=_FLOOR), color=colours[lr], lw=0.9)
    if len(curves):
        rate = curves["intrinsic_lr"].iloc[0]
        axes.axhline(rate / 2, color="0.3", ls="--", lw=1)
        axes.axvline(_LENGTHS_OF_CURVE[0], color="0.3", ls=":", lw=1)
        axes.set_title(f"One start, $\\lambda_e$ = {scientific(rate)}")
    place = axes.get_xaxis_transform()
    axes.text(_LENGTHS_OF_CURVE[0] + 0.15, 0.97, "weight\ndecay off", transform=place, va="top", fontsize="small")
    axes.set(xlabel=r"time $\lambda_e t$", ylabel="loss", yscale="log", ylim=(_FLOOR, 30))
    lines = [Line2D([], [], color=colour, label=f"$\\eta$ = {scientific(lr)}") for lr, colour in colours.items()]
    return [*lines, Line2D([], [], color="0.3", ls="--", label=r"$\lambda_e/2$")]


def _draw_ratios(axes: Axes, table: pd.DataFrame, spec: ClaimSpec) -> list[Line2D]:
    limits, rates = spec.thresholds, sorted(table["lr"].dropna().unique())
    axes.axhspan(limits["ratio_low"], limits["ratio_high"], color="0.85", lw=0)
    axes.axhline(1, color="0.3", ls="--", lw=1)
    # Each run has its own place beside the learning rate, so that equal values can be told from one.
    handles = []
    for part, label, style in (
        (DECAY, "a run with decay", {"marker": "o", "mfc": "#0173b2", "mec": "none", "ms": 3}),
        (NO_DECAY, "without decay", {"marker": "v", "mfc": "none", "mec": "#de8f05", "ms": 3.5, "mew": 0.7}),
    ):
        rows = table[table["part"] == part]
        place = rows["lr"] * 2.0 ** (rows["replicate"] / max(rows["replicate"].max(), 1) - 0.5)
        axes.plot(place, rows["ratio"].clip(*_RATIOS), ls="", **style)
        handles.append(Line2D([], [], ls="", label=label, **style))
    if rates:
        axes.set(xscale="log", xlim=(rates[0] / 3, rates[-1] * 3))
    axes.set(xlabel=r"learning rate $\eta$", ylabel=r"late mean loss / ($\lambda_e/2$)", yscale="log")
    axes.set_ylim(_RATIOS[0] / 3, _RATIOS[1] * 3)
    axes.set_title(r"Every run, at several $\lambda_e$")
    return handles
