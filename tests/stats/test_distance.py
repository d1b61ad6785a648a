from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch

from intrinsic_lr.stats import distance
from intrinsic_lr.stats.distance import across, between, coordinates

GROUPS = {"first": ("a.weight",), "stream": ("b.weight", "c.weight")}
SHAPES = {"a.weight": (7, 3), "b.weight": (4, 2, 3, 3), "c.weight": (5,), "head.weight": (10, 4)}


def ensemble(seed, replicates=3, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(replicates, *shape, generator=generator).to(dtype) for name, shape in SHAPES.items()}


def trajectory(checkpoints, replicate):
    """Return one replicate's networks at each step."""
    return [{name: w[replicate] for name, w in checkpoints[step].items()} for step in sorted(checkpoints)]


def pairwise(checkpoints, groups):
    """Compare checkpoints {step: weights} of an ensemble."""
    replicates = len(next(iter(next(iter(checkpoints.values())).values())))
    trajectories = (trajectory(checkpoints, replicate) for replicate in range(replicates))
    return distance.pairwise(trajectories, sorted(checkpoints), groups)


def vectors(weights, replicate, layer):
    """Return a layer's vector in float64, written out naively as the reference."""
    if layer in GROUPS:
        parts = [weights[name][replicate].double().numpy().ravel() for name in GROUPS[layer]]
        return np.concatenate(parts)
    parts = [vectors(weights, replicate, group) for group in GROUPS]
    if layer == "all":
        return np.concatenate(parts)
    return np.concatenate([part / np.linalg.norm(part) for part in parts]) / np.sqrt(len(parts))


def reference(x, y):
    """Return (l2, l2_unit_norm, cosine) in extended precision."""
    x, y = x.astype(np.longdouble), y.astype(np.longdouble)
    length_x, length_y = np.sqrt((x**2).sum()), np.sqrt((y**2).sum())
    unit = np.sqrt(((x / length_x - y / length_y) ** 2).sum())
    return [float(v) for v in (np.sqrt(((x - y) ** 2).sum()), unit, (x * y).sum() / (length_x * length_y))]


LAYERS = [*GROUPS, "all", "all_layer_normalised"]


def rows(pairs, members, a, b):
    """Return naive rows: of each pair of steps, pair of members and layer."""
    return [
        [
            *pair,
            *member,
            layer,
            *reference(vectors(a[pair[0]], member[0], layer), vectors(b[pair[1]], member[1], layer)),
        ]
        for pair in pairs
        for member in members
        for layer in LAYERS
    ]


KEYS = ["step", "partner_step", "replicate", "partner", "layer", "l2", "l2_unit_norm", "cosine"]


def assert_rows(frame, *naive):
    expected = pd.DataFrame(rows(*naive), columns=KEYS)
    columns = [column for column in KEYS if column in frame]
    pd.testing.assert_frame_equal(frame[columns], expected[columns], rtol=1e-12, check_dtype=False)


def test_pairwise_equals_naive_loops():
    checkpoints = {step: ensemble(step) for step in (40, 0, 10)}
    frame = pairwise(checkpoints, GROUPS)
    assert list(frame.columns) == ["step", "delta", "replicate", "layer", "l2", "l2_unit_norm", "cosine"]
    same = [(replicate, replicate) for replicate in range(3)]
    frame = frame.assign(partner_step=frame["step"] + frame["delta"])
    assert_rows(frame, [(0, 10), (0, 40), (10, 40)], same, checkpoints, checkpoints)


def test_across_equals_naive_loops():
    a, b = ensemble(1), ensemble(2, replicates=2)
    frame = across(a, b, GROUPS, [(2, 0), (0, 1)])
    assert list(frame.columns) == ["replicate_a", "replicate_b", "layer", "l2", "l2_unit_norm", "cosine"]
    frame = frame.rename(columns={"replicate_a": "replicate", "replicate_b": "partner"})
    assert_rows(frame, [(0, 0)], [(2, 0), (0, 1)], {0: a}, {0: b})


def test_between_equals_naive_loops_over_all_pairs_of_checkpoints():
    a, b = {0: ensemble(1), 5: ensemble(2)}, {0: ensemble(3), 5: ensemble(4), 9: ensemble(5)}
    members = [(2, 0), (1, 1)]
    pairs = ((trajectory(a, i), trajectory(b, j)) for i, j in members)
    found = between(pairs, members, sorted(a), sorted(b), GROUPS)
    assert list(found.columns) == KEYS
    assert_rows(found, list(product(a, b)), members, a, b)


def test_a_trajectory_with_itself_is_all_its_pairs_both_ways():
    checkpoints = {step: ensemble(step) for step in (0, 4, 9)}
    own = trajectory(checkpoints, 2)
    found = between([(own, own)], [(2, 2)], [0, 4, 9], [0, 4, 9], GROUPS)
    diagonal = found["step"] == found["partner_step"]
    assert (found.loc[diagonal, "l2"] == 0).all()
    assert (found.loc[diagonal, "cosine"] == 1).all()
    apart = [pair for pair in product(checkpoints, checkpoints) if pair[0] != pair[1]]
    assert_rows(found[~diagonal].reset_index(drop=True), apart, [(2, 2)], checkpoints, checkpoints)


