"""Command line: run one part of the benchmarks, or all of them.

python -m benchmarks                    every part, with its default options
python -m benchmarks engine --help      one part and its options
"""

import importlib
import os
import sys

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.job_log import run_command

PARTS = ("engine", "planning", "analyses", "workflow")
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "268435456", "MALLOC_TRIM_THRESHOLD_": "536870912"}
"""How the jobs of the workflow keep memory (workflow/rules/common.smk); read when a process starts."""


def main() -> None:
    """Run the part that the command line names, or all."""
    if not sys.argv[1:]:
        for part in PARTS:
            print(f"== {part}", flush=True)
            importlib.import_module(f"benchmarks.{part}").main([])
        return
    part, *options = sys.argv[1:]
    if part in ("-h", "--help"):
        print(__doc__)
        return
    if part not in PARTS:
        raise InputError(f"part: must be one of {', '.join(PARTS)}, got {part!r}")
    importlib.import_module(f"benchmarks.{part}").main(options)


if __name__ == "__main__":
    if not ALLOCATOR.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks", *sys.argv[1:]], {**os.environ, **ALLOCATOR})
    run_command(main)
