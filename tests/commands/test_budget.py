"""What a study takes, counted beforehand, against what trainings write."""

import itertools
import json
import shutil
import time
from collections import namedtuple
from pathlib import Path

import pytest
import torch

from intrinsic_lr.commands import budget, estimate, extract, prepare_data, train
from intrinsic_lr.core import disk, paths
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.data import dataset_sizes
from intrinsic_lr.data.dataset_sizes import Sizes
from intrinsic_lr.models.ensemble import build
from intrinsic_lr.study.config_files import merge_files
from intrinsic_lr.study.model_spec import ModelSpec
from intrinsic_lr.study.study import Study
from intrinsic_lr.training import loop
from plans import extract_words, train_words

CONFIG = Path(__file__).parents[2] / "config"
SMOKE = [CONFIG / "smoke.yaml"]


@pytest.fixture
def study():
    return Study.read(merge_files(SMOKE))


@pytest.mark.parametrize("text", ["mlp:depth=3", "cnn4:affine=true,norm=group", "preresnet:blocks=2,head=trained"])
def test_the_size_of_a_model_is_that_of_its_parameters(text):
    model = build(ModelSpec.from_string(text), (3, 32, 32), 10)
    params = model.initialize([0], 1.0, torch.float32)
    assert model.size == sum(value.numel() for value in params.values())


def test_bytes_are_those_that_a_training_writes(study, tmp_path, monkeypatch):
    """Every tensor of checkpoints, predictions and statistics is counted; a header is what a file has besides."""
    monkeypatch.chdir(tmp_path)
    found, unknown = budget.budgets(study)
    assert unknown == []
    assert sum(item.member_steps for item in found) == sum(
        len(training.blocks) * training.block_size * training.timeline.steps
        for training in study.trainings.values()
    )
    by_name = {item.training.point.name: item for item in found}
    name = next(name for name in budget.predicted_points(study) if "init1" in name)
    item, dataset = by_name[name], by_name[name].training.point.dataset
    files = paths.DATA.format(dataset=dataset), paths.DATA_INFO.format(dataset=dataset)
    words = ["--name", dataset, "--spec", study.dataset_spec(dataset), "--data", files[0], "--info", files[1]]
    prepare_data.main(words)
    out = Path(paths.BLOCK.format(point=name, block="0000"))
    train.main(train_words(study.training_plan(name, 0), files, out))
    extract.main(extract_words(files, out))

    def content(*folders):
        return sum(_tensor_bytes(path) for folder in folders for path in (out / folder).iterdir())

    assert item.checkpoint_bytes == content("checkpoints")
    assert item.prediction_bytes == content("predictions", "statistics")
    record = json.loads((out / "run.json").read_text())
    assert item.members == len(record["seeds"])
    assert budget.known_sizes(study, dataset) == Sizes(300, 360, (1, 8, 8), 10)
    assert f"to be trained: 1 blocks, {item.member_steps:,} member-steps" in budget.announce(
        study, {name: 1}, tmp_path
    )


def _tensor_bytes(path):
    content = path.read_bytes()
    return len(content) - 8 - int.from_bytes(content[:8], "little")


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, (1437, 360, (1, 8, 8), 10)),
        ({"subset": 256, "test_fraction": 0.5}, (256, 899, (1, 8, 8), 10)),
        ({"dataset": "MNIST"}, (60_000, 10_000, (1, 28, 28), 10)),
        ({"dataset": "CIFAR100"}, (50_000, 10_000, (3, 32, 32), 100)),
        ({"dataset": "MNIST", "subset": 500, "image_size": 14}, (500, 10_000, (1, 14, 14), 10)),
        ({"dataset": "Food101"}, None),
    ],
)
def test_sizes_known_beforehand(spec, expected):
    kind = {"kind": "torchvision", "root": "x"} if "dataset" in spec else {"kind": "digits"}
    assert dataset_sizes.sizes({**kind, **spec}, "datasets.x") == (expected and Sizes(*expected))


def test_sizes_of_a_folder_of_images(tmp_path):
    for part, name in itertools.product(("train", "test"), "abc"):
        (tmp_path / part / name).mkdir(parents=True)
        for index in range(3 if part == "train" else 2):
            (tmp_path / part / name / f"{index}.png").touch()
    spec = {"kind": "image_folder", "root": str(tmp_path), "image_size": 20, "grayscale": True}
    assert dataset_sizes.sizes(spec, "datasets.x") == Sizes(9, 6, (1, 20, 20), 3)
    assert dataset_sizes.sizes({"kind": "image_folder", "root": str(tmp_path)}, "datasets.x") is None


