"""The norm's recursion: residuals in machine epsilons, their verdict, and the two controls."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from checks import Example, spec_of

from intrinsic_lr.claims import norm_recursion as claim
from intrinsic_lr.claims.norm_recursion import AFFINE, EPSILON, MOMENTUM, PLAIN
from intrinsic_lr.claims.shared.spec import ClaimData

POINT = {
    "name": "a", "dataset": "noise", "model": "small", "batch_size": 8, "lr": 0.1, "weight_decay": 0.1,
    "intrinsic_lr": 0.01, "momentum": 0.0, "schedule": "constant", "init_seed": 0, "init_sharing": "independent",
    "init_scale": 1.0, "dtype": "float64",
}  # fmt: skip
POINTS = {
    "long": [{**POINT, "name": "b", "dtype": "float32"}],
    "exact": [POINT, {**POINT, "name": "c", "momentum": 0.9}],
}
SPEC = spec_of("norm_recursion", POINTS, 3, model="mlp:width=8,depth=1,affine=true", steps=5)


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


EXAMPLE = Example(claim, SPEC, synthetic, ["epsilons", "residual"], criteria=2, controls=2)


def verdicts(table=None, **truth):
    return list(EXAMPLE.judged(table, **truth)["verdict"])


def test_worst_step_of_the_worst_replicate_decides():
    assert verdicts(float32=200)[:2] == ["not reproduced", "reproduced"]
    assert verdicts(float64=200)[:2] == ["reproduced", "not reproduced"]
    findings = EXAMPLE.judged()
    # Of the controls the run that misses the recursion least decides.
    assert list(findings["estimate"]) == [2, 3, 1e8, 1e11]
    assert list(findings["n"]) == [3] * 4
    assert list(findings["experiment"]) == ["trajectory", "exp_lr", "exp_lr", "exp_lr"]


@pytest.mark.parametrize(("part", "place"), [(MOMENTUM, 2), (AFFINE, 3)])
def test_every_run_of_a_control_has_to_break_it(part, place):
    table = EXAMPLE.table()
    table.loc[(table["part"] == part) & (table["replicate"] == 1), "epsilons"] = 5
    assert verdicts(table)[place] == "not rejected"
    # A control without runs tells nothing.
    assert verdicts(table[table["part"] != part])[place] == "inconclusive"


def test_a_run_that_is_missing_or_not_finite_leaves_it_open():
    table = EXAMPLE.table()
    table.loc[(table["replicate"] == 0) & (table["step"] == 9), "epsilons"] = np.nan
    findings = EXAMPLE.judged(table)
    assert (list(findings["n"]), set(findings["verdict"])) == ([2] * 4, {"inconclusive"})
    assert verdicts(synthetic().query("replicate != 0")) == ["inconclusive"] * 4
    table.loc[(table["replicate"] == 2) & (table["step"] == 9), "epsilons"] = 200
    assert verdicts(table)[:2] == ["not reproduced"] * 2


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
    found = claim._with_momentum(ClaimData(SPEC), SPEC.points("exact")[1])
    assert list(found["step"]) == list(range(2, 8))
    assert found["residual"].to_numpy() == pytest.approx(np.full(6, miss / (1 + miss)), abs=1e-12)


def test_trained_scales_break_the_recursion(monkeypatch, noise_images):
    monkeypatch.setattr(ClaimData, "dataset", lambda self, name, dtype: noise_images)
    broken = claim._affine(ClaimData(SPEC))
    assert len(broken) == 5 * 3
    assert broken["residual"].min() > 1e6 * EPSILON["float64"]
    plain = replace(SPEC, settings={**SPEC.settings, "model": "mlp:width=8,depth=1"})
    exact = claim._affine(ClaimData(plain))
    assert exact["residual"].max() < 100 * EPSILON["float64"]
