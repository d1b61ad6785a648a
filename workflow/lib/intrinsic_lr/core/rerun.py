"""The command that makes a result again, with which a message about a damaged file ends, and the shell of jobs."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

CONFIG = "INTRINSIC_LR_CONFIG"
"""Variable of a job's environment: the options by which its workflow was given a config, quoted for a shell."""

ALLOCATOR = "MALLOC_MMAP_THRESHOLD_=268435456 MALLOC_TRIM_THRESHOLD_=536870912"
"""glibc hands memory back to the system and fetches it again at every step: up to a quarter of a training's time.
It is told to keep what it has (blocks below 256 MB, up to 512 MB of them); other C libraries ignore this."""


def config_options(files: Sequence[Path], values: Sequence[str] = ()) -> list[str]:
    """Return Snakemake's options for config files, named from the working directory, and for `key=value`."""
    here = Path.cwd()
    named = [str(file.relative_to(here) if file.is_relative_to(here) else file) for file in files]
    return [*(["--configfile", *named] if named else []), *(["--config", *values] if values else [])]


def name_source(root: Path) -> None:
    """Tell the page's script, and envs/*.post-deploy.sh for environments of conda, where the project is."""
    os.environ["INTRINSIC_LR_SOURCE"] = str(root)


def shell_prefix(options: Sequence[str]) -> str:
    """Return what precedes every command of a job: it exports `CONFIG` and the settings of the allocator."""
    prefix = f"export {ALLOCATOR} {CONFIG}={shlex.quote(shlex.join(options))}; "
    # Snakemake formats it, and the name of a config file may have braces.
    return prefix.replace("{", "{{").replace("}", "}}")


def rerun_command(target: Path | str, how: str = "--force", config: Sequence[Path | str] | None = None) -> str:
    """Return the command that makes a result again, quoted for a shell.

    `target` is the result, or with `--forcerun` the rule. `how` is empty to make what is missing or stale alone.
    `config` are the config files of the study; None for those of the workflow whose job this is.
    """
    options = shlex.split(os.environ.get(CONFIG, ""))
    if config is not None:
        options = ["--configfile", *map(str, config)] if config else []
    return shlex.join(filter(None, ["intrinsic-lr", "snakemake", "--cores", "all", how, str(target), *options]))
