"""Function-space estimators against double loops, closed forms and simulated truth."""

from itertools import combinations, product

import numpy as np
import pytest
from scipy import stats

from intrinsic_lr.stats import disagreement as dis
from intrinsic_lr.stats.intervals import expanded_tails

K = 4


def draw(generator, p, runs):
    """Draw labels (runs, N) from label distributions (N, K)."""
    uniform = generator.random((runs, len(p), 1))
    return (uniform > p.cumsum(axis=1)[None, :, :-1]).sum(axis=2).astype(np.int16)


def dirichlet(generator, points):
    return generator.dirichlet(np.full(K, 0.5), points)


def permutation_null(a, b, permutations, generator):
    return dis.PooledLabels(a, b, K, permutations).null(permutations, generator)


def bootstrap_resamples(a, b, resamples, generator):
    return dis.PooledLabels(a, b, K, resamples).resampled(resamples, generator)


def row(a, b, truth, **changes):
    settings = {"permutations": 200, "bootstrap": 200, "confidence": 0.95, "seed": 1, **changes}
    return dis.compare(a, b, truth, K, **settings)


def test_label_changes_between_checkpoints():
    a = np.array([[0, 1, 2, 3], [0, 0, 0, 0]])
    b = np.array([[0, 1, 2, 3], [3, 2, 1, 0], [-1, -1, -1, -1]])
    np.testing.assert_equal(dis.label_changes(a, b), [[0, 1, np.nan], [0.75, 0.75, np.nan]])


def test_disagreement_equals_loops_over_pairs_of_runs():
    generator = np.random.default_rng(11)
    truth = generator.integers(0, K, 7)
    a, b = generator.integers(0, K, (5, 7)), generator.integers(0, K, (6, 7))
    found = dis.disagreement(a, b, truth, K)
    within = [np.mean([(x != y).mean() for x, y in combinations(runs, 2)]) for runs in (a, b)]
    across = np.mean([(x != y).mean() for x, y in product(a, b)])
    assert (found["within_a"], found["within_b"]) == pytest.approx(tuple(within))
    assert found["across"] == pytest.approx(across)
    assert found["excess"] == pytest.approx(across - np.mean(within))
    assert found["excess_share"] == pytest.approx(1 - np.mean(within) / across)
    e_a, e_b = (np.mean([(run != truth).mean() for run in runs]) for runs in (a, b))
    assert (found["error_a"], found["error_b"]) == pytest.approx((e_a, e_b))
    assert found["independent_errors"] == pytest.approx(e_a * (1 - e_b) + (1 - e_a) * e_b)
    tv = np.mean([sum(abs((a[:, x] == k).mean() - (b[:, x] == k).mean()) for k in range(K)) for x in range(7)]) / 2
    assert (found["total_variation"], found["l1"]) == pytest.approx((tv, 2 * tv))
    assert np.isnan(dis.disagreement(a[:1], b, truth, K)["excess"])


def test_the_excess_is_half_the_textbook_squared_distance_and_without_bias():
    generator = np.random.default_rng(12)
    p, q = dirichlet(generator, 30), dirichlet(generator, 30)
    spread = np.square(p - q) - p * (1 - p) / 5 - q * (1 - q) / 8
    assert dis.excess_disagreement(p, q, 6, 9) == pytest.approx(spread.sum(axis=1).mean() / 2)
    truth = np.square(p - q).sum(axis=1).mean() / 2
    for n, m in ((2, 3), (6, 9)):
        drawn = [(draw(generator, p, n), draw(generator, q, m)) for _ in range(400)]
        drawn = [tuple(dis.label_distribution(labels, K) for labels in pair) for pair in drawn]
        estimates = [dis.excess_disagreement(*pair, n, m) for pair in drawn]
        assert np.mean(estimates) == pytest.approx(truth, abs=4 * np.std(estimates) / 20)


