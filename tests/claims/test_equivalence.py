"""Deviations of two ensembles: zero for rescaled copies, and as large as what was changed."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from intrinsic_lr.claims.shared.equivalence import deviations, predicted_labels, predicted_logits
from intrinsic_lr.models.ensemble import build
from intrinsic_lr.study.model_spec import ModelSpec

MODEL = build(ModelSpec.from_config({"kind": "mlp", "width": 8, "depth": 2}), (1, 8, 8), 3)
STEPS = (1, 5)


def ensemble(change=None):
    """An ensemble of 3 members whose weights `change(step, params)` has changed."""

    def weights(step):
        params = MODEL.initialize([step, step + 10, step + 20], 1.0, torch.float64)
        if change:
            change(step, params)
        return params

    return SimpleNamespace(weights=weights, model=lambda: MODEL, scale_groups=MODEL.scale_groups)


def test_another_norm_is_no_deviation(noise_images):
    def scale(step, params):
        for names in MODEL.scale_groups.values():
            for name in names:
                params[name] *= 1 + step

    found = deviations(ensemble(), ensemble(scale), STEPS, noise_images)
    assert list(found["step"]) == [1, 1, 1, 5, 5, 5]
    assert list(found["replicate"]) == [0, 1, 2] * 2
    assert found[["directions", "logits"]].to_numpy().max() < 1e-14


def test_a_turned_weight_is_a_deviation_of_its_size(noise_images):
    def turn(step, params):
        if step == 5:
            params["linear1.weight"][2] *= -1

    found = deviations(ensemble(), ensemble(turn), STEPS, noise_images).set_index(["step", "replicate"])
    first, second = (ensemble().weights(5)[f"linear{layer}.weight"][2].norm() for layer in (1, 2))
    share = first**2 / (first**2 + second**2)
    # The layer's part of the unit vector is reflected: a distance of twice its length.
    assert found.loc[(5, 2), "directions"] == pytest.approx(2 * share.sqrt().item())
    assert found.loc[(5, 2), "logits"] > 0.01
    assert found.drop((5, 2)).to_numpy().max() == 0


def diverge(step, params):
    params["linear2.weight"][1] = torch.nan


ONE_SIDE = [((None, diverge), np.inf), ((diverge, None), np.inf), ((diverge, diverge), np.nan)]


@pytest.mark.parametrize(("changes", "value"), ONE_SIDE)
def test_what_is_finite_on_one_side_alone_is_infinitely_far_and_on_neither_missing(noise_images, changes, value):
    found = deviations(*map(ensemble, changes), STEPS, noise_images)
    found = found.set_index("replicate")[["directions", "logits"]]
    assert np.array_equal(found.loc[1], np.full((2, 2), value), equal_nan=True)
    assert np.isfinite(found.drop(1)).all(axis=None)


def test_labels_are_those_of_the_largest_logit_and_missing_where_it_is_not_finite(noise_images):
    labels = predicted_labels(ensemble(diverge), 1, noise_images)
    assert (labels[1] == -1).all()
    assert np.array_equal(labels[0], predicted_logits(ensemble(), 1, noise_images)[0].argmax(dim=-1))
