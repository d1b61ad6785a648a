import hashlib
import os
import re
import shlex
import sys
from pathlib import Path

try:
    import intrinsic_lr
except ModuleNotFoundError:
    sys.exit(
        f"error: the package intrinsic_lr is not installed in {sys.prefix}; run `make results`, or "
        f"`pip install --no-deps --editable {ROOT}` there"
    )

from intrinsic_lr.commands import budget
from intrinsic_lr.core import closure, disk, paths
from intrinsic_lr.study.claims import CLAIMS
from intrinsic_lr.study.study import Study, check_targets
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.study.config_files import bases, read_file
from intrinsic_lr.core.rerun import CONFIG_FILES, quote_config
from intrinsic_lr.core.locks import mark_running
from intrinsic_lr.core.version import EXTRACT_VERSION, TRAINING_VERSION

# `make results` clears Snakemake's lock only where nobody holds this. Its jobs, which read this file too, do not: one
# that outlives a killed workflow is no reason to refuse the next.
RUNNING = mark_running(Path(".snakemake")) if workflow.is_main_process else None

# glibc hands memory back to the system and fetches it again at every step: up to a quarter of a training's time.
# It is told to keep what it has (blocks below 256 MB, up to 512 MB of them); other C libraries ignore this.
ALLOCATOR = "MALLOC_MMAP_THRESHOLD_=268435456 MALLOC_TRIM_THRESHOLD_=536870912"

# The workflow that the user started tries again; the Snakemake that runs inside of a cluster's job does not, or
# failures would multiply.
RETRIES = config["retries"] if workflow.is_main_process else 0

if set("{}") & set(str(ROOT)):
    # Snakemake would fill them in as wildcards.
    sys.exit(
        f"error: found the project in {str(ROOT)!r}; allowed is a folder without braces in its path"
    )

# For envs/*.post-deploy.sh, which install the library into environments of conda.
os.environ["INTRINSIC_LR_SOURCE"] = str(ROOT)

# Every job is given the config files, for the commands that repair.
EXPORTED = f"{CONFIG_FILES}={shlex.quote(quote_config(workflow.overwrite_configfiles, Path.cwd()))}"

# Snakemake formats the prefix, in which the name of a config file may have braces.
shell.prefix(f"export {ALLOCATOR} {EXPORTED}; ".replace("{", "{{").replace("}", "}}"))

try:
    # Snakemake has read these already, but takes the last of two like keys, and forgets that a file held code.
    for given in workflow.overwrite_configfiles:
        read_file(Path(given))
    LAYERS = bases(config, ROOT / "config")
except InputError as error:
    # One line for a user's mistake, where an exception would print the workflow's own stack.
    sys.exit(f"error: {error}")


# What the user gave stays on top: Snakemake lays it over every config file once more.
for layer in LAYERS:

    configfile: str(layer)


try:
    STUDY = Study.read(config)
except InputError as error:
    sys.exit(f"error: {error}")


def figure_files(name):
    """The files of a figure, in the formats of the config."""
    return paths.figure_files(name, STUDY.formats)


def reported_figure(name, caption, category):
    """The files of a figure, the first of which, the SVG, stands in Snakemake's own report."""
    shown, *others = figure_files(name)
    place = os.path.join(ROOT, "workflow", "report", caption)
    labels = {"figure": name}
    return [report(shown, caption=place, category=category, labels=labels), *others]


def wanted_tables():
    return [paths.TABLE.format(name=name) for name in [*STUDY.tables, *STUDY.claims]]


def wanted_figures():
    names = [*STUDY.figures, *STUDY.claims, *(["scorecard"] if STUDY.claims else [])]
    return [path for name in names for path in figure_files(name)]


def wanted_events():
    blocks = all_blocks() if config["tensorboard"] else []
    return [paths.EVENTS.format(point=point, block=block) for point, block in blocks]


def report_products():
    """For each experiment with analyses the names of its figures and of its tables."""
    products = {}
    for kind, named in (("figures", STUDY.figures), ("tables", STUDY.tables)):
        for name, (_, experiment) in named.items():
            of_experiment = products.setdefault(
                experiment, {"figures": [], "tables": []}
            )
            of_experiment[kind].append(name)
    return products


def wanted_findings():
    return [paths.FINDINGS.format(claim=claim) for claim in STUDY.claims]


