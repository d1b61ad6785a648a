"""The equilibrium of AdamW: verdicts on norms, angles and relaxations that obey F19 and F20, and that do not."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from checks import Example, Point, grid, spec_of, verdicts

from intrinsic_lr.claims import adamw_equilibrium as claim
from intrinsic_lr.stats import theory
from intrinsic_lr.study.points import expand

DEFAULTS = {"dataset": "digits", "model": "mlp", "batch_size": 32}
COUNT, REPLICATES = 1000, 12


def planned(*mappings):
    return [
        {**vars(point), "name": point.name, "intrinsic_lr": point.intrinsic_lr}
        for point in expand(grid(*mappings), DEFAULTS, "grid")
    ]


RATES = {"lr": 0.01, "beta2": 0.99}
CONSTANT = planned({**RATES, "optimiser": "adamw", "intrinsic_lr": 0.001, "beta1": [0.9, 0]})
COUPLED = planned({**RATES, "optimiser": "adam", "intrinsic_lr": 0.001})
SCHEDULES = ["lr_decay", "weight_decay_decay"]
CHANGES = planned(
    {"optimiser": "adamw", "lr": 0.01, "intrinsic_lr": 0.01, "beta2": [0.9, 0.99], "schedule": SCHEDULES}
)
SPEC = spec_of(
    "adamw_equilibrium", {"constant": CONSTANT, "coupled": COUPLED, "changes": CHANGES}, REPLICATES
)  # fmt: skip


def rest(point, generator, norm, angle, alignment):
    """Return rows at equilibrium: what the balance says at this alignment, norm and angle times a factor.

    `alignment` is <w, x> in units of eta C.
    """
    beta1 = 0.9 if point["beta1"] is None else point["beta1"]
    lr, weight_decay = point["lr"], point["weight_decay"]
    update, product = COUNT * (1 - beta1) / (1 + beta1), alignment * lr * COUNT
    expected_norm, expected_angle = theory.adamw_balance(lr, weight_decay, beta1, update, product)
    if point["optimiser"] == "adam":
        expected_norm, expected_angle, update, product = expected_norm / 40, expected_angle * 6, np.nan, np.nan
    noise = generator.normal(1, 0.02, (2, REPLICATES))
    return {"squared_norm": norm * expected_norm * noise[0], "angle": angle * expected_angle * noise[1],
            "update": update, "alignment": product, "beta1": beta1, "count": COUNT}  # fmt: skip


def course(point, rate, control):
    """Return rows of a norm that falls or rises by a factor of 10, at a multiple of 2 lambda_e."""
    speed = control if point["beta2"] == 0.99 else rate
    since = np.arange(0, 3001, 60)
    start, end = (10.0, 1.0) if point["schedule"] == "lr_decay" else (0.1, 1.0)
    return {"since": since, "squared_norm": end + (start - end) * np.exp(-2 * speed * 0.001 * since)}


def synthetic(norm=1.0, angle=1.0, alignment=0.0, rate=1.0, control=0.4):
    generator = np.random.default_rng(0)
    parts = []
    for point in [*CONSTANT, *COUPLED]:
        base = {key: point[key] for key in ("lr", "weight_decay", "intrinsic_lr", "optimiser")}
        for group in ("first", "second"):
            rows = rest(point, generator, norm, angle, alignment)
            named = {"point": point["name"], "part": claim.REST, "group": group, "replicate": range(REPLICATES)}
            parts.append(pd.DataFrame({**base, **named, **rows}))
    lags = {"part": claim.LAGS, "point": CONSTANT[0]["name"], "group": "first", "lag": range(5)}
    parts += [pd.DataFrame({**lags, "replicate": k, "autocovariance": 0.1 ** np.arange(5)}) for k in range(2)]
    for point in CHANGES:
        for replicate in range(REPLICATES):
            rows = course(point, rate, control)
            rows["squared_norm"] = rows["squared_norm"] * generator.normal(1, 0.02)
            named = {"point": point["name"], "part": claim.COURSE, "group": "first", "replicate": replicate}
            rates = {"course_lr": 0.01, "course_intrinsic_lr": 0.001, "count": COUNT}
            parts.append(pd.DataFrame({**named, **rates, **rows}))
    return pd.concat(parts, ignore_index=True)


MEASURED = ["squared_norm", "angle", "update", "alignment"]
# Criteria: two points of two groups, each with both quantities and both laws, and two courses. Controls: the law
# of SGD where beta1 is above 0, both quantities of coupled Adam, two long memories, SGD's law of a falling norm.
EXAMPLE = Example(claim, SPEC, synthetic, MEASURED, criteria=18, controls=9)
judged = EXAMPLE.judged


def failed(findings):
    """Return the statements of the criteria that are not reproduced."""
    return findings.loc[(findings["role"] == "criterion") & (findings["verdict"] != "reproduced"), "statement"]


@pytest.mark.parametrize(
    ("truth", "words", "count"),
    [
        ({"norm": 1.3}, "squared norm of", 8),
        ({"norm": 0.8}, "squared norm of", 8),
        ({"angle": 1.2}, "angle of a step", 8),
        ({"rate": 2.0}, "relaxes", 2),
        ({"rate": 0.7}, "relaxes", 2),
    ],
)
def test_the_verdict_turns_where_the_truth_does(truth, words, count):
    found = failed(judged(**truth))
    assert len(found) == count
    assert found.str.contains(words).all()


def test_weights_along_the_gradient_break_f19_and_not_the_balance():
    found = failed(judged(alignment=-0.2))
    assert len(found) == 8
    assert found.str.contains("as F19 says").all()


def test_a_long_memory_that_makes_no_difference_is_no_control():
    assert verdicts(judged(control=1.0), "control").count("not rejected") == 2


def test_the_square_of_a_rising_norm_is_not_compared_with_sgd():
    findings = judged()
    of_sgd = findings[findings["statement"].str.contains("as under SGD")]
    assert list(of_sgd["statement"]) == [
        "first after lr_decay, beta2 0.9: its square relaxes at 4 lambda_e, as under SGD"
    ]


def test_replicates_that_are_not_finite_are_left_out_and_counted():
    table = EXAMPLE.table()
    table.loc[table["replicate"] == 3, MEASURED] = np.nan
    findings = judged(table)
    assert EXAMPLE.overall(table) == "reproduced"
    assert set(findings["n"]) == {REPLICATES - 1}


def test_a_point_that_is_missing_leaves_it_open():
    table = EXAMPLE.table()
    findings = judged(table[table["point"] != CHANGES[0]["name"]])
    missing = findings[findings["statement"].str.startswith("each group after lr_decay, beta2 0.9")]
    assert list(missing["verdict"]) == ["inconclusive"]


GROUPS = {"first": ("a",), "second": ("b",)}


def ensemble(history):
    """Return an ensemble of these rows; both scale groups have six weights."""
    weights = {name: torch.ones(3, 2, 3) for names in GROUPS.values() for name in names}
    return SimpleNamespace(history=lambda: history, weights=lambda step: weights, scale_groups=GROUPS)


def history(steps, lr):
    """Return rows of three replicates whose norms are the step, and whose angles are 0.1 or 0.3, in turn."""
    step, replicate = np.tile(steps, 3), np.repeat(range(3), len(steps))
    frame = pd.DataFrame({"step": step, "replicate": replicate, "lr": np.tile(lr, 3), "weight_decay": 1.0})
    frame["intrinsic_lr"] = frame["lr"]
    for group in GROUPS:
        frame[f"squared_norm:{group}"] = step.astype(float)
        frame[f"angle:{group}"] = np.where(step % 20 == 0, 0.1, 0.3)
    return frame


def test_means_at_equilibrium_are_those_of_late_steps_within_the_length():
    rows = history([0, 10, 20, 30, 40, 50], [0.1] * 6)
    rows.loc[rows["step"] == 0, "angle:first"] = np.nan
    rows.loc[(rows["step"] == 40) & (rows["replicate"] == 1), "angle:first"] = np.inf
    point = Point(**{**CONSTANT[0], "intrinsic_lr": 0.1, "length": 40, "steps": (40,)})
    found = claim._rest(ensemble(rows), point, settled=1).set_index(["group", "replicate"])
    assert found.loc[("second", 1), "squared_norm"] == 30
    assert found.loc[("second", 1), "angle"] == pytest.approx(((0.1**2 + 0.3**2 + 0.1**2) / 3) ** 0.5)
    assert set(found["count"]) == {6}
    # A replicate is missing from its start where one row of it is not finite.
    assert found["squared_norm"].isna().sum() == 1
    assert np.isnan(found.loc[("first", 1), "squared_norm"])


def test_a_course_begins_with_the_last_row_at_the_old_rates():
    rows = history([0, 10, 20, 30, 40, 50], [0.1, 0.1, 0.1, 0.05, 0.05, 0.05])
    point = Point(**{**CHANGES[0], "length": 40, "steps": (40,)})
    found = claim._course(ensemble(rows), point, followed=3)
    assert set(found["since"]) == {0, 10, 20}
    assert (found["squared_norm"] == found["since"] + 20).all()
    assert set(found["course_lr"]) == set(found["course_intrinsic_lr"]) == {0.05}
