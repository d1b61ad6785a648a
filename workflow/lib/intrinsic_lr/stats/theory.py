"""Closed forms that the measurements are compared with.

Symbols: eta learning rate, lambda weight decay, lambda_e = eta lambda intrinsic learning rate, all per step; w
scale-invariant weights, R = ||w||^2, u = w / ||w||, g^ = ||w|| grad L(w) gradient at unit norm, s2 = E ||g^||^2,
gamma = R^2 / eta^2 = (effective learning rate)^-2. Time is counted in steps.

Arguments are numbers, arrays or pandas series and broadcast against each other as NumPy's do. Sources: "paper" is
Li, Lyu, Arora 2020 (arXiv:2010.02916); "derived" follows in a few lines from the update
w <- (1 - eta lambda) w - eta grad L(w).

Every training imports this module, so SciPy, which takes a quarter of a second, is imported where it is used.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

Values = Any
"""A number, a NumPy array or a pandas series; the result has the same kind."""


def intrinsic_learning_rate(lr: Values, weight_decay: Values) -> Values:
    """Return lambda_e = eta lambda, the share of the norm lost per step (paper, section 1).

    >>> intrinsic_learning_rate(lr=0.5, weight_decay=0.01)
    0.005
    """
    return lr * weight_decay


def effective_learning_rate(lr: Values, squared_norm: Values, optimiser: str = "sgd") -> Values:
    """Return the learning rate of the direction u: eta / ||w||^2, for `adam`, `adamw` and `lion` eta / ||w||.

    Under SGD the gradient shrinks as 1 / ||w||, while the size of the other optimisers' updates does not depend on
    the gradient's (paper, section 1; Kosson, Messmer, Jaggi 2024, arXiv:2305.17212).

    >>> effective_learning_rate(lr=0.5, squared_norm=4.0)
    0.125
    >>> effective_learning_rate(lr=0.5, squared_norm=4.0, optimiser="adamw")
    0.25
    """
    return lr / squared_norm if optimiser == "sgd" else lr / squared_norm**0.5


def equilibrium_effective_lr(lr: Values, weight_decay: Values, noise: Values) -> Values:
    """Return the effective learning rate at equilibrium, sqrt(2 lambda_e / s2) (paper, equation of gamma).

    `noise` is s2: the paper's trace of the gradient noise at unit norm, plus the squared mean gradient.

    >>> float(equilibrium_effective_lr(lr=0.5, weight_decay=0.01, noise=1.0))
    0.1
    """
    return np.sqrt(2.0 * intrinsic_learning_rate(lr, weight_decay) / noise)


def equilibrium_squared_norm(lr: Values, weight_decay: Values, noise: Values) -> Values:
    """Return ||w||^2 at equilibrium, sqrt(eta s2 / (2 lambda)) (paper, as `equilibrium_effective_lr`).

    >>> float(equilibrium_squared_norm(lr=0.1, weight_decay=0.05, noise=4.0))
    2.0
    """
    return np.sqrt(lr * noise / (2.0 * weight_decay))


def relaxed_gamma(t: Values, gamma_start: Values, intrinsic_lr: Values, noise: Values) -> Values:
    """Return gamma(t) of d gamma/dt = -4 lambda_e gamma + 2 s2 from gamma(0) = `gamma_start`.

    gamma_inf + (gamma_start - gamma_inf) exp(-4 lambda_e t) with gamma_inf = s2 / (2 lambda_e), in a form that
    also holds without weight decay. Source: paper, equation of gamma, solved for constant s2 (derived).
    """
    from scipy.special import exprel

    x = 4.0 * intrinsic_lr * t
    return gamma_start * np.exp(-x) + 2.0 * noise * t * exprel(-x)


def next_squared_norm(squared_norm: Values, lr: Values, weight_decay: Values, unit_grad_sq_norm: Values) -> Values:
    """Return ||w||^2 after one step without momentum: (1 - lambda_e)^2 R + eta^2 ||g^||^2 / R.

    Exact, because a scale-invariant loss has a gradient orthogonal to the weights (derived).
    """
    kept = (1.0 - intrinsic_learning_rate(lr, weight_decay)) ** 2 * squared_norm
    return kept + lr**2 * unit_grad_sq_norm / squared_norm


def norm_recursion_residual(
    before: Values, after: Values, lr: Values, weight_decay: Values, gradient_norm_sq_unit: Values
) -> Values:
    """Return |after - predicted| / after of one step's ||w||^2, with the prediction of `next_squared_norm`.

    A scale-invariant network without momentum gives rounding errors only: about 1e-7 in float32, 1e-15 in float64.
    """
    return abs(after - next_squared_norm(before, lr, weight_decay, gradient_norm_sq_unit)) / after


def angular_update(lr: Values, weight_decay: Values, momentum: Values = 0.0, nesterov: bool = False) -> Values:
    """Return the angle between successive iterates of SGD at equilibrium, in radians.

    sqrt(2 lambda_e / (1 + mu)), to leading order in lambda_e. Source: Kosson, Messmer, Jaggi 2024, Rotational
    Equilibrium (arXiv:2305.17212). With Nesterov's momentum sqrt(2 lambda_e (1 + 2 mu - 2 mu^3) / (1 + mu))
    (derived, as `adamw_angular_update`).

    >>> float(angular_update(lr=0.1, weight_decay=0.05))
    0.1
    """
    factor = 1.0 + 2.0 * momentum - 2.0 * momentum**3 if nesterov else 1.0
    return np.sqrt(2.0 * intrinsic_learning_rate(lr, weight_decay) * factor / (1.0 + momentum))


def rescaled(lr: Values, weight_decay: Values, c: Values) -> tuple[Values, Values]:
    """Return the (eta, lambda) with which weights that start c times larger follow the same functions.

    (c^2 eta, lambda / c^2) from c w_0 gives c w_t at every step, at the same lambda_e (derived).

    >>> rescaled(lr=0.1, weight_decay=0.04, c=2.0)
    (0.4, 0.01)
    """
    return c**2 * lr, weight_decay / c**2


def adamw_equilibrium_squared_norm(lr: Values, weight_decay: Values, count: Values) -> Values:
    """Return ||w||^2 of `count` weights under AdamW at equilibrium, eta C / (2 lambda).

    For gradients independent from step to step, and 1 / (1 - beta2) much shorter than 1 / lambda_e: otherwise v
    lags behind the falling norm, and ||w||^2 stays too large for many 1 / lambda_e. Each weight walks at random
    against the decay, by updates whose covariances sum to 1 whatever beta1 is. Source: Kosson, Messmer, Jaggi 2024
    (arXiv:2305.17212).

    >>> adamw_equilibrium_squared_norm(lr=0.01, weight_decay=0.5, count=100)
    1.0
    """
    return lr * count / (2.0 * weight_decay)


def adamw_relaxed_squared_norm(
    t: Values, start: Values, lr: Values, weight_decay: Values, count: Values
) -> Values:
    """Return ||w||^2 after t steps of AdamW from `start`, under the conditions of its equilibrium.

    dR/dt = -2 lambda_e R + eta^2 C: R relaxes at 2 lambda_e, where under SGD R^2 does at 4 lambda_e (derived).
    """
    rest = adamw_equilibrium_squared_norm(lr, weight_decay, count)
    return rest + (start - rest) * np.exp(-2.0 * intrinsic_learning_rate(lr, weight_decay) * t)


def adamw_angular_update(lr: Values, weight_decay: Values, beta1: Values) -> Values:
    """Return the angle of a step of AdamW at equilibrium, sqrt(2 lambda_e (1 - beta1) / (1 + beta1)), in radians.

    In general sqrt(2 lambda_e) times the root of the variance of an update over the sum of the covariances of
    updates at all lags, since the latter drives the norm and the former the angle. For a moment of independent
    gradients that share is (1 - beta1) / (1 + beta1). Source: Kosson, Messmer, Jaggi 2024 (arXiv:2305.17212).
    """
    return np.sqrt(2.0 * intrinsic_learning_rate(lr, weight_decay) * (1.0 - beta1) / (1.0 + beta1))


def adamw_update_variance(beta1: float, autocovariance: np.ndarray) -> float:
    """Return the mean square of an update of AdamW from the autocovariance r (K + 1,) of x = g / (sqrt(v) + eps).

    (1 - beta1) / (1 + beta1) (r_0 + 2 sum_k beta1^k r_k), since an update is sum_j (1 - beta1) beta1^j x_(t-j)
    (derived). beta1^K has to be small.

    >>> adamw_update_variance(0.5, np.array([3.0, 0.0]))
    1.0
    """
    lag = np.arange(len(autocovariance))
    weighted = np.where(lag == 0, 1.0, 2.0) * beta1**lag * autocovariance
    return float((1.0 - beta1) / (1.0 + beta1) * weighted.sum())


def adamw_balance(
    lr: Values, weight_decay: Values, beta1: Values, update: Values, alignment: Values = 0.0
) -> tuple[Values, Values]:
    """Return ||w||^2 of AdamW at equilibrium and the angle of a step in radians, for gradients of any kind.

    `update` is E ||u||^2 of the updates u, and `alignment` E <w, x> of the weights with the preconditioned
    gradient x = g / (sqrt(v) + eps). With alpha = 1 - lambda_e, ||w||^2 is

    eta [eta (1 + alpha beta1) update - 2 alpha (1 - beta1) alignment] / [(1 - alpha beta1) (1 - alpha^2)]

    and the angle is eta sqrt(update) / ||w||. Where x is orthogonal to the weights, the angle is that of
    `adamw_angular_update` to leading order, whatever the autocorrelation of the gradients (derived: E ||w||^2 does
    not change, and <w_t, x_(t-j)> follows from the updates since step t-j).

    >>> norm, angle = adamw_balance(lr=0.01, weight_decay=0.5, beta1=0.0, update=100.0)
    >>> round(norm, 2), round(angle, 3)
    (1.0, 0.1)
    """
    alpha = 1.0 - intrinsic_learning_rate(lr, weight_decay)
    gained = lr * (1.0 + alpha * beta1) * update - 2.0 * alpha * (1.0 - beta1) * alignment
    squared_norm = lr * gained / ((1.0 - alpha * beta1) * (1.0 - alpha**2))
    return squared_norm, lr * (update / squared_norm) ** 0.5


def lion_correlation_sum(beta1: float, beta2: float) -> float:
    """Return the sum over all lags of the correlation of Lion's updates, for independent Gaussian gradients.

    An update is the sign of x_t = (1 - beta1) g_t + beta1 (1 - beta2) sum_j beta2^(j-1) g_(t-j). Signs of Gaussian
    numbers of correlation rho correlate as (2/pi) arcsin rho, and rho_k is proportional to beta2^k (derived). The
    squared norm of C weights at equilibrium is this sum times eta C / (2 lambda).
    """
    variance = (1.0 - beta1) ** 2 + beta1**2 * (1.0 - beta2) / (1.0 + beta2)
    first = (1.0 - beta1) * beta1 * (1.0 - beta2) + beta1**2 * beta2 * (1.0 - beta2) / (1.0 + beta2)
    lags = np.arange(np.ceil(40.0 / (1.0 - beta2)))
    return float(1.0 + 4.0 / np.pi * np.arcsin(first / variance * beta2**lags).sum())


def lion_angular_update(lr: Values, weight_decay: Values, beta1: float, beta2: float) -> Values:
    """Return the angle of a step of Lion at equilibrium, in radians, as `adamw_angular_update` does.

    sqrt(2 lambda_e / S) with S of `lion_correlation_sum`, since an update has variance 1 a weight (derived).
    """
    return np.sqrt(2.0 * intrinsic_learning_rate(lr, weight_decay) / lion_correlation_sum(beta1, beta2))


def adamw_rescaled(lr: Values, weight_decay: Values, eps: Values, c: Values) -> tuple[Values, Values, Values]:
    """Return the (eta, lambda, eps) with which weights that start c times larger follow the same functions.

    (c eta, lambda / c, eps / c) from c w_0 gives c w_t at every step under AdamW, and under Lion, which has no
    eps: the gradient is divided by c and the update is not (derived). Under SGD eta goes as c^2 (`rescaled`).

    >>> adamw_rescaled(lr=0.1, weight_decay=0.04, eps=0.002, c=2.0)
    (0.2, 0.02, 0.001)
    """
    return c * lr, weight_decay / c, eps / c


def adamw_exponential(
    lr: Values, weight_decay: Values, beta1: Values, beta2: Values, t: Values
) -> tuple[Values, Values, Values]:
    """Return (eta_t, beta1', beta2') of step t, with which Adam without weight decay follows AdamW's functions.

    eta alpha^-(t+1), alpha beta1 and alpha^2 beta2 with alpha = 1 - lambda_e. With
    `m <- beta1' m + (1 - beta1) g`, `v <- beta2' v + (1 - beta2) g^2`, the bias corrections of the original betas,
    and eps alpha^t for eps, the weights are w_t / alpha^t at every step (derived).
    """
    alpha = 1.0 - intrinsic_learning_rate(lr, weight_decay)
    return lr * alpha ** -(t + 1.0), alpha * beta1, alpha**2 * beta2


def sphere_walk_cosine(intrinsic_lr: Values, delta: Values) -> Values:
    """Return E cos(w_T, w_{T+delta}) of a walk on the sphere driven by noise alone, (1 - lambda_e)^delta.

    Each step keeps the share 1 - lambda_e of the direction and adds noise orthogonal to it (derived).
    """
    return np.exp(delta * np.log1p(-intrinsic_lr))


def sphere_walk_distance(intrinsic_lr: Values, delta: Values) -> Values:
    """Return the distance at unit norm, sqrt(2 - 2 cos), of `sphere_walk_cosine` (derived)."""
    return np.sqrt(-2.0 * np.expm1(delta * np.log1p(-intrinsic_lr)))


def ou_squared_distance(delta: Values, plateau: Values, rate: Values) -> Values:
    """Return E ||w_T - w_{T+delta}||^2 of a stationary Ornstein-Uhlenbeck process.

    2 Tr[(I - (I - eta H)^delta) S] for curvature H and stationary covariance S; here for one curvature,
    plateau (1 - (1 - rate)^delta) with plateau = 2 Tr S and rate = eta H < 1 (derived).
    """
    return -plateau * np.expm1(delta * np.log1p(-rate))


def fit_ou_null(delta: ArrayLike, squared_distance: ArrayLike) -> tuple[float, float]:
    """Return (plateau, rate) of the `ou_squared_distance` that fits best: least squares of logarithms (derived).

    `delta` (n,) are lags in steps, `squared_distance` (n,) mean squared distances at these; values that are not
    finite and positive are left out, and fewer than two lags give (nan, nan). The relaxation time is bounded by
    1/30 of the shortest and 1,000 times the longest lag, where the distances did not bend and the plateau means
    nothing.
    """
    from scipy.optimize import minimize_scalar

    delta, squared_distance = np.asarray(delta, np.float64), np.asarray(squared_distance, np.float64)
    usable = np.isfinite(delta) & np.isfinite(squared_distance) & (delta > 0) & (squared_distance > 0)
    delta, logarithm = delta[usable], np.log(squared_distance[usable])
    if len(np.unique(delta)) < 2:
        return np.nan, np.nan

    def log_plateaus(log_speed: ArrayLike) -> np.ndarray:
        """Return log plateau that fits each lag by itself, given -log(1 - rate) = exp(log_speed)."""
        return logarithm - np.log(-np.expm1(-np.exp(np.expand_dims(log_speed, -1)) * delta))

    def misfit(log_speed: ArrayLike) -> np.ndarray:
        return log_plateaus(log_speed).var(axis=-1)

    # A coarse grid first, so that the refinement does not end in a local minimum.
    grid = np.linspace(np.log(1e-3 / delta.max()), np.log(30.0 / delta.min()), 64)
    best = int(np.argmin(misfit(grid)))
    bounds = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    log_speed = minimize_scalar(misfit, bounds=bounds, method="bounded", options={"xatol": 1e-9}).x
    return float(np.exp(log_plateaus(log_speed).mean())), float(-np.expm1(-np.exp(log_speed)))
