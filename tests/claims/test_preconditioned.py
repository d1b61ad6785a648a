"""The preconditioned gradient along a training: its statistics give the updates that AdamW makes."""

from types import SimpleNamespace

import pytest
import torch

from intrinsic_lr.claims.shared import preconditioned
from intrinsic_lr.claims.shared.preconditioned import gradient_statistics
from intrinsic_lr.models.ensemble import build
from intrinsic_lr.models.gradients import gradients
from intrinsic_lr.stats.theory import adamw_update_variance
from intrinsic_lr.study.model_spec import ModelSpec
from plans import plan, timeline

SPEC = ModelSpec.from_config({"kind": "mlp", "width": 8, "depth": 2})
MODEL = build(SPEC, (1, 8, 8), 3)
LR, DECAY, WINDOW, LAGS = 0.01, 0.1, 200, 40


def ensemble():
    planned = plan(
        optimiser="adamw",
        beta2=0.98,
        dtype="float64",
        batch_size=8,
        replicates=(0, 2),
        timeline=timeline((400, LR, DECAY)),
    )

    def weights(step):
        return MODEL.initialize([1, 2], 1.0, torch.float64)

    block = SimpleNamespace(plan=planned, build_model=lambda: MODEL, weights=weights, replicates=range(2))
    return SimpleNamespace(blocks=[block], replicates=2, scale_groups=MODEL.scale_groups)


def test_the_statistics_give_the_size_of_the_updates(noise_images, monkeypatch):
    monkeypatch.setattr(preconditioned, "KEPT", WINDOW)
    opened = ensemble()
    found = gradient_statistics(opened, 5, noise_images, WINDOW, LAGS)
    assert len(found) == len(MODEL.scale_groups) * 2 * (LAGS + 1)
    steps = list(preconditioned._steps(opened.blocks[0], 5, noise_images, WINDOW))
    for group, (name,) in MODEL.scale_groups.items():
        weights = torch.stack([before[name] for before, _ in steps])
        updates = ((1 - LR * DECAY) * weights[:-1] - weights[1:]) / LR
        for replicate in range(2):
            rows = found[(found["group"] == group) & (found["replicate"] == replicate)]
            measured = float(updates[:, replicate].square().sum(dim=(1, 2)).mean())
            expected = adamw_update_variance(0.9, rows["autocovariance"].to_numpy())
            # v changes within the memory of the first moment, and 200 steps are few.
            assert measured == pytest.approx(expected, rel=0.1)
            products = [float((w[name] * x[name])[replicate].sum()) for w, x in steps]
            assert rows["alignment"].iloc[0] == pytest.approx(sum(products) / len(products))


def test_the_gradient_itself_is_orthogonal_to_the_weights_and_the_preconditioned_one_is_not(noise_images):
    params = MODEL.initialize([1, 2], 1.0, torch.float64)
    _, grads = gradients(
        MODEL, params, noise_images.normalize(noise_images.train_images), noise_images.train_labels
    )
    for names in MODEL.scale_groups.values():
        assert all(float((params[name] * grads[name]).sum().abs()) < 1e-12 for name in names)
    found = gradient_statistics(ensemble(), 5, noise_images, 10, 1)
    assert found["alignment"].abs().min() > 1e-6
