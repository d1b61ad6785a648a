"""Runs of different random histories, one common future, and a common end without weight decay."""

from functools import lru_cache
from itertools import cycle, product

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from scipy import stats

from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec, Estimate
from intrinsic_lr.claims.shared.verdicts import Findings, Range
from intrinsic_lr.figures.style import DASHES, band, labelled, legend_below, logarithmic, panels, styled
from intrinsic_lr.stats.intervals import holm, summarize

CURVE = "curve"
PAST, COMMON, END = "past", "common", "end"
"""Kinds of rows: the curves, and means over the last stretch of each phase."""
WHEN = {PAST: "at the end of the random pasts", COMMON: "after the common phase", END: "at the very end"}
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
    history = data.history("histories")
    begins, ends = phases(data.trace("histories"))
    common = history[(history["step"] > begins) & (history["step"] <= ends)]
    if common.empty or not (history["step"] > ends).any():
        problem = "schedule: expected logged steps at which all points share their rates after they differed, and "
        raise data.spec.error("histories", problem + "some without weight decay after that, got none")
    stretch = data.spec.settings["stretch"] / common["intrinsic_lr_now"].iloc[-1]
    # A run that is not finite from its first step to its last has no means.
    finite = np.isfinite(history[list(QUANTITIES)]).all(axis=1)
    whole = finite.groupby([history["point"], history["replicate"]]).transform("all")
    sound = history.assign(**history[list(QUANTITIES)].where(whole))
    parts = [history.assign(part=CURVE)]
    for part, end in ((PAST, begins), (COMMON, ends), (END, history["step"].max())):
        rows = sound[(sound["step"] > end - stretch) & (sound["step"] <= end)]
        means = rows.groupby(["point", "schedule", "replicate"], sort=False)[list(QUANTITIES)].mean()
        parts.append(means.reset_index().assign(part=part, step=end))
    table = pd.concat(parts, ignore_index=True)
    return table[["part", "point", "schedule", "replicate", "step", "lr_now", "weight_decay_now", *QUANTITIES]]


def phases(rates: pd.DataFrame) -> tuple[float, float]:
    """Return the last step of the histories and of the common phase; NaN where there is no such phase.

    Args:
        rates: rows with `step`, `point`, `lr_now`, `weight_decay_now`, the same steps for every point.
    """
    rates = rates.drop_duplicates(["point", "step"])
    kinds = rates.groupby("step")[["lr_now", "weight_decay_now"]].nunique().max(axis=1)
    begins = kinds.index[kinds > 1].max()
    off = rates[(rates["step"] > begins) & (rates["weight_decay_now"] == 0)]["step"].min()
    return float(begins), float(kinds.index[kinds.index < off].max())


def spread(groups: list[np.ndarray], confidence: float) -> tuple[Estimate, float]:
    """Return the largest difference of two groups' means with its interval, and the p-value of equal means.

    The interval follows from the simultaneous intervals of all pairwise differences (Tukey, Kramer): with this
    confidence the largest true difference lies between the largest lower and the largest upper bound of their
    absolute values. The p-value is that of a one-way analysis of variance. NaN with fewer than two groups, or
    where one has fewer than two finite values: a history that is missing might be the one that differs. n is the
    smallest number of finite values.
    """
    groups = [group[np.isfinite(group)] for group in groups]
    n = min(map(len, groups), default=0)
    if len(groups) < 2 or n < 2:
        return (np.nan, np.nan, np.nan, n), np.nan
    means = np.array([group.mean() for group in groups])
    largest = float(np.ptp(means))
    if all(np.ptp(group) == 0 for group in groups):  # constants: nothing is random
        return (largest, largest, largest, n), float(largest == 0)
    sizes = np.array([len(group) for group in groups])
    freedom = int((sizes - 1).sum())
    pooled = sum(group.var(ddof=1) * (len(group) - 1) for group in groups) / freedom
    first, second = np.triu_indices(len(groups), 1)
    apart = np.abs(means[first] - means[second])
    error = np.sqrt(pooled / 2 * (1 / sizes[first] + 1 / sizes[second]))
    half = _critical(confidence, len(groups), freedom) * error
    interval = float(max((apart - half).max(), 0.0)), float((apart + half).max())
    return (largest, *interval, n), float(stats.f_oneway(*groups).pvalue)


