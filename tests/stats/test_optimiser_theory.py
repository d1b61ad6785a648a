"""Equilibrium, relaxation and exact identities of the optimisers, against their own steps in float64."""

import math

import pytest
import torch

from intrinsic_lr.models import optimisers
from intrinsic_lr.models.optimisers import Rates
from intrinsic_lr.stats import theory
from intrinsic_lr.stats.lags import autocovariance

COUNT = 2000
LR, DECAY = 0.001, 0.5
INTRINSIC_LR = LR * DECAY
STEPS, SETTLED = 5000, 1000
BUFFERS = ("momentum", "first_moment", "second_moment")
ADAM = {"beta1": 0.9, "beta2": 0.98, "eps": 0.0}


def walk(update, start, steps, options, lr=LR, weight_decay=DECAY):
    """Yield the weights after each step on gradients of pure noise, of a size that goes as 1 / ||w||."""
    generator = torch.Generator().manual_seed(0)
    weights = start.clone()
    buffers = {name: [torch.zeros_like(weights)] for name in BUFFERS}
    yield weights.clone()
    for step in range(steps):
        noise = torch.randn(COUNT, generator=generator, dtype=torch.float64) / weights.norm()
        update([weights], [noise], buffers, Rates(step + 1, lr, weight_decay), **options)
        yield weights.clone()


