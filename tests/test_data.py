"""The real torchvision loaders read small data that are written here in torchvision's own formats."""

import bz2
import csv
import functools
import gzip
import hashlib
import http.server
import json
import pickle
import struct
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import sklearn.datasets
import torch
import torchvision.datasets as tv
from PIL import Image

from intrinsic_lr import data, prepare_data, storage
from intrinsic_lr.dataset_names import SOURCES, TORCHVISION
from intrinsic_lr.errors import InputError, run_command

TRAIN = np.array([0, 1, 2, 2, 1, 0, 1, 2])
TEST = np.array([2, 1, 0, 0])
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


def write_mnist(name):
    def write(root, train, test, monkeypatch):
        for prefix, (images, labels) in (("train", train), ("t10k", test)):
            idx(root / name / "raw" / f"{prefix}-images-idx3-ubyte", images)
            idx(root / name / "raw" / f"{prefix}-labels-idx1-ubyte", labels.astype(np.uint8))

    return write


def write_emnist(split, first):
    def write(root, train, test, monkeypatch):
        for part, (images, labels) in (("train", train), ("test", test)):
            stem = f"EMNIST/raw/emnist-{split}-{part}"
            idx(root / f"{stem}-images-idx3-ubyte", images)
            idx(root / f"{stem}-labels-idx1-ubyte", (labels + first).astype(np.uint8))

    return write


def write_qmnist(root, train, test, monkeypatch):
    for part, (images, labels) in (("train", train), ("test", test)):
        idx(root / f"QMNIST/raw/qmnist-{part}-images-idx3-ubyte", images)
        table = np.column_stack([labels, *(labels + 100 * i for i in range(1, 8))]).astype(np.int32)
        idx(root / f"QMNIST/raw/qmnist-{part}-labels-idx2-int", table, code=12)


def write_usps(root, train, test, monkeypatch):
    for name, (images, labels) in (("usps.bz2", train), ("usps.t.bz2", test)):
        lines = []
        for image, label in zip(images, labels, strict=True):
            values = 2 * (image.ravel() + 0.5) / 255 - 1
            lines.append(f"{label + 1} " + " ".join(f"{i + 1}:{v:.6f}" for i, v in enumerate(values)))
        (root / name).write_bytes(bz2.compress("\n".join(lines).encode()))


def write_cifar(cls, key, meta):
    def write(root, train, test, monkeypatch):
        folder = root / cls.base_folder
        folder.mkdir()
        files = len(cls.train_list)
        cut = [np.array_split(part, files) for part in train]
        batches = [*zip(*cut, strict=True), test]
        names = [name for name, _ in cls.train_list + cls.test_list]
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
        path = root / f"{part}_32x32.mat"
        scipy.io.savemat(
            path, {"X": images.transpose(1, 2, 3, 0), "y": np.where(labels == 0, 10, labels)[:, None]}
        )
        sums[part] = ["", path.name, md5(path)]
    monkeypatch.setattr(tv.SVHN, "split_list", sums)


def write_stl10(root, train, test, monkeypatch):
    folder = root / "stl10_binary"
    folder.mkdir()
    for part, (images, labels) in (("train", train), ("test", test)):
        (folder / f"{part}_X.bin").write_bytes(images.transpose(0, 3, 2, 1).tobytes())
        (folder / f"{part}_y.bin").write_bytes((labels + 1).astype(np.uint8).tobytes())
    (folder / "unlabeled_X.bin").write_bytes(b"")
    (folder / "class_names.txt").write_text("\n".join(NAMES))
    for name in ("train_list", "test_list"):
        files = [[file, md5(folder / file)] for file, _ in getattr(tv.STL10, name)]
        monkeypatch.setattr(tv.STL10, name, files)


def write_folders(train_folder, test_folder, suffix="png"):
    def write(root, train, test, monkeypatch):
        for folder, (images, labels) in ((train_folder, train), (test_folder, test)):
            for i, (image, label) in enumerate(zip(images, labels, strict=True)):
                save(root / folder / NAMES[label] / f"{i:03d}.{suffix}", image)

    return write


