"""Configs to try: valid ones, ones with something wrong, and ones with values at their extremes."""

import copy
import datetime
from pathlib import Path

from hypothesis import strategies as st

from intrinsic_lr.study.config_files import merge_files, read_file
from intrinsic_lr.study.schema import Config

CONFIG = Path(__file__).parents[2] / "config"
DEFAULT = read_file(CONFIG / "config.yaml")
SMOKE = merge_files([CONFIG / "smoke.yaml"])
BEYOND = merge_files([CONFIG / "beyond.yaml"])


def small(**changes):
    """Return a config of one experiment of two points, with some of its keys changed."""
    experiment = {
        "dataset": "digits",
        "model": "mlp",
        "batch_size": 32,
        "replicates": 4,
        "block_size": 2,
        "grid": {"lr": [0.1, 0.2], "weight_decay": 0.01},
        "length": {"steps": 100},
        "checkpoints": {"steps": [25, 50, 100]},
        "analyses": ["curves", "swa", "distance", "disagreement"],
        **changes,
    }
    return {**DEFAULT, "experiments": {"one": experiment}, "claims": {}}


def _claimed():
    """Return the small config with a claim that reads data and one that reads a trajectory."""
    config = small(checkpoints={"steps": [0, 25, 50, 100]})
    claims = {name: copy.deepcopy(DEFAULT["claims"][name]) for name in ("scale_invariance", "distance_grows")}
    claims["distance_grows"]["experiments"] = dict.fromkeys(claims["distance_grows"]["experiments"], "one")
    return {**config, "claims": claims}


BASES = (small(), _claimed(), SMOKE, DEFAULT)
SCHEMA = Config.model_json_schema()
KEYS = sorted(
    {key for part in (SCHEMA, *SCHEMA["$defs"].values()) for key in part.get("properties", ())}
    | {"steps", "epochs", "inverse_intrinsic_lr", "pathvars", "__use_yte__", "across_one", "one", "digits", "mlp"}
)
TEXTS = (
    "", " ", "a b", "a'b", 'a"b', "a;b", "a\\b", "-rf", "$(touch x)", "`touch x`", "${HOME}", "{wildcards}", "{",
    "*", "~nobody_at_all/x", "..", "../../etc/passwd", "/etc/passwd", "digits/../..", "a\nb", "digits\n", "cpu\n",
    "flip\n", "one\n", "\t", "\0", "\x1b[31m", "\x7f", "\u202e", "\u2028", "\ud800", "über", "数字",
    "wd_١_٢_lr_٣_٤",
    "wd_1_2_lr_3_" + "9" * 5000, "a" * 41, "a" * 300, "x" * 100_000, "1e-3", "10", "-1", "nan", "true", "null",
    "all", "full", "none", "shared", "sphere", "float64", "bfloat16", "constant", "exp_lr", "step_decay",
    "crop=4,flip", "cuda:0", "cuda:99999999999999999999", "digits", "mlp", "one", "wd_1_2_lr_3_4",
)  # fmt: skip
NUMBERS = (
    0, -0.0, 1, -1, 2, 3, 0.5, 1.5, -0.1, 4.0, 1e-9, 1e-18, 5e-324, 0.9999999999999, 10, 99, 1437, 1e4, 65_536,
    10**6, 2**53 + 1, 10**9, 10**12, 2**63, 10**18, 1e18, 1e30, 1.7e308, 10**400, 16**5000, float("nan"),
    float("inf"), float("-inf"),
)  # fmt: skip


def _bomb():
    """Return a list that aliases of YAML make of a few lines, with 2^30 entries written out."""
    value = [0, 0]
    for _ in range(30):
        value = [value, value]
    return value


def _cycle():
    """Return a list and a mapping that hold themselves, as an alias within its own anchor does."""
    value = []
    value += [value, {"steps": value}]
    return value


def _nested(depth, leaf=0):
    for _ in range(depth):
        leaf = [leaf] if depth % 2 else {"steps": leaf}
    return leaf


# What YAML can hold besides mappings, lists, text and numbers, and shapes too large or too deep to walk through.
_DATE = datetime.date(2020, 1, 1)
SHAPES = (
    None, True, False, [], {}, [[]], [{}], {"steps": []}, {None: 1}, {1: 2}, {_DATE: 1}, {("a", "b"): 1}, _DATE,
    {"a\nb": {"kind": "digits"}}, datetime.datetime(2020, 1, 1, 1, 1), b"bytes", {"a", "b"}, list(range(1, 1000)),
)  # fmt: skip
LARGE = (
    lambda: _nested(7), lambda: _nested(60), lambda: _nested(5000), lambda: _nested(5001), _bomb, _cycle,
    lambda: list(range(50_000)), lambda: [0.1] * 300_000,
)  # fmt: skip
texts = st.sampled_from(TEXTS) | st.text(max_size=20)
numbers = st.sampled_from(NUMBERS) | st.integers() | st.floats()
shapes = st.sampled_from(SHAPES).map(copy.deepcopy) | st.sampled_from(LARGE).map(lambda make: make())
keys = st.sampled_from(KEYS) | texts
values = st.one_of(
    texts,
    numbers,
    shapes,
    st.lists(texts | numbers, max_size=4),
    st.dictionaries(keys, texts | numbers, max_size=3),
)


