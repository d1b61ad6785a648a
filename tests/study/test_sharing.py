"""Trainings that lie there already: used, gone on with, and never shortened."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intrinsic_lr.study.sharing import continues, difference, united
from plans import plan, timeline


def asked(steps, checkpoints, log_every, trace_every, **changes):
    kept = tuple(sorted({min(step, steps) for step in checkpoints}))
    return plan(
        timeline=timeline((steps, 0.1, 0.05)),
        checkpoints=kept,
        log_every=log_every,
        trace_every=trace_every,
        **changes,
    )


EVERY = st.integers(1, 12)
plans = st.builds(asked, st.integers(1, 60), st.lists(st.integers(0, 60), min_size=1, max_size=4), EVERY, EVERY)


@given(plans, plans, plans)
def test_what_lies_there_has_what_every_study_asked_for_and_is_not_made_again(first, second, third):
    both = united(first, second)
    for one in (first, second):
        assert both.steps >= one.steps
        assert set(both.checkpoints) >= set(one.checkpoints)
        assert set(both.logged()) >= set(one.logged())
        assert set(both.traced()) >= set(one.traced())
        assert united(both, one) == both
    assert united(united(both, third), second) == united(both, third)
    assert type(both).from_json(both.to_json()) == both


@given(plans, plans, st.integers(0, 60))
def test_a_state_is_gone_on_from_where_files_so_far_are_the_same(saved, wanted, step):
    step = min(step, saved.steps)
    both = united(saved, wanted)
    same = (saved.logged(step), saved.traced(step)) == (both.logged(step), both.traced(step))
    kept = set(both.checkpoints) & set(range(step + 1)) <= set(saved.checkpoints)
    assert continues(saved, both, step) == (same and kept)


def test_rows_by_hand():
    one = asked(10, [3], 5, 4)
    assert (one.logged(), one.traced()) == ([0, 3, 5, 10], [0, 4, 8, 10])
    both = united(one, asked(6, [6], 4, 4))
    assert (both.logged(), both.traced()) == ([0, 3, 4, 5, 6, 10], [0, 4, 6, 8, 10])
    assert (both.logged(5), both.traced(5)) == ([0, 3, 4, 5], [0, 4])
    assert '"also":[{"log_every":4,"steps":6,"trace_every":4}]' in both.to_json()


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"seed": 1}, "seed"),
        ({"momentum": 0.5}, "momentum"),
        ({"model": {"kind": "mlp", "width": 4}}, "model"),
        ({"replicates": (0, 2)}, "replicates"),
    ],
)
def test_what_is_another_training_is_named(change, name):
    one = asked(10, [3], 5, 4)
    assert difference(one, asked(12, [3, 4], 2, 1)) is None
    assert difference(one, asked(10, [3], 5, 4, **change)) == name
    assert difference(one, dataclasses.replace(one, timeline=timeline((12, 0.2, 0.05)))) == "timeline"
