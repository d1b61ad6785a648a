"""Averages of the weights of two initialisations against both of their ends."""

from itertools import product

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from intrinsic_lr.claims import swa_within
from intrinsic_lr.claims.shared.gains import BOTH_ENDS, RUN_TIMES, mean_gains, whole_runs
from intrinsic_lr.claims.shared.spec import ClaimSpec
from intrinsic_lr.claims.shared.verdicts import Findings, Range
from intrinsic_lr.claims.swa_within import RUN, TITLES, points_of
from intrinsic_lr.figures.style import error_bar, labelled, legend_below, panels, scientific, styled
from intrinsic_lr.stats.intervals import mean_interval

NORMALISATIONS = {"raw": "raw weights", "per_layer": "every layer at unit norm first"}
PARTS = {"across": "two initialisations", "within": "one trajectory"}
_TICKS = {"across": "two initial-\nisations", "within": "one tra-\njectory"}
_MARKS = {
    "test_loss_start": {"label": "one end", "color": "#E69F00", "marker": "s"},
    "test_loss": {"label": "their average", "color": "#0072B2", "marker": "o"},
    "test_loss_end": {"label": "the other end", "color": "#999999", "marker": "^"},
}

measure = swa_within.measure
"""One table serves both claims: what is the claim of one is the control of the other."""


def judge(table: pd.DataFrame, spec: ClaimSpec) -> Findings:
    """Judge the mean gain over the mean of both ends, raw and normalized; control: within."""
    whole = whole_runs(table)
    for part, point, run_time, normalisation in product(PARTS, points_of(table, spec), RUN_TIMES, NORMALISATIONS):
        rows = _rows(whole, part, point, run_time, normalisation)
        gain = mean_interval(mean_gains(rows, BOTH_ENDS), spec.confidence)
        judged = spec.criterion if part == "across" else spec.control
        statement = f"Averages over {PARTS[part]} have no lower test loss than their ends have on average, "
        statement += f"{TITLES[run_time].lower()}, {NORMALISATIONS[normalisation]} ({point})."
        statistic, allowed = f"gain in test loss over the {BOTH_ENDS} (nats)", Range(high=spec.thresholds["gain"])
        yield judged(statement, statistic, gain, RUN, allowed=allowed)


def _rows(table: pd.DataFrame, part: str, point: str, run_time: str, normalisation: str) -> pd.DataFrame:
    chosen = (table["part"] == part) & (table["point"] == point)
    return table[chosen & (table["run_time"] == run_time) & (table["normalisation"] == normalisation)]


@styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw the test loss of ends and averages, across initialisations and within trajectories."""
    title = "Averages of two initialisations have a far higher test loss than their ends"
    return draw_losses(table, spec, title)


def draw_losses(table: pd.DataFrame, spec: ClaimSpec, title: str) -> Figure:
    """Draw the test loss of the ends and averages of a table of `swa_within.measure`."""
    point = table["point"].iloc[0] if len(table) else ""
    figure, axes = panels(1, 2, 3.0, sharey=True)
    pairs, places = 0, list(product(PARTS, NORMALISATIONS))
    for panel, run_time in zip(axes[0], RUN_TIMES, strict=True):
        for place, (part, normalisation) in enumerate(places):
            rows = _rows(table, part, point, run_time, normalisation)
            rows = rows[rows["delta"] == rows["delta"].min()]
            pairs = max(pairs, rows["replicate"].nunique()) if part == "across" else pairs
            for offset, (quantity, look) in zip((-0.18, 0, 0.18), _MARKS.items(), strict=True):
                estimate = mean_interval(rows[quantity], spec.confidence)
                error_bar(panel, place + offset, estimate, ms=5, capsize=2.5, **look)
        panel.axvline(1.5, color="0.8", lw=0.8)
        labels = [f"{_TICKS[part]},\n{normalisation.replace('_', ' ')}" for part, normalisation in places]
        panel.set_xticks(range(len(places)), labels, fontsize="small")
        panel.set_xlim(-0.5, len(places) - 0.5)
        panel.grid(axis="x", visible=False)
        panel.set_title(TITLES[run_time])
    axes[0, 0].set(ylabel="test loss (nats)", ylim=(0, None))
    rate = scientific(table["intrinsic_lr"].iloc[0]) if len(table) else ""
    lag = table.loc[table["part"] == "within", "lag"].min() if len(table) else np.nan
    note = (
        f"mean and {spec.percent} interval, $\\lambda_e$ = {rate}: {pairs} independent pairs of "
        f"initialisations;\ncontrol: two checkpoints of one trajectory, {lag:.3g}$/\\lambda_e$ apart"
    )
    return legend_below(figure, labelled(figure), 3, note, title)
