"""What is said of a study while it runs, before and afterwards, from files that real trainings leave."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from intrinsic_lr.commands import status, train
from intrinsic_lr.commands.status import State, look
from intrinsic_lr.core import job_log
from intrinsic_lr.core.job_log import reported, run_command
from intrinsic_lr.core.progress import Progress, read_progress
from intrinsic_lr.data import dataset as data
from intrinsic_lr.study.config_files import merge_files
from plans import train_words

LIBRARY = Path(train.__file__).parents[2]
STEPS = 2000
FILES = ("results/data/few_digits.safetensors", "results/data/few_digits.json")
RATES = [0.1, 0.2, 0.3, 0.4, 0.5]
CONFIG = {
    "run": ["watched"],
    "judge": [],
    "datasets": {"few_digits": {"kind": "digits", "subset": 50}},
    "models": {"tiny": {"kind": "mlp", "width": 4, "depth": 1}},
    "experiments": {
        "watched": {
            "dataset": "few_digits", "model": "tiny", "batch_size": 5, "replicates": 2, "block_size": 2,
            "grid": {"lr": RATES, "weight_decay": 0.1}, "length": {"steps": STEPS}, "history_points": 2,
            "checkpoints": {"steps": [STEPS]}, "analyses": ["grid"],
        }
    },
}  # fmt: skip


def point(lr):
    return f"few_digits-tiny-b5-lr{lr}-wd0.1"


def command(study, lr, *more):
    """Return the words of a training's command and its log, as the rule has them."""
    name, log = point(lr), Path(f"results/logs/train/{point(lr)}/block_0000.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    return train_words(study.training_plan(name, 0), FILES, f"results/runs/{name}/block_0000", *more), log


def run_here(study, lr, *more):
    """Train in this process; what it says goes to the log, and how it ends is as may be."""
    words, log = command(study, lr, *more)
    with open(log, "w") as handle, contextlib.redirect_stderr(handle), contextlib.suppress(SystemExit):
        run_command(lambda: train.main(words))


def age(path, seconds):
    """Let a file be this many seconds old."""
    os.utime(path, (time.time() - seconds,) * 2)


def row(lines, name):
    """Return the cells of a row of the table: its states' counts, its share and its time left."""
    line = next(line for line in lines if line.startswith(name))
    counts = line.removeprefix(name).split()
    return dict(zip(State, map(int, counts[:6]), strict=True)), int(counts[6]), " ".join(counts[8:])


@pytest.fixture
def study(tmp_path, monkeypatch):
    """An empty project, with the study of `CONFIG` over the default."""
    monkeypatch.chdir(tmp_path)
    Path("watched.yaml").write_text(yaml.safe_dump(CONFIG))
    return status.Study.read(merge_files([Path("watched.yaml")]))


@pytest.fixture
def prepared(study):
    """The same with its data set prepared."""
    data.write({"kind": "digits", "subset": 50}, "few_digits", *FILES)
    return study


def test_before_the_start(study, capsys):
    status.main(["--config", "watched.yaml"])
    lines = capsys.readouterr().out.splitlines()
    counts, share, left = row(lines, "watched")
    assert (counts[State.WAITING], sum(counts.values()), share, left) == (5, 5, 0, "unknown")
    assert "data sets: 0 of 1 done" in lines
    assert any(line.startswith("no training is running") for line in lines)


def test_every_state_of_a_training(prepared, capsys):
    done, failing, stopped, killed, waiting = RATES
    run_here(prepared, done)
    run_here(prepared, failing, "--device", "cuda:99")
    run_here(prepared, stopped, "--stop-after", "0")
    words, log = command(prepared, killed)
    with open(log, "w") as handle:
        words = [sys.executable, "-m", "intrinsic_lr.commands", "train", *words]
        running = subprocess.Popen(words, stderr=handle, env={**os.environ, "PYTHONPATH": str(LIBRARY)})
    while "member-steps" not in log.read_text():
        assert running.poll() is None
        time.sleep(0.01)
    # Frozen, it can neither end nor say more before it is looked at.
    running.send_signal(signal.SIGSTOP)
    now = time.time()
    counts, share, left = row(status.report(prepared, now), "watched")
    assert counts == {**dict.fromkeys(State, 1), State.KILLED: 0}
    assert 20 <= share < 100
    running.kill()
    running.wait()
    # Dead, and not yet silent for long enough to be told so; then it is.
    assert row(status.report(prepared, now), "watched")[0][State.RUNNING] == 1
    age(log, job_log.SILENT_SECONDS + 1)
    status.main(["--config", "watched.yaml"])
    lines = capsys.readouterr().out.splitlines()
    counts, share, left = row(lines, "watched")
    assert counts == {**dict.fromkeys(State, 1), State.RUNNING: 0}
    assert left.split()[1] in ("seconds", "minutes")
    (line,) = [line for line in lines if line.startswith(f"failed: train/{point(failing)}/block_0000")]
    file, error = lines[lines.index(line) + 1 : lines.index(line) + 3]
    assert f"results/logs/train/{point(failing)}/block_0000.log" in file
    assert error.startswith("    error: device: must be one of auto, cpu")
    assert any(line.startswith(f"killed: train/{point(killed)}/block_0000, 0 %") for line in lines)
    assert any("stopped after step 0" in line for line in lines)
    assert not any(point(waiting) in line for line in lines)
    # All that is left is trained, as a restarted workflow would, and the study is done.
    for lr in (failing, stopped, killed, waiting):
        run_here(prepared, lr)
    lines = status.report(prepared, time.time())
    counts, share, left = row(lines, "watched")
    assert (counts[State.DONE], share, left) == (5, 100, "-")
    assert "all trainings are done" in lines
    assert "tables of analyses: 0 of 1 done" in lines


def test_time_left_is_that_of_like_trainings_and_a_changed_setting_is_waiting_again(prepared):
    run_here(prepared, RATES[0])
    assert row(status.report(prepared, time.time()), "watched")[0][State.DONE] == 1
    blocks = status.look_at_trainings(prepared, time.time())
    left = status.seconds_left(prepared, blocks)
    assert left == {(point(lr), 0): pytest.approx(blocks[point(RATES[0]), 0].wall) for lr in RATES[1:]}
    longer = {**CONFIG["experiments"]["watched"], "checkpoints": {"steps": [1, STEPS]}}
    Path("watched.yaml").write_text(yaml.safe_dump({**CONFIG, "experiments": {"watched": longer}}))
    changed = status.Study.read(merge_files([Path("watched.yaml")]))
    assert row(status.report(changed, time.time()), "watched")[0][State.DONE] == 0


@pytest.mark.parametrize("damage", [b"{}", b"[", b"\xff"])
def test_a_damaged_record_is_named_with_its_repair_and_the_rest_is_told(prepared, capsys, damage):
    run_here(prepared, RATES[0])
    record = Path(f"results/runs/{point(RATES[0])}/block_0000/run.json")
    record.write_bytes(damage)
    status.main(["--config", "watched.yaml"])
    lines = capsys.readouterr().out.splitlines()
    counts, _, _ = row(lines, "watched")
    assert (counts[State.FAILED], counts[State.WAITING]) == (1, 4)
    (line,) = [line for line in lines if line.strip().startswith(str(record))]
    assert f"repair with `intrinsic-lr snakemake --cores all --force {record}`" in line


def test_a_pipe_for_a_log_is_not_waited_for(study):
    _, log = command(study, RATES[0])
    os.mkfifo(log)
    assert row(status.report(study, time.time()), "watched")[0][State.WAITING] == 4


def test_a_drawing_that_failed_is_named(study):
    log = Path("results/logs/figure_grid/watched.log")
    log.parent.mkdir(parents=True)
    with pytest.raises(ZeroDivisionError), reported(log):
        print(1 / 0)
    lines = status.report(study, time.time())
    assert any(line.startswith("failed: figure_grid/watched") for line in lines)
    assert "    ZeroDivisionError: division by zero" in lines
    with reported(log):
        pass
    assert not any(line.startswith("failed") for line in status.report(study, time.time()))


def test_a_program_that_says_nothing_stays_alive(tmp_path):
    log = tmp_path / "log"
    with open(log, "w") as handle:
        age(log, 1000)
        assert look(tmp_path / "none", log, time.time()).state is State.KILLED
        with job_log.heartbeat(handle, every=0.01):
            while look(tmp_path / "none", log, time.time()).state is not State.RUNNING:
                time.sleep(0.01)
    age(log, 1000)
    assert look(tmp_path / "none", log, time.time()).state is State.KILLED
    with job_log.heartbeat(sys.__stdout__):
        pass


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("p: 0 of 90 steps (0 %), ?step/s, 00:00 gone, ? left", Progress(0, 90, None)),
        ("p: 30 of 90 steps (33 %), 1.50s/step, 00:45 gone, 01:30 left", Progress(30, 90, 90.0)),
        ("p: 3 of 9 steps (33 %), 9s/step, 1:00:00 gone, 30:00:05 left", Progress(3, 9, 108005.0)),
        ("going on from step 3 of 9", None),
    ],
)
def test_progress_is_read_as_it_is_written(line, found):
    assert read_progress(f"something: 1 of 2\n{line}\nmore\n") == found
