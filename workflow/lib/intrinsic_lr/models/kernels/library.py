"""The compiled library of the kernels, in the user's cache; one that was altered is compiled again."""

import hashlib
import os
import platform
import subprocess
from pathlib import Path

import torch
from platformdirs import user_cache_path

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.storage import atomic_path

SOURCES = Path(__file__).parent
FLAGS = ("-O3", "-mprefer-vector-width=512", "-march=native", "-fno-math-errno", "-fno-trapping-math")
FLAGS += ("-fopenmp", "-fPIC", "-shared")
COMPILE_SECONDS = 60


def build(compiler: str) -> Path:
    """Return the file of the library, compiled by `compiler` where the cache does not hold it.

    Raises InputError or OSError where the cache cannot be written or belongs to another user, and
    `subprocess.SubprocessError` where the compiler fails or takes longer than `COMPILE_SECONDS`.
    """
    folder = _private(user_cache_path("intrinsic_lr"))
    file = folder / f"kernels-{_fingerprint(compiler)}.so"
    checksum = file.with_suffix(".sha256")
    if not (_is_own(file) and _is_own(checksum) and checksum.read_text() == _sha256(file)):
        with atomic_path(file) as temporary:
            command = [compiler, *FLAGS, *map(str, sorted(SOURCES.glob("*.c"))), "-o", str(temporary), "-lm"]
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=COMPILE_SECONDS)
            compiled = _sha256(temporary)
        with atomic_path(checksum) as temporary:
            temporary.write_text(compiled)
    return file


def inductor_cache(threads: int) -> Path:
    """Return the folder where `torch.compile` keeps what it compiled for this processor and so many threads.

    Raises InputError or OSError as `build` does.
    """
    made_for = hashlib.sha256(f"{_processor()} {torch.__version__} {threads}".encode()).hexdigest()[:20]
    return _private(_private(user_cache_path("intrinsic_lr")) / f"inductor-{made_for}")


def _private(folder: Path) -> Path:
    """Make a folder that none but its owner may enter; raise `InputError` where that is another user."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise InputError(f"{folder}: must be a folder, not a link, and belong to the user {os.getuid()}")
    folder.chmod(0o700)
    return folder


def _is_own(file: Path) -> bool:
    """Tell whether a file is there, no link, and this user's: others may have put some into an open folder."""
    return file.is_file() and not file.is_symlink() and file.stat().st_uid == os.getuid()


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _fingerprint(compiler: str) -> str:
    """Return a name for the source, its compilation and this machine's processor."""
    texts = [source.read_text() for source in sorted(SOURCES.glob("*.[ch]"))]
    text = "\n".join([*texts, " ".join(FLAGS), compiler, _processor()])
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _processor() -> str:
    """Return what compiled code depends on of this machine's processor: a shared home serves many."""
    processor = platform.processor() or platform.machine()
    described = Path("/proc/cpuinfo")
    if described.exists():
        lines = described.read_text().splitlines()
        processor += "".join(
            sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))})
        )
    return processor
