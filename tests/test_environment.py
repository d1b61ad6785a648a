"""The files that pin the environment agree with each other."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
ENVS = ROOT / "envs"
LOCKS = ("requirements.txt", "requirements-dev.txt")


def pins(name):
    lines = (ENVS / name).read_text().splitlines()
    return {re.split(r" [;\\]", line)[0] for line in lines if "==" in line}


def hashes(name):
    """For each pin of a lock, with its marker, the hashes of the files that may be installed."""
    entries = re.split(r"\n(?! )", (ENVS / name).read_text().strip())
    return {entry.split(" \\")[0]: set(re.findall(r"--hash=sha256:([0-9a-f]{64})\b", entry)) for entry in entries}


def conda_dependencies():
    return yaml.safe_load((ENVS / "intrinsic-lr.yaml").read_text())["dependencies"]


def test_conda_file_has_the_pins_of_the_requirements():
    (pip,) = [entry["pip"] for entry in conda_dependencies() if isinstance(entry, dict)]
    assert set(pip) == pins("requirements.in")


def test_conda_file_takes_the_same_versions_of_python():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"python {project['requires-python']}" in conda_dependencies()


def test_locks_hold_what_they_lock():
    assert pins("requirements.in") <= pins("requirements.txt") <= pins("requirements-dev.txt")
    assert pins("requirements-tensorboard.in") <= pins("requirements-tensorboard.txt")
    assert pins("requirements-tensorboard.txt") | pins("requirements-dev.in") <= pins("requirements-dev.txt")


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_of_a_lock_has_hashes(lock):
    assert [pin for pin, found in hashes(lock).items() if "==" not in pin or not found] == []


def test_locks_agree_on_hashes():
    dev = {pin.split(" ;")[0]: found for pin, found in hashes("requirements-dev.txt").items()}
    assert {
        pin: found for pin, found in hashes("requirements.txt").items() if found != dev[pin.split(" ;")[0]]
    } == {}


def test_no_address_of_a_package_index_is_kept():
    texts = {path.name: path.read_text() for path in ENVS.iterdir()}
    assert [name for name, text in texts.items() if "://" in text or "index-url" in text] == []
