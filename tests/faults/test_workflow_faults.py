"""What may befall a whole study besides kills: clocks, vanished files, a second run, a disk that says no."""

import fcntl
import os
import re
import shlex
import shutil
import subprocess
import time

import pytest

from intrinsic_lr.commands.run_snakemake import bring_to_present, clear_lock
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.locks import alone, mark_running
from projects import install_make, make_results, new_project, overlay, ran, run, start_make, tables

HOUR = 3600
TRAINED = {"train", "extract", "prepare_data"}
PART = {"run": ["smoke_grid"], "judge": ["gd_toy"]}


def date(paths, seconds):
    """Date files this many seconds from now."""
    for path in paths:
        os.utime(path, (time.time() + seconds,) * 2)


def results(project):
    return [path for path in (project / "results").rglob("*") if path.is_file()]


class TestClock:
    def test_files_of_the_future_keep_their_order(self, tmp_path):
        made = tmp_path / "results" / "deep"
        made.mkdir(parents=True)
        now = time.time_ns()
        for name, ahead in {"old": -HOUR, "b": 2 * HOUR, "a": HOUR, "c": 3 * HOUR}.items():
            (made / name).touch()
            os.utime(made / name, ns=(now + ahead * 10**9,) * 2)
        assert bring_to_present(tmp_path / "results", now) == 3
        times = [(made / name).stat().st_mtime_ns for name in ("old", "a", "b", "c")]
        assert times == sorted(set(times))
        assert times[0] == now - HOUR * 10**9
        assert times[-1] < now
        assert bring_to_present(tmp_path / "results", now) == 0

    @pytest.mark.workflow
    def test_results_of_the_future(self, finished, project):
        """They are dated to the present, and nothing is made again."""
        install_make(project)
        date(results(project), HOUR)
        status, output = make_results(project)
        assert status == 0, output
        assert "were dated in the future" in output
        assert "Nothing to be done" in output
        assert all(path.stat().st_mtime <= time.time() for path in results(project))

    @pytest.mark.workflow
    @pytest.mark.long
    def test_results_of_the_past(self, finished, project):
        """What is dated too early is at most made again once."""
        install_make(project)
        date(project.glob("results/smoke/tables/*.csv"), -1e9)
        status, output = make_results(project)
        assert status == 0, output
        assert not TRAINED & set(ran(output))
        assert tables(project) == tables(finished)
        status, output = make_results(project)
        assert "Nothing to be done" in output, output


class TestTwoPrograms:
    def test_a_lock_that_someone_stands_behind(self, tmp_path):
        folder, lock = tmp_path / ".snakemake", tmp_path / ".snakemake/locks/0.input.lock"
        lock.parent.mkdir(parents=True)
        assert not clear_lock(folder)
        lock.touch()
        with mark_running(folder), pytest.raises(InputError, match=f"another run is at work in {tmp_path}"):
            clear_lock(folder)
        assert clear_lock(folder)
        assert not lock.exists()

    def test_a_folder_is_waited_for(self, tmp_path, capsys):
        """The other program is an open file here, which is what the lock belongs to."""
        other = os.open(tmp_path, os.O_RDONLY)
        fcntl.flock(other, fcntl.LOCK_EX)
        calls = []

        def let_go():
            calls.append(len(calls))
            if len(calls) == 2:
                os.close(other)

        with alone(tmp_path, let_go):
            pass
        assert len(calls) == 2
        assert capsys.readouterr().err == f"{tmp_path}: waiting for another program that writes there\n"

    @pytest.mark.workflow
    def test_two_runs_in_one_folder(self, finished, tmp_path):
        """Started at once, one of them is refused in one line, and the other goes on."""
        project = install_make(new_project(tmp_path / "project"))
        config = overlay(project, **PART)
        running = {name: start_make(project, tmp_path / name, config=config) for name in ("first", "second")}
        (loser,) = [name for name, process in running.items() if process.wait(timeout=600) != 0]
        output = (tmp_path / loser).read_text()
        assert f"error: another run is at work in {project}" in output
        assert "Traceback" not in output
        assert "--unlock" not in output
        made = tables(project)
        assert made
        assert made == {name: tables(finished)[name] for name in made}

    @pytest.mark.workflow
    @pytest.mark.long
    def test_two_runs_on_one_machine(self, finished, tmp_path):
        projects = [install_make(new_project(tmp_path / name)) for name in "ab"]
        running = [start_make(project, project / "make.log") for project in projects]
        assert [process.wait(timeout=1800) for process in running] == [0, 0]
        assert tables(projects[0]) == tables(projects[1]) == tables(finished)


@pytest.mark.workflow
class TestVanished:
    @pytest.mark.long
    def test_prepared_data(self, finished, project):
        """Made again by themselves first, the data are the same, and only the block that is gone is trained.

        It is asked for by name: Snakemake makes nothing again whose results are all there.
        """
        shutil.rmtree(project / "results/data")
        shutil.rmtree(next(project.glob("results/runs/digits_300-small_cnn-*wd0.1*")))
        run(project, "results/data/digits_300.json")
        output = run(project, "trainings")
        assert ran(output).count("train") == 1
        run(project)
        assert tables(project) == tables(finished)

    def test_the_folder_of_images(self, tmp_path):
        project = new_project(tmp_path / "project")
        gone = {"digits_300": {"kind": "image_folder", "root": str(tmp_path / "gone"), "train_count": 300}}
        shown = run(project, config=overlay(project, **PART, datasets=gone), fails=True)
        assert re.search(rf"error: .*{tmp_path}/gone", shown), shown
        assert not list(project.glob("results/runs/*/*/run.json"))


@pytest.mark.workflow
@pytest.mark.parametrize("made", [False, True])
def test_results_on_a_read_only_disk(request, tmp_path, made):
    """Snakemake refuses to replace what is write-protected; where nothing is made yet, the workflow says so."""
    project = request.getfixturevalue("project") if made else new_project(tmp_path / "project")
    config = "config/smoke.yaml" if made else overlay(project, **PART)
    folder = project / "results"
    folder.mkdir(exist_ok=True)
    (folder / "smoke/tables/grid_smoke_grid.csv").unlink(missing_ok=True)
    if subprocess.run(["mount", "--bind", folder, folder], capture_output=True).returncode:
        pytest.skip("mounting is not permitted here")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
        shown = run(project, config=config, fails=True)
    finally:
        subprocess.run(["umount", folder], check=True)
    words = "Write-protected output files for rule" if made else f"error: {folder}: expected a folder to write to"
    assert words in shown, shown
    run(project, "results/smoke/tables/grid_smoke_grid.csv", config=config)


@pytest.mark.workflow
@pytest.mark.long
@pytest.mark.parametrize(
    "name", ["checkpoints/*.safetensors", "history.parquet", "predictions/*.safetensors", "run.json"]
)
def test_the_repair_named_repairs(finished, project, name):
    """The command in the line that names a damage is run as it stands; the tables are then as they were."""
    folder = next(project.glob("results/runs/digits_300-small-*wd0.2/block_0000"))
    path = max(folder.glob(name))
    path.write_bytes(path.read_bytes()[:-7])
    readers = ("distance", "curves", "epochs")
    broken = run(project, "--forcerun", *readers, fails=True)
    command = r"`intrinsic-lr snakemake (--cores all --force [^`]+)`"
    repair = re.search(rf"error: .*{path.name}: .* with {command}", broken)
    assert repair, broken
    run(project, *shlex.split(repair[1]), config=None)
    run(project)
    assert tables(project) == tables(finished)
