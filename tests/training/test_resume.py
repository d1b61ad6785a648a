"""Trainings that are stopped, killed or short of memory end with the files of an undisturbed one."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from intrinsic_lr.commands import train
from intrinsic_lr.core.block_files import ASIDE, CHECKPOINTS, HISTORY, KEPT, RESUME, RUN, TRACE, step_file
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.models import kernels
from intrinsic_lr.models.devices import MemberLimit
from intrinsic_lr.study.sharing import plans_in, united
from intrinsic_lr.training.resume import STATE, STOPPED, Watch
from plans import LIBRARY, contents, plan, timeline, train_words, write_noise

STEPS = 9
RATES = timeline((STEPS, 0.1, 0.05))
SETTINGS = {
    "plain": {},
    "momentum": {"momentum": 0.9, "augmentation": "flip"},
    "sphere": {"constraint": "sphere", "timeline": timeline((STEPS, 0.5, 0.0))},
    "exp_lr": {"timeline": timeline((STEPS, 0.1, 0.0, 1.01), first_buffer=-0.5), "momentum": 0.5},
    "nesterov": {"momentum": 0.9, "nesterov": True, "clip": 0.5},
    "adamw": {"optimiser": "adamw", "label_smoothing": 0.1},
    "adam": {"optimiser": "adam", "clip": 0.5},
    "lion": {"optimiser": "lion"},
    "cnn4": {"model": {"kind": "cnn4", "width": 4}, "dtype": "float64"},
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_noise(tmp_path_factory.mktemp("data"))


def command(files, out, **changes):
    settings = {"timeline": RATES, "checkpoints": (0, 4, 9), "replicates": (0, 4), **changes}
    return train_words(plan(**settings), files, out)


@pytest.fixture(scope="module")
def undisturbed(files, tmp_path_factory):
    """The folders of trainings that nothing happened to, by setting."""
    folders = {}
    for name, changes in SETTINGS.items():
        folders[name] = tmp_path_factory.mktemp("undisturbed") / name
        train.main(command(files, folders[name], **changes))
    return folders


def finished_like(folder, undisturbed):
    """Whether a folder holds the files of an undisturbed training, and nothing else."""
    return contents(folder) == contents(undisturbed) and not (folder / RESUME).exists()


@pytest.mark.parametrize("setting", SETTINGS)
def test_stopped_after_every_step(files, undisturbed, tmp_path, setting, capsys):
    """Training in as many parts as it has steps is training in one."""
    for step in range(STEPS + 1):
        with pytest.raises(SystemExit, match=str(STOPPED)):
            train.main([*command(files, tmp_path, **SETTINGS[setting]), "--stop-after", "0"])
        assert f"stopped after step {step} of {STEPS} by the time limit" in capsys.readouterr().err
        assert not (tmp_path / "run.json").exists()
    train.main([*command(files, tmp_path, **SETTINGS[setting]), "--stop-after", "0"])
    assert finished_like(tmp_path, undisturbed[setting])


SHORT, LONG = 5, 9
OTHERS = {name: changes for name, changes in SETTINGS.items() if "timeline" not in changes}
OTHERS["sphere"] = {"constraint": "sphere", "weight_decay": 0.0}


def asked(steps, weight_decay=0.05, **changes):
    """Return a plan whose rates do not depend on its length."""
    return plan(timeline=timeline((steps, 0.1, weight_decay)), replicates=(0, 4), **changes)


def train_on(files, folder, planned, *more):
    """Train as the workflow does, which deletes the files that it declares before."""
    for name in (RUN, HISTORY, TRACE):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    train.main([*train_words(planned, files, folder), *more])


@pytest.mark.parametrize("setting", OTHERS)
def test_a_longer_training_goes_on_from_the_end_of_a_shorter_one(files, tmp_path, setting, capsys):
    """Also when it is stopped on the way, and when the shorter one is asked for again in between."""
    short = asked(SHORT, checkpoints=(0, 3), log_every=2, trace_every=1, **OTHERS[setting])
    longer = asked(LONG, checkpoints=(3, 7), log_every=4, trace_every=3, **OTHERS[setting])
    both = united(short, longer)
    train_on(files, tmp_path / "whole", both)
    capsys.readouterr()
    train_on(files, tmp_path / "parts", short)
    with pytest.raises(SystemExit, match=str(STOPPED)):
        train_on(files, tmp_path / "parts", both, "--stop-after", "0")
    train_on(files, tmp_path / "parts", short)
    assert "going on from step 5 of 5" in capsys.readouterr().err
    train_on(files, tmp_path / "parts", both)
    assert "going on from step 6 of 9" in capsys.readouterr().err
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    rows = pd.read_parquet(tmp_path / "parts" / HISTORY)["step"].unique().tolist()
    assert rows == both.logged() == [0, 2, 3, 4, 5, 7, 8, 9]
    record = json.loads((tmp_path / "parts" / RUN).read_text())
    assert record["plan"] == both.to_dict()


def test_another_training_of_the_block_is_kept_and_comes_back(files, tmp_path, capsys):
    """By another seed, other rates under one name, or other data; asked for again, nothing is trained."""
    folder, usual = tmp_path / "block", {"checkpoints": (0, 3), "log_every": 1, "trace_every": 1}
    others = write_noise(tmp_path / "data", "e", 1)
    trainings = [
        (files, asked(LONG, **usual)),
        (files, asked(SHORT, seed=1, **usual)),
        (files, asked(LONG, weight_decay=0.1, **usual)),
        (others, asked(LONG, **usual)),
    ]
    made = []
    for data, planned in trainings:
        train_on(data, folder, planned)
        made.append(contents(folder))
    assert "going on" not in capsys.readouterr().err
    for (data, planned), before in zip(trainings, made, strict=True):
        train_on(data, folder, planned)
        assert f"going on from step {planned.steps} of {planned.steps}" in capsys.readouterr().err
        assert contents(folder) == before
    assert len(list((folder / "others").iterdir())) == len(trainings) - 1
    known = plans_in(folder)
    assert known[0] == trainings[-1][1]
    assert all(planned in known for _, planned in trainings)


def test_a_stopped_training_outlasts_a_shorter_one(files, tmp_path, monkeypatch, capsys):
    short, longer = (asked(steps, checkpoints=(0, 3), log_every=1, trace_every=1) for steps in (SHORT, LONG))
    calls = []
    monkeypatch.setattr(Watch, "should_stop", lambda self: calls.append(self) or len(calls) > 7)
    with pytest.raises(SystemExit, match=str(STOPPED)):
        train_on(files, tmp_path / "block", longer)
    monkeypatch.undo()
    train_on(files, tmp_path / "block", short)
    train_on(files, tmp_path / "block", longer)
    assert "going on from step 7 of 9" in capsys.readouterr().err
    train_on(files, tmp_path / "whole", longer)
    assert contents(tmp_path / "block") == contents(tmp_path / "whole")
    assert not (tmp_path / "block" / ASIDE).exists()


@pytest.mark.parametrize("change", ["the same again", "denser", "a damaged checkpoint", "a damaged state"])
def test_what_is_no_continuation_is_trained_from_the_beginning(files, tmp_path, capsys, change):
    folder, planned = tmp_path / "block", asked(SHORT, checkpoints=(0, 3))
    train_on(files, folder, planned)
    wanted = planned if change == "the same again" else asked(LONG, checkpoints=(0, 3))
    if change == "denser":
        wanted = asked(LONG, checkpoints=(0, 3), log_every=1)
    elif change != "the same again":
        file = folder / KEPT / ("state" if change == "a damaged state" else step_file(CHECKPOINTS, 3))
        file.write_bytes(file.read_bytes()[:-1] + b"x")
    capsys.readouterr()
    train_on(files, folder, wanted)
    assert "going on from" not in capsys.readouterr().err
    train_on(files, tmp_path / "fresh", wanted)
    assert contents(folder) == contents(tmp_path / "fresh")


def test_killed_at_any_moment(files, undisturbed, tmp_path):
    """SIGKILL, which no program can answer, at a random moment of a run that saves after every step."""
    words = [sys.executable, "-m", "intrinsic_lr.commands", "train", *command(files, tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(LIBRARY)}
    running = subprocess.Popen([*words, "--save-every", "0"], env=environment, stderr=subprocess.DEVNULL)
    while running.poll() is None and not (tmp_path / STATE).exists():
        time.sleep(0.001)
    running.kill()
    assert running.wait() in (0, -signal.SIGKILL)
    train.main(command(files, tmp_path))
    assert finished_like(tmp_path, undisturbed["plain"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_stop_after_the_step(files, undisturbed, tmp_path, monkeypatch, capsys, number):
    calls = []

    def signalled(self):
        calls.append(self)
        if len(calls) == 6:
            os.kill(os.getpid(), number)
        return bool(self.reason)

    monkeypatch.setattr(Watch, "should_stop", signalled)
    with pytest.raises(SystemExit, match=str(STOPPED)):
        train.main(command(files, tmp_path))
    assert f"by {number.name}; state saved" in capsys.readouterr().err
    train.main(command(files, tmp_path))
    assert finished_like(tmp_path, undisturbed["plain"])


def test_the_end_of_the_parent_is_a_reason(monkeypatch):
    alone, child = Watch(60, None, None), Watch(60, None, os.getppid())
    assert not child.should_stop()
    monkeypatch.setattr(os, "getppid", lambda: 1)
    assert child.should_stop()
    assert "the process that started it" in child.reason
    assert not alone.should_stop()


@pytest.fixture
def uncompiled(monkeypatch):
    """PyTorch's arithmetic: the compiled kernels, which need next to no memory, do not ask for any."""
    monkeypatch.setattr(kernels, "load", lambda: None)