def write_sst2(root, train, test, monkeypatch):
    for part, (images, labels) in (("train", train), ("test", test)):
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            save(root / "rendered-sst2" / part / ("negative", "positive")[label] / f"{i:03d}.png", image)


def write_imagenette(root, train, test, monkeypatch):
    monkeypatch.setattr(tv.Imagenette, "_WNID_TO_CLASS", {name: (name, "alias") for name in NAMES})
    write_folders("imagenette2/train", "imagenette2/val", "JPEG")(root, train, test, monkeypatch)


def write_imagenet(root, train, test, monkeypatch):
    write_folders("train", "val", "JPEG")(root, train, test, monkeypatch)
    torch.save(({name: (name, "alias") for name in NAMES}, NAMES), root / "meta.bin")


def write_gtsrb(root, train, test, monkeypatch):
    base = root / "gtsrb"
    for i, (image, label) in enumerate(zip(*train, strict=True)):
        save(base / "GTSRB/Training" / f"{label:05d}" / f"{i:03d}.ppm", image)
    for i, image in enumerate(test[0]):
        save(base / "GTSRB/Final_Test/Images" / f"{i:05d}.ppm", image)
    with open(base / "GT-final_test.csv", "w", newline="") as handle:
        writer = csv.writer(handle, delimiter=";")
        writer.writerows([("Filename", "ClassId"), *((f"{i:05d}.ppm", c) for i, c in enumerate(test[1]))])


def write_dtd(root, train, test, monkeypatch):
    for part, (images, labels) in (("train", train), ("test", test)):
        files = [f"{NAMES[label]}/{part}{i}.jpg" for i, label in enumerate(labels)]
        for image, file in zip(images, files, strict=True):
            save(root / "dtd/dtd/images" / file, image)
        (root / "dtd/dtd/labels").mkdir(exist_ok=True)
        (root / "dtd/dtd/labels" / f"{part}1.txt").write_text("\n".join(files))


def write_food(root, train, test, monkeypatch):
    for part, (images, labels) in (("train", train), ("test", test)):
        table = {name: [] for name in NAMES}
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            table[NAMES[label]].append(f"{NAMES[label]}/{part}{i}")
            save(root / "food-101/images" / NAMES[label] / f"{part}{i}.jpg", image)
        (root / "food-101/meta").mkdir(exist_ok=True)
        (root / "food-101/meta" / f"{part}.json").write_text(json.dumps(table))


def write_aircraft(root, train, test, monkeypatch):
    folder = root / "fgvc-aircraft-2013b/data"
    for part, (images, labels) in (("trainval", train), ("test", test)):
        for i, image in enumerate(images):
            save(folder / "images" / f"{part}{i}.jpg", image)
        lines = [f"{part}{i} {NAMES[label]}" for i, label in enumerate(labels)]
        (folder / f"images_variant_{part}.txt").write_text("\n".join(lines))
    (folder / "variants.txt").write_text("\n".join(NAMES))


def write_flowers(root, train, test, monkeypatch):
    folder = root / "flowers-102"
    for i, image in enumerate(np.concatenate([train[0], test[0]]), start=1):
        save(folder / "jpg" / f"image_{i:05d}.jpg", image)
    count, total = len(train[1]), len(train[1]) + len(test[1])
    ids = np.arange(1, total + 1)
    labels = np.concatenate([train[1], test[1]]) + 1
    scipy.io.savemat(folder / "imagelabels.mat", {"labels": labels})
    scipy.io.savemat(folder / "setid.mat", {"trnid": ids[:count], "valid": [], "tstid": ids[count:]})
    files = {"image": ("", ""), **{k: (f, md5(folder / f)) for k, f in FLOWER_FILES}}
    monkeypatch.setattr(tv.Flowers102, "_file_dict", files)


FLOWER_FILES = (("label", "imagelabels.mat"), ("setid", "setid.mat"))


def write_pets(root, train, test, monkeypatch):
    folder = root / "oxford-iiit-pet"
    for part, (images, labels) in (("trainval", train), ("test", test)):
        lines = []
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            name = f"{NAMES[label]}_{part}{i}"
            save(folder / "images" / f"{name}.jpg", image)
            lines.append(f"{name} {label + 1} 1 1")
        (folder / "annotations").mkdir(exist_ok=True)
        (folder / "annotations" / f"{part}.txt").write_text("\n".join(lines))


