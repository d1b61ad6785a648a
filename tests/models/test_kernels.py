"""Compiled kernels against the formulas in float64, and training with and without them."""

import hashlib
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.models import gradients, kernels
from intrinsic_lr.models.ensemble import EnsembleModel, build
from intrinsic_lr.models.kernels import Kernels, chain, library
from intrinsic_lr.models.normalisation import inverse_deviation, moments
from intrinsic_lr.study.model_spec import ModelSpec

LIMIT = (16 * torch.finfo(torch.float32).eps) ** 2
LIBRARY = Path(__file__).parents[2] / "workflow" / "lib"


@pytest.fixture(scope="module")
def compiled() -> Kernels:
    if shutil.which("gcc") is None or os.environ.get(kernels.SWITCH) == "off":
        pytest.skip("no gcc here, or switched off: training uses PyTorch's own operations")
    loaded = kernels.load()
    assert loaded is not None, "gcc is there, but nothing was compiled"
    return loaded


def _rows(channels: int, count: int) -> Tensor:
    return torch.randn(1, channels, count, generator=torch.Generator().manual_seed(1)) * 3 + 2


def _columns(channels: int, images: int, side: int) -> Tensor:
    x = torch.randn(images, channels, side, side, generator=torch.Generator().manual_seed(2)) * 3 + 2
    return x.contiguous(memory_format=torch.channels_last)


SHAPES = [
    _rows(640, 32),
    _rows(5, 7),
    _rows(3, 60001),
    _columns(96, 32, 8),
    _columns(1, 2, 1),
    _columns(300, 33, 5),
]


def _exactly(x: Tensor, rectify: bool) -> Tensor:
    mean, centred, variance = moments(x, (0, *range(2, x.dim())))
    y = centred * inverse_deviation(mean, variance)
    return y.relu() if rectify else y


