"""Scale invariance: small networks have it, networks with trained scales and shifts do not."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from intrinsic_lr.claims import scale_invariance
from intrinsic_lr.claims.shared.exact import network_names
from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec
from intrinsic_lr.claims.shared.verdicts import findings_table, overall

SPEC = ClaimSpec(
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
        patch.setattr(ClaimData, "dataset", lambda self, name, dtype: noise_images)
        return scale_invariance.measure(ClaimData(SPEC))


def verdict(table):
    findings = list(scale_invariance.judge(table, SPEC))
    return overall(findings_table("scale_invariance", "derived", "", findings))


def test_every_norm_and_model_is_invariant_and_the_control_is_not(table):
    assert len(table) == 2 * 3 * 2 * 2 * 2  # models, norms, affine, factors, replicates
    findings = list(scale_invariance.judge(table, SPEC))
    assert [finding.verdict for finding in findings] == ["reproduced"] * 4 + ["rejected"] * 4
    assert {finding.n for finding in findings} == {12}


@pytest.mark.parametrize("quantity", scale_invariance.QUANTITIES)
def test_one_network_that_breaks_the_symmetry_decides(table, quantity):
    broken = table.copy()
    broken.loc[table.index[table["affine"] == False][3], quantity] = 1e-6  # noqa: E712
    assert verdict(broken) == "not reproduced"
    # A control of which one network keeps the symmetry proves nothing.
    tame = table.copy()
    one = (tame["model"] == "mlp") & (tame["norm"] == "layer") & (tame["replicate"] == 1)
    tame.loc[tame["affine"] & one, quantity] = 1e-16
    assert verdict(tame) == "inconclusive"
    # A scaled network that is not finite is infinitely far off.
    far = table.copy()
    far.loc[table.index[table["affine"] == False][3], quantity] = np.inf  # noqa: E712
    assert verdict(far) == "not reproduced"
    plt.close(scale_invariance.draw(far, SPEC, None))


def test_members_that_are_not_finite_leave_it_open(table):
    part = table.copy()
    part.loc[part["norm"] == "group", list(scale_invariance.QUANTITIES)] = np.nan
    findings = list(scale_invariance.judge(part, SPEC))
    assert {finding.n for finding in findings} == {8}
    assert {finding.verdict for finding in findings} == {"inconclusive"}
    assert verdict(table[table["norm"] != "group"]) == "inconclusive"
    part[list(scale_invariance.QUANTITIES)] = np.nan
    assert verdict(part) == "inconclusive"


def test_figure_has_a_panel_for_each_quantity(table):
    empty = table.assign(**dict.fromkeys(scale_invariance.QUANTITIES, np.nan))
    for shown in (table, empty):
        figure = scale_invariance.draw(shown, SPEC, None)
        assert len(figure.axes) == 4
        plt.close(figure)


def test_a_change_that_one_side_alone_has_finite_is_infinite():
    rows = torch.tensor([[3.0, 4.0], [torch.inf, 1.0], [1.0, 0.0], [torch.nan, 0.0]])
    expected = torch.tensor([[3.0, 0.0], [1.0, 1.0], [torch.nan, 0.0], [torch.nan, 0.0]])
    found = scale_invariance._change(rows, expected)
    assert found[:3].tolist() == [pytest.approx(4 / 3), np.inf, np.inf]
    assert found[3].isnan()


def test_two_networks_of_one_kind_keep_their_names():
    assert network_names(["mlp:width=8", "cnn4:width=8"]) == ["mlp", "cnn4"]
    assert network_names(["mlp:width=8", "mlp:width=16"]) == ["mlp:width=8", "mlp:width=16"]
