"""Means over replicates with their confidence intervals."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats


def mean_interval(values: ArrayLike, confidence: float) -> tuple[float, float, float, int]:
    """Return (mean, low, high, n) of independent values: Student's t interval of the mean.

    Args:
        values: one value per replicate, shape (R,). Values that are not finite are left out.
        confidence: coverage of the interval, between 0 and 1.

    Returns:
        n is the number of finite values. The interval is NaN for n = 1, everything but n for n = 0.
    """
    values = np.asarray(values, dtype=np.float64)
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return np.nan, np.nan, np.nan, 0
    mean = float(values.mean())
    if len(values) == 1:
        return mean, np.nan, np.nan, 1
    half = float(_half_width(values.std(ddof=1), len(values), confidence))
    return mean, mean - half, mean + half, len(values)


def summarise(frame: pd.DataFrame, by: list[str], columns: list[str], confidence: float) -> pd.DataFrame:
    """Summarise replicates: one row per group of equal `by`, in order of first appearance.

    Args:
        frame: one row per replicate and setting.
        by: columns that name a group; missing values form groups of their own.
        columns: quantities to average; values that are not finite are left out, column by column.
        confidence: coverage of Student's t interval of each mean, between 0 and 1.

    Returns:
        `by`; `<c>_mean`, `<c>_low`, `<c>_high` of each column c (the bounds NaN where one value is behind
        them); `replicates`, the number of values behind the means, and `missing`, the rows left out for not
        being finite. Where columns miss different numbers of values the one that misses most counts, but
        a column without any value in the group (say, a test loss that this step did not measure) does not.
    """
    finite = frame[columns].astype(np.float64)
    finite = finite.where(np.isfinite(finite))
    keys = [frame[column] for column in by]
    groups = finite.groupby(keys, sort=False, dropna=False, observed=True)
    mean, count = groups.mean(), groups.count()
    half = _half_width(groups.std(), count, confidence)
    rows = groups.size()
    columns_out = {}
    for column in columns:
        columns_out[f"{column}_mean"] = mean[column]
        columns_out[f"{column}_low"] = mean[column] - half[column]
        columns_out[f"{column}_high"] = mean[column] + half[column]
    behind = count.where(count > 0).min(axis=1).fillna(0).astype(np.int64)
    return pd.DataFrame({**columns_out, "replicates": behind, "missing": rows - behind}).reset_index()


def _half_width(deviation, count, confidence: float):
    """Return half the width of Student's t interval; a `deviation` of NaN (n < 2) stays NaN."""
    at_least_two = np.maximum(count, 2)
    return stats.t.ppf((1 + confidence) / 2, at_least_two - 1) * deviation / np.sqrt(at_least_two)
