"""Averages of two checkpoints of one trajectory against both of their ends."""

from itertools import product

import pandas as pd
from matplotlib.figure import Figure

from intrinsic_lr.claims.shared.gains import LOWER_END, RUN_TIMES, averages_of, mean_gains, whole_runs
from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec
from intrinsic_lr.claims.shared.verdicts import Findings, Range
from intrinsic_lr.figures.style import band, labelled, legend_below, panels, scientific, styled
from intrinsic_lr.stats.intervals import mean_interval, summarize

RUN = "run"
TITLES = {"usual": "At the usual run time", "ten_times": "At ten times the usual run time"}
_LINES = {
    "test_loss_start": {"label": "checkpoint $T$", "color": "#E69F00", "marker": "s", "ls": "--"},
    "test_loss_end": {"label": r"checkpoint $T + \Delta$", "color": "#999999", "marker": "^", "ls": ":"},
    "test_loss": {"label": "their average", "color": "#0072B2", "marker": "o", "ls": "-"},
}


def measure(data: ClaimData) -> pd.DataFrame:
    """Return the averages within trajectories and across initialisations."""
    settings = data.spec.settings
    return averages_of(data.table(RUN, "swa"), data.spec.points(RUN), settings["usual_length"], settings["lags"])


def judge(table: pd.DataFrame, spec: ClaimSpec) -> Findings:
    """Judge the mean gain over the end with the lower mean loss, at both run times; control: across."""
    raw = whole_runs(table[table["normalisation"] == "raw"])
    statistic = f"gain in test loss over the {LOWER_END}, mean over lags (nats)"
    kinds = {
        "within": ("two checkpoints of a trajectory", spec.criterion),
        "across": ("two initialisations", spec.control),
    }
    for (part, (words, judged)), point, run_time in product(kinds.items(), points_of(table, spec), RUN_TIMES):
        rows = raw[(raw["part"] == part) & (raw["point"] == point) & (raw["run_time"] == run_time)]
        gain = mean_interval(mean_gains(rows, LOWER_END), spec.confidence)
        when = f"{TITLES[run_time].lower()} ({point})"
        statement = f"Averages of {words} have a lower test loss than both ends, {when}."
        yield judged(statement, statistic, gain, RUN, allowed=Range(low=spec.thresholds["gain"]))


def points_of(table: pd.DataFrame, spec: ClaimSpec) -> list[str]:
    """Return the names of the points planned or in the table; if there is none, one that nothing is known of."""
    return list(dict.fromkeys([*(point.name for point in spec.points(RUN)), *table["point"]])) or ["no runs"]


@styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw the mean test loss of averages and of both ends against the lag, at both run times."""
    point = table["point"].iloc[0] if len(table) else ""
    rows = table[(table["part"] == "within") & (table["normalisation"] == "raw") & (table["point"] == point)]
    figure, axes = panels(1, 2, 2.9, sharey=True)
    for panel, (run_time, multiple) in zip(axes[0], RUN_TIMES.items(), strict=True):
        losses = [*_LINES, "gain_over_better_end"]
        summary = summarize(rows[rows["run_time"] == run_time], ["lag"], losses, spec.confidence)
        for quantity, look in _LINES.items():
            band(panel, summary, "lag", quantity, ms=4, lw=1.4, **look)
        start = f"$T$ = {spec.settings['usual_length'] * multiple:g}$/\\lambda_e$"
        panel.set(title=f"{TITLES[run_time]}, {start}", xlabel=r"lag $\Delta$ $(1/\lambda_e)$")
        gain = summary["gain_over_better_end_mean"].mean()
        text = f"gain over the better end\nof each replicate: {gain:.3f} nats"
        panel.text(0.97, 0.95, text, transform=panel.transAxes, ha="right", va="top", fontsize="small")
    axes[0, 0].set_ylabel("test loss (nats)")
    axes[0, 0].margins(y=0.25)
    rate = scientific(rows["intrinsic_lr"].iloc[0]) if len(rows) else ""
    note = (
        f"mean and {spec.percent} band over {rows['replicate'].nunique()} replicates, $\\lambda_e$ = {rate}; "
        "the claim: the average lies below both"
    )
    title = "Averages of two checkpoints of one trajectory have a lower test loss than both"
    return legend_below(figure, labelled(figure), 3, note, title)
