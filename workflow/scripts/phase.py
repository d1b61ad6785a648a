"""Phase diagram: effective learning rate, effective gradient norm and training loss late in each run."""

import numpy as np
import pandas as pd

from intrinsic_lr.analyses.tables import block_folders, with_point, write_table
from intrinsic_lr.core.job_log import reported
from intrinsic_lr.runs.ensembles import open_ensemble
from intrinsic_lr.stats.intervals import summarize
from intrinsic_lr.stats.loss_curves import CHAOTIC, CONVERGING, DIVERGED, regime
from intrinsic_lr.study.experiment import Experiment

QUANTITIES = ["effective_lr", "effective_gradient_norm", "batch_loss"]


def phases(point, folders, replicates, confidence):
    """Return the phases of one point: a row for each tenth of the training, the last ones with regimes."""
    ensemble = open_ensemble(folders, replicates)
    trace = ensemble.trace()
    trace = trace[(trace["step"] > 0) & (trace["step"] <= point["length"])]
    trace = trace.assign(
        part=np.ceil(10 * trace["step"] / point["length"]).astype(int),
        effective_gradient_norm=np.log(trace["unit_gradient_squared_norm"]) / 2,
    )
    # What a replicate did before it was lost, within the same part, is no mean of the part.
    means = trace.groupby(["part", "replicate"], as_index=False)[QUANTITIES].mean(skipna=False)
    # A geometric mean: where training diverges, a few huge gradients would drown all others.
    means["effective_gradient_norm"] = np.exp(means["effective_gradient_norm"])
    table = summarize(means, ["part"], QUANTITIES, confidence)
    found = [regime(rows["batch_loss"].to_numpy(), ensemble.classes) for _, rows in trace.groupby("replicate")]
    last = table["part"] == table["part"].max()
    for name in (CONVERGING, CHAOTIC, DIVERGED):
        table[name] = np.where(last, found.count(name), np.nan)
    return with_point(table, point)


with reported(snakemake.log[0]):
    spec = Experiment.from_json(snakemake.params.spec)
    folders = block_folders(snakemake.input)
    confidence = snakemake.params.analysis["confidence"]
    tables = [phases(p, folders[p["name"]], spec["replicates"], confidence) for p in spec["points"]]
    write_table(pd.concat(tables), snakemake.output.table)
