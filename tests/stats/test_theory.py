import numpy as np
import pandas as pd
import pytest
import torch
from scipy.integrate import solve_ivp

from intrinsic_lr.stats import theory
from intrinsic_lr.stats.lags import simulate_ou

LR, WEIGHT_DECAY, NOISE = 0.3, 0.02, 5.0
INTRINSIC_LR = LR * WEIGHT_DECAY


def loss(weights, target):
    """Return a scale-invariant loss: squared distance of the direction from a target."""
    return ((weights / weights.norm() - target) ** 2).sum()


def gradient(weights, target):
    weights = weights.clone().requires_grad_()
    return torch.autograd.grad(loss(weights, target), weights)[0]


def random_steps(lr, weight_decay, start, targets):
    """Return the iterates of plain SGD on `loss`, one target a step."""
    iterates = [start]
    for target in targets:
        w = iterates[-1]
        iterates.append((1 - lr * weight_decay) * w - lr * gradient(w, target))
    return iterates


@pytest.fixture
def targets():
    return torch.randn(20, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def start():
    return torch.randn(6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-14), (torch.float32, 1e-5)])
def test_norm_recursion_is_exact_for_a_scale_invariant_loss(targets, start, dtype, tolerance):
    iterates = random_steps(LR, WEIGHT_DECAY, start.to(dtype), targets.to(dtype))
    for w, after, target in zip(iterates, iterates[1:], targets.to(dtype), strict=False):
        unit_gradient = (w.norm() * gradient(w, target)).square().sum()
        norms = w.square().sum(), after.square().sum()
        assert theory.norm_recursion_residual(*norms, LR, WEIGHT_DECAY, unit_gradient) < tolerance
        assert theory.norm_recursion_residual(*norms, LR, 2 * WEIGHT_DECAY, unit_gradient) > 1e-3


def test_rescaled_rates_give_rescaled_iterates(targets, start):
    c = 3.7
    lr, weight_decay = theory.rescaled(LR, WEIGHT_DECAY, c)
    assert lr * weight_decay == pytest.approx(INTRINSIC_LR, rel=1e-14)
    plain = random_steps(LR, WEIGHT_DECAY, start, targets)[-1]
    scaled = random_steps(lr, weight_decay, c * start, targets)[-1]
    torch.testing.assert_close(scaled, c * plain, rtol=1e-11, atol=0.0)


def test_gamma_solves_its_differential_equation():
    t = np.linspace(0.0, 300.0, 20)
    solution = solve_ivp(
        lambda _, g: -4 * INTRINSIC_LR * g + 2 * NOISE, (0, 300), [40.0], t_eval=t, rtol=1e-10, atol=1e-10
    )
    np.testing.assert_allclose(theory.relaxed_gamma(t, 40.0, INTRINSIC_LR, NOISE), solution.y[0], rtol=1e-8)


def test_gamma_grows_linearly_without_weight_decay_and_ends_at_the_equilibrium_with_it():
    assert theory.relaxed_gamma(7.0, 40.0, 0.0, NOISE) == pytest.approx(40.0 + 2 * NOISE * 7.0)
    equilibrium = theory.equilibrium_effective_lr(LR, WEIGHT_DECAY, NOISE)
    assert theory.relaxed_gamma(1e4, 1.0, INTRINSIC_LR, NOISE) == pytest.approx(equilibrium**-2)
    norm = theory.equilibrium_squared_norm(LR, WEIGHT_DECAY, NOISE)
    assert theory.effective_learning_rate(LR, norm) == pytest.approx(equilibrium)


