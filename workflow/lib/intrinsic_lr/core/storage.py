"""Result files that appear whole or not at all, with the checksums that readers verify."""

import hashlib
import json
import math
import os
import platform
import re
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from intrinsic_lr.core.errors import InputError, format_os_error
from intrinsic_lr.core.rerun import rerun_command

_CHUNK = 1 << 20
_CHECKSUM = "checksum"
_DTYPES = {
    "torch.float32": "F32",
    "torch.float64": "F64",
    "torch.uint8": "U8",
    "torch.int16": "I16",
    "torch.int64": "I64",
}


@contextmanager
def named(path: Path) -> Iterator[None]:
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

    The content is flushed to disk before the rename, so that a crash leaves the old file or the new
    one, never a part. On an exception the temporary file is removed and `path` stays untouched; what processes of
    this machine left behind that were killed meanwhile is removed too.

    Raises:
        InputError: the system refuses to write.
    """
    path = Path(path)
    with named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(path)
        temporary = _temporary(path)
        try:
            yield temporary
            publish(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def publish(temporary: Path, path: Path) -> None:
    """Flush a file to disk and give it its name."""
    with open(temporary, "rb") as handle:
        os.fsync(handle.fileno())
    os.replace(temporary, path)


def _temporary(path: Path) -> Path:
    """Return a name that no other process has, nor a later one of the same number."""
    return path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}.{secrets.token_hex(4)}.tmp")


def remove_abandoned(path: Path) -> None:
    """Remove temporary files of `path` whose process, on this machine, is no more."""
    pattern = re.compile(re.escape(f".{path.name}.{platform.node()}.") + r"(\d+)\.[0-9a-f]{8}\.tmp")
    for other in path.parent.iterdir():
        match = pattern.fullmatch(other.name)
        if match and not _alive(int(match[1])):
            other.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def sha256(path: Path | str) -> str:
    """Return the hexadecimal SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while chunk := handle.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


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
    return dict(_WRITTEN.findall(log.read_text(encoding="utf-8", errors="replace")))


_WRITTEN = re.compile(r"^wrote (.+) sha256 ([0-9a-f]{64})$", re.MULTILINE)


def read_json(path: Path | str) -> dict[str, Any]:
    """Read a JSON object without its checksum, if it has one.

    Raises:
        InputError: the file is missing or damaged.
    """
    repair = f"repair with `{rerun_command(path)}`"
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error}); {repair}") from None
    if not isinstance(value, dict) or value.get(_CHECKSUM, _checksum(value)) != _checksum(value):
        raise InputError(f"{path}: damaged (its content is not that of its checksum); {repair}")
    value.pop(_CHECKSUM, None)
    return value


def _checksum(value: dict[str, Any]) -> str:
    """Return the SHA-256 of what JSON says of an object, its checksum left out, in the order of its keys."""
    stated = json.loads(json.dumps({key: entry for key, entry in value.items() if key != _CHECKSUM}))
    return hashlib.sha256(json.dumps(stated, sort_keys=True).encode()).hexdigest()


def verify(path: Path | str, expected_sha256: str, repair: str) -> None:
    """Raise `InputError`, with the command that repairs it, unless the file's SHA-256 is as expected."""
    if not Path(path).is_file():
        raise InputError(f"{path}: missing; repair with `{repair}`")
    found = sha256(path)
    if found != expected_sha256:
        raise InputError(
            f"{path}: damaged or replaced (sha256 {found[:12]}…, recorded {expected_sha256[:12]}…); "
            f"repair with `{repair}`"
        )


