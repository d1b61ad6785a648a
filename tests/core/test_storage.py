"""Files that appear whole or not at all."""

import os
import platform
import subprocess

import pytest
import torch
from safetensors.torch import load_file

from intrinsic_lr.core.storage import atomic_path, sha256, write_tensors


def test_tensors_are_read_back_and_their_checksum_is_the_files(tmp_path):
    tensors = {"a": torch.randn(3, 4), "b": torch.tensor([3], dtype=torch.int16), "c": torch.randn(4, 3).T}
    path = tmp_path / "new" / "file.safetensors"
    assert write_tensors(path, tensors) == sha256(path)
    assert all(torch.equal(value, tensors[name]) for name, value in load_file(path).items())


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
    with pytest.raises(TypeError), atomic_path(path) as temporary:
        temporary.write_text("half") + "no number"
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
