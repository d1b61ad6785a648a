"""No file and no config can make the project run code that is not its own: what the source may not call."""

import ast
import pickle
import re
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.storage import read_json, sha256, write_json
from intrinsic_lr.data import dataset as data
from intrinsic_lr.runs.ensembles import Block
from plans import plan

REPOSITORY = Path(__file__).parents[1]
SOURCES = sorted(file for folder in ("workflow", "benchmarks") for file in (REPOSITORY / folder).rglob("*.py"))
BANNED = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load",
    "yaml.full_load", "pd.read_pickle", "pandas.read_pickle", "torch.jit.load", "torch.hub.load",
    "shutil.unpack_archive",
}  # fmt: skip
"""Calls that run what a file or a text says, or unpack what it names where it says."""
PICKLING = {"pickle", "dill", "joblib", "marshal", "shelve"}
UNPACKING = {"extractall", "extract"}


def dotted(node):
    """Return the name that a call is made by, or an empty text."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


def faults(source):
    """List the calls of a program that trust what they are given."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom | ast.Import):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            found += [name for name in names if name.split(".")[0] in PICKLING]
        if not isinstance(node, ast.Call):
            continue
        name = dotted(node.func)
        given = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
        if name in BANNED or given.get("shell") or given.get("allow_pickle"):
            found.append(name)
        if isinstance(node.func, ast.Attribute) and node.func.attr in UNPACKING and "filter" not in given:
            found.append(node.func.attr)
        if name == "torch.load" and given.get("weights_only") is not True:
            found.append(name)
    return found


def test_the_source_trusts_no_file():
    assert SOURCES
    found = {str(file.relative_to(REPOSITORY)): faults(file.read_text(encoding="utf-8")) for file in SOURCES}
    assert {file: calls for file, calls in found.items() if calls} == {}


def test_code_is_run_in_one_place_only():
    """There the checksum of what is run was compared with the config's (tests/models/test_modules.py)."""
    runs = [file.name for file in SOURCES if re.search(r"exec_module|runpy|source_to_code", file.read_text())]
    assert runs == ["user_code.py"]


TRUSTING = """
import pickle
from joblib import load
eval(text)
yaml.load(text, Loader=yaml.FullLoader)
torch.load(path)
torch.load(path, weights_only=False)
np.load(path, allow_pickle=True)
pd.read_pickle(path)
subprocess.run(text, shell=True)
tarfile.open(path).extractall(folder)
shutil.unpack_archive(path, folder)
os.system(text)
"""


@pytest.mark.parametrize("source", TRUSTING.strip().splitlines())
def test_a_call_that_trusts_a_file_is_found(source):
    assert faults(source)


def test_calls_that_trust_nothing_are_not():
    assert faults("torch.load(path, weights_only=True); np.load(path); yaml.safe_load(text)") == []
    assert faults("tar.extractall(filter='data')") == []


DATA = {"name": "d", "shape": [1, 6, 6], "classes": 3, "sha256": ""}
"""What a training's record says of its data."""


class Trap:
    """An object whose pickle makes a file when it is opened."""

    def __init__(self, made):
        self.made = made

    def __reduce__(self):
        return Path.touch, (self.made,)


def test_a_pickle_in_the_place_of_any_result_is_never_opened(tmp_path):
    """Also where the checksum was recorded with it, as somebody who hands on a results folder could."""
    made, trap, block = tmp_path / "made", tmp_path / "trap", tmp_path / "block"
    trap.write_bytes(pickle.dumps(Trap(made)))
    (block / "checkpoints").mkdir(parents=True)
    names = ("checkpoints/00000001.safetensors", "history.parquet", "trace.parquet")
    for name in names:
        (block / name).write_bytes(trap.read_bytes())
    sums = dict.fromkeys(names, sha256(trap))
    write_json(block / "run.json", {"plan": plan(checkpoints=(1,)).to_dict(), "data": DATA, "sha256": sums})
    with pytest.raises((SafetensorError, InputError)):
        Block(block).weights(1)
    for table in ("history.parquet", "trace.parquet"):
        with pytest.raises((OSError, ValueError)):
            Block(block).table(table)
    with pytest.raises(InputError):
        read_json(trap)
    described = {"name": "d", "classes": ["a"], "sha256": sha256(trap), "mean": [0.5], "std": [0.5]}
    write_json(tmp_path / "info.json", described)
    with pytest.raises((SafetensorError, InputError)):
        data.load(trap, tmp_path / "info.json", "cpu", torch.float32)
    assert not made.exists()
    pickle.loads(trap.read_bytes())
    assert made.exists()


def test_code_among_the_results_of_others_is_not_run(tmp_path):
    """A record may name a file that came with it, and its right checksum."""
    made, code = tmp_path / "made", tmp_path / "results/runs/p/evil.py"
    code.parent.mkdir(parents=True)
    code.write_text(f"make = open({str(made)!r}, 'w')")
    model = {"kind": "module", "file": str(code), "factory": "make"}
    record = {"plan": plan(checkpoints=(1,), model=model).to_dict(), "data": DATA}
    record["sha256"] = {"checkpoints/00000001.safetensors": ""}
    write_json(tmp_path / "results/runs/p/block_0000/run.json", record)
    with pytest.raises(InputError, match="names code among the results"):
        Block(tmp_path / "results/runs/p/block_0000").build_model()
    assert not made.exists()
