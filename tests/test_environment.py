"""The files that pin the environment agree with each other."""

from pathlib import Path

import yaml

ENVS = Path(__file__).parents[1] / "envs"


def pins(name):
    lines = (ENVS / name).read_text().splitlines()
    return {line.split(" ;")[0] for line in lines if "==" in line}


def test_conda_file_has_the_pins_of_the_requirements():
    dependencies = yaml.safe_load((ENVS / "intrinsic-lr.yaml").read_text())["dependencies"]
    (pip,) = [entry["pip"] for entry in dependencies if isinstance(entry, dict)]
    assert set(pip) == pins("requirements.in")


def test_locks_hold_what_they_lock():
    assert pins("requirements.in") <= pins("requirements.txt") <= pins("requirements-dev.txt")
    assert pins("requirements-tensorboard.in") <= pins("requirements-tensorboard.txt")
    assert pins("requirements-tensorboard.txt") | pins("requirements-dev.in") <= pins("requirements-dev.txt")


def test_no_address_of_a_package_index_is_kept():
    assert [path.name for path in ENVS.iterdir() if "://" in path.read_text()] == []
