"""How long norm and function space take to their equilibrium, at several intrinsic rates."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from intrinsic_lr.claims.shared import forgetting
from intrinsic_lr.claims.shared.forgetting import LOGITS, Runs
from intrinsic_lr.claims.shared.spec import NOTHING, ClaimData, ClaimSpec, Estimate
from intrinsic_lr.claims.shared.verdicts import Finding, Findings, Range
from intrinsic_lr.figures import style
from intrinsic_lr.stats import components
from intrinsic_lr.stats.intervals import expanded_tails
from intrinsic_lr.stats.relaxation import log_log_slope, resampled_means, time_below

CURVE, TIME = "curve", "time"
"""Kinds of rows: how far a quantity is from its equilibrium, and the times at which it is that near for good."""
SHARES = {forgetting.LABELS: "function space", LOGITS: "function space by logits"}
NORM, LEARNING = "norm", "learning"
SLOPE = "log-log slope"
LABELS = {
    SHARES[forgetting.LABELS]: "share of disagreement\ncaused by initialisation",
    SHARES[LOGITS]: "share of distance of\nlogits so caused",
    NORM: "effective learning rate\nover its late value",
    LEARNING: "test error (control)",
}


def measure(data: ClaimData) -> pd.DataFrame:
    """Return the curves of every rate, and the times of the curves and of their resamples, as rows.

    Function space: the share of two runs' disagreement, or of their mean distance of logits, that their
    initialisations cause. Norm: the logarithm of the effective learning rate, mean over initialisations, less its
    mean over the last steps. Learning, for the control: the mean test error. A resample draws initialisations and
    does all the rest anew; resample 0 is what was measured. Where several settings share a rate, the first counts.
    """
    spec, trace = data.spec, data.trace("rates")
    parts = []
    for points in forgetting.first_of_each_rate(spec.points("rates"), spec.replicates("rates")):
        runs = Runs.read(data, "rates", points)
        for quantity, curves in _function_curves(data, runs).items():
            levels = [spec.settings["learnt"]] if quantity == LEARNING else spec.settings["levels"]
            parts.append(_rows(spec, runs, quantity, np.asarray(runs.first.steps), curves, levels))
        steps, curves = norm_curves(runs, trace, spec)
        parts.append(_rows(spec, runs, NORM, steps, curves, spec.settings["levels"]))
    return pd.concat(parts, ignore_index=True)


def _function_curves(data: ClaimData, runs: Runs) -> dict[str, np.ndarray]:
    """Return the curves (1 + resamples, T) of shares and error at every checkpoint, the measured ones first."""
    spec, truth = data.spec, data.test_labels(runs.first.dataset)
    resamples, columns = spec.analysis["bootstrap"], {quantity: [] for quantity in (*SHARES.values(), LEARNING)}
    for step in runs.first.steps:
        predicted = runs.predictions(step)
        for distance, measured in forgetting.DISTANCES.items():
            means = components.group_means(measured(predicted[distance]), runs.starts)
            # One stream for all checkpoints: a resample follows the same initialisations through time.
            drawn = components.resampled_groups(means, runs.sizes, resamples, spec.generator(runs.first.name))
            columns[SHARES[distance]].append([components.component(means).share, *drawn])
        errors = (predicted[forgetting.LABELS] != truth).mean(axis=1)
        columns[LEARNING].append(_mean_curves(errors[:, None], runs, spec)[:, 0])
    return {quantity: np.transpose(values) for quantity, values in columns.items()}


def _mean_curves(values: np.ndarray, runs: Runs, spec: ClaimSpec) -> np.ndarray:
    """Return the mean over initialisations of curves (R, T), measured and resampled: (1 + resamples, T)."""
    of_starts = np.array([values[runs.starts == start].mean(axis=0) for start in np.unique(runs.starts)])
    drawn = resampled_means(of_starts, spec.analysis["bootstrap"], spec.generator(runs.first.name))
    return np.vstack([of_starts.mean(axis=0), drawn])


def norm_curves(runs: Runs, trace: pd.DataFrame, spec: ClaimSpec) -> tuple[np.ndarray, np.ndarray]:
    """Return steps (T,) and the mean log effective learning rate less its late value, (1 + resamples, T).

    The late value is the mean over the share `late` at the end of the run. All NaN where a run has an effective
    learning rate that is not positive.
    """
    parts = []
    for point, kept in zip(runs.points, runs.kept, strict=True):
        rows = trace[(trace["point"] == point.name) & (trace["step"] > 0)]
        parts.append(rows.pivot(index="replicate", columns="step", values="effective_lr").loc[kept])
    rates = pd.concat(parts)
    steps, logs = rates.columns.to_numpy(), np.log(rates.where(rates > 0).to_numpy(np.float64))
    curves = _mean_curves(logs, runs, spec)
    late = steps > (1 - spec.settings["late"]) * steps[-1]
    return steps, curves - curves[:, late].mean(axis=1, keepdims=True)


def _rows(
    spec: ClaimSpec, runs: Runs, quantity: str, steps: np.ndarray, curves: np.ndarray, levels: Sequence[float]
) -> pd.DataFrame:
    groups = len(runs.sizes)
    same = {"quantity": quantity, "point": runs.first.name, "intrinsic_lr": runs.first.intrinsic_lr}
    same |= {"initialisations": groups, "replicates": len(runs.starts), "missing": runs.missing}
    low, high = np.quantile(curves[1:], expanded_tails(spec.confidence, groups), axis=0)
    parts = [pd.DataFrame({"part": CURVE, **same, "step": steps, "value": curves[0], "low": low, "high": high})]
    for level in levels:
        times = {"resample": np.arange(len(curves)), "step": time_below(steps, np.abs(curves), level)}
        parts.append(pd.DataFrame({"part": TIME, **same, "level": level, **times}))
    return pd.concat(parts, ignore_index=True)


def judge(table: pd.DataFrame, spec: ClaimSpec) -> Findings:
    """Ask for slopes near -1 of the times to equilibrium, and for another one of the time that learning takes."""
    for quantity in (*SHARES.values(), NORM):
        level = spec.settings["equilibrium"]
        yield _slope(table, spec, spec.criterion, quantity, level, f"time to equilibrium (within {level:.3g})")
    level = spec.settings["learnt"]
    yield _slope(table, spec, spec.control, LEARNING, level, f"time to a test error of {level:.3g}")


def _slope(table: pd.DataFrame, spec: ClaimSpec, judged, quantity: str, level: float, what: str) -> Finding:
    rows = table[(table["part"] == TIME) & (table["quantity"] == quantity) & (table["level"] == level)]
    estimate = NOTHING
    if len(rows):
        times = rows.pivot(index="resample", columns=["intrinsic_lr", "point"], values="step").sort_index()
        rates = times.columns.get_level_values(0).to_numpy()
        slopes = log_log_slope(rates, times)
        estimate = _interval(slopes, spec.confidence, *rows[["initialisations", "replicates"]].min())
    count = rows["intrinsic_lr"].nunique()
    near = Range(spec.thresholds["slope_low"], spec.thresholds["slope_high"])
    return judged(f"{quantity}: {what} against lambda_e, {count} rates", SLOPE, estimate, "rates", allowed=near)


def _interval(values: np.ndarray, confidence: float, groups: int, n: int) -> Estimate:
    """Return what was measured, the first value, with the interval of the resamples of so many initialisations.

    A time that was not seen in the measured curves leaves all NaN, and so does one missing in more resamples than
    the interval leaves out: the rest would be a selection. The levels are those of `intervals.expanded_tails`.
    """
    measured, drawn = float(values[0]), values[1:][np.isfinite(values[1:])]
    if not np.isfinite(measured) or len(drawn) < confidence * (len(values) - 1) or min(len(drawn), groups) < 2:
        return measured, np.nan, np.nan, int(n)
    return measured, *np.quantile(drawn, expanded_tails(confidence, int(groups))), int(n)


@style.styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw the times against the rate, and the curves in units of 1/lambda_e and in steps, for every quantity."""
    rates = sorted(table["intrinsic_lr"].unique(), reverse=True)
    colours = style.ordered_colours(rates)
    quantities = (*SHARES.values(), NORM, LEARNING)
    figure, axes = style.panels(len(quantities), 3, 2.2 * len(quantities))
    for (times, scaled, raw), quantity in zip(axes, quantities, strict=True):
        rows = table[table["quantity"] == quantity]
        levels = [spec.settings["learnt"]] if quantity == LEARNING else spec.settings["levels"]
        _draw_times(times, rows, findings, quantity, colours, spec)
        for panel, in_rates in ((scaled, True), (raw, False)):
            _draw_curves(panel, rows, quantity, colours, in_rates)
            for level in levels:
                look = {"label": "other levels compared", "color": "0.6", "ls": ":", "lw": 1}
                if level == _judged_level(quantity, spec):
                    look |= {"label": "level whose times are judged", "color": "0.3", "ls": "--"}
                for line in [np.exp(level), np.exp(-level)] if quantity == NORM else [level]:
                    panel.axhline(line, zorder=0, **look)
        scaled.set_ylabel(LABELS[quantity])
        raw.tick_params(labelleft=False)
        raw.sharey(scaled)
    titles = "time", r"approach, in units of $1/\lambda_e$", "the same curves in steps"
    for panel, title in zip(axes[0], titles, strict=True):
        panel.set_title(title)
    note = (
        f"{style.count_text(table['replicates'])} runs of {style.count_text(table['initialisations'])} "
        f"initialisations at each rate; {spec.percent} intervals, bootstrap over initialisations"
    )
    title = r"Time to equilibrium, and its scaling with $1/\lambda_e$; last row: control"
    return style.legend_below(figure, style.labelled(figure), 3, note, title)


