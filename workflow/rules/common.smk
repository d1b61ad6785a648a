import os
import re
import sys
from collections import Counter
from pathlib import Path

# A workflow that uses this one as a module has a command line and a folder of modules of its own.
OWN = Path(workflow.main_snakefile).resolve().is_relative_to(ROOT.resolve())
if OWN:
    # Snakemake puts the folders of Snakefiles first, where a `random.py` of the user would stand for Python's.
    sys.path[:] = [
        folder for folder in sys.path if Path(folder).resolve() != ROOT.resolve()
    ]

try:
    import intrinsic_lr
except ModuleNotFoundError:
    sys.exit(
        f"error: the package intrinsic_lr is not installed in {sys.prefix}; run `make results`, or "
        f"`pip install --no-deps --editable {ROOT}` there"
    )

from intrinsic_lr.commands import budget, run_output
from intrinsic_lr.core import closure, disk, paths
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.locks import mark_running
from intrinsic_lr.core.rerun import config_options, name_source, shell_prefix
from intrinsic_lr.core.version import DATA_VERSION, EXTRACT_VERSION, TRAINING_VERSION
from intrinsic_lr.study import config_files, sharing
from intrinsic_lr.study.analyses import ANALYSES, caption
from intrinsic_lr.study.results import Results
from intrinsic_lr.study.study import Study
from intrinsic_lr.study.targets import check_targets

# `make results` clears Snakemake's lock only where nobody holds this. Its jobs, which read this file too, do not: one
# that outlives a killed workflow is no reason to refuse the next.
RUNNING = mark_running(Path(".snakemake")) if workflow.is_main_process else None

CONDA = "../../envs/intrinsic-lr.yaml"
# Without PyTorch: for rules that only read tables.
FIGURES_CONDA = "../../envs/intrinsic-lr-figures.yaml"

# Jobs draw into files, whatever a notebook's terminal asks for.
os.environ.update(MPLBACKEND="Agg")
name_source(ROOT)
VALUES = workflow.config_settings.config_args or []
shell.prefix(shell_prefix(config_options(workflow.overwrite_configfiles, VALUES)))

try:
    closure.check_project(ROOT)
    # Snakemake has read these already, but takes the last of two like keys, and forgets that a file held code.
    for given in workflow.overwrite_configfiles:
        config_files.read_file(Path(given))
    EXTENDED = config_files.extended_files(config, ROOT / "config")
    if OWN:
        values = config_files.read_values(workflow.config_settings.config)
        GIVEN = config_files.merge_configs(GIVEN, values)
    MERGED = config_files.merge_over_default(GIVEN, ROOT / "config")
except InputError as error:
    # One line for a user's mistake, where an exception would print the workflow's own stack.
    sys.exit(f"error: {error}")


# Snakemake is told of these files for its record of the run, but its merging would keep two units of time.
for file in EXTENDED:

    configfile: str(file)


config.clear()
config.update(MERGED)

# The workflow that the user started tries again; the Snakemake that runs inside of a cluster's job does not, or
# failures would multiply.
RETRIES = config["retries"] if workflow.is_main_process else 0

try:
    STUDY = Study.read(config, Path("results"))
    RESULTS = Results(STUDY)
    # The targets are not known to the workflow while this file is read, only to the command line.
    if OWN:
        check_targets(sys.argv[1:], STUDY, RESULTS.checked)
except InputError as error:
    sys.exit(f"error: {error}")

# In one order, since Snakemake compares the text of a parameter.
ANALYSIS = dict(sorted(config["analysis"].items()))
SETTINGS = {**ANALYSIS, "seed": config["seed"]}


def code(script, *modules):
    """Checksum of a script, of modules that it imports by name, and of all that these import."""
    return closure.checksum(ROOT / "workflow" / "scripts" / script, *modules)


def code_of(script, module, own):
    """Likewise of a script and the module, or the file of the user's own, that does what it is asked."""
    return code(script, Path(own[0]) if own else module)


def figures_conda(*specs):
    """The environment of a rule that draws; files of the user's own may import PyTorch."""
    return CONDA if any(spec.own for spec in specs) else FIGURES_CONDA


