"""Whatever a config holds, it is laid out as a study or refused in one line that names the key."""

import json
import re
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import pytest
import yaml
from hypothesis import HealthCheck, Phase, assume, event, example, given, reject, settings
from strategies import configs, small

from intrinsic_lr.commands import budget
from intrinsic_lr.core import paths
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.study.config_files import merge_configs, merge_files
from intrinsic_lr.study.model_spec import ModelSpec
from intrinsic_lr.study.plan import TrainingPlan
from intrinsic_lr.study.schema import Config
from intrinsic_lr.study.study import Study
from projects import environment_of, new_project

SECONDS, BYTES = 5, 1 << 30
"""What laying out or refusing a config may take: of processor time, and of memory."""
TOP_LEVEL = Config.model_fields


@contextmanager
def bounded():
    """Stop what takes more processor time or memory than that, by an exception."""

    def stop(_number, _frame):
        raise TimeoutError(f"more than {SECONDS} s of processor time")

    before = signal.signal(signal.SIGVTALRM, stop)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm", encoding="ascii") as handle:
        used = int(handle.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, hard))
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGVTALRM, before)


def lay_out(config):
    """Ask of a config all that the workflow asks of it before the first job; return the study."""
    with bounded():
        study = Study.read(config)
        plans = {
            (name, block): study.training_plan(name, block)
            for name, training in study.trainings.items()
            for block in (training.blocks[0], training.blocks[-1])
        }
        described = [study.describe(name) for name in study.experiments]
        described += [study.describe_claim(claim) for claim in study.claims]
        described += [study.dataset_spec(name) for name in study.datasets]
        models = {name: study.model_text(name) for name in config["models"]}
        budget.announce(study, dict.fromkeys(study.trainings, 1), Path.cwd())
        made = files(study)
    check_paths(made)
    for text in described:
        json.loads(text)
    for name, text in models.items():
        assert ModelSpec.from_string(text) == ModelSpec.from_config(config["models"][name])
    for (name, block), plan in list(plans.items())[:: max(1, len(plans) // 50)]:
        check_plan(study, name, block, plan)
    return study


def files(study):
    """The files of a study, of each training those of its first and last block."""
    tables = [study.paths.table(name) for name in (*study.tables, *study.claims)]
    figures = [
        file for name in (*study.figures, *study.claims) for file in study.paths.figure(name, study.formats)
    ]
    runs = [
        paths.RUN.format(point=name, block=paths.block_name(block))
        for name, training in study.trainings.items()
        for block in {training.blocks[0], training.blocks[-1]}
    ]
    data = [paths.DATA.format(dataset=name) for name in study.datasets]
    return [*tables, *figures, *runs, *data, *(study.paths.findings(claim) for claim in study.claims)]


def check_paths(made):
    """Every file has a name of its own, below results/, that no shell takes for anything else."""
    assert len(set(made)) == len(made), "two jobs make one file"
    for path in made:
        assert re.fullmatch(r"results/[A-Za-z0-9._=/-]+", path), path
        assert not {"..", "."} & set(path.split("/"))
        assert all(len(part) <= 255 and not part.startswith("-") for part in PurePosixPath(path).parts), path


def check_plan(study, name, block, plan):
    """The JSON of the command line gives the training exactly what was planned."""
    training = study.trainings[name]
    text = plan.to_json()
    assert len(text) < 110_000, "longer than a command may be"
    assert TrainingPlan.from_json(text) == plan
    assert plan.timeline == training.timeline
    assert (plan.point, plan.seed, plan.checkpoints) == (name, study.config["seed"], training.checkpoints)
    assert (plan.log_every, plan.trace_every) == (training.log_every, training.trace_every)
    assert plan.replicates == (block * training.block_size, (block + 1) * training.block_size)
    assert plan.momentum < 1
    initialisation = "init_seed", "init_sharing", "init_scale", "runs_per_init"
    for axis in (*initialisation, "augmentation", "dtype", "data_order", "constraint"):
        assert getattr(plan, axis) == getattr(training.point, axis)


def refusal(config):
    """Return the line that refuses a config, or None where it is laid out."""
    try:
        lay_out(config)
    except InputError as error:
        return str(error)
    return None


def check_line(line, config):
    """One line, without characters that a terminal obeys, which names a key, known or of the config."""
    assert line.isprintable(), repr(line)
    assert len(line) < 10_000
    place = re.match(r"config: (top level|expected each key|\w+|'')|disk of ", line)
    assert place, line
    assert place[1] in (None, "top level", "expected each key", "''", *TOP_LEVEL, *config), line


MANY = settings.default.max_examples > 1000


@given(configs)
@settings(
    max_examples=settings.default.max_examples if MANY else 200,
    deadline=None,
    derandomize=not MANY,
    # An example that fails is not explained: that traces every line, for which the time is not meant.
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)
def test_a_config_is_laid_out_or_refused_in_one_line(config):
    line = refusal(config)
    if line is not None:
        check_line(line, config)


DRY_SECONDS = 20
"""Processor time of a dry run, several times what it takes; `make test-fuzz` shows what it took."""
DRY_BLOCKS = 300
"""Blocks of the largest study whose dry run is tried: thousands take as long as any plan of as many jobs."""


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A project in which nothing was made yet."""
    return new_project(tmp_path_factory.mktemp("bare") / "project")


def made(project):
    """Return what lies in a project but what programs keep there for themselves."""
    return {path for path in project.rglob("*") if not {".snakemake", "__pycache__"} & {*path.parts}}


def alone(config):
    """Ask for the config's experiment `one` alone, not for those of the default config that it changes."""
    experiments = config.get("experiments")
    return {**config, "run": ["one"]} if isinstance(experiments, dict) and "one" in experiments else config


def written(config, file):
    """Write a config as YAML; those that YAML cannot hold are not tried."""
    try:
        file.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    except (yaml.YAMLError, ValueError, RecursionError):
        reject()


def laid_out(file):
    """Return the line by which a config file is refused, or nothing and the number of blocks of its study."""
    try:
        with bounded():
            study = Study.read(merge_files([file]))
    except InputError as error:
        return str(error), 0
    return None, sum(len(training.blocks) for training in study.trainings.values())


def asked(project, file):
    """Dry run a config as `make results` runs it; return status, output and seconds of processor time."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    words = ["snakemake", "--cores", "2", "--dry-run", "--configfile", file]
    done = subprocess.run(
        [sys.executable, "-m", "intrinsic_lr.commands", *words],
        cwd=project,
        env=environment_of(project),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done.returncode, done.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@given(configs.map(alone))
@example(alone(small()))
@example(small())
@settings(
    max_examples=20 if MANY else 2,
    deadline=None,
    derandomize=not MANY,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
@pytest.mark.workflow
def test_snakemake_does_what_the_config_was_found_to_be(bare, config):
    """A dry run plans what is laid out, and ends with the very line that refuses the others.

    Of the examples the first is laid out; the second asks for a point in blocks of another size than the default.
    """
    file = bare / "fuzzed.yaml"
    written(config, file)
    line, blocks = laid_out(file)
    assume(blocks <= DRY_BLOCKS)
    before = made(bare)
    status, output, seconds = asked(bare, file)
    event(f"{'laid out' if line is None else 'refused'} in {seconds:.1f} s of processor time")
    assert (status == 0) == (line is None), (line, output)
    assert "Traceback" not in output
    assert line is None or [text for text in output.splitlines() if "error" in text.lower()] == [f"error: {line}"]
    assert made(bare) == before
    assert seconds < DRY_SECONDS


GRID = {"lr": 0.1, "weight_decay": 0.1}
STEPS = {"steps": [1] * 50}
LISTED = {
    "a name with a newline": ({"experiments": {"one\n": {}}}, "experiments: ", "a name of lower-case"),
    "a name in other letters": ({"models": {"größe": {"kind": "mlp"}}}, "models: ", "a name of lower-case"),
    "digits of another script": (
        {"experiments": {"one": {"grid": {**GRID, "schedule": "wd_١_٢_lr_٣_٤"}}}},
        "experiments.one.grid: schedule",
        "wd_",
    ),
    "more checkpoints than a command holds": (
        {"experiments": {"one": {"length": {"steps": 40_000}, "checkpoints": {"steps": list(range(30_000))}}}},
        "experiments.one.checkpoints: ",
        "30000 checkpoints",
    ),
    "more steps than anybody waits for": (
        {"experiments": {"one": {"length": {"steps": 1e18}}}}, "experiments.one.length: steps: ", "got 1e18"
    ),
    "rates that overflow": (
        {
            "schedules": {"up": {"kind": "multi_step", "factor": 1e18, "lr_milestones": STEPS}},
            "experiments": {"one": {"grid": {**GRID, "schedule": "up"}}},
        },
        "experiments.one.grid: schedule 'up': ",
        "more than a number holds",
    ),
    "rates that underflow": (
        {
            "schedules": {"down": {"kind": "multi_step", "factor": 1e-18, "lr_milestones": STEPS}},
            "experiments": {"one": {"grid": {**GRID, "schedule": "down"}}},
        },
        "experiments.one.grid: schedule 'down': ",
        "0 and 0.1",
    ),
    "a home of nobody's": (
        {"datasets": {"digits": {"kind": "image_folder", "root": "~nobody_at_all/x"}}},
        "datasets.digits.root: ",
        "",
    ),
    "two tables of one name": (
        {"experiments": {"summary_one": small()["experiments"]["one"]}},
        "experiments.summary_one: ",
        "swa_summary_one",
    ),
    "a table named as a claim's": (
        {"experiments": {"grows": small()["experiments"]["one"]}}, "experiments.grows: ", "distance_grows"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LISTED)
def test_a_config_with_this_is_refused(name):
    changes, place, words = LISTED[name]
    line = refusal(merge_configs(small(), changes))
    assert line is not None
    check_line(line, {})
    assert line.startswith(f"config: {place}"), line
    assert words in line
