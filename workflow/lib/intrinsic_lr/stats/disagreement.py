"""Function space: how often runs disagree, and how far apart the predictions of two settings are.

At a test point x a setting is the distribution p_x(k) of the label predicted over its runs. Independent runs of
one setting disagree about as often as they err, so the raw disagreement of two settings says little. Their across
disagreement exceeds the mean of the within ones by ||p - q||^2 / 2, the excess (derived).

Splits and resamples are counted in whole numbers: ties are exact, and no result depends on the order of sums. Most
runs give most test points their usual label, so only the other labels are counted, in sparse matrices.

Arrays of labels are (runs, points); -1 marks a run that was not finite. K is the number of labels.
"""

from math import gcd

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from intrinsic_lr.stats.intervals import expanded_tails

CHUNK_VALUES = 2_000_000
"""Bound on the values of an intermediate array: test points are taken in chunks that keep to it."""

QUANTITIES = (
    "l1", "total_variation", "total_variation_low", "total_variation_high", "null_mean", "null_q95", "p_value",
    "within_a", "within_b", "across", "across_low", "across_high", "excess", "excess_low", "excess_high",
    "excess_share", "excess_share_low", "excess_share_high", "error_a", "error_b", "independent_errors",
)  # fmt: skip
"""What `compare` measures, in the order of its columns."""
OF_ONE_SIDE = ("within_a", "within_b", "error_a", "error_b", "independent_errors")
JUDGED = tuple(name for name in QUANTITIES if name not in OF_ONE_SIDE)
"""Quantities that take both sides to be independent: `compare` leaves them out of paired ones."""
COLUMNS = ("replicates_a", "replicates_b", "missing_a", "missing_b", *QUANTITIES, "permutations", "bootstrap")

NULL_QUANTILE = 0.95
"""Of the permutation null: `null_q95`."""


def predicted_labels(logits: ArrayLike) -> np.ndarray:
    """Return the labels (R, N) of the largest of each image's logits (R, N, K); -1 where not all are finite.

    >>> predicted_labels([[[0.1, 0.9], [float("nan"), 1.0]]])
    array([[ 1, -1]])
    """
    logits = np.asarray(logits)
    return np.where(np.isfinite(logits).all(axis=-1), logits.argmax(axis=-1), -1)


def label_distribution(labels: np.ndarray, classes: int) -> np.ndarray:
    """Return p_x(k), shape (N, K): the fraction of the runs (R, N) that give test point x the label k.

    >>> label_distribution(np.array([[0], [1], [1], [1]]), classes=3)
    array([[0.25, 0.75, 0.  ]])
    """
    return _label_counts(labels, classes) / len(labels)


def total_variation(p: np.ndarray, q: np.ndarray) -> float:
    """Return the total variation of two label distributions (N, K), mean over points: half their l1 distance.

    >>> total_variation(np.array([[0.5, 0.5]]), np.array([[0.25, 0.75]]))
    0.25
    """
    return float(np.abs(p - q).sum(axis=1).mean()) / 2


def within_disagreement(p: np.ndarray, n: int) -> float:
    """Return how often two different ones of the n runs behind p (N, K) disagree, mean over points.

    n/(n-1) (1 - sum_k p^2), unbiased (derived). NaN for a single run.

    >>> within_disagreement(np.array([[0.5, 0.5]]), n=2)
    1.0
    """
    return float(n / (n - 1) * (1 - np.square(p).sum(axis=1)).mean()) if n > 1 else float("nan")


def across_disagreement(p: np.ndarray, q: np.ndarray) -> float:
    """Return how often a run of one setting and a run of the other disagree, 1 - sum_k p q, mean over points.

    >>> across_disagreement(np.array([[1.0, 0.0]]), np.array([[0.25, 0.75]]))
    0.75
    """
    return float((1 - (p * q).sum(axis=1)).mean())


def excess_disagreement(p: np.ndarray, q: np.ndarray, n: int, m: int) -> float:
    """Return the across disagreement less the mean of the within ones, of n and m runs behind p and q (N, K).

    Half of ||p - q||^2, estimated as sum_k (p-q)^2 - p(1-p)/(n-1) - q(1-q)/(m-1), mean over points: unbiased and
    so at times negative (derived). NaN for a single run.

    >>> excess_disagreement(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]), n=8, m=8)
    1.0
    >>> excess_disagreement(np.array([[0.5, 0.5]]), np.array([[0.5, 0.5]]), n=5, m=5)
    -0.125
    """
    # The noise of p is its within disagreement over n.
    noise = within_disagreement(p, n) / n + within_disagreement(q, m) / m
    return float(np.square(p - q).sum(axis=1).mean() - noise) / 2


