"""The commit that results bear."""

import shutil
import subprocess

from intrinsic_lr.core import commit


def git(folder, *words):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    command = ["git", "-C", folder, *identity, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_a_commit_a_tag_a_change_and_no_repository(tmp_path, monkeypatch):
    module = tmp_path / "commit.py"
    shutil.copy2(commit.__file__, module)
    monkeypatch.setattr(commit, "__file__", str(module))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert commit.current_commit() is None
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "commit.py")
    git(tmp_path, "commit", "-qm", "first")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert commit.current_commit() == head
    git(tmp_path, "tag", "-a", "-m", "a tag", "v1")
    (tmp_path / "untracked").touch()
    assert commit.current_commit() == head
    module.write_text(module.read_text() + "\n")
    assert commit.current_commit() == f"{head}-dirty"
    monkeypatch.setenv("PATH", "")
    assert commit.current_commit() is None
