"""Scale invariance: small networks have it, networks with trained scales and shifts do not."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from intrinsic_lr.claims import scale_invariance
from intrinsic_lr.claims.question import Inputs, Question
from intrinsic_lr.claims.verdicts import findings_table, overall

QUESTION = Question(
    "scale_invariance",
    thresholds={"deviation": 1e-9},
    settings={
        "dataset": "noise",
        "models": ["mlp:width=32,depth=1", "cnn4:width=8"],
        "factors": [0.1, 7],
        "replicates": 2,
        "batch_size": 12,
    },
    analysis={"confidence": 0.95},
)


@pytest.fixture(scope="module")
def table(noise_images):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Inputs, "data", lambda self, name, dtype: noise_images)
        return scale_invariance.measure(Inputs(QUESTION))


def verdict(table):
    findings = scale_invariance.judge(table, QUESTION)
    return overall(findings_table("scale_invariance", "derived", "", findings))


def test_every_norm_and_model_is_invariant_and_the_control_is_not(table):
    assert len(table) == 2 * 3 * 2 * 2 * 2  # models, norms, affine, factors, replicates
    findings = scale_invariance.judge(table, QUESTION)
    assert [finding.verdict for finding in findings] == ["reproduced"] * 4 + ["rejected"] * 4
    assert {finding.n for finding in findings} == {12}


@pytest.mark.parametrize("quantity", scale_invariance.QUANTITIES)
def test_one_network_that_breaks_the_symmetry_decides(table, quantity):
    broken = table.copy()
    broken.loc[table.index[table["affine"] == False][3], quantity] = 1e-6  # noqa: E712
    assert verdict(broken) == "not reproduced"
    # A control that keeps the symmetry proves nothing.
    tame = table.copy()
    tame.loc[tame["affine"], quantity] = 1e-16
    assert verdict(tame) == "inconclusive"


def test_members_that_are_not_finite_are_left_out_and_counted(table):
    part = table.copy()
    part.loc[(part["replicate"] == 1) & (part["model"] == "mlp"), list(scale_invariance.QUANTITIES)] = np.nan
    assert {finding.n for finding in scale_invariance.judge(part, QUESTION)} == {9}
    part[list(scale_invariance.QUANTITIES)] = np.nan
    assert verdict(part) == "inconclusive"


def test_figure_has_a_panel_for_each_quantity(table):
    empty = table.assign(**dict.fromkeys(scale_invariance.QUANTITIES, np.nan))
    for shown in (table, empty):
        figure = scale_invariance.draw(shown, QUESTION, None)
        assert len(figure.axes) == 4
        plt.close(figure)
