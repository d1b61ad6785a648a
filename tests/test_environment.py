"""The locks agree with what they lock and with each other, and the conda files are those that lock.sh writes."""

import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pytest
import yaml

ENVS = Path(__file__).parents[1] / "envs"
# Those with hashes; only PyTorch's own index has the files of requirements-cpu.txt.
LOCKS = sorted(path.name for path in ENVS.glob("requirements*.txt") if path.name != "requirements-cpu.txt")


def pins(*names):
    """Return `name==version` of every pin in some files, without extras and markers."""
    lines = [line for name in names for line in (ENVS / name).read_text().splitlines() if "==" in line]
    return {re.sub(r"\[.*?\]", "", re.split(r" [;\\]", line)[0]) for line in lines}


def hashes(lock):
    """Return for each pin of a lock, with its marker, the hashes of the files that may be installed."""
    entries = re.split(r"\n(?! )", (ENVS / lock).read_text().strip())
    return {entry.split(" \\")[0]: set(re.findall(r"--hash=sha256:([0-9a-f]{64})\b", entry)) for entry in entries}


@pytest.mark.parametrize("name", ["", "-tensorboard"])
def test_conda_files_have_the_pins_of_the_requirements(name):
    dependencies = yaml.safe_load((ENVS / f"intrinsic-lr{name}.yaml").read_text())["dependencies"]
    assert set(dependencies[-1]["pip"]) == pins("requirements.in", *{f"requirements{name}.in"})


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_has_what_it_locks_with_hashes(lock):
    assert pins(lock.replace("-no-triton", "").replace(".txt", ".in")) <= pins(lock)
    assert [pin for pin, found in hashes(lock).items() if "==" not in pin or not found] == []


def test_smaller_environments_lack_only_what_a_cpu_does_not_need():
    everything = pins("requirements.txt")
    assert {pin.split("==")[0] for pin in everything - pins("requirements-no-triton.txt")} == {"triton"}
    missing = {pin for pin in everything - pins("requirements-cpu.txt")}
    assert [pin for pin in missing if not pin.startswith(("nvidia-", "cuda-", "triton=="))] == []
    local = pins("requirements-cpu.txt") - everything
    assert local == {f"{pin}+cpu" for pin in everything if pin.startswith(("torch==", "torchvision=="))}


def test_rules_that_draw_need_only_the_packages_of_their_environment():
    conda = yaml.safe_load((ENVS / "intrinsic-lr-figures.yaml").read_text())["dependencies"][-1]["pip"]
    left_out = {pin.split("==")[0] for pin in pins("requirements.in") - set(conda)}
    assert set(conda) < pins("requirements.in")
    assert left_out == {"torch", "torchvision", "scikit-learn"}
    program = """
import importlib, sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name in ("torch", "torchvision", "sklearn"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
from intrinsic_lr.study.analyses import ANALYSES
from intrinsic_lr.study.claims import CLAIMS
names = [f"analyses.{name}" for name in ANALYSES] + [f"claims.{name}" for name in CLAIMS]
for name in [*names, "claims.shared.paper", "claims.shared.scorecard_figure", "report.page"]:
    importlib.import_module(f"intrinsic_lr.{name}")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_tools_come_on_top_of_the_runtime_and_of_tensorboard():
    assert pins("requirements.txt", "requirements-tensorboard.txt") <= pins("requirements-dev.txt")


@pytest.mark.parametrize(("lock", "other"), list(combinations(LOCKS, 2)))
def test_locks_agree_on_every_package_that_they_share(lock, other):
    """So one is installed on top of another, and changes no version."""
    ours, theirs = hashes(lock), hashes(other)
    both = {pin.split("==")[0] for pin in ours} & {pin.split("==")[0] for pin in theirs}
    found = [
        {pin.split(" ;")[0]: files for pin, files in lock.items() if pin.split("==")[0] in both}
        for lock in (ours, theirs)
    ]
    assert found[0] == found[1]


def test_no_address_of_a_package_index_is_kept():
    texts = {path.name: path.read_text() for path in ENVS.iterdir()}
    assert [name for name, text in texts.items() if "://" in text or "index-url" in text] == []


def test_the_image_is_made_of_the_runtime_lock_and_holds_what_make_needs():
    root = ENVS.parent
    text = (root / "Dockerfile").read_text()
    assert 'ARG LOCKS="requirements.txt"' in text
    assert "--require-hashes" in text
    allowed = re.findall(r"^!(.*)$", (root / ".dockerignore").read_text(), re.MULTILINE)
    assert {"Makefile", "Snakefile", "pyproject.toml", "config", "envs", "profiles", "workflow"} <= set(allowed)
    assert [name for name in allowed if not (root / name).exists()] == []
