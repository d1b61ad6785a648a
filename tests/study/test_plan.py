"""The plan of a training: one canonical JSON, read back as it was, and refused in one line."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.study.plan import TrainingPlan
from plans import plan, timeline

RATE = st.floats(1e-12, 1e12)


def test_the_text_of_a_plan_is_pinned():
    """The workflow compares it when it decides what to train again."""
    assert plan().to_json() == (
        '{"batch_size":5,"checkpoints":[0,7],"log_every":3,"model":{"kind":"mlp","width":8},"point":"p",'
        '"replicates":[0,3],"timeline":{"segments":[{"lr":0.1,"steps":7,"weight_decay":0.05}]},"trace_every":2}'
    )
    rates = timeline((5, 1, 0.0, 1.5, 0.25, 0.5), first_buffer=-0.5)
    later = plan(
        timeline=rates, checkpoints=(5,), momentum=0.5, data_order=0, model={"kind": "cnn4", "norm": "group"}
    )
    assert later.to_json() == (
        '{"batch_size":5,"checkpoints":[5],"data_order":0,"log_every":3,"model":{"kind":"cnn4","norm":"group"},'
        '"momentum":0.5,"point":"p","replicates":[0,3],"timeline":{"first_buffer":-0.5,"segments":[{"growth":1.5,'
        '"lr":1.0,"steps":5,"taper":0.25,"taper_ratio":0.5,"weight_decay":0.0}]},"trace_every":2}'
    )


@given(
    st.lists(st.tuples(st.integers(1, 10**9), RATE, RATE, RATE), min_size=1, max_size=4),
    st.floats(-1e6, 1e6),
    st.sampled_from(["full", 1, 2**40]),
)
def test_a_plan_is_read_back_to_the_last_bit(segments, first_buffer, batch_size):
    planned = plan(
        timeline=timeline(*segments, first_buffer=first_buffer), checkpoints=(0,), batch_size=batch_size
    )
    again = TrainingPlan.from_json(planned.to_json())
    assert again == planned
    assert again.to_json() == planned.to_json() == TrainingPlan.from_json(planned.to_dict()).to_json()


SEGMENT = {"steps": 7, "lr": 1.0, "weight_decay": 0.0}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch_size": "many"}, ["batch_size", "many"]),
        ({"batch_size": 0}, ["batch_size", "0"]),
        ({"replicates": [3, 1]}, ["replicates", "3, 1"]),
        ({"checkpoints": [8]}, ["checkpoints", "8", "0 to 7"]),
        ({"checkpoints": [4, 4]}, ["checkpoints", "4, 4"]),
        ({"checkpoints": []}, ["checkpoints"]),
        ({"timeline": {"segments": []}}, ["timeline"]),
        ({"timeline": {"segments": [{**SEGMENT, "steps": 0}]}}, ["timeline"]),
        ({"timeline": {"segments": [{**SEGMENT, "lr": "x"}]}}, ["timeline.segments.0.lr", "x"]),
        ({"timeline": {"segments": [{**SEGMENT, "lr": float("inf")}]}}, ["timeline.segments.0.lr", "inf"]),
        ({"timeline": {"segments": [{**SEGMENT, "speed": 1}]}}, ["timeline.segments.0.speed"]),
        ({"model": {"kind": "mlp", "colour": "red"}}, ["model", "colour"]),
        ({"model": "mlp"}, ["model", "mlp"]),
        ({"log_every": 0}, ["log_every", "0"]),
        ({"trace_every": 1.5}, ["trace_every", "1.5"]),
        ({"constraint": "sphere"}, ["weight_decay", "0.05", "sphere"]),
        ({"constraint": "sphere", "timeline": {"segments": [SEGMENT]}, "momentum": 0.5}, ["momentum", "0.5"]),
        ({"constraint": "cube"}, ["constraint", "cube", "sphere"]),
        ({"dtype": "float64", "precision": "tf32"}, ["precision", "tf32", "float64"]),
        ({"colour": "red"}, ["colour", "red"]),
    ],
)
def test_a_wrong_plan_is_named_in_one_line(changes, words):
    with pytest.raises(InputError) as caught:
        TrainingPlan.from_json({**plan().to_dict(), **changes})
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", json.dumps({"point": "p"})])
def test_what_is_no_plan(text):
    with pytest.raises(InputError, match="plan: "):
        TrainingPlan.from_json(text)


def test_a_plan_made_in_code_is_checked_too():
    with pytest.raises(InputError, match=r"replicates.*\(3, 1\)"):
        dataclasses.replace(plan(), replicates=(3, 1))
