"""The command that makes a result again, which a line that names a damaged file ends with."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

CONFIG_FILES = "INTRINSIC_LR_CONFIG_FILES"
"""Variable of a job's environment: the config files that its workflow was given, as a shell spells them."""


def spell_config(files: Sequence[Path], folder: Path) -> str:
    """Return the value of `CONFIG_FILES`: absolute paths, spelt from `folder` on where they lie below it."""
    return shlex.join(str(file.relative_to(folder) if file.is_relative_to(folder) else file) for file in files)


def remake(target: Path | str, how: str = "--force", config: Sequence[Path | str] | None = None) -> str:
    """Return the command that makes a result again, as a shell takes it.

    Args:
        target: the result, or with `--forcerun` the rule.
        how: Snakemake's option before it; empty to make what is missing or stale alone.
        config: the config files of the study; None for those of the workflow whose job this is.
    """
    files = shlex.split(os.environ.get(CONFIG_FILES, "")) if config is None else map(str, config)
    named = ["--configfile", *files]
    words = ["snakemake", "--cores", "all", how, str(target), *(named if len(named) > 1 else [])]
    return shlex.join(filter(None, words))
