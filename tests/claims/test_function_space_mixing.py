"""Initialisations and what they cause: verdicts on runs of known label distributions."""

import math

import numpy as np
import pytest
from checks import Example, verdicts
from simulated_labels import SimulatedData, dirichlet, point

from intrinsic_lr.claims import function_space_mixing as claim
from intrinsic_lr.claims.shared import forgetting
from intrinsic_lr.claims.shared.verdicts import overall


def forgotten(time):
    return math.exp(-time)


def world(left=forgotten, rates=(0.1, 0.01), runs=64, name="function_space_mixing"):
    """Return inputs where the share `left(intrinsic time)` of the initialisation's own predictions is left."""

    def distribution(of, step):
        share = left(step * of["intrinsic_lr"])
        rest = dirichlet(1, round(1e4 * of["intrinsic_lr"]), of["batch_size"])
        return (1 - share) * rest + share * dirichlet(2, of["init_seed"])

    def setting(rate, times, seeds, **axes):
        steps = [round(time / rate) for time in times]
        axes |= {"init_sharing": "independent", "runs_per_init": 8}
        return [point(f"{rate} from {seed}", rate, steps, init_seed=seed, **axes) for seed in seeds]

    experiments = {
        "mixing": [
            of for place, rate in enumerate(rates) for of in setting(rate, (0.5, 8), (2 * place, 2 * place + 1))
        ],
        "too_short": setting(0.001, (0.1, 0.2), (10, 11)),
        "other_batch": setting(rates[0], (8,), (12, 13), batch_size=8),
    }
    for of in experiments["other_batch"]:
        of.name = f"batch 8 from {of.init_seed}"
    return SimulatedData(distribution, name, experiments, runs)


def table(left=forgotten, **options):
    return claim.measure(world(left, **options))


TRUTHS = [({"left": lambda time: 0.5}, {"criterion": "not reproduced"})]
# Two kinds of distances each: two rates; a pair of rates, of batch sizes, and runs that are too short.
EXAMPLE = Example(claim, world().spec, table, forgetting.MEASURED, criteria=4, controls=6, truths=TRUTHS)


def judged(inputs):
    return EXAMPLE.judged(claim.measure(inputs), inputs.spec)


def test_every_kind_of_comparison_is_there():
    assert set(EXAMPLE.table()["part"]) == {claim.INITIALISATION, *claim.CONTROLS}
    rows = EXAMPLE.table()
    assert set(rows["initialisations"]) == {16}
    assert set(rows["runs"]) == {128}


def test_a_share_at_the_margin_is_undecided_and_a_criterion_tells_its_power():
    findings = judged(world(lambda time: 0.3 if time < 1 else 0.17, rates=(0.1,)))
    assert "inconclusive" in verdicts(findings)
    criteria = EXAMPLE.judged().query("role == 'criterion'")
    assert (criteria["power_for"] == 0).all()
    assert criteria["power"].between(0.5, 1).all()


def test_controls_that_do_not_differ_are_not_rejected():
    """Nothing is forgotten or depends on anything: a test that cannot tell is no evidence."""
    inputs = SimulatedData(lambda of, step: dirichlet(1), "function_space_mixing", {}, 64)
    inputs.spec = EXAMPLE.spec
    assert "rejected" not in set(judged(inputs)["verdict"])


@pytest.mark.parametrize(
    ("names", "told"),
    [("batch 8", "batch sizes"), ("0.001", "stopped too soon"), ("0.01", "a factor of ten apart")],
)
def test_a_control_that_is_not_there_is_inconclusive(names, told):
    inputs = world()
    for of in inputs.spec.experiments.values():
        of.points = [point for point in of.points if not point.name.startswith(f"{names} ")]
    findings = judged(inputs)
    controls = findings[findings["role"] == "control"]
    assert list(controls.loc[controls["statement"].str.contains(told), "verdict"]) == ["inconclusive"]
    assert overall(findings) == "inconclusive"


def test_a_table_of_nothing_is_inconclusive():
    assert set(EXAMPLE.judged(forgetting.as_table([]))["verdict"]) == {"inconclusive"}


def test_settings_that_share_initial_weights_are_not_compared():
    inputs = world()
    for of in inputs.spec.experiments["other_batch"].points:
        of.init_seed -= 12
    rows = claim.measure(inputs)
    assert rows.loc[rows["part"] == claim.BATCH, "share"].isna().all()


def test_a_run_that_is_lost_at_the_end_is_left_out_from_the_start():
    inputs = world(rates=(0.1,), runs=16)
    simulated = inputs.ensemble

    def ensemble(role, of):
        found = simulated(role, of)
        labels, predictions = found.labels, found.predictions

        def broken(step):
            values = labels(step)
            if step == of.steps[-1]:
                values[2] = -1
            return values

        found.labels = broken
        found.predictions = lambda step: predictions(step) | {"labels": broken(step)}
        return found

    inputs.ensemble = ensemble
    rows = claim.measure(inputs)
    assert set(rows.loc[rows["part"] == claim.INITIALISATION, "runs"]) == {30}
    assert set(rows["missing"]) == {2, 4}
    assert np.isfinite(rows["share"]).all()


def test_initialisations_of_points_of_their_own_are_taken_together():
    """Points that differ in `init_seed` alone, each with one initialisation for all of its runs."""
    inputs = world(rates=(0.1,), runs=12)
    for of in inputs.spec.experiments["mixing"].points:
        vars(of).update(init_sharing="shared", runs_per_init=1)
    rows = claim.measure(inputs)
    rows = rows[rows["part"] == claim.INITIALISATION]
    assert set(rows["initialisations"]) == {2}
    assert set(rows["runs"]) == {24}
