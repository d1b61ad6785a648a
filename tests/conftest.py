"""Shared fixtures of the tests."""

import shutil

import pytest
import torch
from hypothesis import settings

from intrinsic_lr.data import Dataset
from workflow_runs import new_project, snakemake

# `make test-fuzz` asks for it.
settings.register_profile("many", max_examples=2000)


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
