import weakref
from itertools import combinations, permutations, product

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.swa_utils import AveragedModel, update_bn

from intrinsic_lr.analyses import averaging, interpolation
from intrinsic_lr.analyses.averaging import Checkpoints, interpolate, normalize_groups
from intrinsic_lr.models.ensemble import build
from intrinsic_lr.models.matching import hidden_units, permute
from intrinsic_lr.study.model_spec import ModelSpec
from intrinsic_lr.training.evaluation import EvaluationData, evaluate

CLASSES = 4
IMAGE = (1, 4, 4)
TINY = 1e-300  # torch.nn refuses an eps of 0 in training; this one is lost to rounding
QUANTITIES = ["train_loss", "train_accuracy", "test_loss", "test_accuracy"]
MLP = "mlp:depth=2,width=6,norm=batch"
RESNET = "preresnet:width=2,blocks=1,norm=batch"
AFFINE = "mlp:depth=2,width=6,norm=batch,affine=true,head=trained"


@pytest.fixture(scope="module")
def data():
    generator = torch.Generator().manual_seed(3)

    def part(count):
        images = torch.randn(count, *IMAGE, generator=generator, dtype=torch.float64)
        return images, torch.randint(CLASSES, (count,), generator=generator)

    return EvaluationData(*part(40), *part(30))


def ensemble_model(text):
    return build(ModelSpec.from_string(text), IMAGE, CLASSES)


def trajectory(model, steps, replicates=2, seed=0):
    """Return unrelated weights at each step, with affine parameters away from their initial 1 and 0."""
    checkpoints = {}
    for step in steps:
        seeds = [1000 * seed + 10 * step + replicate for replicate in range(replicates)]
        generator = torch.Generator().manual_seed(seed + step)
        checkpoints[step] = {
            name: value + 0.3 * torch.randn(value.shape, generator=generator, dtype=torch.float64)
            for name, value in model.initialize(seeds, 1.0, torch.float64).items()
        }
    return checkpoints


def kept(model, checkpoints, data):
    """Wrap checkpoints {step: weights}."""
    return Checkpoints(model, sorted(checkpoints), checkpoints.__getitem__, data)


def swa_table(model, checkpoints, data, interpolation):
    return averaging.swa_table(kept(model, checkpoints, data), interpolation)


def plain_network(weights):
    """Return one member of the MLP made of torch's own layers."""
    layers = [nn.Flatten()]
    for name in ("linear1.weight", "linear2.weight", "head.weight"):
        linear = nn.Linear(*weights[name].shape[::-1], bias=False, dtype=torch.float64)
        linear.weight.data = weights[name].clone()
        width = len(weights[name])
        norm = nn.BatchNorm1d(width, eps=TINY, momentum=1.0, affine=False, dtype=torch.float64)
        layers += [linear, norm, nn.ReLU()]
    return nn.Sequential(*layers[:-2])


def scores_of(network, data):
    """Score a network whose running statistics are those of the training set."""
    count, scores = len(data.train_images), []
    with torch.no_grad():
        for norm in network.modules():
            if isinstance(norm, nn.BatchNorm1d):
                norm.running_var *= (count - 1) / count
        network.eval()
        for images, labels in ((data.train_images, data.train_labels), (data.test_images, data.test_labels)):
            logits = network(images)
            scores += [F.cross_entropy(logits, labels).item(), (logits.argmax(1) == labels).double().mean().item()]
    return dict(zip(QUANTITIES, scores, strict=True))


def plain_scores(weights, data):
    """Score one member of the MLP with torch's own layers, its running statistics refreshed by one pass."""
    network = plain_network(weights)
    with torch.no_grad():
        network.train()(data.train_images)
    return scores_of(network, data)


def unit_layers(weights):
    """Bring every hidden layer of one member of the MLP to unit norm."""
    return {name: value if name == "head.weight" else value / value.norm() for name, value in weights.items()}


NORMALISATIONS = {"raw": dict, "per_layer": unit_layers}


