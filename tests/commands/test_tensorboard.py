"""Training curves in TensorBoard's event files, read back by TensorBoard."""

import itertools

import pandas as pd
import pytest

from intrinsic_lr.commands import tensorboard as events
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.runs.ensembles import Block

POINT = "runs/digits-mlp-b32-lr0.1-wd0.01"


def test_what_is_read_back_is_the_history(trained, tmp_path):
    block = trained / POINT / "block_0000"
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    out = tmp_path / "tensorboard/p/block_0000/events.out.tfevents"
    events.main(["--run", str(block), "--out", str(out)])
    read = accumulator.EventAccumulator(str(out.parent))
    read.Reload()
    scalars = {tag: [(event.step, event.value) for event in read.Scalars(tag)] for tag in read.Tags()["scalars"]}
    history = pd.read_parquet(block / "history.parquet")
    names = set(history.columns) - {"step", "replicate", *events.RATES}
    assert set(scalars) == {*events.RATES, *(f"{name}/{kind}" for name in names for kind in events.STATISTICS)}
    for name, kind in itertools.product(names, events.STATISTICS):
        expected = history.groupby("step")[name].agg(kind).dropna()
        assert scalars[f"{name}/{kind}"] == [(step, pytest.approx(x, rel=1e-6)) for step, x in expected.items()]
    assert scalars["lr"] == [(step, pytest.approx(0.1)) for step in (0, 4, 8)]
    again = tmp_path / "again/events.out.tfevents"
    events.write_events(Block(block), again)
    assert again.read_bytes() == out.read_bytes()


def test_a_replicate_that_is_not_finite_is_left_out():
    rates = {"lr": 1.0, "weight_decay": 2.0, "intrinsic_lr": 2.0}
    columns = {"step": [1, 1, 2, 2], "replicate": [0, 1, 0, 1], "loss": [3.0, None, None, None]}
    history = pd.DataFrame({**columns, **rates})
    numbers = {"loss/mean": 3.0, "loss/min": 3.0, "loss/max": 3.0}
    assert list(events.curves(history)) == [(1, {**numbers, **rates}), (2, rates)]


def test_without_the_package_one_line_says_so(monkeypatch):
    monkeypatch.setattr(events, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"config: tensorboard: .*the package tensorboard is not installed"):
        events.check_installed()
