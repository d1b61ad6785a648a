"""A config that names code of the user's own: what it lays out, says, and refuses before anything is run."""

import hashlib
import json

import pytest
from strategies import small

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.study.config_files import merge_configs
from intrinsic_lr.study.results import Results
from intrinsic_lr.study.study import Study

UPDATE = "def update(weight, grad, state, rates, beta=0.9):\n    raise SystemExit('was run')\n"
RATES = "def rates(step, lr, weight_decay):\n    raise SystemExit('was run')\n"
AUGMENT = "from elsewhere import augment\n"
ANALYSIS = "def measure(data): ...\ndraw_spread = print\n"
CLAIM = "def measure(data): ...\ndef judge(table, spec): ...\ndef draw(table, spec, findings): ...\n"
STATED = {"statement": "It is so.", "refuted_by": "It is not."}


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A config with one of each, all of which would end the program if they were run."""
    monkeypatch.chdir(tmp_path)
    for name, text in (("o", UPDATE), ("s", RATES), ("a", AUGMENT), ("t", ANALYSIS), ("c", CLAIM)):
        (tmp_path / f"{name}.py").write_text(text)
    grid = {"lr": 0.1, "weight_decay": 0.01, "optimiser": "mine", "schedule": "saw", "augmentation": "noise"}
    own = {
        "optimisers": {"mine": {"file": "o.py", "state": ["m", "v"], "options": {"beta": 0.8}}},
        "schedules": {"saw": {"kind": "file", "file": "s.py"}},
        "augmentations": {"noise": {"file": "a.py"}},
        "analyses": {"spread": {"file": "t.py", "reads": ["predictions"], "shows": "How far."}},
        "claims": {
            "so": {
                "file": "c.py",
                "experiments": {"run": "one"},
                "reads": ["history"],
                "thresholds": {"x": {"value": 1, "because": "y"}},
                **STATED,
            }
        },
    }
    return merge_configs(small(grid=grid, analyses=["spread"]), own)


def sums(*names):
    return {name: hashlib.sha256(open(f"{name}.py", "rb").read()).hexdigest() for name in names}


def test_a_study_takes_them_as_its_own(config):
    study = Study.read(config)
    (name,) = study.trainings
    assert name == "digits-mlp-b32-lr0.1-wd0.01-schedule_saw-augmentation_noise-optimiser_mine"
    plan = study.training_plan(name, 0)
    assert (plan.optimiser_code.state, json.loads(plan.optimiser_code.options)) == (("m", "v"), {"beta": 0.8})
    assert dict(plan.code) == {f"{file}.py": checksum for file, checksum in sums("o", "a", "s").items()}
    assert study.claims == ["so"]
    assert study.analyses["spread"].own == ("t.py", sums("t")["t"])
    asked = json.loads(study.describe_claim("so"))
    assert (asked["statement"], asked["thresholds"]) == (STATED["statement"], {"x": 1})
    results = Results(study)
    assert {"results/tables/spread_one.csv", "results/tables/so.csv"} <= set(results.tables)
    assert any(file.endswith("/predictions") for file in results.of_analysis("spread", "one"))
    assert any(file.endswith("/history.parquet") for file in results.of_claim("so"))


def test_it_says_what_is_run(config):
    said = Study.read(config).code
    for what, file in (
        ("optimiser mine", "o"), ("schedule saw", "s"), ("augmentation noise", "a"), ("analysis spread", "t"),
        ("claim so", "c"),
    ):  # fmt: skip
        line = f"code that the config names is run: {file}.py (sha256 {sums(file)[file]}), for the {what}"
        assert line in said, what
    assert Study.read(small()).code == []


@pytest.mark.parametrize(("file", "changes"), [("o", True), ("s", True), ("a", True), ("t", False), ("c", False)])
def test_an_edited_file_is_another_training_only_where_trainings_run_it(config, tmp_path, file, changes):
    def plans(study):
        return [study.training_plan(name, 0) for name in study.trainings]

    before = plans(Study.read(config))
    with open(tmp_path / f"{file}.py", "a") as handle:
        handle.write("# edited\n")
    assert (plans(Study.read(config)) != before) == changes


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"optimisers": {"mine": {"file": "none.py"}}}, ["optimisers.mine.file: ", "'none.py'", "No such file"]),
        ({"optimisers": {"mine": {"file": "s.py"}}}, ["optimisers.mine.file: ", "function update in 's.py'"]),
        ({"optimisers": {"mine": {"file": "."}}}, ["optimisers.mine.file: ", "directory"]),
        ({"optimisers": {"mine": {"file": "bad.py"}}}, ["optimisers.mine.file: expected Python", "line 1"]),
        ({"optimisers": {"mine": {"stat": ["m"]}}}, ["optimisers.mine", "'stat'; did you mean state"]),
        ({"optimisers": {"adam": {"file": "o.py"}}}, ["optimisers", "another name than 'adam'"]),
        ({"augmentations": {"flip": {"file": "a.py"}}}, ["augmentations", "another name than 'flip'"]),
        ({"analyses": {"curves": {"file": "t.py", "reads": []}}}, ["analyses", "another name than 'curves'"]),
        ({"augmentations": {"noise": {"file": "o.py"}}}, ["augmentations.noise.file: ", "function augment"]),
        ({"schedules": {"saw": {"file": "o.py"}}}, ["schedule 'saw': file: ", "function rates in 'o.py'"]),
        ({"schedules": {"saw": {"kind": "linear", "warmup": {"steps": 101}}}}, ["warmup", "at most 100 steps"]),
        ({"analyses": {"spread": {"file": "c.py"}}}, ["analyses.spread.file: ", "function draw_spread"]),
        ({"analyses": {"spread": {"reads": ["weights"]}}}, ["analyses.spread.reads.0", '"weights"', "history"]),
        ({"claims": {"so": {"file": "t.py"}}}, ["claims.so.file: ", "function judge in 't.py'"]),
        ({"claims": {"so": {"statement": None}}}, ["claims.so", "'statement' is missing"]),
        ({"claims": {"so": {"experiments": {"run": "on"}}}}, ["claims.so.experiments.run", "did you mean one"]),
        ({"claims": {"distance_grows": {"file": "c.py", **STATED}}}, ["another name than 'distance_grows'"]),
        ({"claims": {"so": {"file": None}}}, ["claims.so.", "expected a file beside it"]),
        ({"experiments": {"one": {"grid": {"optimiser": "min"}}}}, ["one.grid.optimiser", "did you mean mine"]),
        (
            {"experiments": {"one": {"grid": {"augmentation": "nois"}}}},
            ["one.grid.augmentation", "crop=N", "nois"],
        ),
        ({"experiments": {"one": {"grid": {"beta1": 0.5}}}}, ["one.grid.beta1: expected none with mine"]),
        ({"experiments": {"one": {"grid": {"constraint": "sphere"}}}}, ["optimiser: expected sgd", "mine"]),
        ({"experiments": {"one": {"analyses": ["spred"]}}}, ["one.analyses", "did you mean spread"]),
        (
            {"experiments": {"one": {"grid": {"schedule": "up"}}}},
            ["expected optimiser sgd, adamw or lion, got mine"],
        ),
    ],
)
def test_mistakes_get_one_line(config, tmp_path, changes, words):
    (tmp_path / "bad.py").write_text("def update(:\n")
    config["schedules"]["up"] = {"kind": "exponential", "growth": "exp_lr"}
    with pytest.raises(InputError) as caught:
        Study.read(merge_configs(config, changes))
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)


def test_a_claim_that_needs_rates_refuses_those_that_only_code_knows(config):
    roles = {"decay": "one", "no_decay": "one"}
    asked = {"experiments": roles, "thresholds": {}, "settings": {}}
    grid = {"weight_decay": 0.01, "batch_size": "full", "optimiser": "sgd"}
    changed = merge_configs(
        config, {"experiments": {"one": {"grid": grid}}, "claims": {"gd_never_settles": asked}}
    )
    with pytest.raises(InputError, match=r"claims\.gd_never_settles"):
        Study.read(changed)
