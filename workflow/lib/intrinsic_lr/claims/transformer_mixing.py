"""A vision transformer under SGD and AdamW: functions forget their initialisation, weights do not."""

import pandas as pd
from matplotlib.figure import Figure

from intrinsic_lr.claims.shared import mixing
from intrinsic_lr.claims.shared.spec import ClaimSpec
from intrinsic_lr.figures.style import styled

measure, judge = mixing.measure, mixing.judge


@styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw how the functions of a transformer forget under both optimisers, and its weights."""
    return mixing.draw(
        table, spec, "A vision transformer: what initialisations cause, in functions and in weights"
    )
