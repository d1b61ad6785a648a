"""The same study gives the same tables: on one core or two, in blocks of any size, moved, and member by member."""

import json
import shlex
import shutil
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from intrinsic_lr.commands import train
from projects import SMOKE, experiments, new_project, overlay, run, tables

TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}
"""Of numbers in tables when blocks have another size: where PyTorch computes, products of a batch of matrices are
then added up in another order, and rounding errors of 1e-7 grow over the steps of a training."""


def assert_close(found, expected, name):
    """Compare two tables: words and whole numbers exactly, other numbers to `TOLERANCE`."""
    assert list(found) == list(expected), name
    for column in expected:
        a, b = found[column], expected[column]
        if b.dtype.kind == "f":
            assert np.allclose(a, b, equal_nan=True, **TOLERANCE), (name, column, (a - b).abs().max())
        else:
            assert a.equals(b), (name, column)


def run_tables(project, *arguments, **options):
    run(project, *arguments, "tables", **options)
    return tables(project)


@pytest.mark.workflow
@pytest.mark.long
def test_one_core(finished, tmp_path):
    assert run_tables(new_project(tmp_path / "project"), "--cores", "1") == tables(finished)


@pytest.mark.workflow
@pytest.mark.long
@pytest.mark.parametrize("size", [1, 7, 64])
def test_blocks_of_any_size(finished, tmp_path, size):
    project = new_project(tmp_path / "project")
    changed = experiments(**{name: {"block_size": size} for name in SMOKE["experiments"]})
    made = run_tables(project, config=overlay(project, experiments=changed))
    assert made.keys() == tables(finished).keys()
    for name in made:
        assert_close(
            *(pd.read_csv(folder / "results/smoke/tables" / name) for folder in (project, finished)), name
        )


@pytest.mark.workflow
@pytest.mark.long
def test_moved_with_its_results(project, finished):
    """The fixture is a copy elsewhere; half of it is made again there."""
    for path in [*project.glob("results/runs/*wd0.2*"), *project.glob("results/smoke/tables/*.csv")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert run_tables(project) == tables(finished)


def test_a_member_is_trained_again_alone_from_its_record(finished, tmp_path, monkeypatch):
    """From the plan in run.json, with the member in place of the block, as docs/faq.md shows."""
    folder = next(finished.glob("results/runs/digits_300-small-*/block_0000"))
    record = json.loads((folder / "run.json").read_text())
    words = shlex.split(record["command"])
    assert words[:2] == ["intrinsic-lr", "train"]
    monkeypatch.chdir(finished)
    data = words[words.index("--data") : words.index("--out")]
    train.main(["--from", str(folder / "run.json"), "--replicates", "2:3", *data, "--out", str(tmp_path)])
    alone = json.loads((tmp_path / "run.json").read_text())
    assert alone["seeds"] == [record["seeds"][2]]
    block, member = (load_file(max((place / "checkpoints").iterdir())) for place in (folder, tmp_path))
    assert block.keys() == member.keys()
    # Compiled kernels take members one by one; PyTorch's batched products add up in another order.
    same = torch.equal if record["kernels"] == "compiled" else partial(torch.allclose, rtol=1e-4, atol=1e-5)
    for name, weights in member.items():
        assert same(weights[0], block[name][2]), name
