"""The figure of the scorecard: for every claim where its deciding interval lies in what the claim allows."""

from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from intrinsic_lr.claims.shared.verdicts import INCONCLUSIVE, NOT_REPRODUCED, REJECTED, REPRODUCED, Range
from intrinsic_lr.figures.style import PAGE, handle, legend_below, mathtext, panels, styled, wrapped
from intrinsic_lr.study.claims import BOARDS, CLAIMS

# Okabe and Ito's green, vermilion and orange; the markers tell the verdicts apart in print without colour.
VERDICTS = {
    NOT_REPRODUCED: {"color": "#D55E00", "marker": "X"},
    INCONCLUSIVE: {"color": "#E69F00", "marker": "D"},
    REPRODUCED: {"color": "#009E73", "marker": "o"},
}
_ROW = 0.38
"""Height of a row in inches."""
_SHOWN = -1.5, 3.0
"""The margins that are shown; what lies beyond stands at the edge as an arrow."""


@dataclass(frozen=True)
class Margin:
    """How far inside of its bound an estimate lies, and the ends of its interval; positive is allowed."""

    value: float
    low: float
    high: float


def margin(finding, alpha: float) -> Margin:
    """Return the margin of the finding that decides a claim; NaN where nothing was measured.

    Its unit is the threshold, or half the range where there are two bounds, or half the interval where the
    threshold is 0. Of two bounds the nearer one counts. A p-value against the claim is measured by its decimal
    logarithm over that of `alpha`.
    """
    allowed, ends = Range.from_string(finding.null_or_threshold), (finding.ci_low, finding.ci_high)
    if allowed is None:
        decades = np.log10(max(finding.p_value, 1e-12) / alpha) if finding.p_value == finding.p_value else np.nan
        return Margin(decades, decades, decades)
    if np.isfinite([allowed.low, allowed.high]).all():
        unit = (allowed.high - allowed.low) / 2
        upper = finding.estimate > allowed.low + unit
    else:
        upper = np.isfinite(allowed.high)
        unit = abs(allowed.high if upper else allowed.low) or (ends[1] - ends[0]) / 2 or 1.0
    sign, bound = (-1, allowed.high) if upper else (1, allowed.low)
    value, *ends = (sign * (number - bound) / unit for number in (finding.estimate, *ends))
    return Margin(value, min(ends), max(ends))


@styled
def scorecard_figure(claims: pd.DataFrame, controls: pd.DataFrame, alpha: float = 0.05) -> Figure:
    """Draw the scorecard as a forest plot, a row per claim, those of the paper first, what is open above.

    Args:
        claims: table of `verdicts.scorecard`.
        controls: table of `verdicts.controls`.
        alpha: level of every test.
    """
    rows = _in_order(claims)
    narrow = plt.rcParams["figure.figsize"][0] < PAGE - 1
    figure, ((axes,),) = panels(1, 1, (_ROW + 0.1 * narrow) * len(rows) + 0.6)
    axes.set(xlim=_SHOWN, ylim=(len(rows) - 0.3, -0.7), xlabel="margin to the bound, in units of the threshold")
    axes.axvspan(0, _SHOWN[1], color="0.93", lw=0)
    axes.axvline(0, color="0.2", lw=1)
    axes.grid(False)
    for place, row in enumerate(rows):
        if isinstance(row, str):
            axes.axhline(place + 0.35, color="0.75", lw=0.7)
        else:
            _draw_interval(axes, place + 0.2 * narrow, row, margin(row, alpha))
    if narrow:
        _write_inside(figure, axes, rows)
    else:
        _write_beside(figure, axes, rows, controls)
    counts = claims["verdict"].value_counts()
    handles = [
        handle(f"{verdict}: {counts.get(verdict, 0)}", ls="", ms=6, **look) for verdict, look in VERDICTS.items()
    ]
    note = (
        "grey: allowed; marker and line: estimate and interval of the worst criterion, whose bound stands at 0; "
        f"arrow: beyond the axis; a test of the claim itself: decimal log of its p-value over {alpha:.2g}"
    )
    return legend_below(figure, handles, 3, note, _title(claims))


def _in_order(claims: pd.DataFrame) -> list:
    """Return the rows of the figure: for each board its heading, then its claims, open ones first."""
    rows = []
    for board, heading in BOARDS.items():
        of_board = [row for row in claims.itertuples() if _board(row.claim) == board]
        rows += [heading] if of_board else []
        rows += sorted(of_board, key=lambda row: list(VERDICTS).index(row.verdict))
    return rows