def claim_code(script):
    return lambda w: code_of(
        script, f"intrinsic_lr.claims.{w.claim}", STUDY.catalogue[w.claim].own
    )


def inputs(files):
    """Files to read. Tensors are waited for and remake nothing: JSON files, whose contents Snakemake compares, hold
    their checksums; and Snakemake compares no contents of large files and of folders.
    """
    compared = (".json", ".parquet", ".csv")
    return [file if file.endswith(compared) else ancient(file) for file in files]


def analysis_files(analysis):
    return lambda w: inputs(RESULTS.of_analysis(analysis, w.experiment))


def caption_of(analysis):
    return lambda w: caption(STUDY.experiments[w.experiment], STUDY.analyses[analysis])


def dataset_of_point(pattern):
    return lambda w: pattern.format(dataset=STUDY.trainings[w.point].point.dataset)


def reported(file, caption, category, **labels):
    """A file with its place in Snakemake's own report."""
    place = str(ROOT / "workflow" / "report" / caption)
    return report(file, caption=place, category=category, labels=labels)


def reported_figure(name, caption, category):
    """The files of a figure, the first of which, the SVG, stands in Snakemake's own report. The last is the one for
    a narrow screen."""
    shown, *others = STUDY.paths.figure(name, STUDY.formats)
    narrow = STUDY.paths.narrow_figure(name)
    return [reported(shown, caption, category, figure=name), *others, narrow]


def one_of(names):
    """Regular expression of a wildcard that may only take these values."""
    return "|".join(map(re.escape, names)) or "none"


def work_of(job):
    """The work of one job, by which the time left of a run is estimated."""
    title = " ".join([job.rule.name, *job.wildcards_dict.values()])
    if job.rule.name != "train":
        return run_output.Work(title, job.rule.name, 1)
    point = STUDY.trainings[job.wildcards.point].point
    plan = STUDY.training_plan(point.name, int(job.wildcards.block))
    kind = (point.model, point.dataset, point.batch_size, point.dtype)
    return run_output.Work(title, kind, plan.steps * len(plan.members))


# Trainings to be replaced that are named before the first job.
MOST_NAMED = 10


def replacement_of(job):
    """What a training replaces, in words, or None."""
    plan = STUDY.training_plan(job.wildcards.point, int(job.wildcards.block))
    return sharing.replacement(Path(paths.BLOCK.format(**job.wildcards_dict)), plan)


def begin():
    """Say what is to be trained and written, stop where the disk has no room for it or refuses it, and from then on
    show how far the run is.
    """
    jobs = list(workflow.dag.needrun_jobs())
    trainings = [job for job in jobs if job.rule.name == "train"]
    trained = Counter(job.wildcards.point for job in trainings)
    replaced = list(filter(None, map(replacement_of, trainings)))
    try:
        disk.check_writable(Path("results"))
        for line in STUDY.code:
            print(line, file=sys.stderr)
        print(budget.announce(STUDY, trained, Path("results")), file=sys.stderr)
        for line in replaced[:MOST_NAMED]:
            print(f"to be replaced: {line}", file=sys.stderr)
        if len(replaced) > MOST_NAMED:
            print(
                f"to be replaced: {len(replaced) - MOST_NAMED} more trainings",
                file=sys.stderr,
            )
    except InputError as error:
        sys.exit(f"error: {error}")
    if not os.environ.get("VERBOSE"):
        slots = workflow.nodes or max(1, workflow.cores // config["threads"])
        works = {workflow.dag.jobid(job): work_of(job) for job in jobs}
        run_output.follow(logger, works, slots)


def end():
    """Print the verdicts and the place of the report, where the run's target holds them."""
    rules = {job.rule.name for job in workflow.dag.jobs}
    if "scorecard" in rules:
        table = run_output.verdicts(
            Path(STUDY.paths.scorecard), Path(STUDY.paths.controls)
        )
        print("", *table, sep="\n", file=sys.stderr)
    if "report" in rules:
        print(f"report: {STUDY.paths.report}", file=sys.stderr)


wildcard_constraints:
    dataset=one_of(STUDY.datasets),
    point=one_of(STUDY.trainings),
    block="[0-9]{4}",
    experiment=one_of(STUDY.experiments),
    claim=one_of(STUDY.claims),