def write_cars(root, train, test, monkeypatch):
    folder = root / "stanford_cars"
    (folder / "devkit").mkdir(parents=True)
    for part, file, (images, labels) in (
        ("train", "devkit/cars_train_annos.mat", train),
        ("test", "cars_test_annos_withlabels.mat", test),
    ):
        table = np.empty(len(labels), dtype=[("fname", object), ("class", object)])
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            table[i] = (f"{i:05d}.jpg", np.uint8(label + 1))
            save(folder / f"cars_{part}" / f"{i:05d}.jpg", image)
        scipy.io.savemat(folder / file, {"annotations": table})
    scipy.io.savemat(folder / "devkit/cars_meta.mat", {"class_names": np.array(NAMES, dtype=object)})


def write_fer(root, train, test, monkeypatch):
    path = root / "fer2013/fer2013.csv"
    path.parent.mkdir()
    with open(path, "w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(("emotion", "pixels", "Usage"))
        for usage, (images, labels) in (("Training", train), ("PublicTest", test)):
            for image, label in zip(images, labels, strict=True):
                writer.writerow((label, " ".join(map(str, image.ravel())), usage))
    monkeypatch.setitem(tv.FER2013._RESOURCES, "fer", (path.name, md5(path)))


def write_pcam(root, train, test, monkeypatch):
    h5py = pytest.importorskip("h5py", reason="torchvision reads PCAM with h5py, which is not installed")
    (root / "pcam").mkdir()
    for part, (images, labels) in (("train", train), ("test", test)):
        files = tv.PCAM._FILES[part]
        with h5py.File(root / "pcam" / files["images"][0], "w") as handle:
            handle["x"] = images
        with h5py.File(root / "pcam" / files["targets"][0], "w") as handle:
            handle["y"] = labels[:, None, None, None]


NUMBERS = ["0", "1", "2"]
ALIASED = [f"{name}, alias" for name in NAMES]
LETTERS = [chr(ord("a") + i) for i in range(26)]
GREY, RGB = (7, 5), (6, 8, 3)
# name in the config -> writer, image shape, class names (None: torchvision's own list)
FORMATS = {
    "MNIST": (write_mnist("MNIST"), GREY, tv.MNIST.classes),
    "FashionMNIST": (write_mnist("FashionMNIST"), GREY, tv.FashionMNIST.classes),
    "KMNIST": (write_mnist("KMNIST"), GREY, tv.KMNIST.classes),
    "QMNIST": (write_qmnist, GREY, tv.QMNIST.classes),
    "EMNIST-letters": (write_emnist("letters", 1), GREY, LETTERS),
    "EMNIST-digits": (write_emnist("digits", 0), GREY, [str(i) for i in range(10)]),
    "USPS": (write_usps, (16, 16), NUMBERS),
    "CIFAR10": (write_cifar(tv.CIFAR10, "labels", "label_names"), (32, 32, 3), NAMES),
    "CIFAR100": (write_cifar(tv.CIFAR100, "fine_labels", "fine_label_names"), (32, 32, 3), NAMES),
    "SVHN": (write_svhn, (32, 32, 3), NUMBERS),
    "STL10": (write_stl10, (96, 96, 3), NAMES),
    "Country211": (write_folders("country211/train", "country211/test"), RGB, NAMES),
    "DTD": (write_dtd, RGB, NAMES),
    "FER2013": (write_fer, (48, 48), NUMBERS),
    "FGVCAircraft": (write_aircraft, RGB, NAMES),
    "Flowers102": (write_flowers, RGB, getattr(tv.Flowers102, "classes", NUMBERS)),
    "Food101": (write_food, RGB, NAMES),
    "GTSRB": (write_gtsrb, RGB, NUMBERS),
    "ImageNet": (write_imagenet, RGB, ALIASED),
    "Imagenette": (write_imagenette, RGB, ALIASED),
    "OxfordIIITPet": (write_pets, RGB, ["Ape", "Bee", "Cat"]),
    "PCAM": (write_pcam, RGB, NUMBERS),
    "RenderedSST2": (write_sst2, RGB, ["negative", "positive"]),
    "StanfordCars": (write_cars, RGB, NAMES),
}


def channels_first(images):
    return torch.from_numpy(images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2).copy())


