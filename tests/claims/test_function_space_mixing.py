"""Two initialisations: verdicts on runs of known label distributions."""

import math

import pandas as pd
import pytest
from checks import Example, verdicts
from simulated_labels import SimulatedData, dirichlet, point

from intrinsic_lr.claims import function_space_mixing as claim
from intrinsic_lr.claims.shared import sameness
from intrinsic_lr.claims.shared.sameness import compare_points, last_checkpoints
from intrinsic_lr.claims.shared.verdicts import overall


def forgetting(time):
    return math.exp(-time)


def world(left=forgetting, rates=(0.1, 0.01), runs=40):
    """Return inputs where the share `left(intrinsic time)` of the initialisation's own predictions is left."""

    def distribution(of, step):
        share = left(step * of["intrinsic_lr"])
        rest = dirichlet(1, round(1e4 * of["intrinsic_lr"]), of["batch_size"])
        return (1 - share) * rest + share * dirichlet(2, of["init_seed"])

    def pair(rate, last):
        steps = [round(time / rate) for time in last]
        return [point(f"{rate} from {seed}", rate, steps, init_seed=seed) for seed in (0, 1)]

    experiments = {
        "mixing": [of for rate in rates for of in pair(rate, (0.5, 8))],
        "too_short": pair(0.001, (0.1, 0.2)),
        "other_batch": [point("batch 128", rates[0], [round(8 / rates[0])], batch_size=128)],
    }
    return SimulatedData(distribution, "function_space_mixing", experiments, runs)


def table(left=forgetting, **options):
    return claim.measure(world(left, **options))


TRUTHS = [({"left": lambda time: 0.5}, {"criterion": "not reproduced"})]
# Controls: three of them twice, one up to the margin too.
EXAMPLE = Example(claim, world().spec, table, sameness.MEASURED, criteria=6, controls=7, truths=TRUTHS)


def judged(inputs):
    return EXAMPLE.judged(claim.measure(inputs), inputs.spec)


def test_every_kind_of_pair_is_compared():
    assert set(EXAMPLE.table()["part"]) == {claim.INITIALISATION, claim.RATE, claim.BATCH, claim.SHORT}


def test_a_small_memory_fails_exchangeability_and_excess_alone():
    findings = judged(world(lambda time: 0.12, rates=(0.1,), runs=400))
    assert verdicts(findings) == ["not reproduced", "not reproduced", "reproduced"]


def test_controls_that_do_not_differ_are_not_rejected():
    """Nothing is forgotten or depends on anything: a test that cannot tell is no evidence."""
    inputs = SimulatedData(lambda of, step: dirichlet(1), "function_space_mixing", {})
    inputs.spec = EXAMPLE.spec
    assert "rejected" not in set(judged(inputs)["verdict"])


def compared(**columns):
    """Return two comparisons with these numbers."""
    rows = pd.DataFrame({"total_variation_low": [0.0] * 2, "total_variation_high": 1.0, "replicates_a": 5})
    return rows.assign(total_variation=0.1, null_mean=0.1, replicates_b=4, **columns)


def findings_of(test, rows):
    return list(test(EXAMPLE.spec.criterion, rows, lambda row: "one", lambda row: ["mixing"]))


def test_p_values_of_exchangeability_are_adjusted_for_their_number():
    found = findings_of(sameness.test_exchangeable, compared(p_value=[0.03, 0.5]))
    assert [finding.p_value for finding in found] == pytest.approx([0.06, 0.5])
    assert [finding.verdict for finding in found] == ["reproduced"] * 2
    assert found[0].n == 4


def test_zero_excess_is_rejected_where_it_is_outside_the_interval():
    rows = compared(excess=0.01, excess_low=[-0.001, 0.001], excess_high=0.02)
    found = [finding.verdict for finding in findings_of(sameness.test_no_excess, rows)]
    assert found == ["reproduced", "not reproduced"]


def without(*names, left=forgetting):
    """Return inputs without the points of these names."""
    inputs = world(left)
    for of in inputs.spec.experiments.values():
        of.points = [point for point in of.points if point.name not in names]
    return inputs


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["batch 128"], "batch sizes"),
        (["0.001 from 1"], "stopped too soon"),
        (["0.01 from 0", "0.01 from 1"], "a factor of ten apart"),
    ],
)
def test_a_control_that_is_not_there_is_inconclusive(names, told):
    findings = judged(without(*names))
    controls = findings[findings["role"] == "control"]
    assert list(controls.loc[controls["statement"].str.contains(told), "verdict"]) == ["inconclusive"]
    assert overall(findings) == "inconclusive"


def test_a_table_of_no_pair_is_inconclusive():
    rows = compare_points(world(), [])
    assert last_checkpoints(rows).empty
    assert list(EXAMPLE.judged(rows)["verdict"]) == ["inconclusive"] * 6


def test_every_rate_may_have_an_initialisation_of_its_own():
    """Seed 0 is common to the rates, so that the controls share it; the other differs from rate to rate."""
    inputs = world()
    for place, of in enumerate(inputs.spec.experiments["mixing"].points):
        of.init_seed *= 1 + place
    findings = judged(inputs)
    assert overall(findings) == "reproduced"
    told = findings.loc[findings["role"] == "criterion", "statement"]
    assert told.str.contains("initialisations 0 and 4, lambda_e 0.01 at").any()


def test_a_run_that_is_lost_at_the_end_is_left_out_from_the_start():
    inputs = world(lambda time: 0.0, rates=(0.1,), runs=6)
    simulated = inputs.ensemble

    def ensemble(role, of):
        found = simulated(role, of)
        labels = found.labels

        def broken(step):
            values = labels(step)
            if step == of.steps[-1]:
                values[2] = -1
            return values

        found.labels = broken
        return found

    inputs.ensemble = ensemble
    rows = claim.measure(inputs)
    assert set(rows["replicates_a"]) == {5}
    assert set(rows["missing_b"]) == {1}
