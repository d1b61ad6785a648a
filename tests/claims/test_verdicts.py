"""Verdicts: what an interval, a p-value and a set of findings say, and the scorecard made of them."""

import math

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from checks import experiment

from drawn import shown_texts
from intrinsic_lr.claims.shared.scorecard_figure import margin, scorecard_figure
from intrinsic_lr.claims.shared.spec import ClaimSpec
from intrinsic_lr.claims.shared.verdicts import Range, controls, findings_table, judge_p_value, overall, scorecard
from intrinsic_lr.figures.style import Look, mathtext
from intrinsic_lr.study.claims import CLAIMS

SPEC = ClaimSpec("example", analysis={"confidence": 0.95}, experiments={"run": experiment("mine")})


@pytest.mark.parametrize(
    ("verdict", "intervals"),
    [
        ("reproduced", [(0.2, 0.4), (0.1, 0.5)]),
        ("not reproduced", [(0.6, 0.9), (-2, 0.09)]),
        ("inconclusive", [(0.05, 0.2), (0.4, 0.9), (0.0, 0.9), (0.3, math.inf)]),
        ("inconclusive", [(math.nan, 0.3), (math.nan, math.nan)]),
    ],
)
def test_an_interval_is_inside_outside_or_astride(verdict, intervals):
    assert {Range(0.1, 0.5).judge(low, high) for low, high in intervals} == {verdict}


def test_a_control_is_judged_by_the_same_range_in_other_words():
    verdicts = [control(1.0, ends, allowed=Range(low=0)).verdict for ends in ((-2, -1), (1, 2), (-1, 2))]
    assert verdicts == ["rejected", "not rejected", "inconclusive"]


def test_a_p_value_of_the_claim_as_null_hypothesis():
    assert judge_p_value(0.2, 0.05) == "reproduced"
    assert judge_p_value(0.04, 0.05) == "not reproduced"
    assert judge_p_value(math.nan, 0.05) == "inconclusive"
    assert control(1.0, p_value=0.04).verdict == "rejected"


def test_ranges_as_text():
    assert [str(Range(low=0)), str(Range(high=1e-9)), str(Range(-0.2, 0.2))] == [">= 0", "<= 1e-09", "-0.2 to 0.2"]


def criterion(estimate, interval=None, judge=SPEC.criterion, **judged_by):
    return judge("in words", "number", (estimate, *(interval or (estimate, estimate)), 8), "run", **judged_by)


def control(estimate, interval=None, **judged_by):
    return criterion(estimate, interval, SPEC.control, **judged_by)


MET = criterion(1.0, (0.5, 1.5), allowed=Range(low=0))
ASTRIDE = criterion(1.0, (-0.5, 1.5), allowed=Range(low=0))
FAILED = criterion(-1.0, (-1.5, -0.5), allowed=Range(low=0))
REJECTED = control(-1.0, (-1.5, -0.5), allowed=Range(low=0))
PASSED = control(1.0, (0.5, 1.5), allowed=Range(low=0))


def table(*findings):
    return findings_table("example", "derived", "figure.svg", findings)


@pytest.mark.parametrize(
    ("findings", "verdict"),
    [
        ([MET, REJECTED], "reproduced"),
        ([MET], "inconclusive"),
        ([MET, ASTRIDE, REJECTED], "inconclusive"),
        ([MET, FAILED, ASTRIDE, REJECTED], "not reproduced"),
        ([MET, PASSED], "inconclusive"),
        ([MET, REJECTED, PASSED], "inconclusive"),
        ([FAILED, PASSED], "not reproduced"),
        ([REJECTED], "inconclusive"),
    ],
)
def test_a_claim_needs_all_criteria_and_all_controls(findings, verdict):
    assert overall(table(*findings)) == verdict


def test_an_interval_that_has_to_contain_a_value():
    verdicts = [criterion(1.0, interval, contains=0.0).verdict for interval in ((-1, 2), (0.5, 2), (math.nan, 2))]
    assert verdicts == ["reproduced", "not reproduced", "inconclusive"]
    assert control(1.0, (0.5, 2), contains=0.0).verdict == "rejected"


def test_a_claim_that_nothing_could_be_measured_of_has_a_row():
    card = scorecard({"a": table(), "b": table(MET), "c": table(REJECTED)}, dict.fromkeys("abc", "It is so."))
    assert list(card["verdict"]) == ["inconclusive"] * 3
    assert card.loc[1, "null_or_threshold"] == ">= 0; there was no control"
    figure = scorecard_figure(card, controls({"c": table(REJECTED)}))
    plt.close(figure)


