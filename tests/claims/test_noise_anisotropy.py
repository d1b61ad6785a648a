"""Anisotropy of the gradient noise: verdicts on noise of known spectra, and the gradients that are measured."""

from functools import partial
from types import SimpleNamespace

import checks
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from checks import experiment

from intrinsic_lr.claims import noise_anisotropy as claim
from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec
from intrinsic_lr.claims.shared.verdicts import overall
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.models.ensemble import build
from intrinsic_lr.stats.noise import noise_moments
from intrinsic_lr.study.model_spec import ModelSpec

SPEC = ClaimSpec(
    "noise_anisotropy",
    experiments={"equilibrium": experiment("run", [{"name": "p"}])},
    thresholds={"share": 0.1, "top": 3},
    settings={"settled": 4, "checkpoints": 2, "batches": 40, "isotropic_draws": 3},
    analysis={"confidence": 0.95},
)
judged = partial(checks.judged, claim, spec=SPEC)
DIMENSION, TANGENT = 300, 3000


def table(directions, replicates=6, seed=0):
    """Return a table of noise that lies evenly in some of the directions, and of isotropic noise."""
    generator = np.random.default_rng(seed)
    rows = []
    for replicate in range(replicates):
        for part, spread in ((claim.MEASURED, directions), (claim.ISOTROPIC, DIMENSION)):
            vectors = generator.standard_normal((80, spread)) + 0.3
            row = claim._row(vectors @ vectors.T, DIMENSION, TANGENT, SPEC, generator)
            key = {"part": part, "point": "p", "step": 10, "replicate": replicate, "dimension": DIMENSION}
            rows.append({**key, **row})
    return pd.DataFrame(rows)


def test_noise_in_few_directions_is_reproduced_and_isotropic_noise_is_rejected():
    findings = judged(table(5))
    assert overall(findings) == "reproduced"
    assert set(findings.loc[findings["role"] == "control", "verdict"]) == {"rejected"}
    share = findings.loc[findings["statistic"].str.startswith("participation"), "estimate"]
    assert list(share) == pytest.approx([5 / DIMENSION, 1.0], rel=0.15)


def test_isotropic_noise_of_a_network_is_not_reproduced():
    findings = judged(table(DIMENSION))
    assert set(findings.loc[findings["role"] == "criterion", "verdict"]) == {"not reproduced"}


def test_the_gradients_are_those_of_mini_batches_at_unit_norm():
    model = build(ModelSpec.from_string("mlp:width=8,depth=1"), (1, 4, 4), 3)
    weights = model.initialize([0, 1], 1.0, torch.float64)
    scaled = {name: value * (7 if name in model.trainable else 1) for name, value in weights.items()}
    names = [name for group in model.scale_groups.values() for name in group]
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(50, 1, 4, 4, generator=generator, dtype=torch.float64)
    labels = torch.randint(3, (50,), generator=generator)
    dataset = SimpleNamespace(normalize=lambda images: images, train_images=images, train_labels=labels)
    found, again = (dict(claim._grams(model, given, names, dataset, 10, SPEC, 5)) for given in (weights, scaled))
    assert list(found) == [0, 1]
    for replicate, gram in found.items():
        assert gram.shape == (40, 40)
        # At unit norm the gradient does not know the norm of the weights.
        np.testing.assert_allclose(again[replicate], gram, rtol=1e-9, atol=1e-9 * np.abs(gram).max())
        assert noise_moments(gram).trace > 0
    full = dict(claim._grams(model, weights, names, dataset, 50, SPEC, 5))
    assert noise_moments(full[0]).trace == pytest.approx(0, abs=1e-9 * np.trace(full[0]))


@pytest.mark.parametrize("rows", ["none finite", "one replicate"])
def test_a_degenerate_table_decides_nothing_and_draws(rows):
    frame = table(5, replicates=2)
    if rows == "none finite":
        frame[[column for column in frame if "top" in column or "ratio" in column]] = np.nan
    else:
        frame = frame[frame["replicate"] == 0]
    findings = judged(frame)
    assert overall(findings) == "inconclusive"
    for shown in (frame, table(5)):
        plt.close(claim.draw(shown, SPEC, findings))


def test_gradients_that_are_not_finite_give_a_row_without_numbers():
    generator = np.random.default_rng(0)
    row = claim._row(np.full((10, 10), np.nan), DIMENSION, TANGENT, SPEC, generator)
    assert np.isnan(list(row.values())).all()
    vectors = generator.standard_normal((10, 20))
    finite = claim._row(vectors @ vectors.T, DIMENSION, TANGENT, SPEC, generator)
    assert list(finite) == list(row)
    assert finite["share_of_tangent_dimension"] == finite["participation_ratio"] / TANGENT
    # A table of such rows alone.
    frame = pd.DataFrame(
        [
            {"part": part, "point": "p", "step": 10, "replicate": 0, "dimension": DIMENSION, **row}
            for part in (claim.MEASURED, claim.ISOTROPIC)
        ]
    )
    findings = judged(frame)
    assert set(findings["verdict"]) == {"inconclusive"}
    plt.close(claim.draw(frame, SPEC, findings))


def test_a_replicate_that_misses_a_checkpoint_and_a_point_that_misses_are_left_out():
    frame = pd.concat([table(5), table(5, seed=1).assign(step=20)], ignore_index=True)
    frame.loc[(frame["step"] == 20) & (frame["replicate"] == 2), "participation_ratio"] = np.nan
    assert set(judged(frame)["n"]) == {5}
    points = [{"name": "p"}, {"name": "q"}]
    experiments = {"equilibrium": experiment("run", points)}
    findings = list(claim.judge(table(5), ClaimSpec(**{**vars(SPEC), "experiments": experiments})))
    assert {finding.verdict for finding in findings} == {"inconclusive"}


def test_no_settled_checkpoint_is_a_mistake(monkeypatch, noise_images):
    point = {"name": "p", "dataset": "noise", "dtype": "float64", "intrinsic_lr": 0.01, "steps": [10, 399]}
    ensemble = SimpleNamespace(model=lambda: None, scale_groups={})
    monkeypatch.setattr(ClaimData, "ensemble", lambda self, role, point: ensemble)
    monkeypatch.setattr(ClaimData, "dataset", lambda self, name, dtype: noise_images)
    experiments = {"equilibrium": experiment("run", [point])}
    with pytest.raises(InputError, match=r"experiment run: checkpoints: .* 4/lambda_e"):
        claim.measure(ClaimData(ClaimSpec(**{**vars(SPEC), "experiments": experiments})))
