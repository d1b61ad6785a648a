"""torchvision's sets of labelled images: which a config can name, and how they are read. No torch at import.

A set is listed when torchvision has labelled training and test images of the same classes; for ImageNet and
Imagenette the validation images are the test set. Images are as torchvision gives them: EMNIST transposed.
"""

import gzip
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.data import downloads
from intrinsic_lr.data.splits import Split, decode, reason


@dataclass(frozen=True)
class Source:
    """How torchvision opens a data set, and the sizes of a whole one.

    Attributes:
        loader: the class in `torchvision.datasets`.
        splits: keyword arguments that select the training and the test images.
        counts: numbers of training and of test images, by the set's publication or torchvision's documentation.
        archives: the files that torchvision downloads and checks by their MD5, below `root`; empty for sets that
            it cannot download, or (FGVCAircraft) would download unchecked.
        shape, classes: (C, H, W) of an image and number of classes, where all images have one size.
    """

    loader: str
    splits: tuple[Mapping[str, Any], Mapping[str, Any]]
    counts: tuple[int, int]
    archives: tuple[str, ...] = ()
    shape: tuple[int, int, int] | None = None
    classes: int = 0


def _idx(
    loader: str, train: str = "train", test: str = "t10k", labels: str = "labels-idx1-ubyte", tests: int = 10_000
) -> Source:
    files = [f"{loader}/raw/{part}-{kind}.gz" for part in (train, test) for kind in ("images-idx3-ubyte", labels)]
    return Source(loader, _FLAG, (60_000, tests), tuple(files), (1, 28, 28), 10)


def _emnist(split: str, counts: tuple[int, int], classes: int) -> Source:
    arguments = tuple({"split": split, **flag} for flag in _FLAG)
    return Source("EMNIST", arguments, counts, ("EMNIST/raw/gzip.zip",), (1, 28, 28), classes)


