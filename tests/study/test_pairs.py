"""Which points make a pair."""

import pytest

from intrinsic_lr.study import pairs
from intrinsic_lr.study.experiment import PlannedPoint

BASE = {"dataset": "digits", "model": "mlp", "batch_size": 32}


def point(lr=0.1, intrinsic_lr=0.01, **changes):
    return PlannedPoint(**{**BASE, "lr": lr, "weight_decay": intrinsic_lr / lr, **changes})


@pytest.mark.parametrize(
    ("changes", "axes"),
    [
        ({"init_seed": 1}, ["init_seed"]),
        ({"lr": 1.0}, ["lr"]),
        ({"intrinsic_lr": 0.1}, ["intrinsic_lr"]),
        ({"lr": 1.0, "intrinsic_lr": 0.1}, ["lr", "intrinsic_lr"]),
        ({"init_scale": 3.0, "batch_size": 64}, ["batch_size", "init_scale"]),
        ({"data_order": 0, "constraint": "sphere"}, ["data_order", "constraint"]),
        ({"optimiser": "adam"}, ["optimiser"]),
    ],
)
def test_axes_that_differ(changes, axes):
    assert pairs.differing_axes(point(), point(**changes)) == axes


def test_rescaled_pairs_have_matching_rates_and_norms():
    points = [
        point(),
        point(lr=0.9, init_scale=3),
        point(lr=0.3, init_scale=3),  # not rescaled by the same factor
        point(lr=0.9, intrinsic_lr=0.02, init_scale=3),
        point(lr=0.9, init_scale=3, momentum=0.9),
    ]
    assert list(pairs.rescaled(points)) == [(points[0], points[1], 3.0)]


def test_rescaled_pairs_of_adamw_have_a_matching_eps_or_the_one_as_it_was():
    adamw = {"optimiser": "adamw", "init_scale": 3}
    points = [
        point(optimiser="adamw", eps=3e-4),
        point(lr=0.3, eps=1e-4, **adamw),
        point(lr=0.3, eps=3e-4, **adamw),
        point(lr=0.9, eps=1e-4, **adamw),  # as for SGD
        point(lr=0.3, eps=1e-4, init_scale=3, optimiser="adam"),
    ]
    assert list(pairs.rescaled(points)) == [(points[0], points[1], 3.0)]
    assert list(pairs.rescaled(points, eps_kept=True)) == [(points[0], points[2], 3.0)]
    assert list(pairs.rescaled([point(optimiser="lion"), point(lr=0.3, **adamw | {"optimiser": "lion"})]))
    assert not list(pairs.rescaled([point(optimiser="adam"), point(lr=0.3, **adamw | {"optimiser": "adam"})]))


def test_pairs_at_equal_rates_are_one_axis_apart():
    points = [point(lr, rate) for rate in (0.032, 0.01) for lr in (0.1, 1.0)]
    points += [point(intrinsic_lr=rate) for rate in (0.0032, 0.001, 0.0001)]
    points += [point(intrinsic_lr=rate, init_seed=1) for rate in (0.01, 0.001)]
    assert list(pairs.equal_rates(points)) == [
        (points[0], points[1], "same"),
        (points[2], points[3], "same"),
        (points[0], points[4], "different"),
        (points[2], points[5], "different"),
    ]


def test_replicates_that_share_weights_or_batches_are_paired():
    assert pairs.paired(point(), point(intrinsic_lr=0.1))
    assert not pairs.paired(point(), point(init_seed=1))
    assert not pairs.paired(point(init_sharing="shared"), point(init_sharing="shared", lr=1.0))
    assert pairs.paired(point(data_order=0), point(data_order=0, init_seed=1))
