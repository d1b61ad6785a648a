"""Exactly one distribution of functions: verdicts on runs of known label distributions."""

import pytest
from checks import Example, verdicts
from test_function_space_mixing import world

from intrinsic_lr.claims import function_space_one_distribution as claim
from intrinsic_lr.claims.shared import forgetting

NAME = "function_space_one_distribution"


def table(left=lambda time: 1.0 if time < 8 else 0.0, **options):
    return claim.measure(world(left, name=NAME, **options))


TRUTHS = [({"left": lambda time: 0.5}, {"criterion": "not reproduced", "control": "rejected"})]
EXAMPLE = Example(claim, world(name=NAME).spec, table, forgetting.MEASURED, criteria=4, controls=6, truths=TRUTHS)


def test_a_small_memory_is_found_as_often_as_the_power_says():
    findings = EXAMPLE.judged()
    power = findings.query("role == 'criterion' and power == 0.9")["power_for"]
    assert len(power) == 2, "of labels at both rates"
    assert power.between(0.005, 0.2).all()
    remembered = EXAMPLE.judged(left=lambda time: 0.3, rates=(0.1,))
    assert verdicts(remembered) == ["not reproduced"] * 2


def test_p_values_are_adjusted_for_their_number():
    rows = EXAMPLE.table()
    rows["p_value"] = 0.02
    criteria = EXAMPLE.judged(rows).query("role == 'criterion'")
    assert criteria["p_value"].tolist() == pytest.approx([0.08] * 4)
