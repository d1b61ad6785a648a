"""Command line: run one part of the benchmarks, or all of them.

python -m benchmarks                    every part, with its default options
python -m benchmarks engine --help      one part and its options
"""

import importlib
import os
import sys

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.job_log import run_command
from intrinsic_lr.core.rerun import ALLOCATOR

PARTS = ("engine", "planning", "analyses", "workflow")
# The jobs of the workflow keep memory so; read when a process starts.
MEMORY = dict(setting.split("=") for setting in ALLOCATOR.split())


def main() -> None:
    """Run the part that the command line names, or all."""
    parts, options = sys.argv[1:2] or PARTS, sys.argv[2:]
    if parts[0] in ("-h", "--help"):
        print(__doc__)
        return
    if parts[0] not in PARTS:
        raise InputError(f"part: must be one of {', '.join(PARTS)}, got {parts[0]!r}")
    for part in parts:
        print(f"== {part}", flush=True)
        importlib.import_module(f"benchmarks.{part}").main(options)


if __name__ == "__main__":
    if not MEMORY.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks", *sys.argv[1:]], {**os.environ, **MEMORY})
    run_command(main)
