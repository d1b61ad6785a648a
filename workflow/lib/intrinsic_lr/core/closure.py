"""Which code a stage of the workflow runs: the checksum that makes its results stale when that code is edited.

Snakemake sees scripts and commands, but not the modules that they import.
"""

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from intrinsic_lr.core.errors import InputError

PACKAGE = Path(__file__).parents[1]
SOURCES = ("*.c", "*.h")
"""Files beside a module that it compiles."""


def checksum(*entries: str | Path) -> str:
    """Return a checksum of the names and contents of all files of this package that some code imports.

    Imports are read, not run; those inside functions count too. The package's own `__init__.py` is left out: it
    forwards public names and computes nothing. `entries` are modules as `intrinsic_lr.stats.noise`, and scripts by
    their paths.
    """
    return _checksum(closure(*entries), PACKAGE)


def closure(*entries: str | Path) -> list[Path]:
    """Return the files that `checksum` covers, sorted."""
    found: set[Path] = set()
    waiting = {file for entry in entries for file in ([entry] if isinstance(entry, Path) else _files(entry))}
    while waiting:
        found |= waiting
        names = {name for file in waiting if file.suffix == ".py" for name in _imports(file)}
        waiting = {file for name in names for file in _files(name)} - found
    return sorted(found)


def tree(folder: Path) -> str:
    """Return a checksum of the names and contents of all files below a folder, compiled Python left out."""
    files = (file for file in sorted(folder.rglob("*")) if file.is_file() and file.suffix != ".pyc")
    return _checksum(files, folder)


def _checksum(files: Iterable[Path], folder: Path) -> str:
    digest = hashlib.sha256()
    for file in files:
        name = file.relative_to(folder).as_posix() if file.is_relative_to(folder) else file.name
        digest.update(f"{name}\n{_content_checksum(file)}\n".encode())
    return digest.hexdigest()[:16]


def check_project(root: Path) -> None:
    """Refuse a project that cannot be run: with braces in its path, or whose package is not the installed one."""
    if {"{", "}"} & set(str(root)):
        # Snakemake would fill them in as wildcards.
        raise InputError(f"the project's folder must have no braces in its path, got {str(root)!r}")
    sources = root / "workflow" / "lib" / PACKAGE.name
    if sources != PACKAGE and sources.exists() and tree(PACKAGE) != tree(sources):
        raise InputError(
            f"expected the package intrinsic_lr of {sources}, got {PACKAGE} with other code; install it by "
            f"`pip install --no-deps --editable {root}`"
        )


def _files(module: str) -> Iterator[Path]:
    """Yield the files behind a dotted name: packages on its way, the module, and the sources and data beside it.

    Data of a module have its name, with the ending `.yaml`.
    """
    package, *parts = module.split(".")
    if package != PACKAGE.name:
        return
    place = PACKAGE
    for part in parts:
        place = place / part
        if place.is_dir():
            yield place / "__init__.py"
            yield from (source for pattern in SOURCES for source in place.glob(pattern))
        elif place.with_suffix(".py").is_file():
            yield from (file for file in map(place.with_suffix, (".py", ".yaml")) if file.is_file())
        else:
            return


@cache
def _imports(file: Path) -> tuple[str, ...]:
    """Return the dotted names that a file imports, those of attributes of modules among them."""
    names = []
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return tuple(dict.fromkeys(names))


@cache
def _content_checksum(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
