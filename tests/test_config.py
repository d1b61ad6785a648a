"""The configuration: what it lays out, and one clear line for every mistake."""

import copy
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.paths import MAX_BLOCKS, block_name
from intrinsic_lr.study.claims import CLAIMS, Claim, Setting
from intrinsic_lr.study.study import Study, check_targets

CONFIG = Path(__file__).parents[1] / "config"


def default_config():
    return yaml.safe_load((CONFIG / "config.yaml").read_text())


def small_config():
    config = default_config()
    config["experiments"] = {
        "one": {
            "dataset": "digits",
            "model": "mlp",
            "batch_size": 32,
            "replicates": 4,
            "block_size": 2,
            "grid": {"lr": [0.1, 0.2], "weight_decay": 0.01},
            "length": {"steps": 100},
            "checkpoints": {"steps": [50, 100]},
            "analyses": ["curves"],
        }
    }
    config["claims"] = {}
    return config


def edited(path, value, config=None):
    """Return the small config with one key set."""
    config = config or small_config()
    target = config
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    return config


def test_default_config_reads():
    study = Study.read(default_config())
    assert list(study.experiments) == list(default_config()["experiments"])


def laid_over(config, overlay):
    """Return a config with another laid over it, key by key, as Snakemake does."""
    merged = {
        key: laid_over(config[key], value) if isinstance(value, dict) and key in config else value
        for key, value in overlay.items()
    }
    return {**config, **merged}


def test_overlay_of_the_smoke_config_reads():
    smoke = yaml.safe_load((CONFIG / "smoke.yaml").read_text())
    study = Study.read(laid_over(default_config(), smoke))
    assert all(name.startswith("smoke_") for name in study.experiments)
    assert sorted(study.claims) == sorted(smoke["judge"])


def test_experiments_share_their_points():
    config = small_config()
    other = copy.deepcopy(config["experiments"]["one"])
    other |= {"replicates": 7, "length": {"steps": 200}, "checkpoints": {"steps": [75, 200]}}
    other["grid"] = {"lr": 0.2, "intrinsic_lr": 0.002}
    config["experiments"]["two"] = other
    study = Study.read(config)
    assert len(study.trainings) == 2
    shared = study.trainings["digits-mlp-b32-lr0.2-wd0.01"]
    assert (shared.timeline.steps, shared.checkpoints, shared.replicates) == (200, (50, 75, 100, 200), 7)
    assert list(shared.blocks) == [0, 1, 2, 3]
    config["experiments"] = dict(reversed(config["experiments"].items()))
    assert Study.read(config).trainings[shared.point.name] == shared


def test_plans_do_not_depend_on_spelling_or_on_other_points():
    text = Study.read(small_config()).training_plan("digits-mlp-b32-lr0.1-wd0.01", 1).to_json()
    assert '"replicates":[2,4]' in text
    assert '"segments":[{"lr":0.1,"steps":100,"weight_decay":0.01}]' in text
    config = small_config()
    config["experiments"]["one"]["grid"] = {"weight_decay": 1.0e-2, "lr": [0.3, 0.10, 0.2], "init_scale": 1.0}
    config["experiments"]["one"]["checkpoints"] = {"steps": [50.0, 100]}
    config["models"]["mlp"]["affine"] = False
    assert Study.read(config).training_plan("digits-mlp-b32-lr0.1-wd0.01", 1).to_json() == text


def test_more_replicates_are_more_blocks():
    before, after = Study.read(small_config()), Study.read(edited(["experiments", "one", "replicates"], 6))
    name = "digits-mlp-b32-lr0.1-wd0.01"
    assert len(after.trainings[name].blocks) == len(before.trainings[name].blocks) + 1
    assert after.training_plan(name, 0) == before.training_plan(name, 0)


NEW_AXES = ("data_order", "constraint", "precision")


def test_plans_hold_later_axes_only_when_given():
    """What plain points are trained with must not change when an axis is added."""
    plain = Study.read(small_config()).training_plan("digits-mlp-b32-lr0.1-wd0.01", 0).to_dict()
    assert not plain.keys() & set(NEW_AXES)
    grid = {"lr": 0.1, "weight_decay": 0, "data_order": [0, 3], "constraint": ["none", "sphere"]}
    study = Study.read(edited(["experiments", "one", "grid"], grid))
    plain = "digits-mlp-b32-lr0.1-wd0"
    assert list(study.trainings) == [
        f"{plain}-order0",
        f"{plain}-order0-sphere",
        f"{plain}-order3",
        f"{plain}-order3-sphere",
    ]
    later = {"data_order": 3, "constraint": "sphere"}
    assert later.items() <= study.training_plan(f"{plain}-order3-sphere", 0).to_dict().items()
    assert study.training_plan(f"{plain}-order0", 0).to_dict()["data_order"] == 0


