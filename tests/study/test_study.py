"""The study: what a config lays out."""

import copy
import json
import re
from dataclasses import replace

import pytest
from strategies import DEFAULT, SMOKE, small

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.paths import MAX_BLOCKS, block_name
from intrinsic_lr.study.claims import CLAIMS, Claim, Setting
from intrinsic_lr.study.config_files import merge_configs
from intrinsic_lr.study.study import Study
from intrinsic_lr.study.targets import check_targets

NAME = "digits-mlp-b32-lr0.1-wd0.01"


def study(**experiment):
    return Study.read(small(**{"checkpoints": {"steps": [50, 100]}, "analyses": ["curves"], **experiment}))


def two(changes, **first):
    """Return the study of an experiment `one` and of an experiment `two` that differs from it."""
    config = small(**{"checkpoints": {"steps": [50, 100]}, "analyses": [], **first})
    config["experiments"]["two"] = {**config["experiments"]["one"], **changes}
    return config


def test_the_default_and_the_smoke_config_are_read():
    assert list(Study.read(DEFAULT).experiments) == list(DEFAULT["experiments"])
    assert Study.read(DEFAULT).claims == [name for name in CLAIMS if name in DEFAULT["claims"]]
    smoke = Study.read(SMOKE)
    assert list(smoke.experiments) == SMOKE["run"]
    assert sorted(smoke.claims) == sorted(SMOKE["judge"])


def test_experiments_share_their_points():
    changes = {"replicates": 7, "length": {"steps": 200}, "checkpoints": {"steps": [75, 200]}}
    config = two({**changes, "grid": {"lr": 0.2, "intrinsic_lr": 0.002}})
    found = Study.read(config)
    assert len(found.trainings) == 2
    shared = found.trainings["digits-mlp-b32-lr0.2-wd0.01"]
    assert (shared.timeline.steps, shared.checkpoints, shared.replicates) == (200, (50, 75, 100, 200), 7)
    assert list(shared.blocks) == [0, 1, 2, 3]
    config["experiments"] = dict(reversed(config["experiments"].items()))
    assert Study.read(config).trainings[shared.point.name] == shared


def test_plans_do_not_depend_on_how_numbers_are_written_or_on_other_points():
    plan = study().training_plan(NAME, 1)
    assert plan.replicates == (2, 4)
    grid = {"weight_decay": 1.0e-2, "lr": [0.3, 0.10, 0.2], "init_scale": 1.0}
    config = small(grid=grid, checkpoints={"steps": [50.0, 100]}, analyses=[])
    config = merge_configs(config, {"models": {"mlp": {"affine": False}}})
    assert Study.read(config).training_plan(NAME, 1) == plan


def test_more_replicates_are_more_blocks():
    before, after = study(), study(replicates=6)
    assert len(after.trainings[NAME].blocks) == len(before.trainings[NAME].blocks) + 1
    assert after.training_plan(NAME, 0) == before.training_plan(NAME, 0)


def test_axes_of_a_grid_reach_the_plan():
    grid = {"lr": 0.1, "weight_decay": 0, "data_order": [0, 3], "constraint": ["none", "sphere"]}
    found = study(grid=grid)
    plain = "digits-mlp-b32-lr0.1-wd0"
    names = [f"{plain}-order0", f"{plain}-order0-sphere", f"{plain}-order3", f"{plain}-order3-sphere"]
    assert list(found.trainings) == names
    plan = found.training_plan(names[3], 0)
    assert (plan.data_order, plan.constraint) == (3, "sphere")


@pytest.mark.parametrize(
    ("given", "name"), [(True, f"{NAME}-compile_on"), ("on", f"{NAME}-compile_on"), (False, NAME)]
)
def test_yaml_reads_on_and_off_as_truth_values(given, name):
    grid = {"lr": 0.1, "weight_decay": 0.01, "compile": given}
    assert list(study(grid=grid).trainings) == [name]


def test_compile_auto_is_on_where_a_training_without_kernels_is_long():
    models = {
        "mlp": {"kind": "mlp", "norm": "layer"},
        "kernels": {"kind": "mlp"},
        "cnn": {"kind": "cnn4", "norm": "layer"},
    }
    grid = {"lr": 0.1, "weight_decay": 0.01, "compile": "auto", "model": list(models)}
    for steps, compiled in ((100, []), (1_000_000, ["mlp", "cnn"])):
        config = small(grid=grid, length={"steps": steps}, checkpoints={"steps": [steps]}, analyses=[])
        found = Study.read(merge_configs(config, {"models": models}))
        plans = {name: found.training_plan(name, 0).compile for name in found.trainings}
        expected = {f"digits-{name}-b32-lr0.1-wd0.01" + "-compile_on" * (name in compiled) for name in models}
        assert plans.keys() == expected
        assert all((plan == "on") == name.endswith("-compile_on") for name, plan in plans.items())


