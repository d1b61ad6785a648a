"""The pages that show code do what they show: their blocks are run, in order, as a reader would."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser

import intrinsic_lr
from intrinsic_lr.study.config_files import merge_files
from intrinsic_lr.study.study import Study
from projects import REPOSITORY, install_make, new_project


def run_bash(example: Example) -> None:
    done = subprocess.run(
        ["bash", "-euc", example.parsed],
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, f"{example.path}:{example.line}\n{done.stdout}"


def save_as(name):
    """Return what saves a block as a file of that name."""

    def save(example: Example) -> None:
        Path(name).write_text(example.parsed)

    return save


def run_page(name, *more):
    """Run the blocks of Python, and those that `more` parses, in the current folder."""
    parsers = [PythonCodeBlockParser(), *more]
    for example in Sybil(parsers, path="../docs").parse(REPOSITORY / "docs" / name).examples():
        example.evaluate()


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """A project without results, the environment of the tests as its own, as the current folder."""
    monkeypatch.chdir(install_make(new_project(tmp_path / "project")))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "project/workflow/lib"))
    monkeypatch.delenv("MAKEFLAGS", raising=False)


@pytest.mark.workflow
def test_tutorial(fresh):
    run_page("tutorial.md", CodeBlockParser("bash", run_bash), CodeBlockParser("yaml", save_as("shock.yaml")))
    assert Path("shock.svg").stat().st_size > 1000
    assert Path("results/figures/disagreement_shock.svg").is_file()


@pytest.mark.workflow
def test_networks(fresh):
    shown = re.search(r"```python\n(.*?)```", (REPOSITORY / "docs/networks.md").read_text(), re.DOTALL)
    Path("my_network.py").write_text(shown[1])
    run_page("networks.md", CodeBlockParser("bash", run_bash), CodeBlockParser("yaml", save_as("networks.yaml")))
    assert Path("results/figures/curves_own.svg").is_file()
    assert "my_network.py, sha256" in Path("results/report.html").read_text()


@pytest.mark.workflow
def test_extending(fresh):
    page = (REPOSITORY / "docs/extending.md").read_text()
    shown = dict(re.findall(r"`(my_\w+\.py)`[^`]*:\n\n```python\n(.*?)```", page, re.DOTALL))
    assert len(shown) == page.count("```python") - 1, "all but the block that makes the images"
    for name, text in shown.items():
        assert len(text.splitlines()) < 40, name
        Path(name).write_text(text)
    run_page("extending.md", CodeBlockParser("bash", run_bash), CodeBlockParser("yaml", save_as("extended.yaml")))
    assert Path("results/figures/spread_own.svg").is_file()
    (judged,) = pd.read_csv("results/claims.csv").itertuples()
    assert (judged.claim, judged.verdict) == ("better_than_chance", "reproduced")
    report = Path("results/report.html").read_text()
    assert all(f"{name} (sha256" in report for name in shown)


def test_library(trained, monkeypatch):
    monkeypatch.chdir(trained.parent)
    run_page("library.md")


def test_library_lists_every_public_name():
    listed = re.findall(r"`(\w+)`", (REPOSITORY / "docs/library.md").read_text().split("## What there is")[1])
    assert set(intrinsic_lr.__all__) <= set(listed)


@pytest.mark.parametrize(
    "text", re.findall(r"```yaml\n(.*?)```", (REPOSITORY / "docs/faq.md").read_text(), re.DOTALL)
)
def test_configs_of_the_questions_are_accepted(text, tmp_path):
    for folder in ("train/rose", "train/tulip", "test/rose", "test/tulip"):
        (tmp_path / folder).mkdir(parents=True)
        for number in range(32):  # so many that a batch of 64 is not larger than the set
            Image.new("RGB", (32, 32)).save(tmp_path / folder / f"{number}.png")
    (tmp_path / "mine.yaml").write_text(text.replace("/data/flowers", str(tmp_path)))
    assert Study.read(merge_files([tmp_path / "mine.yaml"])).trainings
