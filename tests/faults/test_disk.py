"""Disks that are full, read-only or closed to the user: one line, no half result, and the next run goes on."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from intrinsic_lr.analyses.tables import write_table
from intrinsic_lr.commands import train
from intrinsic_lr.core.block_files import CHECKPOINTS, HISTORY, KEPT, RESUME, RUN, TRACE
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.data import dataset as data
from intrinsic_lr.figures.style import save
from intrinsic_lr.training import blocks
from plans import LIBRARY, contents, plan, timeline, train_words, write_noise

RESULTS = (CHECKPOINTS, HISTORY, TRACE)
PAGE = 4096


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_noise(tmp_path_factory.mktemp("data"))


def command(files, out):
    planned = plan(timeline=timeline((9, 0.1, 0.05)), checkpoints=(0, 4, 9), replicates=(0, 4))
    return train_words(planned, files, out, "--save-every", "0")


@pytest.fixture(scope="module")
def undisturbed(files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    train.main(command(files, folder))
    return folder


def mounted(*words):
    """Mount something, or skip the test where that is not permitted."""
    done = subprocess.run(["mount", *words], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mounting is not permitted here ({done.stderr.strip()})")


@pytest.fixture
def disk(tmp_path):
    """A disk of 512 kB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted("-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder))
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def read_only(tmp_path):
    """A function that makes a folder read-only."""
    changed = []

    def change(folder):
        mounted("--bind", str(folder), str(folder))
        changed.append(folder)
        mounted("-o", "remount,ro,bind", str(folder))

    yield change
    for folder in changed:
        subprocess.run(["umount", str(folder)], check=True)


def fill(folder, left):
    """Fill a disk but for some bytes."""
    ballast = folder / "ballast"
    ballast.write_bytes(b"\1" * max(0, shutil.disk_usage(folder).free - left))
    return ballast


def left_over(folder):
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def resumes(files, out, undisturbed):
    """Train to the end, now that nothing is in the way: the results are those of an undisturbed training."""
    train.main(command(files, out))
    assert contents(out) == contents(undisturbed)
    assert left_over(out) == {*RESULTS, RUN, KEPT}


def test_a_disk_that_fills_up_during_a_training(files, undisturbed, disk, monkeypatch):
    """With every number of free pages from none to enough, so that each of the files is the one that fails."""
    monkeypatch.setattr(blocks, "check_disk", lambda *_: None)
    refused, out = set(), disk / "block"
    for pages in range(200):
        ballast = fill(disk, pages * PAGE)
        try:
            train.main(command(files, out))
        except InputError as error:
            line = str(error)
            assert "\n" not in line
            assert "No space left on device" in line
            refused.add(Path(line.partition(":")[0]).name)
            # What is there under its name is whole; beside it is at most what the next run goes on from.
            whole = {path: text for path, text in contents(out).items() if not path.startswith(RESUME)}
            assert whole.items() <= contents(undisturbed).items()
            assert left_over(out) <= {*RESULTS, RESUME}
        else:
            break
        finally:
            ballast.unlink()
        resumes(files, out, undisturbed)
        shutil.rmtree(out)
    else:
        pytest.fail("a training that needs no more than 200 pages was refused")
    assert pages > 5
    assert refused >= {"00000000.safetensors", "state"}


def test_the_program_says_so_in_its_log_on_the_same_disk(files, undisturbed, disk):
    """Nobody checks beforehand here. Where the log cannot be written either, there is still no traceback."""
    out, log = disk / "block", disk / "log"
    code = "import sys; from intrinsic_lr.core import job_log; from intrinsic_lr.commands import train; "
    code += "from intrinsic_lr.training import blocks; blocks.check_disk = lambda *_: None; "
    code += "job_log.run_command(lambda: train.main(sys.argv[1:]))"
    with open(log, "w") as handle:
        ballast = fill(disk, 2 * PAGE)
        words = [sys.executable, "-c", code, *command(files, out)]
        done = subprocess.run(words, env={**os.environ, "PYTHONPATH": str(LIBRARY)}, stderr=handle)
    ballast.unlink()
    assert done.returncode == 2
    assert "Traceback" not in log.read_text()
    resumes(files, out, undisturbed)


def refuses(write, path, words):
    """Writing is refused in one line, and leaves what was there."""

    def there():
        return {file: file.read_bytes() for file in path.parent.iterdir() if file.name != "ballast"}

    before = there()
    with pytest.raises(InputError, match=words) as caught:
        write()
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert there() == before


@pytest.mark.parametrize("exists", [False, True])
def test_tables_figures_and_data_on_a_full_disk(disk, exists):
    table, figure, prepared = disk / "table.csv", disk / "figure.pdf", disk / "data.safetensors"
    if exists:
        for path in (table, figure, prepared):
            path.write_text("old")
    fill(disk, PAGE)
    frame = pd.DataFrame({"x": range(5000)})
    refuses(lambda: write_table(frame, str(table)), table, "No space left on device")
    drawn, axes = plt.subplots()
    axes.plot(frame["x"])
    refuses(lambda: save(drawn, [str(figure)]), figure, "No space left on device")
    spec = {"kind": "digits"}
    refuses(lambda: data.write(spec, "d", prepared, disk / "data.json"), prepared, "o space left on device")


def test_a_read_only_folder(files, undisturbed, tmp_path, read_only):
    out = tmp_path / "results" / "block"
    out.mkdir(parents=True)
    read_only(tmp_path / "results")
    with pytest.raises(InputError, match=r"block.*Read-only file system"):
        train.main(command(files, out))
    refuses(lambda: write_table(pd.DataFrame({"x": [1]}), str(out / "t.csv")), out / "t.csv", "Read-only")
    assert left_over(out) == set()
    subprocess.run(["mount", "-o", "remount,rw,bind", str(tmp_path / "results")], check=True)
    resumes(files, out, undisturbed)


def test_no_permission(files, undisturbed, tmp_path):
    """Root is asked to leave its powers at home; others have none."""
    out = tmp_path / "results" / "block"
    out.mkdir(parents=True)
    out.chmod(0o555)
    words = [sys.executable, "-m", "intrinsic_lr.commands", "train", *command(files, out)]
    if os.getuid() == 0:
        powers = "-dac_override,-dac_read_search,-fowner"
        words = ["setpriv", f"--inh-caps={powers}", f"--bounding-set={powers}", *words]
        if shutil.which("setpriv") is None:
            pytest.skip("root keeps its powers without setpriv")
    environment = {**os.environ, "PYTHONPATH": str(LIBRARY)}
    done = subprocess.run(words, env=environment, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert str(out) in line
    assert "Permission denied" in line
    assert left_over(out) == set()
    out.chmod(0o755)
    resumes(files, out, undisturbed)
