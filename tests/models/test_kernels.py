"""Compiled kernels against the formulas in float64, and training with and without them."""

import hashlib
import math
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.models import gradients, kernels
from intrinsic_lr.models.ensemble import build
from intrinsic_lr.models.kernels import chain, library
from intrinsic_lr.models.normalisation import inverse_deviation, moments
from intrinsic_lr.study.model_spec import ModelSpec

LIMIT = (16 * torch.finfo(torch.float32).eps) ** 2
LIBRARY = Path(__file__).parents[2] / "workflow" / "lib"


@pytest.fixture(scope="module")
def compiled():
    if shutil.which("gcc") is None or os.environ.get(kernels.SWITCH) == "off":
        pytest.skip("no gcc here, or switched off: training uses PyTorch's own operations")
    loaded = kernels.load()
    assert loaded is not None, "gcc is there, but nothing was compiled"
    return loaded


@contextmanager
def threads(count):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def rows(channels, count):
    return torch.randn(1, channels, count, generator=torch.Generator().manual_seed(1)) * 3 + 2


def columns(channels, images, side):
    x = torch.randn(images, channels, side, side, generator=torch.Generator().manual_seed(2)) * 3 + 2
    return x.contiguous(memory_format=torch.channels_last)


SHAPES = [rows(640, 32), rows(5, 7), rows(3, 60001), columns(96, 32, 8), columns(1, 2, 1), columns(300, 33, 5)]


