"""Function space: how often runs disagree, and how far apart two settings' predictions are.

The function that a setting learns is random: at a test point x it is the distribution p_x(k) of the label
predicted over runs. Two settings with distributions p and q are compared by their total variation, and by
how often two runs disagree within each and across them: the across disagreement exceeds the mean of the
within ones by half the squared distance ||p - q||^2 (derived). Independent runs of one setting disagree
about as often as they err, so the raw disagreement says nothing by itself.

Imports no torch. Arrays of labels are (runs, points); -1 marks a run that was not finite.
"""

import numpy as np

CHUNK_VALUES = 20_000_000
"""Bound on the float32 values of an intermediate array: test points are taken in chunks that keep to it."""


def one_hot(labels: np.ndarray, classes: int) -> np.ndarray:
    """Return labels (n, N) as indicators (n, N * K), float32."""
    return (labels[:, :, None] == np.arange(classes)).astype(np.float32).reshape(len(labels), -1)


def label_distribution(labels: np.ndarray, classes: int) -> np.ndarray:
    """Return p_x(k), shape (N, K): the fraction of runs that give test point x the label k."""
    return one_hot(labels, classes).mean(axis=0, dtype=np.float64).reshape(-1, classes)


def l1_distance(p: np.ndarray, q: np.ndarray) -> float:
    """Return mean_x sum_k |p_x(k) - q_x(k)| of two label distributions (N, K)."""
    return float(np.abs(p - q).sum(axis=1).mean())


def total_variation(p: np.ndarray, q: np.ndarray) -> float:
    """Return the total variation of two label distributions (N, K), half their l1 distance, mean over points."""
    return l1_distance(p, q) / 2


def within_disagreement(p: np.ndarray, n: int) -> float:
    """Return how often two different runs disagree, mean over points and over all pairs of n runs.

    n/(n-1) (1 - sum_k p^2), unbiased (derived). NaN for a single run.
    """
    return float(n / (n - 1) * (1 - np.square(p).sum(axis=1)).mean()) if n > 1 else float("nan")


def across_disagreement(p: np.ndarray, q: np.ndarray) -> float:
    """Return how often a run of one setting and a run of the other disagree, 1 - sum_k p q, mean over points."""
    return float((1 - (p * q).sum(axis=1)).mean())


def excess_disagreement(p: np.ndarray, q: np.ndarray, n: int, m: int) -> float:
    """Return the across disagreement less the mean of the within ones: half of ||p - q||^2, unbiased (derived)."""
    return across_disagreement(p, q) - (within_disagreement(p, n) + within_disagreement(q, m)) / 2


def permutation_null(
    a: np.ndarray, b: np.ndarray, classes: int, permutations: int, generator: np.random.Generator
) -> np.ndarray:
    """Return the total variation of random splits of the pooled runs, shape (permutations,).

    Were both settings one, their runs would be exchangeable, and the observed total variation one draw of these.

    Args:
        a: predicted labels (n, N).
        b: predicted labels (m, N).
        classes: number of labels K.
        permutations: number of splits.
        generator: source of the splits.
    """
    pooled = np.concatenate([a, b])
    n, m = len(a), len(b)
    order = generator.permuted(np.tile(np.arange(n + m), (permutations, 1)), axis=1)
    first = np.zeros((permutations, n + m), np.float32)
    np.put_along_axis(first, order[:, :n], 1.0, axis=1)
    null = np.zeros(permutations)
    for points in _chunks(pooled.shape[1], classes * max(permutations, n + m)):
        indicators = one_hot(pooled[:, points], classes)
        # Counts of at most some thousand runs are exact in float32.
        counts = first @ indicators
        rest = indicators.sum(axis=0) - counts
        null += np.abs(counts / n - rest / m).sum(axis=1, dtype=np.float64)
    return null / 2 / pooled.shape[1]


