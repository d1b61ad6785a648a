"""Equivalence of two learning rates: the verdict follows the truth."""

from functools import partial

import checks
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from checks import experiment

from intrinsic_lr.claims import small_lr_generalises as claim
from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec
from intrinsic_lr.claims.shared.verdicts import overall
from intrinsic_lr.core.errors import InputError

SPEC = ClaimSpec(
    "small_lr_generalises",
    experiments={role: experiment(role) for role in ("usual", "small", "small_short")},
    thresholds={"margin": 0.005},
    analysis={"confidence": 0.95},
)
judged = partial(checks.judged, claim, spec=SPEC)


def runs(usual=0.99, small=0.99, short=0.93, replicates=16, seed=0, deviation=0.003):
    """Return final accuracies of the given means, after a step at chance."""
    rng = np.random.default_rng(seed)
    rows = []
    for part, lr, steps, mean in (
        ("usual", 0.5, 450, usual),
        ("small", 0.005, 3900, small),
        ("small_short", 0.005, 450, short),
    ):
        for step, level in ((0, 0.1), (steps // 2, 0.9), (steps, mean)):
            accuracy = rng.normal(level, deviation, replicates)
            rows.append(
                pd.DataFrame(
                    {
                        "part": part, "point": part, "lr": lr, "step": step, "replicate": range(replicates),
                        "lr_now": lr / (1 + (step == steps)), "test_accuracy": accuracy, "final": step == steps,
                    }
                )
            )  # fmt: skip
    return pd.concat(rows, ignore_index=True)


def test_equal_accuracies_are_equivalent_and_the_short_run_is_not():
    findings = judged(runs())
    assert overall(findings) == "reproduced"
    assert list(findings["verdict"]) == ["reproduced", "rejected"]
    assert findings["p_value"][0] < 0.01 < 0.9 < findings["p_value"][1]
    assert "3,900 steps" in findings["statement"][0]


@pytest.mark.parametrize("small", [0.97, 1.01])
def test_a_difference_either_way_is_found(small):
    assert overall(judged(runs(small=small))) == "not reproduced"


def test_a_short_run_as_good_spoils_the_control():
    findings = judged(runs(short=0.99))
    assert findings["verdict"][1] == "not rejected"
    assert overall(findings) == "inconclusive"


def test_a_short_run_that_is_better_does_not_reject_the_control():
    findings = judged(runs(usual=0.95, small=0.95, short=0.99))
    assert findings["verdict"].tolist() == ["reproduced", "not rejected"]
    assert findings["p_value"][1] < 1e-6
    assert overall(findings) == "inconclusive"


def test_an_experiment_of_several_points_is_refused():
    experiments = {
        role: experiment(f"{role}_runs", [{"name": f"{role}-{k}"} for k in range(1 + (role == "small"))])
        for role in ("usual", "small", "small_short")
    }
    with pytest.raises(InputError, match=r"experiment small_runs: found 2 points; .* role small"):
        claim.measure(ClaimData(ClaimSpec("small_lr_generalises", experiments=experiments)))


def test_at_the_margin_equivalence_is_seldom_claimed():
    """A difference of just the margin passes no more often than the level of one side, 2.5 %."""
    passed = sum(judged(runs(small=0.985, seed=seed))["verdict"][0] == "reproduced" for seed in range(300))
    assert passed <= 16


def test_replicates_that_diverged_are_left_out():
    table = runs()
    table.loc[(table["part"] == "small") & (table["replicate"] == 3), "test_accuracy"] = np.nan
    findings = judged(table)
    assert findings["n"][0] == 15
    assert overall(findings) == "reproduced"


def test_draws_and_judges_what_is_degenerate():
    missing = runs()
    missing["test_accuracy"] = np.nan
    for table in (runs(), missing, runs(replicates=1), runs()[:0]):
        findings = judged(table)
        plt.close(claim.draw(table, SPEC, findings))
        if len(table) != len(runs()) or table is missing:
            assert overall(findings) == "inconclusive"
