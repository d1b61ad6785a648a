"""Shared fixtures of the tests."""

import shutil

import pandas as pd
import pytest
import torch
from filelock import FileLock
from hypothesis import settings

from intrinsic_lr.analyses.tables import write_table
from intrinsic_lr.commands import extract, train
from intrinsic_lr.data import dataset as data
from intrinsic_lr.data.dataset import Dataset
from plans import extract_words, plan, timeline, train_words
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


def pytest_collection_modifyitems(items):
    """Begin with what takes long: a worker of pytest-xdist that has nothing left to do takes over from another."""
    items.sort(key=lambda item: item.get_closest_marker("workflow") is None)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """Return a function that makes a folder once for all workers of pytest-xdist; a failure is shared too."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if base.name.startswith("popen-") else base

    def get(name, make):
        folder, outcome = base / name, base / f"{name}.outcome"
        with FileLock(base / f"{name}.lock"):
            if not outcome.exists():
                folder.mkdir()
                outcome.write_text(f"{name}: making it was interrupted")
                done = make(folder)
                outcome.write_text("" if done.returncode == 0 else done.stdout)
        assert outcome.read_text() == "", outcome.read_text()
        return folder

    return get


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A folder `results` with one trained and extracted point, named as one of the default study but tiny.

    Two blocks of two replicates, checkpoints at the steps 0, 4 and 8, and a table that names the point.
    """
    results = tmp_path_factory.mktemp("trained") / "results"
    files = results / "data/digits.safetensors", results / "data/digits.json"
    data.write({"kind": "digits", "subset": 40}, "digits", *files)
    point = "digits-mlp-b32-lr0.1-wd0.01"
    for block in range(2):
        folder = results / f"runs/{point}/block_{block:04d}"
        planned = plan(
            point=point, model={"kind": "mlp", "width": 4}, timeline=timeline((8, 0.1, 0.01)), batch_size=8,
            checkpoints=(0, 4, 8), log_every=4, replicates=(2 * block, 2 * block + 2),
        )  # fmt: skip
        train.main(train_words(planned, files, folder))
        extract.main(extract_words(files, folder))
    write_table(pd.DataFrame({"point": [point], "step": [8]}), str(results / "tables/curves_trajectory.csv"))
    return results


@pytest.fixture(scope="session")
def finished(made_once):
    """A project in which the smoke workflow has run to its end; tests that change it take a copy, `project`."""
    return made_once("finished", lambda folder: snakemake(new_project(folder / "project"))) / "project"


@pytest.fixture
def project(finished, tmp_path):
    """A copy of the finished project elsewhere, to be changed by a test."""
    return shutil.copytree(finished, tmp_path / "elsewhere", symlinks=True)
