"""Equivalence of two learning rates: the verdict follows the truth."""

import numpy as np
import pandas as pd
import pytest
from checks import Example, spec_of

from intrinsic_lr.claims import small_lr_generalises as claim


def runs(usual=0.99, small=0.99, short=0.93, seed=0):
    """Return final accuracies of the given means, after a step at chance."""
    rng = np.random.default_rng(seed)
    rows = []
    for part, lr, steps, mean in (
        ("usual", 0.5, 450, usual),
        ("small", 0.005, 3900, small),
        ("small_short", 0.005, 450, short),
    ):
        for step, level in ((0, 0.1), (steps // 2, 0.9), (steps, mean)):
            named = {"part": part, "point": part, "lr": lr, "step": step, "replicate": range(16)}
            named |= {"lr_now": lr / (1 + (step == steps)), "final": step == steps}
            accuracy = rng.normal(level, 0.003, 16)
            rows.append(pd.DataFrame({**named, "test_accuracy": accuracy}))
    return pd.concat(rows, ignore_index=True)


EXAMPLE = Example(claim, spec_of("small_lr_generalises"), runs, ["test_accuracy"], criteria=1, controls=1)
judged = EXAMPLE.judged


def test_both_p_values_are_those_of_equivalence():
    findings = judged()
    assert findings["p_value"][0] < 0.01 < 0.9 < findings["p_value"][1]
    assert "3,900 steps" in findings["statement"][0]


@pytest.mark.parametrize(
    ("truth", "verdicts"),
    [
        ({"small": 0.97}, ["not reproduced", "rejected"]),
        ({"small": 1.01}, ["not reproduced", "rejected"]),
        ({"short": 0.99}, ["reproduced", "not rejected"]),
        # A short run that is better does not reject the control.
        ({"usual": 0.95, "small": 0.95, "short": 0.99}, ["reproduced", "not rejected"]),
    ],
)
def test_the_verdict_follows_the_truth(truth, verdicts):
    findings = judged(**truth)
    assert list(findings["verdict"]) == verdicts
    if "usual" in truth:
        assert findings["p_value"][1] < 1e-6


def test_at_the_margin_equivalence_is_seldom_claimed():
    """A difference of just the margin passes no more often than the level of one side, 2.5 %."""
    passed = sum(judged(runs(small=0.985, seed=seed))["verdict"][0] == "reproduced" for seed in range(300))
    assert passed <= 16


def test_replicates_that_diverged_are_left_out():
    table = EXAMPLE.table()
    table.loc[(table["part"] == "small") & (table["replicate"] == 3), "test_accuracy"] = np.nan
    assert judged(table)["n"][0] == 15
    assert EXAMPLE.overall(table) == "reproduced"
