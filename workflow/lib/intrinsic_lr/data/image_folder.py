"""A folder of one's own images, `train/<class>/<image>` and `test/<class>/<image>`; listing it needs no torch."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intrinsic_lr.core.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

    from intrinsic_lr.data.splits import Split

PARTS = ("train", "test")
SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
# What file managers leave in folders, besides files whose names start with a dot.
_LEFT_BEHIND = ("thumbs.db", "desktop.ini")


def check(spec: Mapping[str, Any], place: str) -> Path:
    """Return the folder of a definition; raise `InputError` unless it holds both parts."""
    root = Path(os.path.expanduser(spec["root"]))
    if os.path.isfile(root):
        raise InputError(
            f"{place}.root: found the file {str(root)!r}; allowed: a folder (unpack an archive first)"
        )
    for part in PARTS:
        if not os.path.isdir(root / part):
            raise InputError(
                f"{place}.root: found no folder {str(root / part)!r}; "
                "allowed: a folder that holds train/<class>/* and test/<class>/*"
            )
    return root


def files(spec: Mapping[str, Any], part: str, place: str) -> dict[str, list[str]]:
    """List the images of one part, `train` or `test`, by class.

    Hidden files and folders are left out. Anything else that is not an image in the folder of a class is refused,
    because leaving it out might leave out images.

    Returns:
        Class -> paths; both sorted by the code points of their names, whatever the file system's order.

    Raises:
        InputError: for a folder that is missing, has no classes or a class without images, or holds other things.
    """
    folder = str(check(spec, place) / part)
    entries = _entries(folder, place)
    stray = [entry.path for entry in entries if not entry.is_dir()]
    if stray:
        raise InputError(
            f"{place}.root: found {stray[0]!r} beside the folders of the classes; allowed: {part}/<class>/<image>"
        )
    if not entries:
        raise InputError(f"{place}.root: found no folders in {folder!r}; allowed: a folder for each class")
    return {entry.name: _images(entry.path, place) for entry in entries}


def _images(folder: str, place: str) -> list[str]:
    entries = _entries(folder, place)
    for entry in entries:
        if entry.is_dir():
            raise InputError(
                f"{place}.root: found the folder {entry.path!r} within a class; allowed: train/<class>/<image>"
            )
        if not entry.name.lower().endswith(SUFFIXES):
            raise InputError(
                f"{place}.root: found {entry.path!r}, which is not called an image; "
                f"allowed: {', '.join(SUFFIXES)}, and hidden files"
            )
    if not entries:
        raise InputError(
            f"{place}.root: found no images in {folder!r}; allowed: images of each class in train and test"
        )
    return [entry.path for entry in entries]


def _entries(folder: str, place: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            kept = [e for e in found if not e.name.startswith(".") and e.name.lower() not in _LEFT_BEHIND]
    except OSError as error:
        raise InputError(
            f"{place}.root: {folder!r} cannot be read ({error.strerror}); allowed: a folder that can be read"
        ) from None
    return sorted(kept, key=lambda entry: entry.name)


def read(spec: Mapping[str, Any], place: str) -> tuple["Split", "Split", str]:
    """Decode the training and the test images of a folder; an alpha channel is left out."""
    train, test = (files(spec, part, place) for part in PARTS)
    for here, there, lacking in ((train, test, "test"), (test, train, "train")):
        missing = [name for name in here if name not in there]
        if missing:
            raise InputError(
                f"{place}.root: found no class folder {str(Path(spec['root'], lacking, missing[0]))!r}; "
                "allowed: the same class folders in train and test"
            )
    # Without its path: the description stays the same, and nothing is trained again, when the folder has moved.
    return _split(train, spec, place), _split(test, spec, place), "image folder"


def _split(found: dict[str, list[str]], spec: Mapping[str, Any], place: str) -> "Split":
    from intrinsic_lr.data.splits import Split, decode

    paths = [(path, label) for label, name in enumerate(found) for path in found[name]]
    mode = "L" if spec.get("grayscale") else "RGB"

    def image(index: int) -> tuple["Image", int]:
        path, label = paths[index]
        return _open(path, mode), label

    def call(index: int) -> str:
        return repr(paths[index][0])

    images, labels = decode(len(paths), image, call, spec.get("image_size"), place)
    return Split(images, labels, list(found), call)


def _open(path: str, mode: str) -> "Image":
    from PIL import Image

    with Image.open(path) as image:
        # Pillow would cut these off at 255 instead of scaling them.
        if image.mode.startswith(("I", "F")):
            raise ValueError(f"mode {image.mode}, more than 8 bits a channel")
        return image.convert(mode)
