"""The figure of the scorecard: a line per claim, with its verdict and those of its controls."""

from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from intrinsic_lr.claims.shared.verdicts import INCONCLUSIVE, NOT_REPRODUCED, REJECTED, REPRODUCED
from intrinsic_lr.figures.style import PAGE, handle, legend_below, panels, styled

# Okabe and Ito's green, vermilion and orange; the markers tell the verdicts apart in print without colour.
VERDICTS = {
    REPRODUCED: {"color": "#009E73", "marker": "o"},
    NOT_REPRODUCED: {"color": "#D55E00", "marker": "X"},
    INCONCLUSIVE: {"color": "#E69F00", "marker": "D"},
}
_ROW = 0.43
"""Height of a row in inches."""
_MARKER, _CLAIM, _NUMBER, _CONTROLS = 0.012, 0.035, 0.575, 0.998
"""Where the columns stand, as shares of the width; the last one is right-aligned."""


@styled
def scorecard_figure(claims: pd.DataFrame, controls: pd.DataFrame) -> Figure:
    """Draw the scorecard: a table, so that it is a page wide at least and its text has sizes of its own.

    Args:
        claims: table of `verdicts.scorecard`.
        controls: table of `verdicts.controls`.
    """
    figure, ((axes,),) = panels(1, 1, _ROW * (len(claims) + 1) + 0.5)
    width, height = figure.get_size_inches()
    figure.set_size_inches(max(width, PAGE), height)
    axes.set(xlim=(0, 1), ylim=(len(claims), -0.8))
    axes.axis("off")

    def write(x: float, y: float, text: str, **style) -> None:
        # Formulas in a claim's words are no mathtext, and long words do not narrow the axes.
        axes.text(x, y, text, parse_math=False, in_layout=False, va="center", **style)

    fine = {"size": 6, "color": "0.25", "linespacing": 1.05}
    for place, head, align in (
        (_CLAIM, "Claim", "left"), (_NUMBER, "Deciding number", "left"), (_CONTROLS, "Controls", "right")
    ):  # fmt: skip
        write(place, -0.4, head, size=8, weight="bold", ha=align)
    for row, claim in enumerate(claims.itertuples()):
        axes.axhline(row, color="0.85", lw=0.7)
        axes.plot(_MARKER, row + 0.5, ms=7, ls="", clip_on=False, **VERDICTS[claim.verdict])
        write(_CLAIM, row + 0.27, claim.claim, size=7.5, weight="bold")
        write(_CLAIM, row + 0.68, fill(claim.statement, 76), **fine)
        write(_NUMBER, row + 0.27, estimate_text(claim), size=7)
        write(_NUMBER, row + 0.68, fill(f"wanted: {claim.null_or_threshold}", 54), **fine)
        write(_CONTROLS, row + 0.5, rejected_text(controls[controls["claim"] == claim.claim]), size=7, ha="right")
    handles = [
        handle(f"{verdict}: {(claims['verdict'] == verdict).sum()}", ls="", ms=7, **style)
        for verdict, style in VERDICTS.items()
    ]
    note = (
        "deciding number: the worst criterion's estimate with its interval, and its p-value where there is one;\n"
        "n: replicates; controls: how many were rejected, as all of them have to be"
    )
    reproduced = (claims["verdict"] == REPRODUCED).sum()
    title = f"Scorecard: {reproduced} of {len(claims)} claims reproduced"
    return legend_below(figure, handles, 3, note, title)


def estimate_text(claim) -> str:
    """Return the number that decides a claim as text, with its interval, p-value and replicates."""
    text = f"{claim.estimate:.3g}"
    if np.isfinite([claim.ci_low, claim.ci_high]).all() and claim.ci_low != claim.ci_high:
        text += f" [{claim.ci_low:.3g}, {claim.ci_high:.3g}]"
    if np.isfinite(claim.p_value):
        text += f", p = {claim.p_value:.2g}"
    return f"{text}, n = {claim.n}"


def rejected_text(rows: pd.DataFrame) -> str:
    """Return how many of these controls were rejected, in words."""
    return f"{(rows['verdict'] == REJECTED).sum()} of {len(rows)}" if len(rows) else "none"
