"""Schedules against step-by-step definitions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intrinsic_lr.errors import InputError
from intrinsic_lr.schedules import Clock, Segment, Timeline, compile_schedule, exp_lr_growth, lookup

CLOCK = Clock(intrinsic_lr=0.001, steps_per_epoch=lambda: 10)
segments = st.builds(
    Segment, st.integers(1, 50), st.floats(1e-6, 10), st.floats(0, 1), st.sampled_from([1.0, 1.0 / 0.999])
)


def compiled(definition, steps=100, lr=0.1, weight_decay=0.01, momentum=0.0):
    return compile_schedule(definition, lr, weight_decay, momentum, steps, CLOCK)


@given(st.lists(segments, min_size=1, max_size=4))
def test_spelling_round_trip(parts):
    timeline = Timeline(tuple(parts))
    again = Timeline.parse(timeline.spell())
    assert again.spell() == timeline.spell()
    assert again.steps == timeline.steps
    assert again.at(timeline.steps - 1) == pytest.approx(timeline.at(timeline.steps - 1), rel=1e-10)


@given(st.lists(segments, min_size=1, max_size=4), st.integers(1, 200))
def test_truncation_keeps_the_beginning(parts, steps):
    timeline = Timeline(tuple(parts))
    cut = timeline.truncated(steps)
    assert cut.steps == min(steps, timeline.steps)
    assert all(cut.at(step) == timeline.at(step) for step in range(cut.steps))


def test_multi_step_decays_at_its_milestones():
    definition = {
        "kind": "multi_step",
        "lr_milestones": {"steps": [20, 60]},
        "weight_decay_milestones": {"epochs": [4]},
        "factor": 0.5,
    }
    timeline = compiled(definition)
    for step in range(100):
        lr, weight_decay = timeline.at(step)
        assert lr == pytest.approx(0.1 * 0.5 ** ((step >= 20) + (step >= 60)))
        assert weight_decay == pytest.approx(0.01 * 0.5 ** (step >= 40))


def test_named_decays_of_the_paper():
    timeline = compiled(lookup("wd_1_3_lr_2_5", {}), steps=80)
    for step in range(80):
        epoch = step // 10
        expected = (0.1 * 0.1 ** ((epoch >= 2) + (epoch >= 5)), 0.01 * 0.1 ** ((epoch >= 1) + (epoch >= 3)))
        assert timeline.at(step) == pytest.approx(expected)


def test_same_epoch_twice_decays_twice():
    assert compiled(lookup("wd_1_1_lr_2_3", {})).at(15) == pytest.approx((0.1, 0.0001))


def test_phases_follow_one_another():
    definition = {
        "kind": "phases",
        "phases": [
            {"length": {"steps": 30}, "lr": 0.5},
            {"length": {"inverse_intrinsic_lr": 0.02}, "lr_factor": 0.1, "weight_decay_factor": 0},
            {"weight_decay": 0.25},
        ],
    }
    timeline = compiled(definition)
    assert [timeline.at(step) for step in (0, 29, 30, 49, 50, 99)] == [
        (0.5, 0.01), (0.5, 0.01), (0.01, 0), (0.01, 0), (0.1, 0.25), (0.1, 0.25),
    ]  # fmt: skip


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_exponential_twin(momentum):
    alpha = exp_lr_growth(0.1, 0.01, momentum)
    assert alpha**2 - (1 + momentum - 0.001) * alpha + momentum == pytest.approx(0, abs=1e-14)
    timeline = compiled({"kind": "exponential", "growth": "exp_lr"}, momentum=momentum)
    for step in (0, 1, 99):
        assert timeline.at(step) == pytest.approx((0.1 * alpha ** (-2 * step - 1), 0.0), rel=1e-10)


def test_growth_per_epoch_of_the_published_setting():
    """At eta .1, lambda 5e-4, mu .9 the rate grows by 1.481 an epoch of 391 steps (arXiv:1910.07454)."""
    assert exp_lr_growth(0.1, 5e-4, 0.9) ** (-2 * 391) == pytest.approx(1.481, abs=5e-4)


@pytest.mark.parametrize(
    ("definition", "steps", "words"),
    [
        ({"kind": "exponential", "growth": 2.0}, 100, ["overflows"]),
        ({"kind": "phases", "phases": [{"length": {"steps": 10}}]}, 100, ["90 steps before"]),
    ],
)
def test_refusals(definition, steps, words):
    with pytest.raises(InputError) as caught:
        compiled(definition, steps)
    assert all(word in str(caught.value) for word in words)


def test_unknown_schedule_and_complex_roots():
    with pytest.raises(InputError, match="unknown schedule 'cosine'; allowed: constant, mine"):
        lookup("cosine", {"mine": {"kind": "constant"}})
    with pytest.raises(InputError, match=r"too large for momentum 0\.9"):
        exp_lr_growth(1.0, 0.1, 0.9)


def test_no_weight_decay_no_intrinsic_time():
    with pytest.raises(InputError, match="weight decay 0"):
        Clock(0.0, lambda: 10).steps("inverse_intrinsic_lr", 1)