def disagreement(
    labels_a: np.ndarray, labels_b: np.ndarray, true_labels: np.ndarray, classes: int
) -> dict[str, float]:
    """Return the quantities of two settings' finite runs, labels (n, N) and (m, N), that take no resampling.

    `excess_share` is excess / across, NaN where no run disagrees with any of the other setting; `error_a` and
    `error_b` are mean errors against true_labels (N,), and `independent_errors` is how often one of two runs alone
    would err were their errors independent, e_a (1 - e_b) + e_b (1 - e_a).
    """
    n, m = len(labels_a), len(labels_b)
    p, q = label_distribution(labels_a, classes), label_distribution(labels_b, classes)
    error_a, error_b = (float((labels != true_labels).mean()) for labels in (labels_a, labels_b))
    distance, across, excess = total_variation(p, q), across_disagreement(p, q), excess_disagreement(p, q, n, m)
    return {
        "l1": 2 * distance, "total_variation": distance,
        "within_a": within_disagreement(p, n), "within_b": within_disagreement(q, m),
        "across": across, "excess": excess, "excess_share": excess / across if across > 0 else float("nan"),
        "error_a": error_a, "error_b": error_b,
        "independent_errors": error_a * (1 - error_b) + error_b * (1 - error_a),
    }  # fmt: skip


def label_changes(labels_a: np.ndarray, labels_b: np.ndarray) -> np.ndarray:
    """Return the share of test points that each network of (S, N) labels unlike each of (T, N), shape (S, T).

    Networks with a -1 give NaN.
    """
    shares = np.stack([(run != labels_b).mean(axis=1) for run in labels_a])
    finite = (labels_a >= 0).all(axis=1)[:, None] & (labels_b >= 0).all(axis=1)
    return np.where(finite, shares, np.nan)


def percentile_intervals(
    drawn: dict[str, np.ndarray], total_variation: float, confidence: float, runs: int
) -> dict[str, tuple[float, float]]:
    """Return (low, high) of each quantity of `PooledLabels.resampled`.

    The levels are those of `intervals.expanded_tails` for the smaller number of `runs`. The intervals of the
    within, across and excess disagreement cover the value of infinitely many runs. An estimated `total_variation`
    is on average above the true one, and resampling adds as much again: its interval is shifted so that the
    resamples have the estimate as their mean, and covers the expected estimate of n and m runs (derived).
    """
    gaps = drawn["total_variation"]
    shifted = drawn | {"total_variation": np.maximum(total_variation + gaps - gaps.mean(), 0)}
    tails = expanded_tails(confidence, runs)
    return {name: tuple(map(float, np.quantile(values, tails))) for name, values in shifted.items()}


