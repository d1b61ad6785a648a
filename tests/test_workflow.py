"""The workflow as its user runs it: end to end, what is made again, determinism, and mistakes."""

import re
import shutil
import subprocess
import sys
from contextlib import contextmanager

import pandas as pd
import pytest

from intrinsic_lr.study.analyses import ANALYSES
from intrinsic_lr.study.config_files import merge_files
from intrinsic_lr.study.results import Results
from intrinsic_lr.study.study import Study
from projects import REPOSITORY, SMOKE, experiments, new_project, overlay, planned, run, tables

pytestmark = pytest.mark.workflow

VERDICTS = ("reproduced", "not reproduced", "inconclusive")


def test_end_to_end(finished):
    results = Results(Study.read(merge_files([finished / "config/smoke.yaml"], finished / "config")))
    made = {str(file.relative_to(finished)) for file in finished.glob("results/**/*") if file.is_file()}
    assert made >= {*results.figures, *results.tables, *results.findings}
    assert set(tables(finished)) == {name.split("/")[-1] for name in results.tables}
    assert {"disagreement_smoke_mixing.csv", "swa_smoke_trajectory.csv", "gd_toy.csv"} < set(tables(finished))
    for name in ("claims", "controls"):
        card = pd.read_csv(finished / f"results/smoke/{name}.csv")
        assert list(card["claim"].unique()) == ["gd_toy", "function_space_mixing"]
    assert set(pd.read_csv(finished / "results/smoke/claims.csv")["verdict"]) <= set(VERDICTS)


def test_tables_have_the_rows_that_the_grid_asks_for(finished):
    folder = finished / "results/smoke/tables"
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


LIBRARY = "workflow/lib/intrinsic_lr"
SUMMARIES = ("scorecard", "figure_scorecard", "report", "all")


@pytest.fixture(scope="module")
def study(finished, tmp_path_factory):
    """A copy of the finished project elsewhere, for dry runs; tests leave its files as they found them."""
    return shutil.copytree(finished, tmp_path_factory.mktemp("study") / "elsewhere", symlinks=True)


@contextmanager
def edited(study, *names):
    """Add a line to files of a project, for a while; yield their texts before."""
    before = {study / name: (study / name).read_bytes() for name in names}
    for file, content in before.items():
        file.write_bytes(content + b"\n")
    yield before
    for file, content in before.items():
        file.write_bytes(content)


class TestEdits:
    """What is made again after an edit: the stage whose code it is, what lies below it, and nothing else."""

    @pytest.mark.parametrize(
        ("files", "remade"),
        [
            (["analyses/averaging.py"], ["swa", "figure_swa", "interpolation", "figure_interpolation"]),
            (["analyses/phase.py"], ["phase", "figure_phase"]),
            (["stats/distance.py"], ["distance", "figure_distance", "epochs", "figure_epochs"]),
            (["report/embed.py", "../../report/page.css"], []),
        ],
    )
    def test_of_an_analysis_or_the_page(self, study, files, remade):
        with edited(study, *(f"{LIBRARY}/{file}" for file in files)):
            assert planned(study) == dict.fromkeys([*remade, "report", "all"], 1)

    def test_of_a_claim(self, study):
        with edited(study, f"{LIBRARY}/claims/gd_toy.py"):
            jobs = planned(study)
        assert (jobs.pop("claim"), jobs.pop("figure_claim")) == (1, 1)
        assert {"scorecard"} <= set(jobs) <= set(SUMMARIES)

    def test_of_a_kernel(self, study):
        with edited(study, f"{LIBRARY}/models/kernels/chain.c"):
            jobs = planned(study)
        assert not {"train", "extract", "prepare_data"} & set(jobs)
        assert jobs.keys() >= {*ANALYSES, *(f"figure_{name}" for name in ANALYSES), "claim", *SUMMARIES}

    @pytest.mark.parametrize(
        ("version", "jobs"),
        [("TRAINING", {"train": 5}), ("EXTRACT", {"extract": 3}), ("DATA", {"prepare_data": 1})],
    )
    def test_of_a_version(self, study, version, jobs):
        file = study / LIBRARY / "core/version.py"
        with edited(study, file):
            file.write_text(re.sub(rf"{version}_VERSION = ", r"\g<0>1", file.read_text()))
            assert planned(study).items() >= jobs.items()

    def test_nothing_is_made_again(self, study):
        """Moved, other cores, another device, another branch and back, edited operations; by the body alone."""

        def git(*words):
            names = ["-c", "user.name=a", "-c", "user.email=a@b"]
            subprocess.run(["git", *names, *words], cwd=study, check=True, capture_output=True)

        for words in ("init", "add workflow config envs", "commit -m one", "checkout -b two"):
            git(*words.split())
        files = [file for file in (study / "workflow").rglob("*") if file.suffix in (".py", ".smk", ".c", ".rst")]
        with edited(study, *files):
            git("commit", "-am", "two")
            git("checkout", "-")
        shutil.rmtree(study / ".git")
        for file in files:
            file.touch()
        variant, body = overlay(study, device="cpu"), ["--snakefile", "workflow/Snakefile"]
        with edited(study, *(f"{LIBRARY}/commands/{name}.py" for name in ("status", "estimate", "audit"))):
            assert planned(study, "--cores", "1", *body, config=variant) == {}


