"""Command line: Snakemake, after a look at what it would answer with a traceback, or with code out of a config.

It takes the arguments of `snakemake`, puts the working directory right, and becomes that program. `make results`
and the commands that repair a result start it.
"""

import argparse
import contextlib
import fcntl
import getpass
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from intrinsic_lr.commands.options import Parser
from intrinsic_lr.core.disk import nearest
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.locks import MARK
from intrinsic_lr.study.config_files import read_file

LAST_SECOND = 1_000_000_000
"""Nanoseconds before the present that files from the future are put into."""
STARTED = "started"
"""File in Snakemake's folder, locked by the one run that this command has started there."""


def main(argv: list[str] | None = None) -> None:
    """Check the config files and the working directory, and become Snakemake."""
    words = sys.argv[1:] if argv is None else argv
    given = _options(words)
    for file in given.configfile:
        read_file(Path(file))
    folder = Path(given.directory, ".snakemake").absolute()
    check_folder(folder)
    hold(folder)
    if clear_lock(folder):
        print("== removing the lock that a killed run left behind")
    if count := bring_to_present(folder.with_name("results"), time.time_ns()):
        print(f"== {count} results were dated in the future: dated to the present")
    variables = own_home(folder / "home", os.environ)
    if variables.keys() - {"LOGNAME"}:
        print(f"== no home folder that can be written to: Snakemake's cache is in {folder / 'home'}")
    sys.stdout.flush()
    # Modules in the working directory are none of Python's.
    variables = {**os.environ, **variables, "PYTHONSAFEPATH": "1"}
    os.execve(Path(sys.executable).with_name("snakemake"), ["snakemake", *words], variables)


def _options(words: Sequence[str]) -> argparse.Namespace:
    """Return the options of Snakemake that this command looks at."""
    parser = Parser("snakemake", __doc__)
    parser.allow_abbrev = False
    about = "files that override the default config, in this order"
    parser.add_argument("--configfile", "--configfiles", nargs="+", action="extend", default=[], help=about)
    parser.add_argument("--directory", "-d", default=".", help="where results are written")
    given, _ = parser.parse_known_args(words)
    if results := [file for file in given.configfile if Path(file).parts[:1] == ("results",)]:
        raise InputError(f"--configfile: expected config files, got {results[0]}; name results before this option")
    return given


def check_folder(folder: Path) -> None:
    """Raise `OSError` where Snakemake could not write into its folder: permission, a full or a read-only disk.

    InputError for a path with a colon, which separates the folders that programs are looked for in.
    """
    if os.pathsep in str(folder):
        raise InputError(f"expected a folder without {os.pathsep!r} in its path, got {folder.parent}")
    for inner in (folder, folder / "locks", folder / "incomplete", folder / "log"):
        inner.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=inner) as probe:
            probe.write(b"0")


def hold(folder: Path) -> None:
    """Lock a file in `folder` for as long as this process lives, also as another program.

    InputError where another process holds it. Two runs that start at once would both find no lock of Snakemake's.
    """
    handle = os.open(folder / STARTED, os.O_RDWR | os.O_CREAT, 0o666)
    os.set_inheritable(handle, True)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _another_run(folder) from None
    except OSError:
        os.close(handle)  # a file system without locks


def _another_run(folder: Path) -> InputError:
    return InputError(f"another run is at work in {folder.absolute().parent}; wait for it, or stop it first")


def clear_lock(folder: Path) -> bool:
    """Remove the locks that a killed Snakemake left in `folder`, its `.snakemake`; tell whether there were any.

    A workflow at work holds `folder/running` before it takes a lock (`locks.mark_running`). InputError where a run
    is at work, OSError where the file system has no locks, so that nobody can tell.
    """
    locks = list((folder / "locks").glob("*"))
    if not locks:
        return False
    with open(folder / MARK, "a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _another_run(folder) from None
        for lock in locks:
            lock.unlink(missing_ok=True)
    return True


def bring_to_present(results: Path, now: int) -> int:
    """Date files of the future to the last second, in their order; return how many there were.

    Snakemake makes again what is older than a file dated in the future, for as long as that future lasts.

    Args:
        results: folder of the results, with all below.
        now: the present in nanoseconds since 1970.
    """
    times = {path: path.lstat().st_mtime_ns for path in results.rglob("*") if not path.is_dir()}
    late = sorted((path for path, dated in times.items() if dated > now), key=times.__getitem__)
    for place, path in enumerate(late):
        dated = now - LAST_SECOND + place * LAST_SECOND // len(late)
        with contextlib.suppress(OSError):
            os.utime(path, ns=(dated, dated), follow_symlinks=False)
    return len(late)


def own_home(home: Path, variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables by which Snakemake finds a user's name and `home`, where the user has none of his own.

    So it is in a container whose user the system does not know, and where the home folder is read-only.
    """
    changed, users = {}, Path(variables.get("HOME") or os.path.expanduser("~"))
    if not users.is_dir():
        changed["HOME"] = str(home)
    cache = nearest(Path(variables.get("XDG_CACHE_HOME") or users / ".cache"))
    if not os.access(cache, os.W_OK | os.X_OK):
        changed["XDG_CACHE_HOME"] = str(home / "cache")
    try:
        getpass.getuser()
    except (KeyError, OSError):
        changed["LOGNAME"] = f"user{os.getuid()}"
    return changed