def sparse_labels(generator, runs, points, share):
    """Draw labels most of which are the usual one of their point, some points unanimous."""
    usual = generator.integers(0, K, points)
    other = generator.integers(0, K, (runs, points))
    return np.where(generator.random((runs, points)) < share * generator.random(points) ** 4, other, usual)


@pytest.mark.parametrize(("n", "m"), [(64, 64), (63, 64), (64, 65), (200, 3), (130, 126), (400, 350)])
@pytest.mark.parametrize(("share", "chunk"), [(0.0, dis.CHUNK_VALUES), (0.5, dis.CHUNK_VALUES), (0.5, 5000)])
def test_every_count_is_that_of_plain_indicators(monkeypatch, n, m, share, chunk):
    """Whole numbers, to the last bit: small and large integers, equal and unequal sides, chunks."""
    monkeypatch.setattr(dis, "CHUNK_VALUES", chunk)
    generator = np.random.default_rng(n)
    a, b = np.split(sparse_labels(generator, n + m, 40, share).astype(np.int16), [n])
    indicators = [(side[:, :, None] == np.arange(K)).astype(float) for side in (a, b)]
    pooled = np.concatenate(indicators)
    order = np.random.default_rng(1).permuted(np.tile(np.arange(n + m), (25, 1)), axis=1)
    gaps = [np.abs(m * pooled[s[:n]].sum(axis=0) - n * pooled[s[n:]].sum(axis=0)).sum() for s in order]
    null = permutation_null(a, b, 25, np.random.default_rng(1))
    assert np.array_equal(null, np.array(gaps) / (2 * n * m * 40))

    drawn = bootstrap_resamples(a, b, 25, np.random.default_rng(2))
    repeat = np.random.default_rng(2)
    times = [repeat.multinomial(runs, np.full(runs, 1 / runs), 25) for runs in (n, m)]
    counts_a, counts_b = (np.einsum("sr,rxk->sxk", t, side) for t, side in zip(times, indicators, strict=True))
    gaps = np.abs(m * counts_a - n * counts_b).sum(axis=(1, 2))
    assert np.array_equal(drawn["total_variation"], gaps / (2 * n * m * 40))
    assert np.array_equal(drawn["across"], 1 - (counts_a * counts_b).sum(axis=(1, 2)) / (n * m * 40))
    for name, runs, counts in (("within_a", n, counts_a), ("within_b", m, counts_b)):
        within = 1 - np.square(counts).sum(axis=(1, 2)) / (runs**2 * 40)
        assert np.array_equal(drawn[name], (runs / (runs - 1)) ** 2 * within)
    assert np.array_equal(drawn["excess"], drawn["across"] - (drawn["within_a"] + drawn["within_b"]) / 2)


def test_unanimous_points_dilute_every_quantity():
    generator = np.random.default_rng(16)
    a, b = draw(generator, dirichlet(generator, 20), 30), draw(generator, dirichlet(generator, 20), 25)
    with_same = [np.hstack([side, np.full((len(side), 60), 2)]) for side in (a, b)]
    found, among = row(a, b, np.full(20, 2)), row(*with_same, np.full(80, 2))
    for name in ("total_variation", "null_mean", "null_q95", "within_a", "across", "across_low", "excess_high"):
        assert among[name] == pytest.approx(found[name] / 4), name
    for name in ("p_value", "excess_share", "excess_share_low", "excess_share_high"):
        assert among[name] == pytest.approx(found[name]), name


def test_runs_that_all_agree_have_no_disagreement_and_no_null():
    labels = np.tile(np.arange(9) % K, (5, 1))
    found = row(labels, labels, labels[0])
    zero = (
        "total_variation",
        "total_variation_high",
        "null_mean",
        "null_q95",
        "within_a",
        "across",
        "excess_high",
    )
    assert [found[name] for name in zero] == [0] * 7
    assert found["p_value"] == 1
    assert np.isnan(found["excess_share"])