class TestSettings:
    """What is made again after a change of the config."""

    def test_config_respelt_reordered_commented_and_fewer_formats(self, study):
        settings = experiments(smoke_trajectory={"grid": {"intrinsic_lr": 2.0e-2, "lr": [1e-1], "momentum": 0.0}})
        formats = {"formats": ["pdf", "svg"]}
        name = overlay(study, experiments=dict(reversed(settings.items())), figures=formats)
        (study / name).write_text("# a comment\n" + (study / name).read_text())
        # The page tells of the experiments in their order, and holds the figures that there are.
        assert set(planned(study, config=name)) <= {"report", "all"}

    def test_event_files_asked_for(self, study):
        assert planned(study, config=overlay(study, tensorboard=True)) == {"all": 1, "tensorboard": 5}

    def test_a_setting_of_some_analyses(self, study):
        jobs = planned(study, config=overlay(study, analysis={**SMOKE.get("analysis", {}), "interpolation": 5}))
        assert "swa" in jobs
        assert not {"curves", "epochs", "disagreement", "train"} & set(jobs)

    def test_definition_of_the_model_changed(self, study):
        models = {**SMOKE["models"], "small": {**SMOKE["models"]["small"], "width": 17}}
        assert planned(study, config=overlay(study, models=models))["train"] == 3

    def test_new_experiment_that_shares_a_point(self, study):
        grid = {"lr": 0.1, "weight_decay": [0.2, 0.3], "init_sharing": "shared"}
        added = {**SMOKE["experiments"]["smoke_mixing"], "analyses": ["curves"], "grid": grid}
        name = overlay(study, run="all", experiments=experiments(added=added))
        assert planned(study, "results/smoke/tables/curves_added.csv", config=name) == {"train": 1, "curves": 1}

    def test_data_prepared_again_with_the_same_content_and_one_figure_alone(self, project):
        run(project, "--force", "results/data/digits_300.safetensors")
        assert planned(project) == {}
        figure = "results/smoke/figures/swa_smoke_trajectory.svg"
        (project / figure).unlink()
        run(project, figure)
        assert (project / figure).is_file()

    def test_more_replicates(self, study):
        name = overlay(study, experiments=experiments(smoke_mixing={"replicates": 8}))
        jobs = planned(study, config=name)
        assert (jobs["train"], jobs["extract"], jobs["disagreement"]) == (2, 2, 1)
        assert not {"swa", "distance", "grid", "curves", "prepare_data"} & set(jobs)

    def test_new_grid_value(self, study):
        grid = {"lr": 0.1, "weight_decay": [0.01, 0.1, 0.2], "schedule": "late_decay"}
        jobs = planned(study, config=overlay(study, experiments=experiments(smoke_grid={"grid": grid})))
        expected = {"all", "train", "grid", "figure_grid", "phase", "figure_phase", "report"}
        assert jobs == dict.fromkeys(expected, 1)

    def test_look_of_the_figures_changed(self, study):
        name = overlay(study, figures={"width": "column", "font": {"family": "serif", "size": 8}})
        jobs = planned(study, config=name)
        assert jobs["figure_claim"] == 2
        assert all(rule in ("all", "report") or rule.startswith("figure_") for rule in jobs)
        assert sum(jobs.values()) == 2 + 11  # every drawing once