@pytest.mark.parametrize("rectify", [True, False])
@pytest.mark.parametrize("x", SHAPES, ids=lambda x: "x".join(map(str, x.shape)))
def test_batch_norm_and_its_derivative(compiled: Kernels, x: Tensor, rectify: bool) -> None:
    y, mean, inverse = compiled.normalize(x, LIMIT, rectify)
    exact = x.double().requires_grad_()
    wanted = _exactly(exact, rectify)
    torch.testing.assert_close(y.double(), wanted.detach(), rtol=1e-5, atol=1e-5)
    grad_output = torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
    found = compiled.normalize_backward(grad_output, x, y if rectify else None, mean, inverse)
    (derivative,) = torch.autograd.grad(wanted, exact, grad_output.double())
    torch.testing.assert_close(found.double(), derivative, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("x", [_rows(20, 40000), _columns(20, 64, 25)], ids=["rows", "columns"])
@pytest.mark.parametrize("value", [0.0, 0.1, -1e4, 1e-30])
def test_a_constant_channel_becomes_exactly_0(compiled: Kernels, x: Tensor, value: float) -> None:
    x = x.clone(memory_format=torch.preserve_format)
    x[:, 7] = value
    y, mean, inverse = compiled.normalize(x, LIMIT, False)
    assert inverse[7] == 0
    assert not y[:, 7].any()
    assert mean[7] == pytest.approx(value)
    assert (inverse[torch.arange(20) != 7] > 0).all()
    assert not compiled.normalize_backward(torch.ones_like(x), x, None, mean, inverse)[:, 7].any()


@pytest.mark.parametrize("x", [_rows(20, 40), _columns(20, 4, 5)], ids=["rows", "columns"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_passes_through_in_its_channel_alone(
    compiled: Kernels, x: Tensor, value: float
) -> None:
    x = x.clone(memory_format=torch.preserve_format)
    x[0, 7].view(-1)[3] = value
    y, mean, inverse = compiled.normalize(x, LIMIT, True)
    grads = compiled.normalize_backward(torch.ones_like(x), x, y, mean, inverse)
    for result in (y, grads):
        spoilt = result.isnan().flatten(2).any(dim=2).any(dim=0)
        assert spoilt.nonzero().flatten().tolist() == [7]


@pytest.mark.parametrize("x", [_rows(1000, 100), _columns(600, 32, 8)], ids=["rows", "columns"])
def test_bits_depend_on_neither_the_threads_nor_the_other_channels(compiled: Kernels, x: Tensor) -> None:
    before = torch.get_num_threads()
    some = (
        x[:, 130:430].contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x[:, 130:430].contiguous()
    )
    grad_output = x.flip(0, -1)
    results = []
    try:
        for threads, given, part in ((1, x, slice(130, 430)), (2, x, slice(130, 430)), (2, some, slice(None))):
            torch.set_num_threads(threads)
            y, mean, inverse = compiled.normalize(given, LIMIT, True)
            given_grad = grad_output if given is x else grad_output[:, 130:430]
            grads = compiled.normalize_backward(given_grad, given, y, mean, inverse)
            results.append([y[:, part], grads[:, part], mean[part], inverse[part]])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        for first, second in zip(results[0], other, strict=True):
            assert torch.equal(first, second)


CHAINS = {
    "mlp": ("mlp:width=64,depth=2", (1, 8, 8), 10, 32),
    "odd mlp": ("mlp:width=21,depth=3,head=trained", (3, 3, 5), 17, 19),
    "one layer": ("mlp:width=16,depth=1,head=trained", (1, 4, 4), 3, 300),
    "cnn4": ("cnn4:width=16", (1, 8, 8), 10, 32),
    "odd cnn4": ("cnn4:width=5,head=trained", (3, 7, 9), 33, 11),
    "one pixel": ("cnn4:width=24,head=trained", (2, 1, 1), 2, 40),
}
Chain = tuple[EnsembleModel, dict[str, Tensor], Tensor, Tensor]


@pytest.fixture(params=CHAINS)
def case(request: pytest.FixtureRequest) -> Chain:
    spec, shape, classes, batch = CHAINS[request.param]
    model = build(ModelSpec.parse(spec), shape, classes)
    generator = torch.Generator().manual_seed(4)
    images = torch.randn(5, batch, *shape, generator=generator)
    labels = torch.randint(classes, (5, batch), generator=generator)
    return model, model.initialize(range(5), 1.0, torch.float32), images, labels


def _gradients(case: Chain) -> tuple[Tensor, dict[str, Tensor]]:
    found = chain.gradients(*case)
    assert found is not None
    return found


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.usefixtures("compiled")
def test_gradients_of_a_chain(case: Chain, shared: bool) -> None:
    model, params, images, labels = case
    images = images[0] if shared else images
    loss, found = _gradients((model, params, images, labels))
    exact = {name: value.double() for name, value in params.items()}
    wanted_loss, wanted = gradients.gradients(model, exact, images.double(), labels)
    torch.testing.assert_close(loss.double(), wanted_loss, rtol=1e-5, atol=1e-6)
    assert list(found) == list(wanted)
    for name, gradient in wanted.items():
        assert found[name].shape == gradient.shape
        assert (found[name] - gradient).norm() < 1e-5 * gradient.norm(), name


@pytest.mark.usefixtures("compiled")
def test_bits_of_a_chain_depend_on_neither_the_threads_nor_the_other_members(case: Chain) -> None:
    model, params, images, labels = case
    part = slice(3, 4)
    alone = (model, {name: value[part] for name, value in params.items()}, images[part], labels[part])
    before = torch.get_num_threads()
    results = []
    try:
        for threads, given, member in ((1, case, 3), (2, case, 3), (2, alone, 0)):
            torch.set_num_threads(threads)
            loss, found = _gradients(given)
            results.append([loss[member], *(value[member] for value in found.values())])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.usefixtures("compiled")
def test_what_is_not_finite_stays_in_its_member(case: Chain, value: float) -> None:
    model, params, images, labels = case
    expected_loss, expected = _gradients(case)
    spoilt = images.clone()
    spoilt[1, 2] = value
    loss, found = _gradients((model, params, spoilt, labels))
    assert loss.isfinite().tolist() == [True, False, True, True, True]
    others = [0, 2, 3, 4]
    assert torch.equal(loss[others], expected_loss[others])
    for name, gradient in expected.items():
        assert torch.equal(found[name][others], gradient[others]), name


@pytest.mark.usefixtures("compiled")
def test_constant_channels_of_a_chain_pass_nothing_on(case: Chain) -> None:
    """Black images: every channel is constant, hence 0, and no weight but the head's could change anything."""
    model, params, images, labels = case
    loss, found = _gradients((model, params, torch.zeros_like(images), labels))
    assert loss.tolist() == pytest.approx([math.log(model.classes)] * 5)
    assert not any(gradient.any() for gradient in found.values())


@pytest.mark.usefixtures("compiled")
def test_large_logits_have_a_finite_loss() -> None:
    model = build(ModelSpec.parse("mlp:width=16,depth=1,head=trained"), (1, 4, 4), 3)
    params = model.initialize([1], 1.0, torch.float32)
    params["head.weight"] *= 1e4
    images, labels = torch.randn(1, 50, 1, 4, 4), torch.randint(3, (1, 50))
    loss, found = _gradients((model, params, images, labels))
    exact = {name: value.double() for name, value in params.items()}
    wanted, _ = gradients.gradients(model, exact, images.double(), labels)
    torch.testing.assert_close(loss.double(), wanted, rtol=1e-5, atol=1e-5)
    assert all(gradient.isfinite().all() for gradient in found.values())


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize(("spec", "side"), [("mlp:width=512,depth=2", 28), ("cnn4:width=64", 28)])
def test_large_networks_are_left_to_pytorch(spec: str, side: int) -> None:
    model = build(ModelSpec.parse(spec), (1, side, side), 10)
    params = model.initialize([1], 1.0, torch.float32)
    images, labels = torch.randn(1, 32, 1, side, side), torch.randint(10, (1, 32))
    assert chain.gradients(model, params, images, labels) is None


def test_the_step_of_sgd(compiled: Kernels) -> None:
    weight, gradient = torch.randn(2, 40, 1000, generator=torch.Generator().manual_seed(6))
    wanted = 0.999 * weight.double() - 0.1 * gradient.double()
    compiled.step(weight, gradient, 0.999, 0.1)
    torch.testing.assert_close(weight.double(), wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("model", ["mlp:width=16,depth=2", "cnn4:width=4", "preresnet:width=4,blocks=1"])
def test_gradients_with_and_without_kernels_agree(
    compiled: Kernels, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = build(ModelSpec.parse(model), (1, 8, 8), 10)
    params = network.initialize([1, 2, 3], 1.0, torch.float32)
    generator = torch.Generator().manual_seed(7)
    images = torch.randn(3, 16, 1, 8, 8, generator=generator)
    labels = torch.randint(10, (3, 16), generator=generator)
    loss, found = gradients.gradients(network, params, images, labels)
    monkeypatch.setattr(kernels, "load", lambda: None)
    loss_without, found_without = gradients.gradients(network, params, images, labels)
    torch.testing.assert_close(loss, loss_without, rtol=1e-5, atol=1e-6)
    for name, gradient in found_without.items():
        assert (found[name] - gradient).norm() < 1e-4 * gradient.norm(), name


@pytest.mark.parametrize(
    "text",
    [
        "mlp:norm=layer", "mlp:norm=group", "mlp:affine=true", "cnn4:affine=true", "preresnet:blocks=1",
        "preresnet:blocks=1,final_relu=false",
    ],
)  # fmt: skip
def test_what_is_no_chain_of_batch_norms_is_left_to_pytorch(text: str) -> None:
    model = build(ModelSpec.parse(text), (1, 8, 8), 10)
    assert chain.describe(model.network, model.image_shape) == ()


def load_in_a_process(**environment: str) -> tuple[str, str]:
    """Return the arithmetic of a fresh process and what it writes to stderr."""
    code = "from intrinsic_lr.models import kernels; print(kernels.arithmetic(), kernels.arithmetic())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(LIBRARY), **environment},
        capture_output=True,
        text=True,
    )
    return done.stdout.strip(), done.stderr


@pytest.mark.parametrize(("name", "value"), [(kernels.SWITCH, "off"), ("PATH", "/nowhere")])
def test_without_kernels_pytorch_computes(name: str, value: str) -> None:
    assert load_in_a_process(**{name: value}) == ("pytorch pytorch", "")


def test_a_switch_that_is_neither_on_nor_off_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(kernels.SWITCH, "0")
    with pytest.raises(InputError, match=rf"{kernels.SWITCH}.* on or off.*'0'"):
        kernels.load.__wrapped__()


def test_a_cache_that_cannot_be_written_leaves_pytorch_at_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    arithmetic, message = load_in_a_process(XDG_CACHE_HOME=str(tmp_path / "file"), **{kernels.SWITCH: "on"})
    assert arithmetic == "pytorch pytorch"
    assert len(message.splitlines()) == 1
    assert str(tmp_path / "file") in message


@pytest.fixture
def loaded_afresh(compiled, tmp_path, monkeypatch) -> Callable[[], Kernels | None]:
    """Load the kernels with an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return kernels.load.__wrapped__


def test_the_library_is_private_and_compiled_again_where_it_was_altered(loaded_afresh, tmp_path) -> None:
    assert loaded_afresh()
    (file,) = (tmp_path / "intrinsic_lr").glob("*.so")
    assert file.parent.stat().st_mode & 0o777 == 0o700
    before = file.stat().st_mtime_ns
    assert library.build(shutil.which("gcc")) == file
    assert file.stat().st_mtime_ns == before
    content = file.read_bytes()
    file.unlink()
    file.write_bytes(content[:-1] + b"x")
    library.build(shutil.which("gcc"))
    assert hashlib.sha256(file.read_bytes()).hexdigest() == file.with_suffix(".sha256").read_text()
    assert file.read_bytes() != content[:-1] + b"x"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("void step(", "error"),
        ("", "step"),
        ("void step(float *w, const float *g, long n, float keep, float lr, int t) { w[0] = 0; }", "self-test"),
    ],
    ids=["not C", "function missing", "wrong result"],
)
def test_a_library_that_fails_is_not_used_and_said_why(
    loaded_afresh, source: str, said: str, tmp_path: Path, monkeypatch, capsys
) -> None:
    sources = tmp_path / "sources"
    shutil.copytree(library.SOURCES, sources)
    (sources / "step.c").write_text(source)
    monkeypatch.setattr(library, "SOURCES", sources)
    assert loaded_afresh() is None
    message = capsys.readouterr().err
    assert "not used" in message
    assert said in message


def test_a_cache_of_another_user_is_not_used(loaded_afresh, monkeypatch, capsys) -> None:
    monkeypatch.setattr(os, "getuid", lambda: -1)
    assert loaded_afresh() is None
    assert "must belong to" in capsys.readouterr().err
