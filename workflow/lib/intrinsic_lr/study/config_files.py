"""Config files: read as plain data, and merged. Imports no torch."""

import contextlib
import copy
import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.study.config_types import UNITS, show

CODE = "__use_yte__"
"""The key by which a file asks Snakemake to run the Python in it."""
DEEPEST, LARGEST = 20, 100_000
"""How deep a config may be nested, and how many entries it may have with its aliases written out."""
_REPOSITORY = Path(__file__).parents[4] / "config"
FOLDER = (
    _REPOSITORY if (_REPOSITORY / "config.yaml").is_file() else Path(sys.prefix, "share", "intrinsic-lr", "config")
)
"""The project's config files, from which names are relative: in the repository, or of the installed package."""


def extended_files(config: Mapping[str, Any], folder: Path = FOLDER) -> list[Path]:
    """Return the files that a config extends, each before the one that extends it.

    Names are relative to `folder`. InputError for a file that is not there, is no plain config or extends itself.
    """
    found: list[Path] = []
    while "extends" in config:
        key = f"{found[-1].name if found else 'config'}: extends"
        path = Path(folder, str(config["extends"]))
        if path in found:
            chain = " extends ".join(file.name for file in (*found, path))
            raise InputError(f"{key}: expected files none of which extends itself, got {chain}")
        config = read_file(path, key, f"a path from {folder}")
        found.append(path)
    return found[::-1]


def merge_over_default(given: Mapping[str, Any], folder: Path = FOLDER) -> dict[str, Any]:
    """Return the default config, changed by the files that a config extends, and then by the config itself."""
    config = read_file(folder / "config.yaml")
    for path in extended_files({**config, **given}, folder):
        config = merge_configs(config, read_file(path))
    return merge_configs(config, given)


def merge_files(files: Sequence[Path], folder: Path = FOLDER) -> dict[str, Any]:
    """Return the default config changed by files given together, as the workflow does."""
    from snakemake.utils import update_config

    given: dict[str, Any] = {}
    for path in files:
        update_config(given, read_file(path))
    return merge_over_default(given, folder)


RATES = {"lr", "weight_decay", "intrinsic_lr"}


