"""Files as parts of a page: what a link downloads is inside the page itself."""

import gzip
import re
from base64 import b64encode
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

MIME = {
    ".pdf": "application/pdf",
    ".csv": "text/csv",
    ".gz": "application/gzip",
}
LARGEST_TABLE = 300_000
"""Bytes, compressed: a table above this is named and not embedded, so that the page stays light."""
PLAIN_TABLE = 50_000
"""Bytes: a table up to this is embedded as it is."""


class Download(NamedTuple):
    """A file that the page contains: the name to save it under, the text of its link, its content as a data URL.

    The URL is None where the page only names the file, which is at `path`.
    """

    name: str
    label: str
    url: str | None
    path: str


def data_url(content: bytes, suffix: str) -> str:
    """Return content as a data URL of the type that belongs to a file's suffix."""
    return f"data:{MIME[suffix]};base64,{b64encode(content).decode('ascii')}"


def image_url(path: Path) -> str:
    """Return a vector graphic as a data URL: as text, without its metadata, with coordinates to 0.01 points."""
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<[^>]+>", _rounded, text)
    text = " ".join(text.split()).replace("> <", "><")
    return f"data:image/svg+xml,{quote(text, safe=' /:;=,()?!+*@$[]')}"


def _rounded(tag: re.Match[str]) -> str:
    return re.sub(r"(\d\.\d\d)\d+", r"\1", tag[0])


def file_download(path: Path) -> Download:
    """Return a file as it is."""
    return Download(path.name, path.suffix[1:].upper(), data_url(path.read_bytes(), path.suffix), path.as_posix())


def table_download(path: Path, label: str, name: str = "") -> Download:
    """Return a table: as it is if small, compressed (pandas and R read that) if not, only named if large.

    It is saved as `name`, by default that of the file.
    """
    content, name = path.read_bytes(), name or path.name
    if len(content) <= PLAIN_TABLE:
        return Download(name, f"{label} (CSV)", data_url(content, ".csv"), path.as_posix())
    packed = gzip.compress(content, mtime=0)
    if len(packed) > LARGEST_TABLE:
        return Download(name, label, None, path.as_posix())
    return Download(f"{name}.gz", f"{label} (CSV, gzip)", data_url(packed, ".gz"), path.as_posix())