class TensorWriter:
    """Write one safetensors file tensor by tensor, without holding them all in memory.

    The safetensors library can only save a complete dictionary. Its file format is a length, a JSON
    header with the offset of each tensor, and the raw bytes; as every shape is known beforehand, the
    header is written first and the tensors, or rows of them, follow as they come. Use as a context manager: the
    file appears under its name only after every declared tensor was written whole.

    Args:
        path: the file to write.
        layout: for each tensor name its torch dtype and shape, in file order.
        metadata: strings kept in the file's header.

    Attributes:
        temporary: where the file grows.
        keep: leave it there on an exception, for another writer to go on from.
        written: for each piece written its name, first row, number of rows and SHA-256.
    """

    def __init__(
        self,
        path: Path | str,
        layout: dict[str, tuple[Any, tuple[int, ...]]],
        metadata: dict[str, str] | None = None,
    ) -> None:
        header: dict[str, Any] = {"__metadata__": metadata or {}}
        offset = 0
        self._offsets: dict[str, int] = {}
        self._layout = {name: (dtype, tuple(shape)) for name, (dtype, shape) in layout.items()}
        for name, (dtype, shape) in self._layout.items():
            size = dtype.itemsize * math.prod(shape)
            header[name] = {
                "dtype": _DTYPES[str(dtype)],
                "shape": list(shape),
                "data_offsets": [offset, offset + size],
            }
            self._offsets[name] = offset
            offset += size
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        self._start = 8 + len(text)
        self._prefix = len(text).to_bytes(8, "little") + text
        self._path = Path(path)
        self.temporary = _temporary(self._path)
        self.keep = False
        self.written: list[tuple[str, int, int, str]] = []

    def __enter__(self) -> "TensorWriter":
        with named(self._path):
            self.temporary.parent.mkdir(parents=True, exist_ok=True)
            self._handle = open(self.temporary, "w+b")
            self._handle.write(self._prefix)
        return self

    def write(self, name: str, tensor: Any, first: int = 0) -> None:
        """Write rows of one declared tensor from `first` on, all of them unless told otherwise.

        Dtype and shape of a row must be the declared ones.
        """
        dtype, shape = self._layout[name]
        count = len(tensor)
        if tensor.dtype != dtype or tuple(tensor.shape[1:]) != shape[1:] or first + count > shape[0]:
            raise ValueError(
                f"{name}: {tensor.dtype} {tuple(tensor.shape)} from {first} is not within {dtype} {shape}"
            )
        self._put(name, first, count, tensor.detach().cpu().contiguous().numpy().tobytes())

    def adopt(self, source: Path, pieces: list[tuple[str, int, int, str]]) -> None:
        """Take over pieces that another writer of the same layout has `written` to its temporary file.

        Raises:
            InputError: when one of them is damaged.
        """
        with open(source, "rb") as handle:
            for name, first, count, digest in pieces:
                start, size = self._place(name, first, count)
                handle.seek(start)
                content = handle.read(size)
                if hashlib.sha256(content).hexdigest() != digest:
                    raise InputError(f"{source}: damaged; train from the beginning after `rm {source}`")
                self._put(name, first, count, content)

    def flush(self) -> None:
        """Bring all that was written to the disk."""
        with named(self._path):
            self._handle.flush()
            os.fsync(self._handle.fileno())

    def _place(self, name: str, first: int, count: int) -> tuple[int, int]:
        """Return offset and length in bytes of rows of a tensor."""
        dtype, shape = self._layout[name]
        row = dtype.itemsize * math.prod(shape[1:])
        return self._start + self._offsets[name] + first * row, count * row

    def _put(self, name: str, first: int, count: int, content: bytes) -> None:
        with named(self._path):
            self._handle.seek(self._place(name, first, count)[0])
            self._handle.write(content)
        self.written.append((name, first, count, hashlib.sha256(content).hexdigest()))

    def _missing(self) -> list[str]:
        rows = dict.fromkeys(self._layout, 0)
        for name, _, count in {(name, first, count) for name, first, count, _ in self.written}:
            rows[name] += count
        return [name for name, (_, shape) in self._layout.items() if rows[name] != shape[0]]

    def __exit__(self, kind: Any, value: Any, trace: Any) -> None:
        missing = [] if kind else self._missing()
        with named(self._path):
            try:
                self._handle.close()
                if kind is None and not missing:
                    publish(self.temporary, self._path)
            finally:
                if not (kind and self.keep):
                    self.temporary.unlink(missing_ok=True)
        if missing:
            raise ValueError(f"never written: {missing[:3]}")
