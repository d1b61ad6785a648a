"""AdamW's averages of weights, within a trajectory and across initialisations, as SGD's in both claims on them."""

import pandas as pd
from matplotlib.figure import Figure

from intrinsic_lr.claims import swa_across, swa_within
from intrinsic_lr.claims.shared.spec import ClaimSpec
from intrinsic_lr.claims.shared.verdicts import Findings
from intrinsic_lr.figures.style import styled

measure = swa_within.measure


def judge(table: pd.DataFrame, spec: ClaimSpec) -> Findings:
    """Judge the gain within over the lower end, and that across over the mean of both, with controls."""
    yield from swa_within.judge(table, spec)
    yield from swa_across.judge_run_times(table, spec, swa_across.PLAIN)


@styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw the test loss of ends and averages, across initialisations and within trajectories."""
    title = "AdamW: an average helps within a trajectory, not across initialisations"
    return swa_across.draw_losses(table, spec, title)
