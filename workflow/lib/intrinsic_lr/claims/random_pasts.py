"""Runs of different random pasts, one common future, and a common end without weight decay."""

from functools import lru_cache

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy import stats

from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec, Interval
from intrinsic_lr.claims.shared.verdicts import Finding, Range
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.figures.style import DASHES, band, legend_below, logarithmic, panels, styled
from intrinsic_lr.stats.intervals import holm, summarize

CURVE = "curve"
PAST, COMMON, END = "past", "common", "end"
"""Kinds of rows: the curves, and means over the last stretch of each phase."""
QUANTITIES = {
    "train_accuracy": "train accuracy",
    "test_accuracy": "test accuracy",
    "squared_norm": "squared norm",
    "effective_lr": "effective learning rate",
}
RATIOS = ("squared_norm", "effective_lr")
"""Compared by their logarithms: a difference of 0.1 is about a tenth."""


def measure(data: ClaimData) -> pd.DataFrame:
    """Return each replicate's curves, and its means over the last stretch of each phase.

    The phases are read off the rates: the common one begins where all points have the same, and ends where the
    weight decay is switched off.
    """
    spec = data.spec
    history = data.history("pasts")
    begins, ends = phases(data.trace("pasts"))
    common = history[(history["step"] > begins) & (history["step"] <= ends)]
    if common.empty or not (history["step"] > ends).any():
        experiment = spec.experiments["pasts"]["experiment"]
        raise InputError(
            f"experiment {experiment}: schedule: found no logged step at which all points share their rates after "
            "they differed, or none without weight decay after that"
        )
    stretch = spec.settings["stretch"] / common["intrinsic_lr_now"].iloc[-1]
    parts = [history.assign(part=CURVE)]
    whole = history.assign(**history[list(QUANTITIES)].where(_whole(history)))
    for part, end in ((PAST, begins), (COMMON, ends), (END, history["step"].max())):
        rows = whole[(whole["step"] > end - stretch) & (whole["step"] <= end)]
        means = rows.groupby(["point", "schedule", "replicate"], sort=False)[list(QUANTITIES)].mean()
        parts.append(means.reset_index().assign(part=part, step=end))
    table = pd.concat(parts, ignore_index=True)
    return table[["part", "point", "schedule", "replicate", "step", "lr_now", "weight_decay_now", *QUANTITIES]]


def _whole(history: pd.DataFrame) -> pd.Series:
    """Tell of each row whether its run is finite from its first step to its last."""
    finite = np.isfinite(history[list(QUANTITIES)]).all(axis=1)
    return finite.groupby([history["point"], history["replicate"]]).transform("all")


def phases(rates: pd.DataFrame) -> tuple[float, float]:
    """Return the last step of the pasts and the last step of the common phase; NaN where there is no such phase.

    Args:
        rates: rows with `step`, `point`, `lr_now`, `weight_decay_now`, the same steps for every point.
    """
    rates = rates.drop_duplicates(["point", "step"])
    kinds = rates.groupby("step")[["lr_now", "weight_decay_now"]].nunique().max(axis=1)
    begins = kinds.index[kinds > 1].max()
    off = rates[(rates["step"] > begins) & (rates["weight_decay_now"] == 0)]["step"].min()
    return float(begins), float(kinds.index[kinds.index < off].max())


def spread(groups: list[np.ndarray], confidence: float) -> tuple[float, Interval, float]:
    """Return the largest difference of two groups' means, its interval, and the p-value of equal means.

    The interval follows from the simultaneous intervals of all pairwise differences (Tukey, Kramer): with this
    confidence the largest true difference lies between the largest lower and the largest upper bound of their
    absolute values. The p-value is that of a one-way analysis of variance. NaN with fewer than two groups, or
    where one has fewer than two finite values: a past that is missing might be the one that differs.
    """
    groups = [group[np.isfinite(group)] for group in groups]
    if len(groups) < 2 or min(map(len, groups)) < 2:
        return np.nan, (np.nan, np.nan), np.nan
    means = np.array([group.mean() for group in groups])
    if all(np.ptp(group) == 0 for group in groups):
        # Constants: nothing is random.
        return float(np.ptp(means)), (float(np.ptp(means)),) * 2, float(np.ptp(means) == 0)
    sizes = np.array([len(group) for group in groups])
    freedom = int((sizes - 1).sum())
    pooled = sum(group.var(ddof=1) * (len(group) - 1) for group in groups) / freedom
    first, second = np.triu_indices(len(groups), 1)
    apart = np.abs(means[first] - means[second])
    half = _critical(confidence, len(groups), freedom) * np.sqrt(
        pooled / 2 * (1 / sizes[first] + 1 / sizes[second])
    )
    p_value = float(stats.f_oneway(*groups).pvalue)
    return float(np.ptp(means)), (float(max((apart - half).max(), 0.0)), float((apart + half).max())), p_value


