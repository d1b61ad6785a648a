"""Checksums of the code that a stage runs."""

import os
import shutil
from pathlib import Path

import pytest

from intrinsic_lr.core import closure
from intrinsic_lr.study.analyses import ANALYSES
from intrinsic_lr.study.claims import CLAIMS
from projects import REPOSITORY

FILES = {
    "intrinsic_lr/a/one.py": "def f():\n    from intrinsic_lr.a import two\n",
    "intrinsic_lr/a/two.py": "import intrinsic_lr.k\nimport math\n",
    "intrinsic_lr/a/two.yaml": "x: 1",
    "intrinsic_lr/a/three.yaml": "x: 1",
    "intrinsic_lr/k/fast.c": "int x;",
    "script.py": "from intrinsic_lr.a.one import f\n",
}
FILES |= dict.fromkeys(
    [f"intrinsic_lr/{name}.py" for name in ("__init__", "a/__init__", "a/three", "k/__init__")], ""
)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The folder of a small package beside a script."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(closure, "PACKAGE", tmp_path / "intrinsic_lr")
    return tmp_path


def checksum(package, *modules):
    closure._imports.cache_clear()
    closure._content_checksum.cache_clear()
    return closure.checksum(package / "script.py", *modules)


@pytest.mark.parametrize(
    "name", ["script.py", "intrinsic_lr/a/two.py", "intrinsic_lr/a/two.yaml", "intrinsic_lr/k/fast.c"]
)
def test_an_edit_a_new_header_or_another_name_of_what_is_imported_changes_the_checksum(package, name):
    before = checksum(package)
    (package / name).write_text(FILES[name] + "\n")
    assert checksum(package) != before
    (package / name).write_text(FILES[name])
    assert checksum(package) == before
    (package / "intrinsic_lr/k/fast.h").write_text("")
    assert checksum(package) not in (before, None)
    (package / "intrinsic_lr/k/fast.h").unlink()
    (package / "intrinsic_lr/k/fast.c").rename(package / "intrinsic_lr/k/slow.c")
    assert checksum(package) != before


def test_what_is_not_imported_or_only_touched_changes_nothing(package):
    before = checksum(package)
    (package / "intrinsic_lr/a/three.py").write_text("x = 1")
    (package / "intrinsic_lr/a/three.yaml").write_text("x: 2")
    (package / "intrinsic_lr/__init__.py").write_text("from intrinsic_lr.a import three")
    for file in package.rglob("*"):
        os.utime(file, (1, 1))
    assert checksum(package) == before
    assert checksum(package, "intrinsic_lr.a.three") != before


def test_the_place_of_the_package_is_no_part_of_it(package, tmp_path_factory, monkeypatch):
    before = checksum(package)
    moved = tmp_path_factory.mktemp("moved") / "there"
    shutil.copytree(package, moved)
    monkeypatch.setattr(closure, "PACKAGE", moved / "intrinsic_lr")
    assert checksum(moved) == before


SCRIPTS = REPOSITORY / "workflow" / "scripts"
STAGES = [("analysis.py", f"intrinsic_lr.analyses.{name}") for name in ANALYSES]
STAGES += [("claim.py", f"intrinsic_lr.claims.{name}") for name in CLAIMS]


@pytest.mark.parametrize(("script", "module"), STAGES)
def test_science_reaches_its_module_and_neither_operations_nor_the_page(script, module):
    files = closure.closure(SCRIPTS / script, module)
    names = {file.relative_to(closure.PACKAGE).as_posix() for file in files if file.parent != SCRIPTS}
    assert module.removeprefix("intrinsic_lr.").replace(".", "/") + ".py" in names
    assert not {name.split("/")[0] for name in names} & {"commands", "report"}
    # What is claimed in words is a parameter of the rules that show it.
    assert not names & {"study/claims.py", "study/analyses.py", "study/study.py"}
    if module.endswith(".swa"):
        assert {Path(name).name for name in names} >= {"averaging.py", "swa.py", "chain.c", "kernels.h"}
