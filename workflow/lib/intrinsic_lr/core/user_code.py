"""Python files of the user's own that a config names: checked without a run, and run where a stage needs them."""

import ast
import functools
import hashlib
import importlib
import importlib.abc
import importlib.util
import json
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.storage import open_result

_LIBRARIES = {Path(__file__).parents[1].name, "site-packages"}
"""Folders of code that is not the user's."""


@dataclass(frozen=True)
class UserCode:
    """A function in a Python file, and what it is called with.

    Attributes:
        file: path of the file.
        sha256: of its content.
        options: JSON of the keyword arguments.
        state: of an optimiser, the names of what it keeps of every weight.
    """

    file: str
    sha256: str
    options: str = "{}"
    state: tuple[str, ...] = ()

    @staticmethod
    def read(
        file: str, function: str, options: Mapping[str, Any] | None = None, state: tuple[str, ...] = ()
    ) -> "UserCode":
        """Return the code that a config names; raises as `checked_sum`."""
        return UserCode(file, checked_sum(file, function), json.dumps(options or {}, sort_keys=True), state)

    def function(self, name: str) -> Callable[..., Any]:
        """Return a function of the file with its options filled in; what it raises becomes one line.

        Raises:
            InputError: as `load_function`.
        """
        wanted = functools.partial(load_function(self.file, self.sha256, name), **json.loads(self.options))

        def call(*arguments: Any) -> Any:
            with in_one_line(f"{self.file}: {name}"):
                return wanted(*arguments)

        return call


def checked_sum(file: str, *names: str) -> str:
    """Return the SHA-256 of a Python file, after a look at whether it defines these names. It is not run.

    Raises:
        InputError: for a file that cannot be read, is no Python, or lacks one of the names.
    """
    content = _read(file)
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError) as error:
        place = f" in line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        raise InputError(f"file: expected Python, got {file!r} ({type(error).__name__}{place})") from None
    nodes = list(ast.walk(tree))
    defined = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    defined |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    defined |= {node.asname or node.name for node in nodes if isinstance(node, ast.alias)}
    for name in names:
        if name not in defined and "*" not in defined:
            raise InputError(f"file: expected a function {name} in {file!r}, got none of that name")
    return hashlib.sha256(content).hexdigest()


def load_function(file: str, sha256: str, name: str) -> Callable[..., Any]:
    """Run a file, as `load`, and return a function of it; InputError where it has none of that name."""
    found = getattr(load(file, sha256), name, None)
    if not callable(found):
        raise InputError(f"file: expected a function {name} in {file!r}, got none of that name")
    return found


@functools.lru_cache(maxsize=32)
def load(file: str, sha256: str) -> ModuleType:
    """Run a Python file, which standard error says, and return it as a module.

    Raises:
        InputError: where it cannot be read, has not the content of that checksum, or fails.
    """
    content = _read(file)
    if (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise InputError(f"{file}: expected the content of SHA-256 {sha256}, got {found}")
    print(f"running the code of {file} (sha256 {sha256}), which the config names", file=sys.stderr)
    spec = importlib.util.spec_from_loader(f"file_{sha256}", _Checked(file, content))
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # dataclasses look for it there
    with in_one_line(file):
        spec.loader.exec_module(module)
    return module


@contextmanager
def module(name: str, own: Sequence[str]) -> Iterator[ModuleType]:
    """Yield a module of the package, or the user's own file in its place, of which errors become one line.

    `own` is the path of the file and its SHA-256; empty for the package's own module.
    """
    if not own:
        yield importlib.import_module(name)
        return
    with in_one_line(own[0]):
        yield load(*own)


@contextmanager
def in_one_line(place: str) -> Iterator[None]:
    """Turn whatever a user's code raises into an `InputError` with its kind, its line and its first words."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = str(error).strip().splitlines()
        own = [frame for frame in frames if not _LIBRARIES & {*Path(frame.filename).parts}]
        at = f" at {Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""
        said = lines[0] if lines else "no message"
        raise InputError(f"{place}: {type(error).__name__}{at}: {said}") from None


class _Checked(importlib.abc.SourceLoader):
    """Loads a file whose content is given, so that what is run is what was checked."""

    def __init__(self, path: str, content: bytes) -> None:
        self._path, self._content = path, content

    def get_filename(self, fullname: str) -> str:
        return self._path

    def get_data(self, path: str) -> bytes:
        return self._content


def _read(file: str) -> bytes:
    try:
        with open_result(file) as handle:
            return handle.read()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise InputError(f"file: expected a Python file, got {file!r} ({reason})") from None
