"""Times to equilibrium: verdicts on curves with a known power law."""

import numpy as np
import pandas as pd
import pytest
from checks import Example, Point, spec_of
from simulated_labels import CLASSES, SimulatedData, dirichlet, draw, point

from intrinsic_lr.claims import equilibrium_time as claim
from intrinsic_lr.stats.intervals import expanded_tails
from intrinsic_lr.stats.theory import relaxed_gamma

RATES = (0.03, 0.01, 0.003, 0.001)
SPEC = spec_of("equilibrium_time")
STEPS = np.unique(np.geomspace(4, 30_000, 30).round())


def table(power=-1.0, runs=60, rates=RATES):
    """Return the claim's table of a world that relaxes in c * rate^power steps, the same at rate 0.01."""
    generator = np.random.default_rng(0)
    parts = []
    for rate in rates:
        point = Point(name=f"at {rate}", intrinsic_lr=rate)
        time = 100 * (rate / 0.01) ** power
        labels = []
        for seed in (1, 2):
            left = np.exp(-STEPS / time)
            mixed = [(1 - share) * dirichlet(3) + share * dirichlet(seed) for share in left]
            labels.append([draw(p, runs, generator) for p in mixed])
        parts.append(
            claim._rows(SPEC, point, claim.FUNCTION, STEPS, *claim.share_curves(*labels, CLASSES, 100, 1))
        )
        gamma = relaxed_gamma(STEPS, 30.0, 0.25 / time, 0.5 / time)
        noisy = [
            pd.DataFrame(gamma**-0.5 * np.exp(0.03 * generator.normal(size=(runs, len(STEPS)))), columns=STEPS)
            for _ in range(2)
        ]
        parts.append(claim._rows(SPEC, point, claim.NORM, *claim.norm_curves(noisy, 0.25, 100, 1)))
    return pd.concat(parts, ignore_index=True)


# Times of another power are not reproduced; those that do not depend on the rate collapse in steps.
TRUTHS = [({"power": -0.5}, {"criterion": "not reproduced"}), ({"power": 0.0}, {"control": "not rejected"})]
EXAMPLE = Example(claim, SPEC, table, ["value", "low", "high", "step"], 4, 2, truths=TRUTHS)
judged = EXAMPLE.judged


@pytest.mark.parametrize("power", [-1.0, -0.7])
def test_a_known_slope_lies_in_its_interval(power):
    slopes = judged(power=power).query("statistic == @claim.SLOPE")
    assert len(slopes) == 2
    assert slopes["estimate"].to_numpy() == pytest.approx(power, abs=0.05)
    assert (slopes["ci_low"] - 0.01 <= power).all()
    assert (slopes["ci_high"] + 0.01 >= power).all()


def test_the_curve_of_a_share_is_the_known_one():
    """Half of ||p - q||^2 over 1 - p q, at shares of a known mixture."""
    left = np.array([1.0, 0.5, 0.0])
    sides = [[(1 - share) * dirichlet(3) + share * dirichlet(seed) for share in left] for seed in (1, 2)]
    generator = np.random.default_rng(5)
    labels = [[draw(p, 400, generator) for p in side] for side in sides]
    curves, runs, missing = claim.share_curves(*labels, CLASSES, 50, 1)
    truth = [
        np.square(p - q).sum(axis=1).mean() / 2 / (1 - (p * q).sum(axis=1)).mean()
        for p, q in zip(*sides, strict=True)
    ]
    assert curves[0] == pytest.approx(truth, abs=0.01)
    assert curves[1:].mean(axis=0) == pytest.approx(truth, abs=0.01)
    assert (runs, missing, curves.shape) == (400, 0, (51, 3))


def test_diverged_runs_are_left_out_of_every_checkpoint_and_counted():
    generator = np.random.default_rng(5)
    labels = [[draw(dirichlet(seed), 6, generator) for _ in range(2)] for seed in (1, 2)]
    labels[0][1][2] = -1
    curves, runs, missing = claim.share_curves(*labels, CLASSES, 5, 1)
    assert (runs, missing) == (5, 1)
    assert np.isfinite(curves).all()
    frame = pd.DataFrame(np.full((3, 4), 0.5), columns=[0, 1, 2, 3])
    broken = frame.copy()
    broken.iloc[1, 2] = np.nan
    steps, curves, runs, missing = claim.norm_curves([frame, broken], 0.5, 5, 1)
    assert (list(steps), runs, missing) == ([1, 2, 3], 2, 1)
    assert (curves == 0).all()


def world(seeds_by_rate):
    """Return inputs of points that relax in 1/lambda_e steps."""
    steps = [5, 10, 20, 40, 80, 160]
    points = [
        point(f"{rate} from {seed}", rate, steps, init_seed=seed)
        for rate, seeds in seeds_by_rate.items()
        for seed in seeds
    ]

    def distribution(of, step):
        share = np.exp(-step * of["intrinsic_lr"])
        return (1 - share) * dirichlet(3) + share * dirichlet(10 + of["init_seed"])

    inputs = SimulatedData(distribution, "equilibrium_time", {"rates": points})
    rows = [
        pd.DataFrame({
            "point": of["name"], "replicate": k, "step": steps,
            "effective_lr": np.exp(np.exp(-of["intrinsic_lr"] * np.array(steps))),
        })
        for of in points for k in range(3)
    ]  # fmt: skip
    inputs.trace = lambda role: pd.concat(rows)
    return inputs


def test_every_rate_counts_once_and_may_have_a_pair_of_its_own():
    found = claim.measure(world({0.1: (0, 1, 2), 0.05: (0, 3)}))
    assert set(found["point"]) == {"0.1 from 0", "0.05 from 0"}
    assert len(judged(found)) == 6


def test_quantities_without_rows_are_inconclusive_and_not_silent():
    rows = EXAMPLE.table()
    found = judged(rows[rows["quantity"] == claim.FUNCTION])
    assert list(found.loc[found["statement"].str.startswith(claim.NORM), "verdict"]) == ["inconclusive"] * 3
    for few in (rows.head(0), table(runs=1, rates=(0.01,))):
        assert set(judged(few)["verdict"]) == {"inconclusive"}


def test_intervals_are_expanded_for_few_runs():
    values = np.concatenate([[0.0], np.linspace(-1, 1, 2001)])
    low, high = expanded_tails(0.95, 5)
    assert claim._interval(values, 0.95, 5)[1:3] == pytest.approx((2 * low - 1, 2 * high - 1))
    assert np.isnan(claim._interval(values, 0.95, 1)[1:3]).all()