def rows(images, labels):
    """Pairs of label and pixels in a canonical order: loaders of folders sort by class."""
    pairs = zip(labels.tolist(), images.flatten(1).tolist(), strict=True)
    return sorted(pairs)


def make(root, name, monkeypatch):
    """Write a small data set in its own format; return its definition and what was written."""
    writer, shape, _ = FORMATS[name]
    classes = 2 if name == "RenderedSST2" else 3
    train = (pictures(len(TRAIN), *shape), TRAIN % classes)
    test = (pictures(len(TEST), *shape), TEST % classes)
    root.mkdir(exist_ok=True)
    writer(root, train, test, monkeypatch)
    spec = {"kind": "torchvision", "dataset": name, "root": str(root), "train_count": len(TRAIN)}
    return spec, train, test


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
    assert (info["train_count"], info["test_count"]) == (len(TRAIN), len(TEST))
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


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A folder that torchvision downloads MNIST from, over HTTP."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setattr(tv.MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/MNIST/raw/"])
        yield folder
        server.shutdown()
        thread.join()


def pack(folder, monkeypatch, keep=None):
    """Pack MNIST's files in a folder, cut to the length `keep`, and let torchvision expect just these."""
    resources = []
    for name, _ in tv.MNIST.resources:
        packed = folder / name
        packed.write_bytes(gzip.compress((folder / packed.stem).read_bytes())[:keep])
        resources.append((name, md5(packed)))
    monkeypatch.setattr(tv.MNIST, "resources", resources)


def test_a_download_is_unpacked_and_read(mirror, tmp_path, monkeypatch):
    spec, train, _ = make(mirror, "MNIST", monkeypatch)
    pack(mirror / "MNIST/raw", monkeypatch)
    tensors, _ = data.prepare({**spec, "root": str(tmp_path / "root"), "download": True}, "mine")
    assert torch.equal(tensors["train_images"], channels_first(train[0]))


def refusal(spec, name="mine"):
    with pytest.raises(InputError) as caught:
        data.prepare(spec, name)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("config: datasets.mine")
    assert "allowed: " in message
    return message


def test_a_truncated_download_is_refused(mirror, tmp_path, monkeypatch):
    spec, _, _ = make(mirror, "MNIST", monkeypatch)
    pack(mirror / "MNIST/raw", monkeypatch, keep=30)
    message = refusal({**spec, "root": str(tmp_path / "root"), "download": True})
    assert "mine.root: MNIST cannot be downloaded into or read from" in message
    assert "EOFError" in message


def test_a_failed_download_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(tv.MNIST, "mirrors", ["http://127.0.0.1:9/"])
    spec = {"kind": "torchvision", "dataset": "MNIST", "root": str(tmp_path), "download": True}
    assert "cannot be downloaded into" in refusal(spec)
    assert "Connection refused" in refusal(spec)


@pytest.mark.parametrize("name", TORCHVISION)
def test_a_missing_folder_is_named_for_every_set(name, tmp_path):
    message = refusal({"kind": "torchvision", "dataset": name, "root": str(tmp_path / "nothing")})
    assert str(tmp_path / "nothing" / SOURCES[name].folder) in message
    assert name in message
    assert ("download: true" in message) == SOURCES[name].downloads


def test_packed_files_get_the_advice_to_unpack(tmp_path, monkeypatch):
    spec, _, _ = make(tmp_path, "MNIST", monkeypatch)
    pack(tmp_path / "MNIST/raw", monkeypatch)
    (tmp_path / "MNIST/raw/train-images-idx3-ubyte").unlink()
    assert "allowed: the .gz files there unpacked, or download: true" in refusal(spec)


def test_sets_without_download_say_so(tmp_path):
    message = refusal({"kind": "torchvision", "dataset": "FER2013", "root": str(tmp_path), "download": True})
    assert "mine.download: found true" in message
    assert str(tmp_path / "fer2013") in message


