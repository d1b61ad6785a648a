"""Function space: label distributions of pairs of settings, compared checkpoint by checkpoint."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import combinations

import pandas as pd

from intrinsic_lr.analyses.tables import block_folders, differing_axes, same_intrinsic_lr, write_table
from intrinsic_lr.core.job_log import reported
from intrinsic_lr.core.seeding import stream_seed
from intrinsic_lr.data.prepared import true_labels
from intrinsic_lr.runs.ensembles import open_ensemble
from intrinsic_lr.stats.disagreement import compare
from intrinsic_lr.study.experiment import Experiment


def comparisons(spec):
    """Yield (point, partner, checkpoint) in the order of the table; a function space belongs to one data set."""
    for a, b in combinations(spec["points"], 2):
        wanted = spec["compare"] == "all" or same_intrinsic_lr(a, b)
        if wanted and a["dataset"] == b["dataset"]:
            for checkpoint, steps in enumerate(zip(a["steps"], b["steps"], strict=True)):
                yield a, b, checkpoint, *steps


def row(comparison, ensembles, truth, analysis, seed):
    """Return one row of the table. It reads the labels that it compares and no others."""
    a, b, checkpoint, step_a, step_b = comparison
    true_labels, classes = truth[a["dataset"]]
    return {
        "point_a": a["name"],
        "point_b": b["name"],
        "differs": "+".join(differing_axes(a, b)),
        "same_intrinsic_lr": same_intrinsic_lr(a, b),
        "intrinsic_lr_a": a["intrinsic_lr"],
        "intrinsic_lr_b": b["intrinsic_lr"],
        "checkpoint": checkpoint,
        "step_a": step_a,
        "step_b": step_b,
        "intrinsic_time_a": step_a * a["intrinsic_lr"],
        "intrinsic_time_b": step_b * b["intrinsic_lr"],
        **compare(
            ensembles[a["name"]].labels(step_a),
            ensembles[b["name"]].labels(step_b),
            true_labels,
            classes,
            permutations=analysis["permutations"],
            bootstrap=analysis["bootstrap"],
            confidence=analysis["confidence"],
            seed=stream_seed(seed, "disagreement", a["name"], b["name"], checkpoint),
        ),
    }


def read_truth(data_path, info_path):
    """Return the true test labels and the number of classes of a data set, with its name."""
    info, labels = true_labels(data_path, info_path)
    return info["name"], (labels, len(info["classes"]))


with reported(snakemake.log[0]):
    spec = Experiment.from_json(snakemake.params.spec)
    folders = block_folders(snakemake.input)
    ensembles = {p["name"]: open_ensemble(folders[p["name"]], spec["replicates"]) for p in spec["points"]}
    truth = dict(map(read_truth, snakemake.input.data, snakemake.input.info))
    of_comparison = partial(
        row, ensembles=ensembles, truth=truth, analysis=snakemake.params.analysis, seed=snakemake.params.seed
    )
    # Counting releases the interpreter's lock, so that threads count side by side.
    with ThreadPoolExecutor(snakemake.threads) as threads:
        table = pd.DataFrame(threads.map(of_comparison, comparisons(spec)))
    write_table(table, snakemake.output.table)