def compare(
    labels_a: np.ndarray,
    labels_b: np.ndarray,
    true_labels: np.ndarray,
    classes: int,
    *,
    permutations: int,
    bootstrap: int,
    confidence: float,
    seed: int,
    paired: bool = False,
) -> dict[str, float | int]:
    """Compare two settings at one checkpoint: one row of the disagreement table, `COLUMNS`.

    Runs with a -1 are left out of the predicted labels (n, N) and (m, N), and with fewer than two on a side every
    quantity is NaN. `permutations` splits and `bootstrap` resamples are drawn from `seed`; `null_mean` and
    `null_q95` are the mean and the 0.95 quantile of the permutation null, and the p-value is (1 + splits at least
    as far apart) / (1 + splits). The intervals are those of `percentile_intervals`, but that of total variation
    reaches lower by `null_mean`, to zero at least. The expected estimate exceeds the true value by something
    between zero (Jensen's inequality) and the expected distance of the sampling noise alone (triangle inequality),
    which the null's mean bounds for equal numbers of runs, noise taken as normal (derived).

    Where run k of both sides shares a random draw, such as its initial weights (`paired`), the sides look more
    alike than independent ones do, and neither null nor bootstrap knows of it: what is `JUDGED` is NaN.
    """
    a, b = (labels[(labels >= 0).all(axis=1)] for labels in (labels_a, labels_b))
    n, m = len(a), len(b)
    row = {"replicates_a": n, "replicates_b": m, "missing_a": len(labels_a) - n, "missing_b": len(labels_b) - m}
    values = dict.fromkeys(QUANTITIES, float("nan"))
    if min(n, m) > 1:
        values |= disagreement(a, b, true_labels, classes)
    if paired:
        values |= dict.fromkeys(JUDGED, float("nan"))
    elif min(n, m) > 1:
        splits, resamples = (np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(2))
        pooled = PooledLabels(a, b, classes, max(permutations, bootstrap))
        null = pooled.null(permutations, splits)
        # Total variations are whole multiples of 1/(n m N): half of that tells a tie from rounding.
        as_far = np.count_nonzero(null > values["total_variation"] - 0.5 / (n * m * a.shape[1]))
        values["null_mean"] = float(null.mean())
        values["null_q95"] = float(np.quantile(null, NULL_QUANTILE))
        values["p_value"] = (1 + as_far) / (1 + permutations)
        drawn = pooled.resampled(bootstrap, resamples)
        intervals = percentile_intervals(drawn, values["total_variation"], confidence, min(n, m))
        for name in ("total_variation", "across", "excess", "excess_share"):
            values[f"{name}_low"], values[f"{name}_high"] = intervals[name]
        values["total_variation_low"] = max(values["total_variation_low"] - values["null_mean"], 0.0)
    return row | values | {"permutations": permutations, "bootstrap": bootstrap}


def _label_counts(labels: np.ndarray, classes: int) -> np.ndarray:
    """Return how many runs give each test point each label, (N, K)."""
    points = labels.shape[1]
    first = labels[0]
    # Few runs differ from any one of them, and only those are looked at one by one.
    deviations = np.flatnonzero(labels != first)
    keys = deviations % points * classes + labels.ravel()[deviations]
    counts = np.bincount(keys, minlength=points * classes).reshape(points, classes)
    counts[np.arange(points), first] += len(labels) - counts.sum(axis=1)
    return counts


