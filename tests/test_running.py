"""The mark of a workflow at work, also as a network file system keeps it."""

import fcntl
import os
import subprocess

import pytest

from intrinsic_lr.running import mark_running


def is_free(folder):
    """Tell whether nobody holds the mark, as the Makefile asks."""
    command = ["flock", "--nonblock", "--exclusive", str(folder / "running"), "true"]
    return subprocess.run(command).returncode == 0


def test_held_while_open_by_several(tmp_path):
    first, second = mark_running(tmp_path), mark_running(tmp_path)
    first.close()
    assert not is_free(tmp_path)
    second.close()
    assert is_free(tmp_path)


def test_held_where_a_shared_lock_needs_a_file_open_to_be_read(tmp_path, monkeypatch):
    """Linux turns `flock` on NFS into a lock on a range of bytes, which asks for that."""
    real = fcntl.flock

    def on_nfs(handle, operation):
        writes_only = fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY
        if operation & fcntl.LOCK_SH and writes_only:
            raise OSError(9, "Bad file descriptor")
        real(handle, operation)

    monkeypatch.setattr(fcntl, "flock", on_nfs)
    held = mark_running(tmp_path)
    assert held is not None
    assert not is_free(tmp_path)
    held.close()


@pytest.mark.parametrize("code", [37, 38, 95])
def test_no_mark_where_there_are_no_locks(tmp_path, monkeypatch, code):
    def refused(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refused)
    assert mark_running(tmp_path) is None
