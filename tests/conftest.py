"""Shared fixtures of the tests."""

import shutil

import pytest
import torch
from hypothesis import settings

from intrinsic_lr.commands import extract, train
from intrinsic_lr.data import dataset as data
from intrinsic_lr.data.dataset import Dataset
from projects import new_project, snakemake

# `make test-fuzz` asks for it.
settings.register_profile("many", max_examples=2000)


def pytest_addoption(parser):
    """How often the tests of faults try: a few times among all tests, more often for `make test-faults`."""
    parser.addoption("--kills", type=int, default=3, help="kills of test_kills.py")
    parser.addoption("--kill-seed", type=int, default=0, help="seed of their moments")
    parser.addoption("--trainings", type=int, default=200, help="trainings of test_soak.py")


@pytest.fixture(autouse=True)
def _one_thread():
    """Keep sums in one order, so that tests compare bits where they claim to."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def noise_images():
    """A data set of 20 images of noise, 8x8 in 3 classes, in float64; its test set is its training set."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (20, 1, 8, 8), generator=generator, dtype=torch.uint8)
    labels = torch.arange(20) % 3
    one = torch.ones(1, dtype=torch.float64)
    return Dataset(images, labels, images, labels, one / 2, one / 4, {"shape": [1, 8, 8], "classes": list("abc")})


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A folder `results` with one trained and extracted point, named as one of the default study but tiny.

    Two blocks of two replicates, checkpoints at the steps 0, 4 and 8.
    """
    results = tmp_path_factory.mktemp("trained") / "results"
    files = results / "data/digits.safetensors", results / "data/digits.json"
    data.write({"kind": "digits", "subset": 40}, "digits", *files)
    point = "digits-mlp-b32-lr0.1-wd0.01"
    of_data = ["--data", str(files[0]), "--info", str(files[1]), "--device", "cpu"]
    for block, replicates in enumerate(("0:2", "2:4")):
        folder = results / f"runs/{point}/block_{block:04d}"
        flags = {
            "point": point, "model": "mlp:width=4", "timeline": "8@0.1@0.01", "batch-size": 8,
            "checkpoints": "0,4,8", "log-every": 4, "trace-every": 2, "replicates": replicates, "out": folder,
        }  # fmt: skip
        train.main([*of_data, *(text for flag, value in flags.items() for text in (f"--{flag}", str(value)))])
        extract.main(["--run", str(folder), *of_data])
    return results


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A project in which the smoke workflow has run to its end."""
    project = new_project(tmp_path_factory.mktemp("finished") / "project")
    done = snakemake(project)
    assert done.returncode == 0, done.stdout
    return project


@pytest.fixture
def project(finished, tmp_path):
    """A copy of the finished project elsewhere, to be changed by a test."""
    return shutil.copytree(finished, tmp_path / "elsewhere", symlinks=True)
