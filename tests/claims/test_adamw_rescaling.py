"""Rescaling of AdamW: the test is that of `rescaling_equivalence`, the control of eps is its own."""

import pandas as pd
import pytest
from checks import Example, spec_of, verdicts
from test_rescaling_equivalence import DEVIATIONS, MEASURED, planned, table_of

from intrinsic_lr.claims import adamw_rescaling as claim
from intrinsic_lr.study.pairs import rescaled

ADAMW = {"optimiser": "adamw", "beta2": 0.99}
MIXING = planned(
    {**ADAMW, "intrinsic_lr": [0.01, 0.003], "lr": [0.01, 0.1]}, {**ADAMW, "intrinsic_lr": 0.001, "lr": 0.01}
)
EXACT = planned(
    {**ADAMW, "intrinsic_lr": 0.01, "lr": 0.1, "eps": 3e-4},
    {**ADAMW, "intrinsic_lr": 0.01, "lr": 0.3, "init_scale": 3, "eps": [1e-4, 3e-4]},
)
SPEC = spec_of("adamw_rescaling", {"pair": EXACT, "mixing": MIXING}, 40, {"accuracy_margin": 0.05})


def synthetic(kept=0.1, **truth):
    """Return the table of runs whose deviations are `kept` where eps was left as it was."""
    rows = [
        {"part": claim.EPS_KEPT, "point": a.name, "partner": b.name, "momentum": 0.0, "factor": c, "step": step,
         "replicate": replicate, "directions": kept, "logits": kept}
        for a, b, c in rescaled(EXACT, eps_kept=True) for step in (1, 10) for replicate in range(40)
    ]  # fmt: skip
    return pd.concat([table_of(SPEC, above=0.002, **truth), pd.DataFrame(rows)], ignore_index=True)


EXAMPLE = Example(claim, SPEC, synthetic, MEASURED, criteria=6, controls=3)


def test_an_eps_that_makes_no_difference_is_no_control():
    assert verdicts(EXAMPLE.judged(kept=1e-12), "control") == ["rejected", "not rejected", "not rejected"]
    assert verdicts(EXAMPLE.judged(deviation=1e-6))[:2] == ["not reproduced"] * 2


@pytest.mark.parametrize("replicate", [0, 39])
def test_every_replicate_of_the_control_has_to_be_apart(replicate):
    table = EXAMPLE.table()
    of_control = (table["part"] == claim.EPS_KEPT) & (table["replicate"] == replicate)
    table.loc[of_control, DEVIATIONS] = 1e-12
    assert verdicts(EXAMPLE.judged(table), "control")[1:] == ["not rejected"] * 2
