"""How long norm and function space take to their equilibrium, at several intrinsic rates."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from intrinsic_lr.claims.shared.sameness import first_of_each_rate
from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec, Estimate
from intrinsic_lr.claims.shared.verdicts import Findings, Range
from intrinsic_lr.figures import style
from intrinsic_lr.stats.disagreement import PooledLabels, disagreement
from intrinsic_lr.stats.intervals import expanded_tails
from intrinsic_lr.stats.relaxation import log_log_slope, max_over_min, resampled_means, time_below

CURVE, TIME = "curve", "time"
"""Kinds of rows: how far a quantity is from its equilibrium, and the times at which it is that near for good."""
FUNCTION, NORM = "function space", "norm"
SLOPE = "log-log slope"
LABELS = {
    FUNCTION: "share of disagreement\ncaused by the initialisation",
    NORM: "effective learning rate\nover its late value",
}


def measure(data: ClaimData) -> pd.DataFrame:
    """Return the curves of every rate, and the times of the curves and of their resamples, as rows.

    Function space: the share of two runs' disagreement that is in excess, across two initialisations. Norm: the
    logarithm of the effective learning rate, mean over the replicates of both, less its mean over the last steps.
    A resample draws replicates and does all the rest anew; resample 0 is what was measured. Where more than two
    initialisations share a rate, the first pair stands for it.
    """
    spec, resamples = data.spec, data.spec.analysis["bootstrap"]
    pairs, trace = first_of_each_rate(spec, "rates"), data.trace("rates")
    parts = []
    for a, b in pairs:
        traces = [trace[trace["point"] == point.name] for point in (a, b)]
        rates = [rows.pivot(index="replicate", columns="step", values="effective_lr") for rows in traces]
        first, second = (data.ensemble("rates", point) for point in (a, b))
        labels = [[ensemble.labels(step) for step in a.steps] for ensemble in (first, second)]
        shares = share_curves(*labels, first.classes, resamples, spec.stream(a.name))
        parts.append(_rows(spec, a, FUNCTION, np.asarray(a.steps), *shares))
        norms = norm_curves(rates, spec.settings["late"], resamples, spec.stream(a.name))
        parts.append(_rows(spec, a, NORM, *norms))
    return pd.concat(parts, ignore_index=True)


def share_curves(
    labels_a: list[np.ndarray], labels_b: list[np.ndarray], classes: int, resamples: int, seed: int
) -> tuple[np.ndarray, int, int]:
    """Return the excess share of two settings at every checkpoint, measured and resampled.

    `labels_a` are predicted labels (n, N) at each of T checkpoints, `labels_b` (m, N); a run with a -1 anywhere is
    left out of all. A resample draws the same runs at every checkpoint. Returns the curves (1 + resamples, T), the
    measured one first; the smaller number of finite runs; the runs left out.
    """
    finite = [np.all([(labels >= 0).all(axis=1) for labels in side], axis=0) for side in (labels_a, labels_b)]
    runs, missing = min(side.sum() for side in finite), int(sum((~side).sum() for side in finite))
    curves = np.full((1 + resamples, len(labels_a)), np.nan)
    if runs > 1:
        for index, (a, b) in enumerate(zip(labels_a, labels_b, strict=True)):
            a, b = a[finite[0]], b[finite[1]]
            # One seed for all checkpoints: a resample follows the same runs through time.
            drawn = PooledLabels(a, b, classes, resamples).resampled(resamples, np.random.default_rng(seed))
            curves[0, index] = disagreement(a, b, a[0], classes)["excess_share"]
            curves[1:, index] = drawn["excess_share"]
    return curves, int(runs), missing


def norm_curves(
    effective_lr: list[pd.DataFrame], late: float, resamples: int, seed: int
) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Return steps, the mean log effective learning rate less its late value, and runs as `share_curves` does.

    `effective_lr` has for each point one row per replicate and one column per step; replicates with a value that
    is not finite and positive are left out. The late value is the mean over the share `late` at the end of the
    run.
    """
    kept = [frame.loc[:, frame.columns > 0] for frame in effective_lr]
    steps = kept[0].columns.to_numpy()
    values = [frame.to_numpy(np.float64) for frame in kept]
    usable = [(np.isfinite(rows) & (rows > 0)).all(axis=1) for rows in values]
    logs = [np.log(rows[sound]) for rows, sound in zip(values, usable, strict=True)]
    runs, missing = min(map(len, logs)), int(sum((~sound).sum() for sound in usable))
    if runs < 2:
        return steps, np.full((1 + resamples, len(steps)), np.nan), runs, missing
    generator = np.random.default_rng(seed)
    measured = np.mean([rows.mean(axis=0) for rows in logs], axis=0)
    drawn = np.mean([resampled_means(rows, resamples, generator) for rows in logs], axis=0)
    curves = np.vstack([measured, drawn])
    equilibrium = curves[:, steps > (1 - late) * steps[-1]].mean(axis=1, keepdims=True)
    return steps, curves - equilibrium, runs, missing


