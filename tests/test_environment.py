"""The files that pin the environment agree with each other."""

import re
import tomllib
from collections import defaultdict
from itertools import combinations
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
ENVS = ROOT / "envs"
LOCKS = sorted(path.name for path in ENVS.glob("requirements*.txt"))
CONDA = {
    "intrinsic-lr.yaml": ("requirements.in",),
    "intrinsic-lr-tensorboard.yaml": ("requirements.in", "requirements-tensorboard.in"),
}


def pins(*names):
    """Return `name==version` of every pin in some files, without extras and markers."""
    lines = [line for name in names for line in (ENVS / name).read_text().splitlines() if "==" in line]
    return {re.sub(r"\[.*?\]", "", re.split(r" [;\\]", line)[0]) for line in lines}


def hashes(lock):
    """For each pin of a lock, without its marker, the hashes of the files that may be installed."""
    entries = re.split(r"\n(?! )", (ENVS / lock).read_text().strip())
    allowed = re.compile(r"--hash=sha256:([0-9a-f]{64})\b")
    return {re.split(r" [;\\]", entry)[0]: set(allowed.findall(entry)) for entry in entries}


def versions(lock):
    """For each package of a lock its versions, more than one where markers choose, with their hashes."""
    found = defaultdict(dict)
    for pin, files in hashes(lock).items():
        found[pin.split("==")[0]][pin] = files
    return found


def conda_dependencies(name):
    return yaml.safe_load((ENVS / name).read_text())["dependencies"]


@pytest.mark.parametrize("name", CONDA)
def test_conda_file_has_the_pins_of_the_requirements(name):
    (pip,) = [entry["pip"] for entry in conda_dependencies(name) if isinstance(entry, dict)]
    assert len(pip) == len(set(pip))
    assert set(pip) == pins(*CONDA[name])


@pytest.mark.parametrize("name", CONDA)
def test_conda_file_takes_the_same_versions_of_python(name):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"python {project['requires-python']}" in conda_dependencies(name)


def test_rules_name_the_conda_files_that_are_there():
    rules = "".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    named = set(re.findall(r'"../../envs/(.*?)"', rules))
    assert named == {path.name for path in ENVS.glob("*.yaml")} == set(CONDA)


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_holds_what_it_locks(lock):
    assert pins(lock.replace(".txt", ".in")) <= pins(lock)


def test_the_tools_come_on_top_of_the_runtime_and_of_tensorboard():
    assert pins("requirements.txt", "requirements-tensorboard.txt") <= pins("requirements-dev.txt")


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_of_a_lock_has_hashes(lock):
    assert [pin for pin, found in hashes(lock).items() if "==" not in pin or not found] == []


@pytest.mark.parametrize(("lock", "other"), list(combinations(LOCKS, 2)))
def test_locks_agree_on_every_package_that_they_share(lock, other):
    """So one is installed on top of another, and changes no version."""
    ours, theirs = versions(lock), versions(other)
    assert {name: ours[name].keys() for name in ours.keys() & theirs if ours[name] != theirs[name]} == {}


def test_every_file_of_requirements_is_a_pair():
    assert len(LOCKS) == 5
    assert {path.stem for path in ENVS.glob("*.in")} == {Path(lock).stem for lock in LOCKS}


def test_no_address_of_a_package_index_is_kept():
    texts = {path.name: path.read_text() for path in ENVS.iterdir()}
    assert [name for name, text in texts.items() if "://" in text or "index-url" in text] == []
