"""Result files that appear whole or not at all, with the checksums that readers verify."""

import hashlib
import json
import os
import platform
import re
import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import BaseModel, ValidationError

from intrinsic_lr.core.errors import InputError, format_os_error
from intrinsic_lr.core.rerun import rerun_command

_CHECKSUM = "checksum"


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turn what the system refuses while `path` is written, such as room on the disk, into an `InputError`."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({format_os_error(error)}); nothing half written is kept: make room, or "
            "allow writing there, and start again"
        ) from None


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path` that replaces `path` once the block has succeeded.

    The content is flushed to disk before the rename, so that a crash leaves the old file or the new one, never a
    part. On an exception the temporary file is removed and `path` stays untouched; temporary files of killed
    processes of this machine are removed too. Raises `InputError` where the system refuses to write.
    """
    path = Path(path)
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path)
        # A name that no other process has, nor a later one of the same number.
        number = f"{os.getpid()}.{secrets.token_hex(4)}"
        temporary = path.with_name(f".{path.name}.{platform.node()}.{number}.tmp")
        try:
            yield temporary
            with open(temporary, "rb") as handle:
                os.fsync(handle.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def _remove_abandoned(path: Path) -> None:
    """Remove temporary files of `path` whose process, on this machine, is no more."""
    pattern = re.compile(re.escape(f".{path.name}.{platform.node()}.") + r"(\d+)\.[0-9a-f]{8}\.tmp")
    for other in path.parent.iterdir():
        if match := pattern.fullmatch(other.name):
            try:
                os.kill(int(match[1]), 0)
            except ProcessLookupError:
                other.unlink(missing_ok=True)
            except PermissionError:
                continue


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def open_result(path: Path | str) -> BinaryIO:
    """Open a file to be read; a pipe in its place is empty, where `open` would wait for a writer."""
    return open(path, "rb", opener=_open_at_once)


def sha256(path: Path | str) -> str:
    """Return the hexadecimal SHA-256 of a file's content."""
    with open_result(path) as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_tensors(path: Path, tensors: Mapping[str, Any]) -> str:
    """Write torch tensors to a safetensors file, flushed to disk, and return its SHA-256.

    The file may be left half written: its checksum is what makes it count. Raises as `atomic_path`.
    """
    from safetensors.torch import save

    content = save({name: value.detach().cpu().contiguous() for name, value in tensors.items()})
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
    return hashlib.sha256(content).hexdigest()


def write_json(path: Path | str, value: dict[str, Any]) -> None:
    """Write `value` as indented JSON with a checksum of itself, whole or not at all."""
    with atomic_path(path) as temporary:
        content = {**value, _CHECKSUM: _checksum(value)}
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    note_written(path)


def note_written(path: Path | str) -> None:
    """Say on standard error, which the log of a job keeps, what was written, with its SHA-256.

    `written` reads it: the files that carry the checksums of others, tables and figures have theirs there.
    """
    print(f"wrote {path} sha256 {sha256(path)}", file=sys.stderr)


def written(log: Path) -> dict[str, str]:
    """Return the SHA-256 of each file that a job's log says was written, the last word on each."""
    with open_result(log) as handle:
        text = handle.read().decode(errors="replace")
    return dict(re.findall(r"^wrote (.+) sha256 ([0-9a-f]{64})$", text, re.MULTILINE))


def read_json(path: Path | str, form: type[BaseModel] | None = None) -> dict[str, Any]:
    """Read a JSON object that `write_json` wrote, without its checksum; InputError where it is anything else.

    `form` has the entries that its reader needs, with their types.
    """
    repair = f"repair with `{rerun_command(path)}`"
    try:
        with open_result(path) as handle:
            value = json.loads(handle.read().decode())
        whole = isinstance(value, dict) and value.pop(_CHECKSUM, None) == _checksum(value)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error}); {repair}") from None
    if not whole:
        raise InputError(f"{path}: damaged (its content is not that of its checksum, or it has none); {repair}")
    try:
        if form:
            form.model_validate(value, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InputError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}; {repair}") from None
    return value


def _checksum(value: dict[str, Any]) -> str:
    """Return the SHA-256 of what JSON says of an object, its checksum left out, in the order of its keys."""
    stated = json.loads(json.dumps({key: entry for key, entry in value.items() if key != _CHECKSUM}))
    return hashlib.sha256(json.dumps(stated, sort_keys=True).encode()).hexdigest()


def verify(path: Path | str, expected_sha256: str, repair: str) -> None:
    """Raise `InputError`, with the command that repairs it, unless the file's SHA-256 is as expected."""
    if not Path(path).is_file():
        raise InputError(f"{path}: missing; repair with `{repair}`")
    if (found := sha256(path)) != expected_sha256:
        raise InputError(
            f"{path}: damaged or replaced (sha256 {found[:12]}…, recorded {expected_sha256[:12]}…); "
            f"repair with `{repair}`"
        )
