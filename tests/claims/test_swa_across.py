"""Averages across initialisations: verdicts on losses of known gain."""

from functools import partial

import checks
import matplotlib.pyplot as plt
import numpy as np
import pytest
from test_swa_within import SPEC, losses

from intrinsic_lr.claims import swa_across as claim
from intrinsic_lr.claims.shared.verdicts import overall

judged = partial(checks.judged, claim, spec=SPEC)


def test_losses_that_rise_are_reproduced_and_the_control_rejected():
    findings = judged(losses(0.02, across=-0.3))
    assert overall(findings) == "reproduced"
    assert findings["role"].value_counts().to_dict() == {"criterion": 4, "control": 4}
    assert set(findings.loc[findings["role"] == "control", "verdict"]) == {"rejected"}


@pytest.mark.parametrize(("gain", "verdict"), [(0.02, "not reproduced"), (-0.005, "inconclusive")])
def test_the_verdict_follows_the_truth(gain, verdict):
    assert overall(judged(losses(0.02, across=gain))) == verdict


def test_normalisation_has_to_be_of_no_help_either():
    table = losses(0.02)
    helped = (table["part"] == "across") & (table["normalisation"] == "per_layer")
    table.loc[helped, "test_loss"] -= 0.5
    assert overall(judged(table)) == "not reproduced"


def test_without_a_gain_within_trajectories_nothing_is_shown():
    assert overall(judged(losses(0.0))) == "inconclusive"


@pytest.mark.parametrize("spoil", [lambda t: t.assign(test_loss=np.nan), lambda t: t.head(0), lambda t: t.head(1)])
def test_degenerate_tables_are_inconclusive_and_drawn(spoil):
    table = spoil(losses(0.02))
    findings = judged(table)
    assert set(findings["verdict"]) == {"inconclusive"}
    for shown in (table, losses(0.02)):
        plt.close(claim.draw(shown, SPEC, findings))


def test_the_gain_is_over_the_mean_of_both_ends():
    """An average between its two ends is better than the worse one: no evidence that averaging does not help."""
    table = losses(0.02)
    across = table["part"] == "across"
    table.loc[across, "test_loss"] = 0.9 * table["test_loss_start"] + 0.1 * table["test_loss_end"]
    assert overall(judged(table)) == "not reproduced"