def merge_configs(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config with changes merged key by key; lists and values are replaced.

    A mapping is replaced too where both could not hold at once: another `kind`, another unit of time, and two of
    the three rates of a grid in place of two others.
    """
    kept = dict(config)
    if changes.get("kind", kept.get("kind")) != kept.get("kind") or (changes.keys() | kept.keys()) <= set(UNITS):
        kept = {}
    if len(RATES & changes.keys()) == 2:
        kept = {key: value for key, value in kept.items() if key not in RATES}
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(kept.get(key), Mapping)
        kept[key] = merge_configs(kept[key], value) if both else copy.deepcopy(value)
    return kept


def read_file(path: Path, key: str = "config", place: str = "a path") -> Mapping[str, Any]:
    """Read a config file: YAML or JSON that is data alone, with each key once.

    InputError, which begins with `key` and says at what `place` else a file may lie, for one that cannot be read,
    makes objects, asks to run code, has a key twice, or holds no mapping.
    """
    try:
        # That of a shell's <(...) has a writer; another would be waited for.
        if path.is_fifo() and path.parent != Path("/dev/fd"):
            raise ValueError("it is a pipe")
        config = _parse(path.read_text(encoding="utf-8"))
        check_plain(config)
    except InputError as error:
        raise InputError(f"{error} (in {path.name})") from None
    except yaml.YAMLError as error:
        why = " ".join(str(error).split())
        raise InputError(f"{key}: expected YAML of data alone, got {path.name!r}: {why}") from None
    except (OSError, ValueError, RecursionError) as error:
        known = ", ".join(sorted(file.name for file in FOLDER.glob("*.yaml")))
        why = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
        raise InputError(
            f"{key}: {path.name!r} cannot be read ({why}); expected one of {known}, or {place}"
        ) from None
    if not isinstance(config, Mapping):
        raise InputError(f"{key}: expected a mapping, got {show(config)} (in {path.name})")
    if CODE in config:
        raise InputError(f"{key}: expected data alone, got the key {CODE!r}, which runs code (in {path.name})")
    return config


# libyaml's parser, where PyYAML was built with it, takes a tenth of the time.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _parse(text: str) -> Any:
    """Return the data of a JSON or YAML file, as Snakemake does: JSON first, where `1e-05` is a number."""
    if text.lstrip().startswith("{"):
        with contextlib.suppress(json.JSONDecodeError):
            return json.loads(text, object_pairs_hook=_each_key_once)
    loader = _Loader(text)
    node = loader.get_single_node()
    if node is None:
        return None
    _check_nodes(node)
    return loader.construct_document(node)


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise InputError(f"config: expected each key once, got {key!r} twice")
        found[key] = value
    return found


def _check_nodes(root: yaml.Node) -> None:
    """Refuse keys given twice, of which readers of YAML take the last, keys that are no names, and odd numbers."""
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
        elif node.tag.endswith((":int", ":float")) and not _NUMBER.fullmatch(node.value):
            line = node.start_mark.line + 1
            raise InputError(
                f"{place}: expected a decimal number, got {node.value} in line {line}, which YAML versions read "
                "differently; leave out leading zeros, colons and underscores"
            )


_NUMBER = re.compile(
    r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?([eE][-+]?[0-9]+)?|\.[0-9]+([eE][-+]?[0-9]+)?|\.(inf|nan))", re.I
)


def _once(mapping: yaml.MappingNode, place: str) -> dict[str, yaml.Node]:
    found: dict[str, yaml.Node] = {}
    for key, value in mapping.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise InputError(f"{place}: expected names as keys, got a list or a mapping in line {line}")
        if key.value in found:
            raise InputError(f"{place}: expected each key once, got {key.value!r} twice, again in line {line}")
        found[key.value] = value
    return found


def read_values(given: Any) -> Any:
    """Return the values of Snakemake's `--config`, whose nested numbers and words of YAML it leaves as text."""
    if isinstance(given, Mapping):
        return {key: read_values(value) for key, value in given.items()}
    if isinstance(given, list):
        return [read_values(value) for value in given]
    if isinstance(given, str) and _NUMBER.fullmatch(given) and "n" not in given.lower():  # neither inf nor nan
        return int(given) if given.lstrip("+-").isdecimal() else float(given)
    return _WORDS.get(given, given) if isinstance(given, str) else given


_WORDS = {"true": True, "false": False, "null": None}


def check_plain(config: Any) -> None:
    """Refuse what no config holds: numbers that are not finite, keys that are no text, and endless structures.

    Aliases of YAML can make a structure hold itself, or write out a few lines to more than memory holds;
    everything after this may walk through it.
    """
    left = [("config", config, 0)]
    for _ in range(LARGEST):
        if not left:
            return
        place, value, depth = left.pop()
        if depth > DEEPEST:
            raise InputError(f"{place}: expected at most {DEEPEST} levels, got more")
        if isinstance(value, Mapping):
            if odd := [key for key in value if not isinstance(key, str)]:
                raise InputError(f"{place}: expected names as keys (in quotes where need be), got {odd[0]!r}")
            left += [(inner_place(place, key), inner, depth + 1) for key, inner in reversed(value.items())]
        elif isinstance(value, list):
            inner = [(inner_place(place, str(index)), item, depth + 1) for index, item in enumerate(value)]
            left += reversed(inner)
        elif isinstance(value, int | float):
            _check_number(value, place)
    raise InputError(f"{left[-1][0]}: expected at most {LARGEST:,} entries, got more")


def _check_number(value: float, place: str) -> None:
    try:
        finite = math.isfinite(value)
    except OverflowError:
        raise InputError(f"{place}: expected a number below 1.7e308, got a larger one") from None
    if not finite:
        raise InputError(f"{place}: expected a finite number, got {value}")


def inner_place(place: str, key: str) -> str:
    """Return how messages name a key below a place: `config: experiments.one`."""
    named = key or "''"
    return f"config: {named}" if place == "config" else f"{place}.{named}"
