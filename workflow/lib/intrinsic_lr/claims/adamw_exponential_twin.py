"""AdamW against Adam without weight decay at an exponentially growing learning rate: the same functions.

The moments have to stay in the units of the smaller weights: beta1 and beta2 are multiplied by alpha and alpha^2,
or, which is the same, the gradient is divided by the growth of the weights (derived, F18).
"""

import pandas as pd
from matplotlib.figure import Figure

from intrinsic_lr.claims import exp_lr_equivalence
from intrinsic_lr.claims.exp_lr_equivalence import draw_pairs
from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec
from intrinsic_lr.claims.shared.verdicts import Findings
from intrinsic_lr.figures.style import styled


def measure(data: ClaimData) -> pd.DataFrame:
    """Return both deviations of every pair: one row per pair, checkpoint and replicate."""
    return exp_lr_equivalence.measure(data)


def judge(table: pd.DataFrame, spec: ClaimSpec) -> Findings:
    """Compare the largest deviation over pairs, checkpoints and replicates with the threshold."""
    return exp_lr_equivalence.judge(table, spec, "An equivalent whose betas are left alone agrees")


@styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw the largest deviation of each pair against the step, with the threshold."""
    title = "AdamW, and Adam without weight decay at a growing learning rate, train the same functions"
    return draw_pairs(table, spec, title, "betas left alone")
