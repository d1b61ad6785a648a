"""The command that makes a result again, with which a message about a damaged file ends, and the shell of jobs."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

CONFIG_FILES = "INTRINSIC_LR_CONFIG_FILES"
"""Variable of a job's environment: the config files that its workflow was given, quoted for a shell."""

ALLOCATOR = "MALLOC_MMAP_THRESHOLD_=268435456 MALLOC_TRIM_THRESHOLD_=536870912"
"""glibc hands memory back to the system and fetches it again at every step: up to a quarter of a training's time.
It is told to keep what it has (blocks below 256 MB, up to 512 MB of them); other C libraries ignore this."""


def quote_config(files: Sequence[Path], folder: Path) -> str:
    """Return the value of `CONFIG_FILES`: absolute paths, relative ones where they are below `folder`."""
    return shlex.join(str(file.relative_to(folder) if file.is_relative_to(folder) else file) for file in files)


def name_source(root: Path) -> None:
    """Tell envs/*.post-deploy.sh, which install the library into environments of conda, where the project is."""
    os.environ["INTRINSIC_LR_SOURCE"] = str(root)


def shell_prefix(files: Sequence[Path], folder: Path) -> str:
    """Return what precedes every command of a job: it exports `CONFIG_FILES` and the settings of the allocator."""
    prefix = f"export {ALLOCATOR} {CONFIG_FILES}={shlex.quote(quote_config(files, folder))}; "
    # Snakemake formats it, and the name of a config file may have braces.
    return prefix.replace("{", "{{").replace("}", "}}")


def rerun_command(target: Path | str, how: str = "--force", config: Sequence[Path | str] | None = None) -> str:
    """Return the command that makes a result again, quoted for a shell.

    `target` is the result, or with `--forcerun` the rule. `how` is empty to make what is missing or stale alone.
    `config` are the config files of the study; None for those of the workflow whose job this is.
    """
    files = shlex.split(os.environ.get(CONFIG_FILES, "")) if config is None else [str(file) for file in config]
    configured = ["--configfile", *files] if files else []
    return shlex.join(filter(None, ["snakemake", "--cores", "all", how, str(target), *configured]))
