"""Averages of two checkpoints of one trajectory against both of their ends."""

from itertools import product

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from intrinsic_lr.claims.shared.gains import LOWER_END, RUN_TIMES, averages_of, mean_gains, whole_runs
from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec
from intrinsic_lr.claims.shared.verdicts import Finding, Range
from intrinsic_lr.figures.style import band, legend_below, panels, scientific, styled
from intrinsic_lr.stats.intervals import mean_interval, summarize

RUN = "run"
AVERAGE, START, END = "#0072B2", "#E69F00", "#999999"
TITLES = {"usual": "At the usual run time", "ten_times": "At ten times the usual run time"}


def measure(data: ClaimData) -> pd.DataFrame:
    """Return the averages within trajectories and across initialisations."""
    spec = data.spec
    settings = spec.settings
    return averages_of(data.table(RUN, "swa"), spec.points(RUN), settings["usual_length"], settings["lags"])


def judge(table: pd.DataFrame, spec: ClaimSpec) -> list[Finding]:
    """Judge the mean gain over the end with the lower mean loss, at both run times; control: across."""
    findings = []
    raw = whole_runs(table[table["normalisation"] == "raw"])
    for part, point, run_time in product(("within", "across"), points_of(table, spec), RUN_TIMES):
        chosen = (raw["part"] == part) & (raw["point"] == point) & (raw["run_time"] == run_time)
        gains = mean_gains(raw[chosen], LOWER_END)
        mean, low, high, n = mean_interval(gains, spec.confidence)
        finding = spec.criterion if part == "within" else spec.control
        pairs = "two checkpoints of a trajectory" if part == "within" else "two initialisations"
        findings.append(
            finding(
                f"Averages of {pairs} have a lower test loss than both ends, "
                f"{TITLES[run_time].lower()} ({point}).",
                f"gain in test loss over the {LOWER_END}, mean over lags (nats)",
                mean,
                (low, high),
                n=n,
                roles=[RUN],
                allowed=Range(low=spec.thresholds["gain"]),
            )
        )
    return findings


def points_of(table: pd.DataFrame, spec: ClaimSpec) -> list[str]:
    """Return the names of the points planned or in the table; if there is none, one that nothing is known of."""
    planned = [point["name"] for point in spec.points(RUN)]
    return list(dict.fromkeys([*planned, *table["point"]])) or ["no runs"]


@styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw the mean test loss of averages and of both ends against the lag, at both run times."""
    point = table["point"].iloc[0] if len(table) else ""
    rows = table[(table["part"] == "within") & (table["normalisation"] == "raw") & (table["point"] == point)]
    figure, axes = panels(1, 2, 2.9, sharey=True)
    replicates = rows["replicate"].nunique()
    for panel, run_time in zip(axes[0], RUN_TIMES, strict=True):
        losses = ["test_loss", "test_loss_start", "test_loss_end", "gain_over_better_end"]
        summary = summarize(rows[rows["run_time"] == run_time], ["lag"], losses, spec.confidence)
        for quantity, style in _LINES.items():
            band(panel, summary, "lag", quantity, ms=4, lw=1.4, **style)
        strict = summary["gain_over_better_end_mean"].mean()
        start = spec.settings["usual_length"] * RUN_TIMES[run_time]
        panel.set(
            title=f"{TITLES[run_time]}, $T$ = {start:g}$/\\lambda_e$", xlabel=r"lag $\Delta$ $(1/\lambda_e)$"
        )
        text = f"gain over the better end\nof each replicate: {strict:.3f} nats"
        panel.text(0.97, 0.95, text, transform=panel.transAxes, ha="right", va="top", fontsize="small")
    axes[0, 0].set_ylabel("test loss (nats)")
    axes[0, 0].margins(y=0.25)
    handles = [Line2D([], [], ms=4, label=label, **_LINES[quantity]) for quantity, label in _LABELS.items()]
    rate = scientific(rows["intrinsic_lr"].iloc[0]) if len(rows) else ""
    percent = f"{100 * spec.confidence:g} %"
    note = (
        f"mean and {percent} band over {replicates} replicates, $\\lambda_e$ = {rate}; "
        "the claim: the average lies below both"
    )
    legend_below(figure, handles, 3, note)
    figure.suptitle("Averages of two checkpoints of one trajectory have a lower test loss than both")
    return figure


_LINES = {
    "test_loss_start": {"color": START, "marker": "s", "ls": "--"},
    "test_loss_end": {"color": END, "marker": "^", "ls": ":"},
    "test_loss": {"color": AVERAGE, "marker": "o", "ls": "-"},
}
_LABELS = {
    "test_loss_start": "checkpoint $T$",
    "test_loss_end": r"checkpoint $T + \Delta$",
    "test_loss": "their average",
}