def test_traces_are_as_dense_as_the_densest_experiment_wants():
    name = "digits-mlp-b32-lr0.1-wd0.01"
    for points, every in ((None, 1), (50, 2), (33, 4), (1, 100), ("all", 1)):
        config = small_config()
        if points is not None:
            config["experiments"]["one"]["trace_points"] = points
        study = Study.read(config)
        assert study.trainings[name].trace_every == every
        assert study.training_plan(name, 0).trace_every == every
    config = edited([*ONE, "trace_points"], 10)
    config["experiments"]["two"] = {**config["experiments"]["one"], "trace_points": 20}
    config["experiments"]["three"] = {**config["experiments"]["one"], "trace_points": 5}
    assert Study.read(config).trainings[name].trace_every == 5


def test_twin_of_a_schedule_of_the_config():
    config = edited([*ONE, "grid"], {"lr": 0.1, "weight_decay": 0.01, "momentum": 0.9, "schedule": "twin"})
    config["schedules"] = {
        "drop": {"kind": "multi_step", "lr_milestones": {"steps": [50]}},
        "twin": {"kind": "exponential", "growth": "exp_lr", "of": "drop"},
    }
    (training,) = Study.read(config).trainings.values()
    assert [segment.steps for segment in training.timeline.segments] == [50, 50]
    assert training.timeline.first_buffer < 0
    for change in ({"head": "trained"}, {"affine": True}):
        models = {"mlp": {"kind": "mlp", **change}}
        with pytest.raises(InputError, match=r"experiments\.one: schedule 'twin': found growth exp_lr .*'mlp'"):
            Study.read({**config, "models": models})