@pytest.mark.parametrize("keep", [0, 3, 9, 40])
def test_truncated_idx_files_are_refused(keep, tmp_path, monkeypatch):
    spec, _, _ = make(tmp_path, "MNIST", monkeypatch)
    path = tmp_path / "MNIST/raw/train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:keep])
    assert f"mine.root: MNIST cannot be read from {str(path.parent)!r}" in refusal(spec)


def test_a_changed_cifar_batch_is_refused(tmp_path, monkeypatch):
    spec, _, _ = make(tmp_path, "CIFAR10", monkeypatch)
    with open(tmp_path / "cifar-10-batches-py/data_batch_3", "ab") as handle:
        handle.write(b"more")
    assert "CIFAR10 cannot be read from" in refusal(spec)


def test_a_cifar_batch_without_labels_is_refused(tmp_path, monkeypatch):
    spec, _, _ = make(tmp_path, "CIFAR10", monkeypatch)
    path = tmp_path / "cifar-10-batches-py/test_batch"
    path.write_bytes(pickle.dumps({"data": np.zeros((1, 3072), np.uint8)}))
    monkeypatch.setattr(tv.CIFAR10, "test_list", [[path.name, md5(path)]])
    assert "KeyError: 'fine_labels'" in refusal(spec)


def test_labels_outside_the_classes_are_refused(tmp_path, monkeypatch):
    spec, _, _ = make(tmp_path, "MNIST", monkeypatch)
    labels = TRAIN.astype(np.uint8)
    labels[3] = 77
    idx(tmp_path / "MNIST/raw/train-labels-idx1-ubyte", labels)
    assert "found the label 77; allowed: 0 to 9" in refusal(spec)


def test_images_without_labels_are_refused(tmp_path, monkeypatch):
    spec, _, _ = make(tmp_path, "MNIST", monkeypatch)
    idx(tmp_path / "MNIST/raw/train-labels-idx1-ubyte", TRAIN[:5].astype(np.uint8))
    assert "found 8 training images and 5 labels" in refusal(spec)


def test_a_torchvision_set_of_mixed_sizes_needs_image_size(tmp_path, monkeypatch):
    spec, _, _ = make(tmp_path, "GTSRB", monkeypatch)
    save(tmp_path / "gtsrb/GTSRB/Final_Test/Images/00002.ppm", np.zeros((9, 9, 3), np.uint8))
    message = refusal(spec)
    assert "test image 0 (6x8) and test image 2 (9x9)" in message
    assert "image_size" in message
    assert data.prepare({**spec, "image_size": 5}, "mine")[1]["shape"] == [3, 5, 5]


def test_pcam_without_h5py_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    (tmp_path / "pcam").mkdir()
    assert "h5py" in refusal({"kind": "torchvision", "dataset": "PCAM", "root": str(tmp_path)})


def test_another_number_of_images_than_planned_is_refused(tmp_path, monkeypatch):
    spec, _, _ = make(tmp_path, "MNIST", monkeypatch)
    del spec["train_count"]
    assert "found 8 training images where 60000 were planned with" in refusal(spec)
    assert "train_count: 8" in refusal(spec)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    images = pictures(len(TRAIN), 6, 8, 3)
    train, test = (images, TRAIN), (images[: len(TEST)], TEST)
    write_folders("train", "test")(tmp_path, train, test, monkeypatch)
    return {"kind": "image_folder", "root": str(tmp_path)}


def test_an_image_folder_is_read_exactly(folder):
    tensors, info = data.prepare(folder, "mine")
    expected = channels_first(pictures(len(TRAIN), 6, 8, 3)), torch.from_numpy(TRAIN)
    assert rows(tensors["train_images"], tensors["train_labels"]) == rows(*expected)
    assert info["classes"] == NAMES
    assert info["shape"] == [3, 6, 8]
    assert info["train_count"] == len(TRAIN)


def test_an_image_folder_can_be_read_grey_and_small(folder):
    tensors, info = data.prepare({**folder, "grayscale": True, "image_size": 6}, "mine")
    assert info["shape"] == [1, 6, 6]
    with Image.open(Path(folder["root"], "train/ape/000.png")) as image:
        expected = np.array(image.convert("L").crop((1, 0, 7, 6)))
    assert torch.equal(tensors["train_images"][0, 0], torch.from_numpy(expected))


