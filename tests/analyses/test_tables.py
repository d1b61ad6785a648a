"""What the tables of all analyses have in common."""

from contextlib import redirect_stderr
from pathlib import Path

import pandas as pd
import pytest

from intrinsic_lr.analyses import tables
from intrinsic_lr.core.errors import InputError
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


@pytest.mark.parametrize(("replicates", "pairs"), [(1, []), (2, [(0, 1)]), (3, [(0, 1), (1, 2), (2, 0)])])
def test_independent_initialisations_are_paired_within_a_point(replicates, pairs):
    found = list(tables.across_pairs(Experiment("one", (described(),), replicates)))
    assert [pair for _, _, _, members in found for pair in members] == pairs
    assert {relation for _, _, relation, _ in found} <= {"across_initialisations"}


@pytest.mark.parametrize(
    ("replicates", "relation", "pairs"),
    [
        (2, "across_replicates", [(0, 1)]),
        (3, "across_initialisations", [(0, 2), (2, 1)]),
        (4, "across_initialisations", [(0, 2), (1, 3), (2, 0), (3, 1)]),
    ],
)
def test_runs_of_several_initialisations_are_paired_across_them(replicates, relation, pairs):
    found = list(tables.across_pairs(Experiment("one", (described(runs_per_init=2),), replicates)))
    assert [(kind, members) for _, _, kind, members in found] == [(relation, pairs)]


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


def test_all_axes_of_a_tables_points_end_it():
    a, b = described(), described(augmentation="flip", dtype="float64")
    table = tables.with_axes(tables.with_point(pd.DataFrame({"step": [1]}), b), [a, b])
    assert list(table.columns[: len(tables.POINT_COLUMNS) + 2]) == ["point", *tables.POINT_COLUMNS, "step"]
    assert {axis: table[axis].iloc[0] for axis in ("augmentation", "dtype", "lr")} == {
        "augmentation": "flip", "dtype": "float64", "lr": 0.1,
    }  # fmt: skip
    assert set(tables.AXES[: tables.AXES.index("optimiser")]) <= set(table.columns)
    pairs = tables.with_axes(pd.DataFrame({"point_a": [a.name], "point_b": [b.name]}), [a, b])
    assert (pairs["augmentation_a"].iloc[0], pairs["augmentation_b"].iloc[0]) == ("none", "flip")


@pytest.fixture
def table(tmp_path, monkeypatch):
    """The path of a table whose job left its log."""
    monkeypatch.chdir(tmp_path)
    path = Path("results/tables/grid_landscape.csv")
    log = Path("results/logs/grid/landscape.log")
    log.parent.mkdir(parents=True)
    with open(log, "w") as handle, redirect_stderr(handle):
        tables.write_table(pd.DataFrame({"a": [1, 2], "b": [0.1, None], "c": ["x,y", "z"]}), path)
    return path


def test_written_table_reads_back(table):
    assert table.read_text() == 'a,b,c\n1,0.1,"x,y"\n2,,z\n'
    assert tables.read_table(table)["c"].tolist() == ["x,y", "z"]


@pytest.mark.parametrize("has_log", [True, False])
@pytest.mark.parametrize(
    "content", [b"", b"a,b,c\n1,0.1", b"a,b,c\n1,0.1,x", b"a;b;c\n1;0.1;x\n", b"\xff\xfe\n", b'a,b\n"1,2\n', None]
)
def test_a_damaged_table_is_refused_with_the_command_that_repairs_it(table, content, has_log):
    if not has_log:
        Path("results/logs/grid/landscape.log").unlink()
    table.write_bytes(content) if content is not None else table.unlink()
    with pytest.raises(InputError, match=f"^{table}: .*repair with `.*snakemake .*--force {table}`$"):
        tables.read_table(table)


def test_a_table_that_was_cut_between_lines_or_forged_is_not_what_its_log_says(table):
    for content in ("a,b,c\n", "a,b,c\n1,0.2,x\n2,,z\n"):
        table.write_text(content)
        with pytest.raises(InputError, match="damaged or replaced"):
            tables.read_table(table)
