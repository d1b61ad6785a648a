"""What averaging two networks gains in test loss, from the table of weight averages."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from intrinsic_lr.analyses.tables import ACROSS_INITIALISATIONS
from intrinsic_lr.study.experiment import PlannedPoint

RUN_TIMES = {"usual": 1, "ten_times": 10}
"""Multiples of the usual length of training at which averages are looked at."""
LOWER_END, BOTH_ENDS = "end with the lower mean loss", "mean of both ends"
"""What the loss of an average is compared with."""
COLUMNS = [
    "part", "run_time", "point", "intrinsic_lr", "normalisation", "step", "delta", "lag", "replicate", "partner",
    "test_loss", "test_loss_start", "test_loss_end", "gain_over_better_end",
]  # fmt: skip


def averages_of(
    table: pd.DataFrame, points: Sequence[PlannedPoint], usual_length: float, lags: Sequence[float]
) -> pd.DataFrame:
    """Select the two-network averages of some points at the usual length of training and at ten times it.

    `table` is `swa_<experiment>`; `usual_length` and the `lags` of two checkpoints are in 1/lambda_e. In the
    result, of `COLUMNS`, the `part` "within" has a row per replicate, lag, run time and normalisation; "across"
    has two networks of different initialisations at the same checkpoint, no network in two pairs, so that the
    pairs are independent. `gain_over_better_end` is over the better end of each single pair.
    """
    pairs = table[table["average"] == "pair"]
    parts = []
    for point in points:
        rows = pairs[pairs["point"] == point.name]
        for run_time, multiple in RUN_TIMES.items():
            start = point.checkpoint_at(multiple * usual_length)
            deltas = [point.checkpoint_at(multiple * usual_length + lag) - start for lag in lags]
            here = rows[rows["step"] == start].assign(run_time=run_time)
            parts.append(here[(here["relation"] == "within") & here["delta"].isin(deltas)].assign(part="within"))
            across = here[here["relation"] == ACROSS_INITIALISATIONS]
            parts.append(across[_disjoint(across)].assign(part="across"))
    found = pd.concat(parts, ignore_index=True).rename(columns={"test_loss_gain": "gain_over_better_end"})
    return found.assign(lag=found["delta"] * found["intrinsic_lr"])[COLUMNS]


def _disjoint(rows: pd.DataFrame) -> np.ndarray:
    """Mark, from the first on, the pairs none of whose networks is in a pair marked before, shape (rows,)."""
    used, kept = set(), []
    columns = ["normalisation", "point", "replicate", "partner_point", "partner"]
    for normalisation, point, replicate, partner_point, partner in rows[columns].itertuples(index=False):
        ends = {(normalisation, point, replicate), (normalisation, partner_point, partner)}
        kept.append(not ends & used)
        if kept[-1]:
            used |= ends
    return np.array(kept, dtype=bool)


def whole_runs(rows: pd.DataFrame) -> pd.DataFrame:
    """Leave out the networks of a point whose loss is not finite at one of its checkpoints, in all their averages.

    A run that diverges later would otherwise be judged by its finite beginning. The start of an average belongs to
    `replicate`, the end to `partner`; `rows` has the columns `COLUMNS`.
    """
    lost = set()
    for end, name in (("test_loss_start", "replicate"), ("test_loss_end", "partner")):
        bad = rows[~np.isfinite(rows[end])]
        lost |= set(zip(bad["point"], bad[name], strict=True))
    networks = rows[["point", "replicate", "partner"]].itertuples(index=False)
    return rows[np.array([not {(point, a), (point, b)} & lost for point, a, b in networks], dtype=bool)]


def mean_gains(rows: pd.DataFrame, over: str) -> pd.Series:
    """Return each replicate's gain in test loss over its ends in nats, mean over the lags, indexed by replicate.

    `rows` have one part, point, run time and normalisation; replicates that are not finite somewhere are left out.
    The ends' loss is, in the same replicate (a paired difference):

    - `LOWER_END`: for each lag that of the end whose mean loss over the replicates is lower, as mean curves are
      compared in a figure. To take the lower of two means errs against the average.
    - `BOTH_ENDS`: the mean of both, which errs in favour of the average.
    """
    values = ["test_loss", "test_loss_start", "test_loss_end"]
    losses = rows.pivot_table(index="replicate", columns="delta", values=values, dropna=False)
    losses = losses[np.isfinite(losses).all(axis=1)]
    if losses.empty:
        return pd.Series(dtype=float)
    start, end = losses["test_loss_start"], losses["test_loss_end"]
    ends = np.where(start.mean() <= end.mean(), start, end) if over == LOWER_END else (start + end) / 2
    return (ends - losses["test_loss"]).mean(axis=1)
