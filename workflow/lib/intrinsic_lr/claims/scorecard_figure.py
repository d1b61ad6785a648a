"""The figure of the scorecard: a line per claim, with its verdict and how its controls came out."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from intrinsic_lr.claims.verdicts import INCONCLUSIVE, NOT_REPRODUCED, REJECTED, REPRODUCED
from intrinsic_lr.style import legend_below, panels, styled

# Okabe and Ito's green, vermilion and orange; the markers tell the verdicts apart in print without colour.
VERDICTS = {
    REPRODUCED: {"color": "#009E73", "marker": "o"},
    NOT_REPRODUCED: {"color": "#D55E00", "marker": "X"},
    INCONCLUSIVE: {"color": "#E69F00", "marker": "D"},
}
_ROW = 0.34
"""Height of a row in inches."""
_COLUMNS = {"verdict": 0.012, "claim": 0.035, "estimate": 0.70, "controls": 0.985}
"""Where each column stands, as a share of the width; the last one is right-aligned."""


@styled
def scorecard_figure(claims: pd.DataFrame, controls: pd.DataFrame) -> Figure:
    """Draw the scorecard.

    Args:
        claims: table of `verdicts.scorecard`.
        controls: table of `verdicts.controls`.
    """
    figure, ((axes,),) = panels(1, 1, _ROW * (len(claims) + 1) + 0.5)
    axes.set(xlim=(0, 1), ylim=(len(claims), -1))
    axes.axis("off")
    _row(axes, -0.5, "Claim", "Deciding number", "Controls", {"weight": "bold", "size": 8})
    for row, claim in enumerate(claims.itertuples()):
        axes.axhline(row, color="0.88", lw=0.7)
        axes.plot(_COLUMNS["verdict"], row + 0.5, ms=7, ls="", clip_on=False, **VERDICTS[claim.verdict])
        axes.text(_COLUMNS["claim"], row + 0.29, claim.claim, size=7.5, weight="bold", va="center")
        axes.text(_COLUMNS["claim"], row + 0.72, claim.statement, size=6.2, va="center", color="0.25")
        axes.text(_COLUMNS["estimate"], row + 0.29, _estimate(claim), size=7, va="center")
        axes.text(_COLUMNS["estimate"], row + 0.72, f"wanted: {claim.null_or_threshold}", size=6.2, va="center",
                  color="0.25")  # fmt: skip
        axes.text(_COLUMNS["controls"], row + 0.5, _controls(controls[controls["claim"] == claim.claim]), size=7,
                  va="center", ha="right")  # fmt: skip
    handles = [
        Line2D([], [], ls="", ms=7, label=f"{verdict}: {(claims['verdict'] == verdict).sum()}", **style)
        for verdict, style in VERDICTS.items()
    ]
    note = (
        "estimate with its interval, or its p-value, of the criterion that decides; "
        "n: replicates; controls: how many were rejected, as they have to be"
    )
    legend_below(figure, handles, 3, note)
    reproduced = (claims["verdict"] == REPRODUCED).sum()
    figure.suptitle(f"Scorecard: {reproduced} of {len(claims)} claims reproduced")
    return figure


def _row(axes: Axes, y: float, claim: str, estimate: str, controls: str, style: dict) -> None:
    axes.text(_COLUMNS["claim"], y, claim, va="center", **style)
    axes.text(_COLUMNS["estimate"], y, estimate, va="center", **style)
    axes.text(_COLUMNS["controls"], y, controls, va="center", ha="right", **style)


def _estimate(claim) -> str:
    text = f"{claim.estimate:.3g}"
    if np.isfinite([claim.ci_low, claim.ci_high]).all() and claim.ci_low != claim.ci_high:
        text += f" [{claim.ci_low:.3g}, {claim.ci_high:.3g}]"
    if np.isfinite(claim.p_value):
        text += f", p = {claim.p_value:.2g}"
    return f"{text}, n = {claim.n}"


def _controls(rows: pd.DataFrame) -> str:
    return f"{(rows['verdict'] == REJECTED).sum()} of {len(rows)}" if len(rows) else "none"
