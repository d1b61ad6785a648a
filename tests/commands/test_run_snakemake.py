"""What is refused in one line, or put right, before Snakemake is started."""

import getpass
import os
from pathlib import Path

import pytest

from intrinsic_lr.commands import run_snakemake
from intrinsic_lr.commands.run_snakemake import main, own_home
from intrinsic_lr.core.errors import InputError


@pytest.fixture
def started(tmp_path, monkeypatch):
    """The words and variables that Snakemake was started with, in a folder of its own."""
    calls = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "execve", lambda program, words, variables: calls.append((words, variables)))
    return calls


def test_it_becomes_snakemake_with_the_same_words(started, tmp_path):
    Path("mine.yaml").write_text("seed: 3")
    words = ["--cores", "2", "results/x.csv", "--configfile", "mine.yaml", "--config", "seed=1"]
    main(words)
    ((found, variables),) = started
    assert found == ["snakemake", *words]
    assert variables["PYTHONSAFEPATH"] == "1"
    # The first run is this process now: a second one is refused, but not elsewhere.
    with pytest.raises(InputError, match=f"another run is at work in {tmp_path}; wait for it"):
        main(words)
    main([*words, "--directory", str(tmp_path / "elsewhere")])
    assert len(started) == 2


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("__use_yte__: true\nseed: ?__import__('os').mkdir('made')", "mine.yaml", "which runs code .in mine.yaml"),
        ("a: \0\1", "mine.yaml", "expected YAML of data alone"),
        ("", "mine.yaml", "expected a mapping"),
        ("a: 1", "absent.yaml", "'absent.yaml' cannot be read .No such file"),
        ("a: 1", ".", "cannot be read .Is a directory"),
        ("a: 1", "results/x.csv", "got results/x.csv; name results before this option"),
    ],
)
def test_a_config_that_snakemake_would_trip_over(started, text, name, message):
    Path("mine.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        main(["--cores", "1", "--configfile", name])
    assert started == []
    assert not Path("made").exists()


@pytest.mark.parametrize("blocked", [".snakemake", ".snakemake/locks"])
def test_a_folder_that_cannot_be_written_to(started, tmp_path, blocked):
    Path(blocked).parent.mkdir(exist_ok=True)
    Path(blocked).touch()
    with pytest.raises(OSError, match=str(tmp_path / blocked)):
        main(["--cores", "1"])
    assert started == []


def test_a_folder_with_a_colon_is_refused(started):
    Path("co:lon").mkdir()
    with pytest.raises(InputError, match=r"expected a folder without ':' in its path, got .*co:lon"):
        main(["--cores", "1", "--directory", "co:lon"])
    assert list(Path("co:lon").iterdir()) == started == []


def test_without_a_home_snakemake_has_one_in_the_project(tmp_path, monkeypatch):
    home = tmp_path / ".snakemake/home"
    (tmp_path / "file").touch()
    assert own_home(home, {"HOME": str(tmp_path)}) == {}
    found = own_home(home, {"HOME": str(tmp_path / "file")})
    assert found == {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
    cache = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "file")}
    assert own_home(home, cache) == {"XDG_CACHE_HOME": str(home / "cache")}

    def unknown():
        raise KeyError("uid not found")

    monkeypatch.setattr(getpass, "getuser", unknown)
    assert own_home(home, {"HOME": str(tmp_path)}) == {"LOGNAME": f"user{os.getuid()}"}


def test_no_locks_on_the_file_system_are_no_obstacle(started, monkeypatch):
    def refused(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(run_snakemake.fcntl, "flock", refused)
    main(["--cores", "1"])
    assert len(started) == 1
