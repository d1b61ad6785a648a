"""The linear scaling rule: batch size and learning rate both k times larger, at one weight decay."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec, Interval
from intrinsic_lr.claims.shared.verdicts import Finding, Range
from intrinsic_lr.figures.style import MARKERS, legend_below, ordered_colours, panels, scientific, styled, ticks
from intrinsic_lr.stats.intervals import root_mean_square_interval

QUANTITIES = {"train_loss": "train loss", "test_loss": "test loss", "squared_norm": "squared norm"}
"""What is compared. Where the norms agree the effective learning rate, eta / ||w||^2, is k times larger."""


def measure(data: ClaimData) -> pd.DataFrame:
    """Return the curves of all points against `intrinsic_time`, which at equal weight decay is time in epochs.

    lambda_e t = lambda (eta t) is the same for (eta, t) and (k eta, t / k).
    """
    history = data.history("scaling")
    sizes = {point["name"]: point["batch_size"] for point in data.spec.points("scaling")}
    table = history.assign(
        batch_size=history["point"].map(sizes), intrinsic_time=history["step"] * history["intrinsic_lr"]
    )
    columns = ["point", "batch_size", "lr", "weight_decay", "intrinsic_lr", "replicate", "step", "intrinsic_time"]
    return table[columns + list(QUANTITIES)]


def pairs(table: pd.DataFrame, quantity: str) -> Iterator[tuple[dict, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield what a pair of points is, its times (T,), and the curves of the small and the large batch (R, T).

    A pair has one weight decay and the learning rate in proportion to the batch size. Replicates that are not
    finite are left out. The times are those of the curve with fewer; the start, which both share, is left out.
    """
    points = table.drop_duplicates("point").sort_values("batch_size")
    for _, group in points.groupby("weight_decay", sort=True):
        small = group.iloc[0]
        for _, large in group.iloc[1:].iterrows():
            k = large["batch_size"] / small["batch_size"]
            if k == 1 or abs(large["lr"] / small["lr"] / k - 1) > 1e-6:
                continue
            sides = [table[table["point"] == point["point"]] for point in (small, large)]
            end = min(side["intrinsic_time"].max() for side in sides) * (1 + 1e-9)
            times = min(
                (np.sort(side["intrinsic_time"].unique()) for side in sides), key=lambda t: (t <= end).sum()
            )
            times = times[(times > 0) & (times <= end)]
            about = {
                "k": k, "intrinsic_lr": small["intrinsic_lr"], "larger": large["intrinsic_lr"],
                "sizes": (small["batch_size"], large["batch_size"]),
            }  # fmt: skip
            yield about, times, *(_curves(side, quantity, times) for side in sides)


def _curves(side: pd.DataFrame, quantity: str, times: np.ndarray) -> np.ndarray:
    """Return each replicate's curve at the given times, interpolated on a logarithmic scale."""
    wide = side.pivot(index="replicate", columns="intrinsic_time", values=quantity)
    logs = np.log(wide.where(wide > 0))
    sound = logs[np.isfinite(logs).all(axis=1)]
    curves = [np.exp(np.interp(times, sound.columns, row)) for row in sound.to_numpy()]
    return np.array(curves).reshape(-1, len(times))


def mean_square(small: np.ndarray, large: np.ndarray) -> float:
    """Return the mean over time of the squared log ratio of two groups' mean curves (R, T)."""
    return float((np.log(large.mean(axis=0) / small.mean(axis=0)) ** 2).mean())


