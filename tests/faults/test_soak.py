"""Many trainings in one invocation: neither memory nor files nor open handles grow."""

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from projects import SMOKE, environment_of, new_project, overlay

pytestmark = [pytest.mark.workflow, pytest.mark.long]

GROWTH_BYTES_PER_TRAINING = 100_000
"""What Snakemake may keep in memory of a job that is done."""
SPARE_HANDLES = 4


def grid(count):
    """Return an experiment of so many points of a few steps."""
    return {
        **SMOKE["experiments"]["smoke_grid"], "model": "small", "replicates": 1, "block_size": 1,
        "grid": {"lr": [0.1], "weight_decay": [round(0.001 * (1 + k), 6) for k in range(count)]},
        "length": {"steps": 4}, "checkpoints": {"steps": [4]}, "analyses": [],
    }  # fmt: skip


def entries(*folders):
    """Return what lies in folders that all programs of a machine share."""
    return {path for folder in folders for path in Path(folder).iterdir()}


def test_many_trainings(tmp_path, pytestconfig, capsys):
    count = pytestconfig.getoption("--trainings")
    project = new_project(tmp_path / "project")
    config = overlay(project, run=["many"], judge=[], claims={}, experiments={"many": grid(count)})
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    shared = entries("/tmp", "/dev/shm")
    words = [sys.executable, "-m", "snakemake", "--cores", "2", "trainings", "--configfile", config]
    output = tmp_path / "output"
    with open(output, "w") as handle:
        variables = {**environment_of(project), "TMPDIR": str(temporary)}
        running = subprocess.Popen(words, cwd=project, env=variables, stdout=handle, stderr=subprocess.STDOUT)
    seen = []
    process = psutil.Process(running.pid)
    while running.poll() is None:
        try:
            done = len(list(project.glob("results/runs/*/*/run.json")))
            seen.append((done, process.memory_info().rss, process.num_fds()))
        except psutil.Error:
            break
        time.sleep(0.2)
    assert running.wait() == 0, output.read_text()[-3000:]
    assert len(list(project.glob("results/runs/*/*/run.json"))) == count
    # From a quarter on: before, libraries are still imported.
    steady = [entry for entry in seen if count // 4 <= entry[0] < count]
    first, last = steady[0], steady[-1]
    most = max(handles for _, _, handles in steady)
    with capsys.disabled():
        print(f"\n{count} trainings, (done, bytes of memory, open files): {first} to {last}, at most {most} files")
    assert last[1] - first[1] <= GROWTH_BYTES_PER_TRAINING * (last[0] - first[0]) + 2_000_000
    assert most <= first[2] + SPARE_HANDLES
    blocks = {path.name for path in project.glob("results/runs/*/*/*")}
    assert blocks == {"checkpoints", "history.parquet", "trace.parquet", "run.json"}
    assert list(temporary.iterdir()) == []
    ours = ("intrinsic", "snakemake", "torch", "tmp")
    new = [path for path in entries("/tmp", "/dev/shm") - shared if path.name.startswith(ours)]
    assert [path for path in new if not path.name.startswith("intrinsic-lr-devices")] == []
