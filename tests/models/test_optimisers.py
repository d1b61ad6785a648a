"""Optimisers of an ensemble against `torch.optim`, Lion against its paper, step by step in float64."""

import dataclasses

import pytest
import torch

import plans
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.data.dataset import load
from intrinsic_lr.models import kernels
from intrinsic_lr.models.ensemble import build
from intrinsic_lr.models.optimisers import Rates, clipped, sgd
from intrinsic_lr.stats.theory import adamw_rescaled
from intrinsic_lr.study.timeline import equivalent_of_adamw
from intrinsic_lr.training.batches import Batches
from intrinsic_lr.training.loop import take_step
from intrinsic_lr.training.state import State

MEMBERS, LR, DECAY = 3, 0.02, 0.3
BETAS = {"beta1": 0.8, "beta2": 0.95}


class PaperLion(torch.optim.Optimizer):
    """Algorithm 2 of Chen et al. 2023, as printed there."""

    def __init__(self, parameters, lr, betas, weight_decay):
        super().__init__(parameters, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for weight in group["params"]:
                m = self.state[weight].setdefault("m", torch.zeros_like(weight))
                c = beta1 * m + (1 - beta1) * weight.grad
                self.state[weight]["m"] = beta2 * m + (1 - beta2) * weight.grad
                weight -= group["lr"] * (torch.sign(c) + group["weight_decay"] * weight)


def adam_like(kind, **given):
    """Return what makes the optimiser of torch with other options than its own."""
    options = {"betas": (0.8, 0.95), "weight_decay": DECAY, **given}
    return lambda parameters: kind(parameters, lr=LR, **options)


CASES = {
    "momentum": (
        {"momentum": 0.9},
        lambda weights: torch.optim.SGD(weights, lr=LR, momentum=0.9, weight_decay=DECAY),
    ),
    "nesterov": (
        {"momentum": 0.9, "nesterov": True},
        lambda weights: torch.optim.SGD(weights, lr=LR, momentum=0.9, nesterov=True, weight_decay=DECAY),
    ),
    "adam": ({"optimiser": "adam", **BETAS}, adam_like(torch.optim.Adam)),
    "adamw": ({"optimiser": "adamw", **BETAS}, adam_like(torch.optim.AdamW)),
    "adamw_eps": ({"optimiser": "adamw", **BETAS, "eps": 0.01}, adam_like(torch.optim.AdamW, eps=0.01)),
    "defaults": (
        {"optimiser": "adamw"},
        lambda weights: torch.optim.AdamW(weights, lr=LR, weight_decay=DECAY),
    ),
    "lion": ({"optimiser": "lion", **BETAS}, adam_like(PaperLion)),
    "lion_defaults": (
        {"optimiser": "lion"},
        lambda weights: PaperLion(weights, lr=LR, betas=(0.9, 0.99), weight_decay=DECAY),
    ),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return plans.write_noise(tmp_path_factory.mktemp("data"))


def engine(files, **changes):
    """Return a plan with its model, state and batches, all in float64."""
    rates = plans.timeline((20, LR, DECAY))
    settings = plans.plan(**{"timeline": rates, "checkpoints": (20,), "dtype": "float64", **changes})
    model = build(settings.model, (1, 6, 6), 3)
    batches = Batches(settings, load(*files, "cpu", torch.float64))
    return settings, model, State.initial(settings, model, torch.device("cpu")), batches


def members_of(model, state):
    """Return each member as an ordinary network with the weights of the state."""
    modules = []
    for index in range(MEMBERS):
        module = model.module().double().train()
        weights = {name: value[index].clone() for name, value in state.params.items()}
        module.load_state_dict(weights, strict=False)
        modules.append(module)
    return modules


def assert_same_weights(state, modules, tolerance=1e-12):
    for index, module in enumerate(modules):
        for name, parameter in module.named_parameters():
            assert torch.allclose(state.params[name][index], parameter, rtol=tolerance, atol=tolerance), name


@pytest.mark.parametrize("case", CASES)
def test_every_step_is_that_of_the_reference(files, case):
    """Gradients are the ensemble's own, so that nothing but the update is compared."""
    changes, make = CASES[case]
    settings, model, state, batches = engine(files, **changes)
    modules = members_of(model, state)
    references = [make([p for p in module.parameters() if p.requires_grad]) for module in modules]
    for _ in range(20):
        done = take_step(state, settings, model, batches)
        for index, (module, reference) in enumerate(zip(modules, references, strict=True)):
            for name, gradient in done.gradients.items():
                module.get_parameter(name).grad = gradient[index].clone()
            reference.step()
        assert_same_weights(state, modules)


@pytest.mark.parametrize(("optimiser", "make"), [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam)])
def test_a_training_is_that_of_torch(files, optimiser, make):
    """With gradients of the plain module, label smoothing and clipping by norm."""
    changes = {"optimiser": optimiser, "label_smoothing": 0.1, "clip": 0.5, "eps": 1e-4}
    settings, model, state, batches = engine(files, **changes)
    modules = members_of(model, state)
    references = [make(module.parameters(), lr=LR, weight_decay=DECAY, eps=1e-4) for module in modules]
    for step in range(10):
        images, labels = batches.at(step)
        for index, (module, reference) in enumerate(zip(modules, references, strict=True)):
            reference.zero_grad()
            logits = module(images[index])
            torch.nn.functional.cross_entropy(logits, labels[index], label_smoothing=0.1).backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), 0.5)
            reference.step()
        take_step(state, settings, model, batches)
    assert_same_weights(state, modules, 1e-8)