@st.composite
def mutated(draw):
    """Return a valid config after one to four changes at random places."""
    config = copy.deepcopy(draw(st.sampled_from(BASES)))
    for _ in range(draw(st.integers(1, 4))):
        section = draw(st.sampled_from(sorted(config, key=str)))
        _change(draw, [(config, section), *_places(config[section])])
    return config


def _places(node):
    """List (container, key) below a node, of containers that are there twice once, and of the first 3,000."""
    found, seen, left = [], set(), [node]
    while left and len(seen) < 3000:
        inner = left.pop()
        if id(inner) in seen or not isinstance(inner, dict | list):
            continue
        seen.add(id(inner))
        for key, value in inner.items() if isinstance(inner, dict) else enumerate(inner[:50]):
            found.append((inner, key))
            left.append(value)
    return found


CHANGES = ("drop", "replace", "replace", "alias", "swap", "add", "add", "rename", "retype", "scale", "scale")


def _change(draw, places):
    """Change one place, or two of them."""
    container, key = draw(st.sampled_from(places))
    other, there = draw(st.sampled_from(places))
    value = container[key]
    match draw(st.sampled_from(CHANGES)):
        case "drop":
            del container[key]
        case "rename" if isinstance(container, dict):
            container[draw(keys)] = container.pop(key)
        case "alias":
            container[key] = other[there]
        case "swap":
            container[key], other[there] = other[there], value
        case "retype":
            ways = (str, bool, lambda old: [old], lambda old: {"steps": old}, lambda old: {key: old})
            container[key] = draw(st.sampled_from(ways))(value)
        case "add" if isinstance(value, dict):
            value[draw(keys)] = draw(values)
        case "add" if isinstance(value, list):
            value.insert(draw(st.integers(0, 3)), draw(values))
        case "scale" if isinstance(value, list) and value:
            container[key] = draw(st.sampled_from((value[::-1], value * 2, value[:1], value * 20_000)))
        case "scale":
            container[key] = draw(numbers)
        case _:
            container[key] = draw(values)


def allowed(schema):
    """Return a strategy for what a part of the config's JSON schema allows, often at its extremes."""
    if "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].rsplit("/", 1)[1]]
    if "const" in schema or "enum" in schema:
        return st.sampled_from(schema.get("enum") or [schema["const"]])
    if parts := schema.get("anyOf") or schema.get("oneOf"):
        return st.one_of(*(allowed(part) for part in parts if part.get("type") != "null"))
    low, high = schema.get("minimum", 0), schema.get("maximum", 10**18)
    match schema["type"]:
        case "integer":
            usual = [value for value in (1, 2, 3, 7, 64, 1000, 10**9) if low <= value <= high]
            return st.sampled_from([low, high, *usual]) | st.integers(low, min(high, low + 30))
        case "number":
            usual = [value for value in (1e-3, 0.1, 0.3, 0.5, 1, 3, 50, 100, 1e6) if low <= value <= high]
            return st.sampled_from([low, high, *usual]) | st.floats(low, min(high, 200))
        case "boolean":
            return st.booleans()
        case "string":
            plain = st.sampled_from(("first", "second", "constant", "exp_lr", "wd_1_2_lr_3_4"))
            return st.from_regex(schema["pattern"], fullmatch=True) if "pattern" in schema else plain
        case "array":
            most, numeric = schema.get("maxItems", 3), schema["items"].get("type") == "number"
            entries = st.lists(
                allowed(schema["items"]), min_size=schema.get("minItems", 1), max_size=most, unique_by=repr
            )
            return entries.map(sorted) if numeric else entries
        case "object" if "properties" in schema:
            inner = {key: allowed(part) for key, part in schema["properties"].items()}
            needed = {key: inner.pop(key) for key in schema.get("required", ())}
            return st.fixed_dictionaries(needed, optional=inner)
    if "propertyNames" not in schema:
        return st.just({})
    units = st.sampled_from(schema["propertyNames"]["enum"])
    return st.dictionaries(units, allowed(schema["additionalProperties"]), min_size=1, max_size=1)


_KINDS = SCHEMA["properties"]["schedules"]["patternProperties"].popitem()[1]
_EXPERIMENT = SCHEMA["$defs"]["ExperimentConfig"]["properties"]
_AXES = SCHEMA["$defs"]["Axes"]["properties"]
schedules = allowed(_KINDS)
options = st.fixed_dictionaries(
    {},
    optional={
        key: allowed(_EXPERIMENT[key])
        for key in (
            "length",
            "checkpoints",
            "replicates",
            "block_size",
            "history_points",
            "trace_points",
            "compare",
        )
    },
)
rates = ("lr", "weight_decay", "intrinsic_lr")
axes = st.fixed_dictionaries(
    {},
    optional={key: allowed(part) for key, part in _AXES.items() if key not in ("dataset", "model", *rates)},
)


@st.composite
def extreme(draw):
    """Return a config that the schema allows, with schedules, rates and sizes at their extremes."""
    grid = draw(axes)
    for rate in draw(st.permutations(rates))[:2]:
        grid[rate] = draw(allowed(_AXES[rate]))
    config = small(grid=grid, analyses=["curves"], **draw(options))
    return {**config, "schedules": {**config["schedules"], "first": draw(schedules), "second": draw(schedules)}}


configs = mutated() | extreme()
