"""Distances against their lag: verdicts on processes that level off and on ones that do not."""

from types import SimpleNamespace

import numpy as np
import pytest
from checks import Example, spec_of, verdicts

from intrinsic_lr.claims import distance_grows as claim
from intrinsic_lr.stats import lags

RATE = 0.01
STEPS = np.array([200, 400, 410, 430, 450, 500, 600, 800, 1100, 1500, 1900, 2200])
POINT = {"name": "p", "intrinsic_lr": RATE, "steps": list(STEPS)}


def diffusing(generator, steps=STEPS):
    """Return distances of free diffusion with an Ornstein-Uhlenbeck process on top: they bend, then grow on."""
    gaps, shape, deviation = np.diff(steps, prepend=steps[0]), (16, 300), 0.4
    walk = np.cumsum(np.sqrt(gaps / 2000)[:, None, None] * generator.standard_normal((len(steps), *shape)), 0)
    states = [deviation * generator.standard_normal(shape)]
    for gap in gaps[1:]:
        kept = 0.95**gap
        states.append(kept * states[-1] + deviation * (1 - kept**2) ** 0.5 * generator.standard_normal(shape))
    return lags._pairs(steps, walk + np.stack(states))


def levelling(generator):
    return lags.simulate_ou(STEPS, 3.0, 0.01, 300, 16, generator)


def walking(generator):
    return lags.simulate_sphere_walk(STEPS, RATE, 300, 16, generator)


def measured(pairs):
    """Return the claim's table of these distances."""
    distance = pairs.assign(point="p", layer="all")
    across = distance.rename(columns={"replicate": "replicate_a"}).assign(relation="across_initialisations")
    tables = {"distance": distance, "distance_across": across}
    return claim.measure(SimpleNamespace(spec=SPEC, table=lambda role, name: tables[name]))


def table(process=diffusing, seed=0):
    return measured(process(np.random.default_rng(seed)))


SPEC = spec_of("distance_grows", {"run": [POINT]}, short_lags=1 / 3)
EXAMPLE = Example(claim, SPEC, table, ["l2"], criteria=3, controls=4)
judged = EXAMPLE.judged


def test_growth_is_judged_after_the_start():
    rows = EXAMPLE.table()
    assert rows.loc[rows["part"] == "data", "step"].min() == 400


@pytest.mark.parametrize("process", [levelling, walking])
def test_processes_that_level_off_are_not_reproduced(process):
    findings = judged(process=process, seed=1)
    plateau = findings[(findings["role"] == "criterion") & ~findings["statistic"].str.contains("growth")]
    assert list(plateau["verdict"]) == ["not reproduced"] * 2


def test_distances_that_shrink_with_the_lag_fail_the_first_criterion():
    pairs = diffusing(np.random.default_rng(2))
    pairs["l2"] = 1 / pairs["l2"]
    assert judged(measured(pairs))["verdict"][0] == "not reproduced"


def test_replicates_that_are_not_finite_are_left_out_and_counted():
    pairs = diffusing(np.random.default_rng(3))
    pairs.loc[(pairs["replicate"] == 5) & (pairs["delta"] > 1000), "l2"] = np.nan
    findings = judged(measured(pairs))
    assert list(findings["n"][:3]) == [15] * 3
    assert verdicts(findings) == ["reproduced"] * 3


@pytest.mark.parametrize(
    "spoil", [lambda t: t.assign(l2=np.nan), lambda t: t.head(0), lambda t: t[t["replicate"] == 0]]
)
def test_degenerate_distances_are_inconclusive(spoil):
    findings = judged(measured(spoil(diffusing(np.random.default_rng(4)))))
    assert set(findings["verdict"]) == {"inconclusive"}


def test_the_plateau_is_judged_from_every_start_with_three_short_lags():
    """As in the default study: short lags from 4/lambda_e, and from 8/lambda_e."""
    steps = np.array([400, 410, 450, 500, 600, 800, 810, 825, 850, 1100, 1500, 2000, 2050, 2100, 2200])
    pairs = diffusing(np.random.default_rng(6), steps=steps)

    def plateau(pairs):
        findings = judged(measured(pairs))
        return findings[(findings["role"] == "criterion") & findings["statistic"].str.contains("fitted")].iloc[0]

    found = plateau(pairs)
    # From 5 the short lags are 1, and 3 to 3.5, which are too close to count twice.
    assert found["statement"].split("from T = ")[1] == "4, 4.1, 4.5, 6, 8, 8.1/lambda_e."
    assert found["verdict"] == "reproduced"
    # A plateau that is there from 8/lambda_e on alone is seen.
    levelled = lags.simulate_ou(steps, 3.0, 0.01, 300, 16, np.random.default_rng(7))
    pairs["l2"] = pairs["l2"].where(pairs["step"] != 800, levelled["l2"])
    assert plateau(pairs)["verdict"] == "not reproduced"
