"""AdamW's functions forget their initialisation in O(1/(eta lambda)) steps, its weights do not."""

import pandas as pd
from matplotlib.figure import Figure

from intrinsic_lr.claims.shared import mixing
from intrinsic_lr.claims.shared.spec import ClaimSpec
from intrinsic_lr.figures.style import styled

measure, judge = mixing.measure, mixing.judge


@styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw how functions forget under AdamW and under Adam with L2, and the weights under AdamW."""
    return mixing.draw(table, spec, "AdamW: what initialisations cause, in functions and in weights")
