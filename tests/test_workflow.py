"""The workflow as its user runs it: end to end, what is made again, determinism, and mistakes."""

import re

import pandas as pd
import pytest

from projects import SMOKE, experiments, new_project, overlay, planned, ran, snakemake, tables

pytestmark = pytest.mark.workflow


def test_end_to_end(finished):
    made = {path.name for path in (finished / "results/figures").iterdir()}
    figures = [
        "curves_smoke_trajectory",
        "swa_smoke_trajectory",
        "distance_smoke_trajectory",
        "epochs_smoke_trajectory",
        "grid_smoke_grid",
        "phase_smoke_grid",
        "gd_toy",
        "function_space_mixing",
        "scorecard",
    ]
    figures += ["total_variation_smoke_mixing", "disagreement_smoke_mixing"]
    assert made == {f"{figure}.{extension}" for figure in figures for extension in ("svg", "pdf", "png")}
    assert set(tables(finished)) == {
        "curves_smoke_trajectory.csv",
        "swa_smoke_trajectory.csv",
        "swa_summary_smoke_trajectory.csv",
        "distance_smoke_trajectory.csv",
        "distance_across_smoke_trajectory.csv",
        "distance_summary_smoke_trajectory.csv",
        "epochs_smoke_trajectory.csv",
        "disagreement_smoke_mixing.csv",
        "grid_smoke_grid.csv",
        "phase_smoke_grid.csv",
        "gd_toy.csv",
        "function_space_mixing.csv",
    }
    card = pd.read_csv(finished / "results/claims.csv")
    assert list(card["claim"]) == ["gd_toy", "function_space_mixing"]
    assert set(card["verdict"]) <= {"reproduced", "not reproduced", "inconclusive"}
    assert set(pd.read_csv(finished / "results/controls.csv")["claim"]) == {"gd_toy", "function_space_mixing"}


def test_tables_have_the_rows_that_the_grid_asks_for(finished):
    folder = finished / "results/tables"
    distance = pd.read_csv(folder / "distance_smoke_trajectory.csv")
    assert len(distance[distance["layer"] == "all"]) == 6 * 4  # pairs of four checkpoints, replicates
    swa = pd.read_csv(folder / "swa_smoke_trajectory.csv")
    within = swa[(swa["relation"] == "within") & (swa["average"] == "pair")]
    assert len(within) == 6 * 4 * 2  # raw and per layer
    assert set(swa["relation"]) == {"within", "across_initialisations"}
    epochs = pd.read_csv(folder / "epochs_smoke_trajectory.csv")
    assert epochs.groupby("relation").size().to_dict() == {"within": 64, "across_initialisations": 64}
    own = epochs[(epochs["relation"] == "within") & (epochs["step"] == epochs["partner_step"])]
    assert (own["disagreement"] == 0).all()
    assert own["cosine"].to_numpy() == pytest.approx(1)
    assert len(pd.read_csv(folder / "disagreement_smoke_mixing.csv")) == 2
    assert len(pd.read_csv(folder / "grid_smoke_grid.csv")) == 2


def test_same_config_twice_gives_the_same_tables(finished, tmp_path):
    again = new_project(tmp_path / "again")
    done = snakemake(again, "tables")
    assert done.returncode == 0, done.stdout
    assert tables(again) == tables(finished)


