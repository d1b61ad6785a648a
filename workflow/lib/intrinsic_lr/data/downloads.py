"""Downloads of torchvision's data sets: whole or not at all, and one process at a time."""

import fcntl
import os
import shutil
import socket
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.data.dataset_names import SOURCES
from intrinsic_lr.data.splits import reason

SILENCE = 60.0
"""Seconds without an answer after which a connection is given up."""


@contextmanager
def alone(root: Path, place: str) -> Iterator[None]:
    """Keep other processes from downloading into a folder meanwhile; the system frees it on any death."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(root / ".download.lock", os.O_RDWR | os.O_CREAT, 0o666)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        raise InputError(
            f"{place}.root: {str(root)!r} cannot be downloaded into ({error.strerror}); "
            "allowed with download: true: a folder that can be written to, or one that holds the whole set"
        ) from None
    try:
        yield
    finally:
        os.close(descriptor)


def fetch(dataset: str, root: Path, place: str) -> None:
    """Add what is missing of a set to a folder that no other process downloads into.

    torchvision downloads, checks each archive by its MD5 and unpacks it, in a folder of its own below `root`.
    Files move to their place after the whole set could be opened there; a file that exists is never replaced.
    Archives that lie in their place already are taken from there if their MD5 is right.

    Raises:
        InputError: when that fails, with the files that can be put there by hand.
    """
    source = SOURCES[dataset]
    staging = root / ".download"
    try:
        # What a download left that was killed.
        shutil.rmtree(staging, ignore_errors=True)
        try:
            _take_archives(source.archives, root, staging)
            _download(dataset, staging)
            # After a power cut, files have their names only if they have their content.
            os.sync()
            for entry in sorted(staging.iterdir()):
                _add(entry, root / entry.name)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    # Networks, archives and torchvision's parsers raise OSError, RuntimeError, EOFError, zlib.error and more.
    except Exception as error:
        raise InputError(
            f"{place}.download: {dataset} cannot be downloaded from {source.origin} into {str(root)!r} "
            f"({reason(error)}); allowed: a connection to there, or whole files in that folder: "
            f"{', '.join(source.archives)}"
        ) from None


def _take_archives(archives: tuple[str, ...], root: Path, staging: Path) -> None:
    for archive in archives:
        (staging / archive).parent.mkdir(parents=True, exist_ok=True)
        if (root / archive).is_file():
            shutil.copyfile(root / archive, staging / archive)


def _download(dataset: str, folder: Path) -> None:
    import torchvision.datasets

    source = SOURCES[dataset]
    before = socket.getdefaulttimeout()
    # torchvision asks for no limit: a connection that falls silent would hold the workflow for ever.
    socket.setdefaulttimeout(SILENCE)
    # Older torchvision unpacks without a filter. Python before 3.11.4 has none; there the MD5 alone vouches.
    if hasattr(tarfile, "data_filter"):
        tarfile.TarFile.extraction_filter = staticmethod(tarfile.data_filter)
    try:
        for arguments in (source.train, source.test):
            getattr(torchvision.datasets, source.loader)(str(folder), **arguments, download=True)
    finally:
        socket.setdefaulttimeout(before)


def _add(source: Path, target: Path) -> None:
    """Move a file or a folder to where there is none; of a folder that exists, what it lacks."""
    if not os.path.lexists(target):
        os.replace(source, target)
    elif source.is_dir() and target.is_dir():
        for entry in sorted(source.iterdir()):
            _add(entry, target / entry.name)
