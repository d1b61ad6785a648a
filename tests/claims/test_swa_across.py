"""Averages across initialisations: verdicts on losses of known gain."""

import pytest
from checks import Example, spec_of
from test_swa_within import losses

from intrinsic_lr.claims import swa_across as claim

EXAMPLE = Example(claim, spec_of("swa_across", lags=[1, 2]), losses, ["test_loss"], criteria=4, controls=4)


@pytest.mark.parametrize(
    ("truth", "verdict"),
    [
        ({"across": 0.02}, "not reproduced"),
        ({"across": -0.005}, "inconclusive"),
        ({"within": 0.0}, "inconclusive"),  # without a gain within trajectories nothing is shown
    ],
)
def test_the_verdict_follows_the_truth(truth, verdict):
    assert EXAMPLE.overall(**truth) == verdict


def test_normalisation_has_to_be_of_no_help_either():
    table = EXAMPLE.table()
    helped = (table["part"] == "across") & (table["normalisation"] == "per_layer")
    table.loc[helped, "test_loss"] -= 0.5
    assert EXAMPLE.overall(table) == "not reproduced"


def test_the_gain_is_over_the_mean_of_both_ends():
    """An average between its two ends is better than the worse one: no evidence that averaging does not help."""
    table = EXAMPLE.table()
    across = table["part"] == "across"
    table.loc[across, "test_loss"] = 0.9 * table["test_loss_start"] + 0.1 * table["test_loss_end"]
    assert EXAMPLE.overall(table) == "not reproduced"