def _below(folder: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{folder}/{name}" for name in names)


_TITLES = ("training", "test")
_FLAG = ({"train": True}, {"train": False})
_TEST = ({"split": "train"}, {"split": "test"})
_TRAINVAL = ({"split": "trainval"}, {"split": "test"})
_VALIDATION = ({"split": "train"}, {"split": "val"})
_GTSRB = _below("gtsrb", "GTSRB-Training_fixed.zip", "GTSRB_Final_Test_Images.zip", "GTSRB_Final_Test_GT.zip")
_FLOWERS = _below("flowers-102", "102flowers.tgz", "imagelabels.mat", "setid.mat")
_PETS = _below("oxford-iiit-pet", "images.tar.gz", "annotations.tar.gz")
_PCAM = [f"camelyonpatch_level_2_split_{part}.h5.gz" for part in ("train_x", "train_y", "test_x", "test_y")]

SOURCES: Mapping[str, Source] = {
    **{name: _idx(name) for name in ("MNIST", "FashionMNIST", "KMNIST")},
    "QMNIST": _idx("QMNIST", "qmnist-train", "qmnist-test", "labels-idx2-int", 60_000),
    "EMNIST-balanced": _emnist("balanced", (112_800, 18_800), 47),
    "EMNIST-byclass": _emnist("byclass", (697_932, 116_323), 62),
    "EMNIST-bymerge": _emnist("bymerge", (697_932, 116_323), 47),
    "EMNIST-digits": _emnist("digits", (240_000, 40_000), 10),
    "EMNIST-letters": _emnist("letters", (124_800, 20_800), 26),
    "EMNIST-mnist": _emnist("mnist", (60_000, 10_000), 10),
    "USPS": Source("USPS", _FLAG, (7_291, 2_007), ("usps.bz2", "usps.t.bz2"), (1, 16, 16), 10),
    "CIFAR10": Source("CIFAR10", _FLAG, (50_000, 10_000), ("cifar-10-python.tar.gz",), (3, 32, 32), 10),
    "CIFAR100": Source("CIFAR100", _FLAG, (50_000, 10_000), ("cifar-100-python.tar.gz",), (3, 32, 32), 100),
    "SVHN": Source("SVHN", _TEST, (73_257, 26_032), ("train_32x32.mat", "test_32x32.mat"), (3, 32, 32), 10),
    "STL10": Source("STL10", _TEST, (5_000, 8_000), ("stl10_binary.tar.gz",), (3, 96, 96), 10),
    "Country211": Source("Country211", _TEST, (31_650, 21_100), ("country211.tgz",)),
    "DTD": Source("DTD", _TEST, (1_880, 1_880), ("dtd/dtd-r1.0.1.tar.gz",)),
    "FER2013": Source("FER2013", _TEST, (28_709, 7_178)),
    "FGVCAircraft": Source("FGVCAircraft", _TRAINVAL, (6_667, 3_333)),
    "Flowers102": Source("Flowers102", _TEST, (1_020, 6_149), _FLOWERS),
    "Food101": Source("Food101", _TEST, (75_750, 25_250), ("food-101.tar.gz",)),
    "GTSRB": Source("GTSRB", _TEST, (26_640, 12_630), _GTSRB),
    "ImageNet": Source("ImageNet", _VALIDATION, (1_281_167, 50_000)),
    "Imagenette": Source("Imagenette", _VALIDATION, (9_469, 3_925), ("imagenette2.tgz",)),
    "OxfordIIITPet": Source("OxfordIIITPet", _TRAINVAL, (3_680, 3_669), _PETS),
    "PCAM": Source("PCAM", _TEST, (262_144, 32_768), _below("pcam", *_PCAM)),
    "RenderedSST2": Source("RenderedSST2", _TEST, (6_920, 1_821), ("rendered-sst2.tgz",)),
    "StanfordCars": Source("StanfordCars", _TEST, (8_144, 8_041)),
}
"""Name in a config -> how torchvision opens it."""


class _MissingError(InputError):
    """The set, or a part of it, is missing: a download can help."""


def read(spec: Mapping[str, Any], place: str) -> tuple[Split, Split, str]:
    """Read the training and the test images of a set, after downloading it if that is needed and allowed."""
    source, root = SOURCES[spec["dataset"]], Path(os.path.expanduser(spec["root"]))
    if spec.get("download") and not source.archives:
        raise InputError(
            f"{place}.download: must be false for {spec['dataset']}, which cannot be downloaded with a check of "
            f"its hash; put its files below {str(root)!r}, laid out as torchvision.datasets.{source.loader} does"
        )
    try:
        opened = _open(spec, root, place)
    except _MissingError:
        if not spec.get("download"):
            raise
        with downloads.lock(root, place):
            # Another process may have downloaded it while this one waited.
            try:
                opened = _open(spec, root, place)
            except _MissingError:
                downloads.download(spec["dataset"], source, root, place)
                opened = _open(spec, root, place)
    train, test = (_split(part, title, spec, place) for part, title in zip(opened, _TITLES, strict=True))
    return train, test, f"torchvision.datasets.{source.loader}"


def _open(spec: Mapping[str, Any], root: Path, place: str) -> list[Any]:
    """Return torchvision's objects for the training and the test images."""
    import torchvision.datasets

    name, source = spec["dataset"], SOURCES[spec["dataset"]]
    expected = f"the whole set, laid out as torchvision.datasets.{source.loader} does"
    if spec.get("download"):
        expected += ", or nothing of it, to be downloaded: remove or rename what is damaged"
    elif source.archives:
        expected += f", or download: true, which also unpacks {', '.join(source.archives)} where they are there"
    loader = getattr(torchvision.datasets, source.loader)
    try:
        _check_files(loader, root, place)
        with _unpacked(source, root) as readable:
            parts = [loader(str(readable), **arguments) for arguments in source.splits]
    except InputError:
        raise
    # The loaders raise whatever their parsers do on missing and damaged files: RuntimeError, EOFError, KeyError...
    except Exception as error:
        raise _MissingError(
            f"{place}.root: {name} cannot be read from {str(root)!r} ({reason(error)}); expected {expected}"
        ) from None
    for part, title, count in zip(parts, _TITLES, source.counts, strict=True):
        if "train_count" not in spec and len(part) != count:
            raise InputError(
                f"{place}.root: {str(root)!r} has {len(part)} {title} images of {name}, expected {count}; "
                f"to use these set train_count: {len(parts[0])}"
            )
    return parts


def _check_files(loader: Any, root: Path, place: str) -> None:
    """Check the files that a torchvision class lists with their MD5: CIFAR's are pickles, which could run code."""
    from torchvision.datasets.utils import check_integrity

    listed = [*getattr(loader, "train_list", ()), *getattr(loader, "test_list", ())]
    if meta := getattr(loader, "meta", None):
        listed.append((meta["filename"], meta["md5"]))
    listed += [part[1:3] for name, part in getattr(loader, "split_list", {}).items() if name in ("train", "test")]
    for name, md5 in listed:
        path = root / getattr(loader, "base_folder", "") / name
        if not path.is_file():
            raise FileNotFoundError(f"no file {str(path)!r}")
        if not check_integrity(path, md5):
            raise InputError(
                f"{place}.root: {str(path)!r} is damaged or another file; expected one with the MD5 {md5}, "
                "or none, and download: true"
            )


@contextmanager
def _unpacked(source: Source, root: Path) -> Iterator[Path]:
    """Yield a root that torchvision can read: a temporary one where IDX files are there only as gzip files.

    Other copies of these sets are compressed in other ways, so that their MD5 says nothing.
    """
    packed = [archive for archive in source.archives if "-idx" in archive]
    plain = [archive.removesuffix(".gz") for archive in packed]
    if all((root / file).is_file() for file in plain) or not all((root / file).is_file() for file in packed):
        yield root
        return
    with tempfile.TemporaryDirectory() as temporary:
        for archive, file in zip(packed, plain, strict=True):
            target = Path(temporary, file)
            target.parent.mkdir(parents=True, exist_ok=True)
            with gzip.open(root / archive, "rb") as content, open(target, "wb") as handle:
                shutil.copyfileobj(content, handle)
        yield Path(temporary)


def _split(dataset: Any, title: str, spec: Mapping[str, Any], place: str) -> Split:
    def name_of(index: int) -> str:
        for attribute in ("samples", "_samples", "_image_files", "_images"):
            file = getattr(dataset, attribute, {index: None})[index]
            file = file[0] if isinstance(file, tuple) else file
            if isinstance(file, str | Path):
                return repr(str(file))
        return f"{title} image {index}"

    images, labels = decode(len(dataset), dataset.__getitem__, name_of, spec.get("image_size"), place)
    if classes := getattr(dataset, "classes", None):
        classes = [", ".join(name) if isinstance(name, tuple) else str(name) for name in classes]
    if spec["dataset"] == "EMNIST-letters":
        # Its labels begin at 1; torchvision calls the class 0 N/A.
        labels, classes = labels - 1, classes[1:]
    return Split(images, labels, classes, name_of)
