"""What the tables of all analyses have in common."""

import pandas as pd
import pytest

from intrinsic_lr.analyses import tables
from intrinsic_lr.study.experiment import Experiment, PlannedPoint

BASE = {"dataset": "digits", "model": "mlp", "batch_size": 32, "lr": 0.1, "weight_decay": 0.01}


def described(**changes):
    return PlannedPoint(**{**BASE, **changes}, steps=(1, 2))


def test_point_columns_stand_in_front():
    table = tables.with_point(pd.DataFrame({"step": [1, 2]}, index=[5, 5]), described())
    assert list(table.columns) == ["point", *tables.POINT_COLUMNS, "step"]
    assert set(table["point"]) == {"digits-mlp-b32-lr0.1-wd0.01"}


def test_axes_of_the_optimiser_have_a_column_where_the_experiment_sets_them():
    points = [described(), described(optimiser="adamw", eps=1e-6)]
    frame = pd.DataFrame({"point": [point.name for point in points]})
    table = tables.with_axes(frame, points)
    assert table["optimiser"].tolist() == ["sgd", "adamw"]
    assert table["eps"].isna().tolist() == [True, False]
    assert "beta1" not in table
    assert "optimiser" not in tables.with_axes(frame[:1], points[:1])


@pytest.mark.parametrize(
    ("changes", "axes"),
    [
        ({"init_seed": 1}, ["init_seed"]),
        ({"lr": 1.0, "weight_decay": 0.001}, ["lr"]),
        ({"weight_decay": 0.1}, ["intrinsic_lr"]),
        ({"lr": 1.0, "weight_decay": 0.1}, ["lr", "intrinsic_lr"]),
        ({"init_scale": 3.0, "batch_size": 64}, ["batch_size", "init_scale"]),
        ({"data_order": 0, "constraint": "sphere"}, ["data_order", "constraint"]),
    ],
)
def test_axes_that_differ(changes, axes):
    assert tables.differing_axes(described(), described(**changes)) == axes


@pytest.mark.parametrize(("replicates", "pairs"), [(1, []), (2, [(0, 1)]), (3, [(0, 1), (1, 2), (2, 0)])])
def test_independent_initialisations_are_paired_within_a_point(replicates, pairs):
    found = list(tables.across_pairs(Experiment("one", (described(),), replicates)))
    assert [pair for _, _, _, members in found for pair in members] == pairs
    assert {relation for _, _, relation, _ in found} <= {"across_initialisations"}


def test_shared_initialisations_are_paired_across_points():
    points = (described(init_sharing="shared"), described(init_sharing="shared", init_seed=1), described(lr=0.3))
    found = list(tables.across_pairs(Experiment("one", points, 2)))
    assert [(a.init_seed, b.init_seed, relation) for a, b, relation, _ in found] == [
        (0, 0, "across_replicates"),
        (1, 1, "across_replicates"),
        (0, 0, "across_initialisations"),
        (0, 1, "across_initialisations"),
    ]
    assert found[-1][3] == [(0, 0), (1, 1)]


def test_blocks_are_grouped_by_point():
    files = ["r/b/block_0001/run.json", "r/a/block_0000/run.json", "r/b/block_0000/run.json", "r/b/x.parquet"]
    folders = tables.block_folders(files)
    assert {point: [path.name for path in blocks] for point, blocks in folders.items()} == {
        "b": ["block_0000", "block_0001"],
        "a": ["block_0000"],
    }


def test_written_table_reads_back(tmp_path):
    frame = pd.DataFrame({"a": [1, 2], "b": [0.1, None], "c": ["x", "y"]})
    tables.write_table(frame, tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text() == "a,b,c\n1,0.1,x\n2,,y\n"