@pytest.mark.parametrize(("points", "every"), [(200, 1), (50, 2), (33, 4), (1, 100), ("all", 1)])
def test_points_of_the_trace_are_steps_between_rows(points, every):
    assert study(trace_points=points).trainings[NAME].trace_every == every


def test_a_shared_trace_is_as_dense_as_the_densest_experiment_needs():
    assert Study.read(two({"trace_points": 20}, trace_points=10)).trainings[NAME].trace_every == 5


def test_equivalent_of_a_schedule_of_the_config_needs_scale_invariant_weights():
    grid = {"lr": 0.1, "weight_decay": 0.01, "momentum": 0.9, "schedule": "equivalent"}
    schedules = {
        "drop": {"kind": "multi_step", "lr_milestones": {"steps": [50]}},
        "equivalent": {"kind": "exponential", "growth": "exp_lr", "of": "drop"},
    }
    config = {**small(grid=grid, analyses=[]), "schedules": schedules}
    (training,) = Study.read(config).trainings.values()
    assert [segment.steps for segment in training.timeline.segments] == [50, 50]
    assert training.timeline.first_buffer < 0
    for change in ({"head": "trained"}, {"affine": True}):
        models = {"mlp": {"kind": "mlp", **change}}
        with pytest.raises(
            InputError, match=r"experiments\.one\.grid: schedule 'equivalent': growth exp_lr .*'mlp'"
        ):
            Study.read({**config, "models": models})


