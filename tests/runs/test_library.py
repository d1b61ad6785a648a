"""The public names, and trained runs in a user's hands."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import intrinsic_lr
from intrinsic_lr import InputError, load_run, load_study, predicted_labels, stacked, swa
from intrinsic_lr.data import dataset
from projects import REPOSITORY

NAME = "digits-mlp-b32-lr0.1-wd0.01"


@pytest.fixture
def run(trained):
    return load_run(NAME, trained)


def test_every_public_name_is_there():
    assert {"load_run", "swa", "total_variation", "excess_disagreement"} <= set(intrinsic_lr.__all__)
    for name in intrinsic_lr.__all__:
        assert getattr(intrinsic_lr, name).__doc__
    assert set(intrinsic_lr.__all__) <= set(dir(intrinsic_lr))
    with pytest.raises(AttributeError, match="no_such_name"):
        intrinsic_lr.no_such_name  # noqa: B018


def test_importing_the_library_imports_nothing_heavy():
    code = "import sys, intrinsic_lr; print(sorted({'torch', 'numpy', 'pandas'} & set(sys.modules)))"
    library = Path(intrinsic_lr.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=library, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_run_is_opened_by_name_and_by_folder(trained, run, monkeypatch):
    assert (run.name, run.replicates, run.steps) == (NAME, 4, [0, 4, 8])
    assert load_run(trained / "runs" / NAME).replicates == 4
    assert load_run(trained / "runs" / NAME / "block_0000").replicates == 2
    monkeypatch.chdir(trained.parent)
    assert repr(load_run(NAME)) == f"<Run {NAME}: 4 replicates, checkpoints at steps [0, 4, 8]>"


def test_what_is_not_there_is_named(trained):
    with pytest.raises(InputError, match=rf"run: .*\({NAME}\), got 'digit'"):
        load_run("digit", trained)


def test_tables_and_tensors(run):
    assert isinstance(run.history, pd.DataFrame)
    assert sorted(run.history["replicate"].unique()) == [0, 1, 2, 3]
    assert list(run.trace["step"].unique()) == [0, 2, 4, 6, 8]
    weights = run.weights(8)
    assert {name: value.shape[0] for name, value in weights.items()} == dict.fromkeys(run.model.shapes, 4)
    predictions = run.predictions(8)
    assert (predictions.logits.shape, predictions.logits.dtype) == ((4, 360, 10), torch.float32)
    assert predictions.labels.dtype == torch.int64
    assert np.array_equal(predictions.labels, predicted_labels(predictions.logits))


def test_one_replicate_as_a_module_predicts_what_was_extracted(run):
    data = run.data()
    for replicate in range(4):
        network = run.network(8, replicate)
        with torch.no_grad():
            logits = network(data.normalize(data.test_images))
        assert torch.allclose(logits, run.predictions(8).logits[replicate], atol=1e-5)
    with pytest.raises(InputError, match="replicate must be from 0 to 3, got 4"):
        run.network(8, 4)


def test_evaluating_a_checkpoint_gives_its_history(run):
    found = run.evaluate(run.weights(8))
    rows = run.history[run.history["step"] == 8]
    for name in found:
        assert found[name].to_numpy() == pytest.approx(rows[name].to_numpy(), rel=1e-6)
    assert not np.allclose(run.evaluate(swa([run.weights(0), run.weights(8)]))["test_loss"], found["test_loss"])


def test_data_of_another_training_are_refused(trained, tmp_path):
    results = shutil.copytree(trained, tmp_path / "results")
    files = [results / f"data/digits.{kind}" for kind in ("safetensors", "json")]
    for file in files:
        file.unlink()
    dataset.write({"kind": "digits", "subset": 50}, "digits", *files)
    with pytest.raises(InputError, match="trained on, sha256"):
        load_run(NAME, results).data()


@pytest.mark.workflow
def test_a_study_is_opened_with_its_verdicts_tables_and_runs(finished, project):
    study = load_study(finished / "results/smoke")
    scorecard = study.table("gd_toy"), pd.read_csv(finished / "results/smoke/claims.csv").set_index("claim")
    assert {name: claim.verdict for name, claim in study.claims.items()} == dict(scorecard[1]["verdict"])
    assert study.claims["gd_toy"].table.equals(scorecard[0])
    assert {study.run(point).name for point in study.points} == set(study.points) != set()
    with pytest.raises(InputError, match="unknown table 'gdtoy'; did you mean gd_toy"):
        study.table("gdtoy")
    altered = project / "results/smoke/tables/gd_toy.csv"
    altered.write_text(altered.read_text().replace("0", "1", 1))
    with pytest.raises(InputError, match=r"gd_toy\.csv: damaged"):
        load_study(project / "results/smoke").table("gd_toy")


def test_what_a_study_lacks_is_named(trained, tmp_path):
    with pytest.raises(InputError, match="folder: must be one in which a study wrote tables"):
        load_study(tmp_path)


def test_an_average_of_ones_own_networks():
    networks = [nn.Linear(2, 1) for _ in range(3)]
    ensemble = stacked(networks)
    assert {name: tuple(value.shape) for name, value in ensemble.items()} == {"weight": (3, 1, 2), "bias": (3, 1)}
    mean = swa([network.state_dict() for network in networks])
    assert torch.allclose(mean["weight"], ensemble["weight"].mean(dim=0))
    assert mean["weight"].dtype == torch.float32
    large = [{"w": torch.tensor([1.0])}, {"w": torch.tensor([1e8])}, {"w": torch.tensor([-1e8])}]
    assert swa(large)["w"].item() == pytest.approx(1 / 3)  # float32 would lose the 1
    with pytest.raises(ValueError, match="no checkpoints"):
        swa([])


def test_labels_of_ones_own_logits():
    logits = torch.tensor([[[0.0, 2.0, 1.0], [float("nan"), 0.0, 9.0], [float("inf"), 0.0, 0.0]]])
    assert predicted_labels(logits).tolist() == [[1, -1, -1]]


def test_it_installs_and_works_outside_the_repository(trained, tmp_path):
    source, target = tmp_path / "source", tmp_path / "installed"
    shutil.copytree(REPOSITORY / "workflow/lib", source / "workflow/lib")
    shutil.copy2(REPOSITORY / "pyproject.toml", source)
    install = ["-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", str(target)]
    subprocess.run([sys.executable, *install, str(source)], check=True)
    code = f"import intrinsic_lr as i; print(i.__file__, i.load_run({NAME!r}, {str(trained)!r}).network(8, 0))"
    # Isolated from the folder at hand, and from PYTHONPATH but for the installed package.
    words = [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(target)!r}); {code}"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{target}/intrinsic_lr/__init__.py Mlp(")
    assert (target / "intrinsic_lr/models/kernels/chain.c").is_file()
    console = [target / "bin" / "intrinsic-lr", "--help"]
    done = subprocess.run(console, cwd=tmp_path, env={"PYTHONPATH": str(target)}, capture_output=True, text=True)
    assert "train one block of replicates" in done.stdout, done.stderr
