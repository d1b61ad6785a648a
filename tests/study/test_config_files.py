"""Config files: plain data alone, and how one changes another."""

import json
import os
from pathlib import Path

import pytest
from strategies import CONFIG

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.study.config_files import extended_files, merge_configs, merge_files, read_file, read_values

TEXTS = {
    "a key twice": ("seed: 1\nseed: 2", "each key once, got 'seed' twice, again in line 2"),
    "a name twice": ("run:\n  one: {}\n  one: {}", "config: run: expected each key once, got 'one' twice"),
    "a key twice in an anchor": ("models: &m {a: {}, a: {}}", "config: models: expected each key once, got 'a'"),
    "a key twice in JSON": ('{"seed": 1, "seed": 2}', "each key once, got 'seed' twice"),
    "an object": ("seed: !!python/object/apply:os.mkdir [made]", "YAML of data alone"),
    "a function": ("seed: !!python/name:os.mkdir", "YAML of data alone"),
    "a tag": ("seed: !mine 1", "YAML of data alone"),
    "code": ("__use_yte__: true\nseed: ?__import__('os').mkdir('made')", "'__use_yte__', which runs code"),
    "code switched off": ("__use_yte__: false", "'__use_yte__', which runs code"),
    "an alias within itself": ("models: &m {a: *m}", "at most 20 levels"),
    "a list within itself": ("run: &r [*r]", "at most 20 levels"),
    "aliases that grow": (
        "\n".join(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}' if k else '0'] * 9)}]" for k in range(15)),
        "at most 100,000 entries",
    ),
    "brackets without end": ("run: " + "[" * 5000, "YAML of data alone"),
    "brackets without end in JSON": ('{"run": ' + "[" * 50_000 + "]" * 50_000 + "}", "cannot be read"),
    "a list as a key": ("? [a]\n: 1", "got a list or a mapping in line 1"),
    "a number as a key": ("models: {1: {kind: mlp}}", "config: models: expected names as keys"),
    "a date as a key": ("models: {2020-01-01: {kind: mlp}}", "got datetime.date(2020"),
    "not a number": ("analysis: {confidence: .nan}", "config: analysis.confidence: expected a finite number"),
    "not a number in JSON": ('{"seed": NaN}', "config: seed: expected a finite number"),
    "a number without end": (f"seed: 1{'0' * 5000}", "cannot be read (Exceeds the limit"),
    "an octal number": ("defaults: {batch_size: 020}", "config: defaults.batch_size: expected a decimal number"),
    "a number of base 60": ("length: {steps: 1:30}", "config: length.steps: expected a decimal number"),
    "a number with underscores": ("seed: 1_000", "config: seed: expected a decimal number"),
    "a list": ("- 1", "expected a mapping"),
    "text": ("seed", "expected a mapping"),
    "nothing": ("# a comment", "expected a mapping, got null"),
    "no YAML": ("seed: [1", "YAML of data alone"),
    "a control character": ("seed: \x07", "YAML of data alone"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_file_that_is_no_plain_data_is_refused_in_one_line(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    text, message = TEXTS[name]
    Path("mine.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as refused:
        read_file(Path("mine.yaml"))
    assert message in str(refused.value)
    assert str(refused.value).startswith("config: ")
    assert "mine.yaml" in str(refused.value)
    assert str(refused.value).isprintable()
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yaml"]


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(InputError, match=r"config: 'pipe.yaml' cannot be read \(it is a pipe\)"):
        read_file(tmp_path / "pipe.yaml")


def test_aliases_anchors_merged_keys_and_decimal_numbers_are_data(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: [*a, *a]\nd: {<<: [*a, {z: 4}]}\n"
        "e: [0, -1, +2, 1.5, 1.0e-3, .5, 3., 1.0E+2]\nf: ['020', a:b, 1e-3]\n"
    )
    assert read_file(file) == {
        "a": {"x": 1, "y": 2},
        "b": {"x": 1, "y": 3},
        "c": [{"x": 1, "y": 2}] * 2,
        "d": {"x": 1, "y": 2, "z": 4},
        "e": [0, -1, 2, 1.5, 0.001, 0.5, 3.0, 100.0],
        "f": ["020", "a:b", "1e-3"],
    }


def test_numbers_that_json_writes_are_numbers(tmp_path):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"lr": 1e-05}))
    assert read_file(file) == {"lr": 0.00001}


def test_nested_values_of_a_command_line_are_read_as_yaml():
    """Snakemake leaves them as text."""
    given = {"seed": 3, "a": {"b": ["1", "-2.5", "1e-3", "x", "020", ".inf", "true"], "c": "null"}}
    assert read_values(given) == {"seed": 3, "a": {"b": [1, -2.5, 0.001, "x", "020", ".inf", True], "c": None}}


@pytest.mark.parametrize(
    ("config", "changes", "merged"),
    [
        ({"a": 1, "b": {"c": [1, 2], "d": 3}}, {"b": {"c": [4]}}, {"a": 1, "b": {"c": [4], "d": 3}}),
        ({"a": {"b": 1}}, {"a": 2}, {"a": 2}),
        ({"length": {"steps": 5}}, {"length": {"epochs": 2}}, {"length": {"epochs": 2}}),
        ({"grid": {"lr": 1, "weight_decay": 2, "x": 3}}, {"grid": {"lr": 4}},
         {"grid": {"lr": 4, "weight_decay": 2, "x": 3}}),
        ({"grid": {"lr": 1, "weight_decay": 2, "x": 3}}, {"grid": {"lr": 4, "intrinsic_lr": 5}},
         {"grid": {"lr": 4, "intrinsic_lr": 5, "x": 3}}),
        ({"s": {"kind": "constant"}}, {"s": {"kind": "phases", "phases": []}},
         {"s": {"kind": "phases", "phases": []}}),
        ({"s": {"kind": "a", "factor": 2}}, {"s": {"factor": 3}}, {"s": {"kind": "a", "factor": 3}}),
    ],
)  # fmt: skip
def test_what_replaces_and_what_is_merged(config, changes, merged):
    before = json.dumps([config, changes])
    assert merge_configs(config, changes) == merged
    assert json.dumps([config, changes]) == before


def test_files_that_are_extended_come_before_those_that_extend_them(tmp_path):
    names = [path.name for path in extended_files(read_file(CONFIG / "fashion_mnist_small.yaml"), CONFIG)]
    assert names == ["mnist.yaml", "mnist_small.yaml"]
    assert extended_files({}, CONFIG) == []
    texts = {
        "config": "{a: 0, b: 0, c: 0, d: 0}",
        "one": "{a: 1, b: 1, c: 1}",
        "two": "{extends: one.yaml, b: 2, c: 2}",
    }
    for name, text in {**texts, "three": "{extends: two.yaml, c: 3}"}.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    merged = merge_files([tmp_path / "three.yaml"], tmp_path)
    assert merged == {"a": 1, "b": 2, "c": 3, "d": 0, "extends": "two.yaml"}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.yaml": "extends: b.yaml", "b.yaml": "extends: a.yaml"}, "a.yaml extends b.yaml extends a.yaml"),
        ({"a.yaml": "extends: gone.yaml"}, "a.yaml: extends: 'gone.yaml' cannot be read"),
        ({"a.yaml": "- a list"}, "config: extends: expected a mapping"),
        ({"a.yaml": "a: [1"}, "config: extends: expected YAML of data alone, got 'a.yaml'"),
    ],
)
def test_a_wrong_file_is_named_in_one_line(tmp_path, files, message):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message) as raised:
        extended_files({"extends": "a.yaml"}, tmp_path)
    assert "\n" not in str(raised.value)