class TestReruns:
    """Counts of the jobs that a dry run plans after a change."""

    def test_nothing_changed_or_moved(self, project):
        assert planned(project) == {}

    def test_other_cores_and_device(self, project):
        assert planned(project, "--cores", "1", config=overlay(project, device="cpu")) == {}

    def test_event_files_asked_for(self, project):
        assert planned(project, config=overlay(project, tensorboard=True)) == {"all": 1, "tensorboard": 5}

    def test_config_respelt_reordered_commented(self, project):
        settings = experiments(smoke_trajectory={"grid": {"intrinsic_lr": 2.0e-2, "lr": [1e-1], "momentum": 0.0}})
        name = overlay(project, experiments=dict(reversed(settings.items())))
        (project / name).write_text("# a comment\n" + (project / name).read_text())
        # The page tells of the experiments in their order.
        assert set(planned(project, config=name)) <= {"report", "all"}

    def test_library_edited_and_touched(self, project):
        for path in (project / "workflow/lib/intrinsic_lr").rglob("*.py"):
            path.write_text(path.read_text() + "\n# a comment\n")
        assert set(planned(project)) <= {
            "claim", "figure_claim", "scorecard", "figure_scorecard", "paper_vs_here", "report", "all",
        }  # fmt: skip
        assert planned(project)["claim"] == 2

    def test_more_replicates(self, project):
        name = overlay(project, experiments=experiments(smoke_mixing={"replicates": 8}))
        jobs = planned(project, config=name)
        assert (jobs["train"], jobs["extract"], jobs["disagreement"]) == (2, 2, 1)
        assert not {"swa", "distance", "grid", "curves", "prepare_data"} & set(jobs)

    def test_new_grid_value(self, project):
        grid = {"lr": 0.1, "weight_decay": [0.01, 0.1, 0.2], "schedule": "late_decay"}
        jobs = planned(project, config=overlay(project, experiments=experiments(smoke_grid={"grid": grid})))
        expected = {"all", "train", "grid", "figure_grid", "phase", "figure_phase", "report"}
        assert jobs == dict.fromkeys(expected, 1)

    def test_new_experiment_that_shares_a_point(self, project):
        shared = {**SMOKE["experiments"]["smoke_mixing"], "analyses": ["curves"], "grid": {"lr": 0.1}}
        shared["grid"] = {"lr": 0.1, "weight_decay": [0.2, 0.3], "init_sharing": "shared"}
        name = overlay(project, run="all", experiments={**experiments(), "added": shared})
        jobs = planned(project, "results/tables/curves_added.csv", config=name)
        assert jobs == {"train": 1, "curves": 1}

    def test_figure_script_edited(self, project):
        script = project / "workflow/scripts/figure_grid.py"
        script.write_text(script.read_text() + "\n# a comment\n")
        assert planned(project) == {"all": 1, "figure_grid": 1, "report": 1}

    def test_look_of_the_figures_changed(self, project):
        name = overlay(project, figures={"width": "column", "font": {"family": "serif", "size": 8}})
        jobs = planned(project, config=name)
        assert jobs["figure_claim"] == 2
        assert all(rule in ("all", "report") or rule.startswith("figure_") for rule in jobs)
        assert sum(jobs.values()) == 2 + 11  # every figure once

    def test_caption_or_template_of_the_page_edited(self, project):
        template = project / "workflow/report/page.css"
        template.write_text(template.read_text() + "/* a comment */")
        assert planned(project) == {"all": 1, "report": 1}

    def test_formats_reordered_or_fewer(self, project):
        name = overlay(project, figures={"formats": ["pdf", "svg"]})
        # The page holds the figures that there are.
        assert set(planned(project, config=name)) <= {"report", "all"}

    def test_training_version_raised(self, project):
        version = project / "workflow/lib/intrinsic_lr/core/version.py"
        version.write_text(re.sub(r"TRAINING_VERSION = (\d+)", r"TRAINING_VERSION = 1\1", version.read_text()))
        assert planned(project)["train"] == 5

    def test_definition_of_the_model_changed(self, project):
        models = {**SMOKE["models"], "small": {**SMOKE["models"]["small"], "width": 17}}
        assert planned(project, config=overlay(project, models=models))["train"] == 3

    def test_data_prepared_again_with_the_same_content(self, project):
        done = snakemake(project, "--force", "results/data/digits_300.safetensors")
        assert done.returncode == 0, done.stdout
        assert planned(project) == {}

    def test_one_figure_alone(self, project):
        (project / "results/figures/swa_smoke_trajectory.svg").unlink()
        done = snakemake(project, "results/figures/swa_smoke_trajectory.svg")
        assert done.returncode == 0, done.stdout
        assert (project / "results/figures/swa_smoke_trajectory.svg").is_file()


class TestMistakes:
    """A mistake gives one clear line, a non-zero exit and no traceback, and nothing is trained."""

    @staticmethod
    def refused(done, *words):
        assert done.returncode != 0
        assert "Traceback" not in done.stdout
        lines = [line for line in done.stdout.splitlines() if all(word in line for word in words)]
        assert lines, done.stdout
        assert "train" not in ran(done.stdout)

    def test_unknown_key(self, tmp_path):
        project = new_project(tmp_path / "project")
        settings = experiments(smoke_grid={"replicats": 3})
        done = snakemake(project, config=overlay(project, experiments=settings))
        self.refused(done, "error: config: experiments.smoke_grid", "'replicats'", "replicates")
        assert not (project / "results").exists()

    def test_number_as_text(self, tmp_path):
        project = new_project(tmp_path / "project")
        settings = experiments(smoke_grid={"grid": {"lr": "1e-3", "weight_decay": 0.1}})
        done = snakemake(project, config=overlay(project, experiments=settings))
        self.refused(done, "experiments.smoke_grid.grid.lr", '"1e-3"', "1.0e-3")

    def test_target_outside_the_grid(self, tmp_path):
        project = new_project(tmp_path / "project")
        target = "results/runs/digits_300-small-b20-lr9-wd9/block_0000/run.json"
        done = snakemake(project, target)
        self.refused(done, "digits_300-small-b20-lr9-wd9", "allowed")

    def test_missing_device(self, tmp_path):
        project = new_project(tmp_path / "project")
        done = snakemake(project, "trainings", config=overlay(project, device="cuda:99"))
        assert done.returncode != 0
        assert "Traceback" not in done.stdout
        assert re.search(r"error: .*cuda:99", done.stdout), done.stdout
        assert not list(project.glob("results/runs/*/*/run.json"))

    def test_damaged_data(self, project):
        data = project / "results/data/digits_300.safetensors"
        content = bytearray(data.read_bytes())
        content[-1] ^= 1
        data.write_bytes(content)
        done = snakemake(project, "--forcerun", "train")
        assert done.returncode != 0
        assert "Traceback" not in done.stdout
        assert re.search(r"error: .*digits_300\.safetensors.*damaged", done.stdout), done.stdout

    def test_damaged_checkpoints(self, project):
        path, *_ = project.glob("results/runs/digits_300-small-*wd0.2/block_0000/checkpoints/*.safetensors")
        path.write_bytes(path.read_bytes()[:-10])
        done = snakemake(project, "--forcerun", "distance")
        assert done.returncode != 0
        assert "Traceback" not in done.stdout
        assert re.search(r"error: .*/checkpoints/\d+\.safetensors.*snakemake", done.stdout), done.stdout
