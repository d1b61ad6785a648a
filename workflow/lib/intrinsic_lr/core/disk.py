"""Room on a disk, permission to write there, and numbers of bytes and seconds as text."""

import os
import shutil
from pathlib import Path

from intrinsic_lr.core.errors import InputError


def nearest(folder: Path) -> Path:
    """Return a folder, or the nearest one above it that is there; its disk is where the folder will lie."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def check_disk(folder: Path, needed: int, what: str) -> None:
    """Raise `InputError` with both numbers when a folder's disk has less free; the folder may not be there yet."""
    there = nearest(folder)
    free = shutil.disk_usage(there).free
    if needed > free:
        raise InputError(
            f"disk of {there}: needed are {format_bytes(needed)} for {what}, got {format_bytes(free)} free; "
            "plan fewer checkpoints or replicates, or use another disk"
        )


def check_writable(folder: Path) -> None:
    """Raise `InputError` where no file can be made in a folder that is there: no permission, a read-only disk."""
    if folder.exists() and not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{folder.absolute()}: expected a folder to write to, got one that cannot be")


def format_bytes(size: float) -> str:
    """Return a number of bytes with its unit: 1.5 MB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def format_duration(seconds: float) -> str:
    """Return a time with the unit that fits it: 40 seconds, 12 minutes, 1.5 hours, 20 days or 3 years."""
    for unit, size, least in (("years", 31_557_600, 2), ("days", 86_400, 3), ("hours", 3600, 1.5)):
        if seconds >= least * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds / 60:.0f} minutes" if seconds >= 180 else f"{seconds:.0f} seconds"
