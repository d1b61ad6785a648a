"""Compares the verdicts of a study with those of other study seeds, or of another machine."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from intrinsic_lr.claims.shared.scorecard_figure import VERDICTS
from intrinsic_lr.figures.style import handle, legend_below, panels, styled
from intrinsic_lr.study.claims import CLAIMS

COLUMNS = ["claim", "study", "statistic", "estimate", "ci_low", "ci_high", "null_or_threshold", "n", "verdict"]
_ROW = 0.24
"""Height of a row in inches."""


def stability_table(scorecards: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the deciding number and the verdict of every claim in every study, claim by claim.

    Args:
        scorecards: for each study's label its table of `verdicts.scorecard`.
    """
    rows = pd.concat([table.assign(study=label) for label, table in scorecards.items()])
    order = list(dict.fromkeys(rows["claim"]))
    return rows.sort_values("claim", key=lambda column: column.map(order.index), kind="stable")[COLUMNS]


def most_frequent(table: pd.DataFrame) -> pd.DataFrame:
    """Return for each claim, in the table's order, its most frequent `verdict`, with `times` `of` how many."""
    rows = []
    for claim, of_claim in table.groupby("claim", sort=False):
        verdict, times = next(of_claim["verdict"].value_counts().items())
        rows.append({"claim": claim, "verdict": verdict, "times": times, "of": len(of_claim)})
    return pd.DataFrame(rows)


@styled
def stability_figure(table: pd.DataFrame) -> Figure:
    """Draw the verdict on every claim (rows) in every study (columns) of `stability_table`."""
    claims, studies = list(dict.fromkeys(table["claim"])), list(dict.fromkeys(table["study"]))
    figure, ((axes,),) = panels(1, 1, _ROW * len(claims) + 1.0)
    for verdict, look in VERDICTS.items():
        rows = table[table["verdict"] == verdict]
        axes.plot(rows["study"].map(studies.index), rows["claim"].map(claims.index), ls="", ms=6, **look)
    axes.set(xlim=(-0.6, len(studies) - 0.4), ylim=(len(claims) - 0.4, -0.6), xlabel="study, by its seed")
    axes.set_xticks(np.arange(len(studies)), studies)
    titles = [CLAIMS[claim].title if claim in CLAIMS else claim.replace("_", " ") for claim in claims]
    axes.set_yticks(np.arange(len(claims)), titles)
    axes.grid(False, axis="x")
    found = most_frequent(table)
    same = int((found["times"] == found["of"]).sum())
    handles = [handle(verdict, ls="", ms=6, **look) for verdict, look in VERDICTS.items()]
    return legend_below(figure, handles, 3, "", f"{same} of {len(claims)} verdicts are the same in every study")
