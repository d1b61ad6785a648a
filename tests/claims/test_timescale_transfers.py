"""The best time scale at two sizes of the training set: verdicts on losses whose lowest points are known."""

import itertools

import numpy as np
import pandas as pd
import pytest
from checks import Example, spec_of

from intrinsic_lr.claims import timescale_transfers as claim

STEPS = {"small": 5, "large": 44}
LRS = [0.01, 0.03, 0.09]
RATES = [0.001, 0.003, 0.009, 0.027, 0.081, 0.243]


def losses(best=6.0, steps_best=None, noise=0.002):
    """Return losses that are lowest at a time scale of `best` epochs, or of `steps_best` steps, at both sizes."""
    generator = np.random.default_rng(0)
    rows = []
    for (size, steps), lr, rate in itertools.product(STEPS.items(), LRS, RATES):
        lowest = best if steps_best is None else steps_best / steps
        height = {"small": 0.3, "large": 0.09}[size] - 0.002 * np.log(lr)
        mean = height + 0.004 * np.log(1 / (rate * steps) / lowest) ** 2
        for replicate in range(12):
            loss = mean + noise * generator.standard_normal()
            rows.append((size, steps, f"{size} {lr} {rate}", lr, rate / lr, rate, replicate, loss))
    return pd.DataFrame(rows, columns=claim.COLUMNS)


TRUTHS = [
    # Equal in steps, which is what the controls have to differ in.
    ({"steps_best": 100}, ["not reproduced", "not rejected", "not rejected"]),
    # Noise that hides the lowest points, and lowest points beyond the grid.
    ({"noise": 0.3}, "inconclusive"),
    ({"best": 1e4}, "inconclusive"),
]
EXAMPLE = Example(claim, spec_of("timescale_transfers"), losses, ["test_loss"], 1, 2, truths=TRUTHS)


def test_the_estimates_are_the_ratios_of_what_is_best():
    findings = EXAMPLE.judged()
    assert findings["estimate"].to_numpy() == pytest.approx([1, 5 / 44, 5 / 44], rel=0.1)
    assert (findings["ci_low"] < findings["estimate"]).all()
    assert (findings["estimate"] < findings["ci_high"]).all()
    assert set(findings["n"]) == {12}


def test_a_point_with_a_run_that_is_not_finite_does_not_count():
    table = EXAMPLE.table()
    diverged = (table["lr"] == LRS[2]) & (table["intrinsic_lr"] == RATES[5]) & (table["replicate"] == 0)
    table.loc[diverged, "test_loss"] = np.nan
    assert EXAMPLE.judged(table).loc[0, "estimate"] == pytest.approx(1, rel=0.15)
