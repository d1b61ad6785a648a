"""Preparing, describing, writing and loading data sets, whatever they come from."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
import torch
from written_sets import rows

from intrinsic_lr.commands import prepare_data
from intrinsic_lr.core import storage
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.job_log import run_command
from intrinsic_lr.core.version import DATA_VERSION
from intrinsic_lr.data import dataset as data


def test_digits_are_split_by_class():
    tensors, info = data.prepare({"kind": "digits"}, "digits")
    assert (info["train_count"], info["test_count"], info["shape"]) == (1437, 360, [1, 8, 8])
    digits = sklearn.datasets.load_digits()
    images = torch.cat([tensors["train_images"], tensors["test_images"]])
    labels = torch.cat([tensors["train_labels"], tensors["test_labels"]])
    assert rows(images, labels) == rows(torch.from_numpy(digits.images[:, None]), torch.from_numpy(digits.target))
    shares = torch.bincount(tensors["test_labels"]) / torch.bincount(labels)
    assert (shares - 0.2).abs().max() < 0.01


def test_what_is_prepared_under_a_version_stays_the_same_bit_for_bit(tmp_path):
    info = data.write({"kind": "digits"}, "digits", tmp_path / "digits.safetensors", tmp_path / "digits.json")
    golden = {1: "ee6cc958973449dbda63b29251dccb007e9d78ec0ec9245f55098ae6fe4d80de"}
    assert info["sha256"] == golden[DATA_VERSION]


@pytest.mark.parametrize("count", [10, 100, 1000, 1437])
def test_a_subset_keeps_the_shares_of_the_classes(count):
    whole, _ = data.prepare({"kind": "digits"}, "digits")
    part, info = data.prepare({"kind": "digits", "subset": count}, "digits")
    quota = torch.bincount(whole["train_labels"]) * count / 1437
    assert (torch.bincount(part["train_labels"], minlength=10) - quota).abs().max() <= 1
    assert info["train_count"] == count
    assert torch.equal(part["test_images"], whole["test_images"])
    pairs = [set(map(str, rows(t["train_images"], t["train_labels"]))) for t in (part, whole)]
    assert pairs[0] <= pairs[1]


def test_subsets_are_nested_and_hold_rare_classes():
    labels = np.repeat([0, 1, 2], [900, 99, 1])
    small, large = (set(data._stratified_subset(labels, 3, count, "x").tolist()) for count in (20, 50))
    assert small < large
    assert np.bincount(labels[sorted(small)]).tolist() == [17, 2, 1]


def test_channels_are_normalised_each_by_its_own_statistics():
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([1.0, 2.0, 4.0])
    dataset = data.Dataset(*[torch.empty(0)] * 4, mean, std, {})
    images = torch.full((2, 5, 3, 2, 2), 255, dtype=torch.uint8)
    expected = torch.tensor([0.9, 0.4, 0.175])[:, None, None].expand(2, 5, 3, 2, 2)
    torch.testing.assert_close(dataset.normalize(images), expected)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"kind": "numbers"}, "mine.kind: unknown kind 'numbers'; expected one of digits, torchvision"),
        ({"kind": "digits", "test_fraction": 0.001}, "mine.test_fraction: must be"),
        ({"kind": "digits", "test_fraction": 0.9999}, "mine.test_fraction: must be"),
        ({"kind": "digits", "subset": 9}, "mine.subset: must be from 10"),
        ({"kind": "digits", "subset": 1438}, "got 1438"),
        ({"kind": "torchvision", "dataset": "MNIST", "root": "a\0b", "download": True}, "a\\u0000b"),
    ],
)
def test_wrong_definitions_are_refused(spec, words, tmp_path, monkeypatch, capsys):
    """By the command, in one line; it leaves no file."""
    files = ["--data", str(tmp_path / "d.safetensors"), "--info", str(tmp_path / "d.json")]
    monkeypatch.setattr(sys, "argv", ["prepare_data", "--name", "mine", "--spec", json.dumps(spec), *files])
    with pytest.raises(SystemExit, match="2"):
        run_command(prepare_data.main)
    error = capsys.readouterr().err
    assert error.startswith("error: config: datasets.mine")
    assert words in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def written(tmp_path):
    """The files of 200 digits, as the command writes them."""
    paths = tmp_path / "digits.safetensors", tmp_path / "digits.json"
    spec = '{"kind": "digits", "subset": 200}'
    prepare_data.main(["--name", "digits", "--spec", spec, "--data", str(paths[0]), "--info", str(paths[1])])
    return paths


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-12)])
def test_a_written_set_comes_back_and_normalises(written, dtype, tolerance):
    tensors, info = data.prepare({"kind": "digits", "subset": 200}, "digits")
    dataset = data.load(*written, "cpu", dtype)
    assert all(torch.equal(getattr(dataset, key), tensor) for key, tensor in tensors.items())
    assert dataset.info == {**info, "sha256": storage.sha256(written[0])}
    images = dataset.normalize(dataset.train_images.view(2, 100, 1, 8, 8))
    assert (images.dtype, images.shape) == (dtype, (2, 100, 1, 8, 8))
    assert abs(images.double().mean()) < tolerance
    assert abs(images.double().std(correction=0) - 1) < tolerance
    pixel = (dataset.test_images[3, 0, 4, 4].item() / 255 - info["mean"][0]) / info["std"][0]
    assert dataset.normalize(dataset.test_images[3])[0, 4, 4].item() == pytest.approx(pixel, abs=tolerance)


def test_missing_data_are_refused(written):
    """Damaged files: `tests/faults/test_damaged_files.py`."""
    written[0].unlink()
    with pytest.raises(InputError, match=rf"snakemake --cores all --force {written[0]}"):
        data.load(*written, "cpu", torch.float32)


def test_heavy_libraries_are_imported_only_where_needed():
    """What the rules import: `tests/test_workflow.py`."""
    code = (
        "import sys, intrinsic_lr.commands.budget; assert not {'torch', 'numpy', 'pandas'} & {*sys.modules};"
        "from intrinsic_lr.data import dataset; dataset.prepare({'kind': 'digits'}, 'd');"
        "assert 'torchvision' not in sys.modules"
    )
    library = Path(data.__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(library)})