def test_epochs_of_digits_and_multiples_of_the_intrinsic_time():
    training = study(length={"epochs": 2}, checkpoints={"inverse_intrinsic_lr": [0.05]}).trainings[NAME]
    assert training.timeline.steps == 2 * (1437 // 32)
    assert training.checkpoints == (50,)


def test_experiments_have_the_defaults_that_they_do_not_set():
    config = small(analyses=[])
    whole = config["experiments"]["one"]
    keys = ("dataset", "model", "batch_size", "length")
    config["defaults"] = {**{key: whole[key] for key in keys}, "grid": {"momentum": 0.5, "init_seed": 3}}
    own = {key: value for key, value in whole.items() if key not in keys}
    lists = [{"lr": 0.1, "weight_decay": 0.1}, {"lr": 0.1, "weight_decay": 0.2, "init_seed": 0}]
    config["experiments"] = {
        "one": {**own, "grid": {"lr": 0.1, "weight_decay": 0.01, "momentum": 0}},
        "two": {**own, "grid": lists, "model": "cnn4", "length": {"epochs": 10}},
    }
    found = Study.read(config)
    points = [(p.model, p.momentum, p.init_seed, p.length) for e in found.experiments.values() for p in e.points]
    assert points == [("mlp", 0, 3, 100), ("cnn4", 0.5, 3, 440), ("cnn4", 0.5, 0, 440)]
    assert found.config["experiments"]["two"]["batch_size"] == 32
    config["defaults"]["replicates"] = 0
    with pytest.raises(InputError, match=r"^config: defaults\.replicates: .* got 0"):
        Study.read(config)


def past(**draw):
    draw = {"changes": 2, "lr_factor": [0.1, 1], "weight_decay_factor": [0.1, 1], **draw}
    return {"kind": "phases", "phases": [{"length": {"steps": 50}, "draw": draw}, {}]}


def test_a_list_of_seeds_stands_for_one_schedule_per_seed():
    def timelines(schedules, names):
        grid = {"lr": 0.1, "weight_decay": 0.01, "schedule": names}
        read = Study.read({**small(grid=grid, analyses=[]), "schedules": schedules})
        return {name: training.timeline for name, training in read.trainings.items()}

    apart = timelines({"past_1": past(seed=1), "past_7": past(seed=7)}, ["past_1", "past_7"])
    assert len(set(apart.values())) == 2
    family = {"past": past(seeds=[1, 7])}
    assert timelines(family, "past") == timelines(family, ["past_1", "past_7"]) == apart
    with pytest.raises(InputError, match=r"unknown schedule 'past_2'; did you mean past_7, past_1"):
        timelines(family, "past_2")
    with pytest.raises(InputError, match=r"^config: schedules: .*'past_1'"):
        timelines({**family, "past_1": past(seed=1)}, "past")
    for draw in ({}, {"seed": 1, "seeds": [1]}):
        with pytest.raises(InputError, match=r"schedules\.past\.phases\.0\.draw: expected either seed or seeds"):
            timelines({"past": past(**draw)}, "past")


def test_formats_and_look_of_figures_do_not_depend_on_how_they_are_written():
    config = small()
    config["figures"] = {"formats": ["png", "pdf"], "width": "column", "font": {"family": "serif", "size": 8}}
    found = Study.read(config)
    assert found.formats == ["svg", "pdf", "png"]
    assert json.loads(found.look) == {"width": 3.25, "family": "serif", "size": 8.0}
    assert Study.read(merge_configs(config, {"figures": {"width": 3.25}})).look == found.look
    assert Study.read(merge_configs(config, {"figures": {"formats": []}})).formats == ["svg"]


def test_a_schedule_that_depends_on_the_length_is_shared_at_one_length_only():
    config = two({"length": {"steps": 200}}, grid={"lr": 0.1, "weight_decay": 0.01, "schedule": "mine"})
    config["schedules"] = {"mine": {"kind": "constant", "warmup": {"steps": 50}}}
    assert len(Study.read(config).trainings) == 1
    config["schedules"] = {"mine": {"kind": "cosine"}}
    with pytest.raises(InputError, match=r"'mine': its rates depend .* expected 100 steps, .* got 200"):
        Study.read(config)


def test_a_shared_point_needs_one_block_size():
    with pytest.raises(InputError, match=r"experiments\.two\.block_size: expected 2, .* got 4"):
        Study.read(two({"block_size": 4}))


def test_no_more_blocks_than_there_are_names_for():
    training = next(iter(study(replicates=2 * MAX_BLOCKS).trainings.values()))
    assert re.fullmatch("[0-9]{4}", block_name(training.blocks[-1])), "what the workflow's wildcard takes"
    with pytest.raises(InputError, match=r"one\.replicates: .* got 20001 in blocks of 2; .* block_size from 3 on"):
        study(replicates=2 * MAX_BLOCKS + 1)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("results/runs/digits-mlp-b32-lr0.3-wd0.01/block_0000/run.json", f"did you mean .*{NAME}"),
        (f"results/runs/{NAME}/block_0002/run.json", "block_0000 to block_0001, got 'block_0002'"),
        ("results/tables/y.csv", "did you mean results/tables/x.csv"),
        ("results/claims/y.csv", "did you mean results/claims/x.csv"),
        ("results/claims.csv", "'results/claims.csv'; expected one of none"),
    ],
)
def test_targets_off_the_grid(target, words):
    made = ["results/figures/x.svg", "results/tables/x.csv", "results/claims/x.csv"]
    check_targets([f"results/runs/{NAME}/block_0001/run.json", made[0], "all"], study(), made)
    with pytest.raises(InputError, match=words):
        check_targets([target], study(), made)


@pytest.fixture
def claimed(monkeypatch):
    """The small config with a claim of one role, one threshold and two settings."""
    stated = Claim(
        "So", "claim", "symmetry", "It is so.", "derived", "It is not.",
        experiments={"run": "any"}, files=("history",), reads_data=True,
        thresholds={"margin": Setting("how far", "share")},
        settings={"model": Setting("which", "text"), "factors": Setting("by what", "positives")},
    )  # fmt: skip
    monkeypatch.setitem(CLAIMS, "example", stated)
    claim = {
        "experiments": {"run": "one"},
        "thresholds": {"margin": {"value": 0.1, "because": "so"}},
        "settings": {"model": "mlp", "factors": [1, 2]},
    }
    return {**small(checkpoints={"steps": [50, 100]}, analyses=["curves"]), "claims": {"example": claim}}


def changed(config, path, value):
    """Return a config with what stands at a path replaced."""
    config = target = copy.deepcopy(config)
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    return config


