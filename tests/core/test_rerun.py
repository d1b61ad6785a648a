"""Commands that repair are named with the config files of the study that a job is of."""

import shlex
from pathlib import Path

import pytest

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.rerun import CONFIG_FILES, quote_config, rerun_command
from intrinsic_lr.core.storage import read_json
from projects import new_project, overlay, run


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("results/x.csv",), ["--force", "results/x.csv"]),
        (("results/x y.csv", ""), ["results/x y.csv"]),
        (("train", "--forcerun"), ["--forcerun", "train"]),
        (("x", "--force", ["a b.yaml"]), ["--force", "x", "--configfile", "a b.yaml"]),
        (("x", "--force", [Path("a.yaml"), Path("b.yaml")]), ["--force", "x", "--configfile", "a.yaml", "b.yaml"]),
    ],
)
def test_the_command_is_one_that_a_shell_takes(monkeypatch, arguments, words):
    monkeypatch.delenv(CONFIG_FILES, raising=False)
    assert shlex.split(rerun_command(*arguments)) == ["snakemake", "--cores", "all", *words]


def test_a_job_names_the_config_files_of_its_study(monkeypatch, tmp_path):
    files = [Path("/a/study/config/x.yaml"), Path("/a/my own.yaml")]
    quoted = quote_config(files, Path("/a/study"))
    assert quoted == "config/x.yaml '/a/my own.yaml'"
    monkeypatch.setenv(CONFIG_FILES, quoted)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(InputError, match=rf"--force \S+ --configfile {quoted}`$"):
        read_json(tmp_path / "run.json")
    assert "--configfile" not in rerun_command("results/x.csv", config=[])


@pytest.mark.workflow
def test_the_workflow_tells_its_jobs(tmp_path):
    """Also of a file whose name a shell, and Snakemake's own format, would take for more than a name."""
    project, name = new_project(tmp_path / "project"), "my {own} study.yaml"
    (project / overlay(project, run=["smoke_grid"], judge=["gd_toy"])).rename(project / name)
    data = project / "results/data"
    data.mkdir(parents=True)
    run(project, "results/data/digits_300.json", config=name)
    (data / "digits_300.safetensors").write_bytes(b"")
    shown = run(project, "results/tables/grid_smoke_grid.csv", "--retries", "0", config=name, fails=True)
    named = "snakemake --cores all --force results/data/digits_300.safetensors --configfile 'my {own} study.yaml'"
    assert f"repair with `{named}`" in shown, shown
    words = shlex.split(named)
    run(project, *words[3:], config=None)
    assert (data / "digits_300.safetensors").stat().st_size
