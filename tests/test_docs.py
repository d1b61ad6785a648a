"""The pages that show code do what they show: their blocks are run, in order, as a reader would."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser

REPOSITORY = Path(__file__).parents[1]


def run_bash(example: Example) -> None:
    done = subprocess.run(
        ["bash", "-euc", example.parsed],
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, f"{example.path}:{example.line}\n{done.stdout}"


def save_yaml(example: Example) -> None:
    Path("shock.yaml").write_text(example.parsed)


def run_page(name, *more):
    """Run the blocks of Python, and those that `more` parses, in the current folder."""
    parsers = [PythonCodeBlockParser(), *more]
    for example in Sybil(parsers, path="../docs").parse(REPOSITORY / "docs" / name).examples():
        example.evaluate()


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A copy of the project without results, the environment of the tests as its own."""
    for name in ("workflow", "config", "envs", "profiles"):
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Snakefile", "Makefile"):
        shutil.copy2(REPOSITORY / name, tmp_path)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/bin").symlink_to(Path(sys.executable).parent)
    (tmp_path / ".venv/runtime.stamp").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)


@pytest.mark.workflow
def test_tutorial(project, capsys):
    run_page("tutorial.md", CodeBlockParser("bash", run_bash), CodeBlockParser("yaml", save_yaml))
    assert Path("shock.svg").stat().st_size > 1000
    assert Path("results/figures/disagreement_shock.svg").is_file()


def test_library(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(trained.parent)
    run_page("library.md")
