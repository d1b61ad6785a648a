"""Distances against their lag: verdicts on processes that level off and on ones that do not."""

from dataclasses import replace
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from checks import experiment

from intrinsic_lr.claims import distance_grows as claim
from intrinsic_lr.claims.shared.spec import ClaimSpec
from intrinsic_lr.claims.shared.verdicts import findings_table, overall
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.stats import lags

RATE = 0.01
STEPS = np.array([200, 400, 410, 430, 450, 500, 600, 800, 1100, 1500, 1900, 2200])
POINT = {"name": "p", "intrinsic_lr": RATE, "steps": list(STEPS)}
SPEC = ClaimSpec(
    "distance_grows",
    experiments={"run": experiment("trajectory", [POINT])},
    thresholds={"growth": 0.0, "over_ou": 1.1, "slope": 0.1},
    settings={"start": 4, "long_lag": 5, "lag_ratio": 1.25, "short_lags": 1 / 3},
    analysis={"confidence": 0.95, "bootstrap": 200},
)


def diffusing(generator, replicates=16, dimension=300, steps=STEPS):
    """Return distances of free diffusion with an Ornstein-Uhlenbeck process on top: they bend, then grow on."""
    gaps = np.diff(steps, prepend=steps[0])
    walk = np.cumsum(
        np.sqrt(gaps / 2000)[:, None, None] * generator.standard_normal((len(steps), replicates, dimension)), 0
    )
    states, deviation = [0.4 * generator.standard_normal((replicates, dimension))], 0.4
    for gap in gaps[1:]:
        kept = 0.95**gap
        noise = generator.standard_normal((replicates, dimension))
        states.append(kept * states[-1] + deviation * (1 - kept**2) ** 0.5 * noise)
    return lags._pairs(steps, walk + np.stack(states))


def levelling(generator, replicates=16):
    return lags.simulate_ou(STEPS, 3.0, 0.01, 300, replicates, generator)


def walking(generator, replicates=16):
    return lags.simulate_sphere_walk(STEPS, RATE, 300, replicates, generator)


def judged(pairs):
    distance = pairs.assign(point="p", layer="all")
    across = distance.rename(columns={"replicate": "replicate_a"}).assign(relation="across_initialisations")
    tables = {"distance": distance, "distance_across": across}
    inputs = SimpleNamespace(spec=SPEC, table=lambda role, name: tables[name])
    table = claim.measure(inputs)
    return table, findings_table("claim", "", "", claim.judge(table, SPEC))


def test_growth_without_a_plateau_is_reproduced_and_both_nulls_rejected():
    table, findings = judged(diffusing(np.random.default_rng(0)))
    assert overall(findings) == "reproduced"
    assert list(findings.loc[findings["role"] == "control", "verdict"]) == ["rejected"] * 4
    assert table.loc[table["part"] == "data", "step"].min() == 400
    plt.close(claim.draw(table, SPEC, findings))


@pytest.mark.parametrize("process", [levelling, walking])
def test_processes_that_level_off_are_not_reproduced(process):
    _, findings = judged(process(np.random.default_rng(1)))
    assert overall(findings) == "not reproduced"
    plateau = findings[(findings["role"] == "criterion") & ~findings["statistic"].str.contains("growth")]
    assert list(plateau["verdict"]) == ["not reproduced"] * 2


def test_distances_that_shrink_with_the_lag_fail_the_first_criterion():
    pairs = diffusing(np.random.default_rng(2))
    pairs["l2"] = 1 / pairs["l2"]
    _, findings = judged(pairs)
    assert findings.loc[0, "verdict"] == "not reproduced"


def test_replicates_that_are_not_finite_are_left_out_and_counted():
    pairs = diffusing(np.random.default_rng(3))
    pairs.loc[(pairs["replicate"] == 5) & (pairs["delta"] > 1000), "l2"] = np.nan
    _, findings = judged(pairs)
    assert set(findings.loc[findings["role"] == "criterion", "n"]) == {15}
    assert overall(findings) == "reproduced"


@pytest.mark.parametrize(
    "spoil", [lambda t: t.assign(l2=np.nan), lambda t: t.head(0), lambda t: t[t["replicate"] == 0]]
)
def test_degenerate_tables_are_inconclusive_and_drawn(spoil):
    table, findings = judged(spoil(diffusing(np.random.default_rng(4))))
    assert set(findings["verdict"]) == {"inconclusive"}
    plt.close(claim.draw(table, SPEC, findings))


def test_the_plateau_is_judged_from_every_start_with_three_short_lags():
    """As in the default study: short lags from 4/lambda_e, and from 8/lambda_e."""
    steps = np.array([400, 410, 450, 500, 600, 800, 810, 825, 850, 1100, 1500, 2000, 2050, 2100, 2200])
    pairs = diffusing(np.random.default_rng(6), steps=steps)

    def plateau(pairs):
        _, findings = judged(pairs)
        return findings[(findings["role"] == "criterion") & findings["statistic"].str.contains("fitted")].iloc[0]

    found = plateau(pairs)
    # From 5 the short lags are 1, and 3 to 3.5, which are too close to count twice.
    assert found["statement"].split("from T = ")[1] == "4, 4.1, 4.5, 6, 8, 8.1/lambda_e."
    assert found["verdict"] == "reproduced"
    # A plateau that is there from 8/lambda_e on alone is seen.
    levelled = lags.simulate_ou(steps, 3.0, 0.01, 300, 16, np.random.default_rng(7))
    pairs["l2"] = pairs["l2"].where(pairs["step"] != 800, levelled["l2"])
    assert plateau(pairs)["verdict"] == "not reproduced"


@pytest.mark.parametrize("points", [[], [POINT, POINT | {"name": "q"}]])
def test_several_points_or_none_are_a_clear_mistake(points):
    described = {"run": experiment("trajectory", points)}
    inputs = SimpleNamespace(spec=replace(SPEC, experiments=described))
    with pytest.raises(InputError, match=rf"experiment trajectory: found {len(points)} points; .* exactly one"):
        claim.measure(inputs)