def _rows(
    spec: ClaimSpec, point, quantity: str, steps: np.ndarray, curves: np.ndarray, runs: int, missing: int
) -> pd.DataFrame:
    same = {"quantity": quantity, "point": point.name, "intrinsic_lr": point.intrinsic_lr}
    same |= {"replicates": runs, "missing": missing}
    low, high = np.full((2, curves.shape[1]), np.nan)
    if runs > 1:
        low, high = np.quantile(curves[1:], expanded_tails(spec.confidence, runs), axis=0)
    parts = [pd.DataFrame({"part": CURVE, **same, "step": steps, "value": curves[0], "low": low, "high": high})]
    for level in spec.settings["levels"]:
        times = {"resample": np.arange(len(curves)), "step": time_below(steps, np.abs(curves), level)}
        parts.append(pd.DataFrame({"part": TIME, **same, "level": level, **times}))
    return pd.concat(parts, ignore_index=True)


def judge(table: pd.DataFrame, spec: ClaimSpec) -> Findings:
    """Ask for slopes near -1 and for curves that collapse in units of 1/lambda_e, which they must not in steps."""
    equilibrium, bounds = spec.settings["equilibrium"], spec.thresholds
    for quantity in (FUNCTION, NORM):
        rows = table[(table["part"] == TIME) & (table["quantity"] == quantity)]
        times = {
            level: group.pivot(index="resample", columns=["intrinsic_lr", "point"], values="step").sort_index()
            for level, group in rows.groupby("level")
        }
        # Rates of which nothing was measured leave nothing to judge.
        nothing = pd.DataFrame(np.nan, index=[0], columns=pd.MultiIndex.from_product([[np.nan], [""]]))
        at = times.get(equilibrium, nothing)
        rates = at.columns.get_level_values(0).to_numpy()
        n = int(rows["replicates"].min()) if len(rows) else 0
        what = f"time to equilibrium (within {equilibrium:.3g}) against lambda_e, {len(rates)} rates"
        slope = _interval(log_log_slope(rates, at), spec.confidence, n)
        near = Range(bounds["slope_low"], bounds["slope_high"])
        statement = f"{quantity}: {what} (n: runs of each of two initialisations)"
        yield spec.criterion(statement, SLOPE, slope, "rates", allowed=near)
        for judged, unit, scale in (
            (spec.criterion, "in units of 1/lambda_e", rates),
            (spec.control, "in steps", 1.0),
        ):
            # The worst of the levels, in every resample anew.
            ratios = [max_over_min(values.to_numpy() * scale) for values in (times or {0: at}).values()]
            ratio, allowed = _interval(np.max(ratios, axis=0), spec.confidence, n), Range(high=bounds["spread"])
            statement = f"{quantity}: times {unit} agree over the rates, at every level"
            yield judged(statement, "largest ratio of two rates' times", ratio, "rates", allowed=allowed)


def _interval(values: np.ndarray, confidence: float, n: int) -> Estimate:
    """Return what was measured, the first value, with the interval of the resamples of n runs, the others.

    A time that was not seen in the measured curves leaves all NaN, and so does one missing in more resamples than
    the interval leaves out: the rest would be a selection. The levels are those of `intervals.expanded_tails`.
    """
    measured, drawn = float(values[0]), values[1:][np.isfinite(values[1:])]
    if not np.isfinite(measured) or len(drawn) < confidence * (len(values) - 1) or min(len(drawn), n) < 2:
        return measured, np.nan, np.nan, n
    return measured, *np.quantile(drawn, expanded_tails(confidence, n)), n


