"""What is known of a data set before it is read: whether its definition is whole, and its training size."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from intrinsic_lr.dataset_names import TORCHVISION
from intrinsic_lr.errors import InputError

DIGITS_COUNT = 1797
TEST_FRACTION = 0.2
"""Share of the digits that is kept for testing where the config does not say."""

# The sizes that the sets' own publications and torchvision's documentation give.
_TRAIN_COUNTS = {
    "MNIST": 60_000,
    "FashionMNIST": 60_000,
    "KMNIST": 60_000,
    "QMNIST": 60_000,
    "CIFAR10": 50_000,
    "CIFAR100": 50_000,
    "SVHN": 73_257,
    "STL10": 5_000,
    "USPS": 7_291,
}
_IMAGES = {".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"}
_OPTIONS = {
    "digits": ((), ("test_fraction", "subset")),
    "torchvision": (("dataset", "root"), ("download", "subset", "image_size", "train_count")),
    "image_folder": (("root",), ("subset", "image_size", "grayscale", "train_count")),
}


def check(spec: Mapping[str, Any], place: str) -> None:
    """Raise `InputError` unless the options of a data set belong to its kind and its folder is there."""
    required, optional = _OPTIONS[spec["kind"]]
    for key in spec:
        if key not in ("kind", *required, *optional):
            raise InputError(
                f"{place}.{key}: found an option that the kind {spec['kind']} does not have; "
                f"allowed: {', '.join((*required, *optional))}"
            )
    for key in required:
        if key not in spec:
            raise InputError(
                f"{place}: the key {key!r} is missing; the kind {spec['kind']} needs {', '.join(required)}"
            )
    if spec["kind"] == "torchvision" and spec["dataset"] not in TORCHVISION:
        raise InputError(
            f"{place}.dataset: found the unknown data set {spec['dataset']!r}; allowed: {', '.join(TORCHVISION)}"
        )
    if spec["kind"] == "image_folder":
        for part in ("train", "test"):
            if not Path(spec["root"], part).is_dir():
                raise InputError(
                    f"{place}.root: found no folder {str(Path(spec['root'], part))!r}; "
                    "allowed is a folder that holds train/<class>/* and test/<class>/*"
                )


def train_count(spec: Mapping[str, Any], place: str) -> int | None:
    """Return the number of training images, or None where only reading the data tells.

    An image folder is counted; a torchvision set is looked up; `train_count` and `subset` go before both.
    """
    check(spec, place)
    if "subset" in spec:
        return spec["subset"]
    if spec["kind"] == "digits":
        return DIGITS_COUNT - math.ceil(DIGITS_COUNT * spec.get("test_fraction", TEST_FRACTION))
    if "train_count" in spec:
        return spec["train_count"]
    if spec["kind"] == "image_folder":
        files = Path(spec["root"], "train").glob("*/*")
        return sum(path.suffix.lower() in _IMAGES for path in files)
    return _TRAIN_COUNTS.get(spec["dataset"])
