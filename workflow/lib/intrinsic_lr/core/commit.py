"""Which state of the project's repository computes."""

import subprocess
from pathlib import Path

# Without tags, so that a commit has one name.
_NAME = ("describe", "--always", "--abbrev=40", "--exclude=*", "--dirty")


def current_commit() -> str | None:
    """Return the commit of the library's repository, or None outside of one.

    It ends in `-dirty` where files of the repository have been changed since.
    """
    command = ["git", "-C", str(Path(__file__).parent), *_NAME]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
