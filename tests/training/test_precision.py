"""Reduced precision of products: what it touches, what it leaves alone, and that training ends the same."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.data.dataset import Dataset
from intrinsic_lr.models.ensemble import build
from intrinsic_lr.models.gradients import gradients
from intrinsic_lr.models.precision import products_in, use_full_precision
from intrinsic_lr.study.model_spec import ModelSpec
from intrinsic_lr.study.points import check_precision
from intrinsic_lr.training.batches import Batches
from intrinsic_lr.training.evaluation import EvaluationData, evaluate
from intrinsic_lr.training.loop import train
from intrinsic_lr.training.recorder import Recorder
from intrinsic_lr.training.state import State
from plans import plan, timeline

MEMBERS = 24


@pytest.fixture(scope="module")
def digits():
    images, labels = load_digits(return_X_y=True)
    images = torch.from_numpy(images * 15).to(torch.uint8).view(-1, 1, 8, 8)
    labels = torch.from_numpy(labels)
    train, test = slice(0, 1200), slice(1200, None)
    mean = (images[train] / 255).mean().view(1)
    return Dataset(
        images[train], labels[train], images[test], labels[test], mean, (images[train] / 255).std().view(1), {}
    )


def settings_of(precision):
    return plan(
        model={"kind": "mlp", "width": 32}, timeline=timeline((300, 0.1, 0.05)), batch_size=32, checkpoints=(0,),
        log_every=10**6, trace_every=10, replicates=(0, MEMBERS), precision=precision,
    )  # fmt: skip


def trained(digits, settings):
    model = build(settings.model, (1, 8, 8), 10)
    state = State.initial(settings, model, torch.device("cpu"))
    recorder = Recorder(settings, model, EvaluationData.of(digits))
    train(settings, model, Batches(settings, digits), recorder, state)
    return state, recorder, evaluate(model, state.params, EvaluationData.of(digits)).test_accuracy.numpy()


@pytest.fixture(scope="module")
def outcomes(digits):
    return {name: trained(digits, settings_of(name)) for name in ("float32", "bfloat16")}


def test_weights_and_updates_stay_in_float32(outcomes):
    state, _, _ = outcomes["bfloat16"]
    assert all(value.dtype == torch.float32 for value in state.params.values())
    low_bits = state.params["linear1.weight"].view(torch.int32) & 0xFFFF
    assert (low_bits != 0).float().mean() > 0.9, "weights rounded to bfloat16 would have none"


@pytest.mark.parametrize(("precision", "bound"), [("float32", 1e-6), ("bfloat16", 2e-3)])
def test_norm_recursion_holds_to_the_precision_of_the_products(outcomes, precision, bound):
    """R' = a^2 R + eta^2 ||g^||^2 / R, relative: weights and gradient are orthogonal up to rounding only."""
    _, recorder, _ = outcomes[precision]
    history = recorder.history.table(range(MEMBERS))
    last = history["norm_recursion_residual"][history["step"] == 300]
    assert len(last) == MEMBERS
    assert last.abs().max() < bound


def test_final_accuracies_have_one_distribution(outcomes):
    """A permutation test of the difference of means, pairs (member by member) swapped at random."""
    full, reduced = (outcomes[name][2] for name in ("float32", "bfloat16"))
    assert not np.array_equal(full, reduced)
    difference = full - reduced
    signs = np.random.default_rng(0).choice([-1, 1], (2000, MEMBERS))
    p = np.mean(np.abs((signs * difference).mean(axis=1)) >= np.abs(difference.mean()) - 1e-12)
    assert p > 0.01
    assert abs(difference.mean()) < 0.01


@pytest.mark.parametrize(
    "model",
    [
        {"kind": "mlp", "width": 8},
        {"kind": "cnn4", "width": 4},
        {"kind": "preresnet", "width": 4, "blocks": 1},
        {"kind": "cnn4", "norm": "layer"},
    ],
)
def test_gradients_are_close_and_statistics_exact(digits, model):
    """Averaged over a large batch the rounding of the products leaves the direction of the gradient."""
    network = build(ModelSpec.from_config(model), (1, 8, 8), 10)
    params = network.initialize([1, 2], 1.0, torch.float32)
    images, labels = digits.normalize(digits.train_images[:512]), digits.train_labels[:512]
    _, exact = gradients(network, params, images, labels)
    _, found = gradients(network, params, images, labels, "bfloat16")
    for name, value in exact.items():
        assert found[name].dtype == torch.float32
        cosine = torch.cosine_similarity(found[name].flatten(1), value.flatten(1))
        assert (cosine > 0.98).all(), name
        assert not torch.equal(found[name], value)


def test_settings_of_the_process_are_put_back():
    use_full_precision()
    with products_in("tf32", torch.device("cpu")):
        assert torch.backends.cuda.matmul.allow_tf32
        assert torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32


def test_double_weights_have_no_reduced_products():
    check_precision("tf32", "float32")
    with pytest.raises(InputError, match="precision: expected float32 with dtype float64, got tf32"):
        check_precision("tf32", "float64")
