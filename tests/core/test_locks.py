"""The mark of a workflow at work, also as a network file system keeps it."""

import fcntl
import os

import pytest

from intrinsic_lr.core.locks import is_running, mark_running


def flock_of_nfs(handle, operation, real=fcntl.flock):
    """Lock as Linux does on NFS: by ranges of bytes, which ask for a file open to be read, or to be written."""
    mode = fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE
    if (operation & fcntl.LOCK_SH and mode == os.O_WRONLY) or (operation & fcntl.LOCK_EX and mode == os.O_RDONLY):
        raise OSError(9, "Bad file descriptor")
    real(handle, operation)


@pytest.mark.parametrize("flock", [fcntl.flock, flock_of_nfs])
def test_held_while_open_by_several(tmp_path, monkeypatch, flock):
    monkeypatch.setattr(fcntl, "flock", flock)
    assert not is_running(tmp_path)
    first, second = mark_running(tmp_path), mark_running(tmp_path)
    first.close()
    assert is_running(tmp_path)
    second.close()
    assert not is_running(tmp_path)


@pytest.mark.parametrize("code", [37, 38, 95])
def test_no_mark_where_there_are_no_locks(tmp_path, monkeypatch, code):
    def refused(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refused)
    assert mark_running(tmp_path) is None
    assert not is_running(tmp_path)
