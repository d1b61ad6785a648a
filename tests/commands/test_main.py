"""The console command, and what `make` gives to it."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from intrinsic_lr.commands import __main__ as console
from projects import REPOSITORY, environment_of, new_project

PROGRAM = Path(sys.executable).with_name("intrinsic-lr")
LIBRARY = Path(console.__file__).parents[2]


def test_modules_in_the_working_folder_are_not_imported(tmp_path):
    """Every sub-command starts; files named as the libraries that it imports are no obstacle."""
    for name in ("random.py", "torch.py", "pandas.py"):
        (tmp_path / name).write_text("raise SystemExit('imported')")
    options = {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": str(LIBRARY)}, "text": True}
    options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    started = {name: subprocess.Popen([PROGRAM, name, "--help"], **options) for name in console.COMMANDS}
    for name, process in started.items():
        shown, errors = process.communicate()
        assert process.returncode == 0, errors
        assert shown.startswith(f"usage: intrinsic-lr {name}")


@pytest.mark.parametrize("words", [["--help"], ["status", "--config", "config/smoke.yaml"]])
def test_a_reader_that_has_seen_enough_is_no_fault(words):
    """As `intrinsic-lr status | head -1` closes the pipe."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([PROGRAM, *words], stdout=writing, stderr=subprocess.PIPE, cwd=REPOSITORY)
    os.close(writing)
    assert done.stderr == b""


def test_help_lists_every_sub_command_and_an_unknown_one_is_named(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["intrinsic-lr", "--help"])
    console.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == list(console.COMMANDS)
    monkeypatch.setattr(sys, "argv", ["intrinsic-lr", "trian"])
    with pytest.raises(SystemExit, match=r"must be one of snakemake, prepare, train.* got 'trian'"):
        console.main()


def test_the_package_depends_on_all_that_it_imports():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    named = [*project["dependencies"], *project["optional-dependencies"]["tensorboard"]]
    distributions = {re.match(r"[\w-]+", name)[0] for name in named}
    other = {"sklearn": "scikit-learn", "PIL": "pillow", "yaml": "pyyaml", "pydantic_core": "pydantic"}
    imported = set()
    for file in LIBRARY.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module.split(".")[0])
    packages = imported - {*sys.stdlib_module_names, "intrinsic_lr"}
    assert {other.get(package, package) for package in packages} <= distributions


@pytest.mark.parametrize("name", ["intrinsic-lr", "intrinsic-lr-tensorboard"])
def test_environments_of_conda_are_given_the_library(tmp_path, name):
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > "{tmp_path}/words"\n')
    program.chmod(0o755)
    variables = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "INTRINSIC_LR_SOURCE": "/the project"}
    subprocess.run(["bash", REPOSITORY / f"envs/{name}.post-deploy.sh"], env=variables, check=True)
    words = (tmp_path / "words").read_text().splitlines()
    assert words[:3] == ["-m", "pip", "install"]
    assert words[-3:] == ["--no-deps", "--editable", "/the project"]


@pytest.fixture
def make(tmp_path):
    """A function that runs make in a project whose programs only write down what they are given.

    Its study is `mine`, when they are asked.
    """

    def run(*words, folder="project"):
        project, programs = new_project(tmp_path / folder), tmp_path / folder / ".venv/bin"
        programs.mkdir(parents=True)
        (programs / "python").symlink_to(sys.executable)
        program = programs / "intrinsic-lr"
        program.write_text(
            '#!/bin/sh\nprintf "%s|" "$@" >> words\necho >> words\n[ "$2" != --folder ] || echo results/mine\n'
        )
        program.chmod(0o755)
        shutil.copy2(REPOSITORY / "Makefile", project)
        shutil.copy2(REPOSITORY / "pyproject.toml", project)
        (project / ".venv/runtime.stamp").touch()
        (project / FILE).touch()
        # As from a shell, not from inside of `make test`.
        of_make = ("MAKEFLAGS", "MAKELEVEL")
        environment = {key: value for key, value in environment_of(project).items() if key not in of_make}
        done = subprocess.run(["make", *words], cwd=project, env=environment, capture_output=True, text=True)
        written = (project / "words").read_text().splitlines() if (project / "words").exists() else []
        assert not list(tmp_path.rglob("owned*"))
        return done, [line.split("|")[:-1] for line in written]

    return run


FILE = "my `touch owned` $(touch owned) $(shell touch owned).yaml"
RUN = ["snakemake", "--cores", "all"]
FOLDER = ["status", "--folder"]


@pytest.mark.parametrize(
    ("words", "started"),
    [
        (["status", f"CONFIG={FILE}"], [["status", "--config", FILE]]),
        (["estimate", "CORES=3"], [["estimate", "--cores", "3"]]),
        (["results", "CONFIG=config/smoke.yaml config/mnist.yaml"],
         [[*RUN, "--configfile", "config/smoke.yaml", "config/mnist.yaml"],
          [*FOLDER, "--config", "config/smoke.yaml", "config/mnist.yaml"]]),
        (["results", "PROFILE=profiles/slurm"], [["snakemake", "--profile", "profiles/slurm"], FOLDER]),
        (["report", f"CONFIG={FILE}"],
         [[*RUN, "report", "--configfile", FILE], [*FOLDER, "--config", FILE],
          [*RUN, "--report", "results/mine/snakemake-report.html", "--configfile", FILE],
          [*FOLDER, "--config", FILE]]),
    ],
)  # fmt: skip
def test_make_takes_its_variables_as_text(make, words, started):
    """A config file's name may have spaces, and neither make nor the shell runs what is in it."""
    done, found = make(*words)
    assert done.returncode == 0, done.stderr
    assert found == started
    if words[0] in ("results", "report"):
        assert "results/mine/report.html" in done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        *((f"CORES={cores}", "error: CORES must be all or a whole number from 1 on, got")
          for cores in ("0", "-1", "1;touch owned", "$(shell touch owned)")),
        *((f"CONFIG={name}", "error: CONFIG must name YAML files") for name in ("absent.yaml", "config")),
    ],
)  # fmt: skip
def test_make_refuses_a_mistake_in_one_line(make, setting, message):
    done, found = make("results", setting)
    (line, _) = done.stderr.splitlines()
    assert line.startswith(message)
    assert found == []


def test_make_refuses_a_folder_that_no_path_can_name(make):
    done, found = make("results", folder="co:lon")
    assert done.stderr.startswith("error: expected a folder without a colon")
    assert found == []