class _VariedPoints:
    """P test points on which two settings' runs are not unanimous; all matrices in the smallest integers that do.

    A row of `a` (U, n) and of `b` (U, m) is one label at one point, except the usual label of that point; an entry
    is 1 where a run gives it. `rows` (P, U) is 1 where a row is of a point.
    """

    def __init__(self, a: np.ndarray, b: np.ndarray, usual: np.ndarray, classes: int) -> None:
        # A label at a point has the number point * classes + label.
        numbers = np.arange(len(usual), dtype=np.int32) * classes
        deviating = [side != usual for side in (a, b)]
        given = [(side + numbers)[deviates] for side, deviates in zip((a, b), deviating, strict=True)]
        in_use = np.zeros(len(usual) * classes, bool)
        for labels in given:
            in_use[labels] = True
        row = np.cumsum(in_use, dtype=np.int32) - 1
        used, dtype = np.flatnonzero(in_use), _integers(len(a) + len(b))
        sides = []
        for labels, deviates in zip(given, deviating, strict=True):
            # A column holds the labels of one run, in order of the points: already the layout of a csc array.
            ends = np.concatenate([[0], np.cumsum(np.count_nonzero(deviates, axis=1))]).astype(np.int32)
            column_major = (np.ones(len(labels), dtype), row[labels], ends)
            sides.append(sparse.csc_array(column_major, shape=(len(used), len(deviates))).tocsr())
        self.a, self.b = sides
        entries = (np.ones(len(used), dtype), (used // classes, row[used]))
        self.rows = sparse.csr_array(entries, shape=(len(usual), len(used)))

    def with_usual(self, others: np.ndarray, runs: int) -> np.ndarray:
        """Append how often `runs` runs give the usual labels, (P, S), to how often they give others, (U, S)."""
        return np.concatenate([others, runs - self.rows @ others])


class PooledLabels:
    """Labels a (n, N) and b (m, N) of two settings' runs, prepared for counting in up to `draws` draws of runs.

    `varied` holds the points on which the runs are not unanimous, in chunks.
    """

    def __init__(self, a: np.ndarray, b: np.ndarray, classes: int, draws: int) -> None:
        self.n, self.m, self.points = len(a), len(b), a.shape[1]
        counts = _label_counts(a, classes) + _label_counts(b, classes)
        varied = np.flatnonzero(counts.max(axis=1) < self.n + self.m)
        size = max(1, CHUNK_VALUES // (classes * max(draws, self.n, self.m)))
        chunks = [varied[start : start + size] for start in range(0, len(varied), size)]
        self.varied = [_VariedPoints(a[:, x], b[:, x], counts[x].argmax(axis=1), classes) for x in chunks]

    def null(self, permutations: int, generator: np.random.Generator) -> np.ndarray:
        """Return the total variation of random splits of all runs into n and m, shape (permutations,).

        Were both settings one, the observed total variation would be one draw of these (derived).
        """
        n, m = self.n, self.m
        order = generator.permuted(np.tile(np.arange(n + m), (permutations, 1)), axis=1)
        first = np.zeros((permutations, n + m), _integers(n + m))
        np.put_along_axis(first, order[:, :n], 1, axis=1)
        first_a, first_b = np.ascontiguousarray(first[:, :n].T), np.ascontiguousarray(first[:, n:].T)
        gaps = np.zeros(permutations)
        for part in self.varied:
            others = np.diff(part.a.indptr) + np.diff(part.b.indptr)
            totals = part.with_usual(others.astype(part.a.dtype)[:, None], n + m)
            counts = part.with_usual(part.a @ first_a + part.b @ first_b, n)
            gaps += self._gaps(counts, totals - counts)
        return gaps / (2 * n * m * self.points)

    def resampled(self, resamples: int, generator: np.random.Generator) -> dict[str, np.ndarray]:
        """Resample the runs of both settings; return each quantity of every resample, shape (resamples,).

        A resample repeats runs, and a run never disagrees with itself: 1 - sum p*^2 is too small by (n-1)/n on top
        of the usual factor. Corrected twice, the within disagreement and the excess have the estimate itself as
        their mean over resamples (derived). The total variation has a mean above the estimate.
        """
        n, m, points = self.n, self.m, self.points
        times_a, times_b = (generator.multinomial(runs, np.full(runs, 1 / runs), resamples) for runs in (n, m))
        times_a, times_b = (np.ascontiguousarray(times.T, _integers(n + m)) for times in (times_a, times_b))
        unanimous = points - sum(part.rows.shape[0] for part in self.varied)
        same_a, same_b, same = (np.full(resamples, float(unanimous * pairs)) for pairs in (n * n, m * m, n * m))
        gaps = np.zeros(resamples)
        for part in self.varied:
            counts_a, counts_b = part.with_usual(part.a @ times_a, n), part.with_usual(part.b @ times_b, m)
            gaps += self._gaps(counts_a, counts_b)
            counts_a, counts_b = counts_a.astype(np.float64), counts_b.astype(np.float64)
            same_a += np.einsum("us,us->s", counts_a, counts_a)
            same_b += np.einsum("us,us->s", counts_b, counts_b)
            same += np.einsum("us,us->s", counts_a, counts_b)
        within_a, within_b = (
            (runs / max(runs - 1, 1)) ** 2 * (1 - pairs / (runs**2 * points))
            for runs, pairs in ((n, same_a), (m, same_b))
        )
        across = 1 - same / (n * m * points)
        excess = across - (within_a + within_b) / 2
        share = np.divide(excess, across, out=np.full(resamples, np.nan), where=across > 0)
        return {
            "total_variation": gaps / (2 * n * m * points), "within_a": within_a, "within_b": within_b,
            "across": across, "excess": excess, "excess_share": share,
        }  # fmt: skip

    def _gaps(self, counts_a: np.ndarray, counts_b: np.ndarray) -> np.ndarray:
        """Return sum |m counts_a - n counts_b| over the labels, axis 0: 2 n m N total variations."""
        n, m, common = self.n, self.m, gcd(self.n, self.m)
        if n == m:
            gaps = counts_a - counts_b
        else:
            wide = _integers(n * m // common)
            gaps = np.multiply(counts_a, m // common, dtype=wide) - np.multiply(counts_b, n // common, dtype=wide)
        return common * np.abs(gaps, out=gaps).sum(axis=0, dtype=np.int64)


def _integers(bound: int) -> np.dtype:
    """Return the smallest signed integers that hold -bound to bound; small ones are several times faster."""
    return np.min_scalar_type(-bound - 1)
