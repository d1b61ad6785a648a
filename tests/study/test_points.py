"""Names of points and the expansion of grids."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.study.points import Point, check_sphere, expand
from intrinsic_lr.study.timeline import Segment, Timeline

DEFAULTS = {"dataset": "digits", "model": "mlp", "batch_size": 32}
rates = st.floats(1e-18, 1e18, allow_nan=False)


def points(*grid):
    """Expand mappings from axis to a value or a list."""
    listed = [{key: value if isinstance(value, list) else [value] for key, value in axes.items()} for axes in grid]
    return expand(listed, DEFAULTS, "grid")


def test_names_are_pinned():
    """Names are paths of trained ensembles: a change here orphans every user's results."""
    plain = Point("digits", "mlp", 32, 0.1, 0.01)
    assert plain.name == "digits-mlp-b32-lr0.1-wd0.01"
    full = Point(
        "digits", "mlp", "full", 1.0, 1e-5, "wd_1_2_lr_3_4", 0.9, 1, "shared", 3.0, "crop=4,flip", "float64"
    )
    assert full.name == (
        "digits-mlp-bfull-lr1-wd1e-05-schedule_wd_1_2_lr_3_4-momentum0.9-init1-shared-scale3-crop=4_flip-float64"
    )


def test_later_axes_stand_last_and_only_when_given():
    later = Point("digits", "mlp", 32, 0.1, 0.0, dtype="float64", data_order=0, constraint="sphere")
    assert later.name == "digits-mlp-b32-lr0.1-wd0-float64-order0-sphere"
    assert Point("digits", "mlp", 32, 0.1, 0.0, precision="bfloat16").name == "digits-mlp-b32-lr0.1-wd0-bfloat16"


def test_axes_of_the_optimiser_stand_last_in_the_name():
    grid = {"lr": 0.01, "weight_decay": 0.1, "optimiser": "adamw", "beta1": 0.9, "beta2": 0.95, "eps": 1e-6}
    (point,) = points({**grid, "clip": 1.0, "label_smoothing": 0.1})
    assert point.name == "digits-mlp-b32-lr0.01-wd0.1-adamw-beta2=0.95-eps=1e-06-clip=1-smoothing0.1"
    assert point.beta1 is None, "a default that is written out names the same point"
    (nesterov,) = points({"lr": 0.1, "weight_decay": 0.1, "momentum": 0.9, "nesterov": True})
    assert nesterov.name == "digits-mlp-b32-lr0.1-wd0.1-momentum0.9-nesterov"


def test_runs_of_one_point_start_at_several_initialisations():
    (point,) = points({"lr": 0.1, "weight_decay": 0.1, "runs_per_init": 8})
    assert point.name == "digits-mlp-b32-lr0.1-wd0.1-runs_per_init8"
    assert [point.initialisation(k) for k in (0, 7, 8, 127)] == [0, 0, 1, 15]
    (shared,) = points({"lr": 0.1, "weight_decay": 0.1, "init_sharing": "shared"})
    assert [shared.initialisation(k) for k in (0, 127)] == [0, 0]
    with pytest.raises(InputError, match=r"grid\.runs_per_init: expected 1 with init_sharing shared, got 8"):
        points({"lr": 0.1, "weight_decay": 0.1, "init_sharing": "shared", "runs_per_init": 8})


@pytest.mark.parametrize(
    ("momentum", "segments", "words"),
    [
        (0.9, (Segment(5, 0.1, 0.0),), "momentum: expected 0 with constraint sphere, got 0.9"),
        (0.0, (Segment(5, 0.1, 0.0), Segment(5, 0.1, 0.5)), "weight_decay: expected 0 .* sphere, got 0.5"),
    ],
)
def test_sphere_has_neither_momentum_nor_weight_decay(momentum, segments, words):
    check_sphere(0.0, Timeline((Segment(5, 0.1, 0.0),)))
    with pytest.raises(InputError, match="optimiser: expected sgd with constraint sphere, got lion"):
        check_sphere(0.0, Timeline((Segment(5, 0.1, 0.0),)), "lion")
    with pytest.raises(InputError, match=words):
        check_sphere(momentum, Timeline(segments))


@given(rates, rates)
def test_names_need_no_quoting(lr, weight_decay):
    assert re.fullmatch(r"[A-Za-z0-9._=-]+", points({"lr": lr, "weight_decay": weight_decay})[0].name)


@given(rates, rates)
def test_two_of_three_rates_give_the_third(lr, weight_decay):
    given_both = points({"lr": lr, "weight_decay": weight_decay})[0]
    by_lr = points({"lr": lr, "intrinsic_lr": lr * weight_decay})[0]
    by_decay = points({"weight_decay": weight_decay, "intrinsic_lr": lr * weight_decay})[0]
    assert by_lr.weight_decay == pytest.approx(given_both.weight_decay, rel=1e-10)
    assert by_decay.lr == pytest.approx(given_both.lr, rel=1e-10)


def test_how_a_number_is_written_does_not_change_the_name():
    written = [{"lr": 1, "weight_decay": 0.3}, {"lr": 1.0, "weight_decay": 0.1 * 3}]
    assert len({points(one)[0].name for one in written}) == 1


def test_product_and_union():
    grid = [{"lr": [0.1, 0.2], "weight_decay": [0.01, 0.02]}, {"lr": 1, "weight_decay": 0.5, "init_seed": 3}]
    assert [(p.lr, p.weight_decay, p.init_seed) for p in points(*grid)] == [
        (0.1, 0.01, 0),
        (0.1, 0.02, 0),
        (0.2, 0.01, 0),
        (0.2, 0.02, 0),
        (1, 0.5, 3),
    ]


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        ([{"lr": 0.1}], ["exactly two", "got lr"]),
        ([{"lr": 0.1, "weight_decay": 0.1, "intrinsic_lr": 0.01}], ["exactly two"]),
        ([{"weight_decay": 0, "intrinsic_lr": 0.01}], ["weight_decay", "got 0"]),
        ([{"lr": [0.1, 0.1], "weight_decay": 0.1}], ["grid: ", "once", "'digits-mlp-b32-lr0.1-wd0.1' twice"]),
        ([{"lr": 1, "weight_decay": 0.1}, {"lr": 1.0, "intrinsic_lr": 0.1}], ["grid.1: ", "lr1-wd0.1' twice"]),
        ([{"lr": 1, "weight_decay": 0.1, "init_seed": list(range(10_001))}], ["10,000 points", "10,001"]),
        ([{"lr": 1, "weight_decay": 0.1, "beta1": 0.5}], ["grid.beta1: ", "momentum, nesterov with sgd", "0.5"]),
        ([{"lr": 1, "weight_decay": 0.1, "optimiser": "lion", "momentum": 0.5}], ["grid.momentum: ", "lion"]),
    ],
)
def test_refusals_name_place_and_value(grid, words):
    with pytest.raises(InputError) as caught:
        points(*grid)
    assert all(word in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)