def stopped(files, folder, **changes):
    """Leave the state of a training that stopped after two steps, of which one has a checkpoint."""
    for _ in range(3):
        with pytest.raises(SystemExit):
            train.main([*command(files, folder, **changes), "--stop-after", "0"])


def test_a_stopped_run_without_a_checkpoint_begins_anew(files, undisturbed, tmp_path):
    """Damaged ones: `tests/faults/test_damaged_files.py`."""
    stopped(files, tmp_path)
    (checkpoint,) = (tmp_path / RESUME).glob("checkpoints/*")
    checkpoint.unlink()
    train.main(command(files, tmp_path))
    assert finished_like(tmp_path, undisturbed["plain"])


def test_a_state_of_another_training_is_not_gone_on_from(files, undisturbed, tmp_path, capsys):
    stopped(files, tmp_path, seed=1)
    train.main(command(files, tmp_path))
    assert "of another training (other plan)" in capsys.readouterr().err
    assert finished_like(tmp_path, undisturbed["plain"])


@pytest.mark.parametrize(("key", "value"), [("kernels", "another"), ("instructions", "ANOTHER")])
def test_a_state_of_another_arithmetic_is_not_gone_on_from(
    files, undisturbed, tmp_path, monkeypatch, capsys, key, value
):
    """Stopped on a machine with a compiler and started again on one without, or on another kind of processor."""
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(kernels, {"kernels": "arithmetic"}.get(key, key), lambda: value)
        stopped(files, tmp_path)
    train.main(command(files, tmp_path))
    assert f"of another training (other {key})" in capsys.readouterr().err
    assert finished_like(tmp_path, undisturbed["plain"])


