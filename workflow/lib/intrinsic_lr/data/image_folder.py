"""A folder of images, `train/<class>/<image>` and `test/<class>/<image>`. No torch, no numpy at import."""

import contextlib
import hashlib
import json
import os
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intrinsic_lr.core import storage
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.data.splits import Split, decode

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
# Whatever a file is named: others, such as PostScript, would be handed to other programs.
_FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP")
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

    Names of classes are in Unicode's composed form (NFC), whatever the file system keeps. Hidden files and folders
    are left out; anything else that is no image in the folder of a class is refused, as it might hold images.
    """
    folder = str(check(spec, place) / part)
    found: dict[str, str] = {}
    for entry in _entries(folder, place):
        name = unicodedata.normalize("NFC", entry.name)
        if not entry.is_dir():
            raise InputError(f"{place}.root: expected {part}/<class>/<image>, got the file {entry.path!r}")
        if name in found:
            names = f"{found[name]!a} and {entry.path!a}"
            raise InputError(f"{place}.root: expected one folder for each class, got the same name twice: {names}")
        found[name] = entry.path
    if not found:
        raise InputError(f"{place}.root: {folder!r} has no folders; expected one for each class")
    return {name: _images(found[name], place) for name in sorted(found)}


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
        if not entry.is_file():
            raise InputError(f"{place}.root: {entry.path!r} cannot be read; expected a file, or a link to one")
    return [entry.path for entry in entries]


def _entries(folder: str, place: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            kept = [e for e in found if not e.name.startswith(".") and e.name.lower() not in _IGNORED]
    except OSError as error:
        raise InputError(f"{place}.root: {folder!r} cannot be read ({error.strerror})") from None
    return sorted(kept, key=lambda entry: entry.name)


def content_sum(spec: Mapping[str, Any], place: str, cache: Path) -> str:
    """Return a SHA-256 of all images and the classes that they are of, in their order.

    `cache` is a JSON file that keeps size, times and SHA-256 of each image; only what changed since is read.
    """
    known: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        known = json.loads(cache.read_text(encoding="utf-8"))
    seen: dict[str, Any] = {}
    total = hashlib.sha256()
    for part in ("train", "test"):
        for name, paths in files(spec, part, place).items():
            for path in paths:
                try:
                    stat = os.stat(path)
                    state = f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"
                    before = known.get(path, {})
                    digest = before["sha256"] if before.get("state") == state else storage.sha256(path)
                except OSError as error:
                    raise InputError(f"{place}.root: {path!r} cannot be read ({error.strerror})") from None
                seen[path] = {"state": state, "sha256": digest}
                total.update(json.dumps([part, name, digest]).encode())
    if seen != known:
        # Where nothing can be written, all is read again the next time.
        with contextlib.suppress(InputError), storage.atomic_path(cache) as temporary:
            temporary.write_text(json.dumps(seen), encoding="utf-8")
    return total.hexdigest()


def read(spec: Mapping[str, Any], place: str) -> tuple[Split, Split, str]:
    """Decode the training and the test images of a folder as a viewer shows them; an alpha channel is left out."""
    train, test = (files(spec, part, place) for part in ("train", "test"))
    # Without its path: the description stays the same, and nothing is trained again, when the folder has moved.
    return _split(train, spec, place), _split(test, spec, place), "image folder"


def _split(found: dict[str, list[str]], spec: Mapping[str, Any], place: str) -> Split:
    paths = [(path, label) for label, name in enumerate(found) for path in found[name]]
    mode = "L" if spec.get("grayscale") else "RGB"

    def name_of(index: int) -> str:
        return repr(paths[index][0])

    def image(index: int) -> tuple[Any, int]:
        from PIL import Image, ImageOps

        path, label = paths[index]
        with Image.open(path, formats=_FORMATS) as opened:
            # Phones put further pictures behind the one that is shown.
            if getattr(opened, "is_animated", False) and opened.format != "MPO":
                raise ValueError("more than one frame; expected one")
            if _is_deep(opened):
                raise ValueError(f"mode {opened.mode}, more than 8 bits a channel")
            ImageOps.exif_transpose(opened, in_place=True)
            return opened.convert(mode), label

    images, labels = decode(len(paths), image, name_of, spec.get("image_size"), place)
    return Split(images, labels, list(found), name_of)


def _is_deep(image: "Image.Image") -> bool:
    """Tell whether an image that is not decoded yet has more than 8 bits a channel, which Pillow would cut off."""
    if image.mode.startswith(("I", "F")):
        return True
    for tile in image.tile:
        arguments = tile.args if isinstance(tile.args, tuple) else (tile.args,)
        if image.format == "PPM" and isinstance(arguments[-1], int) and tile.codec_name.startswith("ppm"):
            return arguments[-1] > 255
        # 16 bits in the layout of a BMP are those of a whole pixel.
        if image.format != "BMP" and any(";16" in str(argument) for argument in arguments):
            return True
    return False