def _judged_level(quantity: str, spec: ClaimSpec) -> float:
    return spec.settings["learnt" if quantity == LEARNING else "equilibrium"]


def _draw_curves(panel: Axes, rows: pd.DataFrame, quantity: str, colours, in_rates: bool) -> None:
    shown, marker = (np.exp, None) if quantity == NORM else (np.asarray, "o")
    for _, curve in rows[rows["part"] == CURVE].groupby("point", sort=False):
        rate = curve["intrinsic_lr"].iloc[0]
        time = curve["step"] * (rate if in_rates else 1)
        look = {"color": colours[rate], "label": rf"$\lambda_e$ = {style.scientific(rate)}"}
        panel.plot(time, shown(curve["value"]), lw=1.3, marker=marker, ms=3, **look)
        panel.fill_between(time, shown(curve["low"]), shown(curve["high"]), color=colours[rate], alpha=0.2, lw=0)
    style.logarithmic(panel, "x", rows.loc[rows["value"].notna(), "step"])
    panel.set_xlabel(r"steps $\times\ \lambda_e$" if in_rates else "steps")


def _draw_times(
    panel: Axes, rows: pd.DataFrame, findings: pd.DataFrame, quantity: str, colours, spec: ClaimSpec
) -> None:
    level = _judged_level(quantity, spec)
    times = rows[(rows["part"] == TIME) & (rows["level"] == level)]
    measured = times[times["resample"] == 0].dropna(subset=["step"])
    for point, rate, time, groups in measured[["point", "intrinsic_lr", "step", "initialisations"]].itertuples(
        index=False
    ):
        drawn = times.loc[(times["point"] == point) & (times["resample"] > 0), "step"].dropna()
        if len(drawn) and groups > 1:
            ends = np.quantile(drawn, expanded_tails(spec.confidence, int(groups)))
            panel.plot([rate, rate], ends, color=colours[rate], lw=2)
        panel.plot(rate, time, "o", color=colours[rate], ms=5)
    if len(measured):
        rates = np.sort(measured["intrinsic_lr"].unique())
        centre = np.exp(np.log(measured["step"] * measured["intrinsic_lr"]).mean())
        panel.plot(rates, centre / rates, color="0.4", lw=1, zorder=0, label="slope $-1$")
        found = findings[findings["statistic"].eq(SLOPE) & findings["statement"].str.startswith(f"{quantity}:")]
        for slope in found.dropna(subset=["estimate"]).itertuples():
            text = f"slope {slope.estimate:.2f}\n[{slope.ci_low:.2f}, {slope.ci_high:.2f}]"
            panel.text(0.97, 0.95, text, transform=panel.transAxes, ha="right", va="top", fontsize="small")
    style.logarithmic(panel, "x", measured["intrinsic_lr"])
    style.logarithmic(panel, "y", measured["step"])
    panel.set(xlabel=r"intrinsic rate $\lambda_e$", ylabel="steps")
