"""The command `intrinsic-lr`: one sub-command for each step of the study and for looking after its results."""

import os
import sys
from importlib import import_module

from intrinsic_lr.core.job_log import run_command

COMMANDS = {
    "snakemake": ("commands.run_snakemake", "run the workflow, after a look at its config files and its folder"),
    "prepare": ("commands.prepare_data", "decode a data set once"),
    "train": ("commands.train", "train one block of replicates of one point"),
    "extract": ("commands.extract", "predict the test set with every checkpoint of a block"),
    "tensorboard": ("commands.tensorboard", "write a block's curves as an event file of TensorBoard"),
    "estimate": ("commands.estimate", "say what a study will take: steps, hours, disk"),
    "status": ("commands.status", "say how far a study is"),
    "audit": ("commands.audit", "compare the results with the config: stale, missing, damaged, foreign"),
    "stability": ("commands.stability", "compare the verdicts of a study that was run in several folders"),
}
"""Module of each sub-command and what it does; a module is imported when it is asked for."""


def usage() -> str:
    """Return the help text."""
    lines = [f"  {name:12} {what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join(["usage: intrinsic-lr COMMAND ...", *lines, "`intrinsic-lr COMMAND --help` lists options."])


def main() -> None:
    """Run the sub-command that the command line names."""
    try:
        _run(*(sys.argv[1:] or ["--help"]))
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough; Python would fail once more when it closes the pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(name: str, *arguments: str) -> None:
    if name in ("-h", "--help"):
        print(usage())
    elif name in COMMANDS:
        run_command(lambda: import_module(f"intrinsic_lr.{COMMANDS[name][0]}").main(list(arguments)))
    else:
        sys.exit(f"error: the command must be one of {', '.join(COMMANDS)}, got {name!r}")


if __name__ == "__main__":
    main()
