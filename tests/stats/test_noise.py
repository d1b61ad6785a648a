"""Moments and spectra of gradient noise, on vectors whose covariance is known."""

import numpy as np
import pytest

from intrinsic_lr.stats.noise import (
    centered,
    isotropic_gram,
    isotropic_top_eigenvalue,
    noise_moments,
    top_eigenvalues,
)

SPECTRUM = np.array([9.0, 4.0, 1.0, 1.0, 0.5, 0.25])
MEAN = np.array([1.0, -2.0, 0.0, 3.0, 0.5, 0.0])


def gram(n, generator, spectrum=SPECTRUM, mean=MEAN):
    vectors = generator.standard_normal((n, len(spectrum))) * np.sqrt(spectrum) + mean
    return vectors @ vectors.T


def test_the_moments_are_unbiased():
    generator = np.random.default_rng(0)
    found = [noise_moments(gram(6, generator)) for _ in range(20_000)]
    expected = {
        "trace": SPECTRUM.sum(),
        "trace_of_square": (SPECTRUM**2).sum(),
        "mean_squared_norm": (MEAN**2).sum(),
        "squared_norm": (MEAN**2).sum() + SPECTRUM.sum(),
    }
    for name, truth in expected.items():
        values = np.array([getattr(moments, name) for moments in found])
        error = values.std() / len(values) ** 0.5
        assert abs(values.mean() - truth) < 4 * error, name
        assert error < 0.03 * truth, name


def test_the_trace_of_the_square_is_the_sum_over_distinct_indices():
    matrix = gram(5, np.random.default_rng(1))
    total, weight = 0.0, 0
    for i in range(5):
        for j in range(5):
            for k in range(5):
                for m in range(5):
                    if len({i, j, k, m}) == 4:
                        difference = (matrix[i, k] - matrix[i, m] - matrix[j, k] + matrix[j, m]) / 2
                        total, weight = total + difference**2, weight + 1
    assert noise_moments(matrix).trace_of_square == pytest.approx(total / weight, rel=1e-10)


@pytest.mark.parametrize("directions", [1, 5, 50])
def test_the_participation_ratio_counts_directions(directions):
    matrix = gram(400, np.random.default_rng(2), np.ones(directions), np.zeros(directions))
    assert noise_moments(matrix).participation_ratio == pytest.approx(directions, rel=0.15)


def test_top_eigenvalues_are_those_of_the_sample_covariance():
    vectors = np.random.default_rng(3).standard_normal((40, 6)) * np.sqrt(SPECTRUM) + MEAN
    expected = np.sort(np.linalg.eigvalsh(np.cov(vectors.T)))[::-1]
    np.testing.assert_allclose(top_eigenvalues(vectors @ vectors.T, 6), expected, rtol=1e-10)


def test_centring_removes_the_mean():
    vectors = np.random.default_rng(4).standard_normal((9, 4)) + 5
    expected = vectors - vectors.mean(axis=0)
    np.testing.assert_allclose(centered(vectors @ vectors.T), expected @ expected.T, atol=1e-12)


@pytest.mark.parametrize("dimension", [20, 3000])
def test_isotropic_noise_has_the_edge_of_marchenko_and_pastur(dimension):
    generator = np.random.default_rng(5)
    matrix = isotropic_gram(100, dimension, generator)
    assert np.diag(matrix).mean() == pytest.approx(1, rel=0.1)
    edge = (1 + (dimension / 100) ** 0.5) ** 2 / dimension
    assert top_eigenvalues(matrix, 1)[0] == pytest.approx(edge, rel=0.1)


def test_the_null_of_isotropic_noise_is_what_isotropic_noise_shows():
    generator = np.random.default_rng(6)
    matrix = 7.0 * isotropic_gram(60, 500, generator)
    for null in isotropic_top_eigenvalue(matrix, 500, 20, generator):
        assert null.shape == (20,)
        assert null.mean() == pytest.approx(top_eigenvalues(matrix, 1)[0], rel=0.1)


def test_only_the_stricter_null_knows_of_long_gradients():
    generator = np.random.default_rng(7)
    lengths = np.ones(60)
    lengths[:3] = 8
    matrix = isotropic_gram(60, 500, generator) * lengths[:, None] * lengths[None, :]
    gaussian, same_lengths = isotropic_top_eigenvalue(matrix, 500, 10, generator)
    top = top_eigenvalues(matrix, 1)[0]
    assert top > 3 * gaussian.mean()
    assert same_lengths.mean() == pytest.approx(top, rel=0.15)
