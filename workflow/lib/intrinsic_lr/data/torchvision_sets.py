"""Labelled images of torchvision's data sets, opened only from files that are all there and whole."""

import gzip
import math
import os
import shutil
import struct
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.data.dataset_names import SOURCES, Source
from intrinsic_lr.data.downloads import alone, fetch
from intrinsic_lr.data.splits import Split, channels_first, decode, reason

# Bytes of a number of an IDX file, by the code in its third byte (the format of http://yann.lecun.com/exdb/mnist/).
_IDX_SIZES = {0x08: 1, 0x09: 1, 0x0B: 2, 0x0C: 4, 0x0D: 4, 0x0E: 8}


class _AbsentError(InputError):
    """The set, or a part of it, is not there: what a download can mend."""


def read(spec: Mapping[str, Any], place: str) -> tuple[Split, Split, str]:
    """Read the training and the test images of a set, after downloading it if that is needed and allowed."""
    source = SOURCES[spec["dataset"]]
    if spec.get("download") and not source.downloads:
        raise InputError(
            f"{place}.download: found true, but {spec['dataset']} cannot be downloaded with a check of its hash; "
            f"allowed: false, with its files put into {str(_root(spec) / source.folder)!r}"
        )
    train, test = _open(spec, place)
    parts = (_split(train, "training", spec, place), _split(test, "test", spec, place))
    return *parts, f"torchvision.datasets.{source.loader}"


def _root(spec: Mapping[str, Any]) -> Path:
    return Path(os.path.expanduser(spec["root"]))


def _open(spec: Mapping[str, Any], place: str) -> tuple[Any, Any]:
    """Return torchvision's objects for the training and the test images."""
    try:
        return _open_placed(spec, place)
    except _AbsentError:
        if not spec.get("download"):
            raise
    with alone(_root(spec), place):
        try:
            # Another process may have downloaded it while this one waited.
            return _open_placed(spec, place)
        except _AbsentError:
            fetch(spec["dataset"], _root(spec), place)
        return _open_placed(spec, place)


def _open_placed(spec: Mapping[str, Any], place: str) -> tuple[Any, Any]:
    import torchvision.datasets

    source, root = SOURCES[spec["dataset"]], _root(spec)
    loader = getattr(torchvision.datasets, source.loader)
    _check_files(loader, spec, place)
    try:
        with _readable(root, source, place) as readable:
            train, test = (loader(str(readable), **arguments) for arguments in (source.train, source.test))
    except InputError:
        raise
    # The loaders meet missing and damaged files with whatever their parsers raise: RuntimeError, EOFError,
    # KeyError, AssertionError, OSError and more.
    except Exception as error:
        raise _absent(
            f"{spec['dataset']} cannot be read from {str(root)!r} ({reason(error)})", spec, place
        ) from None
    _check_counts(len(train), len(test), spec, place)
    return train, test


def _absent(found: str, spec: Mapping[str, Any], place: str) -> _AbsentError:
    source = SOURCES[spec["dataset"]]
    remedy = f"{spec['dataset']} whole, laid out as torchvision does"
    if source.downloads and spec.get("download"):
        remedy += ", or nothing of it, to be downloaded anew: rename or remove what is damaged"
    elif source.downloads:
        lying = [archive for archive in source.archives if (_root(spec) / archive).is_file()]
        unpack = f", which checks and unpacks {', '.join(lying)} there without a network" if lying else ""
        remedy += f", or download: true{unpack}"
    return _AbsentError(f"{place}.root: {found}; allowed: {remedy}")


def _check_files(loader: Any, spec: Mapping[str, Any], place: str) -> None:
    """Raise `InputError` for the first file that is missing, or is not the one whose MD5 torchvision knows.

    CIFAR's files are pickles, which could run code: they are opened only after this.
    """
    from torchvision.datasets.utils import check_integrity

    source = SOURCES[spec["dataset"]]
    folder = _root(spec) / source.folder
    if not folder.is_dir():
        raise _absent(f"found no folder {str(folder)!r}", spec, place)
    for name in source.idx:
        if not (folder / name).is_file() and not (folder / f"{name}.gz").is_file():
            raise _absent(f"found no file {str(folder / name)!r}, nor {name}.gz", spec, place)
    for name, md5 in _known_files(loader):
        if not (folder / name).is_file():
            raise _absent(f"found no file {str(folder / name)!r}", spec, place)
        if not check_integrity(folder / name, md5):
            raise InputError(
                f"{place}.root: {str(folder / name)!r} is damaged or another file (its MD5 is not the {md5} of "
                f"{spec['dataset']}); allowed: the whole one{_anew(source)}"
            )


