"""Schedules that meet: verdicts on runs of known label distributions."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
from simulated_labels import SimulatedInputs, dirichlet, point

from intrinsic_lr.claims import schedules_same_equilibrium as claim
from intrinsic_lr.claims.verdicts import findings_table, overall

STEPS = [50, 90, 110, 200, 500]
TIMELINES = {
    "early": "40@1@0.1,460@1@0.01",
    "by_lr": "100@1@0.1,400@0.1@0.1",
    "late": "20@1@1,80@1@0.05,400@0.1@0.1",
    "apart": "100@1@0.1,400@1@0.05",
}


def world(left, apart=5):
    """Return inputs where the share `left(steps since the meeting)` of the past is left; before it, all."""

    def distribution(of, step):
        past = dirichlet(1, list(TIMELINES).index(of["schedule"]))
        share = left(step - 100) if step > 100 else 1.0
        return (1 - share) * dirichlet(apart if of["schedule"] == "apart" else 4) + share * past

    points = {name: point(name, 0.1, STEPS, schedule=name) for name in TIMELINES}
    records = {name: {"plan": {"timeline": text}, "steps_per_epoch": 10} for name, text in TIMELINES.items()}
    experiments = {
        "meeting": [points[name] for name in ("early", "by_lr", "late")],
        "not_meeting": [points["apart"]],
    }
    return SimulatedInputs(
        distribution, "schedules_same_equilibrium", experiments, records=records, thresholds={"excess_share": 0.1}
    )


def judged(inputs):
    table = claim.measure(inputs)
    return table, findings_table("claim", "", "", claim.judge(table, inputs.question))


def test_the_meeting_is_read_off_the_schedules():
    assert claim.met_at(np.array([3, 2, 1, 1]), np.array([2, 2, 1, 1.0])) == 1
    assert claim.met_at(np.ones(3), np.ones(3)) == 0
    assert claim.met_at(np.array([0.1, 0.1 * 3]), np.array([1, 0.3])) == 1
    assert math.isnan(claim.met_at(np.array([1.0, 1, 2]), np.array([1.0, 1, 1])))


def test_schedules_that_forget_are_reproduced():
    table, findings = judged(world(lambda time: math.exp(-time / 40)))
    assert overall(findings) == "reproduced"
    assert (findings["role"] == "criterion").sum() == 6
    assert (findings["role"] == "control").sum() == 7
    pairs = table[table["part"] != claim.RATE]
    assert set(pairs.loc[pairs["part"] == claim.MEET, "met_at"]) == {100}
    assert pairs.loc[pairs["part"] == claim.APART, "met_at"].isna().all()
    assert pairs["epoch"].tolist() == pytest.approx((pairs["step_a"] / 10).tolist())
    changes = table[(table["part"] == claim.RATE) & (table["point_a"] == "late")]
    assert dict(zip(changes["step_a"], changes["intrinsic_lr_now_a"], strict=True)) == pytest.approx(
        {0: 1, 20: 0.05, 100: 0.01, 499: 0.01}
    )


def test_schedules_that_remember_are_not_reproduced():
    _, findings = judged(world(lambda time: 0.8))
    assert set(findings.loc[findings["role"] == "criterion", "verdict"]) == {"not reproduced"}


def test_a_fourth_that_ends_alike_is_not_rejected():
    _, findings = judged(world(lambda time: 0.0, apart=4))
    fourth = findings[findings["statement"].str.contains("do not meet")]
    assert list(fourth["verdict"]) == ["not rejected"] * 3
    assert overall(findings) == "inconclusive"


def test_figure_draws_plausible_and_degenerate_tables():
    inputs = world(lambda time: math.exp(-time / 40))
    table, _ = judged(inputs)
    measured = ["l1", "null_mean", "p_value", "total_variation", "excess_share", "excess_share_low"]
    for rows in (table, table.assign(**dict.fromkeys(measured, np.nan))):
        findings = findings_table("claim", "", "", claim.judge(rows, inputs.question))
        figure = claim.draw(rows, inputs.question, findings)
        figure.draw_without_rendering()
        plt.close(figure)
    assert set(findings["verdict"]) == {"inconclusive"}
