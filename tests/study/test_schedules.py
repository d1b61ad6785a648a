"""Schedules against step-by-step definitions."""

import math
from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.study.config_types import validate
from intrinsic_lr.study.schedules import Clock, ScheduleConfig, compile_schedule, lookup
from intrinsic_lr.study.timeline import Segment, Timeline, exp_lr_growth, number

WARM = {"warmup": {"steps": 20}}
EXP_LR = {"kind": "exponential", "growth": "exp_lr"}
CLOCK = Clock(intrinsic_lr=0.001, steps_per_epoch=lambda: 10)
segments = st.builds(
    Segment, st.integers(1, 50), st.floats(1e-6, 10), st.floats(0, 1), st.sampled_from([1.0, 1.0 / 0.999])
) | st.builds(
    Segment,
    st.integers(1, 50),
    st.floats(1e-6, 10),
    st.just(0.0),
    st.floats(1, 1.01),
    st.floats(-0.5, 2),
    st.floats(0, 0.9),
)
timelines = st.builds(
    Timeline, st.lists(segments, min_size=1, max_size=4).map(tuple), st.sampled_from([0.0, -0.3])
)


def schedule(definition):
    return (
        validate(TypeAdapter(ScheduleConfig), definition, "schedule")
        if isinstance(definition, dict)
        else definition
    )


def compiled(definition, steps=100, lr=0.1, weight_decay=0.01, momentum=0.0, optimiser="sgd", **others):
    """Compile a definition as the config has it, or what `lookup` found; others are those that it may name."""
    named = {name: schedule(other) for name, other in others.items()}
    return compile_schedule(schedule(definition), lr, weight_decay, momentum, steps, CLOCK, named, optimiser)


@given(timelines, st.integers(1, 200))
def test_truncation_keeps_the_beginning(timeline, steps):
    cut = timeline.truncated(steps)
    assert cut.first_buffer == timeline.first_buffer
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
def test_equivalent_exponential_schedule(momentum):
    alpha = exp_lr_growth(0.1, 0.01, momentum)
    assert alpha**2 - (1 + momentum - 0.001) * alpha + momentum == pytest.approx(0, abs=1e-14)
    timeline = compiled({"kind": "exponential", "growth": "exp_lr"}, momentum=momentum)
    for step in (0, 1, 99):
        assert timeline.at(step) == pytest.approx((0.1 * alpha ** (-2 * step - 1), 0.0), rel=1e-10)


STEPS_DOWN_AND_UP = {
    "kind": "phases",
    "phases": [
        {"length": {"steps": 1500}},
        {"length": {"steps": 1}, "weight_decay_factor": 0},
        {"length": {"steps": 1499}, "lr_factor": 0.1},
        {"lr_factor": 0.3, "weight_decay_factor": 3},
    ],
}


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_tapered_equivalent_follows_the_recursion_of_its_scale(momentum):
    """The closed form of each phase against the recursion of c_t step by step, with 60 digits."""
    settings = {"steps": 5000, "lr": 0.1, "weight_decay": 0.004, "momentum": momentum}
    original = compiled(STEPS_DOWN_AND_UP, **settings)
    equivalent = compiled({**EXP_LR, "of": "down_and_up"}, **settings, down_and_up=STEPS_DOWN_AND_UP)
    assert equivalent.steps == original.steps == 5000
    assert len(equivalent.segments) == 4
    with localcontext(prec=60):
        mu, last = Decimal(momentum), Decimal(original.at(0)[0])
        b = 1 + mu - last * Decimal(original.at(0)[1])
        alpha = (b + (b * b - 4 * mu).sqrt()) / 2
        before, now = 1 / alpha, Decimal(1)
        for step in range(5000):
            lr, weight_decay = map(Decimal, original.at(step))
            after = (1 + mu * lr / last - lr * weight_decay) * now - mu * lr / last * before
            rate, no_decay = equivalent.at(step)
            assert no_decay == 0
            # The growth has 53 bits, whose rounding its power multiplies by the steps.
            assert rate == pytest.approx(float(lr / (now * after)), rel=3e-16 * (step + 30))
            before, now, last = now, after, lr
    assert (equivalent.first_buffer != 0) == (momentum != 0)


