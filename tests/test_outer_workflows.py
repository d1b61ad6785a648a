"""Workflows that use this one as a module, from a folder or from a git host."""

import shutil
import subprocess

import pytest

from projects import new_project, planned, run

pytestmark = pytest.mark.workflow

GIT = ["git", "-c", "user.name=tests", "-c", "user.email=tests@localhost"]


@pytest.fixture
def lr(tmp_path):
    """A copy of this workflow, beside which others are written."""
    return new_project(tmp_path / "lr")


def outer(lr, text):
    """Write a workflow beside a copy of this one; return its folder."""
    folder = lr.parent / "outer"
    folder.mkdir()
    (folder / "workflow").symlink_to(lr / "workflow")  # where the tests take the library from
    (folder / "Snakefile").write_text(text)
    return folder


TWO = """
configfile: "mine.yaml"
module a:
    snakefile: "../lr/workflow/Snakefile"
    config: config["a"]
    prefix: "a"
module b:
    snakefile: "../lr/workflow/Snakefile"
    config: config["b"]
    prefix: "b"
use rule * from a as a_*
use rule * from b as b_*
use rule swa from a as a_swa with:
    threads: 1
rule own:
    default_target: True
    input: "a/results/tables/swa_trajectory.csv", "b/results/study_b/tables/disagreement_mixing.csv"
    output: f"{config['samples']}.csv"
    shell: "cat {input} > {output}"
"""
KEYS = """
samples: mine
a: {run: [trajectory], judge: []}
b: {run: [mixing], judge: [], study: study_b}
"""


def test_two_modules_with_configs_and_folders_of_their_own(lr):
    folder = outer(lr, TWO)
    (folder / "mine.yaml").write_text(KEYS)
    jobs = planned(folder, config=None)
    assert {"own", "a_swa", "a_train", "b_disagreement", "b_train"} <= jobs.keys()
    assert jobs["a_train"] == 1 < jobs["b_train"]


def test_an_unknown_key_of_a_module_is_named(lr):
    folder = outer(lr, TWO)
    (folder / "mine.yaml").write_text(KEYS.replace("judge: [], study", "juge: [], study"))
    assert "unknown key 'juge'; did you mean judge" in run(folder, "--dry-run", config=None, fails=True)


PREFIXED = """
module lr:
    snakefile: "../lr/workflow/Snakefile"
    config: {"extends": "smoke.yaml"}
    prefix: "below"
use rule * from lr as lr_*
"""


def test_the_page_and_the_report_of_snakemake_are_made_below_a_prefix(lr, finished):
    folder = outer(lr, PREFIXED)
    shutil.copytree(finished / "results", folder / "below/results")
    (page,) = folder.glob("below/results/**/report.html")
    run(folder, "--touch", config=None)
    page.unlink()
    run(folder, str(page.relative_to(folder)), config=None)
    assert page.stat().st_size > 100_000
    run(folder, "--report", "record.html", config=None)
    assert (folder / "record.html").stat().st_size > 100_000


HOSTED = """
module lr:
    snakefile: github("someone/study", path="workflow/Snakefile", tag="v1")
    config: {"judge": ["gd_toy"], "run": []}
use rule * from lr as lr_*
"""


def test_a_workflow_on_a_git_host(lr, monkeypatch):
    """Snakemake's clone lies where it looks for one, so that nothing is fetched."""
    folder, cache = outer(lr, HOSTED), lr.parent / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "a version"], ["tag", "v1"]):
        subprocess.run([*GIT, *words], cwd=lr, check=True)
    clone = cache / "snakemake/snakemake/source-cache/snakemake-git-cache/github.com/someone/study"
    subprocess.run(["git", "clone", "-q", "--bare", lr, clone], check=True)
    run(folder, "results/figures/gd_toy.svg", config=None)
    assert (folder / "results/tables/gd_toy.csv").is_file()
    assert len(list(clone.parent.glob("study.*"))) == 1