@pytest.mark.parametrize("rectify", [True, False])
@pytest.mark.parametrize("x", SHAPES, ids=lambda x: "x".join(map(str, x.shape)))
def test_batch_norm_and_its_derivative(compiled, x, rectify):
    y, mean, inverse = compiled.normalize(x, LIMIT, rectify)
    exact = x.double().requires_grad_()
    exact_mean, centred, variance = moments(exact, (0, *range(2, x.dim())))
    expected = centred * inverse_deviation(exact_mean, variance)
    expected = expected.relu() if rectify else expected
    torch.testing.assert_close(y.double(), expected.detach(), rtol=1e-5, atol=1e-5)
    grad_output = torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
    found = compiled.normalize_backward(grad_output, x, y if rectify else None, mean, inverse)
    (derivative,) = torch.autograd.grad(expected, exact, grad_output.double())
    torch.testing.assert_close(found.double(), derivative, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("x", [rows(20, 40000), columns(20, 64, 25)], ids=["rows", "columns"])
@pytest.mark.parametrize("value", [0.0, 0.1, -1e4, 1e-30])
def test_a_constant_channel_becomes_exactly_0(compiled, x, value):
    x = x.clone(memory_format=torch.preserve_format)
    x[:, 7] = value
    y, mean, inverse = compiled.normalize(x, LIMIT, False)
    assert inverse[7] == 0
    assert not y[:, 7].any()
    assert mean[7] == pytest.approx(value)
    assert (inverse[torch.arange(20) != 7] > 0).all()
    assert not compiled.normalize_backward(torch.ones_like(x), x, None, mean, inverse)[:, 7].any()


@pytest.mark.parametrize("x", [rows(20, 40), columns(20, 4, 5)], ids=["rows", "columns"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_passes_through_in_its_channel_alone(compiled, x, value):
    x = x.clone(memory_format=torch.preserve_format)
    x[0, 7].view(-1)[3] = value
    y, mean, inverse = compiled.normalize(x, LIMIT, True)
    for result in (y, compiled.normalize_backward(torch.ones_like(x), x, y, mean, inverse)):
        spoilt = result.isnan().flatten(2).any(dim=2).any(dim=0)
        assert spoilt.nonzero().flatten().tolist() == [7]


@pytest.mark.parametrize("x", [rows(1000, 100), columns(600, 32, 8)], ids=["rows", "columns"])
def test_bits_depend_on_neither_the_threads_nor_the_other_channels(compiled, x):
    layout = torch.channels_last if x.dim() == 4 else torch.contiguous_format
    some, part = x[:, 130:430].contiguous(memory_format=layout), slice(130, 430)
    grad_output = x.flip(0, -1)
    results = []
    for count, given, kept in ((1, x, part), (2, x, part), (2, some, slice(None))):
        with threads(count):
            y, mean, inverse = compiled.normalize(given, LIMIT, True)
            given_grad = grad_output if given is x else grad_output[:, part]
            grads = compiled.normalize_backward(given_grad, given, y, mean, inverse)
        results.append([y[:, kept], grads[:, kept], mean[kept], inverse[kept]])
    assert all(map(torch.equal, results[0], results[1]))
    assert all(map(torch.equal, results[0], results[2]))


CHAINS = {
    "mlp": ("mlp:width=64,depth=2", (1, 8, 8), 10, 32),
    "odd mlp": ("mlp:width=21,depth=3,head=trained", (3, 3, 5), 17, 19),
    "one layer": ("mlp:width=16,depth=1,head=trained", (1, 4, 4), 3, 300),
    "cnn4": ("cnn4:width=16", (1, 8, 8), 10, 32),
    "odd cnn4": ("cnn4:width=5,head=trained", (3, 7, 9), 33, 11),
    "one pixel": ("cnn4:width=24,head=trained", (2, 1, 1), 2, 40),
}


def drawn(text, shape, classes, batch, members=5):
    """Return a model, its parameters, and a batch for each member."""
    model = build(ModelSpec.from_string(text), shape, classes)
    generator = torch.Generator().manual_seed(4)
    images = torch.randn(members, batch, *shape, generator=generator)
    labels = torch.randint(classes, (members, batch), generator=generator)
    return model, model.initialize(range(members), 1.0, torch.float32), images, labels


@pytest.fixture(params=CHAINS)
def case(request, compiled):
    return drawn(*CHAINS[request.param])


def in_float64(model, params, images, labels):
    return gradients.gradients(model, {n: value.double() for n, value in params.items()}, images.double(), labels)


@pytest.mark.parametrize("shared", [False, True])
def test_gradients_of_a_chain(case, shared):
    model, params, images, labels = case
    images = images[0] if shared else images
    loss, found = chain.gradients(model, params, images, labels)
    expected_loss, expected = in_float64(model, params, images, labels)
    torch.testing.assert_close(loss.double(), expected_loss, rtol=1e-5, atol=1e-6)
    assert list(found) == list(expected)
    for name, gradient in expected.items():
        assert found[name].shape == gradient.shape
        assert (found[name] - gradient).norm() < 1e-5 * gradient.norm(), name


def test_bits_of_a_chain_depend_on_neither_the_threads_nor_the_other_members(case):
    model, params, images, labels = case
    part = slice(3, 4)
    alone = (model, {name: value[part] for name, value in params.items()}, images[part], labels[part])
    results = []
    for count, given, member in ((1, case, 3), (2, case, 3), (2, alone, 0)):
        with threads(count):
            loss, found = chain.gradients(*given)
        results.append([loss[member], *(value[member] for value in found.values())])
    assert all(map(torch.equal, results[0], results[1]))
    assert all(map(torch.equal, results[0], results[2]))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_in_its_member(case, value):
    model, params, images, labels = case
    expected_loss, expected = chain.gradients(*case)
    spoilt = images.clone()
    spoilt[1, 2] = value
    loss, found = chain.gradients(model, params, spoilt, labels)
    assert loss.isfinite().tolist() == [True, False, True, True, True]
    others = [0, 2, 3, 4]
    assert torch.equal(loss[others], expected_loss[others])
    for name, gradient in expected.items():
        assert torch.equal(found[name][others], gradient[others]), name


def test_constant_channels_of_a_chain_pass_nothing_on(case):
    """Black images: every channel is constant, hence 0, and no weight but the head's could change anything."""
    model, params, images, labels = case
    loss, found = chain.gradients(model, params, torch.zeros_like(images), labels)
    assert loss.tolist() == pytest.approx([math.log(model.classes)] * 5)
    assert not any(gradient.any() for gradient in found.values())


@pytest.mark.usefixtures("compiled")
def test_large_logits_have_a_finite_loss():
    model, params, images, labels = drawn("mlp:width=16,depth=1,head=trained", (1, 4, 4), 3, 50, members=1)
    params["head.weight"] *= 1e4
    loss, found = chain.gradients(model, params, images, labels)
    expected, _ = in_float64(model, params, images, labels)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-5)
    assert all(gradient.isfinite().all() for gradient in found.values())


@pytest.mark.parametrize(
    ("text", "side"),
    [
        ("mlp:width=512,depth=2", 28), ("cnn4:width=64", 28), ("mlp:norm=layer", 8), ("mlp:norm=group", 8),
        ("mlp:affine=true", 8), ("cnn4:affine=true", 8), ("preresnet:blocks=1", 8),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("compiled")
def test_large_networks_and_those_that_are_no_chain_are_left_to_pytorch(text, side):
    assert chain.gradients(*drawn(text, (1, side, side), 10, 32, members=1)) is None


def test_the_step_of_sgd(compiled):
    weight, gradient = torch.randn(2, 40, 1000, generator=torch.Generator().manual_seed(6))
    expected = 0.999 * weight.double() - 0.1 * gradient.double()
    compiled.step(weight, gradient, 0.001, 0.1)
    torch.testing.assert_close(weight.double(), expected, rtol=1e-6, atol=1e-6)


def test_the_step_of_adamw(compiled):
    generator = torch.Generator().manual_seed(7)
    weight, gradient, first = torch.randn(3, 40, 1000, generator=generator)
    second = torch.rand(40, 1000, generator=generator)
    w, g, m, v = (tensor.double() for tensor in (weight, gradient, first, second))
    compiled.adamw_step(weight, gradient, first, second, (0.9, 0.99), 0.5, 1e-3, 0.1, 0.01)
    m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g**2
    w = w - (0.01 * w + 0.1 * m / (v.sqrt() / 0.5 + 1e-3))
    for found, expected in ((weight, w), (first, m), (second, v)):
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("text", ["mlp:width=16,depth=2", "cnn4:width=4", "preresnet:width=4,blocks=1"])
@pytest.mark.usefixtures("compiled")
def test_gradients_with_and_without_kernels_agree(text, monkeypatch):
    batch = drawn(text, (1, 8, 8), 10, 16, members=3)
    loss, found = gradients.gradients(*batch)
    monkeypatch.setattr(kernels, "load", lambda: None)
    loss_without, found_without = gradients.gradients(*batch)
    torch.testing.assert_close(loss, loss_without, rtol=1e-5, atol=1e-6)
    for name, gradient in found_without.items():
        assert (found[name] - gradient).norm() < 1e-4 * gradient.norm(), name


@pytest.mark.parametrize("name", [kernels.SWITCH, "PATH", "XDG_CACHE_HOME"])
def test_without_kernels_pytorch_computes(name, tmp_path):
    """Switched off, without gcc, or without a cache to write to, which is said once."""
    (tmp_path / "file").touch()
    value = {kernels.SWITCH: "off", "PATH": "/nowhere", "XDG_CACHE_HOME": str(tmp_path / "file")}[name]
    code = "from intrinsic_lr.models import kernels; print(kernels.arithmetic(), kernels.arithmetic())"
    environment = {**os.environ, kernels.SWITCH: "on", "PYTHONPATH": str(LIBRARY), name: value}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["pytorch", "pytorch"]
    said = [line for line in done.stderr.splitlines() if "not used" in line]
    assert len(said) == (1 if name == "XDG_CACHE_HOME" and shutil.which("gcc") else 0)
    assert all(value in line for line in said)


def test_a_switch_that_is_neither_on_nor_off_is_refused(monkeypatch):
    monkeypatch.setenv(kernels.SWITCH, "0")
    with pytest.raises(InputError, match=rf"{kernels.SWITCH}.* on or off.*'0'"):
        kernels.load.__wrapped__()


@pytest.fixture
def load_afresh(compiled, tmp_path, monkeypatch):
    """Return a function that loads the kernels with an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return kernels.load.__wrapped__


ALTERED = {
    "emptied": lambda content: b"",
    "cut short": lambda content: content[: len(content) // 2],
    "one bit": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
}


def test_the_library_is_private_and_compiled_again_where_it_was_altered(load_afresh, tmp_path):
    assert load_afresh()
    (file,) = (tmp_path / "intrinsic_lr").glob("*.so")
    assert file.parent.stat().st_mode & 0o777 == 0o700
    written = file.stat().st_mtime_ns
    assert library.build(shutil.which("gcc")) == file
    assert file.stat().st_mtime_ns == written
    for alter in ALTERED.values():
        altered = alter(file.read_bytes())
        file.unlink()
        file.write_bytes(altered)
        library.build(shutil.which("gcc"))
        assert file.read_bytes() != altered
        assert hashlib.sha256(file.read_bytes()).hexdigest() == file.with_suffix(".sha256").read_text()


def test_a_library_that_was_planted_with_its_checksum_is_not_loaded(load_afresh, tmp_path):
    """In a folder that was open to all before: a link is not this user's file."""
    assert load_afresh()
    (file,) = (tmp_path / "intrinsic_lr").glob("*.so")
    planted = file.rename(tmp_path / "planted.so")
    planted.write_bytes(b"planted")
    file.symlink_to(planted)
    file.with_suffix(".sha256").write_text(hashlib.sha256(b"planted").hexdigest())
    library.build(shutil.which("gcc"))
    assert not file.is_symlink()
    assert file.read_bytes() != b"planted"
    assert planted.read_bytes() == b"planted"


SOURCES = {
    "error": "void sgd_step(",
    "step": "",
    "self-test": "void sgd_step(float *w, const float *g, long n, float decay, float lr, int t) { w[0] = 0; }",
}


@pytest.mark.parametrize("said", SOURCES, ids=["not C", "function missing", "wrong result"])
def test_a_library_that_fails_is_not_used_and_said_why(load_afresh, said, tmp_path, monkeypatch, capsys):
    shutil.copytree(library.SOURCES, tmp_path / "sources")
    (tmp_path / "sources/step.c").write_text(SOURCES[said])
    monkeypatch.setattr(library, "SOURCES", tmp_path / "sources")
    assert load_afresh() is None
    message = capsys.readouterr().err
    assert "not used" in message
    assert said in message


@pytest.mark.parametrize("other", ["user", "link"])
def test_a_cache_of_another_user_or_a_link_is_not_used(load_afresh, tmp_path, monkeypatch, capsys, other):
    if other == "user":
        monkeypatch.setattr(os, "getuid", lambda: -1)
    else:
        (tmp_path / "open").mkdir(mode=0o755)
        (tmp_path / "intrinsic_lr").symlink_to(tmp_path / "open")
    assert load_afresh() is None
    assert "must be a folder, not a link, and belong to" in capsys.readouterr().err
    assert other == "user" or (tmp_path / "open").stat().st_mode & 0o777 == 0o755