@style.styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw, for function space and norm, the times against the rate, and the curves in both units of time."""
    rates = sorted(table["intrinsic_lr"].unique(), reverse=True)
    colours = style.ordered_colours(rates)
    figure, axes = style.panels(2, 3, 5.2)
    for (times, scaled, raw), quantity in zip(axes, (FUNCTION, NORM), strict=True):
        rows = table[table["quantity"] == quantity]
        _draw_times(times, rows, spec, findings, quantity, colours)
        marker, shown = ("o", lambda value: value) if quantity == FUNCTION else (None, np.exp)
        for panel, in_rates in ((scaled, True), (raw, False)):
            for _, curve in rows[rows["part"] == CURVE].groupby("point", sort=False):
                rate = curve["intrinsic_lr"].iloc[0]
                time = curve["step"] * (rate if in_rates else 1)
                look = {"color": colours[rate], "label": rf"$\lambda_e$ = {style.scientific(rate)}"}
                panel.plot(time, shown(curve["value"]), lw=1.3, marker=marker, ms=3, **look)
                ends = shown(curve["low"]), shown(curve["high"])
                panel.fill_between(time, *ends, color=colours[rate], alpha=0.2, lw=0)
            for level in spec.settings["levels"]:
                look = {"label": "other levels compared", "color": "0.6", "ls": ":", "lw": 1}
                if level == spec.settings["equilibrium"]:
                    look |= {"label": f"equilibrium: within {level:.3g}", "color": "0.3", "ls": "--"}
                for line in [level] if quantity == FUNCTION else [np.exp(level), np.exp(-level)]:
                    panel.axhline(line, zorder=0, **look)
            style.logarithmic(panel, "x", rows.loc[rows["value"].notna(), "step"])
            panel.set_xlabel(r"steps $\times\ \lambda_e$" if in_rates else "steps")
        scaled.set_ylabel(LABELS[quantity])
        raw.tick_params(labelleft=False)
        raw.sharey(scaled)
    titles = "time to equilibrium", r"approach, in units of $1/\lambda_e$", "the same curves in steps"
    for panel, title in zip(axes[0], titles, strict=True):
        panel.set_title(title)
    note = (
        f"{style.count_text(table['replicates'])} runs at each rate and each of two initialisations; "
        f"{spec.percent} intervals, bootstrap over runs"
    )
    title = r"Function space and norm: time to equilibrium, and its scaling with $1/\lambda_e$"
    return style.legend_below(figure, style.labelled(figure), 3, note, title)


def _draw_times(
    panel: Axes, rows: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame, quantity: str, colours
) -> None:
    times = rows[(rows["part"] == TIME) & (rows["level"] == spec.settings["equilibrium"])]
    measured = times[times["resample"] == 0].dropna(subset=["step"])
    for point, rate, time, n in measured[["point", "intrinsic_lr", "step", "replicates"]].itertuples(index=False):
        drawn = times.loc[(times["point"] == point) & (times["resample"] > 0), "step"].dropna()
        if len(drawn):
            ends = np.quantile(drawn, expanded_tails(spec.confidence, int(n)))
            panel.plot([rate, rate], ends, color=colours[rate], lw=2)
        panel.plot(rate, time, "o", color=colours[rate], ms=5)
    if len(measured):
        rates = np.sort(measured["intrinsic_lr"].unique())
        centre = np.exp(np.log(measured["step"] * measured["intrinsic_lr"]).mean())
        panel.plot(rates, centre / rates, color="0.4", lw=1, zorder=0)
        found = findings[findings["statistic"].eq(SLOPE) & findings["statement"].str.startswith(quantity)]
        for slope in found.itertuples():
            text = f"slope {slope.estimate:.2f}\n[{slope.ci_low:.2f}, {slope.ci_high:.2f}]\nline: slope $-1$"
            panel.text(0.97, 0.95, text, transform=panel.transAxes, ha="right", va="top", fontsize="small")
    style.logarithmic(panel, "x", measured["intrinsic_lr"])
    style.logarithmic(panel, "y", measured["step"])
    panel.set(xlabel=r"intrinsic rate $\lambda_e$", ylabel=f"{quantity}: steps")
