"""Configs to try: valid ones, ones with numbers at their extremes, and ones with something wrong."""

import copy
import datetime
from pathlib import Path

from hypothesis import strategies as st

from intrinsic_lr.study.config_files import merge_files, read_file
from intrinsic_lr.study.config_types import UNITS, Part
from intrinsic_lr.study.schema import Defaults

CONFIG = Path(__file__).parents[2] / "config"


DEFAULT = read_file(CONFIG / "config.yaml")
SMOKE = merge_files([CONFIG / "smoke.yaml"])


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
    parts = {key: DEFAULT[key] for key in ("datasets", "models", "schedules")}
    return {**DEFAULT, **parts, "experiments": {"one": experiment}, "claims": {}}


def _claimed():
    """Return the small config with a claim that reads data and one that reads a trajectory."""
    config = small(checkpoints={"steps": [0, 25, 50, 100]})
    claims = {name: copy.deepcopy(DEFAULT["claims"][name]) for name in ("scale_invariance", "distance_grows")}
    claims["distance_grows"]["experiments"] = dict.fromkeys(claims["distance_grows"]["experiments"], "one")
    return {**config, "claims": claims}


BASES = (small(), _claimed(), SMOKE, DEFAULT)

TEXTS = (
    "", " ", "a b", "a'b", 'a"b', "a;b", "a\\b", "-rf", "--flag", "$(touch x)", "`touch x`", "${HOME}",
    "{wildcards}",
    "{", "*", "?", "~nobody_at_all/x", "..", "../../etc/passwd", "/etc/passwd", "digits/../..", "a\nb",
    "digits\n",
    "cpu\n", "flip\n", "one\n", "\t", "\0", "\x1b[31m", "\x7f", "\u202e", "\u2028", "\ud800", "über", "数字", "١٢",
    "wd_١_٢_lr_٣_٤", "wd_1_2_lr_3_" + "9" * 5000, "a" * 41, "a" * 300, "x" * 100_000, "1e-3", "10", "-1", "nan",
    "true", "null", "all", "full", "none", "shared", "sphere", "float64", "bfloat16", "constant", "exp_lr",
    "step_decay", "crop=4,flip", "cuda:0", "cuda:99999999999999999999", "digits", "mlp", "one", "wd_1_2_lr_3_4",
)  # fmt: skip
NUMBERS = (
    0, -0.0, 1, -1, 2, 3, 0.5, 1.5, -0.1, 4.0, 1e-9, 1e-18, 1e-30, 5e-324, 1e-320, 0.999, 0.9999999999999, 10,
    99, 1437,
    1e4, 65_536, 10**6, 2**31, 2**53 + 1, 10**9, 10**12, 2**63, 10**18, 1e18, 1e30, 1e300, 1.7e308, 10**400,
    16**5000,
    float("nan"), float("inf"), float("-inf"),
)  # fmt: skip


def _parts(part=Part):
    """Return the types of all mappings of the config."""
    return [part, *(inner for below in part.__subclasses__() for inner in _parts(below))]


KEYS = (
    *sorted({*Defaults.model_fields} | {key for part in _parts() for key in part.model_fields} | set(UNITS)),
    "pathvars", "__use_yte__", "across_one", "one", "digits", "mlp", "within",
)  # fmt: skip