@pytest.mark.parametrize(("n", "m"), [(500, 500), (97, 61)])
def test_splits_that_tie_with_the_data_count(n, m):
    """One undecided point among unanimous ones: whole numbers decide what ties."""
    for seed in range(10):
        generator = np.random.default_rng(seed)
        pooled = np.zeros((n + m, 3), int)
        pooled[:, 0] = generator.integers(0, 2, n + m)
        splits = np.random.SeedSequence(seed).spawn(2)[0]
        order = np.random.default_rng(splits).permuted(np.tile(np.arange(n + m), (199, 1)), axis=1)
        first = pooled[order[:, :n], 0].sum(axis=1)
        gaps = np.abs(m * first - n * (pooled[:, 0].sum() - first))
        null = permutation_null(pooled[:n], pooled[n:], 199, np.random.default_rng(splits))
        np.testing.assert_allclose(null, gaps / (n * m * 3), rtol=1e-12)
        observed = abs(m * pooled[:n, 0].sum() - n * pooled[n:, 0].sum())
        found = row(pooled[:n], pooled[n:], np.zeros(3), permutations=199, bootstrap=2, seed=seed)
        assert found["p_value"] == pytest.approx((1 + (gaps >= observed).sum()) / 200)


def test_p_values_are_uniform_under_the_null():
    generator = np.random.default_rng(4)
    p = dirichlet(generator, 20)
    values = [
        row(draw(generator, p, 8), draw(generator, p, 8), np.zeros(20), permutations=99, bootstrap=2, seed=i)[
            "p_value"
        ]
        for i in range(300)
    ]
    assert stats.kstest(values, "uniform").pvalue > 0.01


def test_paired_sides_seem_alike_and_are_not_judged():
    """Run k of both sides starts at weights of its own, which decide half of its labels."""
    generator = np.random.default_rng(8)
    p, truth = dirichlet(generator, 20), np.zeros(20)
    values = []
    for seed in range(100):
        common, rest = draw(generator, p, 8), [draw(generator, p, 8) for _ in range(2)]
        sides = [np.where(np.arange(20) < 10, common, side) for side in rest]
        values.append(row(*sides, truth, permutations=99, bootstrap=2, seed=seed)["p_value"])
    assert np.mean(values) > 0.6
    found = row(*sides, truth, paired=True)
    assert all(np.isnan(found[name]) for name in dis.JUDGED)
    judged = row(*sides, truth)
    assert {name: found[name] for name in dis.OF_ONE_SIDE} == {name: judged[name] for name in dis.OF_ONE_SIDE}


def test_difference_is_found_and_its_size_recovered():
    generator = np.random.default_rng(5)
    p, q = dirichlet(generator, 200), dirichlet(generator, 200)
    found = row(draw(generator, p, 100), draw(generator, q, 100), np.zeros(200))
    truth = np.square(p - q).sum(axis=1).mean() / 2
    assert found["p_value"] == pytest.approx(1 / 201)
    assert found["excess_low"] < truth < found["excess_high"]
    assert found["total_variation_low"] < dis.total_variation(p, q) < found["total_variation_high"]
    same = row(draw(generator, p, 100), draw(generator, p, 100), np.zeros(200))
    assert same["p_value"] > 0.01
    assert same["excess_low"] < 0 < same["excess_high"]


@pytest.mark.parametrize("mix", [0.0, 0.1, 1.0])
def test_rows_hold_the_true_total_variation(mix):
    generator = np.random.default_rng(15)
    p = dirichlet(generator, 100)
    q = (1 - mix) * p + mix * dirichlet(generator, 100)
    for seed in range(20):
        a, b = draw(generator, p, 30), draw(generator, q, 30)
        found = row(a, b, np.zeros(100), permutations=50, bootstrap=50, seed=seed)
        assert found["total_variation_low"] <= dis.total_variation(p, q) <= found["total_variation_high"]
        assert found["total_variation_low"] <= found["total_variation"] <= found["total_variation_high"]