def start_at(squared_norm):
    direction = torch.randn(COUNT, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return direction * (squared_norm**0.5 / direction.norm())


def angle_and_norm(iterates):
    """Return mean angle of a step and mean squared norm from step `SETTLED` on."""
    kept = torch.stack(list(iterates)[SETTLED:])
    norms = kept.norm(dim=1)
    cosines = (kept[1:] * kept[:-1]).sum(dim=1) / (norms[1:] * norms[:-1])
    return float(cosines.clamp(max=1.0).acos().mean()), float(norms.square().mean())


@pytest.mark.parametrize("beta1", [0.0, 0.9])
def test_equilibrium_of_adamw(beta1):
    expected = theory.adamw_equilibrium_squared_norm(LR, DECAY, COUNT)
    angle, norm = angle_and_norm(walk(optimisers.adamw, start_at(expected), STEPS, {**ADAM, "beta1": beta1}))
    assert angle == pytest.approx(theory.adamw_angular_update(LR, DECAY, beta1), rel=0.02)
    assert norm == pytest.approx(expected, rel=0.04)
    law_of_sgd = theory.angular_update(LR, DECAY, beta1)
    assert beta1 == 0 or angle != pytest.approx(law_of_sgd, rel=0.5), "another law, or this test could not fail"


def correlated_walk(correlation, outward):
    """Return weights (T, C) and preconditioned gradients of AdamW whose gradients are an AR(1) process.

    They are orthogonal to the weights, but for the share `outward` of their size, by which they push away from 0.
    """
    generator = torch.Generator().manual_seed(0)
    rest, product = theory.adamw_equilibrium_squared_norm(LR, DECAY, COUNT), correlation * ADAM["beta1"]
    weights = start_at(rest * (1 + product) / (1 - product))
    buffers = {name: [torch.zeros_like(weights)] for name in BUFFERS}
    noise, iterates, preconditioned = torch.zeros_like(weights), [], []
    for step in range(1, STEPS + 1):
        fresh = torch.randn(COUNT, generator=generator, dtype=torch.float64)
        noise = correlation * noise + (1 - correlation**2) ** 0.5 * fresh
        direction = weights / weights.norm()
        grad = (noise - (noise @ direction) * direction - outward * COUNT**0.5 * direction) / weights.norm()
        iterates.append(weights.clone())
        optimisers.adamw([weights], [grad], buffers, Rates(step, LR, DECAY), **ADAM)
        corrected = buffers["second_moment"][0] / (1 - ADAM["beta2"] ** step)
        preconditioned.append(grad / corrected.sqrt())
    return torch.stack(iterates[SETTLED:]), torch.stack(preconditioned[SETTLED:])


@pytest.mark.parametrize(("correlation", "outward"), [(0.5, 0.0), (-0.5, 0.0), (0.5, 0.01)])
def test_balance_of_adamw_for_gradients_that_are_correlated(correlation, outward):
    weights, gradients = correlated_walk(correlation, outward)
    norms = weights.norm(dim=1)
    cosines = (weights[1:] * weights[:-1]).sum(dim=1) / (norms[1:] * norms[:-1])
    angle, norm = float(cosines.clamp(max=1.0).acos().mean()), float(norms.square().mean())
    beta1 = ADAM["beta1"]
    update = theory.adamw_update_variance(beta1, autocovariance(gradients[-1000:].numpy(), 60))
    alignment = float((weights * gradients).sum(dim=1).mean())
    expected_norm, expected_angle = theory.adamw_balance(LR, DECAY, beta1, update, alignment)
    assert norm == pytest.approx(expected_norm, rel=0.05)
    assert angle == pytest.approx(expected_angle, rel=0.03)
    independent = theory.adamw_equilibrium_squared_norm(LR, DECAY, COUNT)
    assert norm != pytest.approx(independent, rel=0.3), "the correlation changes the norm"
    as_if = theory.adamw_angular_update(LR, DECAY, beta1)
    assert (angle == pytest.approx(as_if, rel=0.03)) == (outward == 0), "but the angle only if not orthogonal"


@pytest.mark.parametrize(("beta1", "beta2"), [(0.9, 0.95), (0.5, 0.9)])
def test_equilibrium_of_lion(beta1, beta2):
    total = theory.lion_correlation_sum(beta1, beta2)
    expected = total * LR * COUNT / (2 * DECAY)
    options = {"beta1": beta1, "beta2": beta2}
    angle, norm = angle_and_norm(walk(optimisers.lion, start_at(expected), STEPS, options))
    assert angle == pytest.approx(theory.lion_angular_update(LR, DECAY, beta1, beta2), rel=0.02)
    assert norm == pytest.approx(expected, rel=0.04)
    linear = math.sqrt(math.pi / 2 * ((1 - beta1) ** 2 + beta1**2 * (1 - beta2) / (1 + beta2)))
    assert total**-0.5 == pytest.approx(linear, rel=0.2), "the arcsine taken as linear"


@pytest.mark.parametrize("nesterov", [False, True])
def test_angle_of_sgd_with_momentum(nesterov):
    momentum, lr, decay = 0.9, 0.1, 0.004
    resting = theory.equilibrium_squared_norm(lr / (1 - momentum), decay, COUNT)
    options = {"momentum": momentum, "nesterov": nesterov}
    angle, _ = angle_and_norm(walk(optimisers.sgd, start_at(resting), STEPS, options, lr, decay))
    assert angle == pytest.approx(theory.angular_update(lr, decay, momentum, nesterov), rel=0.02)
    other = theory.angular_update(lr, decay, momentum, not nesterov)
    assert angle != pytest.approx(other, rel=0.1)


@pytest.mark.parametrize("share", [0.5, 2.0])
def test_the_norm_of_adamw_relaxes_at_twice_the_intrinsic_rate(share):
    rest = theory.adamw_equilibrium_squared_norm(LR, DECAY, COUNT)
    # Bias corrections at first, and v that lags behind a changing norm, are no part of the law.
    walked = list(walk(optimisers.adamw, start_at(share * rest), 2000, {**ADAM, "beta1": 0.0}))
    for step in (500, 1000, 2000):
        found = float(walked[step] @ walked[step])
        expected = theory.adamw_relaxed_squared_norm(step, share * rest, LR, DECAY, COUNT)
        assert found / rest == pytest.approx(expected / rest, rel=0.06)
    law_of_sgd = rest * (1 + (share**2 - 1) * math.exp(-4 * INTRINSIC_LR * 1000)) ** 0.5
    assert float(walked[1000] @ walked[1000]) / rest != pytest.approx(law_of_sgd / rest, rel=0.1)


TARGETS = torch.randn(60, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
START = torch.randn(6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def gradient(weights, target):
    """Return the gradient of a scale-invariant loss, the squared distance of the direction from a target."""
    weights = weights.clone().requires_grad_()
    loss = ((weights / weights.norm() - target) ** 2).sum()
    return torch.autograd.grad(loss, weights)[0]


def trained(update, start, options, lr, weight_decay):
    """Return the weights after one step on each target."""
    weights = start.clone()
    buffers = {name: [torch.zeros_like(weights)] for name in BUFFERS}
    for step, target in enumerate(TARGETS):
        update([weights], [gradient(weights, target)], buffers, Rates(step + 1, lr, weight_decay), **options)
    return weights


def difference(a, b):
    """Return the distance of two weights over the norm of the first."""
    return float((a - b).norm() / a.norm())


def test_rescaling_of_adamw_is_exact():
    c, options = 3.0, {"beta1": 0.9, "beta2": 0.99, "eps": 1e-3}
    plain = trained(optimisers.adamw, START, options, 0.1, 0.2)
    lr, decay, eps = theory.adamw_rescaled(0.1, 0.2, 1e-3, c)
    assert difference(c * plain, trained(optimisers.adamw, c * START, {**options, "eps": eps}, lr, decay)) < 1e-12
    assert difference(c * plain, trained(optimisers.adamw, c * START, options, lr, decay)) > 1e-4, "eps as it was"
    as_sgd = theory.rescaled(0.1, 0.2, c)
    assert difference(c * plain, trained(optimisers.adamw, c * START, {**options, "eps": eps}, *as_sgd)) > 1e-2


def test_rescaling_of_lion_is_exact_and_that_of_coupled_adam_is_not():
    lr, decay, _ = theory.adamw_rescaled(0.1, 0.2, 0.0, 3.0)
    for update, options in ((optimisers.lion, {"beta1": 0.9, "beta2": 0.99}), (optimisers.adam, ADAM)):
        plain = trained(update, START, options, 0.1, 0.2)
        found = difference(3 * plain, trained(update, 3 * START, options, lr, decay))
        assert found < 1e-12 if update is optimisers.lion else found > 1e-2


@pytest.mark.parametrize("eps", [0.0, 1e-3])
@pytest.mark.parametrize("decays", [(0.2,), (0.2, 0.05, 0.2)], ids=["constant", "steps"])
def test_exponential_equivalent_of_adamw_is_exact(eps, decays):
    """AdamW against the formulas of its equivalent, segment by segment of constant rates."""
    lr, beta1, beta2 = 0.1, 0.9, 0.99
    rates = [decays[step * len(decays) // len(TARGETS)] for step in range(len(TARGETS))]
    original, buffers = START.clone(), {name: [torch.zeros_like(START)] for name in BUFFERS}
    equivalents = {"exact": START.clone(), "betas left alone": START.clone()}
    moments = {name: [torch.zeros_like(START), torch.zeros_like(START)] for name in equivalents}
    scale, last_alpha = 1.0, 1.0
    for step, (target, decay) in enumerate(zip(TARGETS, rates, strict=True), start=1):
        now = Rates(step, lr, decay)
        optimisers.adamw([original], [gradient(original, target)], buffers, now, beta1, beta2, eps)
        alpha = 1 - lr * decay
        for name, weights in equivalents.items():
            # The moments of a step come from the step before it, hence with that step's alpha.
            _, first, second = theory.adamw_exponential(lr, (1 - last_alpha) / lr, beta1, beta2, 0)
            if name != "exact":
                first, second = beta1, beta2
            grad = gradient(weights, target)
            m, v = moments[name]
            m.mul_(first).add_(grad, alpha=1 - beta1)
            v.mul_(second).addcmul_(grad, grad, value=1 - beta2)
            corrected, root = m / (1 - beta1**step), (v / (1 - beta2**step)).sqrt()
            weights -= lr / (scale * alpha) * corrected / (root + eps / scale * scale**2)
        scale, last_alpha = scale * alpha, alpha
    assert difference(original / scale, equivalents["exact"]) < 1e-12
    assert difference(original / scale, equivalents["betas left alone"]) > 1e-3
    if len(decays) == 1:
        grown, _, _ = theory.adamw_exponential(lr, decays[0], beta1, beta2, len(TARGETS) - 1)
        assert grown == pytest.approx(lr / scale, rel=1e-12)


@pytest.mark.parametrize(("name", "optimiser"), [("adamw", optimisers.adamw), ("lion", optimisers.lion)])
def test_effective_learning_rate_is_that_of_the_direction(name, optimiser):
    """Twice the weights at twice the learning rate turn alike, as the effective rates say."""
    options = {"beta1": 0.9, "beta2": 0.99, **({"eps": 0.0} if name == "adamw" else {})}
    found = trained(optimiser, START, options, 0.1, 0.0), trained(optimiser, 2 * START, options, 0.2, 0.0)
    assert difference(2 * found[0], found[1]) < 1e-12
    rates = [theory.effective_learning_rate(lr, r, name) for lr, r in ((0.1, 1.0), (0.2, 4.0))]
    assert rates[0] == rates[1]