def judge(table: pd.DataFrame, spec: ClaimSpec) -> list[Finding]:
    """Ask for equal curves at the smallest lambda_e; the control asks at the largest, where the rule breaks."""
    findings = []
    for quantity, title in QUANTITIES.items():
        found = sorted(pairs(table, quantity), key=lambda pair: pair[0]["larger"])
        margin = spec.thresholds["norm" if quantity == "squared_norm" else "loss"]
        statistic = "RMS of the log ratio of the curves"
        # With one pair alone there is none at a larger lambda_e.
        for pair, ask in ((found[:1], spec.criterion), (found[1:][-1:], spec.control)):
            if not pair:
                nothing = {"n": 0, "roles": ["scaling"], "allowed": Range(high=margin)}
                findings.append(ask(f"{title} at equal epochs: no such pair", statistic, np.nan, None, **nothing))
                continue
            about, _, small, large = pair[0]
            findings.append(
                ask(
                    f"{title} at equal epochs, k lambda_e = {about['larger']:.3g}",
                    statistic,
                    *_with_interval(small, large, spec, quantity, about["larger"]),
                    n=min(len(small), len(large)),
                    roles=["scaling"],
                    allowed=Range(high=margin),
                )
            )
    return findings


def _with_interval(small: np.ndarray, large: np.ndarray, spec: ClaimSpec, *names) -> tuple[float, Interval]:
    return root_mean_square_interval(
        lambda a, b: mean_square(small[a], large[b]),
        [len(small), len(large)],
        spec.analysis["bootstrap"],
        spec.confidence,
        spec.generator(*names),
    )


@styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw the test loss of both batch sizes in epochs, and all discrepancies against k lambda_e."""
    figure, axes = panels(1, 2, 3.0, width_ratios=[1.2, 1])
    curves, breaking = axes[0]
    shown = list(pairs(table, "test_loss"))
    colours = ordered_colours(sorted({about["intrinsic_lr"] for about, *_ in shown}))
    handles = []
    for about, times, small, large in sorted(shown, key=lambda pair: pair[0]["intrinsic_lr"]):
        colour = colours[about["intrinsic_lr"]]
        for side, dash in ((small, "-"), (large, ":")):
            if len(side):
                curves.plot(times, side.mean(axis=0), color=colour, ls=dash, lw=1.4)
        handles.append(Line2D([], [], color=colour, label=rf"$\lambda_e$ = {scientific(about['intrinsic_lr'])}"))
    curves.set(
        xlabel=r"$\lambda_e t$ (the same in epochs at equal $\lambda$)", ylabel="test loss (nats)", yscale="log"
    )
    curves.set_title("the same curve ...")
    lambdas: set[float] = set()
    palette = sns.color_palette("colorblind")
    for place, (quantity, title) in enumerate(QUANTITIES.items()):
        margin = spec.thresholds["norm" if quantity == "squared_norm" else "loss"]
        for about, _, small, large in pairs(table, quantity):
            value, (low, high) = _with_interval(small, large, spec, quantity, about["larger"])
            if np.isfinite(value):
                lambdas.add(about["larger"])
                breaking.errorbar(
                    about["larger"] * 1.06 ** (place - 1),
                    value,
                    [[max(value - low, 0)], [max(high - value, 0)]] if np.isfinite(low) else None,
                    color=palette[place],
                    marker=MARKERS[place],
                    ms=5,
                    lw=1.2,
                    ls="",
                )
        breaking.axhline(margin, color=palette[place] if quantity == "squared_norm" else "0.4", lw=0.9, ls="--")
        handles.append(Line2D([], [], color=palette[place], marker=MARKERS[place], ls="", label=title))
    if lambdas:
        breaking.set_xscale("log")
        ticks(breaking, lambdas)
    breaking.set(xlabel=r"$k\lambda_e$ of the larger batch", ylabel="RMS log ratio of the curves")
    breaking.set_title("... until $k\\lambda_e$ is no longer small")
    figure.suptitle("Batch and learning rate scaled together")
    for size, dash in zip(shown[0][0]["sizes"] if shown else (), ("-", ":"), strict=False):
        handles.append(Line2D([], [], color="0.2", ls=dash, label=f"batch {size:g}"))
    n = min((min(len(small), len(large)) for *_, small, large in shown), default=0)
    handles.append(Line2D([], [], color="0.4", ls="--", lw=0.9, label="margin (losses; norm in its colour)"))
    legend_below(
        figure,
        handles,
        5,
        f"bars: {spec.confidence:.0%} bootstrap intervals over replicates (n = {n} a batch size)",
    )
    return figure
