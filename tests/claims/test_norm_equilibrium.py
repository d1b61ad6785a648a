"""The norm's equilibrium: verdicts on synthetic rests, relaxations and angles that obey the theory, and do not."""

import numpy as np
import pandas as pd
import pytest
from checks import Example, Point, spec_of

from intrinsic_lr.claims import norm_equilibrium as claim
from intrinsic_lr.stats.relaxation import integrated_gamma

CONSTANT = [
    {"name": f"p{rate}", "intrinsic_lr": rate, "momentum": 0.0, "init_scale": 1.0, "length": 10 / rate}
    for rate in (0.032, 0.01, 0.001)
]
MOMENTUM = [{**point, "name": f"{point['name']}-0.9", "momentum": 0.9} for point in CONSTANT]
REPLICATES = 16


def table(equilibrium=1.0, rate=1.0, turning=1.0):
    """Return a table whose equilibrium, rate and angles are multiples of what the theory says."""
    generator = np.random.default_rng(0)
    parts = []
    for intrinsic_lr in (0.032, 0.01, 0.001):
        base = {"point": f"p{intrinsic_lr}", "lr": 0.1, "weight_decay": intrinsic_lr / 0.1, "momentum": 0.0,
                "intrinsic_lr": intrinsic_lr, "schedule": "constant", "init_scale": 1.0}  # fmt: skip
        noise = generator.normal(3, 0.1, REPLICATES)
        gamma = equilibrium * noise / (2 * intrinsic_lr) * generator.normal(1, 0.05, REPLICATES)
        for part, factor in ((claim.REST, 1), (claim.EARLY, 50)):
            rows = {"gamma": gamma * factor, "noise": noise, "effective_lr": (gamma * factor) ** -0.5}
            parts.append(pd.DataFrame({**base, "part": part, "replicate": range(REPLICATES), **rows}))
        for momentum in (0.0, 0.9):
            for layer in ("first", "second"):
                angle = turning * np.sqrt(2 * intrinsic_lr / (1 + momentum))
                rows = {
                    **base, "point": base["point"] + ("-0.9" if momentum else ""), "momentum": momentum,
                    "part": claim.ANGLE, "layer": layer, "replicate": range(REPLICATES),
                    "angle": angle * generator.normal(1, 0.05, REPLICATES),
                }  # fmt: skip
                parts.append(pd.DataFrame(rows))
    since = np.arange(0, 3001, 60)
    for schedule, scale, start in (("constant", 3.0, 1e6), ("lr_decay", 1.0, 2e4)):
        for replicate in range(REPLICATES):
            noise = 3 * generator.gamma(20, 1 / 20, len(since))
            gamma = integrated_gamma(since, start, 4 * rate * 0.001, noise)
            parts.append(pd.DataFrame(
                {**base, "point": schedule, "schedule": schedule, "init_scale": scale, "part": claim.COURSE,
                 "course_intrinsic_lr": 0.001, "replicate": replicate, "since": since, "gamma": gamma,
                 "noise": noise}
            ))  # fmt: skip
    return pd.concat(parts, ignore_index=True)


MEASURED = ["gamma", "noise", "effective_lr", "angle"]
EXAMPLE = Example(
    claim, spec_of("norm_equilibrium", {"constant": CONSTANT, "momentum": MOMENTUM}), table, MEASURED, 10, 4
)
judged = EXAMPLE.judged


def verdicts(findings, role="criterion"):
    return findings[findings["role"] == role].set_index("statement")["verdict"].to_dict()


def test_a_rate_too_large_for_the_theory_is_only_shown():
    assert not any("0.032" in statement for statement in verdicts(judged()))


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("equilibrium", 1.5, "at equilibrium"),
        ("equilibrium", 0.6, "at equilibrium"),
        ("rate", 0.5, "relaxes"),
        ("turning", 1.3, "turns"),
    ],
)
def test_the_verdict_flips_where_the_truth_does(key, value, words):
    for statement, verdict in verdicts(judged(**{key: value})).items():
        assert (verdict == "not reproduced") == (words in statement), statement


def test_the_fitted_rate_is_the_true_one():
    findings = judged(rate=1.2)
    rates = findings[findings["statistic"].str.startswith("fitted")]
    assert list(rates["estimate"]) == pytest.approx([1.2] * 2, rel=0.01)
    assert rates["estimate"].between(rates["ci_low"], rates["ci_high"]).all()


def test_the_relaxation_is_timed_from_the_last_change_of_the_rates():
    trace = pd.DataFrame({"step": [0, 1, 2, 3, 4], "lr": [1, 1, 1, 0.1, 0.1], "weight_decay": 0.5})
    assert list(claim._after_change(trace)["step"]) == [3, 4]
    assert list(claim._after_change(trace.assign(lr=1))["step"]) == [0, 1, 2, 3, 4]


def test_replicates_that_are_not_finite_are_left_out_and_counted():
    frame = EXAMPLE.table()
    frame.loc[frame["replicate"] == 3, MEASURED] = np.nan
    findings = judged(frame)
    assert EXAMPLE.overall(frame) == "reproduced"
    assert set(findings.loc[findings["statement"].str.contains("at equilibrium"), "n"]) == {REPLICATES - 1}


def test_a_replicate_that_diverges_is_blank_from_its_start():
    steps = np.tile(np.arange(4), 2)
    frame = pd.DataFrame({"step": steps, "replicate": np.repeat([0, 1], 4), "lr": 0.1, "weight_decay": 0.1})
    frame = frame.assign(effective_lr=1.0, unit_gradient_squared_norm=1.0, **{"angle:first": 1.0})
    frame.loc[frame["step"] == 0, ["unit_gradient_squared_norm", "angle:first"]] = np.nan
    frame.loc[7, "effective_lr"] = np.inf
    found = claim._until(frame, Point(length=3)).groupby("replicate")[["gamma", "noise", "angle:first"]].count()
    assert found.loc[0].tolist() == [4, 3, 3]
    assert found.loc[1].tolist() == [0, 0, 0]


def test_a_point_that_is_missing_leaves_its_rate_open():
    asked = EXAMPLE.with_points(constant=[*CONSTANT, {**CONSTANT[1], "name": "another"}])
    found = verdicts(judged(spec=asked))
    assert {statement for statement, verdict in found.items() if verdict == "inconclusive"} == {
        "at equilibrium as predicted, lambda_e 0.01",
        "first turns as predicted, momentum 0",
        "second turns as predicted, momentum 0",
    }


def test_a_rate_that_is_missing_leaves_it_open():
    without = judged(table().query("intrinsic_lr != 0.001"))
    assert set(verdicts(without, "control").values()) == {"inconclusive"}
    for about in (
        "at equilibrium as predicted, lambda_e 0.001",
        "relaxes at 4 lambda_e, after a decay: no such run",
    ):
        assert verdicts(without)[about] == "inconclusive"


def test_controls_of_the_angle_without_momentum_tell_nothing():
    found = verdicts(judged(spec=EXAMPLE.with_points(momentum=[])), "control")
    assert found["with momentum against the formula without: no such run"] == "inconclusive"
