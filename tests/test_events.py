"""Training curves in TensorBoard's event files, read back by TensorBoard."""

import pandas as pd
import pytest

from intrinsic_lr.commands import tensorboard as events
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.runs.ensembles import Block

POINT = "runs/digits-mlp-b32-lr0.1-wd0.01"


@pytest.fixture
def block(trained):
    return trained / POINT / "block_0000"


@pytest.fixture
def scalars(block, tmp_path):
    """What TensorBoard reads, by tag: a list of (step, value)."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    out = tmp_path / "tensorboard/p/block_0000/events.out.tfevents"
    events.main(["--run", str(block), "--out", str(out)])
    read = accumulator.EventAccumulator(str(out.parent))
    read.Reload()
    return {tag: [(event.step, event.value) for event in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def test_what_is_read_back_is_the_history(block, scalars):
    history = pd.read_parquet(block / "history.parquet")
    quantities = set(history.columns) - {"step", "replicate", *events.RATES}
    assert set(scalars) == {
        *events.RATES,
        *(f"{name}/{kind}" for name in quantities for kind in events.STATISTICS),
    }
    for name in quantities:
        for kind in events.STATISTICS:
            expected = history.groupby("step")[name].agg(kind).dropna()
            steps, values = zip(*scalars[f"{name}/{kind}"], strict=True)
            assert list(steps) == list(expected.index)
            assert values == pytest.approx(expected.tolist(), rel=1e-6)
    assert scalars["lr"] == [(step, pytest.approx(0.1)) for step in (0, 4, 8)]


def test_a_replicate_that_is_not_finite_is_left_out():
    history = pd.DataFrame(
        {"step": [1, 1, 2, 2], "replicate": [0, 1, 0, 1], "lr": 1.0, "weight_decay": 2.0, "intrinsic_lr": 2.0,
         "loss": [3.0, None, None, None]}
    )  # fmt: skip
    rates = {"lr": 1.0, "weight_decay": 2.0, "intrinsic_lr": 2.0}
    numbers = {"loss/mean": 3.0, "loss/min": 3.0, "loss/max": 3.0}
    assert list(events.curves(history)) == [(1, {**numbers, **rates}), (2, rates)]


def test_the_same_run_gives_the_same_bytes(block, tmp_path):
    pytest.importorskip("tensorboard")
    paths = [tmp_path / name / "events.out.tfevents" for name in "ab"]
    for path in paths:
        events.write_events(Block(block), path)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_without_the_package_one_line_says_so(monkeypatch):
    monkeypatch.setattr(events, "find_spec", lambda name: None)
    with pytest.raises(
        InputError, match="config: tensorboard: found true, but the package tensorboard is not inst"
    ):
        events.check_installed()
