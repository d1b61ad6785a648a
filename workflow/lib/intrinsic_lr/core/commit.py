"""Which state of the project's repository computes."""

import subprocess
from pathlib import Path


def current_commit() -> str | None:
    """Return the commit of the library's repository, `-dirty` where files changed; None outside."""
    # Without tags, so that a commit has one name.
    name = ["describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    try:
        done = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *name], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
