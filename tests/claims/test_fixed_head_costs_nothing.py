"""Fixed against trained heads: the verdict follows the truth."""

from functools import partial
from types import SimpleNamespace

import checks
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from checks import experiment

from intrinsic_lr.claims import fixed_head_costs_nothing as claim
from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec
from intrinsic_lr.claims.shared.verdicts import overall
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.stats.intervals import p_not_worse

SPEC = ClaimSpec(
    "fixed_head_costs_nothing",
    experiments={role: experiment(role) for role in ("fixed", "trained", "convolutional")},
    thresholds={"margin": 0.005},
    analysis={"confidence": 0.95},
)
judged = partial(checks.judged, claim, spec=SPEC)


def runs(fixed=0.985, head_only=0.92, network="network", replicates=32, seed=0):
    """Return accuracies of two networks, alike but for the means given for `network`."""
    rng = np.random.default_rng(seed)
    rows = []
    for name in ("network", "convolutional"):
        means = {"fixed": 0.985, "trained": 0.985, "head_only": 0.92}
        if name == network:
            means |= {"fixed": fixed, "head_only": head_only}
        for head, mean in means.items():
            accuracy = rng.normal(mean, 0.003, replicates)
            rows.append(pd.DataFrame({"network": name, "model": name, "head": head, "test_accuracy": accuracy}))
    return pd.concat(rows, ignore_index=True)


def test_equal_accuracies_pass_and_an_untrained_body_does_not():
    findings = judged(runs())
    assert overall(findings) == "reproduced"
    assert list(findings["verdict"]) == ["reproduced"] * 2 + ["rejected"] * 2
    assert (findings["p_value"][:2] < 0.01).all()
    assert findings["experiment"].tolist() == ["fixed + trained", "convolutional"] * 2


@pytest.mark.parametrize("network", ["network", "convolutional"])
def test_a_cost_is_found_in_either_network(network):
    assert overall(judged(runs(fixed=0.97, network=network))) == "not reproduced"


def test_a_gain_is_no_cost():
    assert overall(judged(runs(fixed=0.995))) == "reproduced"


def test_an_untrained_body_as_good_spoils_the_control():
    findings = judged(runs(head_only=0.985))
    assert "not rejected" in set(findings["verdict"])
    assert overall(findings) == "inconclusive"


def test_p_values_are_those_of_each_comparison():
    """All criteria have to hold (an intersection-union test): nothing to adjust for their number."""
    table = runs()
    accuracies = table.groupby(["network", "head"])["test_accuracy"].apply(np.array)
    expected = [
        p_not_worse(accuracies[network, "trained"], accuracies[network, head], 0.005)
        for head in ("fixed", "head_only")
        for network in ("network", "convolutional")
    ]
    assert judged(table)["p_value"].tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("role", "heads", "message"),
    [
        ("fixed", ("fixed", "fixed"), "experiment fixed_runs: .* got fixed, fixed"),
        ("fixed", ("trained",), "got trained"),
        ("trained", ("trained", "trained"), "experiment trained_runs"),
        ("convolutional", ("fixed",), "experiment convolutional_runs: .* fixed, trained .* got fixed"),
        ("convolutional", ("trained", "fixed"), None),
    ],
)
def test_other_points_than_one_of_each_head_are_refused(monkeypatch, role, heads, message):
    points = [{"name": f"{head}-{k}", "head": head} for k, head in enumerate(heads)]
    experiments = {role: experiment(f"{role}_runs", points)}

    def ensemble(inputs, role, point):
        return SimpleNamespace(model=lambda: SimpleNamespace(spec=SimpleNamespace(head=point["head"])))

    monkeypatch.setattr(ClaimData, "ensemble", ensemble)
    inputs = ClaimData(ClaimSpec("fixed_head_costs_nothing", experiments=experiments))
    if message is None:
        assert claim._heads(inputs, role) == {"trained-0": "trained", "fixed-1": "fixed"}
        return
    with pytest.raises(InputError, match=message):
        claim._heads(inputs, role)


def test_draws_and_judges_what_is_degenerate():
    missing = runs()
    missing["test_accuracy"] = np.nan
    for table in (runs(), missing, runs(replicates=1), runs()[:0]):
        findings = judged(table)
        plt.close(claim.draw(table, SPEC, findings))
        if len(table) != len(runs()) or table is missing:
            assert overall(findings) == "inconclusive"
