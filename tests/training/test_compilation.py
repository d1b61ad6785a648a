"""Compiled steps: what `torch.compile` makes of a training step is that step, and a training of its own."""

import json
import os
import shutil
import signal
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.testing import assert_close

from intrinsic_lr.commands import train
from intrinsic_lr.core.block_files import RUN
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.user_code import UserCode
from intrinsic_lr.models.ensemble import build
from intrinsic_lr.models.kernels import library
from intrinsic_lr.models.normalisation import _normalize_traced, normalize_forward
from intrinsic_lr.training import compilation
from intrinsic_lr.training.batches import Batches
from intrinsic_lr.training.loop import advance, take_step
from intrinsic_lr.training.resume import STATE, STOPPED
from intrinsic_lr.training.state import State
from plans import contents, plan, timeline, train_words, write_noise

NEEDS_COMPILER = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a compiler, g++")
CPU = torch.device("cpu")
TINY = {
    "compile": "on",
    "optimiser": "adamw",
    "clip": 0.5,
    "dtype": "float64",
    "timeline": timeline((7, 0.01, 0.05)),
}
NETWORK = """
from torch import nn

def make(classes=3):
    layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(64, classes))
"""
OPTIMISER = """
def update(weight, grad, state, rates, momentum=0.5):
    velocity = momentum * state["velocity"] + grad + rates.weight_decay * weight
    return weight - rates.lr * velocity / rates.step, {"velocity": velocity}
"""
OTHERS = {
    "mlp-sgd": {},
    "vit": {"model": {"kind": "vit", "width": 8, "depth": 1, "heads": 2, "patch": 4}},
    "preresnet": {"model": {"kind": "preresnet", "width": 4, "blocks": 1}},
    "lion": {"optimiser": "lion", "label_smoothing": 0.1},
    "adam": {"optimiser": "adam", "eps": 1e-4},
    "nesterov": {"momentum": 0.9, "nesterov": True},
    "sphere": {"constraint": "sphere", "timeline": timeline((7, 0.1, 0.0))},
    "full": {"batch_size": "full"},
    "bfloat16": {"precision": "bfloat16", "dtype": "float32"},
    "module": {"model": {"kind": "module", "file": "network.py", "factory": "make"}},
    "own": {"optimiser": "mine"},
    "resnet18": {
        "model": {
            "kind": "module", "factory": "torchvision.models.resnet18", "options": {"num_classes": 3},
            "normalise": True,
        },
        "timeline": timeline((7, 1e-3, 0.05)),
    },
}  # fmt: skip


def assert_same_steps(data, settings, atol):
    """Take three steps compiled and three as they are; losses, weights and buffers agree within rounding."""
    model, batches = build(settings.model, (1, 8, 8), 3), Batches(settings, data)
    state, expected = (State.initial(settings, model, CPU) for _ in range(2))
    compiled = compilation.CompiledStep(settings, model, batches, state)
    assert_close(state.to_tensors(), expected.to_tensors(), rtol=0, atol=0)  # trying it out has changed nothing
    for _ in range(3):
        done = take_step(state, settings, model, batches, compiled=compiled)
        step = take_step(expected, settings, model, batches)
        assert_close(done.loss, step.loss, rtol=1e-5, atol=atol)
        assert_close(done.gradients, step.gradients, rtol=1e-5, atol=atol)
        assert_close(state.to_tensors(), expected.to_tensors(), rtol=1e-5, atol=atol)


@NEEDS_COMPILER
def test_a_compiled_step_is_the_step(noise_images):
    assert_same_steps(noise_images, plan(**TINY), 1e-9)


@pytest.mark.long
@NEEDS_COMPILER
@pytest.mark.parametrize("name", OTHERS)
def test_other_compiled_steps_are_the_steps(noise_images, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "network.py").write_text(NETWORK)
    (tmp_path / "optimiser.py").write_text(OPTIMISER)
    code = UserCode.read("optimiser.py", "update", {}, ("velocity",)) if name == "own" else None
    settings = plan(**{**TINY, "optimiser": "sgd", "clip": None, "optimiser_code": code, **OTHERS[name]})
    if settings.dtype == "float32":
        one = noise_images.mean.float()
        noise_images = replace(noise_images, mean=one, std=one / 2)
    assert_same_steps(noise_images, settings, 1e-9 if settings.dtype == "float64" else 1e-5)


