"""Files as parts of a page: what a link downloads is inside the page itself."""

import gzip
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path

MIME = {
    ".svg": "image/svg+xml",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".csv": "text/csv",
    ".gz": "application/gzip",
    ".js": "text/javascript",
}
LARGEST_TABLE = 300_000
"""Bytes, compressed: a table above this is named and not embedded, so that the page stays light."""
_PLAIN = 50_000
"""Bytes: a table up to this is embedded as it is."""


@dataclass(frozen=True)
class Download:
    """A file that the page holds, or only names.

    Attributes:
        name: file name that a browser saves it under.
        label: what the link says.
        url: the content as a data URL; None where the file is only named.
        path: where the file lies.
    """

    name: str
    label: str
    url: str | None
    path: str


def data_url(content: bytes, suffix: str) -> str:
    """Return content as a data URL of the type that belongs to a file's suffix."""
    return f"data:{MIME[suffix]};base64,{b64encode(content).decode('ascii')}"


def file_download(path: Path) -> Download:
    """Return a file as it is."""
    label = path.suffix[1:].upper()
    return Download(path.name, label, data_url(path.read_bytes(), path.suffix), path.as_posix())


def table_download(path: Path, label: str) -> Download:
    """Return a table: as it is if small, compressed (pandas and R read that) if not, only named if large."""
    content = path.read_bytes()
    if len(content) <= _PLAIN:
        return Download(path.name, f"{label} (CSV)", data_url(content, ".csv"), path.as_posix())
    packed = gzip.compress(content, mtime=0)
    if len(packed) > LARGEST_TABLE:
        return Download(path.name, label, None, path.as_posix())
    return Download(f"{path.name}.gz", f"{label} (CSV, gzip)", data_url(packed, ".gz"), path.as_posix())
