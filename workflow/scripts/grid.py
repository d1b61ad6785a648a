"""Accuracy at the end of training for every point of a grid of learning rate and weight decay."""

import pandas as pd

from intrinsic_lr.analyses.tables import block_folders, with_point, write_table
from intrinsic_lr.core.job_log import reported
from intrinsic_lr.runs.ensembles import open_ensemble
from intrinsic_lr.stats.intervals import summarize
from intrinsic_lr.study.experiment import Experiment

QUANTITIES = ["test_accuracy", "train_accuracy", "test_loss", "train_loss", "squared_norm", "effective_lr"]


def final(point, folders, replicates, confidence):
    """Return the one row of a point: its last step."""
    history = open_ensemble(folders, replicates).history()
    last = history[history["step"] == point["length"]]
    return with_point(summarize(last, ["step"], QUANTITIES, confidence), point)


with reported(snakemake.log[0]):
    spec = Experiment.from_json(snakemake.params.spec)
    folders = block_folders(snakemake.input)
    confidence = snakemake.params.analysis["confidence"]
    tables = [final(p, folders[p["name"]], spec["replicates"], confidence) for p in spec["points"]]
    write_table(pd.concat(tables), snakemake.output.table)