def test_epochs_of_digits_and_multiples_of_the_intrinsic_time():
    config = edited(["experiments", "one", "length"], {"epochs": 2})
    config["experiments"]["one"]["checkpoints"] = {"inverse_intrinsic_lr": [0.05]}
    training = Study.read(config).trainings["digits-mlp-b32-lr0.1-wd0.01"]
    assert training.timeline.steps == 2 * (1437 // 32)
    assert training.checkpoints == (50,)


ONE = ["experiments", "one"]


def test_figures_have_one_spelling_of_formats_and_look():
    config = small_config()
    config["figures"] = {"formats": ["png", "pdf"], "width": "column", "font": {"family": "serif", "size": 8}}
    study = Study.read(config)
    assert study.formats == ["svg", "pdf", "png"]
    assert json.loads(study.look) == {"width": 3.25, "family": "serif", "size": 8.0}
    assert study.look == Study.read(edited(("figures", "width"), 3.25, copy.deepcopy(config))).look
    assert Study.read(edited(("figures", "formats"), [], config)).formats == ["svg"]


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (["sede"], 1, ["top level", "'sede'", "seed, device"]),
        ([*ONE, "replicats"], 4, ["experiments.one", "'replicats'", "replicates"]),
        ([*ONE, "replicates"], 0, ["experiments.one.replicates", "found 0", "from 1 on"]),
        ([*ONE, "replicates"], "many", ["experiments.one.replicates", '"many"', "whole number"]),
        ([*ONE, "grid", "lr"], "1e-3", ["experiments.one.grid.lr", '"1e-3"', "numbers above 0", "1.0e-3"]),
        ([*ONE, "grid", "lr"], [0.1, "1e-3"], ["experiments.one.grid.lr.1", '"1e-3"', "1.0e-3"]),
        ([*ONE, "grid", "lr"], -0.1, ["experiments.one.grid.lr", "found -0.1", "above 0"]),
        ([*ONE, "grid", "lr"], float("nan"), ["grid.lr", "nan", "finite"]),
        ([*ONE, "grid", "lr"], [], ["experiments.one.grid.lr", "empty list"]),
        ([*ONE, "grid"], [], ["experiments.one.grid", "empty list"]),
        ([*ONE, "grid", "leraning_rate"], 1, ["experiments.one.grid", "'leraning_rate'", "lr"]),
        ([*ONE, "grid", "momentum"], 1.0, ["momentum", "found 1.0", "below 1"]),
        ([*ONE, "dataset"], "digit", ["experiments.one.dataset", "'digit'", "allowed: digits"]),
        ([*ONE, "model"], "resnet", ["experiments.one.model", "'resnet'", "allowed: mlp"]),
        ([*ONE, "grid", "schedule"], "cosine", ["experiments.one", "'cosine'", "constant"]),
        ([*ONE, "analyses"], ["swap"], ["experiments.one.analyses.0", '"swap"', "swa"]),
        ([*ONE, "analyses"], ["swa"], ["experiments.one.analyses", "2 checkpoints", "from 3"]),
        ([*ONE, "checkpoints"], {"steps": [101]}, ["experiments.one.checkpoints", "101", "0 to 100"]),
        (
            [*ONE, "checkpoints"],
            {"steps": [50, 50]},
            ["experiments.one.checkpoints", "[50, 50]", "ascending"],
        ),
        ([*ONE, "checkpoints"], {"minutes": [1]}, ["experiments.one.checkpoints", "'minutes'", "epochs"]),
        ([*ONE, "length"], {"steps": 0.2}, ["experiments.one.length", "0 steps", "at least 1"]),
        ([*ONE, "grid", "lr"], [0.1, 0.1], ["two points with one name"]),
        ([*ONE, "trace_points"], 0, ["experiments.one.trace_points", "found 0", "all"]),
        ([*ONE, "grid", "data_order"], -1, ["experiments.one.grid.data_order", "found -1", "from 0 on"]),
        ([*ONE, "grid", "precision"], "float16", ["experiments.one.grid.precision", '"float16"', "bfloat16"]),
        ([*ONE, "grid", "constraint"], "ball", ["experiments.one.grid.constraint", '"ball"', "sphere"]),
        ([*ONE, "grid", "constraint"], "sphere", ["one.grid.weight_decay", "found 0.01", "sphere", "allowed"]),
        (
            [*ONE, "grid"],
            {"lr": 0.1, "weight_decay": 0, "momentum": 0.9, "constraint": "sphere"},
            ["experiments.one.grid.momentum", "found 0.9", "sphere"],
        ),
        (
            ["schedules", "x"],
            {"kind": "phases", "phases": [{"draw": {"seed": 0, "changes": 2, "lr_factor": [1]}}]},
            ["schedules.x.phases.0.draw", "allowed"],
        ),
        (
            ["schedules", "x"],
            {"kind": "exponential", "growth": "exp_lr", "first_buffer": "torch"},
            ["schedules.x.first_buffer", '"torch"', "corrected or zero"],
        ),
        (["schedules", "x"], {"kind": "exponential"}, ["schedules.x: the key 'growth' is missing"]),
        (["schedules", "x"], {"kind": "phases"}, ["schedules.x: the key 'phases' is missing"]),
        (["schedules", "x"], {"kind": "constant", "factor": 2}, ["schedules.x.factor", "constant", "none"]),
        ([*ONE, "batch_size"], 2000, ["experiments.one.batch_size", "2000", "1437"]),
        ([*ONE, "batch_size"], "half", ["experiments.one.batch_size", '"half"', "full"]),
        (["datasets", "digits", "kind"], "digit", ["datasets.digits.kind", '"digit"', "torchvision"]),
        (["datasets", "digits", "root"], "x", ["datasets.digits.root", "digits does not have"[:6]]),
        (
            ["datasets", "digits"],
            {"kind": "torchvision", "dataset": "MNISTT", "root": "x"},
            ["'MNISTT'", "MNIST"],
        ),
        (["datasets", "digits"], {"kind": "torchvision", "dataset": "MNIST"}, ["'root' is missing"]),
        (
            ["datasets", "digits"],
            {"kind": "image_folder", "root": "no/where"},
            ["no/where/train", "train/<class>"],
        ),
        (["models", "mlp", "kind"], "vgg", ["models.mlp.kind", '"vgg"', "preresnet"]),
        (["models", "mlp", "blocks"], 3, ["models.mlp", "blocks"]),
        (["models", "mlp"], {"kind": "mlp", "norm": "group", "groups": 7}, ["models.mlp", "7"]),
        (["device"], "gpu", ["device", '"gpu"', "cuda:N"]),
        (["run"], ["on"], ["run", "'on'", "allowed: one"]),
        (["experiments", "Bad name"], {}, ["Bad name", "lower-case"]),
        (["analysis", "confidence"], 95, ["analysis.confidence", "95", "between 0 and 1"]),
    ],
)
def test_mistakes_get_one_clear_line(path, value, words):
    with pytest.raises(InputError) as caught:
        Study.read(edited(path, value))
    message = str(caught.value)
    assert "\n" not in message
    assert [word for word in words if word not in message] == [], message


