"""Images of one's own as arrays of a NumPy archive and as rows of CSV files."""

from pathlib import Path

import numpy as np
import pytest
import torch

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.data import arrays, dataset_sizes
from intrinsic_lr.data import dataset as data

PLACE = "config: datasets.d"
NPZ, CSV = {"kind": "npz", "file": "d.npz"}, {"kind": "csv", "train": "a.csv", "test": "b.csv", "shape": [1, 2, 3]}


@pytest.fixture
def images(tmp_path, monkeypatch):
    """Images and labels of both parts, in the current folder as an archive and as CSV files."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    found = {}
    for part, count in (("train", 7), ("test", 5)):
        found[f"{part}_images"] = generator.integers(256, size=(count, 1, 2, 3)).astype(np.uint8)
        found[f"{part}_labels"] = np.arange(count) % 3
    np.savez("d.npz", **found)
    for part, file in (("train", "a.csv"), ("test", "b.csv")):
        rows = np.column_stack([found[f"{part}_labels"], found[f"{part}_images"].reshape(-1, 6)])
        np.savetxt(file, rows, fmt="%d", delimiter=",")
    return found


def append(file, line):
    with open(file, "a") as handle:
        handle.write(line)


@pytest.mark.parametrize("spec", [NPZ, CSV])
def test_images_are_read_as_they_are(images, spec):
    tensors, info = data.prepare(spec, "d")
    assert all(torch.equal(tensors[name], torch.from_numpy(value)) for name, value in images.items())
    assert (info["train_count"], info["test_count"], info["classes"]) == (7, 5, ["0", "1", "2"])
    assert dataset_sizes.train_count({**spec, "subset": 4}, PLACE) == 4
    assert dataset_sizes.sizes(spec, PLACE) is None


def test_other_forms_of_the_same_images(images):
    rows = Path("a.csv").read_text()
    Path("a.csv").write_text(f"label,p1,p2,p3,p4,p5,p6\n{rows}")
    assert arrays.train_count(CSV, PLACE) == 7
    assert torch.equal(data.prepare(CSV, "d")[0]["train_images"], torch.from_numpy(images["train_images"]))
    flat = {name: value[:, 0] if value.ndim == 4 else value for name, value in images.items()}
    np.savez_compressed("d.npz", **flat)
    assert arrays.train_count(NPZ, PLACE) == 7
    assert torch.equal(data.prepare(NPZ, "d")[0]["train_images"], torch.from_numpy(images["train_images"]))


def test_changed_images_have_another_checksum(images):
    before = [arrays.content_sum(spec, PLACE) for spec in (NPZ, CSV)]
    assert before == [arrays.content_sum(spec, PLACE) for spec in (NPZ, CSV)]
    np.savez("d.npz", **{**images, "test_labels": images["test_labels"][::-1]})
    append("b.csv", "1,0,0,0,0,0,0\n")
    assert not {*before} & {arrays.content_sum(spec, PLACE) for spec in (NPZ, CSV)}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train_images": None}, ["d.file", "'train_images'", "got none"]),
        ({"train_images": np.zeros((7, 2, 3))}, ["uint8 train_images", "float64"]),
        ({"train_images": np.zeros((7, 6), np.uint8)}, ["shape (N, H, W)", "(7, 6)"]),
        ({"test_labels": np.zeros(4, int)}, ["label of each of the 5 test_images", "(4,)"]),
        ({"test_labels": np.zeros(5)}, ["whole number", "float64"]),
        ({"test_labels": np.array(["a"] * 5, dtype=object)}, ["d.file", "cannot be read", "allow_pickle"]),
        ({"test_images": np.zeros((5, 1, 2, 2), np.uint8)}, ["must have one size", "2x3", "2x2"]),
        ({"train_labels": np.array([0, 1, 2, 0, 1, 2, 9])}, ["no training image of the class '3'"]),
        ({"train_labels": np.array([0, 1, 2, 0, 1, 2, -1])}, ["labels must be", "-1 at train_images 6"]),
    ],
)
def test_what_an_archive_may_not_hold(images, changes, words):
    np.savez("d.npz", **{name: value for name, value in {**images, **changes}.items() if value is not None})
    with pytest.raises(InputError) as caught:
        data.prepare(NPZ, "d")
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("1,0,0,0,0,0\n", ["d.train", "cannot be read|others"]),
        ("1,0,0,0,0,0,256\n", ["d.train", "pixels from 0 to 255"]),
        ("1,0,0,0,0,0,0.5\n", ["d.train", "whole numbers"]),
        ("1,0,0,0,0,0,x\n", ["d.train", "whole numbers"]),
    ],
)
def test_what_a_row_may_not_hold(images, line, words):
    append("a.csv", line)
    with pytest.raises(InputError) as caught:
        data.prepare(CSV, "d")
    assert all(any(part in str(caught.value) for part in word.split("|")) for word in words), str(caught.value)


@pytest.mark.parametrize(
    "spec", [{**NPZ, "file": "none.npz"}, {**CSV, "train": "none.csv"}, {**NPZ, "file": "a.csv"}]
)
def test_a_file_that_cannot_be_read_is_named_before_anything_is_prepared(images, spec):
    with pytest.raises(InputError, match=r"config: datasets\.d\.(file|train): '(none|a)\.\w+' cannot be read"):
        dataset_sizes.train_count(spec, PLACE)


def test_rows_of_another_shape_are_refused(images):
    with pytest.raises(InputError, match="expected 10 columns, a label and 9 pixels, got 7"):
        data.prepare({**CSV, "shape": [1, 3, 3]}, "d")