def scorecards():
    return [paths.SCORECARD, paths.CONTROLS, paths.PAPER] if STUDY.claims else []


def compared_claims():
    """The claims to judge for which a source gives numbers."""
    return [claim for claim in STUDY.claims if CLAIMS[claim].paper]


def all_blocks():
    return [
        (name, paths.block_name(block))
        for name, training in STUDY.trainings.items()
        for block in training.blocks
    ]


# Folders with a file for each checkpoint. Snakemake compares no contents of folders, and run.json and extract.json,
# whose contents it does compare, carry the checksums of these files: folders are waited for, and remake nothing.
FOLDERS = (paths.CHECKPOINTS, paths.PREDICTIONS)


def files_of_experiment(name, patterns):
    """These files and folders of every block that an experiment's replicates lie in."""
    experiment = STUDY.experiments[name]
    size = {
        point.name: STUDY.trainings[point.name].block_size
        for point in experiment.points
    }
    files = [
        (pattern, pattern.format(point=point, block=paths.block_name(block)))
        for pattern in patterns
        for point in size
        for block in range(-(-experiment.replicates // size[point]))
    ]
    return [
        ancient(file) if pattern in FOLDERS else file for pattern, file in files
    ]


def ensemble(*patterns):
    """Input function: these files of an experiment's ensembles."""
    return lambda wildcards: files_of_experiment(wildcards.experiment, patterns)


# What a claim's test may read of each block, besides run.json.
CLAIM_FILES = {
    "history": [paths.HISTORY],
    "trace": [paths.TRACE],
    "checkpoints": [paths.CHECKPOINTS],
    "predictions": [paths.PREDICTIONS, paths.EXTRACT],
}


def claim_files(wildcards):
    """Input function: the files that a claim's test reads, each once."""
    wanted = [paths.RUN]
    for kind in CLAIMS[wildcards.claim].files:
        wanted += CLAIM_FILES[kind]
    files = [
        file
        for experiment in STUDY.claim_experiments(wildcards.claim)
        for file in files_of_experiment(experiment, wanted)
    ]
    files += [
        paths.TABLE.format(name=name) for name in STUDY.claim_tables(wildcards.claim)
    ]
    for dataset in STUDY.claim_datasets(wildcards.claim):
        files.append(paths.DATA_INFO.format(dataset=dataset))
        files.append(ancient(paths.DATA.format(dataset=dataset)))
    return list(dict.fromkeys(files))


SCRIPTS = ROOT / "workflow" / "scripts"
SOURCES = ROOT / "workflow" / "lib" / "intrinsic_lr"

if (
    closure.PACKAGE != SOURCES
    and SOURCES.exists()
    and closure.tree(closure.PACKAGE) != closure.tree(SOURCES)
):
    sys.exit(
        f"error: found the package intrinsic_lr of {closure.PACKAGE}, whose code is not that of {SOURCES}; "
        f"install this workflow's by `pip install --no-deps --editable {ROOT}`"
    )


def code(script, *modules):
    """Checksum of a script, of modules that it imports by name, and of all that these import."""
    return closure.checksum(SCRIPTS / script, *modules)


def dataset_of_point(pattern):
    return lambda wildcards: pattern.format(
        dataset=STUDY.trainings[wildcards.point].point.dataset
    )


def datasets_of_experiment(pattern):
    return lambda wildcards: [
        pattern.format(dataset=name)
        for name in sorted(
            {point.dataset for point in STUDY.experiments[wildcards.experiment].points}
        )
    ]


def one_of(names):
    """Regular expression of a wildcard that may only take these values."""
    return "|".join(map(re.escape, names)) or "none"


def announce():
    """Say what is to be trained and written, and stop where the disk has no room for it or refuses it."""
    try:
        disk.check_writable(Path("results"))
        print(budget.announce(STUDY, Path.cwd()), file=sys.stderr)
    except InputError as error:
        sys.exit(f"error: {error}")


try:
    # The targets are not known to the workflow while this file is read, only to the command line.
    check_targets(
        sys.argv[1:],
        STUDY,
        wanted_figures() + wanted_tables() + wanted_findings() + scorecards(),
    )
except InputError as error:
    sys.exit(f"error: {error}")


wildcard_constraints:
    dataset=one_of(STUDY.datasets),
    point=one_of(STUDY.trainings),
    block="[0-9]{4}",
    experiment=one_of(STUDY.experiments),
    claim=one_of(STUDY.claims),