@pytest.fixture
def claimed(monkeypatch):
    """The small config with a claim of one role, one threshold and two settings."""
    stated = Claim(
        "It is so.", "derived", "It is not.", experiments={"run": "any"}, files=("history",), reads_data=True,
        thresholds={"margin": "how far"},
        settings={"model": Setting("which", "text"), "factors": Setting("by what", "positives")},
    )  # fmt: skip
    monkeypatch.setitem(CLAIMS, "example", stated)
    config = small_config()
    config["claims"]["example"] = {
        "experiments": {"run": "one"},
        "thresholds": {"margin": {"value": 0.1, "because": "so"}},
        "settings": {"model": "mlp", "factors": [1, 2]},
    }
    return config


class TestClaims:
    def test_a_claim_is_described_by_what_it_needs(self, claimed):
        study = Study.read(claimed)
        assert study.claims == ["example"]
        assert study.claim_experiments("example") == ["one"]
        assert study.claim_datasets("example") == ["digits"]
        plan = json.loads(study.describe_claim("example"))
        assert plan["thresholds"] == {"margin": 0.1}
        assert plan["settings"]["model"].startswith("mlp:")
        assert json.loads(plan["experiments"]["run"])["name"] == "one"

    def test_the_reason_of_a_threshold_is_no_part_of_the_question(self, claimed):
        before = Study.read(claimed).describe_claim("example")
        claimed["claims"]["example"]["thresholds"]["margin"]["because"] = "in other words"
        assert Study.read(claimed).describe_claim("example") == before

    def test_a_claim_may_read_the_tables_of_analyses_that_its_experiment_has(self, claimed, monkeypatch):
        monkeypatch.setitem(CLAIMS, "example", replace(CLAIMS["example"], tables={"run": ("swa_summary",)}))
        claimed["experiments"]["one"]["checkpoints"] = {"steps": [50, 75, 100]}
        with pytest.raises(InputError, match=r"example\.experiments\.run: found 'one', which lacks .*'swa'"):
            Study.read(claimed)
        claimed["experiments"]["one"]["analyses"] = ["curves", "swa"]
        assert Study.read(claimed).claim_tables("example") == ["swa_summary_one"]

    def test_claims_of_experiments_that_are_not_run_are_left_out(self, claimed):
        claimed["experiments"]["two"] = copy.deepcopy(claimed["experiments"]["one"])
        claimed["run"] = ["two"]
        assert Study.read(claimed).claims == []
        claimed["judge"] = ["example"]
        with pytest.raises(
            InputError, match=r"judge: found the claim 'example', whose experiment 'one' is not run"
        ):
            Study.read(claimed)

    @pytest.mark.parametrize(
        ("path", "value", "words"),
        [
            (["claims", "nonsense"], {}, ["claims.nonsense", "unknown claim", "example"]),
            (["claims", "example", "experiments", "run"], "two", ["experiments.run", "'two'", "allowed: one"]),
            (["claims", "example", "experiments"], {}, ["experiments", "'run' is missing (any)"]),
            (["claims", "example", "experiments", "walk"], "one", ["unknown key 'walk'", "allowed: run"]),
            (["claims", "example", "thresholds", "margin"], 0.1, ["thresholds.margin", "0.1", "because"]),
            (["claims", "example", "thresholds", "margin", "value"], "1e-3", ["value", "1.0e-3"]),
            (["claims", "example", "settings", "model"], "cnn", ["settings.model", "'cnn'", "mlp"]),
            (["claims", "example", "settings", "model"], 3, ["settings.model: found 3", "a name"]),
            (["claims", "example", "settings", "factors"], [1, "a"], ["settings.factors"]),
            (["claims", "example", "settings", "factors"], 2, ["settings.factors: found 2", "a list of numbers"]),
            (
                ["claims", "example", "settings", "factors"],
                "all",
                ["settings.factors: found", "a list of numbers"],
            ),
            (["claims", "example", "settings", "factors"], [1, -2], ["settings.factors.1: found -2", "above 0"]),
            (["claims", "example", "settings", "power"], 2, ["settings", "unknown key 'power'", "model, factors"]),
            (["claims", "example", "settings"], {"model": "mlp"}, ["settings", "'factors' is missing (by what)"]),
            (["judge"], ["nonsense"], ["judge", "'nonsense'", "example"]),
        ],
    )
    def test_mistakes_get_one_clear_line(self, claimed, path, value, words):
        with pytest.raises(InputError) as caught:
            Study.read(edited(path, value, claimed))
        message = str(caught.value)
        assert "\n" not in message
        assert [word for word in words if word not in message] == [], message

    @pytest.mark.parametrize(("claim", "key"), [(name, key) for name in CLAIMS for key in CLAIMS[name].settings])
    def test_a_setting_of_another_kind_is_refused(self, claim, key):
        """What takes a number gets a name, and what takes a name, or a list, gets a number."""
        config = default_config()
        settings = config["claims"][claim]["settings"]
        settings[key] = "any" if isinstance(settings[key], int | float) else 2
        with pytest.raises(InputError, match=rf"^config: claims\.{claim}\.settings\.{key}: found .*; allowed: "):
            Study.read(config)

    @pytest.mark.parametrize(
        ("claim", "key", "value", "allowed"),
        [
            ("exp_lr_equivalence", "twins", ["constant"], r"found 1; allowed: 2, one for each of originals"),
            ("equilibrium_time", "equilibrium", 0.123, r"found 0\.123; allowed: one of levels, "),
        ],
    )
    def test_a_setting_that_does_not_go_with_another_is_refused(self, claim, key, value, allowed):
        config = default_config()
        config["claims"][claim]["settings"][key] = value
        with pytest.raises(InputError, match=rf"^config: claims\.{claim}\.settings\.{key}: {allowed}"):
            Study.read(config)

    def test_every_claim_of_the_catalogue_is_judged_by_default(self):
        assert Study.read(default_config()).claims == list(CLAIMS)


