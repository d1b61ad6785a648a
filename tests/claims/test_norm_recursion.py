"""The norm's recursion: residuals in machine epsilons, their verdict, and the two controls."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from checks import experiment

from intrinsic_lr.claims import norm_recursion
from intrinsic_lr.claims.norm_recursion import AFFINE, EPSILON, MOMENTUM, PLAIN
from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec
from intrinsic_lr.claims.shared.verdicts import findings_table, overall

POINT = {
    "name": "a", "dataset": "noise", "model": "small", "batch_size": 8, "lr": 0.1, "weight_decay": 0.1,
    "intrinsic_lr": 0.01, "momentum": 0.0, "schedule": "constant", "init_seed": 0, "init_sharing": "independent",
    "init_scale": 1.0, "dtype": "float64",
}  # fmt: skip
SPEC = ClaimSpec(
    "norm_recursion",
    experiments={
        "long": experiment("long_runs", [{**POINT, "name": "b", "dtype": "float32"}], 3),
        "exact": experiment("exact_runs", [POINT, {**POINT, "name": "c", "momentum": 0.9}], 3),
    },
    thresholds={"epsilons": 100},
    settings={"model": "mlp:width=8,depth=1,affine=true", "steps": 5},
    analysis={"confidence": 0.95},
)


def synthetic(float32=2.0, float64=3.0, momentum=1e9, affine=1e12):
    """Residuals of 3 replicates and 9 steps whose largest are these many machine epsilons."""
    rows = []
    for part, role, dtype, worst in (
        (PLAIN, "long", "float32", float32),
        (PLAIN, "exact", "float64", float64),
        (MOMENTUM, "exact", "float64", momentum),
        (AFFINE, "exact", "float64", affine),
    ):
        for replicate in range(3):
            for step in range(1, 10):
                epsilons = worst if (replicate, step) == (2, 5) else worst / 10
                named = {"part": part, "role": role, "dtype": dtype, "point": part + dtype}
                rows.append({**named, "replicate": replicate, "step": step, "epsilons": epsilons})
    table = pd.DataFrame(rows)
    return table.assign(residual=table["epsilons"] * table["dtype"].map(EPSILON))


def verdicts(table):
    return [finding.verdict for finding in norm_recursion.judge(table, SPEC)]


def test_worst_step_of_the_worst_replicate_decides():
    assert verdicts(synthetic()) == ["reproduced", "reproduced", "rejected", "rejected"]
    assert verdicts(synthetic(float32=200))[:2] == ["not reproduced", "reproduced"]
    assert verdicts(synthetic(float64=200))[:2] == ["reproduced", "not reproduced"]
    findings = list(norm_recursion.judge(synthetic(), SPEC))
    # Of the controls the run that misses the recursion least decides.
    assert [finding.estimate for finding in findings] == [2, 3, 1e8, 1e11]
    assert [finding.n for finding in findings] == [3] * 4
    assert [finding.experiment for finding in findings] == ["long_runs", "exact_runs", "exact_runs", "exact_runs"]


@pytest.mark.parametrize(("part", "place"), [(MOMENTUM, 2), (AFFINE, 3)])
def test_every_run_of_a_control_has_to_break_it(part, place):
    table = synthetic()
    table.loc[(table["part"] == part) & (table["replicate"] == 1), "epsilons"] = 5
    assert verdicts(table)[place] == "not rejected"
    # A control without runs tells nothing.
    assert verdicts(table[table["part"] != part])[place] == "inconclusive"


def test_a_run_that_is_missing_or_not_finite_leaves_it_open():
    table = synthetic()
    table.loc[(table["replicate"] == 0) & (table["step"] == 9), "epsilons"] = np.nan
    findings = list(norm_recursion.judge(table, SPEC))
    assert [(finding.n, finding.verdict) for finding in findings] == [(2, "inconclusive")] * 4
    assert verdicts(synthetic().query("replicate != 0")) == ["inconclusive"] * 4
    table.loc[(table["replicate"] == 2) & (table["step"] == 9), "epsilons"] = 200
    assert verdicts(table)[:2] == ["not reproduced"] * 2


def test_nothing_finite_decides_nothing():
    table = synthetic().assign(epsilons=np.nan)
    assert overall(findings_table("norm_recursion", "derived", "", norm_recursion.judge(table, SPEC))) == (
        "inconclusive"
    )
    for shown in (table, synthetic()):
        plt.close(norm_recursion.draw(shown, SPEC, None))


class Traced:
    """Stands in for an ensemble whose norms follow the recursion, or miss it by a share of the norm."""

    def __init__(self, miss):
        self.miss = miss

    def trace(self):
        norm, rows = 4.0, []
        for step in range(8):
            rows.append({"step": step, "squared_norm": norm})
            norm = (0.99**2 * norm + 0.1**2 * 2.0 / norm) * (1 + self.miss)
        same = {"replicate": 0, "lr": 0.1, "weight_decay": 0.1, "unit_gradient_squared_norm": 2.0}
        return pd.DataFrame(rows).assign(**same)


@pytest.mark.parametrize("miss", [0.0, 1e-3])
def test_residual_from_a_trace_is_what_the_norms_miss(monkeypatch, miss):
    monkeypatch.setattr(ClaimData, "ensemble", lambda self, role, point: Traced(miss))
    (found,) = norm_recursion._with_momentum(ClaimData(SPEC), "exact")
    assert list(found["step"]) == list(range(2, 8))
    assert found["residual"].to_numpy() == pytest.approx(np.full(6, miss / (1 + miss)), abs=1e-12)


def test_trained_scales_break_the_recursion(monkeypatch, noise_images):
    monkeypatch.setattr(ClaimData, "dataset", lambda self, name, dtype: noise_images)
    broken = norm_recursion._affine(ClaimData(SPEC), "exact")
    assert len(broken) == 5 * 3
    assert broken["residual"].min() > 1e6 * EPSILON["float64"]
    plain = {**SPEC.settings, "model": "mlp:width=8,depth=1"}
    exact = norm_recursion._affine(ClaimData(ClaimSpec(**{**vars(SPEC), "settings": plain})), "exact")
    assert exact["residual"].max() < 100 * EPSILON["float64"]