@pytest.mark.parametrize("mix", [0.0, 0.1, 1.0])
def test_intervals_of_total_variation_cover_its_expectation_and_hold_the_estimate(mix):
    generator = np.random.default_rng(13)
    p = dirichlet(generator, 100)
    q = (1 - mix) * p + mix * dirichlet(generator, 100)

    def sample():
        a, b = draw(generator, p, 30), draw(generator, q, 30)
        return a, b, dis.total_variation(dis.label_distribution(a, K), dis.label_distribution(b, K))

    expectation = np.mean([sample()[2] for _ in range(300)])
    covered = {"total_variation": 0, "excess": 0, "within_a": 0, "within_b": 0, "across": 0, "excess_share": 0}
    truth = {
        "total_variation": expectation,
        "excess": np.square(p - q).sum(axis=1).mean() / 2,
        "within_a": 1 - np.square(p).sum(axis=1).mean(),
        "within_b": 1 - np.square(q).sum(axis=1).mean(),
        "across": 1 - (p * q).sum(axis=1).mean(),
    }
    truth["excess_share"] = truth["excess"] / truth["across"]
    for _ in range(60):
        a, b, estimate = sample()
        drawn = bootstrap_resamples(a, b, 100, generator)
        intervals = dis.percentile_intervals(drawn, estimate, 0.95, 30)
        assert intervals["total_variation"][0] <= estimate <= intervals["total_variation"][1]
        for name, (low, high) in intervals.items():
            covered[name] += low <= truth[name] <= high
    # 50 of 60 or fewer happen once in 1,000 at coverage 0.95; near zero the intervals are wide on purpose.
    assert min(covered.values()) > 50, covered


def test_resamples_have_the_estimate_as_their_mean():
    generator = np.random.default_rng(7)
    a, b = draw(generator, dirichlet(generator, 30), 10), draw(generator, dirichlet(generator, 30), 12)
    drawn = bootstrap_resamples(a, b, 4000, generator)
    estimate = dis.excess_disagreement(dis.label_distribution(a, K), dis.label_distribution(b, K), 10, 12)
    assert drawn["excess"].mean() == pytest.approx(estimate, abs=4 * drawn["excess"].std() / 4000**0.5)
    within = dis.within_disagreement(dis.label_distribution(a, K), 10)
    assert drawn["within_a"].mean() == pytest.approx(within, abs=4 * drawn["within_a"].std() / 4000**0.5)


def test_runs_that_are_not_finite_are_left_out_and_counted():
    generator = np.random.default_rng(8)
    a, b = generator.integers(0, K, (6, 9)), generator.integers(0, K, (5, 9))
    lost = np.concatenate([a, np.full((2, 9), -1)])
    found, clean = row(lost, b, np.zeros(9)), row(a, b, np.zeros(9))
    assert (found["missing_a"], found["missing_b"], found["replicates_a"]) == (2, 0, 6)
    assert found | {"missing_a": 0} == clean
    assert row(a, b, np.zeros(9), seed=2)["null_mean"] != clean["null_mean"]
    empty = row(np.full((3, 9), -1), b, np.zeros(9))
    assert np.isnan(empty["total_variation"])
    assert list(empty) == list(clean)
    assert (empty["permutations"], empty["bootstrap"], empty["missing_a"]) == (200, 200, 3)


def test_intervals_of_few_runs_have_expanded_levels():
    a, b = np.random.default_rng(0).integers(0, 3, (2, 5, 40))
    drawn = bootstrap_resamples(a, b, 500, np.random.default_rng(1))
    found = dis.percentile_intervals(drawn, 0.5, 0.95, 5)["across"]
    assert found == pytest.approx(np.quantile(drawn["across"], expanded_tails(0.95, 5)))
    assert found[0] < np.quantile(drawn["across"], 0.025)
