"""A folder of images, `train/<class>/<image>` and `test/<class>/<image>`. No torch, no numpy at import."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.data.splits import Split, decode

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
# File managers leave these in folders, besides files whose names start with a dot.
_IGNORED = ("thumbs.db", "desktop.ini")


def check(spec: Mapping[str, Any], place: str) -> Path:
    """Return the folder of a definition; raise `InputError` unless it has both parts."""
    root = Path(os.path.expanduser(spec["root"]))
    if os.path.isfile(root):
        raise InputError(f"{place}.root: must be a folder, got the file {str(root)!r}; unpack an archive first")
    for part in ("train", "test"):
        if not os.path.isdir(root / part):
            raise InputError(
                f"{place}.root: has no folder {str(root / part)!r}; expected train/<class>/* and test/<class>/*"
            )
    return root


def files(spec: Mapping[str, Any], part: str, place: str) -> dict[str, list[str]]:
    """List the images of a part, `train` or `test`: class -> paths, both sorted by the code points of their names.

    Hidden files and folders are left out. Anything else that is not an image in the folder of a class is refused,
    because leaving it out might leave out images.
    """
    folder = str(check(spec, place) / part)
    classes = _entries(folder, place)
    if not classes:
        raise InputError(f"{place}.root: {folder!r} has no folders; expected one for each class")
    for entry in classes:
        if not entry.is_dir():
            raise InputError(f"{place}.root: expected {part}/<class>/<image>, got the file {entry.path!r}")
    return {entry.name: _images(entry.path, place) for entry in classes}


def _images(folder: str, place: str) -> list[str]:
    entries = _entries(folder, place)
    if not entries:
        raise InputError(f"{place}.root: {folder!r} has no images; expected some of each class in train and test")
    for entry in entries:
        if entry.is_dir():
            raise InputError(f"{place}.root: expected train/<class>/<image>, got the folder {entry.path!r}")
        if not entry.name.lower().endswith(SUFFIXES):
            raise InputError(
                f"{place}.root: {entry.path!r} is not an image by its name; expected {', '.join(SUFFIXES)}, "
                "or hidden files"
            )
    return [entry.path for entry in entries]


def _entries(folder: str, place: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            kept = [e for e in found if not e.name.startswith(".") and e.name.lower() not in _IGNORED]
    except OSError as error:
        raise InputError(f"{place}.root: {folder!r} cannot be read ({error.strerror})") from None
    return sorted(kept, key=lambda entry: entry.name)


def read(spec: Mapping[str, Any], place: str) -> tuple[Split, Split, str]:
    """Decode the training and the test images of a folder; an alpha channel is left out."""
    train, test = (files(spec, part, place) for part in ("train", "test"))
    # Without its path: the description stays the same, and nothing is trained again, when the folder has moved.
    return _split(train, spec, place), _split(test, spec, place), "image folder"


def _split(found: dict[str, list[str]], spec: Mapping[str, Any], place: str) -> Split:
    paths = [(path, label) for label, name in enumerate(found) for path in found[name]]
    mode = "L" if spec.get("grayscale") else "RGB"

    def name_of(index: int) -> str:
        return repr(paths[index][0])

    def image(index: int) -> tuple[Any, int]:
        from PIL import Image

        path, label = paths[index]
        with Image.open(path) as found:
            # Pillow would cut these off at 255 instead of scaling them.
            if found.mode.startswith(("I", "F")):
                raise ValueError(f"mode {found.mode}, more than 8 bits a channel")
            return found.convert(mode), label

    images, labels = decode(len(paths), image, name_of, spec.get("image_size"), place)
    return Split(images, labels, list(found), name_of)
