"""Write the reference of the configuration from its JSON schema: `python docs/configuration.py PAGE`."""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

SCHEMA = Path(__file__).parents[1] / "workflow" / "schemas" / "config.schema.yaml"

HEAD = """\
# The configuration

Every key, as `workflow/schemas/config.schema.yaml` has it, from which this page is made (`make docs`). What a
config file is, how one is laid over another, and which ones come with the project, stands in `config/README.md`.

A key whose default reads *required* has to be given with the mapping that it belongs to; one without a default
is left out where it does not apply. Unknown keys are refused. YAML reads `1e-3` as text: write `1.0e-3`.
"""

TABLE = ["| key | meaning | allowed | default |", "|---|---|---|---|"]

Node = Mapping[str, Any]


def page(schema: Node) -> str:
    """Return the Markdown page: a table for each mapping of the config, and one of the units of time."""
    parts = [HEAD, section("Top level", "", {key: schema[key] for key in ("properties", "$defs")}, schema)]
    parts += [section(f"`{place}`", node["description"], node, schema) for place, node in mappings(schema, schema)]
    units = schema["$defs"]["duration"]
    parts.append(section("Units of time", "Lengths and moments name one unit.", units, schema))
    return "\n".join(parts)


def section(title: str, text: str, node: Node, schema: Node) -> str:
    """Return a heading, what there is to say of the mapping, and a row for each of its keys."""
    lines = [f"## {title}", "", *([text, ""] if text else []), *TABLE]
    for key, value in node["properties"].items():
        described = resolve(value, schema)
        opens_section = next(inner(value, key, schema), None) is not None
        meaning = described["description"].split(". ")[0] if opens_section else described["description"]
        default = spell(described["default"]) if "default" in described else ""
        if key in node.get("required", ()) and not default:
            default = "*required*"
        cells = (f"`{key}`", meaning.rstrip("."), described["allowed"], default)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def mappings(node: Node, schema: Node, place: str = "") -> Iterator[tuple[str, Node]]:
    """Find the mappings with named keys in a node: the place of each, and the mapping as described by its key."""
    for key, value in node["properties"].items():
        for found, mapping in inner(value, f"{place}{key}", schema):
            yield found, {**mapping, "description": resolve(value, schema)["description"]}
            yield from mappings(mapping, schema, f"{found}.")


def inner(node: Node, place: str, schema: Node) -> Iterator[tuple[str, Node]]:
    """Find the mapping with named keys that a value holds: itself, by name, in a list, or as an alternative."""
    node = resolve(node, schema)
    if "properties" in node:
        # A mapping of one unit of time to a number is a value, and no section.
        if node.get("maxProperties") != 1:
            yield place, node
    elif isinstance(node.get("additionalProperties"), Mapping):
        yield from inner(node["additionalProperties"], f"{place}.<name>", schema)
    elif "items" in node:
        yield from inner(node["items"], f"{place}[]", schema)
    elif "anyOf" in node:
        yield from inner(node["anyOf"][0], place, schema)


def resolve(node: Node, schema: Node) -> Node:
    """Return a node with what it refers to in `$defs` filled in; what stands beside the reference wins."""
    if "$ref" not in node:
        return node
    return {**resolve(schema["$defs"][node["$ref"].rpartition("/")[2]], schema), **node}


def spell(value: Any) -> str:
    """Return a value as one would write it in YAML."""
    return f"`{value if isinstance(value, str) else json.dumps(value).replace(chr(34), '')}`"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))), encoding="utf-8")
