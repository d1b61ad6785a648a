"""The benchmarks: fair contenders, an honest bound, and arithmetic that adds up; no times."""

import functools
import itertools
import os
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import __main__ as program
from benchmarks import analyses, engine
from benchmarks.analyses import CLASSES, Labels
from benchmarks.common import measure
from benchmarks.contenders import FORWARD, WEIGHT_GRADIENT, Plain, Vmap, layers, layouts
from benchmarks.library import LR, MODELS, WEIGHT_DECAY, WITHOUT_KERNELS, Case, Engine, network, tensors
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.stats.disagreement import PooledLabels


@pytest.mark.parametrize("model", [*MODELS, *WITHOUT_KERNELS])
def test_baseline_is_the_librarys_network(model):
    what = Case(model, 2, 1)
    built, net = Engine(what), network(what)
    assert {n: tuple(p.shape) for n, p in net.named_parameters()} == built.model.shapes
    assert {n for n, p in net.named_parameters() if p.requires_grad} == set(built.model.trainable)
    for module in net.modules():
        if isinstance(module, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
            module.eps = 1e-30
    weights = {name: value[0].double() for name, value in built.state.params.items()}
    nets = [net.double(), built.model.module().double().train()]
    images = tensors(what)[0][:5].double()
    for either in nets:
        either.load_state_dict(weights, strict=False)
    assert torch.allclose(nets[0](images), nets[1](images), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("model", ["mlp", "cnn4_8x8"])
@pytest.mark.parametrize("build", [Plain, Vmap])
def test_every_baseline_takes_the_step_of_sgd(model, build):
    what = Case(model, 6, 3)
    contender = build(what)
    images, labels = next(contender.batches)
    contender.batches = iter([(images, labels)])
    contender.step()
    found = contender.params if build is Vmap else dict(contender.net.named_parameters())
    if build is Plain:
        images, labels, found = images[None], labels[None], {name: p[None] for name, p in found.items()}
    assert len(images) == contender.members
    for member, batch in enumerate(zip(images, labels, strict=True)):
        net = network(what, member)
        weights = {name: p for name, p in net.named_parameters() if p.requires_grad}
        grads = torch.autograd.grad(F.cross_entropy(net(batch[0]), batch[1]), list(weights.values()))
        for (name, p), grad in zip(weights.items(), grads, strict=True):
            stepped = p - LR * (grad + WEIGHT_DECAY * p)
            assert torch.allclose(found[name][member], stepped, rtol=1e-4, atol=1e-5), (member, name)
            assert not torch.equal(stepped, p)


def test_a_loader_gives_whole_shuffled_epochs():
    what = Case("mlp", 100, 1)
    images, labels = tensors(what)
    batches = [next(Plain(what, loader=True).batches) for _ in range(3)]
    assert {tuple(batch.shape) for batch, _ in batches} == {(100, *images.shape[1:])}
    assert not torch.equal(batches[0][1], labels[:100])


@pytest.mark.parametrize("model", MODELS)
def test_products_are_those_that_pytorch_counts(model):
    what = Case(model, 2, 3)
    net, (images, labels) = network(what), tensors(what)
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(net(images[:2]), labels[:2]).backward()
    assert sum(layer.flops for layer in layers(what)) == counter.get_total_flops()


@pytest.mark.parametrize("model", ["mlp", "cnn4_8x8", "preresnet8"])
def test_every_layout_computes_the_whole_product(model):
    def numbers(result):
        return sum(part.numel() for part in ([result] if torch.is_tensor(result) else result) if part is not None)

    cases = [(layer, product) for layer in layers(Case(model, 2, 3)) for product in layer.products]
    for layer, product in cases:
        shape = {FORWARD: layer.y, WEIGHT_GRADIENT: layer.weight}.get(product, layer.x)
        results = [compute() for compute in layouts(layer, product, 3, lambda *shape: torch.randn(shape))]
        assert {numbers(result) for result in results} == {3 * int(np.prod(shape))}


def test_contenders_take_turns():
    calls = []
    contenders = {name: SimpleNamespace(members=2, step=functools.partial(calls.append, name)) for name in "abc"}
    what = Case("mlp", 400, 1)  # three steps an epoch
    times, steps = engine.interleave(contenders, {"a": 0.01, "b": 0.02, "c": 1.0}, what, budget=4.2)
    assert steps == {"a": 5, "b": 3, "c": 1}
    turns = [name for name, _ in itertools.groupby(calls)]
    assert "".join(turns) == "abc" + "bca" + "cab"
    assert {len(found) for found in times.values()} == {3}


def test_a_ratio_is_one_of_rates_within_each_repetition():
    rates = {"engine": 8 / np.array([1.0, 2.0, 4.0]), "tensors": 1 / np.array([0.5, 0.5, 1.0])}
    row = engine.row(Case("mlp", 32, 8), "tensors", rates, steps=9)
    assert row["member_steps_per_second"] == 2
    assert row["ratio"] == np.median([8 / 2, 4 / 2, 2 / 1])
    assert (row["ratio_low"], row["ratio_high"]) == (2, 3)
    assert (row["repetitions"], row["steps"]) == (3, 9)


def run(tmp_path, arguments):
    out = tmp_path / "new" / "engine.csv"
    engine.main([*f"--batch 4 --threads 1 --device cpu {arguments} --out".split(), str(out)])
    return pd.read_csv(out)


def test_tiny_cases_run_from_end_to_end(tmp_path):
    rows = run(tmp_path, "--models mlp cnn4_8x8 --replicates 2 1 --seconds 0.1")
    assert "note" not in rows
    for _, found in rows.groupby(["model", "replicates"]):
        assert list(found["contender"]) == ["engine", "loader", "tensors", "vmap", "products"]
    assert (rows["member_steps_per_second"] > 0).all()
    assert ((rows["ratio_low"] <= rows["ratio"]) & (rows["ratio"] <= rows["ratio_high"])).all()
    assert (rows.loc[rows["contender"] == "engine", "ratio"] == 1).all()


def test_a_compilation_is_saved_after_so_many_steps():
    compiled = SimpleNamespace(compile_seconds=30.0, kept_seconds=4.0)
    times = {"engine": np.array([0.5, 0.4, 0.3]), "step": np.array([0.2, 0.2, 0.2])}
    assert engine.of_compilation(compiled, times)["break_even_steps"] == pytest.approx(150)
    assert engine.of_compilation(compiled, {**times, "step": times["engine"]})["break_even_steps"] == np.inf


@pytest.mark.long
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a compiler, g++")
def test_compiled_steps_are_measured_beside_the_others(tmp_path):
    rows = run(tmp_path, "--models mlp --replicates 2 --seconds 0.1 --compile").set_index("contender")
    assert list(rows.index) == ["engine", "single", "eager", "step", "vmap"]
    assert 0 < rows["kept_seconds"]["step"] < rows["compile_seconds"]["step"]


def test_what_does_not_fit_is_left_out_with_a_reason(capsys, tmp_path):
    rows = run(tmp_path, "--models mlp --replicates 1 2 --seconds 0.00001")
    assert len(rows) == 2
    assert "ratio" not in rows
    assert rows["note"][1].startswith("already with fewer replicates: a step takes")
    shown = capsys.readouterr().out
    assert all(note in shown for note in rows["note"])


MISTAKES = {
    "--models mlp cnn5": "'cnn5'", "--replicates 0": "--replicates: must be from 1", "--fast": "--fast",
    "--batch 1438": "--batch: must be from 2 to 1437, got 1438", "--precisions float16": "'float16'",
    "--device abacus": "'abacus'",
}  # fmt: skip


@pytest.mark.parametrize("arguments", MISTAKES)
def test_mistakes_are_named(arguments):
    with pytest.raises(InputError, match=MISTAKES[arguments]):
        engine.main([*arguments.split(), "--out", "/nonexistent/never.csv"])


def test_an_unknown_part_is_refused(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["benchmarks", "kettle"])
    with pytest.raises(InputError, match=r"must be one of engine, .*'kettle'"):
        program.main()


def test_a_measurement_is_of_the_function_alone():
    value, peak = measure(np.ones, 1_000_000)
    assert value.sum() == 1_000_000
    assert peak > value.nbytes
    with pytest.raises(InputError, match="ended without a result"):
        measure(os._exit, 1)


class TestAnalyses:
    @pytest.mark.parametrize("error", [0.2, None])
    def test_the_loops_give_the_librarys_nulls_and_resamples(self, error):
        labels = Labels(error, runs=12, settings=2, checkpoints=1, points=450, draws=30)
        a, b = labels.draw(0)
        splits, resamples = (np.random.default_rng(child) for child in np.random.SeedSequence(1).spawn(2))
        null, variation, across = analyses.loops(labels, 30)[1].T
        pooled = PooledLabels(a, b, CLASSES, 30)
        drawn = pooled.resampled(30, resamples)
        np.testing.assert_allclose(null, pooled.null(30, splits), rtol=1e-5)
        np.testing.assert_allclose(variation, drawn["total_variation"], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(across, drawn["across"], rtol=1e-5, atol=1e-6)

    def test_every_pair_is_compared_at_every_checkpoint(self):
        rows = analyses.library(Labels(0.2, runs=12, settings=3, points=50, draws=30), checkpoints=2)[1]
        assert len({row["total_variation"] for row in rows}) == 6
        assert {row["replicates_a"] for row in rows} == {12}

    @pytest.mark.parametrize("error", [0.01, 0.05])
    def test_simulated_runs_err_as_often_as_asked_and_agree_on_easy_points(self, error):
        labels = Labels(error, runs=40, settings=2, points=4000)
        drawn = labels.draw(0)
        for side in drawn:
            assert (side != labels.truth()).mean() == pytest.approx(error, rel=0.15)
        assert not np.array_equal(*drawn)
        pooled = np.concatenate(drawn)
        # If all points were alike, hardly one would be unanimous.
        assert (1 - error) ** 80 + 0.1 < (pooled == pooled[0]).all(axis=0).mean() < 1

    def test_work_is_scaled_to_the_whole(self, tmp_path, monkeypatch):
        seconds = {"library": 1.0, "loops": 0.5}
        monkeypatch.setattr(analyses, "measure", lambda function, *_: ((seconds[function.__name__], None), 2**20))
        monkeypatch.setattr(analyses, "QUICK", {"runs": 4, "checkpoints": 8, "points": 30, "draws": 10})
        analyses.main(["--quick", "--out", str(tmp_path / "deep" / "found.csv")])
        table = pd.read_csv(tmp_path / "deep" / "found.csv").set_index(["case", "contender"])
        # Eight checkpoints of three pairs; ten draws, of which the loops take two.
        assert table.loc[("error 5 %", "library"), "seconds"] == 1
        assert table.loc[("error 5 %", "loops"), "ratio"] == pytest.approx(0.5 * 24 * 5)
        assert table.loc[("equally likely", "library"), "seconds"] == pytest.approx(8)
        assert table.loc[("equally likely", "loops"), "ratio"] == pytest.approx(0.5 * 24 * 5 / 8)
