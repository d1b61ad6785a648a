"""Config files: read as plain data, and laid over one another. Imports no torch.

Run as a command it refuses files that are no plain data, before Snakemake reads them: in a file that says
`__use_yte__`, Snakemake's own reader runs the Python that stands there.
"""

import copy
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from intrinsic_lr.core.errors import InputError

CODE = "__use_yte__"
"""The key by which a file asks Snakemake to run the Python in it."""
DEEPEST, LARGEST = 20, 100_000
"""How deep a config may be nested, and how many entries it may have with its aliases written out."""
FOLDER = Path(__file__).parents[4] / "config"
"""The project's config files, from which names are relative."""


def bases(config: Mapping[str, Any], folder: Path = FOLDER) -> list[Path]:
    """Return the files between the default config and what the user gave, the lowest layer first.

    `extends` names the file that a config is laid over, which may name another in turn.

    Args:
        config: what the user gave, over the default.
        folder: the project's config files, from which names are relative.

    Raises:
        InputError: when there is no such file, it is no plain config, or a file comes to lie beneath itself.
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
        config = read_file(path, key)
        found.append(path)
    return found[::-1]


def merged(files: Sequence[Path], folder: Path = FOLDER) -> dict[str, Any]:
    """Return the default config with files laid over it, what they extend beneath them, as the workflow does.

    Its keys stand in Snakemake's order too, those of the files first: of several mistakes both name the same one.
    """
    from snakemake.utils import update_config

    given: dict[str, Any] = {}
    for path in files:
        update_config(given, read_file(path))
    default, config = folder / "config.yaml", copy.deepcopy(given)
    for path in (default, *bases({**read_file(default), **given}, folder)):
        update_config(config, read_file(path))
        update_config(config, given)
    return config


def read_file(path: Path, key: str = "config") -> Mapping[str, Any]:
    """Read a config file: YAML that is data alone, with each key once.

    Args:
        path: the file.
        key: what names it, for messages.

    Raises:
        InputError: when the file cannot be read, is no YAML, makes objects, asks to run code, has a key twice, or
            holds no mapping.
    """
    try:
        loader = _Loader(path.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        if node is None:
            return {}
        _check_keys(node)
        config = loader.construct_document(node)
        check_plain(config)
    except InputError as error:
        raise InputError(f"{error} (in {path.name})") from None
    except (OSError, ValueError) as error:
        known = ", ".join(sorted(file.name for file in FOLDER.glob("*.yaml")))
        why = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
        raise InputError(
            f"{key}: found {path.name!r}, which cannot be read ({why}); allowed: {known}, or a path"
        ) from None
    except yaml.YAMLError as error:
        raise InputError(
            f"{key}: found {path.name!r}, which is no YAML of data alone ({' '.join(str(error).split())})"
        ) from None
    if not isinstance(config, Mapping):
        raise InputError(f"{key}: found {path.name!r}, which holds no mapping; allowed is a config file")
    if CODE in config:
        raise InputError(
            f"{key}: found {path.name!r} with the key {CODE!r}, by which a config runs code; allowed is data alone"
        )
    return config


# libyaml's parser, where PyYAML was built with it, takes a tenth of the time.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _check_keys(root: yaml.Node) -> None:
    """Refuse mappings with a key twice, of which readers of YAML take the last, and keys that are no names."""
    seen: set[int] = set()
    left = [("config", root)]
    while left:
        place, node = left.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            left += [(place, item) for item in node.value]
        elif isinstance(node, yaml.MappingNode):
            left += [(inner_place(place, key), value) for key, value in _once(node, place).items()]


def _once(mapping: yaml.MappingNode, place: str) -> dict[str, yaml.Node]:
    found: dict[str, yaml.Node] = {}
    for key, value in mapping.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise InputError(f"{place}: found a list or a mapping as a key in line {line}; allowed are names")
        if key.value in found:
            raise InputError(
                f"{place}: found the key {key.value!r} twice, again in line {line}; allowed is each key once"
            )
        found[key.value] = value
    return found


def check_plain(config: Any) -> None:
    """Refuse what no config holds: numbers that are not finite, keys that are no text, and endless structures.

    Aliases of YAML can make a structure hold itself, or write out a few lines to more than memory holds;
    everything after this may walk through it.

    Raises:
        InputError: naming the key.
    """
    left = [("config", config, 0)]
    for _ in range(LARGEST):
        if not left:
            return
        place, value, depth = left.pop()
        if depth > DEEPEST:
            raise InputError(f"{place}: found more than {DEEPEST} levels; allowed are up to {DEEPEST}")
        if isinstance(value, Mapping):
            if odd := [key for key in value if not isinstance(key, str)]:
                raise InputError(f"{place}: found the key {odd[0]!r}; allowed are names (in quotes where need be)")
            left += [(inner_place(place, key), inner, depth + 1) for key, inner in reversed(value.items())]
        elif isinstance(value, list):
            inner = [(inner_place(place, str(index)), item, depth + 1) for index, item in enumerate(value)]
            left += reversed(inner)
        else:
            _check_number(value, place)
    raise InputError(f"{left[-1][0]}: found more than {LARGEST:,} entries; allowed are up to {LARGEST:,}")


def _check_number(value: Any, place: str) -> None:
    try:
        finite = not isinstance(value, int | float) or math.isfinite(value)
    except OverflowError:
        raise InputError(f"{place}: found a number above 1.7e308; allowed: smaller ones") from None
    if not finite:
        raise InputError(f"{place}: found {value}; allowed: a finite number")


def inner_place(place: str, key: str) -> str:
    """Return how messages name a key below a place: `config: experiments.one`."""
    return f"config: {key}" if place == "config" else f"{place}.{key}"


def main(argv: list[str] | None = None) -> None:
    """Refuse the config files given on the command line that are no plain data."""
    for file in sys.argv[1:] if argv is None else argv:
        read_file(Path(file))