def test_clipping_looks_at_each_member_by_itself():
    grads = {"a": torch.tensor([[3.0], [0.3], [torch.nan]]), "b": torch.tensor([[4.0], [0.4], [1.0]])}
    found = clipped(grads, 2.0)
    assert torch.allclose(found["a"][:2], torch.tensor([[1.2], [0.3]]), rtol=1e-6)
    assert torch.allclose(found["b"][:2], torch.tensor([[1.6], [0.4]]), rtol=1e-6)
    assert found["a"][2].isnan().all()


@pytest.mark.parametrize("optimiser", ["adam", "adamw", "lion"])
def test_a_member_does_not_depend_on_its_block(files, optimiser):
    trained = {}
    for replicates in ((0, 3), (2, 3)):
        settings, model, state, batches = engine(files, optimiser=optimiser, replicates=replicates, clip=1.0)
        for _ in range(10):
            take_step(state, settings, model, batches)
        trained[replicates] = state.params
    for name, value in trained[0, 3].items():
        assert torch.allclose(value[2:], trained[2, 3][name], rtol=1e-8, atol=1e-10), name


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"beta1": 0.9}, "beta1: expected one of momentum, nesterov with sgd, got beta1 0.9"),
        ({"optimiser": "lion", "eps": 0.0}, "eps: expected one of beta1, beta2 with lion, got eps 0"),
        ({"optimiser": "adamw", "momentum": 0.9}, "momentum: expected one of beta1, beta2, eps with adamw"),
        ({"nesterov": True}, "nesterov: expected a momentum above 0, got 0"),
    ],
)
def test_an_option_that_an_optimiser_does_not_have(changes, words):
    with pytest.raises(InputError, match=words):
        plans.plan(**changes)


def decay_found(intrinsic_lr, update, weights=20_000, steps=1000, lr=0.5):
    """Return the decay of the squared norm in float32 over that in float64, at the step size of equilibrium."""
    generator = torch.Generator().manual_seed(0)
    single = torch.randn(weights, generator=generator)
    decayed = undecayed = single.double()
    for _ in range(steps):
        change = torch.randn(weights, generator=generator) * (2 * intrinsic_lr) ** 0.5
        update(single, change / lr, lr, intrinsic_lr / lr)
        decayed = decayed - intrinsic_lr * decayed - change.double()
        undecayed = undecayed - change.double()
    found, expected, start = (float(w.double() @ w.double()) for w in (single, decayed, undecayed))
    return (start - found) / (start - expected)


