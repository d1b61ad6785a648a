"""Curvature against the norm: the slope is found, and another slope is told from it."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from intrinsic_lr.claims import nonsmooth_origin
from intrinsic_lr.claims.nonsmooth_origin import CONTROL, FRESH, SAME, slope
from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec
from intrinsic_lr.claims.shared.verdicts import findings_table, overall

SPEC = ClaimSpec(
    "nonsmooth_origin",
    thresholds={"slope_margin": 0.1},
    settings={
        "dataset": "noise",
        "models": ["mlp:width=8,depth=1"],
        "factors": [0.1, 1, 10],
        "replicates": 3,
        "batch_size": 12,
        "iterations": 40,
        "tolerance": 1e-6,
    },
    analysis={"confidence": 0.95, "bootstrap": 200},
)


def synthetic(same=-2.0, fresh=-2.0, control=0.5, noise=0.05, replicates=8):
    generator = np.random.default_rng(0)
    rows = []
    for part, power in ((SAME, same), (FRESH, fresh), (CONTROL, control)):
        for replicate in range(replicates):
            for factor in np.logspace(-1, 1, 7):
                eigenvalue = 3 * (5 * factor) ** power * np.exp(noise * generator.standard_normal())
                rows.append(
                    {
                        "part": part,
                        "model": "mlp",
                        "replicate": replicate,
                        "factor": factor,
                        "norm": 5 * factor,
                        "top_eigenvalue": eigenvalue,
                    }
                )
    return pd.DataFrame(rows)


def verdicts(table):
    return [finding.verdict for finding in nonsmooth_origin.judge(table, SPEC)]


def test_slope_of_a_power_law_and_of_too_little():
    norms = np.logspace(-1, 1, 5)
    assert slope(norms, 7 * norms**-1.5) == pytest.approx(-1.5)
    assert slope(norms, np.array([np.nan, -1, 0, 2, np.inf])) != slope(norms, norms)
    assert np.isnan(slope(norms, np.full(5, np.nan)))


def test_verdict_turns_with_the_slope():
    assert verdicts(synthetic()) == ["reproduced", "reproduced", "rejected"]
    assert verdicts(synthetic(fresh=-1.5)) == ["reproduced", "not reproduced", "rejected"]
    assert verdicts(synthetic(same=-1.0)) == ["not reproduced", "reproduced", "rejected"]
    assert verdicts(synthetic(control=-2.0))[2] == "not rejected"


def test_slope_at_the_bound_is_left_open():
    assert verdicts(synthetic(fresh=-1.9, noise=0.3))[1] == "inconclusive"


def test_small_networks_have_it(monkeypatch, noise_images):
    monkeypatch.setattr(ClaimData, "dataset", lambda self, name, dtype: noise_images)
    table = nonsmooth_origin.measure(ClaimData(SPEC))
    same = table[table["part"] == SAME]
    for _, rows in same.groupby("replicate"):
        assert slope(rows["norm"].to_numpy(), rows["top_eigenvalue"].to_numpy()) == pytest.approx(-2, abs=1e-4)
    assert verdicts(table)[0] == "reproduced"
    assert verdicts(table)[2] == "rejected"


@pytest.mark.parametrize("replicates", [1, 3])
def test_missing_eigenvalues_decide_nothing(replicates):
    table = synthetic(replicates=replicates)
    if replicates > 1:
        table["top_eigenvalue"] = np.nan
    findings = list(nonsmooth_origin.judge(table, SPEC))
    assert overall(findings_table("nonsmooth_origin", "derived", "", findings)) == "inconclusive"
    plt.close(nonsmooth_origin.draw(table, SPEC, None))


@pytest.mark.parametrize("part", [SAME, FRESH, CONTROL])
def test_a_part_of_a_model_that_is_missing_leaves_it_open(part):
    table = synthetic()
    found = list(nonsmooth_origin.judge(table[table["part"] != part], SPEC))
    assert [finding.verdict for finding in found].count("inconclusive") == 1
    asked = ClaimSpec(**{**vars(SPEC), "settings": {**SPEC.settings, "models": ["mlp:width=8", "cnn4:width=8"]}})
    assert [finding.n for finding in nonsmooth_origin.judge(table, asked)] == [8, 0] * 3


def test_a_replicate_without_one_of_its_eigenvalues_is_left_out():
    table = synthetic()
    table.loc[(table["replicate"] == 2) & (table["factor"] > 9), "top_eigenvalue"] = np.nan
    assert [finding.n for finding in nonsmooth_origin.judge(table, SPEC)] == [7] * 3


def test_figure_draws_a_panel_for_each_model():
    table = pd.concat([synthetic(), synthetic().assign(model="cnn4")])
    figure = nonsmooth_origin.draw(table, SPEC, None)
    assert [ax.get_title() for ax in figure.axes] == ["mlp", "cnn4"]
    plt.close(figure)
