"""The benchmark of the engine: fair contenders, an honest bound, and arithmetic that adds up; no times."""

import itertools
import subprocess
import sys
from functools import partial
from math import prod
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import engine, measure, report, roofline, targets, ways
from benchmarks.__main__ import ALLOCATOR
from benchmarks.baselines import BASELINES
from benchmarks.cases import LR, MODELS, WEIGHT_DECAY, Case, arithmetic
from benchmarks.library import Engine, network, tensors
from benchmarks.measure import Timing
from intrinsic_lr.core.errors import InputError

ROOT = Path(__file__).parents[1]
CONVOLVED = [
    "grouped", "grouped_channels_last", "unfold_bmm", "member_loop", "separate", "separate_channels_last",
]  # fmt: skip


def case(model, batch=6, replicates=3):
    return Case(model, batch, replicates, "cpu", 1, "float32")


@pytest.mark.parametrize("model", MODELS)
def test_baseline_is_the_librarys_net(model):
    what = case(model, batch=2, replicates=1)
    built = Engine(what)
    net = network(what)
    assert {n: tuple(p.shape) for n, p in net.named_parameters()} == built.model.shapes
    assert {n for n, p in net.named_parameters() if p.requires_grad} == set(built.model.trainable)
    for module in net.modules():
        if isinstance(module, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
            module.eps = 1e-30
    weights = {name: value[0].double() for name, value in built.state.params.items()}
    nets = [net.double(), built.model.module().double().train()]
    for either in nets:
        either.load_state_dict(weights, strict=False)
    images = tensors(what)[0][:5].double()
    assert torch.allclose(nets[0](images), nets[1](images), rtol=1e-9, atol=1e-9)


def trained_by_hand(what, index):
    """Return each member's weights after one step of SGD, written out."""
    images, labels = tensors(what)
    members = []
    for seed, chosen in enumerate(index):
        net = network(what, seed)
        weights = {name: p for name, p in net.named_parameters() if p.requires_grad}
        loss = F.cross_entropy(net(images[chosen]), labels[chosen])
        found = torch.autograd.grad(loss, list(weights.values()))
        members.append(
            {name: p - LR * (g + WEIGHT_DECAY * p) for (name, p), g in zip(weights.items(), found, strict=True)}
        )
    return members


def stacked(contender):
    return {name: p for name, p in contender._net.named_parameters() if p.requires_grad}


def weights_of(name, contender):
    """Return a contender's trained weights, with the member axis first."""
    if name == "vmap":
        return contender._params
    if name.startswith("separate"):
        nets = [dict(net.named_parameters()) for net in contender._nets]
        return {key: torch.stack([net[key] for net in nets]) for key in nets[0] if key != "head.weight"}
    return stacked(contender) if name in ways.WAYS else {k: p[None] for k, p in stacked(contender).items()}


@pytest.mark.parametrize(
    ("model", "name"),
    [
        *itertools.product(("cnn4_8x8",), CONVOLVED),
        ("preresnet8", "unfold_bmm"),
        *itertools.product(("mlp", "cnn4_8x8"), ("loader", "tensors", "vmap", "grouped")),
    ],
)  # fmt: skip
def test_every_contender_takes_the_step_of_sgd(model, name):
    what = case(model, replicates=1 if name in ("loader", "tensors") else 3)
    contender = {**BASELINES, **ways.WAYS}[name](what)
    index = torch.randint(100, (what.replicates, what.batch), generator=torch.Generator().manual_seed(0))
    images, labels = tensors(what)
    batch = {"loader": (images[index[0]], labels[index[0]]), "tensors": index[0]}.get(name, index)
    contender._batches = iter([batch])
    contender.step()
    found = weights_of(name, contender)
    for member, expected in enumerate(trained_by_hand(what, index)):
        assert expected.keys() == found.keys()
        for key, value in expected.items():
            assert torch.allclose(found[key][member], value, rtol=1e-4, atol=1e-5), (member, key)
            assert not torch.equal(value, dict(network(what, member).named_parameters())[key])


@pytest.mark.parametrize("model", MODELS)
def test_products_are_those_that_pytorch_counts(model):
    what = case(model, batch=2)
    net, (images, labels) = network(what), tensors(what)
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(net(images[:2]), labels[:2]).backward()
    assert sum(layer.flops for layer in roofline.layers(what)) == counter.get_total_flops()


def test_bytes_of_the_mlp_counted_by_hand():
    first = 2 * (64 * 64 + 5 * 64 + 5 * 64)
    second = 3 * (64 * 64 + 5 * 64 + 5 * 64)
    head = 2 * (64 * 10 + 5 * 64 + 5 * 10)
    update = 3 * 2 * 64 * 64
    assert roofline.bytes_moved(case("mlp", batch=5)) == 3 * 4 * (first + second + head + update)


@pytest.mark.parametrize("model", ["mlp", "cnn4_8x8", "preresnet8"])
def test_every_layout_computes_the_whole_product(model):
    what = case(model, batch=2)
    for layer in roofline.layers(what):
        sizes = {"forward": layer.y, "weight gradient": layer.weight, "input gradient": layer.x}
        for product in layer.products:
            results = {name: compute() for name, compute in roofline.ways(layer, product, 3, roofline.Noise(what))}
            assert len(results) >= 5
            assert {numbers(result) for result in results.values()} == {3 * prod(sizes[product])}


def numbers(result):
    if isinstance(result, torch.Tensor):
        return result.numel()
    return sum(numbers(part) for part in result if part is not None)


class Counting:
    members = 2

    def __init__(self, name, calls):
        self.name, self.calls = name, calls

    def step(self):
        self.calls.append(self.name)


def test_contenders_take_turns():
    calls = []
    contenders = {name: Counting(name, calls) for name in "abc"}
    estimates = {"a": 0.01, "b": 0.02, "c": 1.0}
    timings = measure.interleave(contenders, estimates, case("mlp"), epoch=4, budget=9.0, repetitions=4)
    steps = {name: timing.steps for name, timing in timings.items()}
    assert steps == {"a": 5, "b": 4, "c": 1}
    assert {len(timing.seconds) for timing in timings.values()} == {4}
    turns = [name for name, _ in itertools.groupby(calls)]
    assert "".join(turns) == "abc" + "bca" + "cab" + "abc"
    assert {name: calls.count(name) for name in "abc"} == {"a": 20, "b": 16, "c": 4}
    timings = measure.interleave(contenders, estimates, case("mlp"), epoch=4, budget=0.1, repetitions=4)
    assert {(timing.steps, len(timing.seconds)) for timing in timings.values()} == {(1, measure.LEAST_REPETITIONS)}


def test_a_ratio_is_one_of_rates_within_each_repetition():
    trained = Timing(np.array([1.0, 2.0, 4.0]), steps=1, members=8)
    baseline = Timing(np.array([0.5, 0.5, 1.0]), steps=9, members=1)
    row = engine.row(case("mlp"), "tensors", baseline, trained)
    assert row["member_steps_per_second"] == 2
    assert row["ratio"] == np.median([8 / 2, 4 / 2, 2 / 1])
    assert (row["ratio_low"], row["ratio_high"]) == (2, 3)
    assert (row["repetitions"], row["steps"]) == (3, 9)


def test_memory_of_an_ensemble_is_at_least_what_it_must_hold():
    what = case("cnn4_8x8", batch=32, replicates=16)
    with arithmetic(what):
        held = Engine(what).weight_bytes
    activations = 4 * 32 * (16 * 64 + 16 * 16 + 32 * 16 + 32 * 4)
    # Weights and gradients of all members, activations of at least the one that the thread is at.
    assert 2 * held + 2 * activations < measure.probe(what, budget=30).peak_bytes < 40 * 16 * activations


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Rows of tiny cases, run as the command line does."""
    out = tmp_path_factory.mktemp("benchmark") / "new" / "engine.csv"
    arguments = "--models mlp,cnn4_8x8 --replicates 1,2 --batch 4 --threads 1 --device cpu --repetitions 3"
    engine.main([*arguments.split(), "--seconds", "0.5", "--ways", "all", "--out", str(out)])
    return pd.read_csv(out)


def test_tiny_cases_run_from_end_to_end(measured):
    assert tuple(measured.columns) == engine.COLUMNS
    assert measured["note"].isna().all()
    everywhere = ["engine", "loader", "tensors", "vmap", "products"]
    for (model, _), rows in measured.groupby(["model", "replicates"]):
        assert list(rows["contender"]) == everywhere + (CONVOLVED if model != "mlp" else [])
    assert (measured["member_steps_per_second"] > 0).all()
    assert (measured["ratio_low"] <= measured["ratio"]).all()
    assert (measured["ratio"] <= measured["ratio_high"]).all()
    trained = measured[measured["contender"] == "engine"]
    assert (trained["ratio"] == 1).all()
    assert (trained["peak_bytes_per_member"] > 0).all()
    assert trained["other_cores"].between(-0.5, 1024).all()
    products = measured[measured["contender"] == "products"].set_index(["model", "replicates"])["layouts"]
    assert products["mlp", 2].count(";") + 1 == 3 + 2
    assert products["cnn4_8x8", 2].count(";") + 1 == 2 + 3 + 3 + 3 + 2


def test_what_does_not_fit_is_left_out_with_a_reason(capsys, tmp_path):
    arguments = "--models mlp --replicates 1,2 --batch 4 --threads 1 --device cpu --seconds 0.00001"
    engine.main([*arguments.split(), "--out", str(tmp_path / "engine.csv")])
    rows = pd.read_csv(tmp_path / "engine.csv")
    assert len(rows) == 2
    assert rows["ratio"].isna().all()
    assert rows["note"][1].startswith("already with 1 replicates of batch 4: ")
    shown = capsys.readouterr().out
    assert all(note in shown for note in rows["note"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--models mlp,cnn5", "--models: found 'cnn5'; allowed: mlp, cnn4_8x8"),
        ("--replicates 0", "--replicates: found 0"),
        ("--replicates many", "list of whole numbers"),
        ("--batch 1438", "--batch: found 1438; allowed: up to 1437"),
        ("--threads some", "list of whole numbers or `all`"),
        ("--precisions float16", "--precisions: found 'float16'"),
        ("--repetitions 2", "--repetitions: found 2; allowed: from 3 on"),
        ("--seconds 0", "--seconds: found 0.0"),
        ("--device abacus", "device: must be one of"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(InputError) as error:
        engine.main([*arguments.split(), "--out", "/nonexistent/never.csv"])
    assert message in str(error.value)


def test_default_cases_hold_the_targets_and_begin_with_them():
    options = engine._options(["--device", "cpu"])
    cases = engine._cases(options)
    assert len(set(cases)) == len(cases)
    named = [targets.names(what) for what in cases]
    assert named == sorted(named, reverse=True)
    assert {(what.model, what.replicates) for what in cases if targets.names(what)} == {
        ("mlp", 64),
        ("cnn4_8x8", 64),
    }
    assert {what.replicates for what in cases} == {1, 8, 64, 256}


def test_on_cuda_the_targets_come_first_with_compiled_nets_and_graphs(monkeypatch):
    monkeypatch.setattr(engine, "resolve", torch.device)
    cases = engine._cases(engine._options(["--device", "cuda"]))
    named = [what for what in cases if targets.names(what)]
    assert cases[: len(named)] == named
    sizes = {("cnn4_28x28", 128, 128), ("preresnet32", 128, 16)}
    assert {(what.model, what.batch, what.replicates) for what in named} == sizes
    assert [what.precision for what in named] == ["float32"] * 2 + ["tf32"] * 2 + ["bfloat16"] * 2
    assert set(engine.CONTENDERS) == set(engine._contenders(named[0], "targets"))
    assert engine._contenders(cases[-1], "targets") == ["engine", "loader", "tensors", "vmap", "products"]


def test_table_on_cuda_tells_the_share_of_bandwidth():
    what = Case("mlp", 32, 10, "cuda", 1, "tf32")
    trained = Timing(np.array([0.5, 0.5, 0.5]), steps=3, members=10)
    row = engine.row(what, "engine", trained, trained)
    row |= {"bytes_seconds": 0.2, "peak_bytes_per_member": 3e6, "other_cores": 1.5}
    line = report.case([row, {"contender": "compiled", "note": "no compiler"}])
    assert len(line.splitlines()[0]) > len(report.header(cuda=True)) - 3
    assert line.split()[:6] == ["mlp", "b32", "R10", "cuda", "tf32", "20"]
    assert line.splitlines()[0].split()[-3:] == ["0.40", "3.00", "3x3"]
    assert line.splitlines()[1:] == [
        "    compiled left out: no compiler",
        "    not to be trusted: other processes took 1.5 cores meanwhile",
    ]
    assert "trusted" not in report.case([row | {"other_cores": 0.05}])


def made_up(**changes):
    row = {"model": "mlp", "batch": 32, "replicates": 64, "device": "cpu", "threads": 2, "precision": "float32"}
    spread = {"contender": "loader", "ratio": 12.0, "ratio_low": 11.0, "ratio_high": 13.0}
    return row | spread | changes


def outcomes(rows):
    return {(verdict.target.text, verdict.precision): verdict.outcome for verdict in targets.verdicts(rows)}


def test_targets_are_judged_by_the_worst_case_that_they_are_about():
    gpu = partial(made_up, model="preresnet32", batch=128, replicates=16, device="cuda")
    rows = [
        made_up(),
        made_up(threads=1, ratio=1.0),
        made_up(batch=128, ratio=1.0),
        made_up(contender="products", ratio=0.33),
        made_up(contender="tensors", replicates=1, ratio=0.95),
        made_up(contender="tensors", replicates=1, model="cnn4_8x8", threads=1, ratio=0.92),
        made_up(contender="tensors", model="preresnet8", replicates=8, ratio=1.5),
        made_up(contender="tensors", model="preresnet8", replicates=1, ratio=0.99),
        gpu(contender="tensors", ratio=5.1),
        gpu(contender="tensors", ratio=4.9, precision="bfloat16"),
        {"contender": "compiled", "note": "no compiler", "device": "cuda"},
    ]
    found = outcomes(rows)
    text = {(target.against, target.least): target.text for target in targets.TARGETS}
    assert found[text["loader", 12.0], "float32"] == "reached"
    assert found[text["products", 1 / 3], "float32"] == "not reached"
    assert found[text["loader", 6.0], ""] == "not run"
    assert found[text["tensors", 1 / 1.1], "float32"] == "reached"
    assert found[text["tensors", 1.0], "float32"] == "not reached"
    assert found[text["tensors", 5.0], "float32"] == "reached"
    assert found[text["tensors", 5.0], "bfloat16"] == "not reached"
    assert found[text["compiled", 2.0], ""] == "not run"
    printed = report.targets(rows)
    assert printed.count("\n") == len(found) + 1
    assert "0.92 [11 13]" in printed


def test_memory_is_kept_as_in_the_jobs_of_the_workflow():
    text = (ROOT / "workflow/rules/common.smk").read_text()
    assert " ".join(f"{name}={value}" for name, value in ALLOCATOR.items()) in text


def test_an_unknown_part_is_refused():
    command = [sys.executable, "-m", "benchmarks", "kettle"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert done.stderr.startswith("error: part: found 'kettle'; allowed: engine")