def refusal(config, path, value):
    with pytest.raises(InputError) as caught:
        Study.read(changed(config, path, value))
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestClaims:
    def test_a_claim_is_described_by_what_it_needs(self, claimed):
        found = Study.read(claimed)
        assert found.claims == ["example"]
        assert found.claim_experiments("example") == ["one"]
        assert found.claim_datasets("example") == ["digits"]
        plan = json.loads(found.describe_claim("example"))
        assert plan["thresholds"] == {"margin": 0.1}
        assert plan["settings"]["model"].startswith("mlp:")
        reworded = changed(claimed, ["claims", "example", "thresholds", "margin", "because"], "in other words")
        assert Study.read(reworded).describe_claim("example") == found.describe_claim("example")

    def test_a_claim_may_read_the_tables_of_analyses_that_its_experiment_has(self, claimed, monkeypatch):
        monkeypatch.setitem(CLAIMS, "example", replace(CLAIMS["example"], tables={"run": ("swa_summary",)}))
        claimed["experiments"]["one"]["checkpoints"] = {"steps": [50, 75, 100]}
        with pytest.raises(InputError, match=r"example\.experiments\.run: .* analysis 'swa', got 'one'"):
            Study.read(claimed)
        claimed["experiments"]["one"]["analyses"] = ["curves", "swa"]
        assert Study.read(claimed).claim_tables("example") == ["swa_summary_one"]

    def test_claims_of_experiments_that_are_not_run_are_left_out(self, claimed):
        claimed["experiments"]["two"] = copy.deepcopy(claimed["experiments"]["one"])
        claimed["run"] = ["two"]
        assert Study.read(claimed).claims == []
        claimed["judge"] = ["example"]
        with pytest.raises(InputError, match=r"judge: the claim 'example' needs the experiment 'one'"):
            Study.read(claimed)

    @pytest.mark.parametrize(
        ("path", "value", "words"),
        [
            ("claims.exampel", {}, ["claims", "'exampel'; did you mean example?"]),
            ("claims.example.experiments.run", "ones", ["experiments.run", "'ones'; did you mean one?"]),
            ("claims.example.experiments", {}, ["experiments", "'run' is missing (any)"]),
            ("claims.example.experiments.walk", "one", ["experiments", "'walk'", "run"]),
            ("claims.example.thresholds.margin", 0.1, ["thresholds.margin", "mapping", "0.1"]),
            ("claims.example.thresholds.margin.value", "1e-3", ["margin.value", "1.0e-3"]),
            ("claims.example.thresholds.margin.value", 99, ["thresholds.margin.value", "up to 1", "got 99"]),
            ("claims.example.settings.model", "cnn", ["settings.model", "'cnn'", "cnn4"]),
            ("claims.example.settings.model", 3, ["settings.model: expected a name, got 3"]),
            ("claims.example.settings.factors", [1, "a"], ["settings.factors.1", '"a"']),
            ("claims.example.settings.factors", 2, ["settings.factors", "a list", "got 2"]),
            ("claims.example.settings.factors", [1, -2], ["settings.factors.1", "above 0", "got -2"]),
            ("claims.example.settings.power", 2, ["settings", "'power'", "model, factors"]),
            ("claims.example.settings", {"model": "mlp"}, ["settings", "'factors' is missing (by what)"]),
            ("judge", ["nonsense"], ["judge", "'nonsense'", "example"]),
        ],
    )
    def test_mistakes_get_one_clear_line(self, claimed, path, value, words):
        message = refusal(claimed, path.split("."), value)
        assert [word for word in words if word not in message] == [], message

    @pytest.mark.parametrize(
        ("claim", "key"), [(name, key) for name in DEFAULT["claims"] for key in CLAIMS[name].settings]
    )
    def test_a_setting_of_another_type_is_refused(self, claim, key):
        """What takes a number gets a name, and what takes a name, or a list, gets a number."""
        path = ["claims", claim, "settings", key]
        value = "any" if isinstance(DEFAULT["claims"][claim]["settings"][key], int | float) else 2
        message = refusal(DEFAULT, path, value)
        assert re.match(rf"config: claims\.{claim}\.settings\.{key}: expected .*, got ", message), message

    @pytest.mark.parametrize(
        ("claim", "key", "value", "words"),
        [
            ("exp_lr_equivalence", "equivalents", ["constant"], ["expected 2", "originals", "got 1"]),
            ("equilibrium_time", "equilibrium", 0.123, ["one of levels", "got 0.123"]),
            ("gd_toy", "intrinsic_lrs", [0.05, 0.001], ["from 0.0017 on", "got 0.001"]),
        ],
    )
    def test_a_setting_that_does_not_go_with_another_is_refused(self, claim, key, value, words):
        message = refusal(DEFAULT, ["claims", claim, "settings", key], value)
        assert message.startswith(f"config: claims.{claim}.settings.{key}: ")
        assert all(word in message for word in words), message

    @pytest.mark.parametrize(
        ("claim", "key"), [(name, key) for name in DEFAULT["claims"] for key in CLAIMS[name].thresholds]
    )
    def test_a_threshold_out_of_range_or_not_below_its_upper_bound_is_refused(self, claim, key):
        upper, thresholds = CLAIMS[claim].thresholds[key].below, DEFAULT["claims"][claim]["thresholds"]
        for value in [-1e20, thresholds[upper]["value"]] if upper else [-1e20]:
            message = refusal(DEFAULT, ["claims", claim, "thresholds", key, "value"], value)
            place = f"config: claims.{claim}.thresholds.{key}.value: "
            assert re.match(f"{re.escape(place)}expected .*, got ", message), message


