"""Means over replicates with their confidence intervals, and the tests that claims share.

Values that are not finite are left out of every estimate here. statsmodels takes half a second to import, so it is
imported where it is used.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats


def percent(confidence: float) -> str:
    """Return a confidence in words, such as "95 %"."""
    return f"{100 * confidence:g} %"


def mean_interval(values: ArrayLike, confidence: float) -> tuple[float, float, float, int]:
    """Return (mean, low, high, n) of independent values (R,): Student's t interval of the mean.

    n counts the finite values. The interval is NaN for n = 1, everything but n for n = 0.

    >>> [round(value, 2) for value in mean_interval([1.0, 2.0, 3.0, float("inf")], confidence=0.95)]
    [2.0, -0.48, 4.48, 3]
    """
    values = _finite(values)
    n = len(values)
    if n == 0:
        return np.nan, np.nan, np.nan, 0
    mean = float(values.mean())
    half = float(_half_width(values.std(ddof=1), n, confidence)) if n > 1 else np.nan
    return mean, mean - half, mean + half, n


def smallest_mean(groups: Sequence[ArrayLike], confidence: float) -> tuple[float, float, float, int]:
    """Return (smallest mean, low, high, n) of groups of replicates, each (R,); for statements on every group.

    At Bonferroni's level Student's t intervals hold all means at once, and the smallest mean then lies between the
    lowest of their lower and the lowest of their upper ends (derived). n is the smallest number of finite values;
    the interval is NaN if that is below two, and the mean too if a group has none or there is no group.
    """
    rows = [mean_interval(group, 1 - (1 - confidence) / len(groups)) for group in groups]
    if not rows:
        return np.nan, np.nan, np.nan, 0
    mean, low, high, n = (np.min(column) for column in zip(*rows, strict=True))
    return float(mean), float(low), float(high), int(n)


def largest_mean(groups: Sequence[ArrayLike], confidence: float) -> tuple[float, float, float, int]:
    """Return (largest mean, low, high, n) of several groups of replicates, as `smallest_mean` does."""
    mean, low, high, n = smallest_mean([-np.asarray(group, np.float64) for group in groups], confidence)
    return 0.0 - mean, 0.0 - high, 0.0 - low, n


def outermost_mean(
    groups: Sequence[ArrayLike], confidence: float, low: float, high: float
) -> tuple[float, float, float, int]:
    """Return `smallest_mean` or `largest_mean`, whichever speaks more against all lying between two bounds.

    An interval outside of the bounds comes before one that does not, then the one that reaches further out.
    """

    def evidence(interval: tuple[float, float, float, int]) -> tuple[bool, float]:
        _, lower, upper, _ = interval
        return upper < low or lower > high, max(low - lower, upper - high)

    return max(smallest_mean(groups, confidence), largest_mean(groups, confidence), key=evidence)


def share_interval(count: int, n: int, confidence: float) -> tuple[float, float, float, int]:
    """Return (share, low, high, n) of `count` among n, exact (Clopper and Pearson 1934); NaN at n = 0."""
    if n == 0:
        return np.nan, np.nan, np.nan, 0
    interval = stats.binomtest(count, n).proportion_ci(confidence)
    return count / n, float(interval.low), float(interval.high), n


def summarize(frame: pd.DataFrame, by: list[str], columns: list[str], confidence: float) -> pd.DataFrame:
    """Summarize replicates, the rows of `frame`: one row per group of equal `by`, in order of first appearance.

    The result has `by`; `<c>_mean`, `<c>_low`, `<c>_high` of each column c (the bounds NaN for a single value);
    `replicates`, the number of values behind the means, and `missing`, the rows left out for not being finite. Of
    columns that miss different numbers of values the one that misses most counts, unless it has none in the group
    (say, a test loss that this step did not measure).
    """
    finite = frame[columns].astype(np.float64)
    finite = finite.where(np.isfinite(finite))
    groups = finite.groupby([frame[column] for column in by], sort=False, dropna=False, observed=True)
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


def _finite(values: ArrayLike) -> np.ndarray:
    values = np.asarray(values, np.float64)
    return values[np.isfinite(values)]


def _half_width(deviation, count, confidence: float):
    """Return half the width of Student's t interval; a `deviation` of NaN (n < 2) stays NaN."""
    at_least_two = np.maximum(count, 2)
    return stats.t.ppf((1 + confidence) / 2, at_least_two - 1) * deviation / np.sqrt(at_least_two)


def expanded_tails(confidence: float, n: int) -> tuple[float, float]:
    """Return the quantile levels (low, high) of a bootstrap interval of n replicates; NaN for n below 2.

    Phi(-+ sqrt(n/(n-1)) t) makes the interval of a mean as wide as Student's t interval; plain percentiles are too
    narrow for few replicates. Source: Hesterberg 2015, What Teachers Should Know About the Bootstrap, section 4.2.
    """
    if n < 2:
        return np.nan, np.nan
    low = float(stats.norm.cdf(-np.sqrt(n / (n - 1)) * stats.t.ppf((1 + confidence) / 2, n - 1)))
    return low, 1.0 - low