def plain_sgd(weight, grad, lr, weight_decay):
    sgd([weight], [grad], {}, Rates(1, lr, weight_decay), momentum=0.0, nesterov=False)


@pytest.mark.parametrize("switch", ["on", "off"])
@pytest.mark.parametrize(("intrinsic_lr", "bound"), [(1e-9, 0.02), (1e-8, 2e-3), (1e-6, 1e-4), (1e-3, 1e-5)])
def test_a_small_decay_keeps_its_size_in_float32(monkeypatch, intrinsic_lr, bound, switch):
    if switch == "off":
        monkeypatch.setattr(kernels, "load", lambda: None)
    assert decay_found(intrinsic_lr, plain_sgd) == pytest.approx(1, abs=bound)


def test_a_factor_would_lose_a_small_decay():
    """What the update is not: at 1e-9 the factor rounds to 1, and at 4e-8 it is off by more than a half."""

    def by_a_factor(weight, grad, lr, weight_decay):
        weight.mul_(1 - lr * weight_decay).add_(grad, alpha=-lr)

    assert decay_found(1e-9, by_a_factor) == pytest.approx(0, abs=0.02)
    assert abs(decay_found(4e-8, by_a_factor) - 1) > 0.4


def weights_after(files, steps=20, **changes):
    """Return the scale-invariant weights (R, ...) at the end of a training, by name."""
    settings, model, state, batches = engine(files, data_order=0, batch_size=10, **changes)
    for _ in range(steps):
        take_step(state, settings, model, batches)
    return {name: state.params[name] for names in model.scale_groups.values() for name in names}


def largest_difference(a, b, factor=1.0):
    """Return the largest difference of `factor` times the weights `a` from `b`, over their size."""
    return max(float((factor * value - b[name]).abs().max() / b[name].abs().max()) for name, value in a.items())


@pytest.mark.parametrize("optimiser", ["adamw", "lion"])
def test_exponential_equivalent_trains_the_same_functions(files, optimiser):
    original = plans.timeline((8, LR, DECAY), (12, LR / 4, DECAY))
    exact = equivalent_of_adamw(original)
    plain = dataclasses.replace(
        exact, segments=tuple(dataclasses.replace(s, gradient=0.0) for s in exact.segments)
    )
    grown = 1 / ((1 - LR * DECAY) ** 8 * (1 - LR * DECAY / 4) ** 12)
    expected = weights_after(files, timeline=original, optimiser=optimiser)
    found = [weights_after(files, timeline=rates, optimiser=optimiser) for rates in (exact, plain)]
    assert largest_difference(expected, found[0], grown) < 1e-9
    assert largest_difference(expected, found[1], grown) > 1e-4, "with the gradients as they are"


@pytest.mark.parametrize("optimiser", ["adamw", "lion"])
def test_a_rescaled_training_follows_the_same_functions(files, optimiser):
    eps = {"eps": 1e-3} if optimiser == "adamw" else {}
    plain = weights_after(files, optimiser=optimiser, timeline=plans.timeline((20, LR, DECAY)), **eps)
    lr, decay, small = adamw_rescaled(LR, DECAY, 1e-3, 4.0)
    changes = {"optimiser": optimiser, "timeline": plans.timeline((20, lr, decay)), "init_scale": 4.0}
    scaled = weights_after(files, **changes, **({"eps": small} if eps else {}))
    assert largest_difference(plain, scaled, 4.0) < 1e-9
    if eps:
        assert largest_difference(plain, weights_after(files, **changes, **eps), 4.0) > 1e-3, "eps left alone"
