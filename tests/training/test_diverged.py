"""A study in which some replicates of a point, and all of another, are not finite any more: nothing hides it.

At lambda_e just above 2 a step multiplies the weights by 1 - lambda_e, so that they grow until float32 overflows:
sooner in replicates that start at larger weights.
"""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from projects import SMOKE, new_project, overlay, snakemake

pytestmark = pytest.mark.workflow

STEPS, MEMBERS = 1417, 4
DECAYS = "0.1", "20.6", "1000000000"
WHOLE, SOME, ALL = (f"digits_300-small-b20-lr0.1-wd{decay}-runs_per_init2" for decay in DECAYS)
SPOILT = {
    "dataset": "digits_300",
    "model": "small",
    "batch_size": 20,
    "replicates": MEMBERS,
    "block_size": MEMBERS,
    "grid": {"lr": 0.1, "weight_decay": [0.1, 20.6, 1.0e9], "init_seed": [0, 1], "runs_per_init": 2},
    "length": {"steps": STEPS},
    "checkpoints": {"steps": [350, 700, 1050, STEPS]},
    "history_points": 4,
    "trace_points": "all",
    "analyses": ["curves", "swa", "interpolation", "distance", "epochs", "disagreement", "grid", "phase"],
}
# A claim that reads checkpoints and predictions.
CLAIMS = {"no_mixing_in_weights": {"pairs": "spoilt"}}


@pytest.fixture(scope="module")
def spoilt(made_once):
    """A project in which the workflow has run to its end on such a study."""

    def make(folder):
        project = new_project(folder / "project")
        name = overlay(
            project,
            run=["spoilt"],
            judge=list(CLAIMS),
            experiments={**SMOKE["experiments"], "spoilt": SPOILT},
            claims={claim: {"experiments": experiments} for claim, experiments in CLAIMS.items()},
        )
        figures = (f"results/smoke/figures/{claim}.svg" for claim in CLAIMS)
        return snakemake(project, "tables", "results/smoke/claims.csv", *figures, config=name)

    return made_once("spoilt", make) / "project"


def table(project, name):
    return pd.read_csv(project / f"results/smoke/tables/{name}_spoilt.csv")


def lost(project, point):
    """Return the first step at which each replicate of a point was not finite, by replicate."""
    record = json.loads((project / f"results/runs/{point}/block_0000/run.json").read_text())
    return {int(replicate): step for replicate, step in record["non_finite"].items()}


def test_the_step_of_each_lost_member_is_in_the_record(spoilt):
    assert lost(spoilt, WHOLE) == {}
    assert 0 < len(lost(spoilt, SOME)) < MEMBERS
    assert sorted(lost(spoilt, ALL)) == list(range(MEMBERS))
    assert all(0 < step <= STEPS for point in (SOME, ALL) for step in lost(spoilt, point).values())


def test_summaries_count_what_is_missing_and_average_the_rest(spoilt):
    kept = sorted(set(range(MEMBERS)) - lost(spoilt, SOME).keys())
    history = pd.read_parquet(spoilt / f"results/runs/{SOME}/block_0000/history.parquet")
    last = history[history["step"] == STEPS].set_index("replicate")
    for name in ("curves", "grid"):
        found = table(spoilt, name)
        rows = found[found["step"] == STEPS].set_index("point")
        assert (rows.loc[WHOLE, "replicates"], rows.loc[WHOLE, "missing"]) == (MEMBERS, 0)
        assert (rows.loc[SOME, "replicates"], rows.loc[SOME, "missing"]) == (len(kept), MEMBERS - len(kept))
        assert rows.loc[SOME, "test_loss_mean"] == pytest.approx(last.loc[kept, "test_loss"].mean(), rel=1e-8)
        assert (rows.loc[ALL, "replicates"], rows.loc[ALL, "missing"]) == (0, MEMBERS)
        assert np.isnan(rows.loc[ALL, "test_loss_mean"])