OVERRIDDEN = small(grid={"lr": 0.1, "weight_decay": 0.01, "dataset": "digits", "model": "mlp"})["experiments"][
    "one"
]


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("sede", 1, ["top level", "'sede'; did you mean seed"]),
        ("one.replicats", 4, ["experiments.one", "'replicats'; did you mean replicates?"]),
        ("one.replicates", 0, ["experiments.one.replicates", "from 1", "got 0"]),
        ("one.replicates", True, ["experiments.one.replicates", "whole number", "got true"]),
        ("one.replicates", 4.0, ["experiments.one.replicates", "whole number", "got 4.0"]),
        ("one.replicates", "many", ["experiments.one.replicates", "whole number", '"many"']),
        ("one.grid.lr", "1e-3", ["experiments.one.grid.lr: ", "above 0", '"1e-3"', "1.0e-3"]),
        ("one.grid.lr", [0.1, "1e-3"], ["experiments.one.grid.lr.1", '"1e-3"', "1.0e-3"]),
        ("one.grid.lr", -0.1, ["experiments.one.grid.lr", "above 0", "got -0.1"]),
        ("one.grid.lr", float("nan"), ["grid.lr", "nan", "finite"]),
        ("one.grid.lr", [], ["experiments.one.grid.lr", "at least one"]),
        ("one.grid", [], ["experiments.one.grid", "at least one"]),
        ("one.grid.leraning_rate", 1, ["experiments.one.grid", "'leraning_rate'", "lr"]),
        ("one.grid.momentum", 1.0, ["grid.momentum", "0.999999", "got 1.0"]),
        ("one.dataset", "digit", ["experiments.one.dataset", "'digit'; did you mean digits"]),
        ("one.model", "resnet", ["experiments.one.model", "'resnet'; did you mean preresnet_narrow?"]),
        ("one.grid.schedule", "cosine", ["experiments.one", "'cosine'", "constant"]),
        ("one.analyses", ["swap"], ["experiments.one.analyses", "'swap'; did you mean", "swa"]),
        ("one.analyses", ["swa"], ["experiments.one.analyses", "swa", "3", "2 checkpoints"]),
        ("one.checkpoints", {"steps": [101]}, ["experiments.one.checkpoints", "0 to 100", "101"]),
        ("one.checkpoints", {"steps": [50, 50]}, ["experiments.one.checkpoints", "[50, 50]", "ascending"]),
        ("one.checkpoints", {"steps": []}, ["experiments.one.checkpoints.steps", "at least one"]),
        ("one.checkpoints", {"minutes": [1]}, ["experiments.one.checkpoints", "minutes", "epochs"]),
        ("one.checkpoints", {"steps": [1], "epochs": [1]}, ["experiments.one.checkpoints", "one of", "epochs"]),
        ("one.checkpoints", {"steps": [1, "1e1"]}, ["experiments.one.checkpoints.steps.1", '"1e1"']),
        ("one.length", {"steps": 0.2}, ["experiments.one.length", "at least 1 step", "0 steps"]),
        ("one.grid.lr", [0.1, 0.1], ["experiments.one.grid", "each point once", "wd0.01' twice"]),
        ("one.trace_points", 0, ["experiments.one.trace_points", "all", "got 0"]),
        ("one.grid.data_order", -1, ["experiments.one.grid.data_order", "from 0", "got -1"]),
        ("one.grid.precision", "float16", ["experiments.one.grid.precision", '"float16"', "bfloat16"]),
        ("one.grid.compile", "yes", ["experiments.one.grid.compile", "auto, off or on", '"yes"']),
        ("one.grid.compile", 1, ["experiments.one.grid.compile", "auto, off or on", "got 1"]),
        ("one.grid", {"lr": 0.1, "weight_decay": 0.01, "compile": ["off", "auto"]},
         ["experiments.one.grid.compile", "each point once", "wd0.01 also as what auto stands for"]),
        ("one.grid.augmentation", "crop", ["experiments.one.grid.augmentation", "crop=N", '"crop"']),
        ("one.grid.constraint", "ball", ["experiments.one.grid.constraint", '"ball"', "sphere"]),
        ("one.grid.constraint", "sphere", ["one.grid.weight_decay", "0", "sphere", "got 0.01"]),
        (
            "one.grid",
            {"lr": 0.1, "weight_decay": 0, "momentum": 0.9, "constraint": "sphere"},
            ["experiments.one.grid.momentum", "got 0.9", "sphere"],
        ),
        ("one.batch_size", 2000, ["experiments.one.batch_size", "2000", "1437"]),
        ("one.batch_size", 2, ["experiments.one.model", "3 numbers or more", "got 2 in batch norm of 'mlp'"]),
        ("models.mlp", {"kind": "mlp", "norm": "group", "width": 16}, ["one.model", "got 2 in group norm"]),
        ("models.mlp", {"kind": "mlp", "norm": "layer", "width": 1}, ["one.model", "got 1 in layer norm"]),
        ("experiments.one", {**OVERRIDDEN, "dataset": "<b>"}, ["one.dataset", "'<b>'"]),
        ("experiments.one", {**OVERRIDDEN, "model": "x"}, ["one.model", "'x'"]),
        ("schedules.constant", {"kind": "multi_step"}, ["schedules", "another name than 'constant'"]),
        ("schedules.wd_1_2_lr_3_4", {"kind": "constant"}, ["schedules", "'wd_1_2_lr_3_4', which needs no"]),
        ("study", "tables", ["study", "another name than runs, data", "got tables"]),
        ("one.batch_size", "half", ["experiments.one.batch_size", '"half"', "full"]),
        ("experiments.Bad name", {}, ["experiments", "Bad name", "lower-case"]),
        ("experiments", {}, ["experiments", "at least 1"]),
        ("schedules.x", past(seed=0, lr_factor=[1]), ["schedules.x.phases.0.draw.lr_factor", "low"]),
        ("schedules.x", {"kind": "exponential", "growth": "exp_lr", "first_buffer": "torch"},
         ["schedules.x.first_buffer", '"torch"', "corrected", "zero"]),
        ("schedules.x", {"kind": "exponential"}, ["schedules.x: the key 'growth' is missing"]),
        ("schedules.x", {"kind": "phases"}, ["schedules.x: the key 'phases' is missing"]),
        ("schedules.x", {"kind": "constant", "factor": 2}, ["schedules.x", "'factor'", "kind"]),
        ("schedules.x", {}, ["schedules.x: the key 'kind' is missing", "phases, exponential"]),
        ("datasets.digits.kind", "digit", ["datasets.digits.kind", "'digit'; did you mean digits?"]),
        ("datasets.digits.root", "x", ["datasets.digits", "'root'", "subset"]),
        ("datasets.digits", {"kind": "torchvision", "dataset": "MNISTT", "root": "x"},
         ["datasets.digits.dataset", "'MNISTT'; did you mean", "MNIST"]),
        ("datasets.digits", {"kind": "torchvision", "dataset": "MNIST"}, ["'root' is missing"]),
        ("datasets.digits", {"kind": "image_folder", "root": "no/where"}, ["no/where/train", "train/<class>"]),
        ("models.mlp.kind", "vgg", ["models.mlp.kind", "'vgg'", "preresnet"]),
        ("models.mlp.blocks", 3, ["models.mlp", "'blocks'", "depth"]),
        ("models.mlp", {"kind": "mlp", "norm": "group", "groups": 7}, ["models.mlp.groups", "7"]),
        ("device", "gpu", ["device", '"gpu"', "cuda:N"]),
        ("run", ["on"], ["run", "'on'; did you mean one?"]),
        ("analysis.confidence", 95, ["analysis.confidence", "95", "between 0 and 1"]),
        ("analysis.interpolation", 2, ["analysis.interpolation", "odd", "got 2"]),
        ("figures", None, ["figures", "a mapping", "null"]),
    ],
)  # fmt: skip
def test_mistakes_get_one_clear_line(path, value, words):
    path = path.replace("one.", "experiments.one.", 1) if path.startswith("one.") else path
    message = refusal(small(checkpoints={"steps": [50, 100]}, analyses=["curves"]), path.split("."), value)
    assert [word for word in words if word not in message] == [], message
