"""Evaluation of ensembles: pooled statistics over several batches, and members in parts."""

import pytest
import torch

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.models import devices
from intrinsic_lr.models.ensemble import build
from intrinsic_lr.models.normalisation import FixedStatistics
from intrinsic_lr.study.model_spec import ModelSpec
from intrinsic_lr.training import evaluation


@pytest.fixture
def setting():
    model = build(ModelSpec.from_config({"kind": "cnn4", "width": 4}), (1, 6, 6), 3)
    params = model.initialize(range(5), 1.0, torch.float64)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(41, 1, 6, 6, generator=generator, dtype=torch.float64)
    labels = torch.randint(3, (41,), generator=generator)
    return model, params, evaluation.EvaluationData(images[:30], labels[:30], images[30:], labels[30:])


def test_evaluation_equals_plain_networks(setting):
    """A module in training mode on the whole set has the set's statistics: losses and accuracies must agree."""
    model, params, data = setting
    found = evaluation.evaluate(model, params, data)
    for k in range(5):
        module = model.module().double().train()
        module.load_state_dict({name: value[k] for name, value in params.items()}, strict=False)
        logits = module(data.train_images)
        loss = torch.nn.functional.cross_entropy(logits, data.train_labels)
        assert found.train_loss[k].item() == pytest.approx(loss.item(), rel=1e-10)
        accuracy = (logits.argmax(1) == data.train_labels).double().mean().item()
        assert found.train_accuracy[k].item() == pytest.approx(accuracy)


def test_large_sets_pool_the_statistics_of_their_batches(setting, monkeypatch):
    model, params, data = setting
    monkeypatch.setattr(evaluation, "EVALUATION_BATCH", 8)
    statistics, logits = evaluation.recompute_statistics(model, params, data.train_images)
    assert logits is None
    # The first layer sees the images themselves, so its pooled statistics are those of the whole set.
    weight = params["conv1.weight"].flatten(0, 1)
    activations = torch.nn.functional.conv2d(data.train_images, weight, padding=1).unflatten(1, (5, 4))
    assert torch.allclose(statistics["norm1"].mean, activations.mean(dim=(0, 3, 4)))
    assert torch.allclose(statistics["norm1"].variance, activations.var(dim=(0, 3, 4), correction=0))
    expected = model.forward(params, data.test_images, FixedStatistics(statistics))
    found = evaluation.evaluate(model, params, data).test_loss
    assert torch.allclose(found, evaluation.losses(expected, data.test_labels).mean(dim=1), rtol=1e-10)


def test_members_in_parts_give_the_same(setting, monkeypatch):
    model, params, data = setting
    pixels = model.image_shape[1] * model.image_shape[2] * evaluation.EVALUATION_BATCH
    monkeypatch.setattr(evaluation, "CPU_PIXELS", 5 * pixels)
    whole = evaluation.evaluate(model, params, data)
    monkeypatch.setattr(evaluation, "CPU_PIXELS", 2 * pixels)
    parts = evaluation.evaluate(model, params, data)
    assert evaluation.by_members(model, params, lambda part: len(part["head.weight"])) == [2, 2, 1]
    assert torch.allclose(whole.test_loss, parts.test_loss, rtol=1e-10)
    assert len(parts.test_loss) == 5


def test_parts_are_larger_where_temporaries_are_cheap():
    """A CPU takes two members of 8x8 images at once and one of 28x28, other devices what their memory holds."""

    def sizes(shape, device):
        model = build(ModelSpec.from_config({"kind": "mlp"}), shape, 3)
        weights = {"w": torch.empty(70, 1, device=device)}
        return evaluation.by_members(model, weights, lambda part: len(part["w"]))

    assert sizes((1, 8, 8), "cpu") == [2] * 35
    assert sizes((1, 28, 28), "cpu") == [1] * 70
    assert sizes((1, 28, 28), "meta") == [64, 6]


def test_parts_are_halved_where_memory_runs_out(setting, monkeypatch):
    model, params, _ = setting
    monkeypatch.setattr(evaluation, "CPU_PIXELS", 1 << 30)

    def sizes(limit):
        def compute(part):
            if len(part["head.weight"]) > limit:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return len(part["head.weight"])

        return evaluation.by_members(model, params, compute)

    assert sizes(2) == [2, 2, 1]
    with pytest.raises(torch.OutOfMemoryError):
        sizes(0)


def test_predicting_in_passes_gives_the_same(setting, monkeypatch):
    model, params, data = setting
    statistics, _ = evaluation.recompute_statistics(model, params, data.train_images)
    whole = evaluation.predict(model, params, statistics, data.test_images)
    monkeypatch.setattr(evaluation, "CPU_IMAGES", 3)
    assert torch.allclose(evaluation.predict(model, params, statistics, data.test_images), whole, rtol=1e-10)


def test_devices():
    assert devices.resolve("cpu") == torch.device("cpu")
    assert devices.resolve("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(InputError, match=r"must be one of auto, cpu.* got 'cuda:99'"):
        devices.resolve("cuda:99")


def test_features_are_what_the_head_sees(setting):
    model, params, data = setting
    statistics, _ = evaluation.recompute_statistics(model, params, data.train_images)
    for found, images in zip(
        evaluation.features(model, params, data), (data.train_images, data.test_images), strict=True
    ):
        logits = torch.bmm(found, params["head.weight"].transpose(1, 2))
        assert torch.allclose(logits, evaluation.predict(model, params, statistics, images), rtol=1e-10)