def test_tapers_only_where_momentum_meets_a_change_of_rates():
    settings = {"steps": 5000, "weight_decay": 0.004, "down_and_up": STEPS_DOWN_AND_UP}
    definition = {**EXP_LR, "of": "down_and_up"}
    assert all(segment.taper == 0 for segment in compiled(definition, **settings).segments)
    first, *others = compiled(definition, **settings, momentum=0.9).segments
    assert first.taper == 0
    assert all(segment.taper != 0 for segment in others)


def test_first_buffer_of_the_equivalent():
    alpha = exp_lr_growth(0.1, 0.01, 0.9)
    corrected = compiled(EXP_LR, momentum=0.9)
    assert corrected.first_buffer == pytest.approx(-(1 - alpha) / (0.1 * alpha))
    zero = compiled({**EXP_LR, "first_buffer": "zero"}, momentum=0.9)
    assert zero.first_buffer == 0
    assert zero.segments == corrected.segments


def test_drawn_pieces_are_log_uniform_multiples_of_the_rates():
    draw = {"seed": 3, "changes": 400, "lr_factor": [0.1, 10], "weight_decay_factor": [0.5, 0.5]}
    definition = {"kind": "phases", "phases": [{"length": {"steps": 1203}, "draw": draw}, {}]}
    timeline = compiled(definition, 2000)
    assert [segment.steps for segment in timeline.segments] == [3] * 399 + [6, 797]
    logs = [math.log10(segment.lr / 0.1) for segment in timeline.segments[:-1]]
    assert -1 <= min(logs) < -0.9
    assert 0.9 < max(logs) <= 1
    assert sum(logs) / 400 == pytest.approx(0, abs=4 * (1 / 3 / 400) ** 0.5)
    assert {segment.weight_decay for segment in timeline.segments[:-1]} == {0.005}
    assert all(float(number(segment.lr)) == segment.lr for segment in timeline.segments)
    assert compiled(definition, 1000) == timeline.truncated(1000)
    other = {"kind": "phases", "phases": [{"length": {"steps": 1203}, "draw": {**draw, "seed": 4}}, {}]}
    assert compiled(other, 2000).segments[0] != timeline.segments[0]


def test_drawn_rates_are_pinned():
    """A drawn past is part of an experiment: other numbers would be another one."""
    draw = {"seed": 0, "changes": 2, "lr_factor": [0.1, 1], "weight_decay_factor": [0.1, 1]}
    timeline = compiled({"kind": "phases", "phases": [{"length": {"steps": 100}, "draw": draw}]})
    assert timeline.segments == (
        Segment(50, 0.0429592320575, 0.00120473393014),
        Segment(50, 0.0936276636034, 0.00932810152794),
    )


def test_growth_per_epoch_of_the_published_setting():
    """At eta .1, lambda 5e-4, mu .9 the rate grows by 1.481 an epoch of 391 steps (arXiv:1910.07454)."""
    assert exp_lr_growth(0.1, 5e-4, 0.9) ** (-2 * 391) == pytest.approx(1.481, abs=5e-4)


def drawn(**changes):
    draw = {"seed": 0, "changes": 2, "lr_factor": [0.1, 1], "weight_decay_factor": [0.1, 1]}
    draw |= {key: changes.pop(key) for key in draw.keys() & changes.keys()}
    phase = {"length": {"steps": 10}, "draw": draw, **changes}
    return {"kind": "phases", "phases": [{key: value for key, value in phase.items() if value is not None}]}


def phase(**keys):
    return {"kind": "phases", "phases": [keys]}


