"""Config files that build on one another: which ones lie beneath what the user gave. Imports no torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from intrinsic_lr.errors import InputError


def bases(config: Mapping[str, Any], folder: Path) -> list[Path]:
    """Return the files between the default config and what the user gave, the lowest layer first.

    `extends` names the file that a config is laid over, which may name another in turn.

    Args:
        config: what the user gave, over the default.
        folder: the project's config files, from which names are relative.

    Raises:
        InputError: when there is no such file, it holds no mapping, or a file comes to lie beneath itself.
    """
    found: list[Path] = []
    while "extends" in config:
        key = f"{found[-1].name if found else 'config'}: extends"
        path = Path(folder, str(config["extends"]))
        if path in found:
            chain = " over ".join(layer.name for layer in (*found, path))
            raise InputError(
                f"{key}: found a file that lies beneath itself, {chain}; allowed is a chain that ends"
            )
        config = _read(path, key, folder)
        found.append(path)
    return found[::-1]


def _read(path: Path, key: str, folder: Path) -> Mapping[str, Any]:
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        known = ", ".join(sorted(file.name for file in folder.glob("*.yaml")))
        raise InputError(
            f"{key}: found {path.name!r}, which cannot be read; allowed: {known}, or a path"
        ) from None
    except yaml.YAMLError as error:
        raise InputError(
            f"{key}: found {path.name!r}, which is no YAML ({' '.join(str(error).split())})"
        ) from None
    if not isinstance(config, Mapping):
        raise InputError(f"{key}: found {path.name!r}, which holds no mapping; allowed is a config file")
    return config