def _bomb(levels=30):
    """Return a list that aliases of YAML make of a few lines, with 2^levels entries written out."""
    value = [0, 0]
    for _ in range(levels):
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
SHAPES = (
    lambda: None,
    lambda: True,
    lambda: False,
    list,
    dict,
    lambda: [[]],
    lambda: [{}],
    lambda: {"steps": []},
    lambda: {None: 1},
    lambda: {1: 2},
    lambda: {datetime.date(2020, 1, 1): 1},
    lambda: {("a", "b"): 1},
    lambda: {"a\nb": {"kind": "digits"}},
    lambda: datetime.date(2020, 1, 1),
    lambda: datetime.datetime(2020, 1, 1, 1, 1),
    lambda: b"bytes",
    lambda: {"a", "b"},
    lambda: _nested(7),
    lambda: _nested(60),
    lambda: _nested(5000),
    lambda: _nested(5001),
    lambda: list(range(1, 1000)),
    lambda: list(range(50_000)),
    lambda: [0.1] * 300_000,
    _bomb,
    _cycle,
)
texts = st.sampled_from(TEXTS) | st.text(max_size=20)
numbers = st.sampled_from(NUMBERS) | st.integers() | st.floats()
shapes = st.sampled_from(SHAPES).map(lambda make: make())
values = st.one_of(
    texts,
    numbers,
    shapes,
    st.lists(texts | numbers, max_size=4),
    st.dictionaries(st.sampled_from(KEYS) | texts, texts | numbers, max_size=3),
)


@st.composite
def mutated(draw):
    """Return a valid config after one to four changes at random places."""
    config = copy.deepcopy(draw(st.sampled_from(BASES)))
    for _ in range(draw(st.integers(1, 4))):
        _mutate(draw, config)
    return config


def _places(node):
    """List (container, key) below a node, of containers that are there twice once, and of the first 3,000."""
    found, seen, left = [], set(), [node]
    while left and len(seen) < 3000:
        inner = left.pop()
        if id(inner) in seen:
            continue
        seen.add(id(inner))
        items = (
            inner.items() if isinstance(inner, dict) else enumerate(inner[:50]) if isinstance(inner, list) else ()
        )
        for key, value in items:
            found.append((inner, key))
            left.append(value)
    return found


def _mutate(draw, config):
    section = draw(st.sampled_from(sorted(config, key=str)))
    places = [(config, section), *_places(config[section])]
    container, key = draw(st.sampled_from(places))
    change = draw(st.sampled_from(CHANGES))
    change(draw, container, key, places)


def _drop(draw, container, key, places):
    del container[key]


def _replace(draw, container, key, places):
    container[key] = draw(values)


def _alias(draw, container, key, places):
    other, there = draw(st.sampled_from(places))
    container[key] = other[there]


def _swap(draw, container, key, places):
    other, there = draw(st.sampled_from(places))
    container[key], other[there] = other[there], container[key]


def _add(draw, container, key, places):
    inner = container[key]
    if isinstance(inner, dict):
        inner[draw(st.sampled_from(KEYS) | texts)] = draw(values)
    elif isinstance(inner, list):
        inner.insert(draw(st.integers(0, 3)), draw(values))
    else:
        container[key] = [inner, draw(values)]


def _rename(draw, container, key, places):
    if isinstance(container, dict):
        container[draw(st.sampled_from(KEYS) | texts)] = container.pop(key)


def _retype(draw, container, key, places):
    ways = (str, bool, lambda value: [value], lambda value: {"steps": value}, lambda value: {key: value})
    container[key] = draw(st.sampled_from(ways))(container[key])


def _scale(draw, container, key, places):
    value = container[key]
    if isinstance(value, list) and value:
        container[key] = draw(st.sampled_from((value[::-1], value * 2, value[:1], value * 20_000)))
    else:
        container[key] = draw(numbers)


CHANGES = (_drop, _replace, _replace, _alias, _swap, _add, _add, _rename, _retype, _scale, _scale)