@pytest.mark.parametrize(
    ("definition", "steps", "words"),
    [
        ({"kind": "exponential", "growth": 2.0}, 100, ["overflows"]),
        ({"kind": "phases", "phases": [{"length": {"steps": 10}}]}, 100, ["90 steps before"]),
        ({**EXP_LR, "of": "down_and_up"}, 200000, ["overflows", "200000 steps"]),
        ({**EXP_LR, "growth": 1.01, "of": "constant"}, 100, [".of: ", "exp_lr", "1.01"]),
        ({**EXP_LR, "of": "exp"}, 100, ["of: ", "not exponential", "'exp'"]),
        ({**EXP_LR, "of": "cosine"}, 100, ["'cosine'", "wd_x_y_lr_z_u"]),
        ({**EXP_LR, "of": "falling"}, 100, ["of: ", "constant pieces", "'falling'"]),
        ({"kind": "constant", **WARM}, 19, ["warmup: ", "at most 19 steps", "20"]),
        ({"kind": "cosine", **WARM, "decay": {"steps": 90}}, 100, ["decay: ", "at most 80 steps", "90"]),
        (phase(shape="linear", lr_factor=0, lr_end_factor=1, length={"steps": 101}), 100, ["linear", "101"]),
        (phase(shape="linear"), 100, ["phases.0.shape", "lr_end", "none"]),
        (phase(lr_end=0.1), 100, ["phases.0.shape", "no lr_end", "got lr_end"]),
        (phase(shape="exponential", lr_end=0), 100, ["exponential", "above 0", "0.1 to 0"]),
        (phase(lr_factor=0), 100, ["above 0", "got rates of 0"]),
        ({"kind": "phases", "phases": [{}, {}]}, 100, ["phases", "at most one phase without length"]),
        (drawn(changes=11), 10, ["draw.changes", "11 in 10 steps"]),
        (drawn(lr_factor=[2, 1]), 10, ["draw.lr_factor", "[2, 1]", "low"]),
        (drawn(lr=0.1), 10, [".draw: ", "length, lr"]),
        (drawn(length=None), 10, [".draw: ", "nothing"]),
    ],
)
def test_refusals(definition, steps, words):
    with pytest.raises(InputError) as caught:
        compiled(definition, steps, down_and_up=STEPS_DOWN_AND_UP, exp=EXP_LR, falling={"kind": "linear"})
    assert [word for word in words if word not in str(caught.value)] == [], caught.value


def test_unknown_schedules_and_complex_roots():
    with pytest.raises(InputError, match="'cosine'; expected one of constant, own, wd_x_y"):
        lookup("cosine", {"own": schedule({"kind": "constant"})})
    with pytest.raises(InputError, match=r"too large for momentum 0\.9"):
        exp_lr_growth(1.0, 0.1, 0.9)
    with pytest.raises(InputError, match=r"too large for momentum 0\.25"):
        exp_lr_growth(1.0, 0.25, 0.25)  # equal roots


def test_no_equivalent_of_a_sharp_rise():
    rise = {"kind": "phases", "phases": [{"length": {"steps": 50}, "lr_factor": 0.1}, {"weight_decay": 0}]}
    with pytest.raises(InputError, match=r"rises from 0\.01 to 0\.1.* momentum 0\.9"):
        compiled({**EXP_LR, "of": "rise"}, momentum=0.9, weight_decay=0.25, rise=rise)


def test_no_weight_decay_no_intrinsic_time():
    with pytest.raises(InputError, match="weight decay 0"):
        Clock(0.0, lambda: 10).steps("inverse_intrinsic_lr", 1)


def by_definition(kind, step, lr=0.1, warmup=20, decay=80, end=0.0, steps=100):
    """Return the learning rate of a step as the textbook writes it."""
    if step < warmup:
        return lr * (step + 1) / warmup
    if step < steps - decay:
        return lr
    share = (step - (steps - decay)) / decay
    fallen = share if kind == "linear" else (1 - math.cos(math.pi * share)) / 2
    return lr + (end * lr - lr) * fallen


