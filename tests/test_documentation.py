"""The documentation: the reference of the configuration, the site, and links between the repository's pages."""

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from intrinsic_lr.data import dataset_sizes
from intrinsic_lr.study.model_spec import ModelSpec
from intrinsic_lr.study.points import Point
from intrinsic_lr.study.study import HISTORY_POINTS, SCHEMA, TRACE_POINTS

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / folder / "README.md" for folder in ("config", "envs", "results"))]


@pytest.fixture(scope="module")
def schema():
    return yaml.safe_load(SCHEMA.read_text())


def keys(node, place=""):
    """Every named key of the schema: where it stands, and its node."""
    if isinstance(node, dict):
        for key, value in node.get("properties", {}).items():
            yield f"{place}{key}", value
        for key, value in node.items():
            yield from keys(value, f"{place}{key}.")
    elif isinstance(node, list):
        for value in node:
            yield from keys(value, place)


def resolved(node, schema):
    return {**schema["$defs"][node["$ref"].split("/")[-1]], **node} if "$ref" in node else node


def defaults(node):
    return {key: value["default"] for key, value in node["properties"].items() if "default" in value}


def test_every_key_says_what_it_means_and_what_is_allowed(schema):
    for part in ("description", "allowed"):
        assert [place for place, node in keys(schema) if not resolved(node, schema).get(part)] == []


def test_reference_of_the_configuration_is_up_to_date(tmp_path):
    """`make docs` writes it again."""
    subprocess.run([sys.executable, "docs/configuration.py", tmp_path / "page.md"], cwd=ROOT, check=True)
    assert (tmp_path / "page.md").read_text() == (ROOT / "docs" / "configuration.md").read_text()


def test_defaults_of_the_schema_are_those_of_the_default_config(schema):
    config = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
    sections = {"analysis": ["analysis"], "figures": ["figures"], "figures.font": ["figures", "font"], "top": []}
    for path in sections.values():
        node, given = schema, config
        for key in path:
            node, given = node["properties"][key], given[key]
        stated = defaults(node)
        assert stated == {key: given[key] for key in stated}
        plain = {key for key, value in given.items() if not isinstance(value, dict)}
        assert plain <= stated.keys()


def test_defaults_of_the_schema_are_those_of_the_code(schema):
    nodes = schema["$defs"]
    axes = {field.name: field.default for field in fields(Point) if isinstance(field.default, str | int | float)}
    assert defaults(nodes["axes"]) == axes
    models = [ModelSpec.from_config({"kind": kind}) for kind in nodes["model"]["properties"]["kind"]["enum"]]
    grouped = ModelSpec.from_config({"kind": "mlp", "norm": "group"})
    for option, default in defaults(nodes["model"]).items():
        found = [getattr(model, option) for model in ([grouped] if option == "groups" else models)]
        assert {value for value in found if value is not None} == {default}
    experiment = nodes["experiment"]["properties"]
    assert experiment["history_points"]["default"] == HISTORY_POINTS
    assert experiment["trace_points"]["default"] == TRACE_POINTS
    assert nodes["dataset"]["properties"]["test_fraction"]["default"] == dataset_sizes.TEST_FRACTION


def test_site_builds_without_warnings_and_loads_nothing_from_elsewhere(tmp_path):
    """Warnings are errors: a link to a page, a heading or a figure that is not there, code that is no code."""
    trees = tmp_path / "trees"
    build = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "--quiet", "-b", "html", "-d", trees]
    done = subprocess.run([*build, "docs", tmp_path / "site"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    loaded = re.compile(
        r"""<(?:script|img|iframe)[^>]*\ssrc=["']?(?:https?:)?//"""
        r"""|<link[^>]*rel=["']?(?:stylesheet|preconnect|icon)[^>]*href=["']?(?:https?:)?//"""
        r"""|@import[^;]*//|url\(["']?(?:https?:)?//"""
    )
    files = [path for path in (tmp_path / "site").rglob("*") if path.suffix in (".html", ".css")]
    assert any(path.name == "claims.html" for path in files)
    assert [path.name for path in files if loaded.search(path.read_text())] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_files_of_the_repository(page):
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    files = [target.split("#")[0] for target in targets if not target.startswith(("http:", "https:", "#"))]
    assert [file for file in files if not (page.parent / file).exists()] == []


def test_help_lists_every_target_that_is_described():
    described = set(re.findall(r"^([\w-]+):.*## ", (ROOT / "Makefile").read_text(), re.M))
    command = ["make", "--no-print-directory", "help"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert described <= {line.split()[0] for line in shown.stdout.splitlines()}
    assert {"help", "results", "test", "docs"} <= described


def test_citation_names_the_version_and_the_licence_of_the_project():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert f'version = "{citation["version"]}"' in (ROOT / "pyproject.toml").read_text()
    assert (ROOT / "LICENSE").read_text().startswith(f"{citation['license']} License")
    assert any("arXiv:2010.02916" in str(reference) for reference in citation["references"])