def test_a_disk_without_room_is_named_with_both_numbers(study, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 0, 1_500_000))
    budget.check_disk(tmp_path / "not" / "there", 1_500_000, "x")
    with pytest.raises(InputError, match=r"needed are 2.5 GB for the checkpoints, got 1.5 MB free"):
        budget.check_disk(tmp_path, 2_500_000_000, "the checkpoints")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 0, 1000))
    with pytest.raises(InputError, match=r"needed are .* trainings, got 1 kB free"):
        budget.announce(study, dict.fromkeys(study.trainings, 1), tmp_path)


def test_numbers_with_their_units():
    sizes = {0: "0 bytes", 999: "999 bytes", 1500: "1.5 kB", 2.34e6: "2.34 MB", 5e15: "5e+03 TB"}
    assert {size: disk.format_bytes(size) for size in sizes} == sizes
    times = {40: "40 seconds", 720: "12 minutes", 5400: "1.5 hours", 3e5: "3.5 days", 7e7: "2.2 years"}
    assert {seconds: disk.format_duration(seconds) for seconds in times} == times


def test_a_disk_is_that_of_the_nearest_folder_that_is_there(tmp_path):
    """Also where `results` is a link to another disk."""
    (tmp_path / "other").mkdir()
    (tmp_path / "results").symlink_to(tmp_path / "other")
    assert disk.nearest(tmp_path / "results/runs/x") == tmp_path / "results"
    assert disk.nearest(tmp_path / "absent/runs") == tmp_path


def test_the_longest_is_begun_first():
    assert budget.wall_seconds([1, 2, 3, 4], 2) == 5
    assert budget.wall_seconds([10, 1, 1], 2) == 10
    assert budget.wall_seconds([], 3) == 0


@pytest.mark.parametrize(("preset", "step", "unit"), [("smoke", 1e-3, "seconds"), ("mnist", 1.0, "days")])
def test_report_of_an_estimate(monkeypatch, capsys, preset, step, unit):
    """An evaluation takes nothing, a start a second: the sums follow."""
    speed = estimate.Speed(step, evaluation=0.0)
    monkeypatch.setattr(estimate, "calibrate", lambda settings, *_: dict.fromkeys(settings, speed))
    monkeypatch.setattr(estimate, "start_seconds", lambda: 1.0)
    monkeypatch.setattr(estimate, "check_disk", lambda *_: None)
    file = CONFIG / f"{preset}.yaml"
    estimate.main(["--config", str(file), "--cores", "1"])
    shown = capsys.readouterr().out
    study = Study.read(merge_files([file]))
    found, _ = budget.budgets(study)
    blocks = [1 + item.training.timeline.steps * step for item in found for _ in item.training.blocks]
    assert f"expected: {disk.format_duration(sum(blocks))} for the trainings, 1 at a time" in shown
    assert unit in shown.partition("expected: ")[2].splitlines()[0]
    assert f"{sum(item.member_steps for item in found):,}" in shown
    named = ["experiment", *study.experiments, "all, shared trainings once"]
    lines = shown.splitlines()[: len(named)]
    assert [line.split("  ")[0] for line in lines] == named
    assert len({len(line) for line in lines}) == 1
    assert ("less of the same: config/mnist_small.yaml" in shown) == (preset == "mnist")


def test_measured_speed_is_of_the_real_step():
    setting = estimate.Setting(
        ModelSpec.from_string("mlp:width=8"), Sizes(100, 50, (1, 8, 8), 10), 16, 2, augmentation="flip"
    )
    speed = estimate.measure(setting, "cpu", 1, 0.01)
    assert 1e-5 < speed.step < 1
    assert 1e-8 < speed.evaluation < 10


def test_of_what_takes_long_a_part_is_timed(monkeypatch):
    """Of a thousand members, and of 60,000 images in the full batch, as many as the time allows."""
    trained = []

    def step(state, plan, model, batches):
        trained.append((len(plan.members), batches.size))
        time.sleep(1e-3 * len(plan.members))

    monkeypatch.setattr(loop, "take_step", step)
    setting = estimate.Setting(
        ModelSpec.from_string("mlp:width=2,depth=1"), Sizes(60_000, 50, (1, 2, 2), 3), "full", 1000
    )
    speed = estimate.measure(setting, "cpu", 1, 0.05)
    assert speed.step == pytest.approx(1.0 * 60_000 / estimate.IMAGES, rel=0.5)
    assert max(trained) <= (50, estimate.IMAGES)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"kind": "vit", "patch": 3}, "patch: must divide the sides 8x8"),
        ({"kind": "module", "factory": "torchvision.models.squeezenet1_0"}, "takes no images of 1x8x8"),
    ],
)
def test_a_network_that_its_images_do_not_suit_is_refused_beforehand(model, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = merge_files(SMOKE)
    config["models"] = {**config["models"], "small": model}
    with pytest.raises(InputError, match=f"config: models.small: .*{words}"):
        budget.budgets(Study.read(config))