def _board(claim: str) -> str:
    return CLAIMS[claim].board if claim in CLAIMS else "addition"


def _claim_title(row) -> str:
    return mathtext(CLAIMS[row.claim].title if row.claim in CLAIMS else row.claim.replace("_", " "))


def _title(claims: pd.DataFrame) -> str:
    verdicts = [row.verdict for row in claims.itertuples() if _board(row.claim) == "claim"]
    return f"{verdicts.count(REPRODUCED)} of {len(verdicts)} claims of the paper are reproduced"


def _draw_interval(axes: Axes, place: float, row, found: Margin) -> None:
    look = VERDICTS[row.verdict]
    if not np.isfinite(found.value):
        axes.plot(0, place, ls="", ms=6, mfc="none", mec=look["color"], marker=look["marker"])
        return
    low, high = np.clip([found.low, found.high], *_SHOWN)
    axes.plot([low, high], [place, place], color=look["color"], lw=1.6, solid_capstyle="butt")
    at = np.clip(found.value, *_SHOWN)
    arrows = {_SHOWN[0]: "<", _SHOWN[1]: ">"}
    marker = arrows.get(at, look["marker"]) if at != found.value else look["marker"]
    axes.plot(at, place, ls="", ms=6, color=look["color"], marker=marker, clip_on=False, zorder=3)


def _write_beside(figure: Figure, axes: Axes, rows: list, controls: pd.DataFrame) -> None:
    """Write title and statistic of each claim to the left, its number and what is allowed to the right."""
    right = axes.twinx()
    right.set(ylim=axes.get_ylim())
    right.spines[:].set_visible(False)
    right.grid(False)
    claims = [(place, row) for place, row in enumerate(rows) if not isinstance(row, str)]
    first, second = ([place + shift for place, _ in claims] for shift in (-0.2, 0.24))
    headings = [(place, row) for place, row in enumerate(rows) if isinstance(row, str)]
    axes.set_yticks(first, [_claim_title(row) for _, row in claims])
    axes.set_yticks(second, [wrapped(figure, mathtext(row.statistic), 6, 0.36) for _, row in claims], minor=True)
    told = [_told(row, controls[controls["claim"] == row.claim]) for _, row in claims]
    right.set_yticks(first, [interval_text(row) for _, row in claims])
    right.set_yticks(second, [wrapped(figure, mathtext(text), 6, 0.27) for text in told], minor=True)
    for side in (axes, right):
        side.tick_params(axis="y", which="both", length=0)
        side.tick_params(axis="y", which="major", labelsize=7.5)
        side.tick_params(axis="y", which="minor", labelsize=6, labelcolor="0.3")
    for place, heading in headings:
        axes.annotate(
            heading, (0, place + 0.1), (-4, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
            ha="right", va="center", weight="bold", size=8,
        )  # fmt: skip


def _write_inside(figure: Figure, axes: Axes, rows: list) -> None:
    """Write the title of each claim above its interval."""
    axes.set_yticks([])
    for place, row in enumerate(rows):
        heading = isinstance(row, str)
        text = row if heading else wrapped(figure, _claim_title(row), 7.5, 0.9)
        weight = "bold" if heading else "normal"
        axes.text(_SHOWN[0], place - 0.2 * (not heading), text, weight=weight, size=7.5, va="center")


def _told(row, of_claim: pd.DataFrame) -> str:
    """Return what is allowed, without the words in brackets, and what else the number rests on."""
    allowed = row.null_or_threshold.split(" (")[0].split(": ")[0]
    p_value = f"p = {row.p_value:.2g}; " if np.isfinite(row.p_value) else ""
    return f"{allowed}; {p_value}n = {row.n}; controls {rejected_text(of_claim)}"


def interval_text(finding) -> str:
    """Return an estimate as text, with its interval where it is random."""
    text = f"{finding.estimate:.3g}"
    if np.isfinite([finding.ci_low, finding.ci_high]).all() and finding.ci_low != finding.ci_high:
        text += f" [{finding.ci_low:.3g}, {finding.ci_high:.3g}]"
    return text


def estimate_text(claim) -> str:
    """Return the number that decides a claim as text, with its interval, p-value and replicates."""
    text = interval_text(claim)
    if np.isfinite(claim.p_value):
        text += f", p = {claim.p_value:.2g}"
    return f"{text}, n = {claim.n}"


def rejected_text(rows: pd.DataFrame) -> str:
    """Return how many of these controls were rejected, in words."""
    return f"{(rows['verdict'] == REJECTED).sum()} of {len(rows)}" if len(rows) else "none"
