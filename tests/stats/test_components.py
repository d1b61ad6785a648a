"""Shares of disagreement between groups of runs: unbiased, calibrated on simulated truth."""

from itertools import combinations, product

import numpy as np
import pytest

from intrinsic_lr.stats import components

INITIALISATIONS, RUNS = 16, 8
GROUPS = np.repeat(np.arange(INITIALISATIONS), RUNS)


def population(points, varied, seed=0):
    """Return labels of many runs that disagree on some of the test points, most of all on a few."""
    generator = np.random.default_rng(seed)
    doubt = np.zeros(points)
    doubt[:varied] = 0.4 / np.arange(1, varied + 1)
    return (generator.random((400, points)) < doubt) * generator.integers(1, 4, (400, points))


def simulated(population, share, generator, groups=GROUPS):
    runs = population[generator.integers(len(population), size=len(groups))]
    return components.planted(runs, groups, share, generator)


def test_means_are_those_of_all_pairs_of_different_runs():
    generator = np.random.default_rng(0)
    labels, groups = generator.integers(3, size=(7, 11)), np.array([5, 5, 5, 1, 1, 9, 9])
    distances = components.label_distances(labels)
    for a, b in combinations(range(7), 2):
        assert distances[a, b] == pytest.approx((labels[a] != labels[b]).mean())
    means = components.group_means(distances, groups)
    for (row, first), (column, second) in product(enumerate((1, 5, 9)), repeat=2):
        members = [np.flatnonzero(groups == group) for group in (first, second)]
        pairs = [distances[a, b] for a, b in product(*members) if a != b]
        assert means[row, column] == pytest.approx(np.mean(pairs))
    found = components.component(means)
    assert found.within == pytest.approx(np.diag(means).mean())
    assert found.across == pytest.approx(means[np.triu_indices(3, 1)].mean())
    assert found.share == pytest.approx(found.excess / found.across)


def test_distances_of_logits_are_means_over_test_points(monkeypatch):
    logits = np.random.default_rng(0).normal(size=(4, 6, 3))
    expected = np.linalg.norm(logits[:, None] - logits[None], axis=3).mean(axis=2)
    for chunk in (1, 10**6):
        monkeypatch.setattr(components, "CHUNK_VALUES", chunk)
        assert np.allclose(components.logit_distances(logits), expected, atol=1e-5)


def test_a_group_of_one_run_has_no_distance_within():
    means = components.group_means(components.label_distances(np.array([[0], [1], [1]])), [0, 1, 1])
    assert np.isnan(means[0, 0])
    assert np.isnan(components.component(means).share)


def test_half_of_the_disagreement_may_stand_on_few_points():
    labels = np.zeros((10, 50), int)
    labels[:5, 3] = 1
    labels[0, 10:20] = 1
    assert components.half_of_disagreement(labels) == 5, (
        "25 of the 115 pairs that differ, and 9 on each of four more"
    )
    assert components.half_of_disagreement(np.zeros((3, 5), int)) == 0


def test_a_share_is_estimated_without_bias():
    generator, labels = np.random.default_rng(1), population(120, 60)
    for share in (0.0, 0.2):
        found = []
        for _ in range(60):
            distances = components.label_distances(simulated(labels, share, generator))
            found.append(components.component(components.group_means(distances, GROUPS)).share)
        assert np.mean(found) == pytest.approx(share, abs=4 * np.std(found) / np.sqrt(60))


def test_whole_initialisations_of_two_settings_are_dealt():
    generator, labels = np.random.default_rng(2), population(120, 60)
    distances = components.label_distances(simulated(labels, 0.5, generator))
    means = components.group_means(distances, GROUPS)
    settings = np.repeat([0, 1], INITIALISATIONS // 2)
    share = components.component(components.group_means(means, settings)).share
    null = components.permuted_shares(means, settings, 500, generator)
    # One setting with large differences between its initialisations: a split of these is no outlier.
    assert components.p_value(share, null) > 0.01
    by_runs = components.permuted_shares(distances, np.repeat([0, 1], len(GROUPS) // 2), 500, generator)
    assert by_runs.std() < null.std() / 2, "runs alone would take initialisations for the setting"
    drawn = components.resampled_settings(means, np.full(INITIALISATIONS, RUNS), settings, 2000, generator)
    assert drawn.mean() == pytest.approx(share, abs=4 * drawn.std() / np.sqrt(2000) + 0.002)


def test_the_detectable_share_is_found_as_often_as_it_says():
    generator, labels = np.random.default_rng(3), population(120, 60)
    study = simulated(labels, 0.0, generator)
    null = components.permuted_shares(components.label_distances(study), GROUPS, 300, generator)
    critical = np.quantile(null, 0.95)

    def is_found(labels):
        means = components.group_means(components.label_distances(labels), GROUPS)
        return components.component(means).share > critical

    share = components.detectable_share(study, GROUPS, is_found, 0.9, generator)
    found = sum(is_found(simulated(labels, share, generator)) for _ in range(100))
    assert 0.8 <= found / 100 <= 0.99
    unanimous = np.zeros((4, 3), int)
    assert np.isnan(components.detectable_share(unanimous, [0, 0, 1, 1], is_found, 0.9, generator))


def calibration(share, studies, resamples, seed, varied):
    """Return how often the interval covers a share, and how often the test rejects that there is none."""
    generator, labels = np.random.default_rng(seed), population(120, varied)
    covered = rejected = 0
    for _ in range(studies):
        distances = components.label_distances(simulated(labels, share, generator))
        means = components.group_means(distances, GROUPS)
        found, sizes = components.component(means).share, np.full(INITIALISATIONS, RUNS)
        drawn = components.resampled_groups(means, sizes, resamples, generator)
        low, high = components.group_interval(found, drawn, sizes, 0.95)
        covered += low <= share <= high
        null = components.permuted_shares(distances, GROUPS, resamples, generator)
        rejected += components.p_value(found, null) <= 0.05
    return covered / studies, rejected / studies


def test_interval_and_test_are_calibrated():
    covered, rejected = calibration(0.0, 100, 99, 4, 60)
    assert covered >= 0.87
    assert rejected <= 0.12
    assert calibration(0.1, 100, 99, 5, 60)[0] >= 0.87


@pytest.mark.long
@pytest.mark.parametrize("varied", [20, 120])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.03, 0.1, 0.3])
def test_coverage_and_size_at_the_default_studys_sizes(share, varied):
    covered, rejected = calibration(share, 1500, 199, 6, varied)
    assert 0.92 <= covered <= 0.98
    if share == 0:
        assert 0.03 <= rejected <= 0.07
