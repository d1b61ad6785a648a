"""Descent on the toy loss x^2 / (x^2 + y^2): late mean loss, exact two-cycle, and the end of weight decay."""

from itertools import product

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec, Estimate, constant
from intrinsic_lr.claims.shared.verdicts import Findings, Range
from intrinsic_lr.figures.style import labelled, legend_below, ordered_colours, panels, scientific, styled
from intrinsic_lr.stats import toy
from intrinsic_lr.stats.intervals import outermost_mean, share_interval

DECAY, NO_DECAY, CYCLE, CURVE = "decay", "no_decay", "cycle", "curve"
_LENGTHS_OF_CURVE = 10, 4
_ROWS_OF_CURVE = 700
_FLOOR = 1e-12
_RATIOS = 1e-8, 1e3
_LOOKS = {
    DECAY: {"label": "a run with decay", "marker": "o", "mfc": "#0173b2", "mec": "none", "ms": 3},
    NO_DECAY: {"label": "without decay", "marker": "v", "mfc": "none", "mec": "#de8f05", "ms": 3.5, "mew": 0.7},
}


def measure(data: ClaimData) -> pd.DataFrame:
    """Run the toy at every pair of rates from random starts: with weight decay, then without; never with it."""
    spec, settings = data.spec, data.spec.settings
    rates = np.asarray(settings["learning_rates"], np.float64)

    def starts(intrinsic_lr: float, lr: float, count: int) -> np.ndarray:
        return spec.generator("starts", float(intrinsic_lr), float(lr)).normal(size=(count, 2))

    parts = []
    for intrinsic_lr in settings["intrinsic_lrs"]:
        steps, without = (round(settings[key] / intrinsic_lr) for key in ("length", "length_without"))
        every = max(1, without // 4)
        # Runs count as independent over all pairs of rates, so no two pairs share their starts.
        drawn = np.stack([starts(intrinsic_lr, lr, settings["starts"]) for lr in rates])
        for part, rate, off in ((DECAY, intrinsic_lr, without), (NO_DECAY, 0.0, 0)):
            runs = toy.descend(drawn, rates[:, None], rate, steps, off, every)
            parts.append(_ends(part, runs, rates, intrinsic_lr))
        cycle = toy.descend(toy.two_cycle(rates, intrinsic_lr), rates, intrinsic_lr, steps // 10)
        off_loss = np.abs(cycle.loss / (intrinsic_lr / 2) - 1).max(axis=0)
        deviation = np.maximum(off_loss, np.abs(cycle.squared_norm / rates - 1).max(axis=0))
        columns = {"part": CYCLE, "intrinsic_lr": intrinsic_lr, "lr": rates, "deviation": deviation}
        parts.append(pd.DataFrame(columns))
    shown = min(settings["intrinsic_lrs"])
    parts.append(_curves(starts(shown, rates[0], 1)[0], rates, shown))
    return pd.concat(parts, ignore_index=True)


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
    same = {"part": CURVE, "intrinsic_lr": intrinsic_lr}
    curves = zip(shown, runs.loss.T, strict=True)
    return pd.concat(pd.DataFrame({**same, "lr": lr, "step": runs.steps, "loss": loss}) for lr, loss in curves)


def judge(table: pd.DataFrame, spec: ClaimSpec) -> Findings:
    """Judge the late mean loss at every pair of rates, the cycle, and what happens without weight decay."""
    limits, confidence = spec.thresholds, spec.confidence
    near, most = Range(limits["ratio_low"], limits["ratio_high"]), Range(low=limits["share"])
    decay, without = (table[table["part"] == part] for part in (DECAY, NO_DECAY))

    def share(those: pd.Series) -> Estimate:
        return share_interval(int(those.sum()), len(those), confidence)

    ratios = dict(list(decay.groupby(["intrinsic_lr", "lr"])["ratio"]))
    pairs = product(spec.settings["intrinsic_lrs"], spec.settings["learning_rates"])
    worst = outermost_mean([ratios.get(pair, ()) for pair in pairs], confidence, near.low, near.high)
    statement = "The late mean loss is near lambda_e/2 at every learning rate."
    statistic = "mean late loss over lambda_e/2, at the worst pair of rates"
    yield spec.criterion(statement, statistic, worst, allowed=near)
    hovers = f"share of runs with a late mean loss within {near} of lambda_e/2"
    statement = "The late mean loss is near lambda_e/2 in every run."
    yield spec.criterion(statement, hovers, share(decay["ratio"].between(near.low, near.high)), allowed=most)
    cycle = table.loc[table["part"] == CYCLE, "deviation"]
    statement = "Started on it, descent stays on the cycle with ||w||^2 = eta and loss lambda_e/2."
    statistic = "largest relative deviation of loss and squared norm, over all rates"
    largest = constant(cycle.max(skipna=False), len(cycle))
    yield spec.criterion(statement, statistic, largest, allowed=Range(high=limits["cycle"]))
    # A collapsed run has not settled, and it does not hover: NaN compares as false.
    settled = (decay["final_loss"] <= limits["final_loss"]) & (decay["norm_drift"] <= limits["norm_drift"])
    statement = "Once weight decay is off the loss goes to 0 and the norm stays."
    yield spec.criterion(statement, "share of runs that settle", share(settled), allowed=most)
    # In the control a missing run must not help to reject.
    known = without.loc[without["ratio"].notna(), "ratio"]
    statement = "The late mean loss is near lambda_e/2 also without weight decay from the start."
    yield spec.control(statement, hovers, share(known.between(near.low, near.high)), allowed=most)


@styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw the loss along three runs, and the late mean loss against the learning rate."""
    figure, ((left, right),) = panels(1, 2, 2.9, width_ratios=[1.25, 1])
    _draw_curves(left, table[table["part"] == CURVE])
    _draw_ratios(right, table, spec)
    count = int(table["replicate"].max() + 1) if table["replicate"].notna().any() else 0
    rates = ", ".join(scientific(rate) for rate in sorted(table["intrinsic_lr"].dropna().unique()))
    note = (
        f"second panel: {count} random starts at every pair of rates, $\\lambda_e$ = {rates}; shaded: allowed; "
        "lower edge: that or less"
    )
    title = "Descent on the toy loss, with weight decay and without"
    return legend_below(figure, labelled(figure), 6, note, title)


def _draw_curves(axes: Axes, curves: pd.DataFrame) -> None:
    colours = ordered_colours(sorted(curves["lr"].unique()))
    for lr, rows in curves.groupby("lr"):
        loss, label = rows["loss"].clip(lower=_FLOOR), f"$\\eta$ = {scientific(lr)}"
        axes.plot(rows["step"] * rows["intrinsic_lr"], loss, color=colours[lr], lw=0.9, label=label)
    off = _LENGTHS_OF_CURVE[0]
    if len(curves):
        rate = curves["intrinsic_lr"].iloc[0]
        axes.axhline(rate / 2, color="0.3", ls="--", lw=1, label=r"$\lambda_e/2$")
        axes.axvline(off, color="0.3", ls=":", lw=1)
        axes.set_title(f"One start, $\\lambda_e$ = {scientific(rate)}")
    place = axes.get_xaxis_transform()
    axes.text(off + 0.15, 0.97, "weight\ndecay off", transform=place, va="top", fontsize="small")
    axes.set(xlabel=r"$\lambda_e t$", ylabel="loss", yscale="log", ylim=(_FLOOR, 30))


def _draw_ratios(axes: Axes, table: pd.DataFrame, spec: ClaimSpec) -> None:
    limits, rates = spec.thresholds, sorted(table["lr"].dropna().unique())
    axes.axhspan(limits["ratio_low"], limits["ratio_high"], color="0.85", lw=0)
    axes.axhline(1, color="0.3", ls="--", lw=1)
    for part, look in _LOOKS.items():
        rows = table[table["part"] == part]
        # Each run has its own place beside the learning rate, so that equal values can be seen apart.
        place = rows["lr"] * 2.0 ** (rows["replicate"] / max(rows["replicate"].max(), 1) - 0.5)
        axes.plot(place, rows["ratio"].clip(*_RATIOS), ls="", **look)
    if rates:
        axes.set(xscale="log", xlim=(rates[0] / 3, rates[-1] * 3))
    axes.set(xlabel=r"learning rate $\eta$", ylabel=r"late mean loss / ($\lambda_e/2$)", yscale="log")
    axes.set(ylim=(_RATIOS[0] / 3, _RATIOS[1] * 3), title=r"Every run, at several $\lambda_e$")
