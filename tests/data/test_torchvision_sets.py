"""torchvision's own loaders read small sets written in its formats; what is damaged is named and never opened."""

import errno
import inspect
import os
import pickle
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision.datasets as tv
from PIL import Image
from written_sets import FORMATS, channels_first, idx, make, pack, refusal, rows, save

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.data import dataset as data
from intrinsic_lr.data import torchvision_sets
from intrinsic_lr.data.torchvision_sources import SOURCES


@pytest.mark.parametrize("name", FORMATS)
def test_torchvision_sets_are_read_exactly(name, tmp_path, monkeypatch):
    spec, train, test = make(tmp_path, name, monkeypatch)
    tensors, info = data.prepare(spec, "mine")
    for part, (images, labels) in (("train", train), ("test", test)):
        found = tensors[f"{part}_images"], tensors[f"{part}_labels"]
        assert (found[0].dtype, found[1].dtype) == (torch.uint8, torch.int64)
        assert rows(*found) == rows(channels_first(images), torch.from_numpy(labels))
        assert info[f"{part}_count"] == len(labels)
    pixels = channels_first(train[0]).double().numpy() / 255
    assert info["mean"] == pytest.approx(pixels.mean((0, 2, 3)), rel=1e-12)
    assert info["std"] == pytest.approx(pixels.std((0, 2, 3)), rel=1e-12)
    assert (info["classes"], info["shape"]) == (list(FORMATS[name][2]), list(pixels.shape[1:]))
    assert (info["name"], info["kind"]) == ("mine", "torchvision")


@pytest.mark.parametrize("name", ["CIFAR10", "SVHN"])
def test_image_size_resizes_what_torchvision_shows(name, tmp_path, monkeypatch):
    spec, train, _ = make(tmp_path, name, monkeypatch)
    tensors, info = data.prepare({**spec, "image_size": 4}, "mine")
    expected = [np.asarray(Image.fromarray(image).resize((4, 4), Image.BILINEAR)) for image in train[0]]
    assert info["shape"][1:] == [4, 4]
    assert torch.equal(tensors["train_images"], channels_first(np.stack(expected)))


@pytest.mark.parametrize(
    ("name", "download"),
    [*((name, False) for name in SOURCES), *((name, True) for name in SOURCES if not SOURCES[name].archives)],
)
def test_a_missing_set_is_named_with_what_can_be_done(name, download, tmp_path):
    """torchvision knows the class and takes the arguments; nothing is looked for elsewhere."""
    root = tmp_path / "nothing"
    message = refusal({"kind": "torchvision", "dataset": name, "root": str(root), "download": download})
    assert all(word in message for word in (repr(str(root)), name, f"torchvision.datasets.{SOURCES[name].loader}"))
    assert ("or download: true" in message) == bool(SOURCES[name].archives)
    assert not any(mistake in message for mistake in ("TypeError", "ValueError", "AttributeError"))
    assert not root.exists()


@pytest.mark.parametrize("name", ["FashionMNIST", "QMNIST"])
def test_packed_idx_files_are_read_where_they_are(name, tmp_path, monkeypatch):
    """However they were compressed: their MD5 is not torchvision's."""
    spec, _, _ = make(tmp_path, name, monkeypatch)
    plain, _ = data.prepare(spec, "mine")
    pack(tmp_path / name / "raw")
    before = sorted(tmp_path.rglob("*"))
    tensors, _ = data.prepare(spec, "mine")
    assert all(torch.equal(tensors[key], plain[key]) for key in plain)
    assert sorted(tmp_path.rglob("*")) == before
    before[-1].write_bytes(before[-1].read_bytes()[:-9])
    assert f"{name} cannot be read from" in refusal(spec)