@pytest.mark.parametrize("name", ["curves", "grid", "phase", "swa_summary", "distance_summary"])
def test_no_row_hides_a_replicate(spoilt, name):
    found = table(spoilt, name)
    rows = found[found["relation"] == "within"] if "relation" in found else found
    assert (rows["replicates"] + rows["missing"] == MEMBERS).all()
    means = [column for column in rows if column.endswith("_mean")]
    assert rows.loc[rows["replicates"] == 0, means].isna().all(axis=None)
    assert set(rows.loc[rows["point"] == WHOLE, "missing"]) == {0}
    assert rows.loc[rows["point"] == ALL, "missing"].max() == MEMBERS


@pytest.mark.parametrize("point", [WHOLE, SOME, ALL])
def test_a_tenth_in_which_a_member_was_lost_does_not_count_it(spoilt, point):
    """Not even with what came before within that tenth."""
    trace = pd.read_parquet(spoilt / f"results/runs/{point}/block_0000/trace.parquet")
    trace = trace[trace["step"] > 0]
    sound = np.isfinite(trace[["effective_lr", "unit_gradient_squared_norm", "batch_loss"]]).all(axis=1)
    part = np.ceil(10 * trace["step"] / STEPS).astype(int)
    whole = sound.groupby([part, trace["replicate"]]).all().groupby(level=0).sum()
    found = table(spoilt, "phase")
    found = found[found["point"] == point].set_index("part")
    assert found["replicates"].to_dict() == whole.to_dict()
    if point == ALL:
        assert sound[part == 1].any()
        assert whole[1] == 0


def test_disagreement_counts_finite_runs(spoilt):
    found = table(spoilt, "disagreement")
    last = found[found["step_a"] == STEPS]
    for side in ("a", "b"):
        assert (last[f"replicates_{side}"] + last[f"missing_{side}"] == MEMBERS).all()
        for point in (WHOLE, SOME, ALL):
            counts = set(last.loc[last[f"point_{side}"] == point, f"missing_{side}"])
            assert counts <= {len(lost(spoilt, point))}
    few = last[(last["replicates_a"] < 2) | (last["replicates_b"] < 2)]
    assert len(few)
    assert few[["total_variation", "p_value", "excess"]].isna().all(axis=None)


def test_single_rows_of_a_lost_member_are_empty(spoilt):
    for name, quantity in (("swa", "test_loss_end"), ("distance", "cosine"), ("epochs", "disagreement")):
        found = table(spoilt, name)
        rows = found[(found["relation"] == "within") & (found["point"] == ALL)]
        assert set(rows["replicate"]) == set(range(MEMBERS))
        assert rows[quantity].isna().all(), name


def test_claims_take_no_verdict_from_what_is_missing(spoilt):
    for claim in CLAIMS:
        findings = pd.read_csv(spoilt / f"results/smoke/claims/{claim}.csv")
        silent = findings[findings["n"].fillna(0) == 0]
        assert set(silent["verdict"]) <= {"inconclusive"}, claim
        assert (spoilt / f"results/smoke/figures/{claim}.svg").stat().st_size > 1000
    card = pd.read_csv(spoilt / "results/smoke/claims.csv")
    assert list(card["claim"]) == [claim for claim in card["claim"] if claim in CLAIMS]
    assert len(card) == len(CLAIMS)


def test_the_config_can_make_it_a_failure(spoilt, tmp_path):
    # In a copy: it takes away what other tests read, which another worker may be running.
    project = shutil.copytree(spoilt, tmp_path / "copy", symlinks=True)
    (project / "failing.yaml").write_text((project / "variant.yaml").read_text() + "\ndiverged: fail\n")
    run = f"results/runs/{ALL}/block_0000/run.json"
    done = snakemake(project, "--force", run, "--retries", "0", config="failing.yaml")
    assert done.returncode != 0
    assert "Traceback" not in done.stdout
    (line,) = {line for line in done.stdout.splitlines() if "replicates are not finite any more" in line}
    assert line.startswith(f"error: {ALL}: {MEMBERS} of {MEMBERS} replicates are not finite")
    assert "0 at step " in line
    assert not (project / run).exists()