@lru_cache
def _critical(confidence: float, groups: int, freedom: int) -> float:
    """Return the critical value of the studentised range, which takes long to find."""
    return float(stats.studentized_range.ppf(confidence, groups, freedom))


def judge(table: pd.DataFrame, spec: ClaimSpec) -> Findings:
    """Ask whether the histories are forgotten: their largest difference against a margin, phase by phase."""
    keys = [*product((PAST, COMMON), QUANTITIES), (END, "test_accuracy")]
    found = {key: spread(_groups(table, *key, spec), spec.confidence) for key in keys}
    judged = [key for key, (_, p_value) in found.items() if key[0] != PAST and np.isfinite(p_value)]
    adjusted = dict(zip(judged, holm([found[key][1] for key in judged]), strict=True))
    for (part, quantity), (estimate, p_value) in found.items():
        ask, words = (spec.control, "") if part == PAST else (spec.criterion, ", Holm")
        log, margin = ("log ", "ratio") if quantity in RATIOS else ("", "accuracy")
        statement = f"{QUANTITIES[quantity]} {WHEN[part]}"
        statistic = f"largest difference between pasts of {log}{QUANTITIES[quantity]}"
        p_value, null = adjusted.get((part, quantity), p_value), f"(p: equal means, analysis of variance{words})"
        decided = {"allowed": Range(high=spec.thresholds[margin]), "p_value": p_value, "null": null}
        yield ask(statement, statistic, estimate, "histories", **decided)


def _groups(table: pd.DataFrame, part: str, quantity: str, spec: ClaimSpec) -> list[np.ndarray]:
    """Return the replicates of each planned history, whether the table has it or not."""
    rows = table[table["part"] == part]
    values = np.log(rows[quantity]) if quantity in RATIOS else rows[quantity]
    return [values[rows["point"] == point.name].to_numpy(np.float64) for point in spec.points("histories")]


@styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw the curves of all histories, one panel per quantity, with the bounds of the phases."""
    curves = table[table["part"] == CURVE]
    ends = table[table["part"].isin([PAST, COMMON])].groupby("part")["step"].max()
    schedules = curves.drop_duplicates("point").set_index("point")["schedule"]
    # A history is named by its schedule, or by its point where several share it.
    names = schedules.where(~schedules.duplicated(keep=False), schedules.index.to_series()).str.replace("_", " ")
    styles = zip(names.items(), cycle(sns.color_palette("colorblind")), cycle(DASHES), strict=False)
    looks = {point: {"label": name, "color": colour, "ls": dash} for (point, name), colour, dash in styles}
    figure, axes = panels(2, 2, 4.4, sharex=True)
    for axis, (quantity, title) in zip(axes.flat, QUANTITIES.items(), strict=True):
        for name, rows in curves.groupby("point", sort=False):
            summary = summarize(rows, ["step"], [quantity], spec.confidence)
            band(axis, summary, "step", quantity, lw=1.2, **looks[name])
        for end in ends:
            axis.axvline(end, color="0.5", lw=0.8, ls="--")
        axis.set_ylabel(title)
        if quantity in RATIOS:
            logarithmic(axis, "y", curves[quantity])
        elif curves[quantity].notna().any():
            top, shown = curves[quantity].max(), spec.settings["accuracy_shown"]
            axis.set_ylim(top - shown, top + 0.05 * shown)
    labels = ("random", "common rates", r"$\eta/k$, no decay")
    place = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
    for axis in axes[0]:
        for end, label in zip([0, *sorted(ends)], labels, strict=False):
            axis.annotate(label, (end, 1), (3, 2), **place, fontsize="x-small", color="0.35")
    for axis in axes[-1]:
        axis.set_xlabel("step")
    n = min((np.isfinite(group).sum() for group in _groups(table, COMMON, "test_accuracy", spec)), default=0)
    note = f"bands: {spec.percent} intervals of the mean over replicates (n = {n} a history)"
    title = "Random histories are forgotten once learning rate and weight decay are shared"
    return legend_below(figure, labelled(figure), 5, note, title)
