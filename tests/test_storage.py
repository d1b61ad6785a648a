"""Files that appear whole or not at all."""

import os
import platform
import subprocess

import pytest
import torch
from safetensors.torch import load_file

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.job_log import run_command
from intrinsic_lr.core.storage import TensorWriter, atomic_path, read_json, sha256, verify, write_json


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.uint8, torch.int16, torch.int64])
def test_tensor_writer_agrees_with_the_safetensors_library(tmp_path, dtype):
    tensors = {f"{step:03d}/layer": (torch.randn(3, 4, 5) * 50).to(dtype) for step in range(4)}
    tensors["short"] = torch.tensor([3]).to(dtype)
    path = tmp_path / "file.safetensors"
    with TensorWriter(path, {name: (t.dtype, t.shape) for name, t in tensors.items()}, {"key": "value"}) as writer:
        for name in reversed(tensors):
            writer.write(name, tensors[name])
        assert not path.exists()
    loaded = load_file(path)
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)


def test_incomplete_or_wrong_tensors_leave_no_file(tmp_path):
    path = tmp_path / "file.safetensors"
    layout = {"a": (torch.float32, (2,)), "b": (torch.float32, (2,))}
    with pytest.raises(ValueError, match="never written"), TensorWriter(path, layout) as writer:
        writer.write("a", torch.zeros(2))
    with pytest.raises(ValueError, match="is not within"), TensorWriter(path, layout) as writer:
        writer.write("a", torch.zeros(3))
    assert list(tmp_path.iterdir()) == []


def test_rows_come_in_any_order_and_from_another_writer(tmp_path):
    path, layout = tmp_path / "file.safetensors", {"a": (torch.float32, (5, 2)), "b": (torch.int64, (3,))}
    a, b = torch.randn(5, 2), torch.arange(3)

    def stop_half_way(writer):
        with writer:
            writer.write("a", a[3:], first=3)
            writer.write("b", b)
            writer.keep = True
            raise RuntimeError

    first = TensorWriter(path, layout)
    with pytest.raises(RuntimeError):
        stop_half_way(first)
    assert not path.exists()
    with TensorWriter(path, layout) as second:
        second.adopt(first.temporary, first.written)
        second.write("a", a[:3])
    loaded = load_file(path)
    assert torch.equal(loaded["a"], a)
    assert torch.equal(loaded["b"], b)


def test_what_killed_processes_left_is_removed(tmp_path):
    """A process that has ended, one that has not, one of another machine, and a file of another name."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    here, path = platform.node(), tmp_path / "file"
    names = {
        "ended": f".file.{here}.{ended.pid}.0123abcd.tmp",
        "running": f".file.{here}.{os.getpid()}.0123abcd.tmp",
        "elsewhere": f".file.{here}x.{ended.pid}.0123abcd.tmp",
        "other": f".file2.{here}.{ended.pid}.0123abcd.tmp",
    }
    for name in names.values():
        (tmp_path / name).touch()
    with atomic_path(path) as temporary:
        temporary.write_text("new")
    assert {found.name for found in tmp_path.iterdir()} == {"file", *names.values()} - {names["ended"]}


def test_failure_keeps_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def fail_half_way():
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_verify_names_the_file_and_the_repair(tmp_path):
    path = tmp_path / "file"
    path.write_text("content")
    verify(path, sha256(path), "remake it")
    recorded = sha256(path)
    path.write_text("cOntent")
    with pytest.raises(InputError, match=r"file: damaged or replaced .* repair with `remake it`"):
        verify(path, recorded, "remake it")
    path.unlink()
    with pytest.raises(InputError, match="missing"):
        verify(path, recorded, "remake it")


def test_json_round_trip_and_damage(tmp_path):
    path = tmp_path / "file.json"
    write_json(path, {"a": [1, 2.5, None]})
    assert read_json(path) == {"a": [1, 2.5, None]}
    path.write_text("{")
    with pytest.raises(InputError, match="cannot be read as JSON"):
        read_json(path)


def test_command_reports_one_line(capsys):
    def main():
        raise InputError("key: found 1; allowed: 2")

    with pytest.raises(SystemExit) as caught:
        run_command(main)
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error: key: found 1; allowed: 2\n"
