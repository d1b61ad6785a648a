import numpy as np
import pytest
import torch
from scipy.integrate import quad

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.stats import toy
from intrinsic_lr.stats.theory import rescaled

LR, INTRINSIC_LR = 0.3, 0.02


@pytest.fixture
def starts():
    return np.random.default_rng(0).normal(size=(5, 2))


def loss(weights):
    return weights[..., 0] ** 2 / (weights**2).sum(-1)


def gradient(weights):
    weights = torch.tensor(weights, requires_grad=True)
    return torch.autograd.grad(loss(weights).sum(), weights)[0].numpy()


def test_descent_is_the_plain_update(starts):
    weights = starts
    found = toy.descend(starts, LR, INTRINSIC_LR, 10, 5)
    for step in range(15):
        assert found.loss[step] == pytest.approx(loss(weights), rel=1e-9)
        decay = INTRINSIC_LR if step < 10 else 0.0
        weights = (1 - decay) * weights - LR * gradient(weights)
    np.testing.assert_allclose(found.last, weights, rtol=1e-9)
    assert found.mean_loss == pytest.approx(found.loss[5:10].mean(axis=0), rel=1e-12)


def test_only_the_intrinsic_rate_matters(starts):
    c = 2.0**5
    lr, weight_decay = rescaled(LR, INTRINSIC_LR / LR, c)
    one, other = toy.descend(starts, LR, INTRINSIC_LR, 300), toy.descend(c * starts, lr, lr * weight_decay, 300)
    np.testing.assert_allclose(other.loss, one.loss, rtol=1e-6)


@pytest.mark.parametrize("lr", [1e-3, 1.0, 1e3])
def test_the_two_cycle_is_exact(lr):
    start = toy.two_cycle(lr, INTRINSIC_LR)
    found = toy.descend(start, lr, INTRINSIC_LR, 1001)
    np.testing.assert_allclose(found.loss, INTRINSIC_LR / 2, rtol=1e-11)
    np.testing.assert_allclose(found.squared_norm, lr, rtol=1e-11)
    np.testing.assert_allclose(found.last, start * [-1, 1], rtol=1e-11)


def test_depth_of_the_descent_is_its_integral():
    depth, _ = quad(lambda k: -np.log(abs(1 - 2 * k)) / (2 * k), 0, 1, points=[0.5])
    assert pytest.approx(depth, rel=1e-9) == toy.DESCENT


def test_depth_of_the_descent_is_what_a_run_falls_by():
    """From far above its equilibrium, |x| falls by exp(-DESCENT / lambda_e) before it rises again."""
    rate = 0.01
    found = toy.descend([30.0, 30.0], 1.0, rate, int(5 / rate))
    assert -np.log(found.loss.min()) / 2 == pytest.approx(toy.DESCENT / rate, rel=0.05)


def test_rates_that_underflow_are_refused(starts):
    assert 1e-3 < toy.smallest_intrinsic_lr() < 5e-3
    assert 1e-2 < toy.smallest_intrinsic_lr(np.float32) < 2e-2
    with pytest.raises(InputError, match=r"intrinsic_lr.*0\.0017.*0\.001"):
        toy.descend(starts, LR, 1e-3, 10)


def test_a_collapse_is_marked_as_missing(starts):
    starts[2, 0] = 0.0
    found = toy.descend(starts, LR, INTRINSIC_LR, 50)
    assert np.isnan(found.mean_loss).tolist() == [False, False, True, False, False]
    assert np.isnan(found.last[2]).all()
    kept = toy.descend(starts, LR, 0.0, 50)
    assert kept.loss[:, 2].max() == 0
    assert np.isfinite(kept.last).all()


def test_the_underflow_is_real(monkeypatch, starts):
    """The rate that is refused does collapse: without the guard every run ends as missing."""
    monkeypatch.setattr(toy, "smallest_intrinsic_lr", lambda: 0.0)
    found = toy.descend(30 * starts, 1.0, 1e-3, 10000, keep_every=1000)
    assert np.isnan(found.loss[-1]).all()