def test_equilibrium_is_the_fixed_point_of_the_norm_recursion():
    lr, weight_decay = 0.1, 1e-4
    equilibrium = theory.equilibrium_squared_norm(lr, weight_decay, NOISE)
    # The closed form leaves out lambda_e^2, hence the tolerance.
    assert theory.next_squared_norm(equilibrium, lr, weight_decay, NOISE) == pytest.approx(equilibrium, rel=1e-8)
    assert theory.next_squared_norm(1.1 * equilibrium, lr, weight_decay, NOISE) < 1.1 * equilibrium


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_angular_update_of_simulated_noise_walks(momentum):
    """PyTorch's SGD on random gradients of one unit-norm length, orthogonal to the weights, to equilibrium."""
    generator = torch.Generator().manual_seed(3)
    lr, weight_decay, size = 0.5, 4e-3, 3000
    w = torch.randn(size, dtype=torch.float64, generator=generator)
    w.requires_grad_()
    optimiser = torch.optim.SGD([w], lr=lr, momentum=momentum, weight_decay=weight_decay)
    angles = []
    for _ in range(2500):
        direction = w.detach() / w.detach().norm()
        noise = torch.randn(size, dtype=torch.float64, generator=generator)
        noise -= (noise @ direction) * direction
        w.grad = noise / w.detach().norm()
        optimiser.step()
        angles.append(torch.arccos(direction @ w.detach() / w.detach().norm()).item())
    assert np.mean(angles[1500:]) == pytest.approx(theory.angular_update(lr, weight_decay, momentum), rel=0.02)


def test_sphere_walk_at_known_lags():
    assert theory.sphere_walk_cosine(0.25, np.array([0, 1, 2])) == pytest.approx([1.0, 0.75, 0.5625])
    assert theory.sphere_walk_distance(0.25, np.array([0, 1, 1000])) == pytest.approx([0, 0.5**0.5, 2**0.5])
    assert theory.sphere_walk_distance(1e-18, 1) == pytest.approx((2e-18) ** 0.5)
    series = pd.Series([0.25, 0.0])
    assert theory.sphere_walk_distance(series, pd.Series([1, 5])).tolist() == pytest.approx([0.5**0.5, 0.0])


def test_fit_recovers_simulated_ou_processes_and_extrapolates():
    rate, plateau = 0.02, 36.0
    lags = np.arange(5, 301, 5)
    table = simulate_ou(np.array([0, *lags]), plateau, rate, 200, 40, np.random.default_rng(5))
    squared = (table["l2"] ** 2)[table["step"] == 0].groupby(table["delta"]).mean().to_numpy()
    fitted_plateau, fitted = theory.fit_ou_null(lags, squared)
    assert fitted_plateau == pytest.approx(plateau, rel=0.03)
    assert fitted == pytest.approx(rate, rel=0.1)
    short = lags <= 100
    extrapolated = theory.ou_squared_distance(lags, *theory.fit_ou_null(lags[short], squared[short]))
    np.testing.assert_allclose(extrapolated, squared, rtol=0.1)


@pytest.mark.parametrize("rate", [1e-5, 1e-3, 0.1, 0.9])
def test_fit_is_exact_on_exact_data(rate):
    lags = np.array([1.0, 2.0, 3.0]) / rate / 5
    plateau, fitted = theory.fit_ou_null(lags, theory.ou_squared_distance(lags, 1e-7, rate))
    assert (plateau, fitted) == pytest.approx((1e-7, rate), rel=1e-5)


def test_fit_of_distances_that_do_not_bend_keeps_their_slope_or_their_height():
    plateau, rate = theory.fit_ou_null([10, 20, 30], [4.0, 4.0, 4.0])
    assert theory.ou_squared_distance(10, plateau, rate) == pytest.approx(4.0)
    lags = np.arange(100.0, 1001.0, 100.0)
    plateau, rate = theory.fit_ou_null(lags, 2.0 * lags)
    assert rate == pytest.approx(1e-3 / 1000, rel=1e-3)
    np.testing.assert_allclose(theory.ou_squared_distance(lags, plateau, rate), 2.0 * lags, rtol=1e-3)
    assert theory.ou_squared_distance(1e4, plateau, rate) == pytest.approx(2e4, rel=1e-2)


def test_fit_leaves_out_what_says_nothing():
    lags = np.array([0, 10, 20, 40, 80])
    squared = theory.ou_squared_distance(lags, 3.0, 0.02)
    squared[-1] = np.nan
    assert theory.fit_ou_null(lags, squared) == pytest.approx((3.0, 0.02), rel=1e-5)
    assert np.isnan(theory.fit_ou_null([10, 20], [1.0, np.nan])).all()
    assert np.isnan(theory.fit_ou_null([], [])).all()