def _percentiles(drawn: ArrayLike, confidence: float, n: int) -> np.ndarray:
    """Return the expanded percentiles (low, high); NaN where more than 1 - confidence of the resamples are NaN."""
    drawn = np.asarray(drawn, np.float64)
    finite = drawn[np.isfinite(drawn)]
    if len(drawn) - len(finite) > (1 - confidence) * len(drawn):
        return np.full(2, np.nan)
    return np.quantile(finite, expanded_tails(confidence, n))


def bootstrap_interval(
    statistic: Callable[..., float],
    groups: Sequence[int],
    resamples: int,
    confidence: float,
    generator: np.random.Generator,
) -> tuple[float, float]:
    """Return the percentile interval (low, high) of a statistic of independent groups of replicates.

    `statistic` takes one index array per group, the replicates drawn; `groups` are the numbers of replicates in
    each. The levels are those of `expanded_tails` for the smallest group. The interval is NaN when a group has
    fewer than two replicates, or when more than 1 - confidence of the resamples give NaN; fewer are left out.
    """
    if min(groups) < 2:
        return np.nan, np.nan
    drawn = _bootstrap(statistic, groups, resamples, generator)
    low, high = _percentiles(drawn, confidence, min(groups))
    return float(low), float(high)


def root_mean_square_interval(
    mean_square: Callable[..., float],
    groups: Sequence[int],
    resamples: int,
    confidence: float,
    generator: np.random.Generator,
) -> tuple[float, tuple[float, float]]:
    """Return a root mean square of differences of means, without the part that sampling adds, and its (low, high).

    The squares of noisy differences add up even where the true differences are zero. The bootstrap's mean lies
    above the plain value as far as that lies above the truth, and its percentiles therefore twice as far
    (bootstrap estimate of bias, Efron and Tibshirani 1993, chapter 10). Arguments as of `bootstrap_interval`, with
    the plain mean square as the statistic; NaN where a group has fewer than two replicates.
    """
    if min(groups) < 2:
        return np.nan, (np.nan, np.nan)
    plain = mean_square(*(np.arange(n) for n in groups))
    drawn = np.array(_bootstrap(mean_square, groups, resamples, generator))
    percentiles = _percentiles(drawn, confidence, min(groups))
    if not np.isfinite([plain, *percentiles]).all():
        return np.nan, (np.nan, np.nan)
    bias = np.nanmean(drawn) - plain
    low, high = percentiles - 2.0 * bias
    estimate, low, high = np.sqrt(np.clip([plain - bias, low, high], 0.0, None))
    return float(estimate), (float(low), float(high))


def _bootstrap(statistic, groups: Sequence[int], resamples: int, generator: np.random.Generator) -> list[float]:
    return [statistic(*(generator.integers(n, size=n) for n in groups)) for _ in range(resamples)]


class Difference(NamedTuple):
    """A difference of two means, b - a, with Welch's interval and p-values."""

    estimate: float
    low: float
    high: float
    p_equal: float  # two-sided, of equal means (Welch's t-test)
    p_equivalent: float  # of means further apart than the margin (two one-sided tests, Schuirmann 1987)
    n: int  # the smaller number of replicates


def difference(a: ArrayLike, b: ArrayLike, confidence: float, margin: float = np.nan) -> Difference:
    """Compare the means of two independent groups of replicates, (n,) and (m,); NaN with fewer than two in one.

    `p_equivalent` is NaN without a margin.
    """
    a, b = _finite(a), _finite(b)
    n = min(len(a), len(b))
    if n < 2:
        return Difference(*[np.nan] * 5, n)
    estimate = float(b.mean() - a.mean())
    if a.std() == 0 and b.std() == 0:
        # Two constants: nothing is random, and the t statistic is not defined.
        return Difference(estimate, estimate, estimate, float(estimate == 0), float(not abs(estimate) < margin), n)
    test = stats.ttest_ind(b, a, equal_var=False)
    interval = test.confidence_interval(confidence)
    equivalent = np.nan
    if np.isfinite(margin):
        from statsmodels.stats.weightstats import ttost_ind

        equivalent = float(ttost_ind(b, a, -margin, margin, usevar="unequal")[0])
    return Difference(estimate, float(interval.low), float(interval.high), float(test.pvalue), equivalent, n)


def p_not_worse(a: ArrayLike, b: ArrayLike, margin: float) -> float:
    """Return the p-value of the mean of b lying more than `margin` below that of a (Welch's one-sided t-test).

    Small where b is shown to be not inferior; NaN with fewer than two replicates in a group.
    """
    a, b = _finite(a), _finite(b)
    if min(len(a), len(b)) < 2 or a.std() == b.std() == 0:
        return np.nan
    return float(stats.ttest_ind(b + margin, a, equal_var=False, alternative="greater").pvalue)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Return p-values adjusted for their number by the method of Holm 1979, in their order; NaN does not count.

    >>> holm([0.01, float("nan"), 0.03])
    array([0.02,  nan, 0.03])
    """
    from statsmodels.stats.multitest import multipletests

    adjusted = np.array(p_values, np.float64)
    known = np.isfinite(adjusted)
    if known.any():
        adjusted[known] = multipletests(adjusted[known], method="holm")[1]
    return adjusted
