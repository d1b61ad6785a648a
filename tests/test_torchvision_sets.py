"""torchvision's own loaders read small sets written in its formats; what is damaged is named and never opened."""

import gzip
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

from intrinsic_lr.data import dataset as data
from intrinsic_lr.data import torchvision_sets
from intrinsic_lr.data.dataset_names import SOURCES, TORCHVISION
from written_sets import FORMATS, channels_first, idx, make, md5, pack, refusal, rows, save

IDX = [name for name in FORMATS if SOURCES[name].idx]


@pytest.mark.parametrize("name", FORMATS)
def test_torchvision_sets_are_read_exactly(name, tmp_path, monkeypatch):
    spec, train, test = make(tmp_path, name, monkeypatch)
    tensors, info = data.prepare(spec, "mine")
    for part, (images, labels) in (("train", train), ("test", test)):
        found = tensors[f"{part}_images"], tensors[f"{part}_labels"]
        assert (found[0].dtype, found[1].dtype) == (torch.uint8, torch.int64)
        assert rows(*found) == rows(channels_first(images), torch.from_numpy(labels))
    pixels = channels_first(train[0]).double().numpy() / 255
    assert info["mean"] == pytest.approx(pixels.mean((0, 2, 3)), rel=1e-12)
    assert info["std"] == pytest.approx(pixels.std((0, 2, 3)), rel=1e-12)
    assert info["classes"] == list(FORMATS[name][2])
    assert info["shape"] == list(channels_first(train[0]).shape[1:])
    assert (info["train_count"], info["test_count"]) == (len(train[1]), len(test[1]))
    assert (info["name"], info["kind"]) == ("mine", "torchvision")


def test_every_name_is_a_class_of_torchvision_whose_format_is_tested():
    assert all(hasattr(tv, source.loader) for source in SOURCES.values())
    assert {SOURCES[name].loader for name in FORMATS} == {SOURCES[name].loader for name in TORCHVISION}


@pytest.mark.parametrize("name", ["USPS", "CIFAR10", "SVHN"])
def test_image_size_resizes_what_torchvision_shows(name, tmp_path, monkeypatch):
    spec, train, _ = make(tmp_path, name, monkeypatch)
    tensors, info = data.prepare({**spec, "image_size": 4}, "mine")
    expected = [np.asarray(Image.fromarray(image).resize((4, 4), Image.BILINEAR)) for image in train[0]]
    assert info["shape"][1:] == [4, 4]
    assert torch.equal(tensors["train_images"], channels_first(np.stack(expected)))


@pytest.mark.parametrize("name", IDX)
def test_packed_idx_files_are_read_where_they_lie(name, tmp_path, monkeypatch):
    spec, _, _ = make(tmp_path, name, monkeypatch)
    plain, _ = data.prepare(spec, "mine")
    folder = tmp_path / SOURCES[name].folder
    pack(folder)
    before = sorted(tmp_path.rglob("*"))
    tensors, _ = data.prepare(spec, "mine")
    assert all(torch.equal(tensors[key], plain[key]) for key in plain)
    assert sorted(tmp_path.rglob("*")) == before


def test_files_of_torchvisions_older_format_are_not_preferred(tmp_path, monkeypatch):
    spec, train, _ = make(tmp_path, "MNIST", monkeypatch)
    processed = tmp_path / "MNIST/processed"
    processed.mkdir()
    for name in ("training.pt", "test.pt"):
        torch.save((torch.zeros(18, 7, 5, dtype=torch.uint8), torch.arange(18) % 10), processed / name)
    assert torch.equal(data.prepare(spec, "mine")[0]["train_images"], channels_first(train[0]))


@pytest.mark.parametrize("name", TORCHVISION)
def test_a_missing_folder_is_named_for_every_set(name, tmp_path):
    message = refusal({"kind": "torchvision", "dataset": name, "root": str(tmp_path / "nothing")})
    assert str(tmp_path / "nothing" / SOURCES[name].folder) in message
    assert name in message
    assert ("download: true" in message) == SOURCES[name].downloads


def test_a_set_cannot_be_downloaded_without_a_hash(tmp_path):
    for name in TORCHVISION:
        if not SOURCES[name].downloads:
            message = refusal({"kind": "torchvision", "dataset": name, "root": str(tmp_path), "download": True})
            assert "mine.download: found true" in message
            assert str(tmp_path / SOURCES[name].folder) in message


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("MNIST", "MNIST/raw/t10k-labels-idx1-ubyte"),
        ("QMNIST", "QMNIST/raw/qmnist-train-labels-idx2-int"),
        ("CIFAR10", "cifar-10-batches-py/data_batch_4"),
        ("CIFAR100", "cifar-100-python/meta"),
        ("STL10", "stl10_binary/train_X.bin"),
        ("SVHN", "test_32x32.mat"),
        ("USPS", "usps.bz2"),
    ],
)
def test_a_missing_or_changed_file_is_named(name, file, tmp_path, monkeypatch):
    spec, _, _ = make(tmp_path, name, monkeypatch)
    path = tmp_path / file
    path.write_bytes(path.read_bytes()[:-1])
    assert f"{str(path)!r} is " in refusal(spec)
    path.unlink()
    assert f"found no file {str(path)!r}" in refusal(spec)


def test_an_archive_that_lies_unpacked_gets_the_advice(tmp_path, monkeypatch):
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"")
    message = refusal({"kind": "torchvision", "dataset": "CIFAR10", "root": str(tmp_path)})
    assert "download: true, which checks and unpacks cifar-10-python.tar.gz" in message