def plain_pair(a, b, data, interpolation):
    """Return the quantities of a pair's row for two members, written out naively."""
    alphas = [index / (interpolation + 1) for index in range(1, interpolation + 1)]
    start, end = plain_scores(a, data), plain_scores(b, data)
    inner = [plain_scores({n: (1 - alpha) * a[n] + alpha * b[n] for n in a}, data) for alpha in alphas]
    middle = inner[interpolation // 2]
    row = {**middle, **{f"{q}_start": start[q] for q in start}, **{f"{q}_end": end[q] for q in end}}
    row["test_loss_gain"] = min(start["test_loss"], end["test_loss"]) - middle["test_loss"]
    row["test_accuracy_gain"] = middle["test_accuracy"] - max(start["test_accuracy"], end["test_accuracy"])
    for loss in ("train_loss", "test_loss"):
        chord = [(1 - alpha) * start[loss] + alpha * end[loss] for alpha in alphas]
        row[f"{loss}_barrier"] = max(point[loss] - below for point, below in zip(inner, chord, strict=True))
    return row


def member(weights, index):
    return {name: value[index] for name, value in weights.items()}


def assert_rows(table, expected):
    """Compare a table with rows in any order."""
    expected = pd.DataFrame(expected)
    keys = [c for c in ("average", "normalisation", "step", "delta", "replicate", "partner") if c in expected]
    table = table[list(expected.columns)].sort_values(keys, ignore_index=True)
    expected = expected.sort_values(keys, ignore_index=True)
    pd.testing.assert_frame_equal(table, expected, rtol=1e-10, atol=1e-12, check_dtype=False)


def test_pairs_and_windows_equal_plain_networks(data):
    """A window is the plain mean of all checkpoints between its ends."""
    model, steps = ensemble_model(MLP), [0, 10, 30, 40]
    checkpoints = trajectory(model, [30, 0, 40, 10])
    table = swa_table(model, checkpoints, data, interpolation=3)
    pairs, windows = [], []
    for (name, scale), (first, last), i in product(NORMALISATIONS.items(), combinations(range(4), 2), range(2)):
        members = [scale(member(checkpoints[step], i)) for step in steps[first : last + 1]]
        row = {"replicate": i, "normalisation": name, "step": steps[first], "delta": steps[last] - steps[first]}
        of_pair = {"partner": i, "relation": "within", "average": "pair", "averaged": 2}
        pairs.append({**row, **of_pair, **plain_pair(members[0], members[-1], data, 3)})
        if len(members) > 2:
            mean = {name: torch.stack([weights[name] for weights in members]).mean(dim=0) for name in members[0]}
            of_window = {"average": "window", "averaged": len(members)}
            windows.append({**row, **of_window, **plain_scores(mean, data)})
    is_window = table["average"] == "window"
    assert_rows(table[~is_window], pairs)
    assert_rows(table[is_window], windows)
    assert table[is_window][["train_loss_barrier", "test_loss_barrier"]].isna().all(axis=None)


def test_windows_equal_averages_of_torch(data):
    """`AveragedModel` averages the same checkpoints, and `update_bn` refreshes its statistics."""
    model, steps = ensemble_model(MLP), [0, 10, 30]
    checkpoints = trajectory(model, steps)
    table = swa_table(model, checkpoints, data, interpolation=1)
    windows = table[(table["average"] == "window") & (table["normalisation"] == "raw")].set_index("replicate")
    for replicate in range(2):
        networks = [plain_network(member(checkpoints[step], replicate)) for step in steps]
        averaged = AveragedModel(networks[0])
        for network in networks:
            averaged.update_parameters(network)
        update_bn([data.train_images], averaged)
        expected = scores_of(averaged, data)
        assert windows.loc[replicate, QUANTITIES].to_dict() == pytest.approx(expected, rel=1e-10)


def test_across_equals_naive_loops(data):
    model = ensemble_model(MLP)
    a, b = (trajectory(model, [0, 20], replicates=3, seed=seed) for seed in (1, 2))
    pairs = [(0, 1), (2, 0), (2, 2), (1, 0)]
    table = averaging.across_table(kept(model, a, data), kept(model, b, data), pairs, 3, "across_initialisations")
    same = {"relation": "across_initialisations", "average": "pair", "delta": 0, "averaged": 2}
    expected = [
        {
            **{"replicate": i, "partner": j, "normalisation": name, "step": step, **same},
            **plain_pair(scale(member(a[step], i)), scale(member(b[step], j)), data, 3),
        }
        for (name, scale), step, (i, j) in product(NORMALISATIONS.items(), (0, 20), pairs)
    ]
    assert_rows(table[table["normalisation"] != averaging.MATCHED], expected)
    matched = []
    for step, (i, j) in product((0, 20), pairs):
        mine, other = unit_layers(member(a[step], i)), unit_layers(member(b[step], j))
        row = {"replicate": i, "partner": j, "normalisation": averaging.MATCHED, "step": step, **same}
        matched.append({**row, **plain_pair(mine, plainly_matched(mine, other), data, 3)})
    assert_rows(table[table["normalisation"] == averaging.MATCHED], matched)


def plainly_matched(a, b):
    """Try every order of the first hidden layer of one member of the MLP; the second belongs to the fixed head."""
    orders = [list(order) for order in permutations(range(len(b["linear1.weight"])))]
    tried = [
        {**b, "linear1.weight": b["linear1.weight"][o], "linear2.weight": b["linear2.weight"][:, o]}
        for o in orders
    ]
    return max(tried, key=lambda other: sum((a[name] * other[name]).sum() for name in a))


def test_networks_with_a_permuted_copy_of_themselves_average_to_themselves(data):
    model = ensemble_model("preresnet:width=4,blocks=1")
    weights = trajectory(model, [0], replicates=3)[0]
    units = hidden_units(model.network)
    count = {name: of.count for name, of in units.items()}
    backwards = {name: torch.arange(n).flip(0).expand(3, -1) for name, n in count.items()}
    sides = [kept(model, {0: each}, data) for each in (weights, permute(weights, units, backwards))]
    table = averaging.across_table(*sides, [(0, 0), (1, 1), (2, 2)], 1, "across_initialisations")
    gains = table.set_index("normalisation")["test_loss_gain"]
    assert gains["matched"].abs().max() < 1e-11
    assert (gains["raw"].abs() > 1e-3).all()


def test_checkpoints_are_read_when_needed_and_not_kept(data):
    model = ensemble_model(MLP)
    checkpoints = trajectory(model, range(6))
    in_memory, most = weakref.WeakSet(), 0

    class Read(dict):
        """A dictionary that can be watched."""

        __hash__ = object.__hash__

    def read(step):
        nonlocal most
        weights = Read(checkpoints[step])
        in_memory.add(weights)
        most = max(most, len(in_memory))
        return weights

    averaging.swa_table(Checkpoints(model, range(6), read, data), 1)
    assert most <= 3


@pytest.mark.parametrize("text", [MLP, RESNET, AFFINE])
def test_averages_of_identical_weights_change_nothing(text, data):
    model = ensemble_model(text)
    weights = trajectory(model, [0])[0]
    assert all(torch.equal(interpolate(weights, weights, 0.25)[name], weights[name]) for name in weights)
    table = swa_table(model, {0: weights, 5: weights, 9: weights}, data, interpolation=3)
    scores = evaluate(model, weights, data)
    for name in QUANTITIES:
        reference = getattr(scores, name).numpy()[table["replicate"]]
        np.testing.assert_allclose(table[name], reference, rtol=1e-11)
    zero = table[["test_loss_gain", "test_accuracy_gain", "train_loss_barrier", "test_loss_barrier"]]
    assert zero.fillna(0.0).abs().to_numpy().max() < 1e-11


@pytest.mark.parametrize("text", [MLP, RESNET, AFFINE])
def test_normalised_groups_have_unit_norm_and_the_same_function(text, data):
    model = ensemble_model(text)
    weights = trajectory(model, [0], replicates=3)[0]
    scaled = normalize_groups(weights, model.scale_groups)
    inside = {name for names in model.scale_groups.values() for name in names}
    for names in model.scale_groups.values():
        for index in range(3):
            vector = torch.cat([scaled[name][index].flatten() for name in names])
            assert vector.norm().item() == pytest.approx(1.0, rel=1e-14)
    assert all(torch.equal(scaled[name], weights[name]) for name in set(weights) - inside)
    before, after = evaluate(model, weights, data), evaluate(model, scaled, data)
    for name in QUANTITIES:
        torch.testing.assert_close(getattr(after, name), getattr(before, name), rtol=1e-11, atol=0)


@pytest.mark.parametrize("factor", [0.01, 50.0])
@pytest.mark.parametrize("text", [MLP, RESNET, AFFINE])
def test_only_normalised_averages_ignore_the_scale_of_a_group(text, factor, data):
    model = ensemble_model(text)
    checkpoints = trajectory(model, [0, 1, 2])
    group = "stream" if "stream" in model.scale_groups else next(iter(model.scale_groups))
    scaled = dict(checkpoints[2])
    for name in model.scale_groups[group]:
        scaled[name] = scaled[name] * factor
    tables = [swa_table(model, {**checkpoints, 2: last}, data, 1) for last in (checkpoints[2], scaled)]
    before, after = (table[table["step"] + table["delta"] == 2] for table in tables)
    free = before["normalisation"] == "per_layer"
    numeric = before.select_dtypes("number").columns
    np.testing.assert_allclose(after[free][numeric], before[free][numeric], rtol=1e-9, atol=1e-12)
    change = (after[~free]["test_loss"] - before[~free]["test_loss"]).abs()
    assert (change > 1e-3).all()
    np.testing.assert_allclose(after["test_loss_end"], before["test_loss_end"], rtol=1e-10)


class Parabola:
    """A model of one weight w whose loss on an image of value x, labelled 0, is exactly 5 + x w^2."""

    def __init__(self):
        self.scale_groups = {}
        self.norms = {}
        self.image_shape = (1, 1, 1)

    def forward(self, params, images, normalizer):
        loss = 5 + images.flatten() * params["w"].square()
        return torch.stack([torch.zeros_like(loss), loss + torch.log1p(-torch.exp(-loss))], dim=-1)


def constant_images(train, test, dtype):
    images = [torch.full((count, 1, 1, 1), value, dtype=dtype) for count, value in ((3, train), (2, test))]
    labels = [torch.zeros(count, dtype=torch.int64) for count in (3, 2)]
    return EvaluationData(images[0], labels[0], images[1], labels[1])


@pytest.mark.parametrize("points", [1, 3, 5])
def test_barrier_of_a_parabola_is_the_closed_form(points):
    concave, convex = -0.5, 2.0
    a, b = (torch.tensor(values, dtype=torch.float64).unsqueeze(1) for values in ([1.0, -2.0], [-0.5, 2.5]))
    data = constant_images(concave, convex, torch.float64)
    table = swa_table(Parabola(), {0: {"w": a}, 7: {"w": b}}, data, points)
    # The excess is -x alpha (1 - alpha) (a - b)^2: largest in the middle for x < 0, beside an end for x > 0.
    squared = ((a - b).square().flatten().numpy())[table["replicate"]]
    np.testing.assert_allclose(table["train_loss_barrier"], -concave * squared / 4, rtol=1e-12)
    np.testing.assert_allclose(
        table["test_loss_barrier"], -convex * points / (points + 1) ** 2 * squared, rtol=1e-12
    )
    middle = ((a + b) / 2).square().flatten().numpy()[table["replicate"]]
    np.testing.assert_allclose(table["test_loss"], 5 + convex * middle, rtol=1e-12)


def test_running_means_do_not_lose_small_weights_to_float32():
    steps = {0: 3e7, 1: 1.0, 2: -3e7}
    checkpoints = {step: {"w": torch.tensor([[value]])} for step, value in steps.items()}
    table = swa_table(Parabola(), checkpoints, constant_images(1.0, 1.0, torch.float32), 1)
    windows = table[table["average"] == "window"]
    np.testing.assert_allclose(windows["test_loss"], 5 + 1 / 9, rtol=1e-6)


def test_a_diverged_replicate_is_missing_and_leaves_the_others_alone(data):
    model = ensemble_model(MLP)
    checkpoints = trajectory(model, [0, 1, 2])
    healthy = swa_table(model, checkpoints, data, 1)
    checkpoints[1]["linear1.weight"][1] = torch.nan
    table = swa_table(model, checkpoints, data, 1)
    pd.testing.assert_frame_equal(table[table["replicate"] == 0], healthy[healthy["replicate"] == 0])
    touched = table[(table["replicate"] == 1) & ((table["step"] == 1) | (table["average"] == "window"))]
    assert touched[["test_loss", "test_accuracy", "test_loss_gain", "test_accuracy_gain"]].isna().all(axis=None)


def test_lines_of_a_parabola_and_their_barriers_are_the_closed_form():
    concave, convex = -0.5, 2.0
    a, b = (torch.tensor(values, dtype=torch.float64).unsqueeze(1) for values in ([1.0, -2.0], [-0.5, 2.5]))
    model = Parabola()
    model.spec = ModelSpec("module")
    lines = interpolation.lines_between(model, {"w": a}, {"w": b}, constant_images(concave, convex, torch.float64))
    raw = lines[lines["normalisation"] == "raw"]
    between = [(1 - row.alpha) * a[row.replicate, 0] + row.alpha * b[row.replicate, 0] for row in raw.itertuples()]
    np.testing.assert_allclose(raw["test_loss"], 5 + convex * np.square(between), rtol=1e-12)
    # The excess over the chord is -x alpha (1 - alpha) (a - b)^2 for the loss 5 + x w^2.
    barriers = interpolation.barriers(raw)
    squared = (a - b).square().flatten().numpy()
    np.testing.assert_allclose(barriers["train_loss_barrier"], -concave * squared / 4, rtol=1e-12)
    np.testing.assert_allclose(barriers["test_loss_barrier"], 0, atol=1e-12)
    np.testing.assert_allclose(barriers["train_loss_end"], 5 + concave * b.square().flatten(), rtol=1e-12)


def test_a_relabelled_network_has_a_barrier_until_it_is_matched(data):
    model = ensemble_model("cnn4:width=4")
    weights = trajectory(model, [0], replicates=2)[0]
    units = hidden_units(model.network)
    backwards = {name: torch.arange(of.count).flip(0).expand(2, -1) for name, of in units.items()}
    lines = interpolation.lines_between(model, weights, permute(weights, units, backwards), data)
    found = interpolation.barriers(lines).set_index("normalisation")["train_loss_barrier"]
    assert (found[["raw", "per_layer"]] > 1e-3).all()
    np.testing.assert_allclose(found["matched"], 0, atol=1e-11)