def test_claims_on_averages_wait_for_the_table_of_averages():
    results = Results(Study.read(merge_files([])))
    for claim in ("swa_within", "swa_across"):
        assert any(file.startswith("results/tables/swa_") for file in results.of_claim(claim))


def test_modules_in_the_users_folders_are_not_imported(tmp_path):
    project, elsewhere = new_project(tmp_path / "project"), tmp_path / "elsewhere"
    elsewhere.mkdir()
    for folder in (project, elsewhere):
        for name in ("random", "numpy", "torch"):
            (folder / f"{name}.py").write_text("raise SystemExit('imported')")
    asked = ["results/data/digits_300.json", "results/smoke/tables/gd_toy.csv", "--replace-workflow-config"]
    words = [*asked, "--directory", str(elsewhere)]
    run(project, *words, config=str(project / "config/smoke.yaml"), PYTHONSAFEPATH="1")
    assert all((elsewhere / file).is_file() for file in asked[:2])


def test_the_rules_import_neither_torch_nor_pandas_nor_numpy():
    text = "".join(file.read_text() for file in (REPOSITORY / "workflow/rules").glob("*.smk"))
    lines = re.findall(r"^from intrinsic_lr.*$", text, re.MULTILINE)
    check = "import sys; sys.exit(', '.join({'torch', 'pandas', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", "\n".join([*lines, check])], capture_output=True, text=True)
    assert len(lines) > 10
    assert done.stderr.strip() == ""


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """A project in which nothing was made."""
    return new_project(tmp_path_factory.mktemp("fresh") / "project")


class TestMistakes:
    """A mistake gives one clear line, a non-zero exit and no traceback, and nothing is trained."""

    @staticmethod
    def fails(pattern, *arguments, **options):
        shown = run(*arguments, fails=True, **options)
        assert re.search(pattern, shown), shown

    @pytest.mark.parametrize(
        ("targets", "changed", "pattern"),
        [
            ([], {"replicats": 3}, r"error: config: experiments\.smoke_grid.*replicats.*replicates"),
            (["results/runs/digits_300-small-b20-lr9-wd9/block_0000/run.json"], {}, "error: target .*lr9-wd9"),
        ],
    )
    def test_in_the_config_or_the_target(self, fresh, targets, changed, pattern):
        name = overlay(fresh, experiments=experiments(smoke_grid=changed))
        self.fails(pattern, fresh, *targets, config=name)
        assert not (fresh / "results").exists()

    def test_missing_device(self, tmp_path):
        project = new_project(tmp_path / "project")
        name = overlay(project, device="cuda:99")
        self.fails("error: .*cuda:99", project, "trainings", "--retries", "0", config=name)
        assert not list(project.glob("results/runs/*/*/run.json"))

    def test_damaged_checkpoints(self, project):
        path, *_ = project.glob("results/runs/digits_300-small-*wd0.2/block_0000/checkpoints/*.safetensors")
        path.write_bytes(path.read_bytes()[:-10])
        pattern = r"error: .*/checkpoints/\d+\.safetensors.*snakemake"
        self.fails(pattern, project, "--forcerun", "distance", "--retries", "0")