def bootstrap_resamples(
    a: np.ndarray, b: np.ndarray, classes: int, resamples: int, generator: np.random.Generator
) -> dict[str, np.ndarray]:
    """Resample the runs of both settings; return `total_variation`, `across` and `excess` of each resample.

    A resample repeats runs, and a run never disagrees with itself: 1 - sum p*^2 is too small by (n-1)/n on top
    of the usual factor. Corrected twice, the within disagreement and the excess have the estimate itself as
    their mean over resamples (derived).
    """
    n, m = len(a), len(b)
    drawn_a = generator.multinomial(n, np.full(n, 1 / n), resamples).astype(np.float32) / n
    drawn_b = generator.multinomial(m, np.full(m, 1 / m), resamples).astype(np.float32) / m
    sums = {name: np.zeros(resamples) for name in ("l1", "pp", "qq", "pq")}
    for points in _chunks(a.shape[1], classes * max(resamples, n, m)):
        p = drawn_a @ one_hot(a[:, points], classes)
        q = drawn_b @ one_hot(b[:, points], classes)
        sums["l1"] += np.abs(p - q).sum(axis=1, dtype=np.float64)
        for name, product in (("pp", p * p), ("qq", q * q), ("pq", p * q)):
            sums[name] += product.sum(axis=1, dtype=np.float64)
    points = a.shape[1]
    within = [
        (count / max(count - 1, 1)) ** 2 * (1 - sums[name] / points) for count, name in ((n, "pp"), (m, "qq"))
    ]
    across = 1 - sums["pq"] / points
    return {"total_variation": sums["l1"] / 2 / points, "across": across, "excess": across - sum(within) / 2}


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
) -> dict[str, float | int]:
    """Compare two settings at one checkpoint: one row of the disagreement table.

    Intervals come from resampling runs. Those of the across and the excess disagreement are percentile
    intervals; that of the total variation is the basic (reflected) one, because resampling adds noise that
    a distance can only grow by, as sampling already did to the estimate. The p-value is that of the
    permutation test, (1 + splits at least as far apart) / (1 + splits).

    Args:
        labels_a: predicted labels (n, N) of the first setting's runs; runs with a -1 are left out.
        labels_b: predicted labels (m, N) of the second's.
        true_labels: (N,).
        classes: number of labels K.
        permutations: splits behind the null.
        bootstrap: resamples behind the intervals.
        confidence: coverage of the intervals, and quantile of the null in `null_q95` is 0.95.
        seed: of the splits and resamples.
    """
    a, b = (labels[(labels >= 0).all(axis=1)] for labels in (labels_a, labels_b))
    row = {
        "replicates_a": len(a),
        "replicates_b": len(b),
        "missing_a": len(labels_a) - len(a),
        "missing_b": len(labels_b) - len(b),
    }
    if min(len(a), len(b)) < 2:
        return row | dict.fromkeys(_QUANTITIES, float("nan"))
    p, q = label_distribution(a, classes), label_distribution(b, classes)
    splits, resamples = (np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(2))
    observed = total_variation(p, q)
    null = permutation_null(a, b, classes, permutations, splits)
    drawn = bootstrap_resamples(a, b, classes, bootstrap, resamples)
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    low, high = 2 * observed - np.quantile(drawn["total_variation"], tails)[::-1]
    error_a, error_b = (float((labels != true_labels).mean()) for labels in (a, b))
    # Rounding must not decide whether a split that ties with the data counts.
    as_far = np.count_nonzero(null >= observed * (1 - 1e-6))
    values = (
        2 * observed,
        observed,
        max(low, 0.0),
        max(high, 0.0),
        null.mean(),
        np.quantile(null, 0.95),
        (1 + as_far) / (1 + permutations),
        within_disagreement(p, len(a)),
        within_disagreement(q, len(b)),
        across_disagreement(p, q),
        *np.quantile(drawn["across"], tails),
        excess_disagreement(p, q, len(a), len(b)),
        *np.quantile(drawn["excess"], tails),
        error_a,
        error_b,
        error_a * (1 - error_b) + error_b * (1 - error_a),
    )
    return (
        row
        | dict(zip(_QUANTITIES, map(float, values), strict=True))
        | {
            "permutations": permutations,
            "bootstrap": bootstrap,
        }
    )


_QUANTITIES = (
    "l1",
    "total_variation",
    "total_variation_low",
    "total_variation_high",
    "null_mean",
    "null_q95",
    "p_value",
    "within_a",
    "within_b",
    "across",
    "across_low",
    "across_high",
    "excess",
    "excess_low",
    "excess_high",
    "error_a",
    "error_b",
    "independent_errors",
)


def _chunks(points: int, values_per_point: int):
    size = max(1, CHUNK_VALUES // values_per_point)
    return (slice(start, start + size) for start in range(0, points, size))
