"""Small data sets written in torchvision's own formats, for tests."""

import gzip
import hashlib
import pickle
import string
import struct

import numpy as np
import pytest
import scipy.io
import torch
import torchvision.datasets as tv
from PIL import Image

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.data import dataset as data

NAMES = ["ape", "bee", "cat"]


def pictures(count, *shape):
    """Random uint8 images; no value is 255, which USPS's text format could not tell from 254."""
    return np.random.default_rng(count).integers(0, 255, (count, *shape), dtype=np.uint8)


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def save(path, image):
    """Write an image without loss, whatever the file's name ends in; readers look at the content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, format="PNG")


def idx(path, array, code=8):
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    path.write_bytes(header + array.astype(array.dtype.newbyteorder(">")).tobytes())


# Each writer puts training and test images (NHW or NHWC) and labels below `root` as torchvision expects them.


def write_idx(stem, parts=("train", "test"), first=0):
    def write(root, train, test, monkeypatch):
        for part, (images, labels) in zip(parts, (train, test), strict=True):
            idx(root / f"{stem}{part}-images-idx3-ubyte", images)
            if "qmnist" in stem:
                table = np.column_stack([labels + 100 * i for i in range(8)]).astype(np.int32)
                idx(root / f"{stem}{part}-labels-idx2-int", table, code=12)
            else:
                idx(root / f"{stem}{part}-labels-idx1-ubyte", (labels + first).astype(np.uint8))

    return write


def write_cifar(cls, key, meta):
    def write(root, train, test, monkeypatch):
        folder = root / cls.base_folder
        folder.mkdir()
        names = [name for name, _ in cls.train_list + cls.test_list]
        files = len(names) - 1
        batches = [*zip(*(np.array_split(part, files) for part in train), strict=True), test]
        for name, (images, labels) in zip(names, batches, strict=True):
            rows = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
            (folder / name).write_bytes(pickle.dumps({"data": rows, key: labels.tolist()}))
        path = folder / cls.meta["filename"]
        path.write_bytes(pickle.dumps({meta: NAMES}))
        monkeypatch.setattr(cls, "train_list", [[name, md5(folder / name)] for name in names[:files]])
        monkeypatch.setattr(cls, "test_list", [[name, md5(folder / name)] for name in names[files:]])
        monkeypatch.setattr(cls, "meta", {**cls.meta, "md5": md5(path)})

    return write


def write_svhn(root, train, test, monkeypatch):
    sums = dict(tv.SVHN.split_list)
    for part, (images, labels) in (("train", train), ("test", test)):
        path, numbers = root / f"{part}_32x32.mat", np.where(labels == 0, 10, labels)
        scipy.io.savemat(path, {"X": images.transpose(1, 2, 3, 0), "y": numbers[:, None]})
        sums[part] = ["", path.name, md5(path)]
    monkeypatch.setattr(tv.SVHN, "split_list", sums)


def write_folders(train_folder, test_folder, suffix="png"):
    def write(root, train, test, monkeypatch):
        for folder, (images, labels) in ((train_folder, train), (test_folder, test)):
            for i, (image, label) in enumerate(zip(images, labels, strict=True)):
                save(root / folder / NAMES[label] / f"{i:03d}.{suffix}", image)

    return write


def write_imagenette(root, train, test, monkeypatch):
    monkeypatch.setattr(tv.Imagenette, "_WNID_TO_CLASS", {name: (name, "alias") for name in NAMES})
    write_folders("imagenette2/train", "imagenette2/val", "JPEG")(root, train, test, monkeypatch)


MNIST_PARTS = ("train", "t10k")
GREY, RGB = (7, 5), (6, 8, 3)
# name in the config -> writer, image shape, class names (None: torchvision's own list)
FORMATS = {
    "MNIST": (write_idx("MNIST/raw/", MNIST_PARTS), GREY, tv.MNIST.classes),
    "FashionMNIST": (write_idx("FashionMNIST/raw/", MNIST_PARTS), GREY, tv.FashionMNIST.classes),
    "QMNIST": (write_idx("QMNIST/raw/qmnist-"), GREY, tv.QMNIST.classes),
    "EMNIST-letters": (write_idx("EMNIST/raw/emnist-letters-", first=1), GREY, list(string.ascii_lowercase)),
    "CIFAR10": (write_cifar(tv.CIFAR10, "labels", "label_names"), (32, 32, 3), NAMES),
    "CIFAR100": (write_cifar(tv.CIFAR100, "fine_labels", "fine_label_names"), (32, 32, 3), NAMES),
    "SVHN": (write_svhn, (32, 32, 3), ["0", "1", "2"]),
    "Country211": (write_folders("country211/train", "country211/test"), RGB, NAMES),
    "Imagenette": (write_imagenette, RGB, [f"{name}, alias" for name in NAMES]),
}


def channels_first(images):
    return torch.from_numpy(images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2).copy())


def rows(images, labels):
    """Pairs of label and pixels in a canonical order: loaders of folders sort by class."""
    return sorted(zip(labels.tolist(), images.flatten(1).tolist(), strict=True))


def labels_of(classes):
    """Training labels and test labels, in no order, with every class in both."""
    train = np.r_[np.arange(classes), np.arange(8) % classes][::-1]
    return train.copy(), np.r_[np.arange(classes), 0][::-1].copy()


def make(root, name, monkeypatch):
    """Write a small data set in its own format; return its definition and what was written."""
    writer, shape, classes = FORMATS[name]
    train, test = ((pictures(len(labels), *shape), labels) for labels in labels_of(len(classes)))
    root.mkdir(exist_ok=True)
    writer(root, train, test, monkeypatch)
    spec = {"kind": "torchvision", "dataset": name, "root": str(root), "train_count": len(train[1])}
    return spec, train, test


def pack(folder):
    """Pack all files of a folder and remove what was packed."""
    for file in sorted(folder.iterdir()):
        file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes(), mtime=0))
        file.unlink()


def refusal(spec):
    """Return the one line with which a definition is refused."""
    with pytest.raises(InputError) as caught:
        data.prepare(spec, "mine")
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("config: datasets.mine")
    return message
