"""Schedules that meet: verdicts on runs of known label distributions."""

import math
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from checks import Example, verdicts
from scipy import stats
from simulated_labels import CLASSES, SimulatedData, dirichlet, draw, point

from intrinsic_lr.claims import schedules_same_equilibrium as claim
from intrinsic_lr.claims.shared import sameness
from intrinsic_lr.claims.shared.sameness import compare_points
from intrinsic_lr.claims.shared.verdicts import overall
from intrinsic_lr.core.seeding import stream_seed
from plans import timeline

STEPS = [50, 90, 110, 200, 500]
TIMELINES = {
    "early": timeline((40, 1, 0.1), (460, 1, 0.01)),
    "by_lr": timeline((100, 1, 0.1), (400, 0.1, 0.1)),
    "late": timeline((20, 1, 1), (80, 1, 0.05), (400, 0.1, 0.1)),
    "apart": timeline((100, 1, 0.1), (400, 1, 0.05)),
}


def recorded(rates):
    return {"plan": SimpleNamespace(timeline=rates), "steps_per_epoch": 10}


def forgetting(time):
    return math.exp(-time / 40)


def world(left=forgetting, apart=5, name="schedules_same_equilibrium"):
    """Return inputs where the share `left(steps since they meet)` of the past is left; before it, all."""

    def distribution(of, step):
        past = dirichlet(1, list(TIMELINES).index(of.schedule))
        share = left(step - 100) if step > 100 else 1.0
        return (1 - share) * dirichlet(apart if of.schedule == "apart" else 4) + share * past

    points = {
        name: point(name, 0.1, STEPS, schedule=name, init_seed=seed, init_sharing="independent")
        for seed, name in enumerate(TIMELINES)
    }
    records = {name: recorded(rates) for name, rates in TIMELINES.items()}
    experiments = {"unmatched_schedules": [points.pop("apart")], "matched_schedules": list(points.values())}
    return SimulatedData(distribution, name, experiments, runs=240, records=records)


def table(left=forgetting, apart=5):
    return claim.measure(world(left, apart))


EXAMPLE = Example(claim, world().spec, table, sameness.MEASURED, criteria=3, controls=6)


def judged(inputs):
    rows = claim.measure(inputs)
    return rows, EXAMPLE.judged(rows, inputs.spec)


def test_the_meeting_is_read_off_the_schedules():
    assert claim.met_at(np.array([3, 2, 1, 1]), np.array([2, 2, 1, 1.0])) == 1
    assert claim.met_at(np.ones(3), np.ones(3)) == 0
    assert claim.met_at(np.array([0.1, 0.1 * 3]), np.array([1, 0.3])) == 1
    assert math.isnan(claim.met_at(np.array([1.0, 1, 2]), np.array([1.0, 1, 1])))


def test_the_table_says_when_the_rates_meet():
    rows = EXAMPLE.table()
    pairs = rows[rows["part"] != claim.RATE]
    assert set(pairs.loc[pairs["part"] == claim.MEET, "met_at"]) == {100}
    assert pairs.loc[pairs["part"] == claim.APART, "met_at"].isna().all()
    assert pairs["epoch"].tolist() == pytest.approx((pairs["step_a"] / 10).tolist())
    changes = rows[(rows["part"] == claim.RATE) & (rows["point_a"] == "late")]
    assert dict(zip(changes["step_a"], changes["intrinsic_lr_now_a"], strict=True)) == pytest.approx(
        {0: 1, 20: 0.05, 100: 0.01, 499: 0.01}
    )


def test_schedules_that_remember_are_not_reproduced():
    assert set(verdicts(EXAMPLE.judged(left=lambda time: 0.8))) == {"not reproduced"}


def test_a_fourth_that_ends_alike_is_not_rejected():
    findings = EXAMPLE.judged(left=lambda time: 0.0, apart=4)
    fourth = findings[findings["statement"].str.contains("do not meet")]
    assert list(fourth["verdict"]) == ["not rejected"] * 3


def seeded(*names, **axes):
    """Return a forgetting world with some axes of these points changed."""
    inputs = world()
    for of in inputs.spec.experiments["matched_schedules"].points:
        if of.name in names:
            vars(of).update(axes)
    return inputs


