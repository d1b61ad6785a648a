"""torchvision's sets of labelled images, read as torchvision gives them: EMNIST transposed. No torch at import."""

import gzip
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.storage import write_errors
from intrinsic_lr.data import downloads
from intrinsic_lr.data.splits import Split, decode, reason
from intrinsic_lr.data.torchvision_sources import SOURCES, Source

_TITLES = ("training", "test")


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
        opened = _open(spec, source, root, place)
    except _MissingError:
        if not spec.get("download"):
            raise
        with downloads.lock(root, place):
            # Another process may have downloaded it while this one waited.
            try:
                opened = _open(spec, source, root, place)
            except _MissingError:
                downloads.download(spec["dataset"], source, root, place)
                opened = _open(spec, source, root, place)
    train, test = (_split(part, title, spec, place) for part, title in zip(opened, _TITLES, strict=True))
    return train, test, f"torchvision.datasets.{source.loader}"


def _open(spec: Mapping[str, Any], source: Source, root: Path, place: str) -> list[Any]:
    """Return torchvision's objects for the training and the test images."""
    import torchvision.datasets

    name = spec["dataset"]
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
    with ExitStack() as stack:
        # A full disk says nothing of the archives.
        with write_errors(Path("temporary folder")):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for archive, file in zip(packed, plain, strict=True):
            content, target = gzip.decompress((root / archive).read_bytes()), folder / file
            with write_errors(target):
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
        yield folder


def _split(dataset: Any, title: str, spec: Mapping[str, Any], place: str) -> Split:
    def file_of(index: int) -> str | None:
        for attribute in ("samples", "_samples", "_image_files", "_images"):
            file = getattr(dataset, attribute, {index: None})[index]
            file = file[0] if isinstance(file, tuple) else file
            if isinstance(file, str | Path):
                return str(file)
        return None

    def name_of(index: int) -> str:
        return repr(file_of(index)) if file_of(index) else f"{title} image {index}"

    def image(index: int) -> tuple[Any, int]:
        # A pipe would be waited for.
        if (file := file_of(index)) and not os.path.isfile(file):
            raise ValueError("not a file")
        return dataset[index]

    images, labels = decode(len(dataset), image, name_of, spec.get("image_size"), place)
    if classes := getattr(dataset, "classes", None):
        classes = [", ".join(name) if isinstance(name, tuple) else str(name) for name in classes]
    if spec["dataset"] == "EMNIST-letters":
        # Its labels begin at 1; torchvision calls the class 0 N/A.
        labels, classes = labels - 1, classes[1:]
    return Split(images, labels, classes, name_of)