def test_shared_point_needs_one_block_size():
    config = small_config()
    config["experiments"]["two"] = {**copy.deepcopy(config["experiments"]["one"]), "block_size": 4}
    with pytest.raises(InputError, match=r"experiments\.two\.block_size: found 4, .* blocks of 2"):
        Study.read(config)


def test_no_more_blocks_than_there_are_names_for():
    config = edited(("experiments", "one", "replicates"), 2 * MAX_BLOCKS)
    training = next(iter(Study.read(config).trainings.values()))
    assert re.fullmatch("[0-9]{4}", block_name(training.blocks[-1])), "what the workflow's wildcard takes"
    config = edited(("experiments", "one", "replicates"), 2 * MAX_BLOCKS + 1)
    words = r"experiments\.one\.replicates: found 20001 in blocks of 2; allowed .* a block_size from 3 on"
    with pytest.raises(InputError, match=words):
        Study.read(config)


def test_targets_off_the_grid():
    study = Study.read(small_config())
    known = "results/runs/digits-mlp-b32-lr0.1-wd0.01"
    check_targets(
        [f"{known}/block_0001/run.json", "results/figures/x.svg", "all"], study, ["results/figures/x.svg"]
    )
    with pytest.raises(InputError, match="'digits-mlp-b32-lr9-wd9', which no experiment"):
        check_targets(["results/runs/digits-mlp-b32-lr9-wd9/block_0000/run.json"], study, [])
    with pytest.raises(InputError, match="'block_0002'; allowed are block_0000 to block_0001"):
        check_targets([f"{known}/block_0002/run.json"], study, [])
    with pytest.raises(InputError, match=r"results/tables/y\.csv: .* allowed: results/tables/x\.csv"):
        check_targets(["results/tables/y.csv"], study, ["results/figures/x.svg", "results/tables/x.csv"])
    with pytest.raises(InputError, match=r"results/claims/y\.csv: .* allowed: results/claims/x\.csv"):
        check_targets(["results/claims/y.csv"], study, ["results/claims.csv", "results/claims/x.csv"])
    with pytest.raises(InputError, match=r"results/claims\.csv: .* allowed: none of this kind"):
        check_targets(["results/claims.csv"], study, ["results/tables/x.csv"])