def short_of_memory(monkeypatch, members):
    """Let a device hold so many members only."""
    of_all = MemberLimit.map

    def limited(self, compute, count, *rest):
        def of_part(part):
            if part.stop - part.start > members:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
            return compute(part)

        return of_all(self, of_part, count, *rest)

    monkeypatch.setattr(MemberLimit, "map", limited)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.usefixtures("uncompiled")
def test_too_little_memory_means_fewer_members_at_once(files, tmp_path, monkeypatch, capsys, setting, members):
    folders = tmp_path / "whole", tmp_path / "limited"
    train.main(command(files, folders[0], **SETTINGS[setting]))
    short_of_memory(monkeypatch, members)
    train.main(command(files, folders[1], **SETTINGS[setting]))
    assert f"out of device memory: going on with {members} members at a time" in capsys.readouterr().err
    assert json.loads((folders[1] / "run.json").read_text())["members_at_once"] == members
    for name in ("checkpoints/00000004.safetensors", "checkpoints/00000009.safetensors"):
        found, expected = (load_file(folder / name) for folder in folders)
        assert list(found) == list(expected)
        assert all(torch.allclose(found[key], expected[key], rtol=1e-5, atol=1e-6) for key in found)
    for name in (HISTORY, TRACE):
        tables = [pd.read_parquet(folder / name) for folder in folders]
        keys = ["step", "replicate", "lr", "weight_decay"]
        assert tables[0][keys].equals(tables[1][keys])
        column = "squared_norm"
        assert tables[0][column].to_numpy() == pytest.approx(tables[1][column].to_numpy(), rel=1e-5)


@pytest.mark.usefixtures("uncompiled")
def test_fewer_members_at_once_are_gone_on_with_too(files, tmp_path, monkeypatch):
    short_of_memory(monkeypatch, 1)
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    train.main(command(files, whole))
    while not (pieces / "run.json").exists():
        with contextlib.suppress(SystemExit):
            train.main([*command(files, pieces), "--stop-after", "0"])
    assert finished_like(pieces, whole)


@pytest.mark.usefixtures("uncompiled")
def test_memory_for_no_member_is_an_error(files, tmp_path, monkeypatch):
    short_of_memory(monkeypatch, 0)
    with pytest.raises(InputError, match="device memory: too little for a single replicate of p"):
        train.main(command(files, tmp_path))
    assert not (tmp_path / "run.json").exists()


def test_divergence_is_kept_with_its_step_or_fails(files, tmp_path):
    """The learning rate overflows float32 in the third step: the loss of the fourth is not finite."""
    flags = command(files, tmp_path, timeline=timeline((2, 0.1, 0.0), (STEPS - 2, 3e38, 0.0)))
    train.main(flags)
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["non_finite"] == {str(replicate): 3 for replicate in range(4)}
    history = pd.read_parquet(tmp_path / HISTORY)
    assert history.loc[history["step"] == 0, "test_loss"].notna().all()
    assert history.loc[history["step"] >= 3, "test_accuracy"].isna().all()
    with pytest.raises(InputError, match=r"p: 4 of 4 replicates .*\(0 at step 3, .*diverged"):
        train.main([*flags, "--diverged", "fail"])
