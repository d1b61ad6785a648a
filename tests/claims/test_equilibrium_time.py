"""Times to equilibrium: verdicts on curves with a known power law."""

import numpy as np
import pandas as pd
import pytest
from checks import Example
from simulated_labels import CLASSES, IMAGES, SimulatedData, dirichlet, point

from intrinsic_lr.claims import equilibrium_time as claim
from intrinsic_lr.stats.intervals import expanded_tails

RATES = (0.03, 0.01, 0.003, 0.001)
TIMES = (0.1, 0.3, 0.6, 1, 1.5, 2, 3, 4, 6, 8)
LEARNT = 6.0
"""Steps in which the share of test images that are not learnt yet falls to 1/e, at every rate."""


def world(power=-1.0, rates=RATES, runs=32, learning=0.0):
    """Return inputs that forget in c * rate^power steps, and learn in c * rate^learning, the same at rate 0.01."""
    truth = dirichlet(0).argmax(axis=1)
    points = [
        point(
            f"{rate} from {seed}", rate, sorted({1, 3, 6, 12, 25, *(round(time / rate) for time in TIMES)}),
            init_seed=seed, init_sharing="independent", runs_per_init=4,
        )
        for place, rate in enumerate(rates)
        for seed in (2 * place, 2 * place + 1)
    ]  # fmt: skip

    def distribution(of, step):
        relative = of.intrinsic_lr / 0.01
        left = np.exp(-step / (250 * relative**power))
        unlearnt = np.exp(-step / (LEARNT * relative**learning))
        known = np.eye(CLASSES)[truth]
        doubtful = slice(0, IMAGES // 5)
        known[doubtful] = ((1 - left) * dirichlet(3) + left * dirichlet(10, of.init_seed))[doubtful]
        return (1 - unlearnt) * known + unlearnt * np.full((IMAGES, CLASSES), 1 / CLASSES)

    inputs = SimulatedData(distribution, "equilibrium_time", {"rates": points}, runs)
    generator, rows = np.random.default_rng(0), []
    for of in points:
        steps = np.unique(np.geomspace(1, 8 / of.intrinsic_lr, 30).round())
        left = np.exp(-steps / (250 * (of.intrinsic_lr / 0.01) ** power))
        for replicate in range(runs):
            noise = 0.01 * generator.standard_normal(len(steps))
            rates_of_run = {"step": steps, "effective_lr": np.exp(left + noise)}
            rows.append(pd.DataFrame({"point": of.name, "replicate": replicate, **rates_of_run}))
    inputs.trace = lambda role: pd.concat(rows)
    return inputs


def table(**truth):
    return claim.measure(world(**truth))


# Times of another power are not reproduced; learning that takes longer at small rates is no control.
TRUTHS = [
    ({"power": -0.5}, {"criterion": "not reproduced"}),
    ({"learning": -1.0}, {"control": "not rejected"}),
]
EXAMPLE = Example(claim, world().spec, table, ["value", "low", "high", "step"], 3, 1, truths=TRUTHS)
judged = EXAMPLE.judged


def test_a_known_slope_lies_in_its_interval():
    slopes = judged().query("role == 'criterion'")
    assert slopes["estimate"].to_numpy() == pytest.approx(-1, abs=0.1)
    assert (slopes["ci_low"] <= -1 + 0.02).all()
    assert (slopes["ci_high"] >= -1 - 0.02).all()


def test_every_rate_counts_once_with_all_its_initialisations():
    rows = EXAMPLE.table()
    assert set(rows["point"]) == {f"{rate} from {2 * place}" for place, rate in enumerate(RATES)}
    assert set(rows["initialisations"]) == {16}
    assert set(rows["replicates"]) == {64}


def test_quantities_without_rows_are_inconclusive_and_not_silent():
    rows = EXAMPLE.table()
    found = judged(rows[rows["quantity"] != claim.NORM])
    assert list(found.loc[found["statement"].str.startswith(claim.NORM), "verdict"]) == ["inconclusive"]
    for few in (rows.head(0), rows[rows["resample"].isna() | (rows["resample"] == 0)]):
        assert set(judged(few)["verdict"]) == {"inconclusive"}


def test_a_run_without_a_positive_effective_rate_leaves_the_norm_open():
    inputs = world(rates=(0.03, 0.01))
    rows = inputs.trace("rates")
    rows.loc[(rows["replicate"] == 1) & (rows["step"] > 100), "effective_lr"] = np.nan
    inputs.trace = lambda role: rows
    found = judged(claim.measure(inputs), inputs.spec)
    assert set(found.loc[found["statement"].str.startswith(claim.NORM), "verdict"]) == {"inconclusive"}


def test_intervals_are_expanded_for_few_initialisations():
    values = np.concatenate([[0.0], np.linspace(-1, 1, 2001)])
    low, high = expanded_tails(0.95, 5)
    assert claim._interval(values, 0.95, 5, 40)[1:] == pytest.approx((2 * low - 1, 2 * high - 1, 40))
    assert np.isnan(claim._interval(values, 0.95, 1, 8)[1:3]).all()