@lru_cache
def _critical(confidence: float, groups: int, freedom: int) -> float:
    """Return the critical value of the studentised range, which takes long to find."""
    return float(stats.studentized_range.ppf(confidence, groups, freedom))


def judge(table: pd.DataFrame, spec: ClaimSpec) -> list[Finding]:
    """Ask whether the pasts have been forgotten: their largest difference against a margin, phase by phase."""
    found = {
        (part, quantity): spread(_groups(table, part, quantity, spec), spec.confidence)
        for part, quantities in ((PAST, QUANTITIES), (COMMON, QUANTITIES), (END, ("test_accuracy",)))
        for quantity in quantities
    }
    judged = [key for key in found if key[0] != PAST and np.isfinite(found[key][2])]
    adjusted = dict(zip(judged, holm([found[key][2] for key in judged]), strict=True)) if judged else {}
    findings = []
    for (part, quantity), (estimate, interval, p_value) in found.items():
        ratio = quantity in RATIOS
        margin = spec.thresholds["ratio" if ratio else "accuracy"]
        ask = spec.control if part == PAST else spec.criterion
        when = {
            PAST: "at the end of the random pasts", COMMON: "after the common phase", END: "at the very end"
        }[part]  # fmt: skip
        findings.append(
            ask(
                f"{QUANTITIES[quantity]} {when}",
                f"largest difference between pasts of {'log ' if ratio else ''}{QUANTITIES[quantity]}",
                estimate,
                interval,
                n=_replicates(table, part, quantity, spec),
                roles=["pasts"],
                allowed=Range(high=margin),
                p_value=adjusted.get((part, quantity), p_value),
                null="(p: equal means, analysis of variance" + (", Holm)" if part != PAST else ")"),
            )
        )
    return findings


def _groups(table: pd.DataFrame, part: str, quantity: str, spec: ClaimSpec) -> list[np.ndarray]:
    """Return the replicates of each planned past, whether the table has it or not."""
    rows = table[table["part"] == part]
    values = np.log(rows[quantity]) if quantity in RATIOS else rows[quantity]
    names = [point["name"] for point in spec.points("pasts")]
    return [values[rows["point"] == name].to_numpy(np.float64) for name in names]


def _replicates(table: pd.DataFrame, part: str, quantity: str, spec: ClaimSpec) -> int:
    groups = _groups(table, part, quantity, spec)
    return min((int(np.isfinite(group).sum()) for group in groups), default=0)


@styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw the curves of all pasts, one panel per quantity, with the bounds of the phases."""
    curves = table[table["part"] == CURVE]
    ends = table[table["part"].isin([PAST, COMMON])].groupby("part")["step"].max()
    schedules = curves.drop_duplicates("point").set_index("point")["schedule"]
    names = list(schedules.index)
    colours = dict(zip(names, sns.color_palette("colorblind", max(len(names), 1)), strict=False))
    dashes = {name: DASHES[index % len(DASHES)] for index, name in enumerate(names)}
    figure, axes = panels(2, 2, 4.4, sharex=True)
    for axis, (quantity, title) in zip(axes.flat, QUANTITIES.items(), strict=True):
        for name, rows in curves.groupby("point", sort=False):
            summary = summarize(rows, ["step"], [quantity], spec.confidence)
            band(axis, summary, "step", quantity, color=colours[name], ls=dashes[name], lw=1.2)
        for end in ends:
            axis.axvline(end, color="0.5", lw=0.8, ls="--")
        axis.set_ylabel(title)
        if quantity in RATIOS:
            logarithmic(axis, "y", curves[quantity])
        elif curves[quantity].notna().any():
            shown = spec.settings["accuracy_shown"]
            axis.set_ylim(curves[quantity].max() - shown, curves[quantity].max() + 0.05 * shown)
    labels = ("random", "common rates", r"$\eta/k$, no decay")
    for axis in axes[0]:
        for end, label in zip([0, *sorted(ends)], labels, strict=False):
            place = {"xy": (end, 1.0), "xycoords": ("data", "axes fraction"), "xytext": (3, 2)}
            axis.annotate(
                label, **place, textcoords="offset points", fontsize="x-small", color="0.35"
            ).set_in_layout(False)
    for axis in axes[-1]:
        axis.set_xlabel("step")
    figure.suptitle("Random pasts are forgotten once learning rate and weight decay are shared\n")
    handles = [
        Line2D([], [], color=colours[name], ls=dashes[name], label=_label(schedules, name)) for name in names
    ]
    n = _replicates(table, COMMON, "test_accuracy", spec)
    legend_below(
        figure,
        handles,
        5,
        f"bands: {spec.confidence:.0%} intervals of the mean over replicates (n = {n} a past)",
    )
    return figure


def _label(schedules: pd.Series, point: str) -> str:
    """Name a past by its schedule, or by its point where several share it."""
    alone = (schedules == schedules[point]).sum() == 1
    return (schedules[point] if alone else point).replace("_", " ")