_rates = st.sampled_from((1e-18, 1e-9, 1e-3, 0.1, 0.5, 1, 30, 1e6, 1e18)) | st.floats(1e-4, 1e3)
_factors = st.sampled_from((1e-18, 1e-3, 0.1, 1, 2, 10, 1e18)) | st.floats(1e-3, 1e3)
_moments = st.sampled_from((0, 0.3, 1, 3, 50, 99.5, 100, 1e3, 1e6, 1e12, 1e18)) | st.floats(0, 200)
_units = st.sampled_from(("steps", "epochs", "inverse_intrinsic_lr"))
_counts = st.sampled_from((1, 2, 3, 7, 64, 1000, 10**6, 10**9, 10**12, 10**18))
_times = st.lists(_moments, min_size=1, max_size=5) | st.integers(1, 30_000).map(lambda n: list(range(1, n + 1)))
_durations = st.builds(lambda unit, moment: {unit: moment or 1}, _units, _moments)
_moments_of = st.builds(lambda unit, times: {unit: times}, _units, _times)
_phase = st.one_of(
    st.fixed_dictionaries(
        {},
        optional={
            "length": _durations, "lr": _rates, "lr_factor": _factors, "weight_decay": _rates,
            "weight_decay_factor": st.just(0) | _factors,
        },
    ),
    st.fixed_dictionaries(
        {
            "length": _durations,
            "draw": st.fixed_dictionaries(
                {
                    "seed": _counts,
                    "changes": _counts,
                    "lr_factor": st.lists(_factors, min_size=2, max_size=2),
                    "weight_decay_factor": st.lists(_factors, min_size=2, max_size=2).map(sorted),
                }
            ),
        }
    ),
)  # fmt: skip
schedules = st.one_of(
    st.fixed_dictionaries(
        {"kind": st.just("multi_step")},
        optional={"lr_milestones": _moments_of, "weight_decay_milestones": _moments_of, "factor": _factors},
    ),
    st.fixed_dictionaries({"kind": st.just("phases"), "phases": st.lists(_phase, min_size=1, max_size=4)}),
    st.fixed_dictionaries(
        {"kind": st.just("exponential"), "growth": st.just("exp_lr") | st.sampled_from((1, 1.0001, 2, 1e18))},
        optional={
            "of": st.sampled_from(("first", "constant", "step_decay", "exp_lr")),
            "first_buffer": st.sampled_from(("zero", "corrected")),
        },
    ),
    st.sampled_from(("constant", "multi_step", "phases", "exponential")).map(lambda kind: {"kind": kind}),
)


def _axis(values):
    return values | st.lists(values, min_size=1, max_size=3, unique=True)


grids = st.fixed_dictionaries(
    {"lr": _axis(_rates)},
    optional={
        "schedule": _axis(st.sampled_from(("first", "second", "constant", "wd_1_2_lr_3_4", "exp_lr"))),
        "momentum": _axis(st.sampled_from((0, 0.5, 0.9, 0.999, 0.9999999999999))),
        "init_seed": _axis(st.integers(0, 10**18)) | st.just(list(range(3000))),
        "data_order": _axis(st.integers(0, 10**18)) | st.just(list(range(3000))),
        "init_scale": _axis(_factors),
        "batch_size": _axis(st.just("full") | st.sampled_from((2, 20, 1437, 1438, 10**18))),
        "init_sharing": _axis(st.sampled_from(("independent", "shared"))),
        "dtype": _axis(st.sampled_from(("float32", "float64"))),
        "constraint": _axis(st.sampled_from(("none", "sphere"))),
        "precision": _axis(st.sampled_from(("float32", "tf32", "bfloat16"))),
    },
)  # fmt: skip


@st.composite
def extreme(draw):
    """Return a config that the schema allows, with schedules, rates and sizes at their extremes."""
    grid = draw(grids)
    grid[draw(st.sampled_from(("weight_decay", "intrinsic_lr")))] = draw(_axis(_rates))
    config = small(
        grid=grid,
        length=draw(st.just({"steps": 100}) | _durations),
        checkpoints=draw(st.just({"steps": [25, 50, 100]}) | _moments_of),
        replicates=draw(st.just(4) | _counts),
        block_size=draw(st.just(4) | _counts),
        history_points=draw(_counts),
        trace_points=draw(_counts | st.just("all")),
    )
    return {**config, "schedules": {**config["schedules"], "first": draw(schedules), "second": draw(schedules)}}


configs = mutated() | extreme()
