"""The response to a decay: verdicts on synthetic courses of the effective learning rate."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from checks import Example, spec_of

from intrinsic_lr.claims import lr_decay_response as claim
from intrinsic_lr.claims.shared.verdicts import overall
from intrinsic_lr.stats.relaxation import integrated_gamma

POINTS = [{"name": name, "schedule": name} for name in ("lr_decay", "wd_decay", "joint")]
REPLICATES, LR, DECAY, CHANGE = 12, 0.1, 0.1, 600


def table(rate=1.0, drop=1.0, quieter=1.0):
    """Return responses with the rate, the drop and the noise after the change multiplied by the arguments."""
    generator = np.random.default_rng(0)
    after = np.concatenate([[0, 1], np.arange(20, 2001, 20)])
    parts = []
    for schedule, k_lr, k_decay in (("lr_decay", 10, 1), ("wd_decay", 1, 10), ("joint", 10, 10)):
        intrinsic_lr = LR * DECAY / k_lr / k_decay
        for replicate in range(REPLICATES):
            rest = 3 / (2 * LR * DECAY) * generator.normal(1, 0.02)
            noise = 3 * quieter * generator.gamma(30, 1 / 30, len(after))
            start = rest * (drop * k_lr) ** 2
            gamma = integrated_gamma(after, start, 4 * rate * intrinsic_lr, rate * noise)
            gamma[0] = rest
            before = np.arange(-140, 0, 20)
            since = np.concatenate([before, after])
            named = {"point": schedule, "schedule": schedule, "replicate": replicate, "intrinsic_lr": LR * DECAY}
            parts.append(pd.DataFrame({
                **named, "part": claim.RESPONSE, "step": CHANGE + since, "since": since,
                "lr": np.where(since > 0, LR / k_lr, LR),
                "weight_decay": np.where(since > 0, DECAY / k_decay, DECAY),
                "effective_lr": np.concatenate([np.full(len(before), rest), gamma]) ** -0.5,
                "noise": np.concatenate([np.full(len(before), 3.0), noise]),
            }))  # fmt: skip
            error = {"part": claim.ERROR, "step": [500, 700], "since": [-100, 100], "test_error": [0.05, 0.02]}
            parts.append(pd.DataFrame({**named, **error}))
    return pd.concat(parts, ignore_index=True)


EXAMPLE = Example(claim, spec_of("lr_decay_response", {"decay": POINTS}), table, ["effective_lr", "noise"], 7, 4)


def criteria(frame=None, **truth):
    findings = EXAMPLE.judged(frame, **truth)
    return findings[findings["role"] == "criterion"].set_index("statement")["verdict"]


WRONG = [
    ({"rate": 0.25}, "course"),
    ({"rate": 4}, "course"),
    ({"drop": 0.5}, "at once"),
    ({"quieter": 0.1}, "nearer"),
]


@pytest.mark.parametrize(("wrong", "words"), WRONG)
def test_the_verdict_flips_where_the_truth_does(wrong, words):
    found = criteria(**wrong)
    concerned = found[found.index.str.contains(words)]
    assert (concerned == "not reproduced").any()
    if words == "nearer":
        # A noise that falls refutes the closed form alone: the equation takes the noise as measured.
        assert set(found[found.index.str.contains("course")]) == {"reproduced"}


def test_the_closed_form_is_that_of_theory():
    """A drop by k = 10 at once, then a rise by sqrt(k): k^(-1/2) [1 + (k - 1) exp(-4 lambda_e' t)]^(-1/2)."""
    response = claim.responses(table())[0]
    found = response.closed_form() / response.before.mean() ** -0.5
    expected = (10 * (1 + 9 * np.exp(-4 * 0.001 * response.since))) ** -0.5
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert response.k_lr == pytest.approx(10)
    everyone = np.arange(len(response.gamma))
    assert response.drop(everyone) == pytest.approx(1, rel=0.01)
    late = response.gamma[:, response.since >= 0.75 * response.since[-1]].mean() ** -0.5
    assert response.rise(everyone) == pytest.approx(late / (response.before.mean() ** -0.5 * 10**-0.5))


def test_only_what_was_followed_to_its_equilibrium_is_compared_with_it():
    found = criteria()
    assert not any("joint" in statement and "equilibrium" in statement for statement in found.index)
    assert any("joint" in statement and "course" in statement for statement in found.index)


def test_one_schedule_at_two_intrinsic_rates_makes_two_responses():
    frame = EXAMPLE.table()
    again = frame.assign(point=frame["point"] + "-again", intrinsic_lr=0.02)
    both = pd.concat([frame, again], ignore_index=True)
    assert len(claim.responses(both)) == 6
    names = {response.name for response in claim.responses(both)}
    assert names >= {"joint, lambda_e 0.01", "joint, lambda_e 0.02"}
    assert len(set(criteria(both).index)) == 2 * len(criteria(frame))


def test_a_decay_without_a_finite_replicate_leaves_it_open():
    frame = EXAMPLE.table()
    frame.loc[frame["point"] == "wd_decay", "effective_lr"] = np.nan
    found = criteria(frame)
    assert list(found.index[found == "inconclusive"]) == ["wd decay: no replicate with a response"]
    assert criteria(frame[frame["point"] != "wd_decay"]).equals(found)


def test_equal_decays_are_not_taken_for_each_other():
    response = claim.responses(table())[2]
    assert response.k_lr == pytest.approx(response.k_decay)
    findings = EXAMPLE.judged(spec=replace(EXAMPLE.spec, settings={"relaxed": 0.1}))
    told = findings.loc[findings["role"] == "control", "statement"]
    (joint,) = told[told.str.startswith("joint")]
    assert joint.endswith("lambda_e in place of 4 lambda_e")


@pytest.mark.parametrize("end", [300, 1])
def test_without_a_response_to_its_equilibrium_the_control_tells_nothing(end):
    frame = EXAMPLE.table()
    findings = EXAMPLE.judged(frame[frame["since"] < end])
    assert list(findings.loc[findings["role"] == "control", "verdict"]) == ["inconclusive"]
    assert overall(findings) == "inconclusive"


def test_steps_next_to_the_change_are_kept():
    kept = claim._kept(np.arange(2000), 600, 700)
    assert {450, 600, 601, 1300, 1999} <= set(kept)
    assert kept.min() == 450
