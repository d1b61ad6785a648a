"""Write what is derived from the types of the config: its JSON schema for editors, and its reference."""

import json
import types
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic.fields import FieldInfo

from intrinsic_lr.study.config_types import UNITS, Allowed, Part
from intrinsic_lr.study.points import Point
from intrinsic_lr.study.schema import Config

ROOT = Path(__file__).parents[1]
SCHEMA = ROOT / "workflow" / "schemas" / "config.schema.json"
PAGE = ROOT / "docs" / "configuration.md"

HEAD = """\
# The configuration

Every key of a config. This page, and `workflow/schemas/config.schema.json` for editors, are derived from the types
in `workflow/lib/intrinsic_lr/study/schema.py` (`make docs`). What a config file is, how one changes another, and
which ones come with the project, stands in `config/README.md`.

A key whose default reads *required* has to be given with the mapping that it belongs to; one without a default may
be left out. Unknown keys are refused. YAML reads `1e-3` as text: write `1.0e-3`.
"""
UNITS_OF_TIME = """\
## Units of time

A length is a mapping from one unit to a number above 0, such as `{epochs: 10}`; moments are a mapping from one
unit to a list of numbers from 0 on. The units are `steps` (updates of the weights), `epochs` (passes over the
training images) and `inverse_intrinsic_lr` (multiples of $1/\\lambda_e$ at the point's base rates).
"""


def defaults() -> dict[str, dict[str, Any]]:
    """Return the defaults that the types do not have, by type: the default config's, and those of a point."""
    config = yaml.safe_load((ROOT / "config" / "config.yaml").read_text(encoding="utf-8"))
    mappings = {"Config": config, "AnalysisSettings": config["analysis"], "Figures": config["figures"]}
    mappings["Font"] = config["figures"]["font"]
    given = {
        name: {key: value for key, value in mapping.items() if not isinstance(value, dict)}
        for name, mapping in mappings.items()
    }
    return {**given, "Axes": {axis.name: axis.default for axis in fields(Point) if axis.metadata}}


def schema_text() -> str:
    """Return the JSON schema for editors; nothing is required, since a file may change single keys of another."""
    schema = _for_changes(Config.model_json_schema())
    for name, values in defaults().items():
        properties = (schema if name == "Config" else schema["$defs"][name])["properties"]
        for key, value in values.items():
            properties[key] |= {} if value is None else {"default": value}
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=1) + "\n"


def _for_changes(node: Any) -> Any:
    """Return a schema without what is required, of which one alternative suffices, and without titles of keys."""
    if isinstance(node, list):
        return [_for_changes(item) for item in node]
    if not isinstance(node, dict):
        return node
    dropped = {"required", "discriminator"} | {
        key for key, value in node.items() if (key == "title" and isinstance(value, str)) or (key, value) == _NULL
    }
    return {
        ("anyOf" if key == "oneOf" else key): " ".join(value.split())
        if key == "description"
        else _for_changes(value)
        for key, value in node.items()
        if key not in dropped
    }


_NULL = ("default", None)


def page() -> str:
    """Return the reference: a table for each mapping of the config, and the units of time."""
    parts = [HEAD, _section("Top level", Config)]
    parts += [_section(place, part) for place, part in _mappings(Config)]
    return "\n".join([*parts, UNITS_OF_TIME])


def _section(title: str, part: type[Part]) -> str:
    text = " ".join(part.__doc__.split())
    lines = [f"## {title}", "", text, "", "| key | meaning | allowed | default |", "|---|---|---|---|"]
    for key, field in part.model_fields.items():
        if key == "kind":
            continue
        default = defaults().get(part.__name__, {}).get(key, None if field.is_required() else field.default)
        written = "*required*" if field.is_required() else ""
        if default is not None:
            written = f"`{default if isinstance(default, str) else json.dumps(default)}`".replace('"', "")
        cells = (
            f"`{key}`",
            " ".join(field.description.split()),
            _allowed(_hint(field), part.__name__ == "Axes"),
            written,
        )
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def _mappings(part: type[Part], place: str = "") -> Iterator[tuple[str, type[Part]]]:
    """Yield the mappings with named keys below one: their places, and their types."""
    for key, field in part.model_fields.items():
        for inner, mark in _parts(_hint(field)) if key != "defaults" else ():
            here = f"{place}{key}{mark}"
            kind = inner.model_fields.get("kind")
            yield f"`{here}`" + (f" of kind `{get_args(kind.annotation)[0]}`" if kind else ""), inner
            yield from _mappings(inner, f"{here}.")


def _hint(field: FieldInfo) -> Any:
    return Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation


def _parts(hint: Any, mark: str = "") -> Iterator[tuple[type[Part], str]]:
    origin, arguments = get_origin(hint), get_args(hint)
    if isinstance(hint, type) and issubclass(hint, Part):
        yield hint, mark
    elif origin is Annotated:
        yield from _parts(arguments[0], mark)
    elif origin is dict:
        yield from _parts(arguments[1], f"{mark}.<name>")
    elif origin in (list, Union, types.UnionType):
        for inner in arguments:
            yield from _parts(inner, f"{mark}[]" if origin is list else mark)


def _allowed(hint: Any, of_axis: bool = False) -> str:
    """Return what a type allows, in words."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        words = [item.text for item in arguments if isinstance(item, Allowed)]
        return words[-1] if words else _allowed(arguments[0], of_axis)
    if origin is Literal:
        *others, last = map(str, arguments)
        return f"{', '.join(others)} or {last}" if others else last
    if origin in (Union, types.UnionType):
        return " or ".join(_allowed(inner, of_axis) for inner in arguments if inner is not type(None))
    if origin is list:
        inner = _allowed(arguments[0])
        return f"{inner}; or a list of them" if of_axis else f"a list, each entry {inner}"
    if origin is dict and get_args(arguments[0]) == UNITS:
        return "moments" if _allowed(arguments[1]).startswith("a list") else "a length"
    return "text" if hint is str else "a mapping"


if __name__ == "__main__":
    SCHEMA.write_text(schema_text(), encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")
