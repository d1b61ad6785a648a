"""Studies of one store of trainings: none shortens, destroys or changes what another one made."""

import json
import shutil

import pytest

from projects import experiments, new_project, overlay, planned, ran, run, tables

pytestmark = pytest.mark.workflow

RUN = "results/runs/digits_300-small-b20-lr0.1-wd0.2/block_0000/run.json"
LOG = "results/logs/train/digits_300-small-b20-lr0.1-wd0.2/block_0000.log"


ANALYSES = ("curves", "distance")
"""One reads the history of the trainings, the other their checkpoints."""
SAME = [f"results/smoke/tables/{analysis}_smoke_trajectory.csv" for analysis in ANALYSES]
"""The tables that the smoke study makes of them."""


def variant(project, seed=0, **changes):
    """Write a study `mine` of the trajectory of the smoke study, changed; return the name of its file."""
    settings = experiments(smoke_trajectory={"analyses": list(ANALYSES), **changes})
    return overlay(project, study="mine", seed=seed, experiments=settings, run=["smoke_trajectory"], judge=[])


SHORTER = {
    "length": {"steps": 60},
    "checkpoints": {"steps": [20, 40, 60]},
    "history_points": 3,
    "trace_points": 10,
    "replicates": 3,
    "block_size": 3,
}
LONGER = {"length": {"steps": 120}, "checkpoints": {"steps": [20, 60, 120]}, "history_points": 3, "replicates": 6}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The tables of each question asked in a project of its own."""
    found = {}
    for name, question in (("shorter", SHORTER), ("longer", LONGER)):
        project = new_project(tmp_path_factory.mktemp(name) / "project")
        run(project, "tables", config=variant(project, **question))
        found[name] = tables(project, "results/mine")
    return found


def test_a_smaller_question_uses_what_lies_there(project, alone):
    before = (project / RUN).read_bytes()
    name = variant(project, **SHORTER)
    assert "train" not in ran(run(project, "tables", config=name))
    assert tables(project, "results/mine") == alone["shorter"]
    assert (project / RUN).read_bytes() == before
    assert planned(project) == {}


def test_a_longer_question_goes_on_from_what_lies_there(project, alone):
    """What the smoke study asked for stays there: its tables are made again as they were."""
    before = tables(project)
    name = variant(project, **LONGER)
    shown = run(project, "tables", config=name)
    assert ran(shown).count("train") == 2
    assert "to be replaced" not in shown
    assert "going on from step 80 of 120" in (project / LOG).read_text()
    assert tables(project, "results/mine") == alone["longer"]
    plan = json.loads((project / RUN).read_text())["plan"]
    assert plan["checkpoints"] == [20, 40, 60, 80, 120]
    assert sorted(ran(run(project, *SAME))) == ["curves", "distance"]
    assert tables(project) == before
    assert "train" not in planned(project, config=name)


def test_what_another_training_replaces_is_named_before_the_first_job_and_comes_back(project):
    before = tables(project)
    shown = run(project, "trainings", config=variant(project, seed=1))
    (line,) = [line for line in shown.splitlines() if line.startswith("to be replaced: ")]
    assert line.endswith(
        f"{RUN.rsplit('/', 1)[0]}: a training of 80 steps with 4 checkpoints, by one with another seed; its own "
        "config brings it back"
    )
    assert shown.index(line) < shown.index("rule train:")
    run(project, *SAME)
    assert "going on from step 80 of 80" in (project / LOG).read_text()
    assert tables(project) == before


def test_a_lost_record_is_known_from_what_is_kept(project):
    """Jobs of a cluster read the config after the workflow has deleted what it declares."""
    name = variant(project, **LONGER)
    kept = json.loads((project / RUN).with_name("kept").joinpath("run.json").read_text())["plan"]
    assert kept["checkpoints"] == [20, 40, 60, 80]
    for path in (project / RUN).parent.iterdir():
        if path.name != "kept":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    run(project, "trainings", config=name)
    assert json.loads((project / RUN).read_text())["plan"]["checkpoints"] == [20, 40, 60, 80, 120]
