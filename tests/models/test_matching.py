"""Hidden units whose order is free, and networks matched by them."""

from itertools import permutations

import numpy as np
import pytest
import torch

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.models.ensemble import build
from intrinsic_lr.models.matching import hidden_units, match, permute
from intrinsic_lr.models.normalisation import BatchStatistics
from intrinsic_lr.study.model_spec import ModelSpec

IMAGE, CLASSES, MEMBERS = (1, 8, 8), 3, 3
MODELS = [
    "mlp:depth=2,width=6",
    "mlp:depth=3,width=6,affine=true,head=trained",
    "mlp:depth=3,width=6,norm=group,groups=2",
    "cnn4:width=4",
    "cnn4:width=4,norm=group,groups=2",
    "cnn4:width=4,norm=layer,head=trained",
    "preresnet:width=4,blocks=2",
    "preresnet:width=4,blocks=1,head=trained,affine=true",
    "preresnet:width=4,blocks=1,norm=group,groups=2",
]


def model_of(text):
    return build(ModelSpec.from_string(text), IMAGE, CLASSES)


def networks(model, seed=0):
    """Draw networks whose scales and shifts are not 1 and 0."""
    generator = torch.Generator().manual_seed(seed)
    weights = model.initialize(range(100 * seed, 100 * seed + MEMBERS), 1.0, torch.float64)
    moved = set(model.trainable)
    return {
        name: value + 0.3 * torch.randn(value.shape, generator=generator, dtype=torch.float64) * (name in moved)
        for name, value in weights.items()
    }


def random_orders(units, seed=0):
    """Draw an order of all units for every network; groups stay together."""
    generator = np.random.default_rng(seed)

    def order(count, groups):
        parts = np.arange(count).reshape(groups, -1)
        return np.concatenate([generator.permutation(part) for part in generator.permutation(parts)])

    return {
        name: torch.from_numpy(np.stack([order(of.count, of.groups) for _ in range(MEMBERS)]))
        for name, of in units.items()
    }


@pytest.mark.parametrize("text", MODELS)
def test_a_permuted_network_computes_the_same_and_is_found(text):
    model = model_of(text)
    units, weights = hidden_units(model.network), networks(model)
    orders = random_orders(units)
    permuted = permute(weights, units, orders)
    assert any(not torch.equal(permuted[name], weights[name]) for name in weights)
    images = torch.randn(5, *IMAGE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    before, after = (model.forward(each, images, BatchStatistics()) for each in (weights, permuted))
    torch.testing.assert_close(after, before, rtol=1e-9, atol=1e-9)
    found = permute(permuted, units, match(weights, permuted, units))
    assert all(torch.equal(found[name], weights[name]) for name in weights)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("mlp:depth=1,width=4", []),
        ("mlp:depth=3,width=4", ["linear1", "linear2"]),
        ("mlp:depth=3,width=4,head=trained", ["linear1", "linear2", "linear3"]),
        ("cnn4:width=4", ["conv1", "conv2", "conv3"]),
        (
            "preresnet:width=4,blocks=1",
            ["stage1", "stage1.block1.conv1", "stage2", "stage2.block1.conv1", "stage3.block1.conv1"],
        ),
    ],
)
def test_units_that_a_fixed_head_reads_have_an_order(text, names):
    assert sorted(hidden_units(model_of(text).network)) == names


@pytest.mark.parametrize("text", ["mlp:depth=2,width=5", "mlp:depth=2,width=4,norm=group,groups=2"])
def test_where_one_layer_is_free_the_order_is_the_best_of_all(text):
    model = model_of(text)
    units, a, b = hidden_units(model.network), networks(model, 1), networks(model, 2)
    ((name, of),) = units.items()
    matched = permute(b, units, match(a, b, units))
    size = of.count // of.groups
    allowed = [
        order
        for order in permutations(range(of.count))
        if all(len({unit // size for unit in order[at : at + size]}) == 1 for at in range(0, of.count, size))
    ]
    for member in range(MEMBERS):

        def product(other, member=member):
            return sum((a[key][member] * other[key][member]).sum().item() for key in a)

        best = max(product(permute(b, units, {name: torch.tensor([order] * MEMBERS)})) for order in allowed)
        assert product(matched) == pytest.approx(best, rel=1e-12)


def test_deep_networks_come_closer_and_cannot_be_improved_by_any_one_layer():
    model = model_of("mlp:depth=4,width=8")
    units, a, b = hidden_units(model.network), networks(model, 1), networks(model, 2)
    matched = permute(b, units, match(a, b, units))

    def products(other):
        return sum((a[name] * other[name]).flatten(1).sum(dim=1) for name in a)

    assert (products(matched) > products(b) + 1).all()
    again = match(a, matched, units)
    assert all(torch.equal(order, torch.arange(8).expand(MEMBERS, -1)) for order in again.values())


def test_members_are_matched_one_by_one_and_one_that_is_not_finite_is_left_alone():
    model = model_of("mlp:depth=3,width=6")
    units, a, b = hidden_units(model.network), networks(model, 1), networks(model, 2)
    expected = match(a, b, units)
    broken = {name: value.clone() for name, value in b.items()}
    broken["linear2.weight"][1] = torch.nan
    found = match(a, broken, units)
    for name, order in expected.items():
        assert torch.equal(found[name][[0, 2]], order[[0, 2]])
        assert torch.equal(found[name][1], torch.arange(6))
    alone = match(*({name: value[2:] for name, value in side.items()} for side in (a, b)), units)
    assert all(torch.equal(alone[name][0], order[2]) for name, order in expected.items())


@pytest.mark.parametrize("network", [model_of("vit:width=8").network, torch.nn.Sequential(torch.nn.Flatten())])
def test_units_of_other_networks_are_not_known(network):
    with pytest.raises(InputError, match="mlp, cnn4, preresnet, not in"):
        hidden_units(network)