@pytest.mark.parametrize("place", ["tempfile.TemporaryDirectory", "pathlib.Path.write_bytes"])
def test_no_room_to_unpack_is_not_taken_for_a_damaged_archive(place, tmp_path, monkeypatch):
    spec, _, _ = make(tmp_path, "MNIST", monkeypatch)
    pack(tmp_path / "MNIST/raw")

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(place, full)
    with pytest.raises(InputError, match=r"cannot be written \(No space left on device\).* make room"):
        data.prepare({**spec, "download": True}, "mine")


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("file", ["data_batch_1", "test_batch", "batches.meta"])
@pytest.mark.parametrize("download", [False, True])
def test_a_pickle_other_than_torchvisions_is_never_opened(file, download, tmp_path, monkeypatch):
    spec, _, _ = make(tmp_path, "CIFAR10", monkeypatch)
    path = tmp_path / "cifar-10-batches-py" / file
    path.write_bytes(pickle.dumps(Trap(tmp_path / "trapped")))
    assert f"{str(path)!r} is damaged or another file" in refusal({**spec, "download": download})
    assert not (tmp_path / "trapped").exists()
    pickle.loads(path.read_bytes())
    assert (tmp_path / "trapped").exists()


def test_only_loaders_whose_files_are_checked_open_pickles():
    modules = {source.loader: sys.modules[getattr(tv, source.loader).__module__] for source in SOURCES.values()}
    sources = {loader: inspect.getsource(module) for loader, module in modules.items()}
    assert {loader for loader, source in sources.items() if "pickle" in source} == {"CIFAR10", "CIFAR100"}
    for source in sources.values():
        assert source.count("torch.load(") == source.count("weights_only=True")
        assert "allow_pickle" not in source


@pytest.mark.parametrize(
    ("name", "file"),
    [
        *(("MNIST", "t10k-labels-idx1-ubyte"), ("QMNIST", "qmnist-train-labels-idx2-int")),
        *(("CIFAR10", "data_batch_4"), ("CIFAR100", "meta"), ("SVHN", "test_32x32.mat")),
    ],
)
def test_a_missing_or_changed_file_is_named(name, file, tmp_path, monkeypatch):
    spec, *_ = make(tmp_path, name, monkeypatch)
    (path,) = tmp_path.rglob(file)
    path.write_bytes(path.read_bytes()[:-1])
    assert f"{file}' is damaged" in refusal(spec) or f"{name} cannot be read" in refusal(spec)
    path.unlink()
    assert name in refusal(spec)


def test_images_and_labels_of_mnist_that_do_not_fit_are_refused(tmp_path, monkeypatch):
    spec, (_, train), (_, test) = make(tmp_path, "MNIST", monkeypatch)
    raw = tmp_path / "MNIST/raw"

    def write(part, labels):
        idx(raw / f"{part}-labels-idx1-ubyte", labels.astype(np.uint8))

    for part, title, labels in (("train", "training", train), ("t10k", "test", test)):
        write(part, np.where(labels == 9, 1, labels))
        assert f"no {title} image of the class '9 - nine'" in refusal(spec)
        write(part, labels)
    assert "expected 17 training images, got 18" in refusal({**spec, "train_count": 17})
    message = refusal({key: value for key, value in spec.items() if key != "train_count"})
    assert all(word in message for word in (repr(str(tmp_path)), "60000", "train_count: 18"))
    write("train", np.where(np.arange(len(train)) == 3, 77, train))
    assert "must be 0 to 9, got 77 at training image 3" in refusal(spec)
    write("train", train[:5])
    assert "training image 5 cannot be read" in refusal(spec)
    idx(raw / "t10k-images-idx3-ubyte", np.zeros((11, 7, 5), np.int32), code=12)
    assert "MNIST cannot be read from" in refusal(spec)


def test_a_set_without_half_of_its_test_images_is_refused(tmp_path, monkeypatch):
    spec, *_ = make(tmp_path, "Country211", monkeypatch)
    source = replace(SOURCES["Country211"], counts=(spec.pop("train_count"), 8))
    monkeypatch.setattr(torchvision_sets, "SOURCES", {**SOURCES, "Country211": source})
    assert "4 test images" in refusal(spec)


def test_an_unreadable_image_and_one_of_another_size_are_named(tmp_path, monkeypatch):
    spec, *_ = make(tmp_path, "Country211", monkeypatch)
    odd = next((tmp_path / "country211/test/cat").iterdir())
    save(odd, np.zeros((9, 9, 3), np.uint8))
    message = refusal(spec)
    assert f"{str(odd)!r} (9x9)" in message
    assert "image_size" in message
    assert data.prepare({**spec, "image_size": 5}, "mine")[1]["shape"] == [3, 5, 5]
    odd.write_bytes(odd.read_bytes()[:40])
    assert f"{str(odd)!r} cannot be read" in refusal({**spec, "image_size": 5})
