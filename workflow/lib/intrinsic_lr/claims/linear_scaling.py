"""The linear scaling rule: batch size and learning rate both k times larger, at one weight decay."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from intrinsic_lr.claims.shared.spec import NOTHING, ClaimData, ClaimSpec, Estimate
from intrinsic_lr.claims.shared.verdicts import Findings, Range
from intrinsic_lr.figures import style

QUANTITIES = {"train_loss": "train loss", "test_loss": "test loss", "squared_norm": "squared norm"}
"""What is compared. Where the norms agree the effective learning rate, eta / ||w||^2, is k times larger."""


def measure(data: ClaimData) -> pd.DataFrame:
    """Return the curves of all points against `intrinsic_time`, which at equal weight decay is time in epochs.

    lambda_e t = lambda (eta t) is the same for (eta, t) and (k eta, t / k).
    """
    history = data.history("scaling")
    sizes = history["point"].map({point.name: point.batch_size for point in data.spec.points("scaling")})
    table = history.assign(batch_size=sizes, intrinsic_time=history["step"] * history["intrinsic_lr"])
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
            grids = [np.sort(side["intrinsic_time"].unique()) for side in sides]
            times = min(grids, key=lambda t: (t <= end).sum())
            times = times[(times > 0) & (times <= end)]
            about = {"k": k, "intrinsic_lr": small["intrinsic_lr"], "larger": large["intrinsic_lr"]}
            about["sizes"] = small["batch_size"], large["batch_size"]
            yield about, times, *(_curves(side, quantity, times) for side in sides)


def _curves(side: pd.DataFrame, quantity: str, times: np.ndarray) -> np.ndarray:
    """Return each replicate's curve at the given times, interpolated on a logarithmic scale."""
    wide = side.pivot(index="replicate", columns="intrinsic_time", values=quantity)
    logs = np.log(wide.where(wide > 0))
    sound = logs[np.isfinite(logs).all(axis=1)]
    curves = [np.exp(np.interp(times, sound.columns, row)) for row in sound.to_numpy()]
    return np.array(curves).reshape(-1, len(times))


def _log_ratio(small: np.ndarray, large: np.ndarray, spec: ClaimSpec, *names) -> Estimate:
    """Return the root mean square over time of the log ratio of two groups' mean curves (R, T)."""

    def mean_square(a: np.ndarray, b: np.ndarray) -> float:
        return float((np.log(large[b].mean(axis=0) / small[a].mean(axis=0)) ** 2).mean())

    return spec.root_mean_square(mean_square, [len(small), len(large)], *names)


def judge(table: pd.DataFrame, spec: ClaimSpec) -> Findings:
    """Ask for equal curves at the smallest lambda_e; the control asks at the largest, where the rule breaks."""
    for quantity, title in QUANTITIES.items():
        found = sorted(pairs(table, quantity), key=lambda pair: pair[0]["larger"])
        # With one pair alone there is none at a larger lambda_e.
        for pair, judged in ((found[:1], spec.criterion), (found[1:][-1:], spec.control)):
            words, estimate = ": no such pair", NOTHING
            for about, _, small, large in pair:
                words = f", k lambda_e = {about['larger']:.3g}"
                estimate = _log_ratio(small, large, spec, quantity, about["larger"])
            statement, allowed = f"{title} at equal epochs{words}", Range(high=_margin(spec, quantity))
            yield judged(statement, "RMS of the log ratio of the curves", estimate, "scaling", allowed=allowed)


def _margin(spec: ClaimSpec, quantity: str) -> float:
    return spec.thresholds["norm" if quantity == "squared_norm" else "loss"]


@style.styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw the test loss of both batch sizes in epochs, and all discrepancies against k lambda_e."""
    figure, ((curves, breaking),) = style.panels(1, 2, 3.0, width_ratios=[1.2, 1])
    shown = sorted(pairs(table, "test_loss"), key=lambda pair: pair[0]["intrinsic_lr"])
    colours = style.ordered_colours(sorted({about["intrinsic_lr"] for about, *_ in shown}))
    for about, times, *sides in shown:
        rate = about["intrinsic_lr"]
        for side, dash in zip(sides, ("-", ":"), strict=True):
            if len(side):
                look = {"color": colours[rate], "label": rf"$\lambda_e$ = {style.scientific(rate)}"}
                curves.plot(times, side.mean(axis=0), ls=dash, lw=1.4, **look)
    curves.set(xlabel=r"$\lambda_e t$ (the same in epochs at equal $\lambda$)", ylabel="test loss (nats)")
    curves.set(yscale="log", title="the same curve ...")
    lambdas: set[float] = set()
    palette = sns.color_palette("colorblind")
    for place, (quantity, title) in enumerate(QUANTITIES.items()):
        look = {"color": palette[place], "marker": style.MARKERS[place], "label": title, "ms": 5, "lw": 1.2}
        for about, _, small, large in pairs(table, quantity):
            estimate = _log_ratio(small, large, spec, quantity, about["larger"])
            if np.isfinite(estimate[0]):
                lambdas.add(about["larger"])
                style.error_bar(breaking, about["larger"] * 1.06 ** (place - 1), estimate, **look)
        colour = palette[place] if quantity == "squared_norm" else "0.4"
        label = "margin (losses; norm in its colour)" if quantity == "test_loss" else ""
        breaking.axhline(_margin(spec, quantity), color=colour, lw=0.9, ls="--", label=label)
    if lambdas:
        breaking.set_xscale("log")
        style.ticks(breaking, lambdas)
    breaking.set(xlabel=r"$k\lambda_e$ of the larger batch", ylabel="RMS log ratio of the curves")
    breaking.set_title("... until $k\\lambda_e$ is no longer small")
    handles = style.labelled(figure)
    for size, dash in zip(shown[0][0]["sizes"] if shown else (), ("-", ":"), strict=False):
        handles.append(style.handle(f"batch {size:g}", color="0.2", ls=dash))
    n = min((min(len(small), len(large)) for *_, small, large in shown), default=0)
    note = f"bars: {spec.percent} bootstrap intervals over replicates (n = {n} a batch size)"
    return style.legend_below(figure, handles, 5, note, "Batch and learning rate scaled together")
