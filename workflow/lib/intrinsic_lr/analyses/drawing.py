"""What several figures of analyses share."""

from typing import Any

import pandas as pd
import seaborn as sns

from intrinsic_lr.figures.style import spread

TRAJECTORIES = 4
"""At most so many starting times T are drawn."""
ACROSS_COLOUR = sns.color_palette("colorblind")[3]
"""Of what is across trajectories."""


def first_point(table: pd.DataFrame) -> pd.DataFrame:
    """Keep the rows of the first point: one message a figure; the table holds the others."""
    return table[table["point"] == table["point"].iloc[0]] if len(table) else table


def starting_times(within: pd.DataFrame) -> list[Any]:
    """Return the starting times T to draw: spread out, of those with a third of the most lags or more."""
    lags = within.groupby("step")["delta"].nunique()
    return spread(lags[lags >= lags.max() / 3].index, TRAJECTORIES)
