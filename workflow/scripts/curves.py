"""Training curves of an experiment: mean and interval over replicates at every logged step."""

import pandas as pd

from intrinsic_lr.analyses.tables import block_folders, with_point, write_table
from intrinsic_lr.core.job_log import reported
from intrinsic_lr.runs.ensembles import open_ensemble
from intrinsic_lr.stats.intervals import summarize
from intrinsic_lr.study.experiment import Experiment

QUANTITIES = [
    "train_loss",
    "train_accuracy",
    "test_loss",
    "test_accuracy",
    "squared_norm",
    "effective_lr",
    "unit_gradient_squared_norm",
    "angle",
    "norm_recursion_residual",
]


def curves(point, folders, replicates, confidence):
    """Return the curves of one point."""
    history = open_ensemble(folders, replicates).history()
    history = history[history["step"] <= point["length"]]
    history = history.rename(columns={"lr": "lr_now", "weight_decay": "weight_decay_now"})
    table = summarize(history, ["step", "lr_now", "weight_decay_now"], QUANTITIES, confidence)
    table.insert(1, "intrinsic_time", table["step"] * point["intrinsic_lr"])
    return with_point(table, point)


with reported(snakemake.log[0]):
    spec = Experiment.from_json(snakemake.params.spec)
    folders = block_folders(snakemake.input)
    confidence = snakemake.params.analysis["confidence"]
    tables = [curves(p, folders[p["name"]], spec["replicates"], confidence) for p in spec["points"]]
    write_table(pd.concat(tables), snakemake.output.table)