@pytest.mark.parametrize("content", [b"", b"not an image", "cut"])
def test_an_unreadable_image_is_named(folder, content):
    path = Path(folder["root"], "test/bee/001.png")
    path.write_bytes(path.read_bytes()[:60] if content == "cut" else content)
    assert f"{path} cannot be read" in refusal(folder)


def test_differing_sizes_name_the_first_two_files(folder):
    odd = Path(folder["root"], "train/bee/004.png")
    save(odd, np.zeros((6, 9, 3), np.uint8))
    first = Path(folder["root"], "train/ape/000.png")
    assert f"{first} (6x8) and {odd} (6x9)" in refusal(folder)
    assert data.prepare({**folder, "image_size": 3}, "mine")[1]["shape"] == [3, 3, 3]


def test_differing_sizes_of_train_and_test_are_refused(folder):
    for path in Path(folder["root"], "test").glob("*/*"):
        save(path, np.zeros((4, 4, 3), np.uint8))
    assert "train/ape/000.png (6x8) and " in refusal(folder)


def test_a_class_without_test_images_is_named(folder):
    for path in Path(folder["root"], "test/cat").iterdir():
        path.unlink()
    assert "classes cat" in refusal(folder)
    Path(folder["root"], "test/cat").rmdir()
    assert str(Path(folder["root"], "test/cat")) in refusal(folder)


def test_images_of_one_value_are_refused(folder):
    for path in Path(folder["root"]).glob("*/*/*"):
        save(path, np.full((2, 2, 3), 7, np.uint8))
    assert "every training pixel of channel 0 is 7" in refusal(folder)


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


@pytest.mark.parametrize("fraction", [0.001, 0.9999, "half"])
def test_digits_that_cannot_be_split_are_refused(fraction):
    assert "mine.test_fraction: found" in refusal({"kind": "digits", "test_fraction": fraction})


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
    assert f"mine.subset: found {count}; allowed: from 10" in message


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"kind": "numbers"}, "mine.kind: found 'numbers'; allowed: digits, torchvision, image_folder"),
        (["digits"], "mine.kind: found None"),
        ({"kind": "digits", "subset": "ten"}, "mine.subset: found 'ten'"),
        ({"kind": "digits", "root": "x"}, "mine.root"),
        ({"kind": "torchvision", "root": "x", "dataset": "MNISTT"}, "unknown data set 'MNISTT'"),
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
    images = dataset.normalise(dataset.train_images.view(2, 100, 1, 8, 8))
    assert images.dtype == dtype
    assert images.shape == (2, 100, 1, 8, 8)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-12
    assert abs(images.double().mean()) < tolerance
    assert abs(images.double().std(correction=0) - 1) < tolerance
    pixel = (dataset.test_images[3, 0, 4, 4].item() / 255 - info["mean"][0]) / info["std"][0]
    assert dataset.normalise(dataset.test_images[3])[0, 4, 4].item() == pytest.approx(pixel, abs=tolerance)


def test_channels_are_normalised_each_by_its_own_statistics():
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([1.0, 2.0, 4.0])
    dataset = data.Dataset(*[torch.empty(0)] * 4, mean, std, {})
    images = torch.full((2, 5, 3, 2, 2), 255, dtype=torch.uint8)
    expected = torch.tensor([0.9, 0.4, 0.175])[:, None, None].expand(2, 5, 3, 2, 2)
    torch.testing.assert_close(dataset.normalise(images), expected)


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
    with pytest.raises(InputError, match=rf"snakemake --cores 1 --force {written[0]}"):
        data.load(*written, "cpu", torch.float32)


def test_a_description_of_something_else_is_refused(written):
    written[1].write_text("[]")
    with pytest.raises(InputError, match="does not describe a data set"):
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
        "import sys, intrinsic_lr.dataset_names; assert 'torch' not in sys.modules;"
        "from intrinsic_lr import data; data.prepare({'kind': 'digits'}, 'd');"
        "assert 'torchvision' not in sys.modules"
    )
    library = Path(data.__file__).parents[1]
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(library)})
