"""One program on each slot of each GPU: a lease that the kernel ends with the process, however it ends.

A workflow starts as many jobs as it has cores and assigns no devices. So every program takes a slot itself, before
CUDA starts: an exclusive lock on a small file, one for each device and slot, in a folder of this machine. That
device is then the only one that CUDA shows to the program. Imports no torch.
"""

import errno
import fcntl
import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from intrinsic_lr.core.errors import InputError, format_os_error

VISIBLE, ORDER = "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"
POLL_SECONDS, TELL_SECONDS = 0.2, 60.0
_UUID = re.compile(r"UUID: ((?:GPU|MIG)-[^)]+)\)")
# Follows no link, waits for no reader of a pipe, and is not inherited by other programs.
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

Gpu = tuple[str, ...]
"""The UUID of a GPU, and those of its MIG instances."""


@contextmanager
def leased(device: str, jobs_per_device: int) -> Iterator[str]:
    """Hold a slot of a device, and yield what to call the device within; wait for a slot where all are taken.

    Programs are spread over the devices first, and share one only when every device has its program. The slots,
    `jobs_per_device` on each device, are those of one user. `device` is `auto` (a GPU where there is one, else the
    CPU), `cpu`, `cuda` (any visible GPU), `cuda:N` (the N-th visible one, counted as the PCI bus does) or `mps`;
    CPU and mps need no lease. Raises `InputError` for a device that is not there, or where no slot can be locked.
    """
    devices = candidates(device)
    if not devices:
        yield "cpu" if device == "auto" else device
        return
    folder, started = lock_folder(), time.monotonic()
    told = started
    while (lease := _take(folder, devices, jobs_per_device)) is None:
        if time.monotonic() - told >= TELL_SECONDS:
            told = time.monotonic()
            slots = f"{jobs_per_device * len(devices)} slots on {len(devices)} devices"
            print(f"waiting for one of {slots}, for {told - started:.0f} s so far", file=sys.stderr)
        time.sleep(POLL_SECONDS)
    handle, uuid = lease
    try:
        # CUDA counts by speed unless told to count by the bus, and shows only what it is told to.
        os.environ |= {ORDER: "PCI_BUS_ID", VISIBLE: uuid}
        yield "cuda"
    finally:
        os.close(handle)


def candidates(device: str) -> list[str]:
    """Return the UUIDs of the devices that a program may take; InputError for a GPU that is not there."""
    if device in ("cpu", "mps"):
        return []
    present = visible(installed(), os.environ.get(VISIBLE))
    named = {"auto": present} | {f"cuda:{index}": [uuid] for index, uuid in enumerate(present)}
    named |= {"cuda": present} if present else {}
    if device not in named:
        raise InputError(f"device: must be one of {', '.join(sorted([*named, 'cpu']))} here, got {device!r}")
    return named[device]


def installed() -> list[Gpu]:
    """Return the GPUs that the driver lists, in the order of the PCI bus; none where there is no driver."""
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return []
    gpus: list[Gpu] = []
    for uuid in _UUID.findall(done.stdout) if done.returncode == 0 else ():
        if uuid.startswith("GPU-"):
            gpus.append((uuid,))
        elif gpus:
            gpus[-1] += (uuid,)
    return gpus


def visible(gpus: Sequence[Gpu], setting: str | None) -> list[str]:
    """Return the devices that CUDA would show, by UUID, as CUDA_VISIBLE_DEVICES selects them.

    It holds indices, UUIDs or unique beginnings of them, of GPUs or MIG instances, joined by commas. As CUDA does,
    what comes after the first entry that is none of these is left out, and so are repetitions (CUDA C++
    Programming Guide, section on environment variables). A GPU with instances stands for these.
    """
    whole = [gpu[1:] or gpu for gpu in gpus]
    if setting is None:
        return [uuid for devices in whole for uuid in devices]
    named = {gpu[0]: devices for gpu, devices in zip(gpus, whole, strict=True)}
    named |= {instance: (instance,) for gpu in gpus for instance in gpu[1:]}
    found: dict[str, None] = {}
    for entry in map(str.strip, setting.split(",")):
        if entry.isdecimal():
            matches = whole[int(entry) : int(entry) + 1]
        else:
            matches = [devices for name, devices in named.items() if entry and name.startswith(entry)]
        if len(matches) != 1:
            break
        found |= dict.fromkeys(matches[0])
    return list(found)


def _take(folder: Path, devices: Sequence[str], slots: int) -> tuple[int, str] | None:
    """Return an open, locked slot file and its device, or None where all are taken."""
    for slot in range(slots):
        for uuid in devices:
            path, handle = folder / f"{re.sub('[^A-Za-z0-9-]', '_', uuid)}.{slot}", -1
            try:
                handle = os.open(path, _FLAGS, 0o600)
                if not stat.S_ISREG(os.fstat(handle).st_mode):
                    raise OSError(errno.EINVAL, "no ordinary file")
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return handle, uuid
            except OSError as error:
                if handle >= 0:
                    os.close(handle)
                if not isinstance(error, BlockingIOError):
                    got = f"one that cannot be locked ({error.strerror})"
                    raise InputError(f"{path}: expected a file on a disk with locks, got {got}") from None
    return None


def lock_folder(parent: Path = Path("/tmp")) -> Path:
    """Return the folder of the slot files, this user's alone; not in `TMPDIR`, which may be one job's own."""
    folder = parent / f"intrinsic-lr-devices-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise InputError(f"folder of the GPUs' slots: cannot be made ({format_os_error(error)})") from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise InputError(
            f"{folder}: expected a folder of user {os.getuid()} with mode 700, "
            f"got {stat.filemode(found.st_mode)} of user {found.st_uid}"
        )
    return folder
