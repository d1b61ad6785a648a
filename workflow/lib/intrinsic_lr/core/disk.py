"""Room on a disk, and permission to write there."""

import os
import shutil
from pathlib import Path

from intrinsic_lr.core.errors import InputError


def check_disk(folder: Path, needed: int, what: str) -> None:
    """Raise `InputError` with both numbers when a folder's disk has less free; the folder may not be there yet."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise InputError(
            f"disk of {there}: found {format_bytes(free)} free; needed are {format_bytes(needed)} for {what}; "
            "allowed are fewer checkpoints or replicates, or another disk"
        )


def check_writable(folder: Path) -> None:
    """Raise `InputError` where no file can be made in a folder that is there: no permission, a read-only disk."""
    if folder.exists() and not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(
            f"{folder.absolute()}: cannot be written to; allowed is a folder in which files can be made"
        )


def format_bytes(size: float) -> str:
    """Return a number of bytes in words: 1.5 MB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
