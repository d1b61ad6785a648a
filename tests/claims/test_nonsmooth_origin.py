"""Curvature against the norm: the slope is found, and another slope is told from it."""

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from checks import Example, spec_of

from intrinsic_lr.claims import nonsmooth_origin as claim
from intrinsic_lr.claims.nonsmooth_origin import CONTROL, FRESH, SAME, slope
from intrinsic_lr.claims.shared.spec import ClaimData

SPEC = spec_of(
    "nonsmooth_origin", dataset="noise", models=["mlp:width=8,depth=1"], factors=[0.1, 1, 10], replicates=3,
    batch_size=12, iterations=40, tolerance=1e-6,
)  # fmt: skip


def synthetic(same=-2.0, fresh=-2.0, control=0.5, noise=0.05):
    generator = np.random.default_rng(0)
    powers, factors = {SAME: same, FRESH: fresh, CONTROL: control}, np.logspace(-1, 1, 7)
    rows = [
        {"part": part, "model": "mlp", "replicate": replicate, "factor": factor, "norm": 5 * factor,
         "top_eigenvalue": 3 * (5 * factor) ** powers[part] * np.exp(noise * generator.standard_normal())}
        for part, replicate, factor in itertools.product(powers, range(8), factors)
    ]  # fmt: skip
    return pd.DataFrame(rows)


EXAMPLE = Example(claim, SPEC, synthetic, ["top_eigenvalue"], criteria=2, controls=1)


def test_slope_of_a_power_law_and_of_too_little():
    norms = np.logspace(-1, 1, 5)
    assert slope(norms, 7 * norms**-1.5) == pytest.approx(-1.5)
    assert np.isnan(slope(np.ones(5), norms))


@pytest.mark.parametrize(
    ("truth", "verdicts"),
    [
        ({"fresh": -1.5}, ["reproduced", "not reproduced", "rejected"]),
        ({"same": -1.0}, ["not reproduced", "reproduced", "rejected"]),
        ({"control": -2.0}, ["reproduced", "reproduced", "not rejected"]),
        ({"fresh": -1.9, "noise": 0.3}, [None, "inconclusive", None]),  # a slope at the bound
    ],
)
def test_the_verdict_follows_the_truth(truth, verdicts):
    found = EXAMPLE.judged(**truth)["verdict"]
    assert [verdict if expected else None for verdict, expected in zip(found, verdicts, strict=True)] == verdicts


def test_small_networks_have_it(monkeypatch, noise_images):
    monkeypatch.setattr(ClaimData, "dataset", lambda self, name, dtype: noise_images)
    table = claim.measure(ClaimData(SPEC))
    for _, rows in table[table["part"] == SAME].groupby("replicate"):
        assert slope(rows["norm"].to_numpy(), rows["top_eigenvalue"].to_numpy()) == pytest.approx(-2, abs=1e-4)
    assert list(EXAMPLE.judged(table)["verdict"][[0, 2]]) == ["reproduced", "rejected"]


@pytest.mark.parametrize("part", [SAME, FRESH, CONTROL])
def test_a_part_of_a_model_that_is_missing_leaves_it_open(part):
    table = EXAMPLE.table()
    assert list(EXAMPLE.judged(table[table["part"] != part])["verdict"]).count("inconclusive") == 1
    asked = replace(SPEC, settings={**SPEC.settings, "models": ["mlp:width=8", "cnn4:width=8"]})
    assert sorted(EXAMPLE.judged(spec=asked)["n"]) == [0] * 3 + [8] * 3


def test_a_replicate_without_one_of_its_eigenvalues_is_left_out():
    table = EXAMPLE.table()
    table.loc[(table["replicate"] == 2) & (table["factor"] > 9), "top_eigenvalue"] = np.nan
    assert list(EXAMPLE.judged(table)["n"]) == [7] * 3
