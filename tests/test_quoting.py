"""Names full of what a shell obeys: in folders and notes they are only text, elsewhere they are refused."""

import numpy as np
import pytest
import yaml
from tests.data.written_sets import NAMES, pictures, save

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.study.config_files import merge_files
from intrinsic_lr.study.study import Study
from projects import new_project, overlay, ran, run

STRANGE = '-it\'s "odd" $(touch owned) `touch owned`; touch owned & ünï #*?'
EXPERIMENT = {
    "dataset": "mine", "model": "small", "batch_size": 6, "replicates": 2, "block_size": 2,
    "length": {"steps": 10}, "grid": {"lr": 0.1, "intrinsic_lr": 0.1, "init_seed": [0, 1]},
    "checkpoints": {"steps": [4, 7, 10]}, "history_points": 2, "analyses": ["disagreement"],
}  # fmt: skip


@pytest.mark.workflow
def test_strange_names_of_folders_and_notes_are_only_text(tmp_path):
    """Every rule that calls a shell is run; the folder of images has a dash first."""
    project = new_project(tmp_path / STRANGE)
    images = project / f"{STRANGE} images"
    for folder, count in (("train", 8), ("test", 4)):
        for label, name in enumerate(NAMES):
            for i, image in enumerate(pictures(count, 6, 6, 3)):
                save(images / folder / name / f"{i} {label}.png", np.roll(image, label, axis=0))
    config = overlay(
        project,
        **{
            "run": ["strange"],
            "judge": [],
            "claims": {},
            "tensorboard": True,
            "experiments": {"strange": EXPERIMENT},
        },
        datasets={"mine": {"kind": "image_folder", "root": images.name, "note": STRANGE}},
        models={"small": {"kind": "mlp", "width": 8, "depth": 1}},
    )
    output = run(project, config=config)
    assert (project / "results/smoke/report.html").exists()
    assert {"prepare_data", "train", "extract", "tensorboard"} <= set(ran(output))
    assert not [path for path in tmp_path.rglob("owned*")]


@pytest.mark.workflow
def test_a_folder_with_braces_is_refused_in_one_line(tmp_path):
    project = new_project(tmp_path / "a {name}")
    shown = run(project, "--dry-run", fails=True)
    assert shown.strip().splitlines()[-1].startswith("error: the project's folder must have no braces")


@pytest.mark.parametrize(
    "name", ["../outside", "-rf", "a b", "a;touch owned", "$(touch owned)", "a'b", "", ".", "a/b", "ünï", "a\nb"]
)
@pytest.mark.parametrize("section", ["experiments", "datasets", "models", "schedules"])
def test_strange_names_in_the_config_are_refused(tmp_path, section, name):
    values = {"experiments": {"dataset": "digits"}, "datasets": {"kind": "digits"}, "models": {"kind": "mlp"}}
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump({section: {name: values.get(section, {"kind": "constant"})}}))
    with pytest.raises(InputError, match=section) as refused:
        Study.read(merge_files([file]))
    assert "\n" not in str(refused.value)
