"""Images that lie as numbers in a file: arrays in a NumPy archive, or rows of CSV files. No numpy at import."""

import ast
import hashlib
import math
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from intrinsic_lr.core import storage
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.data.splits import Split, reason

if TYPE_CHECKING:
    import numpy as np

KINDS = ("npz", "csv")
_ARRAYS = {"train": ("train_images", "train_labels"), "test": ("test_images", "test_labels")}


def train_count(spec: Mapping[str, Any], place: str) -> int:
    """Return the number of training images, of which no pixel is read; InputError where the file cannot be."""
    if spec["kind"] == "csv":
        with _readable(spec["train"], f"{place}.train"), open(spec["train"], encoding="utf-8") as handle:
            first = handle.readline()
            return sum(1 for line in handle if line.strip()) + (not _is_header(first))
    with _readable(spec["file"], f"{place}.file"), zipfile.ZipFile(spec["file"]) as archive:
        return _npy_shape(archive, "train_labels.npy")[0]


def content_sum(spec: Mapping[str, Any], place: str) -> str:
    """Return a SHA-256 of the files that a definition names."""
    total = hashlib.sha256()
    for key in ("file",) if spec["kind"] == "npz" else ("train", "test"):
        with _readable(spec[key], f"{place}.{key}"):
            total.update(storage.sha256(spec[key]).encode())
    return total.hexdigest()


def read_npz(spec: Mapping[str, Any], place: str) -> tuple[Split, Split, str]:
    """Read the four arrays of a NumPy archive; images are uint8 (N, H, W) or (N, C, H, W).

    Raises:
        InputError: naming what is missing, or is of another type or shape.
    """
    import numpy as np

    place = f"{place}.file"
    splits = []
    with _readable(spec["file"], place), np.load(spec["file"], allow_pickle=False) as archive:
        for images, labels in _ARRAYS.values():
            if missing := {images, labels}.difference(archive.files):
                raise InputError(f"{place}: expected the array {min(missing)!r} in {spec['file']!r}, got none")
            pixels, truth = archive[images], archive[labels]
            if pixels.dtype != np.uint8 or pixels.ndim not in (3, 4):
                raise InputError(
                    f"{place}: expected uint8 {images} of shape (N, H, W) or (N, C, H, W), got {pixels.dtype} "
                    f"{pixels.shape}"
                )
            splits.append(_split(pixels if pixels.ndim == 4 else pixels[:, None], truth, images, place))
    return *splits, "NumPy archive"


def read_csv(spec: Mapping[str, Any], place: str) -> tuple[Split, Split, str]:
    """Read CSV files whose rows are a label and then the C * H * W pixels of an image, from 0 to 255.

    Raises:
        InputError: naming a file that has other columns or values.
    """
    import numpy as np
    import pandas as pd

    splits, pixels = [], math.prod(spec["shape"])
    for part in _ARRAYS:
        file, here = spec[part], f"{place}.{part}"
        with _readable(file, here):
            with open(file, encoding="utf-8") as handle:
                header = 0 if _is_header(handle.readline()) else None
            table = pd.read_csv(file, header=header)
        if len(table.columns) != pixels + 1:
            raise InputError(
                f"{here}: expected {pixels + 1} columns, a label and {pixels} pixels, got {len(table.columns)}"
            )
        values = table.to_numpy()
        whole = np.issubdtype(values.dtype, np.integer)
        if not whole or (len(values) and not 0 <= values[:, 1:].min() <= values[:, 1:].max() <= 255):
            raise InputError(f"{here}: expected whole numbers, pixels from 0 to 255, got others in {file!r}")
        images = values[:, 1:].astype(np.uint8).reshape(-1, *spec["shape"])
        splits.append(_split(images, values[:, 0], f"{part} row", here))
    return *splits, "CSV files"


def _split(images: "np.ndarray", labels: "np.ndarray", title: str, place: str) -> Split:
    import numpy as np

    if labels.shape != (len(images),) or not np.issubdtype(labels.dtype, np.integer) or not len(images):
        raise InputError(
            f"{place}: expected a whole number as label of each of the {len(images)} {title}, at least one, got "
            f"{labels.dtype} {labels.shape}"
        )
    return Split(images, labels.astype(np.int64), None, f"{title} {{}}".format)


def _is_header(line: str) -> bool:
    return not line.partition(",")[0].strip().lstrip("-").isdecimal()


def _npy_shape(archive: zipfile.ZipFile, name: str) -> tuple[int, ...]:
    """Return the shape that stands in the head of an array; see `numpy.lib.format`."""
    with archive.open(name) as handle:
        version = handle.read(8)[6]
        length = int.from_bytes(handle.read(2 if version == 1 else 4), "little")
        return ast.literal_eval(handle.read(length).decode("latin1"))["shape"]


@contextmanager
def _readable(file: str, place: str) -> Iterator[None]:
    """Turn what a file cannot be read for into one line."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # readers of archives and of CSV raise many kinds on damaged files
        raise InputError(f"{place}: {file!r} cannot be read ({reason(error)})") from None
