"""What is known of a data set before it is read: whether its definition is whole, and its training size."""

import math
from collections.abc import Mapping
from typing import Any

from intrinsic_lr import image_folder
from intrinsic_lr.dataset_names import SOURCES, TORCHVISION
from intrinsic_lr.errors import InputError

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
