"""The documentation: the reference of the configuration, the site, and links between the repository's pages."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from intrinsic_lr.study.config_files import merge_files
from intrinsic_lr.study.study import Study

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / folder / "README.md" for folder in ("config", "envs", "results"))]

LINK = r"<link[^>]*rel=[\"']?(?:stylesheet|preconnect|icon)[^>]*href="


def test_what_is_derived_from_the_types_of_the_config_is_up_to_date(tmp_path, monkeypatch):
    """`make docs` writes the schema and the reference again; each key says what it means."""
    monkeypatch.syspath_prepend(ROOT / "docs")
    import configuration

    assert configuration.SCHEMA.read_text() == configuration.schema_text()
    assert configuration.PAGE.read_text() == configuration.page()


@pytest.mark.parametrize("preset", sorted((ROOT / "config").glob("*.yaml")), ids=lambda path: path.stem)
def test_presets_name_their_schema_for_editors_and_agree_with_it(preset):
    first, *_ = preset.read_text().splitlines()
    name = first.removeprefix("# yaml-language-server: $schema=")
    schema = json.loads((preset.parent / name).read_text())
    Draft202012Validator(schema).validate(yaml.safe_load(preset.read_text()))


def test_site_builds_without_warnings_and_loads_nothing_from_elsewhere(tmp_path):
    """Warnings are errors: a link to a page, a heading or a figure that is not there, code that is no code."""
    trees = tmp_path / "trees"
    build = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "--quiet", "-b", "html", "-d", trees]
    done = subprocess.run([*build, "docs", tmp_path / "site"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    address = r"""["'(]?(?:https?:)?//"""
    loaded = re.compile(rf"<(?:script|img|iframe)[^>]*\ssrc={address}|@import[^;]*//|url{address}|{LINK}{address}")
    files = [path for path in (tmp_path / "site").rglob("*") if path.suffix in (".html", ".css")]
    assert any(path.name == "claims.html" for path in files)
    assert [path.name for path in files if loaded.search(path.read_text())] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_files_of_the_repository(page):
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    files = [target.split("#")[0] for target in targets if not target.startswith(("http:", "https:", "#"))]
    assert [file for file in files if not (page.parent / file).exists()] == []


def test_pages_and_workflows_name_targets_that_make_has():
    files = [*PAGES, *ROOT.glob("docs/*.md"), *ROOT.glob(".github/**/*.*")]
    called = re.compile(r"(?:^|[`:] ?)make ([a-z][\w-]*)(?=`|\n|  | [A-Z]+=)", re.MULTILINE)
    named = {target for file in files for target in called.findall(file.read_text())}
    targets = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"lint", "smoke", "test", "docs"} <= named <= targets


def test_readme_lists_every_claim_of_the_default_study_and_some_of_that_beyond_the_paper():
    default, beyond = (Study.read(merge_files(files)).claims for files in ([], [ROOT / "config/beyond.yaml"]))
    listed = re.findall(r"^\| .* \| \[.*\]\(docs/claims.md#(\w+)\)", (ROOT / "README.md").read_text(), re.M)
    assert set(default) <= set(listed) <= {*default, *beyond}


def test_citation_names_the_version_and_the_licence_of_the_project():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert f'version = "{citation["version"]}"' in (ROOT / "pyproject.toml").read_text()
    released = f"## [{citation['version']}] - {citation['date-released']}\n"
    assert released in (ROOT / "CHANGELOG.md").read_text()
    assert (ROOT / "LICENSE").read_text().startswith(f"{citation['license']} License")
    assert any("arXiv:2010.02916" in str(reference) for reference in citation["references"])
