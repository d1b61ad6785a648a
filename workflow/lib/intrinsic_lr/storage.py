"""Result files that appear whole or not at all, with the checksums that readers verify."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from intrinsic_lr.errors import InputError

_CHUNK = 1 << 20
_DTYPES = {
    "torch.float32": "F32",
    "torch.float64": "F64",
    "torch.uint8": "U8",
    "torch.int16": "I16",
    "torch.int64": "I64",
}


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path` that replaces `path` once the block has succeeded.

    The content is flushed to disk before the rename, so that a crash leaves the old file or the new
    one, never a part. On an exception the temporary file is removed and `path` stays untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def sha256(path: Path | str) -> str:
    """Return the hexadecimal SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while chunk := handle.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def read_json(path: Path | str) -> Any:
    """Read a JSON file; raise `InputError` when it is missing or damaged."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: cannot be read as JSON ({error}); remake it with `snakemake --cores 1 --force {path}`"
        ) from None


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
    header is written first and the tensors follow as they come. Use as a context manager: the file
    appears under its name only after every declared tensor was written.

    Args:
        path: the file to write.
        layout: for each tensor name its torch dtype and shape, in file order.
        metadata: strings kept in the file's header.
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
            size = dtype.itemsize
            for extent in shape:
                size *= extent
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
        self._context = atomic_path(path)

    def __enter__(self) -> "TensorWriter":
        self._temporary = self._context.__enter__()
        self._handle = open(self._temporary, "wb")
        self._handle.write(self._prefix)
        self._missing = set(self._layout)
        return self

    def write(self, name: str, tensor: Any) -> None:
        """Write one declared tensor; its dtype and shape must be the declared ones."""
        if (tensor.dtype, tuple(tensor.shape)) != self._layout[name]:
            raise ValueError(f"{name}: {tensor.dtype} {tuple(tensor.shape)} is not {self._layout[name]}")
        self._handle.seek(self._start + self._offsets[name])
        self._handle.write(tensor.detach().cpu().contiguous().numpy().tobytes())
        self._missing.discard(name)

    def __exit__(self, kind: Any, value: Any, trace: Any) -> None:
        self._handle.close()
        if kind is None and self._missing:
            kind, value = ValueError, ValueError(f"never written: {sorted(self._missing)[:3]}")
            self._context.__exit__(kind, value, None)
            raise value
        self._context.__exit__(kind, value, trace)
