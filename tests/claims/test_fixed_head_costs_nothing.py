"""Fixed against trained heads: the verdict follows the truth."""

import numpy as np
import pandas as pd
import pytest
from checks import Example, spec_of

from intrinsic_lr.claims import fixed_head_costs_nothing as claim
from intrinsic_lr.stats.intervals import p_not_worse


def runs(fixed=0.985, head_only=0.92, network="network"):
    """Return accuracies of two networks, alike but for the means given for `network`."""
    rng = np.random.default_rng(0)
    rows = []
    for name in ("network", "convolutional"):
        means = {"fixed": 0.985, "trained": 0.985, "head_only": 0.92}
        if name == network:
            means |= {"fixed": fixed, "head_only": head_only}
        for head, mean in means.items():
            named = {"network": name, "model": name, "head": head, "replicate": range(32)}
            rows.append(pd.DataFrame({**named, "test_accuracy": rng.normal(mean, 0.003, 32)}))
    return pd.concat(rows, ignore_index=True)


TRUTHS = [
    ({"fixed": 0.97}, "not reproduced"),
    ({"fixed": 0.97, "network": "convolutional"}, "not reproduced"),
    ({"fixed": 0.995}, "reproduced"),  # a gain is no cost
    ({"head_only": 0.985}, ["reproduced", "reproduced", "not rejected", "rejected"]),  # an untrained body as good
]
EXAMPLE = Example(claim, spec_of("fixed_head_costs_nothing"), runs, ["test_accuracy"], 2, 2, truths=TRUTHS)


def test_findings_name_their_experiments_and_are_significant():
    findings = EXAMPLE.judged()
    assert (findings["p_value"][:2] < 0.01).all()
    assert findings["experiment"].tolist() == ["usual_lr + trained_head", "heads_of_cnn"] * 2


def test_p_values_are_those_of_each_comparison():
    """All criteria have to hold (an intersection-union test): nothing to adjust for their number."""
    accuracies = runs().groupby(["network", "head"])["test_accuracy"].apply(np.array)
    expected = [
        p_not_worse(accuracies[network, "trained"], accuracies[network, head], 0.005)
        for head in ("fixed", "head_only")
        for network in ("network", "convolutional")
    ]
    assert EXAMPLE.judged()["p_value"].tolist() == pytest.approx(expected)
