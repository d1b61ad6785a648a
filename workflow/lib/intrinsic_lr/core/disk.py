"""Room on a disk, permission to write there, and numbers of bytes and seconds as text."""

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
    """Return a time with its unit: 1.5 hours, 12 minutes or 40 seconds."""
    if seconds >= 5400:
        return f"{seconds / 3600:.1f} hours"
    return f"{seconds / 60:.0f} minutes" if seconds >= 180 else f"{seconds:.0f} seconds"
