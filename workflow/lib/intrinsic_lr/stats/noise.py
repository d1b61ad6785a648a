"""The covariance Sigma of mini-batch gradients: its size, and over how many directions it spreads.

All estimators take the Gram matrix (n, n) of independent mini-batch gradients, which is small however many weights
there are.
"""

from typing import NamedTuple

import numpy as np
from scipy import stats


class NoiseMoments(NamedTuple):
    """Moments of the gradient noise, unbiased."""

    squared_norm: float  # mean squared norm N of a mini-batch gradient
    mean_squared_norm: float  # squared norm G of the mean gradient
    trace: float  # Tr Sigma = N - G
    trace_of_square: float  # Tr Sigma^2

    @property
    def participation_ratio(self) -> float:
        """(Tr Sigma)^2 / Tr Sigma^2: d for noise spread evenly over d directions, 1 for noise in one.

        A ratio of unbiased estimates; the square of the trace is biased by its variance, of relative order 1/n.
        """
        return self.trace**2 / self.trace_of_square if self.trace_of_square > 0 else np.nan


def noise_moments(gram: np.ndarray) -> NoiseMoments:
    """Estimate the moments from the Gram matrix (n, n) of n >= 4 independent mini-batch gradients.

    Sources: G = (n ||mean g||^2 - N) / (n - 1) and Tr Sigma = N - G, Malladi et al. 2021 (arXiv:2102.12470); the
    U-statistic of Tr Sigma^2, Chen, Zhang and Zhong 2010 (JASA 105:810), which needs no centring.
    """
    n = len(gram)
    apart = gram - np.diag(np.diag(gram))
    rows, square = apart.sum(axis=1), (apart**2).sum()
    total, chains = apart.sum(), (rows**2).sum() - square
    pairs, triples = n * (n - 1), n * (n - 1) * (n - 2)
    crossed = (total**2 - 4 * chains - 2 * square) / (triples * (n - 3))
    norm, mean = float(np.trace(gram) / n), float(total / pairs)
    return NoiseMoments(norm, mean, norm - mean, float(square / pairs - 2 * chains / triples + crossed))


def centered(gram: np.ndarray) -> np.ndarray:
    """Return the Gram matrix (n, n) after subtraction of the mean vector (derived)."""
    rows = gram.mean(axis=1)
    return gram - rows[:, None] - rows[None, :] + rows.mean()


def top_eigenvalues(gram: np.ndarray, count: int) -> np.ndarray:
    """Return the largest eigenvalues (count,) of the sample covariance, descending (derived: X X^T and X^T X)."""
    return np.linalg.eigvalsh(centered(gram))[::-1][:count] / (len(gram) - 1)


def isotropic_gram(n: int, dimension: int, generator: np.random.Generator) -> np.ndarray:
    """Draw the Gram matrix (n, n) of isotropic Gaussian vectors of unit mean squared norm."""
    if dimension < n:
        vectors = generator.standard_normal((n, dimension))
        return vectors @ vectors.T / dimension
    return stats.wishart.rvs(dimension, np.eye(n), random_state=generator) / dimension


def isotropic_top_eigenvalue(
    gram: np.ndarray, dimension: int, draws: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the top eigenvalue that isotropic noise in `dimension` directions would show with as many batches.

    Few vectors in many directions have a wide spectrum even if no direction is preferred (Marchenko and Pastur).
    The two arrays (draws,) are of Gaussian noise of the measured trace, and of noise with the measured lengths in
    uniform directions, the stricter null: a few long gradients stand out by themselves.
    """
    n = len(gram)
    trace = noise_moments(gram).trace
    lengths = np.sqrt(np.clip(np.diag(centered(gram)), 0.0, None) * n / (n - 1))
    gaussian, same_lengths = [], []
    for _ in range(draws):
        drawn = isotropic_gram(n, dimension, generator)
        gaussian.append(trace * top_eigenvalues(drawn, 1)[0])
        scale = lengths / np.sqrt(np.diag(drawn))
        same_lengths.append(top_eigenvalues(drawn * scale[:, None] * scale[None, :], 1)[0])
    return np.array(gaussian), np.array(same_lengths)