@pytest.mark.parametrize("values", [1, 30, 500])
def test_blocks_of_weights_change_nothing(values, monkeypatch):
    checkpoints = {step: ensemble(step) for step in range(5)}
    checkpoints[3]["b.weight"][1, 2, 0, 0, 0] = torch.nan
    whole, other = pairwise(checkpoints, GROUPS), across(checkpoints[0], checkpoints[1], GROUPS, [(0, 2), (1, 1)])
    monkeypatch.setattr(distance, "BLOCK_VALUES", values)
    pd.testing.assert_frame_equal(pairwise(checkpoints, GROUPS), whole, rtol=1e-12)
    again = across(checkpoints[0], checkpoints[1], GROUPS, [(0, 2), (1, 1)])
    pd.testing.assert_frame_equal(again, other, rtol=1e-12)


def test_weights_are_asked_for_in_bounded_blocks(monkeypatch):
    """A parameter far larger than a block is never asked for as a whole."""

    class Wide:
        shape = (1000, 7)

        def __init__(self, seed):
            self.generator, self.largest = torch.Generator().manual_seed(seed), 0

        def __getitem__(self, rows):
            self.largest = max(self.largest, rows.stop - rows.start)
            return torch.randn(rows.stop - rows.start, 7, generator=self.generator)

    monkeypatch.setattr(distance, "BLOCK_VALUES", 7 * 40)
    networks = [{"w": Wide(seed)} for seed in range(4)]
    frame = distance.pairwise([networks], range(4), {"w": ("w",)}).query("layer == 'w'")
    assert [network["w"].largest for network in networks] == [10] * 4
    assert frame["l2"].to_numpy() == pytest.approx(14_000**0.5, rel=0.05)


def test_a_layer_that_is_scaled_moves_in_l2_alone():
    a = ensemble(3)
    b = {name: 2.0 * tensor for name, tensor in a.items()}
    frame = across(a, b, GROUPS, [(1, 1)]).set_index("layer")
    assert frame.loc["first", "l2"] == pytest.approx(a["a.weight"][1].double().norm().item(), rel=1e-12)
    assert (frame["l2_unit_norm"] < 1e-14).all()
    assert frame["cosine"].to_numpy() == pytest.approx(1.0, abs=1e-15)
    assert frame.loc["all_layer_normalised", "l2"] < 1e-14


@pytest.mark.parametrize("changed", [1, 100, 20_000])
def test_float32_weights_that_differ_by_single_roundings_keep_their_distance(changed):
    start = torch.randn(20_000, generator=torch.Generator().manual_seed(4))
    near = start.clone()
    near[:changed] = torch.nextafter(start[:changed], torch.tensor(torch.inf))
    far = torch.randn(20_000, generator=torch.Generator().manual_seed(5))
    checkpoints = {step: {"w": w[None]} for step, w in enumerate([far, start, near])}
    frame = pairwise(checkpoints, {"w": ("w",)}).query("step == 1 and layer == 'w'").iloc[0]
    l2, unit, _ = reference(start.double().numpy(), near.double().numpy())
    assert 0 < unit < 1e-7
    assert frame["l2"] == pytest.approx(l2, rel=1e-6)
    assert frame["l2_unit_norm"] == pytest.approx(unit, rel=1e-6)
    assert 1.0 - frame["cosine"] == pytest.approx(unit**2 / 2, abs=3e-16)


@pytest.mark.parametrize("shape", [(4, 30), (30, 4), (1, 5)])
def test_coordinates_keep_inner_products(shape):
    stack = torch.randn(*shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    for size in (1, 7, shape[1]):
        points = coordinates(stack.split(size, dim=-1))
        assert points.shape == (shape[0], min(shape))
        torch.testing.assert_close(points @ points.T, stack @ stack.T, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_give_nan_to_their_own_rows_alone(bad):
    checkpoints = {step: ensemble(step) for step in range(3)}
    clean = pairwise(checkpoints, GROUPS)
    checkpoints[1]["a.weight"][2, 0, 0] = bad
    frame = pairwise(checkpoints, GROUPS)
    touches = ((frame["step"] == 1) | (frame["step"] + frame["delta"] == 1)) & (frame["replicate"] == 2)
    touches &= frame["layer"] != "stream"
    numbers = ["l2", "l2_unit_norm", "cosine"]
    assert frame.loc[touches, numbers].isna().all(axis=None)
    pd.testing.assert_frame_equal(frame[~touches], clean[~touches], rtol=1e-12)


def test_zero_weights_have_a_distance_and_no_direction():
    a, b = ({"w": torch.full((1, 4), value)} for value in (0.0, 1.0))
    row = across(a, b, {"w": ("w",)}, [(0, 0)]).iloc[0]
    assert row["l2"] == pytest.approx(2.0)
    assert row[["l2_unit_norm", "cosine"]].isna().all()


def test_one_checkpoint_has_no_pairs():
    frame = pairwise({5: ensemble(0)}, GROUPS)
    assert len(frame) == 0
    assert list(frame.columns) == ["step", "delta", "replicate", "layer", "l2", "l2_unit_norm", "cosine"]
