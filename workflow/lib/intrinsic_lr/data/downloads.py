"""Downloads of torchvision's data sets: whole or not at all, and one process at a time."""

import os
import shutil
import socket
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.data.splits import reason
from intrinsic_lr.data.torchvision_sources import Source

TIMEOUT = 60.0
"""Seconds without an answer after which a connection is closed; torchvision would wait for ever."""


@contextmanager
def lock(root: Path, place: str) -> Iterator[None]:
    """Keep other processes from downloading into a folder; the lock ends with the process."""
    from filelock import FileLock

    try:
        root.mkdir(parents=True, exist_ok=True)
        held = FileLock(root / ".download.lock", mode=0o666).acquire()
    except (OSError, ValueError) as error:
        raise InputError(
            f"{place}.root: cannot download into {str(root)!r} ({reason(error)}); "
            "expected a folder that can be written to, or one that holds the whole set"
        ) from None
    with held:
        yield


def download(name: str, source: Source, root: Path, place: str) -> None:
    """Add what is missing of a set to a folder that no other process downloads into; no file is replaced.

    torchvision downloads, checks each archive by its MD5 and unpacks it, in a folder of its own below `root`.
    Files move to their place after the whole set could be opened there.
    """
    import torchvision.datasets

    staging, timeout = root / ".download", socket.getdefaulttimeout()
    try:
        # A killed download leaves its folder. A link would lead elsewhere.
        if staging.is_symlink():
            staging.unlink()
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        for archive in source.archives:
            (staging / archive).parent.mkdir(parents=True, exist_ok=True)
            if (root / archive).is_file():
                shutil.copyfile(root / archive, staging / archive)
        socket.setdefaulttimeout(TIMEOUT)
        # Older torchvision unpacks without a filter. Python before 3.11.4 has none and relies on the MD5.
        if hasattr(tarfile, "data_filter"):
            tarfile.TarFile.extraction_filter = staticmethod(tarfile.data_filter)
        for arguments in source.splits:
            getattr(torchvision.datasets, source.loader)(str(staging), **arguments, download=True)
        # After a power cut, files have their names only if they have their content.
        os.sync()
        for entry in sorted(staging.iterdir()):
            _move(entry, root / entry.name)
    # Networks, archives and torchvision's parsers raise OSError, RuntimeError, EOFError, zlib.error and more.
    except Exception as error:
        raise InputError(
            f"{place}.download: {name} cannot be downloaded into {str(root)!r} ({reason(error)}); "
            f"expected a connection, or whole files in that folder: {', '.join(source.archives)}"
        ) from None
    finally:
        socket.setdefaulttimeout(timeout)
        shutil.rmtree(staging, ignore_errors=True)


def _move(source: Path, target: Path) -> None:
    """Move a file or a folder to where there is none; of a folder that exists, only what it lacks."""
    if not os.path.lexists(target):
        os.replace(source, target)
    elif source.is_dir() and target.is_symlink():
        raise FileExistsError(f"{str(target)!r} is a link, through which nothing is written")
    elif source.is_dir() and target.is_dir():
        for entry in sorted(source.iterdir()):
            _move(entry, target / entry.name)
