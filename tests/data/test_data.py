"""Preparing, describing, writing and loading data sets, whatever they come from."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
import torch
from written_sets import refusal, rows

from intrinsic_lr.commands import prepare_data
from intrinsic_lr.core import storage
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.job_log import run_command
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


def test_digits_are_the_same_every_time():
    first, second = (data.prepare({"kind": "digits"}, "digits")[0] for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)
    labels = first["train_labels"].numpy().astype(np.uint8)
    assert hashlib.sha256(labels.tobytes()).hexdigest().startswith("33fe81a53fa12d9c")


@pytest.mark.parametrize("fraction", [0.001, 0.9999])
def test_digits_that_cannot_be_split_are_refused(fraction):
    assert "mine.test_fraction: must be" in refusal({"kind": "digits", "test_fraction": fraction})


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


@pytest.mark.parametrize("count", [9, 1438])
def test_impossible_subsets_are_refused(count):
    message = refusal({"kind": "digits", "subset": count})
    assert "mine.subset: must be from 10" in message
    assert f"got {count}" in message


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"kind": "numbers"}, "mine.kind: must be one of digits, torchvision, image_folder, got 'numbers'"),
        ({"kind": "digits", "root": "x"}, "mine.root"),
        (
            {"kind": "torchvision", "dataset": "MNIST", "root": "a\0b", "download": True},
            "a\\x00b",
        ),
        ({"kind": "torchvision", "root": "x", "dataset": "MNISTT"}, "got 'MNISTT'"),
    ],
)
def test_wrong_definitions_are_refused(spec, words):
    assert words in refusal(spec)


@pytest.fixture
def written(tmp_path):
    paths = tmp_path / "digits.safetensors", tmp_path / "digits.json"
    data.write({"kind": "digits", "subset": 200}, "digits", *paths)
    return paths


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_written_set_comes_back_and_normalises(written, dtype):
    tensors, info = data.prepare({"kind": "digits", "subset": 200}, "digits")
    dataset = data.load(*written, "cpu", dtype)
    for key, tensor in tensors.items():
        assert torch.equal(getattr(dataset, key), tensor)
    assert dataset.info == {**info, "sha256": storage.sha256(written[0])}
    images = dataset.normalize(dataset.train_images.view(2, 100, 1, 8, 8))
    assert images.dtype == dtype
    assert images.shape == (2, 100, 1, 8, 8)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-12
    assert abs(images.double().mean()) < tolerance
    assert abs(images.double().std(correction=0) - 1) < tolerance
    pixel = (dataset.test_images[3, 0, 4, 4].item() / 255 - info["mean"][0]) / info["std"][0]
    assert dataset.normalize(dataset.test_images[3])[0, 4, 4].item() == pytest.approx(pixel, abs=tolerance)


def test_channels_are_normalised_each_by_its_own_statistics():
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([1.0, 2.0, 4.0])
    dataset = data.Dataset(*[torch.empty(0)] * 4, mean, std, {})
    images = torch.full((2, 5, 3, 2, 2), 255, dtype=torch.uint8)
    expected = torch.tensor([0.9, 0.4, 0.175])[:, None, None].expand(2, 5, 3, 2, 2)
    torch.testing.assert_close(dataset.normalize(images), expected)


def test_writing_twice_gives_the_same_bytes(written, tmp_path):
    again = tmp_path / "again.safetensors", tmp_path / "again.json"
    data.write({"kind": "digits", "subset": 200}, "digits", *again)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in written]


@pytest.mark.parametrize("harm", ["cut", "flip", "remove"])
def test_damaged_data_are_refused_with_the_repair(written, harm):
    content = bytearray(written[0].read_bytes())
    content[-1] ^= 1
    if harm == "remove":
        written[0].unlink()
    else:
        written[0].write_bytes(content[:-100] if harm == "cut" else content)
    with pytest.raises(InputError, match=rf"snakemake --cores all --force {written[0]}"):
        data.load(*written, "cpu", torch.float32)


@pytest.mark.parametrize(("text", "words"), [("[]", "damaged"), ("{}", "does not describe a data set")])
def test_a_description_of_something_else_is_refused(written, text, words):
    written[1].write_text(text)
    with pytest.raises(InputError, match=words):
        data.load(*written, "cpu", torch.float32)


def command(monkeypatch, spec, folder):
    paths = ["--data", str(folder / "d.safetensors"), "--info", str(folder / "d.json")]
    monkeypatch.setattr(sys, "argv", ["prepare_data", "--name", "mine", "--spec", spec, *paths])
    run_command(prepare_data.main)


def test_the_command_writes_both_files(tmp_path, monkeypatch, capsys):
    command(monkeypatch, '{"kind": "digits", "subset": 50}', tmp_path)
    assert capsys.readouterr().out == "mine: 50 training and 360 test images of shape 1x8x8 in 10 classes\n"
    assert data.load(tmp_path / "d.safetensors", tmp_path / "d.json", "cpu", torch.float32).info["name"] == "mine"


@pytest.mark.parametrize("spec", ["{kind: digits}", '{"kind": "digit"}', '{"kind": "digits", "subset": 3}'])
def test_the_command_ends_a_mistake_with_one_line(spec, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit) as caught:
        command(monkeypatch, spec, tmp_path)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_heavy_libraries_are_imported_only_where_needed():
    code = (
        "import sys, intrinsic_lr.data.dataset_sizes; assert not {'torch', 'numpy', 'pandas'} & {*sys.modules};"
        "from intrinsic_lr.data import dataset; dataset.prepare({'kind': 'digits'}, 'd');"
        "assert 'torchvision' not in sys.modules"
    )
    library = Path(data.__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(library)})
