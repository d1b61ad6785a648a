"""Leases of GPU slots, with fake devices and many processes, killed ones among them."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from intrinsic_lr.core import leases
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.leases import candidates, leased, visible

LIBRARY = Path(leases.__file__).parents[2]
A, B, C = ((f"GPU-{letter * 8}-1111-2222-3333-444444444444",) for letter in "abc")
SPLIT = ("GPU-dddddddd-1111", "MIG-11111111-aaaa", "MIG-22222222-aaaa")
LISTED = f"""GPU 0: NVIDIA H100 80GB HBM3 (UUID: {A[0]})
GPU 1: NVIDIA H100 80GB HBM3 (UUID: {SPLIT[0]})
  MIG 1g.10gb     Device  0: (UUID: {SPLIT[1]})
  MIG 1g.10gb     Device  1: (UUID: {SPLIT[2]})
GPU 2: NVIDIA H100 80GB HBM3 (UUID: {B[0]})
"""
DEVICES = [*A, *SPLIT[1:], *B]


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with two whole GPUs and a split one, and a lock folder of its own."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "nvidia-smi"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{LISTED}END\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    for name in (leases.VISIBLE, leases.ORDER):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    (tmp_path / "locks").mkdir()
    monkeypatch.setattr(leases, "lock_folder", lambda: tmp_path / "locks")
    return tmp_path


SETTINGS = {
    None: [*A, *B, *SPLIT[1:]], "": [], "-1": [], "1": [*B], "1,0": [*B, *A], " 0 , 1 ": [*A, *B], "0,7,1": [*A],
    "0,0,1": [*A, *B], "2": [*SPLIT[1:]], A[0]: [*A], "GPU-bbbb": [*B], "GPU-": [], "GPU-ffff,0": [],
    SPLIT[2]: [SPLIT[2]], "MIG-1,0": [SPLIT[1], *A], "0,x,1": [*A],
}  # fmt: skip


@pytest.mark.parametrize("setting", SETTINGS)
def test_cuda_visible_devices(setting):
    assert visible([A, B, SPLIT], setting) == SETTINGS[setting]


@pytest.mark.parametrize(
    ("device", "setting", "expected"),
    [
        *(("cpu", None, []), ("mps", None, []), ("auto", None, DEVICES), ("auto", "", [])),
        *(("cuda", "2,0", [*B, *A]), ("cuda:1", "2,0", [*A]), ("cuda:3", None, [*B])),
    ],
)
def test_which_devices_a_program_may_take(machine, monkeypatch, device, setting, expected):
    if setting is not None:
        monkeypatch.setenv(leases.VISIBLE, setting)
    assert candidates(device) == expected


def test_a_gpu_that_is_not_there_is_named_and_no_driver_is_no_gpu(machine, monkeypatch):
    monkeypatch.setenv(leases.VISIBLE, "0,2")
    with pytest.raises(InputError, match=r"cuda:0, cuda:1 here, got 'cuda:2'$"):
        candidates("cuda:2")
    (machine / "bin" / "nvidia-smi").write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'\nexit 9\n")
    assert leases.installed() == []
    monkeypatch.setenv("PATH", str(machine / "empty"))
    assert leases.installed() == []
    with leased("auto", 1) as device:
        assert device == "cpu"
    with pytest.raises(InputError, match=r"auto, cpu here, got 'cuda'$"):
        candidates("cuda")


def test_devices_are_filled_evenly_and_the_lease_is_what_cuda_will_see(machine, monkeypatch):
    taken = []
    for _ in range(8):
        monkeypatch.delenv(leases.VISIBLE, raising=False)
        lease = leased("auto", 2)
        assert lease.__enter__() == "cuda"
        assert os.environ[leases.ORDER] == "PCI_BUS_ID"
        taken.append((lease, os.environ[leases.VISIBLE]))
    assert [uuid for _, uuid in taken] == [*DEVICES, *DEVICES]
    for lease, _ in taken:
        lease.__exit__(None, None, None)


HOLD = """
import os, sys, time
from pathlib import Path
from intrinsic_lr.core import leases
leases.lock_folder = lambda: Path(sys.argv[1])
with leases.leased("auto", int(sys.argv[2])):
    start = time.monotonic_ns()
    print(os.environ["CUDA_VISIBLE_DEVICES"], start, flush=True)
    time.sleep(float(sys.argv[3]))
    print(time.monotonic_ns(), flush=True)
assert "torch" not in sys.modules
"""


def holder(machine, slots, seconds):
    words = [sys.executable, "-c", HOLD, str(machine / "locks"), str(slots), str(seconds)]
    environment = {**os.environ, "PYTHONPATH": str(LIBRARY)}
    return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True)


def test_never_more_programs_than_slots_and_all_slots_used(machine):
    """Forty programs on four devices with two slots each; every tenth is killed while it holds its slot."""
    running = [holder(machine, 2, 60 if index % 10 == 0 else 0.1) for index in range(40)]
    held = []
    for index, process in enumerate(running):
        uuid, start = process.stdout.readline().split()
        if index % 10 == 0:
            end = time.monotonic_ns()
            process.send_signal(signal.SIGKILL)
        else:
            end = int(process.stdout.readline())
        held.append((uuid, int(start), end))
        process.wait()
    assert {uuid for uuid, _, _ in held} == set(DEVICES)
    for uuid in DEVICES:
        spans = [(start, end) for name, start, end in held if name == uuid]
        at_once = [sum(other[0] <= start < other[1] for other in spans) for start, _ in spans]
        assert max(at_once) <= 2
    assert sum(start < min(end for _, _, end in held) for _, start, _ in held) <= 8


def test_children_do_not_inherit_a_slot(machine, monkeypatch):
    """A program that outlives the one that took the slot does not keep it."""
    monkeypatch.setenv(leases.VISIBLE, "0")
    lease = leased("auto", 1)
    lease.__enter__()
    child = subprocess.Popen(["sleep", "60"], close_fds=False)
    lease.__exit__(None, None, None)
    with leased("auto", 1):
        assert child.poll() is None
    child.kill()
    child.wait()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink(path.parent / "elsewhere", path)])
def test_a_slot_that_cannot_be_locked_is_named(machine, monkeypatch, make):
    """Neither is a pipe waited for, nor a file made where a link points; nor are there locks everywhere."""
    monkeypatch.setenv(leases.VISIBLE, "0")
    slot = machine / "locks" / f"{A[0]}.0"
    make(slot)
    with pytest.raises(InputError, match=re.escape(slot.name)), leased("auto", 1):
        pass
    assert not (machine / "locks" / "elsewhere").exists()
    slot.rename(machine / "away")

    def refused(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(leases.fcntl, "flock", refused)
    with pytest.raises(InputError, match=r"cannot be locked \(No locks available\)"), leased("auto", 1):
        pass


def test_the_lock_folder_is_the_users_own(tmp_path):
    folder = leases.lock_folder(tmp_path)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert leases.lock_folder(tmp_path) == folder
    folder.chmod(0o777)
    with pytest.raises(InputError, match="got drwxrwxrwx"):
        leases.lock_folder(tmp_path)
    folder.rmdir()
    (tmp_path / "target").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "target")
    with pytest.raises(InputError, match="expected a folder"):
        leases.lock_folder(tmp_path)
