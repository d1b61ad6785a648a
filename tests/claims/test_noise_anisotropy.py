"""Anisotropy of the gradient noise: verdicts on noise of known spectra, and the gradients that are measured."""

import numpy as np
import pandas as pd
import pytest
import torch
from checks import Example, spec_of, verdicts

from intrinsic_lr.claims import noise_anisotropy as claim
from intrinsic_lr.models.ensemble import build
from intrinsic_lr.stats.noise import noise_moments
from intrinsic_lr.study.model_spec import ModelSpec

SPEC = spec_of("noise_anisotropy", {"equilibrium": [{"name": "p"}]}, batches=40, isotropic_draws=3)
DIMENSION, TANGENT = 300, 3000


def table(directions=5, seed=0):
    """Return a table of noise that lies evenly in some of the directions, and of isotropic noise."""
    generator = np.random.default_rng(seed)
    rows = []
    for replicate in range(6):
        for part, spread in ((claim.MEASURED, directions), (claim.ISOTROPIC, DIMENSION)):
            vectors = generator.standard_normal((80, spread)) + 0.3
            row = claim._row(vectors @ vectors.T, DIMENSION, TANGENT, SPEC, generator)
            key = {"part": part, "point": "p", "step": 10, "replicate": replicate, "dimension": DIMENSION}
            rows.append({**key, **row})
    return pd.DataFrame(rows)


COLUMNS = ["participation_ratio", "top_1", "isotropic_top", "isotropic_top_same_lengths"]
EXAMPLE = Example(claim, SPEC, table, COLUMNS, criteria=2, controls=2)


def test_the_participation_ratio_is_that_of_the_directions():
    findings = EXAMPLE.judged()
    share = findings.loc[findings["statistic"].str.startswith("participation"), "estimate"]
    assert list(share) == pytest.approx([5 / DIMENSION, 1.0], rel=0.15)


def test_isotropic_noise_of_a_network_is_not_reproduced():
    assert set(verdicts(EXAMPLE.judged(directions=DIMENSION))) == {"not reproduced"}


def test_the_gradients_are_those_of_mini_batches_at_unit_norm(noise_images):
    model = build(ModelSpec.from_string("mlp:width=8,depth=1"), (1, 8, 8), 3)
    weights = model.initialize([0, 1], 1.0, torch.float64)
    scaled = {name: value * (7 if name in model.trainable else 1) for name, value in weights.items()}
    names = [name for group in model.scale_groups.values() for name in group]
    found, again = (dict(claim._grams(model, w, names, noise_images, 10, SPEC, 5)) for w in (weights, scaled))
    assert list(found) == [0, 1]
    for replicate, gram in found.items():
        assert gram.shape == (40, 40)
        # At unit norm the gradient does not know the norm of the weights.
        np.testing.assert_allclose(again[replicate], gram, rtol=1e-9, atol=1e-9 * np.abs(gram).max())
        assert noise_moments(gram).trace > 0
    full = dict(claim._grams(model, weights, names, noise_images, 20, SPEC, 5))
    assert noise_moments(full[0]).trace == pytest.approx(0, abs=1e-9 * np.trace(full[0]))


def test_gradients_that_are_not_finite_give_a_row_without_numbers():
    generator = np.random.default_rng(0)
    vectors = generator.standard_normal((10, 20))
    grams = np.full((10, 10), np.nan), vectors @ vectors.T
    row, finite = (claim._row(gram, DIMENSION, TANGENT, SPEC, generator) for gram in grams)
    assert np.isnan(list(row.values())).all()
    assert list(finite) == list(row)
    assert finite["share_of_tangent_dimension"] == finite["participation_ratio"] / TANGENT


def test_a_replicate_that_misses_a_checkpoint_and_a_point_that_misses_are_left_out():
    frame = pd.concat([EXAMPLE.table(), table(seed=1).assign(step=20)], ignore_index=True)
    frame.loc[(frame["step"] == 20) & (frame["replicate"] == 2), "participation_ratio"] = np.nan
    assert set(EXAMPLE.judged(frame)["n"]) == {5}
    findings = EXAMPLE.judged(spec=EXAMPLE.with_points(equilibrium=[{"name": "p"}, {"name": "q"}]))
    assert set(findings["verdict"]) == {"inconclusive"}