def test_schedules_that_start_at_the_same_weights_are_noticed_and_not_judged():
    table, findings = judged(seeded("by_lr", init_seed=0))
    pairs = table[(table["part"] == claim.MEET) & table["paired"].eq(True)]
    assert set(zip(pairs["schedule_a"], pairs["schedule_b"], strict=True)) == {("early", "by_lr")}
    told = findings["statement"].str.contains("share their initial weights")
    assert set(findings.loc[told, "verdict"]) == {"inconclusive"}
    assert findings.loc[told, "statement"].str.startswith("early and by_lr").all()
    assert told.sum() == 2  # at the end, and before the rates match
    assert overall(findings) == "inconclusive"


class InitialWeights(SimulatedData):
    """Runs of which half of the images are labelled by the initial weights, the others by the batches."""

    def ensemble(self, role, of):
        def labels(step):
            p = dirichlet(1)
            start, rest = (
                np.random.default_rng(stream_seed(*names))
                for names in (("weights", of.init_seed), ("batches", of.name))
            )
            kept = np.arange(len(p)) < len(p) // 2
            return np.where(kept, draw(p, 12, start), draw(p, 12, rest))

        return SimpleNamespace(labels=labels, classes=CLASSES)


@pytest.mark.parametrize("common", [False, True])
def test_p_values_are_uniform_for_independent_sides_and_there_are_none_of_paired_ones(common):
    inputs = InitialWeights(None, "schedules_same_equilibrium", {})
    inputs.spec = replace(inputs.spec, name="claim", analysis={**inputs.spec.analysis, "bootstrap": 2})

    def run(side, index):
        seed = index if common else f"{side}{index}"
        return "matched_schedules", point(f"{side}{index}", 0.1, [1], init_seed=seed, init_sharing="independent")

    rows = compare_points(inputs, [("null", run("a", i), run("b", i), [(1, 1)]) for i in range(150)])
    assert set(rows["paired"]) == {common}
    if not common:
        assert stats.kstest(rows["p_value"], "uniform").pvalue > 1e-3
    else:
        assert rows[sameness.MEASURED].isna().all(axis=None)
        first = rows.head(1)
        within_margin = partial(sameness.test_within_margin, margin=0.1)
        for test in (sameness.test_exchangeable, within_margin):
            (found,) = test(inputs.spec.criterion, first, lambda row: "one", lambda row: ["matched_schedules"])
            assert found.verdict == "inconclusive"
            assert "share their initial weights" in found.statement


def test_one_initialisation_of_all_runs_pairs_nothing_and_common_batches_do():
    table, _ = judged(seeded("early", "by_lr", init_seed=0, init_sharing="shared"))
    assert not table["paired"].eq(True).any()
    table, _ = judged(seeded("early", "by_lr", data_order=3))
    assert set(table.loc[table["paired"].eq(True), "schedule_b"]) == {"by_lr"}


@pytest.mark.parametrize(
    ("rates", "told"),
    [
        (timeline((500, 1, 0.1)), "were to meet and do not"),
        (timeline((499, 1, 0.1), (1, 0.1, 0.1)), "0.01/lambda_e after they met, too soon to judge"),
        (timeline((420, 1, 0.1), (80, 0.1, 0.1)), "0.8/lambda_e after they met, too soon to judge"),
    ],
)
def test_a_pair_that_never_meets_or_too_late_is_inconclusive_and_no_control(rates, told):
    inputs = world()
    inputs._records["late"] = recorded(rates)
    _, findings = judged(inputs)
    criteria = findings[findings["role"] == "criterion"]
    assert len(criteria) == 3
    late = criteria[criteria["statement"].str.contains(" and late")]
    assert list(late["verdict"]) == ["inconclusive"] * 2
    assert late["statement"].str.contains(told, regex=False).all()
    controls = findings.loc[findings["role"] == "control", "statement"]
    assert not (controls.str.contains("and late") & controls.str.contains("which do not meet")).any()
    assert overall(findings) == "inconclusive"


@pytest.mark.parametrize(("told", "controls"), [("a schedule that does not meet", 1), ("before", 3)])
def test_controls_without_their_schedule_or_checkpoint_are_inconclusive(told, controls):
    inputs = world()
    matched, apart = (
        inputs.spec.experiments[role].points for role in ("matched_schedules", "unmatched_schedules")
    )
    if controls == 1:
        apart.clear()
    else:
        for of in matched + apart:
            of.steps = [110, 500]
    _, findings = judged(inputs)
    missing = findings[findings["statement"].str.contains(told)]
    assert list(missing["verdict"]) == ["inconclusive"] * controls
    assert overall(findings) == "inconclusive"
