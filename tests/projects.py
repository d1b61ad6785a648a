"""Projects of their own in which tests run the workflow as its user does."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).parents[1]
SMOKE = yaml.safe_load((REPOSITORY / "config" / "smoke.yaml").read_text())


def environment_of(project):
    """Return the variables of a shell in which a project's own copy of the library is the installed one."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(project / "workflow" / "lib"), "VERBOSE": "1"}


def snakemake(project, *arguments, config="config/smoke.yaml", **environment):
    """Run Snakemake in a project folder; return the finished process with its output as text."""
    words = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]
    return subprocess.run(
        [*words, *(["--configfile", config] if config else [])],
        cwd=project,
        env={**environment_of(project), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )


def run(project, *arguments, fails=False, **options):
    """Run Snakemake, which is to end well, or with an error and no traceback; return its output."""
    done = snakemake(project, *arguments, **options)
    assert (done.returncode != 0) == fails, done.stdout
    assert not fails or "Traceback" not in done.stdout, done.stdout
    return done.stdout


def planned(project, *arguments, config="config/smoke.yaml"):
    """Return the number of jobs of each rule that a dry run plans."""
    shown = run(project, "--dry-run", *arguments, config=config)
    if "Nothing to be done" in shown:
        return {}
    table = shown.split("Job stats:")[1].split("\n\n")[0]
    return {
        rule: int(count) for rule, count in re.findall(r"^(\w+)\s+(\d+)$", table, re.MULTILINE) if rule != "total"
    }


def ran(output):
    """Return the rules of the jobs that Snakemake says it ran, in their order, each as often as it did."""
    return re.findall(r"^(?:local)?rule (\w+):$", output, re.MULTILINE)


def overlay(project, **changes):
    """Write a variant of the smoke config and return its name."""
    text = yaml.safe_dump({**SMOKE, **changes}, sort_keys=False)
    (project / "variant.yaml").write_text(text)
    return "variant.yaml"


def experiments(**changes):
    """Return the smoke experiments with some of them changed or added."""
    merged = {name: {**settings, **changes.pop(name, {})} for name, settings in SMOKE["experiments"].items()}
    return {**merged, **changes}


def new_project(folder):
    for name in ("workflow", "config", "envs", "profiles"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(REPOSITORY / "Snakefile", folder)
    return folder


def tables(project, folder="results/smoke"):
    """Return the checksums of a study's tables, by name."""
    files = (project / folder / "tables").glob("*.csv")
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def install_make(project):
    """Put into a project what `make results` needs: the Makefile, and the environment of the tests as its own."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy2(REPOSITORY / name, project)
    environment = project / ".venv"
    environment.mkdir()
    # Python knows an environment by the pyvenv.cfg beside the folder that it was called in.
    for name in ("bin", "lib", "pyvenv.cfg"):
        (environment / name).symlink_to(Path(sys.prefix, name))
    (environment / "runtime.stamp").touch()
    return project


def start_make(project, output, *, config="config/smoke.yaml", cores=2):
    """Start `make results` in a process group of its own, as a terminal does; its output is added to a file."""
    variables = {key: value for key, value in environment_of(project).items() if key != "MAKEFLAGS"}
    with open(output, "a") as handle:
        return subprocess.Popen(
            ["make", "results", "VERBOSE=1", f"CONFIG={config}", f"CORES={cores}"],
            cwd=project,
            env=variables,
            stdout=handle,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def make_results(project, **options):
    """Run `make results` to its end; return its exit status and its output."""
    output = project / "make.log"
    output.unlink(missing_ok=True)
    status = start_make(project, output, **options).wait(timeout=600)
    return status, output.read_text()
