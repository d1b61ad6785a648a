"""Scale invariance: small networks have it, networks with trained scales and shifts do not."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from checks import Example, spec_of

from intrinsic_lr.claims import scale_invariance as claim
from intrinsic_lr.claims.shared.exact import network_names
from intrinsic_lr.claims.shared.spec import ClaimData

MODELS = ["mlp:width=32,depth=1", "cnn4:width=8"]
SPEC = spec_of("scale_invariance", dataset="noise", models=MODELS, factors=[0.1, 7], replicates=2, batch_size=12)
QUANTITIES = list(claim.QUANTITIES)
KEYS = ["model", "norm", "affine", "factor", "replicate"]


def made():
    """Return the table of networks that are invariant, and of controls that are not."""
    names = itertools.product(["mlp", "cnn4"], ["batch", "group", "layer"], [False, True], [0.1, 7], range(2))
    table = pd.DataFrame(names, columns=KEYS)
    return table.assign(**dict.fromkeys(QUANTITIES, np.where(table["affine"], 0.5, 1e-14)))


EXAMPLE = Example(claim, SPEC, made, QUANTITIES, criteria=4, controls=4)


def test_every_norm_and_model_is_invariant_and_the_control_is_not(monkeypatch, noise_images):
    monkeypatch.setattr(ClaimData, "dataset", lambda self, name, dtype: noise_images)
    table = claim.measure(ClaimData(SPEC))
    assert set(table[KEYS].itertuples(index=False)) == set(made()[KEYS].itertuples(index=False))
    findings = EXAMPLE.judged(table)
    assert list(findings["verdict"]) == ["reproduced"] * 4 + ["rejected"] * 4
    assert set(findings["n"]) == {12}


@pytest.mark.parametrize("quantity", QUANTITIES)
@pytest.mark.parametrize(
    ("rows", "value", "verdict"),
    [
        # One network that breaks the symmetry decides; one that is not finite is infinitely far off.
        ("not affine", 1e-6, "not reproduced"),
        ("not affine", np.inf, "not reproduced"),
        # A control of which one network keeps the symmetry proves nothing.
        ("affine", 1e-16, "inconclusive"),
    ],
)
def test_one_network_decides(quantity, rows, value, verdict):
    table = EXAMPLE.table()
    one = table.query(f"{rows} and model == 'mlp' and norm == 'layer' and replicate == 1").index
    table.loc[one, quantity] = value
    assert EXAMPLE.overall(table) == verdict


def test_members_that_are_not_finite_leave_it_open():
    table = EXAMPLE.table()
    table.loc[table["norm"] == "group", QUANTITIES] = np.nan
    findings = EXAMPLE.judged(table)
    assert set(findings["n"]) == {8}
    assert set(findings["verdict"]) == {"inconclusive"}
    assert EXAMPLE.overall(table[table["norm"] != "group"]) == "inconclusive"


def test_a_change_that_one_side_alone_has_finite_is_infinite():
    rows = torch.tensor([[3.0, 4.0], [torch.inf, 1.0], [1.0, 0.0], [torch.nan, 0.0]])
    expected = torch.tensor([[3.0, 0.0], [1.0, 1.0], [torch.nan, 0.0], [torch.nan, 0.0]])
    found = claim._change(rows, expected)
    assert found[:3].tolist() == [pytest.approx(4 / 3), np.inf, np.inf]
    assert found[3].isnan()


def test_two_networks_of_one_kind_keep_their_names():
    assert network_names(["mlp:width=8", "cnn4:width=8"]) == ["mlp", "cnn4"]
    assert network_names(["mlp:width=8", "mlp:width=16"]) == ["mlp:width=8", "mlp:width=16"]
