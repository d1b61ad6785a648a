"""What the profiles for clusters say, by the settings at their top; Slurm itself is tried by tests/slurm."""

import re
from pathlib import Path

import pytest
import yaml
import yte

from intrinsic_lr.study.analyses import ANALYSES

REPOSITORY = Path(__file__).parents[1]
PROFILES = REPOSITORY / "profiles"
RULES = "".join(path.read_text() for path in sorted((REPOSITORY / "workflow/rules").glob("*.smk")))


def slurm(**settings):
    """Return the Slurm profile as Snakemake sees it, with some of the settings at its top changed."""
    content = yaml.safe_load((PROFILES / "slurm/profile.yaml").read_text())
    assert set(settings) <= set(content["__variables__"])
    content["__variables__"] |= settings
    return yte.process_yaml(yaml.safe_dump(content, sort_keys=False), require_use_yte=True)


def test_partitions_account_and_model():
    """With nothing set, the choice is left to the cluster."""
    profile = slurm()
    assert set(profile["default-resources"]) == {"mem_mb", "runtime"}
    assert profile["set-resources"]["train"]["gres"] == "gpu:1"
    assert "groups" not in profile
    assert all("gres" not in resources for resources in slurm(gpu="")["set-resources"].values())
    profile = slurm(partition="short", gpu_partition="long", account="lab", gpu="gpu:h100:1")
    assert profile["default-resources"]["slurm_partition"] == "short"
    assert profile["default-resources"]["slurm_account"] == "lab"
    for resources in profile["set-resources"].values():
        assert (resources["slurm_partition"], resources["gres"]) == ("long", "gpu:h100:1")


@pytest.mark.parametrize(("gpu", "packed"), [("gpu:1", True), ("", True), ("shard:1", False)])
def test_trainings_that_share_a_gpu_are_packed_unless_slurm_shares_it(gpu, packed):
    profile = slurm(gpu=gpu, jobs_per_device=4)
    assert profile["config"]["jobs_per_device"] == 4
    assert profile.get("group-components") == ({"packed": 4} if packed else None)


@pytest.mark.parametrize(("attempt", "minutes", "megabytes"), [(1, 240, 4000), (2, 480, 8000), (9, 1440, 12000)])
def test_time_and_memory_grow_with_attempts(attempt, minutes, megabytes):
    profile = slurm()
    assert eval(profile["set-resources"]["train"]["runtime"], {"attempt": attempt}) == minutes
    assert eval(profile["default-resources"]["mem_mb"], {"attempt": attempt}) == megabytes


def test_the_rules_that_take_a_device_ask_for_one():
    bodies = re.findall(r"^rule (\w+):\n((?:(?!^rule ).*\n)*)", RULES, re.MULTILINE)
    with_device = {name for name, body in bodies if 'config["device"]' in body}
    with_device |= {name for name, spec in ANALYSES.items() if spec.device}
    assert set(slurm()["set-resources"]) == with_device


@pytest.mark.parametrize("path", sorted(PROFILES.glob("*/profile.yaml")), ids=lambda path: path.parent.name)
def test_profiles_name_rules_that_exist(path):
    profile = yte.process_yaml(path.read_text(), require_use_yte=True)
    names = {*profile.get("set-resources", {}), *profile.get("groups", {})}
    assert names <= {*re.findall(r"^rule (\w+):", RULES, re.MULTILINE), *ANALYSES}
