"""Exactly one distribution after schedules meet: verdicts on runs of known label distributions."""

from checks import Example
from test_schedules_same_equilibrium import world

from intrinsic_lr.claims import schedules_one_distribution as claim
from intrinsic_lr.claims.shared import sameness

NAME = "schedules_one_distribution"


def table(left=lambda time: 0.0):
    return claim.measure(world(left, name=NAME))


TRUTHS = [({"left": lambda time: 0.8}, {"criterion": "not reproduced"})]
EXAMPLE = Example(claim, world(name=NAME).spec, table, sameness.MEASURED, criteria=3, controls=6, truths=TRUTHS)


def test_only_the_ends_are_compared_and_tell_their_power():
    rows = EXAMPLE.table()
    assert set(rows["step_a"]) == {90, 500}
    findings = EXAMPLE.judged()
    assert findings.query("role == 'criterion'")["power_for"].between(0.001, 0.1).all()
    assert findings["power"].dropna().eq(0.9).all()
