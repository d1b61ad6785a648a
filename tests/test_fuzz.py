"""Whatever a config holds, it is laid out as a study or refused in one line that names the key."""

import json
import re
import resource
import shlex
import signal
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import yaml
from hypothesis import HealthCheck, given, settings

from intrinsic_lr import budget, paths
from intrinsic_lr.config import SCHEMA, Study
from intrinsic_lr.errors import InputError
from intrinsic_lr.models.spec import ModelSpec
from intrinsic_lr.train import _arguments, _plan
from strategies import configs

SECONDS, BYTES = 5, 1 << 30
"""What laying out or refusing a config may take: of processor time, and of memory."""
TOP_LEVEL = yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))["properties"]


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
        flags = {
            (name, block): study.training_flags(name, block)
            for name, training in study.trainings.items()
            for block in (training.blocks[0], training.blocks[-1])
        }
        described = [study.describe(name) for name in study.experiments]
        described += [study.describe_claim(claim) for claim in study.claims]
        described += [study.dataset_spec(name) for name in study.datasets]
        models = {name: study.model_text(name) for name in config["models"]}
        budget.announce(study, Path.cwd())
        made = files(study)
    check_paths(made)
    for text in described:
        json.loads(text)
    for name, text in models.items():
        assert ModelSpec.parse(text) == ModelSpec.from_config(config["models"][name])
    for (name, block), text in list(flags.items())[:: max(1, len(flags) // 50)]:
        check_flags(study, name, block, text)
    return study


def files(study):
    """The files of a study, of each training those of its first and last block."""
    tables = [paths.TABLE.format(name=name) for name in (*study.tables, *study.claims)]
    figures = [file for name in (*study.figures, *study.claims) for file in paths.figure_files(name)]
    runs = [
        paths.RUN.format(point=name, block=paths.block_name(block))
        for name, training in study.trainings.items()
        for block in {training.blocks[0], training.blocks[-1]}
    ]
    data = [paths.DATA.format(dataset=name) for name in study.datasets]
    return [*tables, *figures, *runs, *data, *(paths.FINDINGS.format(claim=claim) for claim in study.claims)]


def check_paths(made):
    """Every file has a name of its own, below results/, that no shell takes for anything else."""
    assert len(set(made)) == len(made), "two jobs make one file"
    for path in made:
        assert re.fullmatch(r"results/[A-Za-z0-9._=/-]+", path), path
        assert not {"..", "."} & set(path.split("/"))
        assert all(len(part) <= 255 and not part.startswith("-") for part in PurePosixPath(path).parts), path


def check_flags(study, name, block, text):
    """The command line gives the training exactly what was planned, word by word."""
    training = study.trainings[name]
    words = shlex.split(text)
    assert len(text) < 110_000, "longer than a command may be"
    assert re.fullmatch(r"--point [A-Za-z0-9._=-]+ --model .*", text)
    assert words[::2] == [word for word in words if word.startswith("--")]
    plan = _plan(_arguments([*words, "--data", "d", "--info", "i", "--out", "o"]))
    assert plan.timeline == training.timeline
    assert (plan.point, plan.seed, plan.checkpoints) == (name, study.config["seed"], training.checkpoints)
    assert (plan.log_every, plan.trace_every) == (training.log_every, training.trace_every)
    assert plan.replicates == (block * training.block_size, (block + 1) * training.block_size)
    assert plan.momentum < 1
    for axis in ("init_seed", "init_sharing", "init_scale", "augmentation", "dtype", "data_order", "constraint"):
        assert getattr(plan, axis) == getattr(training.point, axis)


def refusal(config):
    """Return the line that refuses a config, or None where it is laid out."""
    try:
        lay_out(config)
    except InputError as error:
        return str(error)
    return None


def check_line(line):
    """One line, without characters that a terminal obeys, which names a key."""
    assert line.isprintable(), repr(line)
    assert len(line) < 10_000
    place = re.match(r"config: (top level|found the key|\w+)|disk of ", line)
    assert place, line
    assert place[1] in (None, "top level", "found the key", *TOP_LEVEL), line


LONG = settings.default.max_examples > 1000


@given(configs)
@settings(
    max_examples=settings.default.max_examples if LONG else 200,
    deadline=None,
    derandomize=not LONG,
    suppress_health_check=list(HealthCheck),
)
def test_a_config_is_laid_out_or_refused_in_one_line(config):
    line = refusal(config)
    if line is not None:
        check_line(line)
