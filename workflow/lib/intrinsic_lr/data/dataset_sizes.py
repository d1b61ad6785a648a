"""Sizes of data sets before they are read, so that a study can be planned without them. No torch, no numpy."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from intrinsic_lr.data import arrays, image_folder
from intrinsic_lr.data.torchvision_sources import SOURCES

DIGITS_COUNT = 1797
TEST_FRACTION = 0.2
"""Share of the digits that is kept for testing where the config does not say."""


class Sizes(NamedTuple):
    """Numbers of training and test images, shape (C, H, W) of an image, and number of classes."""

    train: int
    test: int
    shape: tuple[int, int, int]
    classes: int


def train_count(spec: Mapping[str, Any], place: str) -> int:
    """Return the number of training images: `subset` or `train_count` if given, or else the whole set's.

    Raises:
        InputError: for a folder or a file of images that is not there.
    """
    if spec["kind"] == "image_folder":
        image_folder.check(spec, place)
    if "subset" in spec:
        return spec["subset"]
    if spec["kind"] == "digits":
        return DIGITS_COUNT - _digits_test_count(spec)
    if "train_count" in spec:
        return spec["train_count"]
    if spec["kind"] in arrays.KINDS:
        return arrays.train_count(spec, place)
    if spec["kind"] == "image_folder":
        return sum(map(len, image_folder.files(spec, "train", place).values()))
    return SOURCES[spec["dataset"]].counts[0]


def _digits_test_count(spec: Mapping[str, Any]) -> int:
    return math.ceil(DIGITS_COUNT * spec.get("test_fraction", TEST_FRACTION))


def sizes(spec: Mapping[str, Any], place: str) -> Sizes | None:
    """Return the sizes of a data set that is not prepared yet, or None where only its images tell."""
    train, side = train_count(spec, place), spec.get("image_size")
    if spec["kind"] == "digits":
        return Sizes(train, _digits_test_count(spec), (1, 8, 8), 10)
    if spec["kind"] == "image_folder":
        test = image_folder.files(spec, "test", place)
        channels = 1 if spec.get("grayscale") else 3
        return Sizes(train, sum(map(len, test.values())), (channels, side, side), len(test)) if side else None
    if spec["kind"] in arrays.KINDS:
        return None
    source = SOURCES[spec["dataset"]]
    if source.shape is None:
        return None
    shape = (source.shape[0], side, side) if side else source.shape
    return Sizes(train, source.counts[1], shape, source.classes)