@pytest.mark.parametrize("kind", ["linear", "cosine"])
@pytest.mark.parametrize(
    ("definition", "given"),
    [
        ({}, {"warmup": 0, "decay": 100}),
        (WARM, {}),
        ({**WARM, "end_factor": 0.1}, {"end": 0.1}),
        ({**WARM, "decay": {"epochs": 3}}, {"decay": 30}),
        ({"decay": {"inverse_intrinsic_lr": 0.03}, "warmup": {"epochs": 1}}, {"warmup": 10, "decay": 30}),
    ],
)
def test_warm_up_and_decay_step_by_step(kind, definition, given):
    timeline = compiled({"kind": kind, **definition})
    assert len(timeline.segments) <= 3, "one segment a piece, whatever the number of steps"
    for step in range(100):
        assert timeline.at(step) == pytest.approx((by_definition(kind, step, **given), 0.01), rel=1e-12)


def test_warm_up_before_a_constant_rate():
    timeline = compiled({"kind": "constant", **WARM})
    assert [timeline.at(step)[0] for step in (0, 9, 19, 20, 99)] == pytest.approx([0.005, 0.05, 0.1, 0.1, 0.1])


def test_any_sequence_of_pieces():
    definition = {
        "kind": "phases",
        "phases": [
            {"length": {"steps": 10}, "lr_factor": 0, "shape": "linear", "lr_end_factor": 1},
            {},
            {"length": {"steps": 30}, "shape": "cosine", "lr_end": 0.02, "weight_decay_factor": 0.5},
            {"length": {"steps": 20}, "lr": 0.02, "shape": "exponential", "lr_end_factor": 0.002},
        ],
    }
    timeline = compiled(definition)
    assert [segment.steps for segment in timeline.segments] == [10, 40, 30, 20]
    assert [timeline.at(step)[0] for step in (0, 10, 49, 50)] == pytest.approx([0.01, 0.1, 0.1, 0.1])
    assert timeline.at(65) == pytest.approx((0.06, 0.005))
    assert [timeline.at(step)[0] for step in (80, 90)] == pytest.approx([0.02, 0.002])
    assert all(timeline.at(step)[0] > 0 for step in range(100))


@given(st.sampled_from(["linear", "cosine"]), st.integers(1, 99))
def test_truncation_keeps_the_beginning_of_an_interpolation(kind, steps):
    timeline = compiled({"kind": kind, **WARM, "decay": {"steps": 50}})
    cut = timeline.truncated(steps)
    assert cut.steps == steps
    assert [cut.at(step) for step in range(steps)] == [timeline.at(step) for step in range(steps)]
    assert cut.truncated(1) == timeline.truncated(1)


def test_equivalent_of_adamw_follows_the_recursion_of_its_scale():
    original = compiled(STEPS_DOWN_AND_UP, 5000, weight_decay=0.004)
    definition = {**EXP_LR, "of": "down_and_up"}
    settings = {"steps": 5000, "weight_decay": 0.004, "down_and_up": STEPS_DOWN_AND_UP, "optimiser": "adamw"}
    equivalent = compiled(definition, **settings)
    scale = Decimal(1)
    with localcontext(prec=60):
        for step in range(5000):
            lr, weight_decay = map(Decimal, original.at(step))
            assert equivalent.gradient_factor(step) == pytest.approx(float(1 / scale), rel=3e-16 * (step + 30))
            scale *= 1 - lr * weight_decay
            assert equivalent.at(step) == (pytest.approx(float(lr / scale), rel=3e-16 * (step + 30)), 0)
    plain = compiled({**definition, "first_buffer": "zero"}, **settings)
    assert {plain.gradient_factor(step) for step in (0, 4999)} == {1.0}
    assert plain.at(4999) == equivalent.at(4999)
