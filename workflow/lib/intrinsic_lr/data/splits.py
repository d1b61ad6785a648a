"""Training or test images of a data set as arrays, decoded one by one from their source. No numpy at import."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from intrinsic_lr.core.errors import InputError

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Split:
    """The training or the test images of a data set: uint8 (N, C, H, W), and their labels, int64 (N,).

    `classes` are in the order of their labels, where the source names them; `name_of` names an image in messages.
    """

    images: "np.ndarray"
    labels: "np.ndarray"
    classes: list[str] | None
    name_of: Callable[[int], str]


def decode(
    count: int,
    read: Callable[[int], tuple[Any, int | None]],
    name_of: Callable[[int], str],
    side: int | None,
    place: str,
) -> tuple["np.ndarray", "np.ndarray"]:
    """Decode images one by one into arrays, uint8 (N, C, H, W) and int64 (N,); return these.

    `read` gives the image of an index, as Pillow's of 8 bits a channel, and its label; `name_of` names it. With
    `side`, the largest square in the middle is scaled to so many pixels. `InputError`, which begins with `place`,
    for an image that cannot be read, has no label or another size than the first.
    """
    import numpy as np
    from PIL import EpsImagePlugin, Image, ImageOps

    # torchvision opens a file as what it holds; PostScript would be run by another program.
    EpsImagePlugin.gs_binary = False
    images, labels = None, np.empty(count, dtype=np.int64)
    for index in range(count):
        try:
            image, label = read(index)
            if side is not None:
                image = ImageOps.fit(image, (side, side), Image.Resampling.BILINEAR)
            pixels = np.asarray(image)
            if pixels.dtype != np.uint8:
                raise ValueError(f"pixels of type {pixels.dtype}")
        except Image.DecompressionBombError:
            most = 2 * Image.MAX_IMAGE_PIXELS
            raise InputError(
                f"{place}.root: {name_of(index)} is too large; expected at most {most:,} pixels"
            ) from None
        # Pillow's decoders raise OSError, ValueError, SyntaxError, struct.error and others on damaged files.
        except Exception as error:
            raise InputError(f"{place}.root: {name_of(index)} cannot be read ({reason(error)})") from None
        if label is None:
            raise InputError(f"{place}.root: {name_of(index)} has no label; expected labelled images only")
        pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        if images is None:
            try:
                images = np.empty((count, *pixels.shape), dtype=np.uint8)
            except MemoryError as error:
                raise InputError(
                    f"{place}: {count} images of {'x'.join(map(str, pixels.shape))} do not fit in memory "
                    f"({reason(error)}); smaller ones are made by image_size: N"
                ) from None
        check_sizes(place, (name_of(0), images[0]), (name_of(index), pixels))
        images[index], labels[index] = pixels, label
    if images is None:
        raise InputError(f"{place}.root: has no images; expected at least one in each part")
    return images, labels


def check_sizes(place: str, *images: tuple[str, "np.ndarray"]) -> None:
    """Raise `InputError` unless two images (C, H, W), each with its name, have one size."""
    (first, one), (other, two) = images
    if one.shape != two.shape:
        sizes = ["x".join(map(str, image.shape[1:])) for image in (one, two)]
        raise InputError(
            f"{place}: images must have one size, got {first} ({sizes[0]}) and {other} ({sizes[1]}); "
            "image_size: N scales all to N x N pixels"
        )


def reason(error: Exception) -> str:
    """Return what an error says, on one line and without its advice to Python programmers."""
    text = " ".join(str(error).split()).split(" You can ")[0].rstrip(".")
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
