"""Compiled kernels against the formulas in float64, and training with and without them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from intrinsic_lr import training
from intrinsic_lr.models import kernels
from intrinsic_lr.models.ensemble import build
from intrinsic_lr.models.kernels import Kernels
from intrinsic_lr.models.normalisation import inverse_deviation, moments
from intrinsic_lr.models.spec import ModelSpec

LIMIT = (16 * torch.finfo(torch.float32).eps) ** 2
LIBRARY = Path(__file__).parents[1] / "workflow" / "lib"


@pytest.fixture(scope="module")
def compiled() -> Kernels:
    if shutil.which("gcc") is None or os.environ.get(kernels.SWITCH) == "off":
        pytest.skip("no gcc here, or switched off: training uses PyTorch's own operations")
    loaded = kernels.load()
    assert loaded is not None, "gcc is there, but kernels.c was not compiled"
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
    y, mean, inverse = compiled.normalise(x, LIMIT, rectify)
    exact = x.double().requires_grad_()
    wanted = _exactly(exact, rectify)
    torch.testing.assert_close(y.double(), wanted.detach(), rtol=1e-5, atol=1e-5)
    slope = torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
    found = compiled.differentiate(slope, x, y if rectify else None, mean, inverse)
    (derivative,) = torch.autograd.grad(wanted, exact, slope.double())
    torch.testing.assert_close(found.double(), derivative, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("x", [_rows(20, 40000), _columns(20, 64, 25)], ids=["rows", "columns"])
@pytest.mark.parametrize("value", [0.0, 0.1, -1e4, 1e-30])
def test_a_constant_channel_becomes_exactly_0(compiled: Kernels, x: Tensor, value: float) -> None:
    x = x.clone(memory_format=torch.preserve_format)
    x[:, 7] = value
    y, mean, inverse = compiled.normalise(x, LIMIT, False)
    assert inverse[7] == 0
    assert not y[:, 7].any()
    assert mean[7] == pytest.approx(value)
    assert (inverse[torch.arange(20) != 7] > 0).all()
    assert not compiled.differentiate(torch.ones_like(x), x, None, mean, inverse)[:, 7].any()


@pytest.mark.parametrize("x", [_rows(20, 40), _columns(20, 4, 5)], ids=["rows", "columns"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_passes_through_in_its_channel_alone(
    compiled: Kernels, x: Tensor, value: float
) -> None:
    x = x.clone(memory_format=torch.preserve_format)
    x[0, 7].view(-1)[3] = value
    y, mean, inverse = compiled.normalise(x, LIMIT, True)
    slopes = compiled.differentiate(torch.ones_like(x), x, y, mean, inverse)
    for result in (y, slopes):
        spoilt = result.isnan().flatten(2).any(dim=2).any(dim=0)
        assert spoilt.nonzero().flatten().tolist() == [7]


@pytest.mark.parametrize("x", [_rows(1000, 100), _columns(600, 32, 8)], ids=["rows", "columns"])
def test_bits_depend_on_neither_the_threads_nor_the_other_channels(compiled: Kernels, x: Tensor) -> None:
    before = torch.get_num_threads()
    some = (
        x[:, 130:430].contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x[:, 130:430].contiguous()
    )
    slope = x.flip(0, -1)
    results = []
    try:
        for threads, given, part in ((1, x, slice(130, 430)), (2, x, slice(130, 430)), (2, some, slice(None))):
            torch.set_num_threads(threads)
            y, mean, inverse = compiled.normalise(given, LIMIT, True)
            given_slope = slope if given is x else slope[:, 130:430]
            slopes = compiled.differentiate(given_slope, given, y, mean, inverse)
            results.append([y[:, part], slopes[:, part], mean[part], inverse[part]])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        for first, second in zip(results[0], other, strict=True):
            assert torch.equal(first, second)


@pytest.mark.parametrize("images", [1, 32, 1000])
def test_cross_entropy(compiled: Kernels, images: int) -> None:
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(5, 10, images, generator=generator) * 30
    labels = torch.randint(10, (5, images), generator=generator)
    loss, slope = compiled.cross_entropy(logits, labels)
    exact = logits.double().requires_grad_()
    wanted = F.cross_entropy(exact, labels, reduction="none").mean(dim=1)
    torch.testing.assert_close(loss.double(), wanted.detach(), rtol=1e-6, atol=1e-6)
    (derivative,) = torch.autograd.grad(wanted.sum(), exact)
    torch.testing.assert_close(slope.double(), derivative, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_seen_in_its_member_alone(compiled: Kernels, value: float) -> None:
    logits = torch.randn(3, 10, 8, generator=torch.Generator().manual_seed(5))
    logits[1, 4, 2] = value
    loss, _ = compiled.cross_entropy(logits, torch.zeros(3, 8, dtype=torch.int64))
    assert loss.isfinite().tolist() == [True, False, True]


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
    params = network.initialise([1, 2, 3], 1.0, torch.float32)
    generator = torch.Generator().manual_seed(7)
    images = torch.randn(3, 16, 1, 8, 8, generator=generator)
    labels = torch.randint(10, (3, 16), generator=generator)
    loss, found = training.gradients(network, params, images, labels)
    monkeypatch.setattr(kernels, "load", lambda: None)
    loss_without, found_without = training.gradients(network, params, images, labels)
    torch.testing.assert_close(loss, loss_without, rtol=1e-5, atol=1e-6)
    for name, gradient in found_without.items():
        assert (found[name] - gradient).norm() < 1e-4 * gradient.norm(), name


@pytest.mark.parametrize(("name", "value"), [(kernels.SWITCH, "off"), ("PATH", "/nowhere")])
def test_without_kernels_there_are_none(name: str, value: str) -> None:
    code = "from intrinsic_lr.models import kernels; print(kernels.load())"
    environment = {**os.environ, "PYTHONPATH": str(LIBRARY), name: value}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "None"


def test_a_cache_that_cannot_be_written_leaves_pytorch_at_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code = "from intrinsic_lr.models import kernels; print(kernels.load())"
    environment = {**os.environ, "PYTHONPATH": str(LIBRARY), "XDG_CACHE_HOME": str(tmp_path / "file")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "None"