@pytest.mark.parametrize("keep", [0, 3, 9, 40])
def test_idx_files_cut_short_are_named(keep, tmp_path, monkeypatch):
    spec, _, _ = make(tmp_path, "MNIST", monkeypatch)
    path = tmp_path / "MNIST/raw/train-images-idx3-ubyte"
    content = path.read_bytes()
    path.write_bytes(content[:keep])
    assert f"mine.root: {str(path)!r}" in refusal(spec)
    path.unlink()
    packed = path.with_name(f"{path.name}.gz")
    packed.write_bytes(gzip.compress(content[:keep]))
    assert f"mine.root: {str(packed)!r}" in refusal(spec)
    packed.write_bytes(gzip.compress(content)[:keep])
    assert f"mine.root: {str(packed)!r} cannot be " in refusal(spec)


def test_an_idx_file_of_another_kind_is_refused(tmp_path, monkeypatch):
    spec, _, _ = make(tmp_path, "MNIST", monkeypatch)
    idx(tmp_path / "MNIST/raw/t10k-images-idx3-ubyte", np.zeros((11, 7, 5), np.int32), code=12)
    assert "MNIST cannot be read from" in refusal(spec)


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
    loaders = {getattr(tv, source.loader) for source in SOURCES.values()}
    pickled = {
        loader.__name__ for loader in loaders if "pickle" in inspect.getsource(sys.modules[loader.__module__])
    }
    assert pickled == {"CIFAR10", "CIFAR100"}
    for loader in loaders:
        source = inspect.getsource(sys.modules[loader.__module__])
        assert source.count("torch.load(") == source.count("weights_only=True")
        assert "allow_pickle" not in source


def test_a_cifar_batch_without_labels_is_refused(tmp_path, monkeypatch):
    spec, _, _ = make(tmp_path, "CIFAR10", monkeypatch)
    path = tmp_path / "cifar-10-batches-py/test_batch"
    path.write_bytes(pickle.dumps({"data": np.zeros((1, 3072), np.uint8)}))
    monkeypatch.setattr(tv.CIFAR10, "test_list", [[path.name, md5(path)]])
    assert "KeyError: 'fine_labels'" in refusal(spec)


def test_labels_outside_the_classes_are_refused(tmp_path, monkeypatch):
    spec, (_, labels), _ = make(tmp_path, "MNIST", monkeypatch)
    labels[3] = 77
    idx(tmp_path / "MNIST/raw/train-labels-idx1-ubyte", labels.astype(np.uint8))
    assert "found the label 77 at training image 3; allowed: 0 to 9" in refusal(spec)


@pytest.mark.parametrize(("file", "title"), [("train", "training"), ("t10k", "test")])
def test_a_class_that_no_image_has_is_named(file, title, tmp_path, monkeypatch):
    spec, (_, train), (_, test) = make(tmp_path, "MNIST", monkeypatch)
    labels = train if file == "train" else test
    labels[labels == 9] = 1
    idx(tmp_path / f"MNIST/raw/{file}-labels-idx1-ubyte", labels.astype(np.uint8))
    assert f"found no {title} image of the class '9 - nine'" in refusal(spec)


def test_images_without_labels_are_refused(tmp_path, monkeypatch):
    spec, (_, labels), _ = make(tmp_path, "MNIST", monkeypatch)
    idx(tmp_path / "MNIST/raw/train-labels-idx1-ubyte", labels[:5].astype(np.uint8))
    assert "found 18 training images and 5 labels" in refusal(spec)


def test_another_number_of_images_than_the_set_has_is_refused(tmp_path, monkeypatch):
    spec, _, _ = make(tmp_path, "MNIST", monkeypatch)
    del spec["train_count"]
    message = refusal(spec)
    assert f"found 18 training images in {str(tmp_path / 'MNIST/raw')!r}, where MNIST has 60000" in message
    assert "train_count: 18" in message
    assert "found 18 training images where 17 were planned" in refusal({**spec, "train_count": 17})


def test_a_set_without_half_of_its_test_images_is_refused(tmp_path, monkeypatch):
    spec, _, _ = make(tmp_path, "Country211", monkeypatch)
    counts = spec.pop("train_count"), 8
    source = replace(SOURCES["Country211"], counts=counts)
    monkeypatch.setattr(torchvision_sets, "SOURCES", {**SOURCES, "Country211": source})
    assert "found 4 test images" in refusal(spec)


def test_an_unreadable_image_of_a_torchvision_set_is_named(tmp_path, monkeypatch):
    spec, _, _ = make(tmp_path, "Food101", monkeypatch)
    path = next((tmp_path / "food-101/images/bee").glob("train*"))
    path.write_bytes(path.read_bytes()[:60])
    assert f"{str(path)!r} cannot be read" in refusal(spec)


def test_a_torchvision_set_of_mixed_sizes_needs_image_size(tmp_path, monkeypatch):
    spec, _, _ = make(tmp_path, "GTSRB", monkeypatch)
    odd = tmp_path / "gtsrb/GTSRB/Final_Test/Images/00002.ppm"
    save(odd, np.zeros((9, 9, 3), np.uint8))
    message = refusal(spec)
    assert f"00000.ppm' (6x8) and {str(odd)!r} (9x9)" in message
    assert "image_size" in message
    assert data.prepare({**spec, "image_size": 5}, "mine")[1]["shape"] == [3, 5, 5]


def test_pcam_without_h5py_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    (tmp_path / "pcam").mkdir()
    assert "h5py" in refusal({"kind": "torchvision", "dataset": "PCAM", "root": str(tmp_path)})
