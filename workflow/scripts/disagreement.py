"""Function space: label distributions of pairs of settings, compared checkpoint by checkpoint."""

import json
from itertools import combinations

import numpy as np
import pandas as pd
from safetensors.numpy import load_file

from intrinsic_lr.disagreement import compare
from intrinsic_lr.reporting import reported
from intrinsic_lr.runs import open_ensemble
from intrinsic_lr.seeding import stream_seed
from intrinsic_lr.tables import block_folders, differing_axes, same_intrinsic_lr, write_table


def pairs(spec):
    """Yield the pairs of points that the experiment compares; a function space belongs to one data set."""
    for a, b in combinations(spec["points"], 2):
        wanted = spec["compare"] == "all" or same_intrinsic_lr(a, b)
        if wanted and a["dataset"] == b["dataset"]:
            yield a, b


def rows(spec, labels, truth, analysis, seed):
    """Yield one row for every pair of points and planned checkpoint."""
    for a, b in pairs(spec):
        true_labels, classes = truth[a["dataset"]]
        for index, (step_a, step_b) in enumerate(zip(a["steps"], b["steps"], strict=True)):
            yield {
                "point_a": a["name"],
                "point_b": b["name"],
                "differs": "+".join(differing_axes(a, b)),
                "same_intrinsic_lr": same_intrinsic_lr(a, b),
                "intrinsic_lr_a": a["intrinsic_lr"],
                "intrinsic_lr_b": b["intrinsic_lr"],
                "checkpoint": index,
                "step_a": step_a,
                "step_b": step_b,
                "intrinsic_time_a": step_a * a["intrinsic_lr"],
                "intrinsic_time_b": step_b * b["intrinsic_lr"],
                **compare(
                    labels[a["name"]][step_a],
                    labels[b["name"]][step_b],
                    true_labels,
                    classes,
                    permutations=analysis["permutations"],
                    bootstrap=analysis["bootstrap"],
                    confidence=analysis["confidence"],
                    seed=stream_seed(seed, "disagreement", a["name"], b["name"], index),
                ),
            }


def read_labels(point, folders, replicates):
    """Return the predicted labels of a point: {step: array (replicates, test images)}."""
    predictions = open_ensemble(folders, replicates)
    return {step: np.asarray(predictions.labels(step)) for step in point["steps"]}


def read_truth(info_path, data_path):
    """Return the true test labels and the number of classes of a data set, with its name."""
    with open(info_path, encoding="utf-8") as handle:
        info = json.load(handle)
    return info["name"], (load_file(data_path)["test_labels"], len(info["classes"]))


with reported(snakemake.log[0]):
    spec = json.loads(snakemake.params.spec)
    folders = block_folders(snakemake.input)
    labels = {p["name"]: read_labels(p, folders[p["name"]], spec["replicates"]) for p in spec["points"]}
    truth = dict(map(read_truth, snakemake.input.info, snakemake.input.data))
    table = pd.DataFrame(rows(spec, labels, truth, snakemake.params.analysis, snakemake.params.seed))
    write_table(table, snakemake.output.table)
