"""One program on each slot of each GPU: a lease that the kernel ends with the process, however it ends.

A workflow starts as many jobs as it has cores and knows no devices. So every program takes a slot itself, before
CUDA starts: an exclusive lock on a small file, one for each device and slot, in a folder of this machine. That
device is then the only one that CUDA shows to the program. Imports no torch.
"""

import fcntl
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from intrinsic_lr.core.errors import InputError

VISIBLE, ORDER = "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"
POLL_SECONDS, TELL_SECONDS = 0.2, 60.0
_GPU = re.compile(r"GPU \d+: .*\(UUID: (GPU-[^)]+)\)")
_MIG = re.compile(r"\s+MIG .*\(UUID: (MIG-[^)]+)\)")


@dataclass(frozen=True)
class Gpu:
    """A GPU of this machine: its UUID, and those of its MIG instances, in the order of the PCI bus."""

    uuid: str
    instances: tuple[str, ...] = ()

    @property
    def devices(self) -> tuple[str, ...]:
        """What CUDA can be given: the instances where there are some, else the GPU."""
        return self.instances or (self.uuid,)


@contextmanager
def leased(device: str, jobs_per_device: int) -> Iterator[str]:
    """Hold a slot of a device, and yield what to call the device within; wait for a slot where all are taken.

    Programs are spread over the devices first, and share one only when every device has its program.

    Args:
        device: `auto` (a GPU where there is one, else the CPU), `cpu`, `cuda` (any visible GPU), `cuda:N` (the
            N-th visible one, counted as the PCI bus does) or `mps`. CPU and mps need no lease.
        jobs_per_device: slots of each device.

    Raises:
        InputError: for a device that is not there.
    """
    devices = wanted(device)
    if not devices:
        yield "cpu" if device == "auto" else device
        return
    with _slot(devices, jobs_per_device) as uuid:
        # CUDA counts by speed unless told to count by the bus, and shows only what it is told to.
        os.environ |= {ORDER: "PCI_BUS_ID", VISIBLE: uuid}
        yield "cuda"


def wanted(device: str) -> list[str]:
    """Return the UUIDs of the devices that a program may take, none where it takes no GPU.

    Raises:
        InputError: for a GPU that is not there.
    """
    if device in ("cpu", "mps"):
        return []
    present = visible(installed(), os.environ.get(VISIBLE))
    if device == "auto":
        return present
    number = device.partition(":")[2]
    if not present or (number and int(number) >= len(present)):
        known = ", ".join(
            ["auto", "cpu", *(["cuda"] if present else []), *(f"cuda:{n}" for n in range(len(present)))]
        )
        raise InputError(f"device: found {device!r}; available here: {known}")
    return [present[int(number)]] if number else present


def installed() -> list[Gpu]:
    """Return the GPUs that the driver lists, in the order of the PCI bus; none where there is no driver."""
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return []
    gpus: list[Gpu] = []
    for line in done.stdout.splitlines() if done.returncode == 0 else ():
        if match := _GPU.match(line):
            gpus.append(Gpu(match[1]))
        elif (match := _MIG.match(line)) and gpus:
            gpus[-1] = Gpu(gpus[-1].uuid, (*gpus[-1].instances, match[1]))
    return gpus


def visible(gpus: Sequence[Gpu], setting: str | None) -> list[str]:
    """Return the devices that CUDA would show, by UUID, as CUDA_VISIBLE_DEVICES selects them.

    It holds indices, UUIDs or unique beginnings of them, of GPUs or MIG instances, joined by commas. As CUDA does,
    what stands after the first entry that is none of these is left out, and so are repetitions (CUDA C++
    Programming Guide, section on environment variables).
    """
    if setting is None:
        return [uuid for gpu in gpus for uuid in gpu.devices]
    found: list[str] = []
    for entry in map(str.strip, setting.split(",")):
        chosen = _selected(gpus, entry)
        if not chosen:
            break
        found += [uuid for uuid in chosen if uuid not in found]
    return found


def _selected(gpus: Sequence[Gpu], entry: str) -> tuple[str, ...]:
    """Return the devices that one entry names, none if it names no single one."""
    if entry.isdecimal():
        return gpus[int(entry)].devices if int(entry) < len(gpus) else ()
    whole = [gpu for gpu in gpus if entry.startswith("GPU-") and gpu.uuid.startswith(entry)]
    if whole:
        return whole[0].devices if len(whole) == 1 else ()
    parts = [uuid for gpu in gpus for uuid in gpu.instances if entry.startswith("MIG-") and uuid.startswith(entry)]
    return tuple(parts) if len(parts) == 1 else ()


@contextmanager
def _slot(devices: Sequence[str], slots: int) -> Iterator[str]:
    """Hold a free slot of one of the devices; yield the device."""
    folder = lock_folder()
    started = told = time.monotonic()
    while (held := _take(folder, devices, slots)) is None:
        if time.monotonic() - told >= TELL_SECONDS:
            told = time.monotonic()
            places = f"{slots * len(devices)} slots on {len(devices)} devices"
            print(f"waiting for one of {places}, for {told - started:.0f} s so far", file=sys.stderr)
        time.sleep(POLL_SECONDS)
    handle, uuid = held
    try:
        yield uuid
    finally:
        os.close(handle)


def _take(folder: Path, devices: Sequence[str], slots: int) -> tuple[int, str] | None:
    """Return an open, locked slot file and its device, or None where all are taken."""
    for slot in range(slots):
        for uuid in devices:
            # Not inherited by other programs that this one may start.
            path = folder / f"{re.sub('[^A-Za-z0-9-]', '_', uuid)}.{slot}"
            handle = _opened(path)
            if _locked(handle, path):
                return handle, uuid
            os.close(handle)
    return None


def _locked(handle: int, path: Path) -> bool:
    """Lock an open slot file, and return whether that succeeded.

    Raises:
        InputError: where the file system has no locks, as a network's may not.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise InputError(
            f"{path}: found a file that cannot be locked ({error.strerror}); needed is a /tmp on a disk or in "
            "memory of this machine"
        ) from None
    return True


def _opened(path: Path) -> int:
    """Open a slot file to read, which is enough to lock it: another user may have made it."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)


def lock_folder() -> Path:
    """Return the folder of the slot files: of this machine, and common to all its users.

    Raises:
        InputError: when it cannot be written to.
    """
    # TMPDIR may be a job's own; leases are the machine's.
    base = Path("/tmp")
    folder = (base if base.is_dir() else Path(tempfile.gettempdir())) / "intrinsic-lr-devices"
    try:
        folder.mkdir(mode=0o1777, exist_ok=True)
        if folder.stat().st_uid == os.getuid():
            folder.chmod(0o1777)
        if not os.access(folder, os.W_OK):
            raise PermissionError(13, "not writable")
    except OSError as error:
        raise InputError(
            f"{folder}: found a folder that cannot be used ({error.strerror}); needed is one that every user of "
            "the GPUs can write to"
        ) from None
    return folder
