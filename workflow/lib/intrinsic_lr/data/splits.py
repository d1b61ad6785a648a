"""Training or test images of a data set as arrays, decoded one by one from whatever holds them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from intrinsic_lr.core.errors import InputError


@dataclass(frozen=True)
class Split:
    """The training or the test images of a data set.

    Attributes:
        images: uint8 (N, C, H, W).
        labels: int64 (N,).
        classes: names of the classes in the order of their labels, where the source names them.
        call: what to call the image of an index in messages.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: list[str] | None
    call: Callable[[int], str]


def decode(
    count: int,
    read: Callable[[int], tuple[Any, int | None]],
    call: Callable[[int], str],
    side: int | None,
    place: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Decode images one by one into one array; besides it, memory holds a single image.

    Args:
        count: number of images.
        read: gives the image of an index, as Pillow's image of 8 bits a channel, and its label.
        call: what to call the image of an index in messages.
        side: bring the middle of each image, as large a square as fits, to this many pixels a side.
        place: where the data set is defined, for messages.

    Returns:
        uint8 (N, C, H, W) and int64 (N,).

    Raises:
        InputError: for an image that cannot be read, has no label or another size than the first.
    """
    from PIL import Image, ImageOps

    images, labels = None, np.empty(count, dtype=np.int64)
    for index in range(count):
        try:
            image, label = read(index)
            if side is not None:
                image = ImageOps.fit(image, (side, side), Image.Resampling.BILINEAR)
            pixels = np.asarray(image)
            if pixels.dtype != np.uint8:
                raise ValueError(f"pixels of type {pixels.dtype}")
        # Pillow's decoders raise OSError, ValueError, SyntaxError, struct.error and others on damaged files.
        except Exception as error:
            raise InputError(
                f"{place}.root: {call(index)} cannot be read ({reason(error)}); "
                "allowed: whole image files of 8 bits a channel"
            ) from None
        if label is None:
            raise InputError(f"{place}.root: {call(index)} has no label; allowed: labelled images only")
        pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        if images is None:
            images = _room(count, pixels.shape, place)
        if pixels.shape != images.shape[1:]:
            raise sizes_differ(place, call(0), images.shape[1:], call(index), pixels.shape)
        images[index], labels[index] = pixels, label
    if images is None:
        raise InputError(f"{place}.root: found no images; allowed: at least one image in each part")
    return images, labels


def _room(count: int, shape: tuple[int, ...], place: str) -> np.ndarray:
    try:
        return np.empty((count, *shape), dtype=np.uint8)
    except MemoryError as error:
        raise InputError(
            f"{place}: found {count} images of {'x'.join(map(str, shape))} ({reason(error)}); "
            "allowed: as many as fit in memory, or smaller ones by image_size: N"
        ) from None


def sizes_differ(
    place: str, first: str, first_shape: Sequence[int], other: str, other_shape: Sequence[int]
) -> InputError:
    """Return the mistake that two images (C, H, W) are not of one size."""
    sizes = ["x".join(map(str, shape[1:])) for shape in (first_shape, other_shape)]
    return InputError(
        f"{place}: found images of different sizes, {first} ({sizes[0]}) and {other} ({sizes[1]}); "
        "allowed: images of one size, or image_size: N to bring all to N x N pixels"
    )


def channels_first(images: np.ndarray, layout: str) -> np.ndarray:
    """Return images (N, C, H, W) from one of the layouts NHW, NHWC and NCHW."""
    if layout == "NHW":
        return images[:, None]
    return images.transpose(0, 3, 1, 2) if layout == "NHWC" else images


def reason(error: Exception) -> str:
    """Return what an error says, on one line and without its advice to Python programmers."""
    text = " ".join(str(error).split()).split(" You can ")[0].rstrip(".")
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