def test_findings_carry_what_was_asked():
    row = table(REJECTED, MET).iloc[0]
    assert row["role"] == "criterion"  # criteria come first
    assert row["experiment"] == "mine"
    assert row["null_or_threshold"] == ">= 0"
    exact = criterion(3.0, allowed=Range(high=5))
    assert (exact.ci_low, exact.ci_high, exact.verdict) == (3.0, 3.0, "reproduced")
    tested = criterion(3.0, (2, 4), p_value=0.01, null="equal")
    assert (tested.null_or_threshold, tested.verdict) == ("equal", "not reproduced")


def test_scorecard_shows_the_criterion_that_decides():
    findings = {"a": table(MET, FAILED, REJECTED), "b": table(MET, PASSED)}
    card = scorecard(findings, {"a": "A holds.", "b": "B holds."}).set_index("claim")
    assert (card.loc["a", "estimate"], card.loc["a", "statement"]) == (-1.0, "A holds.")
    assert list(card["verdict"]) == ["not reproduced", "inconclusive"]
    assert card.loc["b", "null_or_threshold"] == ">= 0; a control was not rejected"
    negative = controls(findings)
    assert list(negative["verdict"]) == ["rejected", "not rejected"]
    assert list(negative.columns)[1:] == list(card.columns)


@pytest.mark.parametrize("width", [3.25, 6.75])
def test_scorecard_figure_names_every_claim_in_words_and_marks_its_verdict(width):
    names = list(CLAIMS)
    findings = {name: table(MET, REJECTED) if i % 3 else table(FAILED) for i, name in enumerate(names)}
    card = scorecard(findings, {name: claim.statement for name, claim in CLAIMS.items()}).assign(claim=names)
    figure = scorecard_figure(card, controls(findings), look=Look(width=width))
    shown = " ".join(text for text, _ in shown_texts(figure)).replace("\n", " ")
    markers = [line for line in figure.axes[0].lines if str(line.get_marker()) in "oXD<>"]
    plt.close(figure)
    assert all(mathtext(claim.title) in shown for claim in CLAIMS.values())
    assert not any(name in shown for name in names)
    assert len(markers) == len(names)
    of_paper = [name for name in names if CLAIMS[name].board == "claim"]
    assert f"of {len(of_paper)} claims of the paper" in shown


@pytest.mark.parametrize(
    ("finding", "expected"),
    [
        (criterion(3.0, (2.5, 3.5), allowed=Range(low=2)), (0.5, 0.25, 0.75)),
        (criterion(3.0, (2.5, 5), allowed=Range(high=4)), (0.25, -0.25, 0.375)),
        (criterion(0.5, (0.25, 0.75), allowed=Range(low=0)), (2, 1, 3)),
        (criterion(1.1, (1.05, 1.3), allowed=Range(0.8, 1.2)), (0.5, -0.5, 0.75)),
        (criterion(0.9, (0.7, 0.95), allowed=Range(0.8, 1.2)), (0.5, -0.5, 0.75)),
        (criterion(9.0, p_value=0.5, null="one distribution"), (1, 1, 1)),
        (criterion(9.0, p_value=0.0005, null="one distribution"), (-2, -2, -2)),
    ],
)
def test_the_margin_to_the_bound_is_positive_where_the_claim_is_met(finding, expected):
    found = margin(finding, 0.05)
    assert (found.value, found.low, found.high) == pytest.approx(expected)


def test_a_range_is_read_from_its_text_whatever_follows():
    for made in (Range(low=0), Range(high=1e-9), Range(-0.2, 0.2)):
        assert Range.from_string(str(made)) == made
        assert (
            Range.from_string(f"{made} (p: worse)") == Range.from_string(f"{made}; there was no control") == made
        )
    assert Range.from_string("one distribution of runs") is None


def test_random_streams_differ_by_claim_and_name():
    drawn = [ClaimSpec(name).generator(*rest).random() for name, rest in (("a", ()), ("b", ()), ("a", (1,)))]
    assert len(set(drawn)) == 3
    assert ClaimSpec("a").generator().random() == drawn[0]


def test_nothing_finite_is_inconclusive():
    findings = table(criterion(math.nan, (math.nan, math.nan), allowed=Range(low=0)))
    assert overall(findings) == "inconclusive"
    assert pd.isna(findings["estimate"]).all()
