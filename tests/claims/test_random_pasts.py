"""Random pasts: the spread between groups, its error rates, and verdicts on synthetic tables."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from intrinsic_lr.claims import random_pasts as claim
from intrinsic_lr.claims.question import Question
from intrinsic_lr.claims.verdicts import Finding, overall

QUESTION = Question(
    "random_pasts",
    experiments={"pasts": {"experiment": "pasts"}},
    thresholds={"accuracy": 0.01, "ratio": 0.1},
    settings={"stretch": 2, "accuracy_shown": 0.12},
    analysis={"confidence": 0.95},
)
NAMES = [f"past_{index}" for index in range(1, 6)]


def table(remembered=0.0, at_the_end=0.0, replicates=16, seed=0):
    """Return a table in which the pasts still differ by a share of what they differed by at their ends."""
    generator = np.random.default_rng(seed)
    rows = []
    for part, share, step in (
        (claim.PAST, 1.0, 600),
        (claim.COMMON, remembered, 1400),
        (claim.END, at_the_end, 2000),
    ):
        for index, name in enumerate(NAMES):
            for replicate in range(replicates):
                level = share * (index - 2)
                rows.append({
                    "part": part, "schedule": name, "replicate": replicate, "step": step,
                    "train_accuracy": 0.97 + 0.02 * level + generator.normal(0, 0.003),
                    "test_accuracy": 0.95 + 0.02 * level + generator.normal(0, 0.005),
                    "squared_norm": 3 * np.exp(0.5 * level + generator.normal(0, 0.02)),
                    "effective_lr": 0.03 * np.exp(-0.5 * level + generator.normal(0, 0.02)),
                })  # fmt: skip
    curves = pd.DataFrame(rows).assign(part=claim.CURVE)
    return pd.concat([curves, pd.DataFrame(rows)], ignore_index=True)


def judged(frame):
    findings = claim.judge(frame, QUESTION)
    return pd.DataFrame([vars(finding) for finding in findings], columns=list(Finding.__dataclass_fields__))


def test_pasts_that_are_forgotten_are_reproduced_and_their_ends_are_rejected():
    findings = judged(table())
    assert overall(findings) == "reproduced"
    assert set(findings.loc[findings["role"] == "control", "verdict"]) == {"rejected"}
    assert (findings["n"] == 16).all()


def test_pasts_that_are_remembered_are_not_reproduced():
    findings = judged(table(remembered=0.5, at_the_end=0.5))
    criteria = findings[findings["role"] == "criterion"]
    assert set(criteria["verdict"]) == {"not reproduced"}
    assert (criteria["p_value"] < 1e-6).all()


def test_a_last_accuracy_that_differs_is_not_reproduced():
    findings = judged(table(at_the_end=1.0))
    assert list(findings.loc[findings["verdict"] == "not reproduced", "statement"]) == [
        "test accuracy at the very end"
    ]


def test_the_bounds_are_those_of_tukeys_intervals():
    generator = np.random.default_rng(4)
    groups = [generator.normal(mean, 1, n) for mean, n in ((0.0, 8), (0.4, 12), (3.0, 9))]
    estimate, (low, high), p_value = claim.spread(groups, 0.9)
    reference = stats.tukey_hsd(*groups).confidence_interval(0.9)
    assert estimate == pytest.approx(groups[2].mean() - groups[0].mean())
    assert (low, high) == pytest.approx((reference.low[2, 0], reference.high[2, 0]), rel=1e-3)
    assert p_value == pytest.approx(stats.f_oneway(*groups).pvalue)


def test_the_interval_covers_the_largest_true_difference():
    generator = np.random.default_rng(1)
    means = np.array([0.0, 0.3, 0.5, 1.2])
    covered = 0
    for _ in range(300):
        groups = [generator.normal(mean, 1, 12) for mean in means]
        _, (low, high), _ = claim.spread(groups, 0.95)
        covered += low <= 1.2 <= high
    assert covered >= stats.binom.ppf(1e-4, 300, 0.95)


def test_equal_means_give_uniform_p_values_and_an_interval_from_zero():
    generator = np.random.default_rng(2)
    found = [claim.spread([generator.normal(size=10) for _ in range(4)], 0.95) for _ in range(300)]
    assert stats.kstest([p for *_, p in found], "uniform").pvalue > 1e-3
    assert np.mean([low > 0 for _, (low, _), _ in found]) < 0.1


def test_constants_have_no_interval():
    assert claim.spread([np.ones(5), np.ones(5)], 0.95) == (0.0, (0.0, 0.0), 1.0)
    assert claim.spread([np.ones(5), np.full(5, 3.0)], 0.95) == (2.0, (2.0, 2.0), 0.0)


def test_the_phases_are_read_off_the_rates():
    rows = [
        {"point": point, "step": step, "lr_now": lr, "weight_decay_now": decay}
        for point, early in (("a", 1.0), ("b", 3.0))
        for step in range(10)
        for lr, decay in [(early, 0.1) if step <= 3 else (1.0, 0.1) if step <= 7 else (0.1, 0.0)]
    ]
    assert claim.phases(pd.DataFrame(rows)) == (3, 7)


@pytest.mark.parametrize("rows", ["none finite", "one replicate"])
def test_a_degenerate_table_decides_nothing_and_draws(rows):
    frame = table(replicates=4)
    if rows == "none finite":
        frame[list(claim.QUANTITIES)] = np.nan
    else:
        frame = frame[frame["replicate"] == 0]
    findings = judged(frame)
    assert set(findings["verdict"]) == {"inconclusive"}
    plt.close(claim.draw(frame, QUESTION, findings))


def test_the_figure_has_a_panel_for_every_quantity():
    figure = claim.draw(table(replicates=3), QUESTION, pd.DataFrame())
    assert [axes.get_ylabel() for axes in figure.axes] == list(claim.QUANTITIES.values())
    plt.close(figure)
