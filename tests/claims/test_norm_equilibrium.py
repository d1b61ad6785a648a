"""The norm's equilibrium: verdicts on synthetic rests, relaxations and angles that obey the theory, and do not."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from checks import Point, experiment

from intrinsic_lr.claims import norm_equilibrium as claim
from intrinsic_lr.claims.shared.spec import ClaimSpec
from intrinsic_lr.claims.shared.verdicts import Finding, overall
from intrinsic_lr.stats.relaxation import integrated_gamma

CONSTANT = [
    {"name": f"p{rate}", "intrinsic_lr": rate, "momentum": 0.0, "init_scale": 1.0, "length": 10 / rate}
    for rate in (0.032, 0.01, 0.001)
]
MOMENTUM = [{**point, "name": f"{point['name']}-0.9", "momentum": 0.9} for point in CONSTANT]
SPEC = ClaimSpec(
    "norm_equilibrium",
    experiments={
        "constant": experiment("constant", CONSTANT),
        "momentum": experiment("momentum", MOMENTUM),
        "decay": experiment("decay", []),
    },
    thresholds={"rest": 0.1, "rate": 0.125, "angle": 0.1},
    settings={"settled": 4, "followed": 3, "relaxed": 4, "largest_intrinsic_lr": 0.01},
    analysis={"confidence": 0.95, "bootstrap": 200},
)
REPLICATES = 16


def table(rest=1.0, rate=1.0, turning=1.0, seed=0):
    """Return a table whose rest, rate and angles are multiples of what the theory says."""
    generator = np.random.default_rng(seed)
    parts = []
    for intrinsic_lr in (0.032, 0.01, 0.001):
        base = {"point": f"p{intrinsic_lr}", "lr": 0.1, "weight_decay": intrinsic_lr / 0.1, "momentum": 0.0,
                "intrinsic_lr": intrinsic_lr, "schedule": "constant", "init_scale": 1.0}  # fmt: skip
        noise = generator.normal(3, 0.1, REPLICATES)
        gamma = rest * noise / (2 * intrinsic_lr) * generator.normal(1, 0.05, REPLICATES)
        for part, factor in ((claim.REST, 1), (claim.EARLY, 50)):
            rows = {"gamma": gamma * factor, "noise": noise, "effective_lr": (gamma * factor) ** -0.5}
            parts.append(pd.DataFrame({**base, "part": part, "replicate": range(REPLICATES), **rows}))
        for momentum in (0.0, 0.9):
            for layer in ("first", "second"):
                angle = (
                    turning * np.sqrt(2 * intrinsic_lr / (1 + momentum)) * generator.normal(1, 0.05, REPLICATES)
                )
                name = base["point"] + ("-0.9" if momentum else "")
                rows = {
                    **base,
                    "point": name,
                    "momentum": momentum,
                    "part": claim.ANGLE,
                    "layer": layer,
                    "angle": angle,
                }
                parts.append(pd.DataFrame({**rows, "replicate": range(REPLICATES)}))
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


def verdicts(findings, role="criterion"):
    return {finding.statement: finding.verdict for finding in findings if finding.role == role}


def as_frame(findings):
    return pd.DataFrame([vars(finding) for finding in findings], columns=list(Finding.__dataclass_fields__))


def test_what_obeys_the_theory_is_reproduced_and_the_controls_are_rejected():
    findings = list(claim.judge(table(), SPEC))
    assert set(verdicts(findings).values()) == {"reproduced"}
    assert set(verdicts(findings, "control").values()) == {"rejected"}
    assert overall(as_frame(findings)) == "reproduced"
    assert not any("0.032" in statement for statement in verdicts(findings)), "only shown, not judged"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"rest": 1.5}, "at rest"),
        ({"rest": 0.6}, "at rest"),
        ({"rate": 0.5}, "relaxes"),
        ({"turning": 1.3}, "turns"),
    ],
)
def test_the_verdict_flips_where_the_truth_does(wrong, words):
    found = verdicts(list(claim.judge(table(**wrong), SPEC)))
    for statement, verdict in found.items():
        assert (verdict == "not reproduced") == (words in statement), statement


def test_the_fitted_rate_is_the_true_one():
    findings = list(claim.judge(table(rate=1.2), SPEC))
    rates = [finding for finding in findings if finding.statistic.startswith("fitted")]
    assert len(rates) == 2
    for finding in rates:
        assert finding.estimate == pytest.approx(1.2, rel=0.01)
        assert finding.ci_low <= finding.estimate <= finding.ci_high


def test_the_relaxation_is_timed_from_the_last_change_of_the_rates():
    trace = pd.DataFrame({"step": [0, 1, 2, 3, 4], "lr": [1, 1, 1, 0.1, 0.1], "weight_decay": 0.5})
    assert list(claim._after_change(trace)["step"]) == [3, 4]
    assert list(claim._after_change(trace.assign(lr=1))["step"]) == [0, 1, 2, 3, 4]


def test_replicates_that_are_not_finite_are_left_out_and_counted():
    frame = table()
    frame.loc[frame["replicate"] == 3, ["gamma", "noise", "effective_lr", "angle"]] = np.nan
    findings = list(claim.judge(frame, SPEC))
    assert overall(as_frame(findings)) == "reproduced"
    assert {finding.n for finding in findings if "at rest" in finding.statement} == {REPLICATES - 1}


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
    frame = table()
    other = {**CONSTANT[1], "name": "another"}
    experiments = {**SPEC.experiments, "constant": experiment("constant", [*CONSTANT, other])}
    asked = ClaimSpec(**{**vars(SPEC), "experiments": experiments})
    found = verdicts(list(claim.judge(frame, asked)))
    opened = {statement for statement, verdict in found.items() if verdict == "inconclusive"}
    assert opened == {
        "at rest as predicted, lambda_e 0.01",
        "first turns as predicted, momentum 0",
        "second turns as predicted, momentum 0",
    }
    without = list(claim.judge(frame[frame["intrinsic_lr"] != 0.001], SPEC))
    assert set(verdicts(without, "control").values()) == {"inconclusive"}
    assert verdicts(without)["at rest as predicted, lambda_e 0.001"] == "inconclusive"
    assert verdicts(without)["relaxes at 4 lambda_e, after a decay: no such run"] == "inconclusive"


def test_controls_of_the_angle_without_momentum_tell_nothing():
    experiments = {**SPEC.experiments, "momentum": experiment("momentum", [])}
    asked = ClaimSpec(**{**vars(SPEC), "experiments": experiments})
    found = verdicts(list(claim.judge(table(), asked)), "control")
    assert found["with momentum against the formula without: no such run"] == "inconclusive"


@pytest.mark.parametrize("rows", ["none finite", "one replicate"])
def test_a_degenerate_table_decides_nothing_and_draws(rows):
    frame = table()
    if rows == "none finite":
        frame[["gamma", "noise", "effective_lr", "angle"]] = np.nan
    else:
        frame = frame[frame["replicate"] == 0]
    findings = list(claim.judge(frame, SPEC))
    assert overall(as_frame(findings)) == "inconclusive"
    for shown in (frame, table()):
        plt.close(claim.draw(shown, SPEC, as_frame(findings)))
