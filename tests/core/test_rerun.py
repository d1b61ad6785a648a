"""Commands that repair are named with the config files of the study that a job is of."""

import shlex
from pathlib import Path

import pytest

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.rerun import CONFIG, config_options, rerun_command
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
    monkeypatch.delenv(CONFIG, raising=False)
    assert shlex.split(rerun_command(*arguments)) == ["intrinsic-lr", "snakemake", "--cores", "all", *words]


def test_a_job_names_the_config_of_its_study(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    options = config_options([tmp_path / "config/x.yaml", Path("/a/my own.yaml")], ["seed=1"])
    assert options == ["--configfile", "config/x.yaml", "/a/my own.yaml", "--config", "seed=1"]
    monkeypatch.setenv(CONFIG, shlex.join(options))
    Path("run.json").write_text("{")
    with pytest.raises(InputError, match=rf"--force \S+ {shlex.join(options)}`$"):
        read_json(Path("run.json"))
    assert "--config" not in rerun_command("results/x.csv", config=[])


@pytest.mark.workflow
def test_the_workflow_tells_its_jobs(tmp_path):
    """Of values, and of a file whose name a shell, and Snakemake's own format, would take for more than a name."""
    project, name = new_project(tmp_path / "project"), "my {own} study.yaml"
    (project / overlay(project, run=["smoke_grid"], judge=["gd_toy"])).rename(project / name)
    data = project / "results/data"
    data.mkdir(parents=True)
    run(project, "results/data/digits_300.json", config=name)
    (data / "digits_300.safetensors").write_bytes(b"")
    value = "experiments={smoke_grid: {replicates: 3}}"
    words = ["--retries", "0", "--config", value]
    shown = run(project, "results/smoke/tables/grid_smoke_grid.csv", *words, config=name, fails=True)
    named = "--force results/data/digits_300.safetensors --configfile 'my {own} study.yaml'"
    named = f"intrinsic-lr snakemake --cores all {named} --config '{value}'"
    assert f"repair with `{named}`" in shown, shown
    run(project, *shlex.split(named)[4:], config=None)
    assert (data / "digits_300.safetensors").stat().st_size