def _known_files(loader: Any) -> list[tuple[str, str]]:
    """Return names and MD5 of the files that a torchvision class names with their MD5 and reads itself."""
    listed = [*getattr(loader, "train_list", ()), *getattr(loader, "test_list", ())]
    if meta := getattr(loader, "meta", None):
        listed.append((meta["filename"], meta["md5"]))
    parts = getattr(loader, "split_list", {})
    return [*map(tuple, listed), *(tuple(parts[part][1:3]) for part in ("train", "test") if part in parts)]


def _anew(source: Source) -> str:
    return ", or none of it and download: true" if source.downloads else ""


@contextmanager
def _readable(root: Path, source: Source, place: str) -> Iterator[Path]:
    """Yield a root that torchvision can read a set from.

    Of IDX files, it is a temporary one that holds nothing but them, whole and unpacked: a user's folder may be
    read-only, and beside them torchvision would prefer its own older format. Copies of these sets go about that
    are compressed otherwise than torchvision's, so that a packed file's MD5 says nothing.
    """
    if not source.idx:
        yield root
        return
    folder = root / source.folder
    with tempfile.TemporaryDirectory() as temporary:
        target = Path(temporary, source.folder)
        target.mkdir(parents=True)
        for name in source.idx:
            file = folder / name
            if file.is_file():
                (target / name).symlink_to(file.resolve())
            else:
                file = folder / f"{name}.gz"
                _unpack(file, target / name, place)
            _check_idx(target / name, file, source, place)
        yield Path(temporary)


def _unpack(packed: Path, target: Path, place: str) -> None:
    try:
        with gzip.open(packed, "rb") as content, open(target, "wb") as handle:
            shutil.copyfileobj(content, handle)
    # Damaged archives: EOFError, BadGzipFile, zlib.error.
    except Exception as error:
        raise InputError(
            f"{place}.root: {str(packed)!r} cannot be unpacked ({reason(error)}); allowed: a whole gzip file"
        ) from None


def _check_idx(path: Path, shown: Path, source: Source, place: str) -> None:
    """Raise `InputError` unless an IDX file is as long as its header says."""
    try:
        with open(path, "rb") as handle:
            zero, code, axes = struct.unpack(">HBB", handle.read(4))
            shape = struct.unpack(f">{axes}I", handle.read(4 * axes))
        announced = 4 + 4 * axes + math.prod(shape) * _IDX_SIZES[code]
        if zero:
            raise ValueError
    except (OSError, struct.error, KeyError, ValueError):
        raise InputError(
            f"{place}.root: {str(shown)!r} cannot be read as an IDX file; allowed: a whole one{_anew(source)}"
        ) from None
    found = path.stat().st_size
    if found != announced:
        raise InputError(
            f"{place}.root: {str(shown)!r} is cut short or overlong: found {found} bytes where its header, "
            f"{'x'.join(map(str, shape))} numbers, says {announced}; allowed: the whole file{_anew(source)}"
        )


def _check_counts(train: int, test: int, spec: Mapping[str, Any], place: str) -> None:
    """Refuse a set with other numbers of images than its own, unless the definition says how many to expect."""
    if "train_count" in spec:
        return
    source = SOURCES[spec["dataset"]]
    for title, found, whole in (("training", train, source.counts[0]), ("test", test, source.counts[1])):
        if found != whole:
            raise InputError(
                f"{place}.root: found {found} {title} images in {str(_root(spec) / source.folder)!r}, where "
                f"{spec['dataset']} has {whole}; allowed: all of them{_anew(source)}, "
                f"or train_count: {train} to take these for what they are"
            )


def _split(dataset: Any, title: str, spec: Mapping[str, Any], place: str) -> Split:
    source = SOURCES[spec["dataset"]]

    def call(index: int) -> str:
        file = _file(dataset, index)
        return f"{title} image {index}" if file is None else repr(file)

    if source.layout and "image_size" not in spec:
        images = channels_first(np.asarray(dataset.data), source.layout)
        labels = np.asarray(dataset.targets if hasattr(dataset, "targets") else dataset.labels)
        # QMNIST keeps eight numbers an image, of which the first is the class.
        labels = labels[:, 0] if labels.ndim == 2 else labels
    else:
        images, labels = decode(len(dataset), dataset.__getitem__, call, spec.get("image_size"), place)
    classes = getattr(dataset, "classes", None)
    if classes is not None:
        names = [", ".join(name) if isinstance(name, tuple) else str(name) for name in classes]
        classes = names[source.first_label :]
    return Split(images, labels.astype(np.int64) - source.first_label, classes, call)


def _file(dataset: Any, index: int) -> str | None:
    """Return the file of an image where torchvision's class keeps a list of files."""
    for name in ("samples", "_samples", "_image_files", "_images"):
        if files := getattr(dataset, name, None):
            file = files[index][0] if isinstance(files[index], tuple) else files[index]
            return str(file) if isinstance(file, str | Path) else None
    return None