@NEEDS_COMPILER
def test_a_compiled_training_that_was_stopped_ends_with_the_same_bits(tmp_path, capsys):
    files = write_noise(tmp_path / "data")
    whole, parts = ([*train_words(plan(**TINY), files, tmp_path / name)] for name in ("whole", "parts"))
    train.main(whole)
    for step in (0, 1):
        with pytest.raises(SystemExit, match=str(STOPPED)):
            train.main([*parts, "--stop-after", "0"])
        assert f"stopped after step {step} of 7" in capsys.readouterr().err
    train.main(parts)
    assert "going on from step 1 of 7" in capsys.readouterr().err
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    assert json.loads((tmp_path / "parts" / RUN).read_text())["step"] == "inductor"


class Broken:
    """Stands for `CompiledStep` where a compiler fails, or is ended by the signal that ends the training."""

    def __init__(self, plan, *_):
        if plan.seed:
            os.kill(os.getpid(), signal.SIGTERM)
        raise RuntimeError(
            "C++ compile error\n\nCommand:\ng++ step.cpp\nstep.cpp:1: error: no such header\n1 error"
        )


def test_where_the_compiler_fails_pytorch_computes(tmp_path, monkeypatch, capsys):
    """With the results of a training that is not compiled, and said in the record."""
    monkeypatch.setattr(compilation, "CompiledStep", Broken)
    files = write_noise(tmp_path / "data")
    for name in ("on", "off"):
        train.main(train_words(plan(**{**TINY, "compile": name}), files, tmp_path / name))
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    expected = "warning: the step is not compiled, PyTorch computes it as it is: step.cpp:1: error: no such header"
    assert warnings == [expected]
    assert contents(tmp_path / "on") == contents(tmp_path / "off")
    assert json.loads((tmp_path / "on" / RUN).read_text())["step"] == "pytorch"
    assert "step" not in json.loads((tmp_path / "off" / RUN).read_text())


def stopped_state(tmp_path, steps):
    """Stop a training that is to be compiled after its first steps; return its words and its saved state."""
    words = train_words(plan(**TINY, seed=1), write_noise(tmp_path / "data"), tmp_path / "out")
    for _ in range(steps):
        with pytest.raises(SystemExit, match=str(STOPPED)):
            train.main([*words, "--stop-after", "0"])
    return words, (tmp_path / "out" / STATE).read_bytes()


def test_a_stopped_training_changes_its_arithmetic_in_no_step(tmp_path, monkeypatch, capsys):
    """A state of compiled steps is no use to others, nor is it lost when a signal ends the compiler."""
    monkeypatch.setattr(compilation, "CompiledStep", lambda plan, model, *_: partial(advance_as, plan, model))
    words, saved = stopped_state(tmp_path, steps=2)
    monkeypatch.setattr(compilation, "CompiledStep", Broken)
    with pytest.raises(SystemExit, match=str(STOPPED)):
        train.main(words)
    assert (tmp_path / "out" / STATE).read_bytes() == saved
    capsys.readouterr()
    monkeypatch.setattr(os, "kill", lambda *_: None)
    train.main(words)
    assert "of another training (other step); the training does not go on from it" in capsys.readouterr().err


def advance_as(plan, model, state, images, labels, rates):
    return advance(state, plan, model, images, labels, rates)


def test_what_is_compiled_is_kept_in_a_private_folder_for_each_number_of_threads(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    one, two = (library.inductor_cache(threads) for threads in (1, 2))
    assert one == library.inductor_cache(1) != two
    assert {folder.stat().st_mode & 0o777 for folder in (one, two, one.parent)} == {0o700}
    two.rmdir()
    two.symlink_to(one)
    with pytest.raises(InputError, match="must be a folder, not a link"):
        library.inductor_cache(2)


@pytest.mark.parametrize("shape", [(1, 3, 20), (4, 3, 5, 5), (2000, 2, 3, 3)])
def test_norms_are_traced_as_what_is_computed(shape):
    """Constants become 0 in any order of summation, here that of a single sum; the rest agrees within rounding."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[:, 1] = 0.1
    found, expected = _normalize_traced(x), normalize_forward(x, rectify=False)
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other, rtol=1e-10, atol=1e-12)
    assert (found[0][:, 1] == 0).all()
    assert found[2][1] == 0
