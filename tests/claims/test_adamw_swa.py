"""AdamW's averages: the criteria of both claims on averages, with their controls."""

from checks import Example, spec_of
from test_swa_within import losses

from intrinsic_lr.claims import adamw_swa as claim

TRUTHS = [
    ({"within": -0.02}, "not reproduced"),
    ({"across": 0.02}, "not reproduced"),
    ({"within": 0.0}, "inconclusive"),
]
EXAMPLE = Example(claim, spec_of("adamw_swa", lags=[1, 2]), losses, ["test_loss"], 6, 6, truths=TRUTHS)
