"""What is known of a data set before it is read: whether its definition is whole, and its training size."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.kinds import check_options
from intrinsic_lr.data import image_folder
from intrinsic_lr.data.dataset_names import SOURCES, TORCHVISION

DIGITS_COUNT = 1797
TEST_FRACTION = 0.2
"""Share of the digits that is kept for testing where the config does not say."""

_OPTIONS = {
    "digits": ((), ("test_fraction", "subset", "note")),
    "torchvision": (("dataset", "root"), ("download", "subset", "image_size", "train_count", "note")),
    "image_folder": (("root",), ("subset", "image_size", "grayscale", "train_count", "note")),
}


def check(spec: Mapping[str, Any], place: str) -> None:
    """Raise `InputError` unless the options of a data set belong to its kind and its folder is there."""
    check_options(spec, _OPTIONS, place)
    if spec["kind"] == "torchvision" and spec["dataset"] not in TORCHVISION:
        raise InputError(
            f"{place}.dataset: found the unknown data set {spec['dataset']!r}; allowed: {', '.join(TORCHVISION)}"
        )
    if spec["kind"] == "image_folder":
        image_folder.check(spec, place)


def train_count(spec: Mapping[str, Any], place: str) -> int:
    """Return the number of training images.

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
        return sum(map(len, image_folder.files(spec, "train", place).values()))
    return SOURCES[spec["dataset"]].counts[0]


@dataclass(frozen=True)
class Sizes:
    """How large a data set is.

    Attributes:
        train, test: numbers of images.
        shape: of an image, (C, H, W).
        classes: number of classes.
    """

    train: int
    test: int
    shape: tuple[int, int, int]
    classes: int


# Shapes and numbers of classes, as the sets' publications or torchvision's documentation have them.
_KNOWN: Mapping[str, tuple[tuple[int, int, int], int]] = MappingProxyType(
    {
        **dict.fromkeys(("MNIST", "FashionMNIST", "KMNIST", "QMNIST"), ((1, 28, 28), 10)),
        "EMNIST-balanced": ((1, 28, 28), 47),
        "EMNIST-letters": ((1, 28, 28), 26),
        "USPS": ((1, 16, 16), 10),
        "CIFAR10": ((3, 32, 32), 10),
        "CIFAR100": ((3, 32, 32), 100),
        "SVHN": ((3, 32, 32), 10),
        "STL10": ((3, 96, 96), 10),
    }
)


def sizes(spec: Mapping[str, Any], place: str) -> Sizes | None:
    """Return the sizes of a data set that is not prepared yet, or None where only its images tell."""
    train = train_count(spec, place)
    side = spec.get("image_size")
    if spec["kind"] == "digits":
        kept = math.ceil(DIGITS_COUNT * spec.get("test_fraction", TEST_FRACTION))
        return Sizes(train, kept, (1, 8, 8), 10)
    if spec["kind"] == "image_folder":
        test = image_folder.files(spec, "test", place)
        channels = 1 if spec.get("grayscale") else 3
        return Sizes(train, sum(map(len, test.values())), (channels, side, side), len(test)) if side else None
    if spec["dataset"] not in _KNOWN:
        return None
    (channels, *original), classes = _KNOWN[spec["dataset"]]
    height, width = (side, side) if side else original
    return Sizes(train, SOURCES[spec["dataset"]].counts[1], (channels, height, width), classes)
