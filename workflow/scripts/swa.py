"""Weight averages: pairs and windows within trajectories, pairs across them, and the loss between ends."""

from pathlib import Path

import pandas as pd
import torch

from intrinsic_lr.analyses.averaging import Checkpoints, across_table, swa_table
from intrinsic_lr.analyses.tables import POINT_COLUMNS, across_pairs, block_folders, with_point, write_table
from intrinsic_lr.core.job_log import reported
from intrinsic_lr.core.leases import leased
from intrinsic_lr.data.dataset import load
from intrinsic_lr.models.devices import resolve
from intrinsic_lr.runs.ensembles import open_ensemble
from intrinsic_lr.stats.intervals import summarize
from intrinsic_lr.study.experiment import Experiment
from intrinsic_lr.training.evaluation import EvaluationData
from intrinsic_lr.training.state import DTYPES

KEYS = ["relation", "partner_point", "average", "normalisation", "step", "delta", "averaged"]


def checkpoints(point, ensemble, data):
    """Return the planned checkpoints of a point, to be read on the data's device."""
    device = data.train_images.device

    def read(step):
        return {name: value.to(device) for name, value in ensemble.weights(step).items()}

    return Checkpoints(ensemble.model(), point["steps"], read, data)


def averages(spec, ensembles, datasets, interpolation):
    """Yield the averages along each trajectory of every point, then across trajectories at equal checkpoints."""
    data = {p["name"]: datasets[p["dataset"], p["dtype"]] for p in spec["points"]}
    models = {name: ensemble.model() for name, ensemble in ensembles.items()}
    kept = {p["name"]: checkpoints(p, ensembles[p["name"]], data[p["name"]]) for p in spec["points"]}
    for point in spec["points"]:
        name = point["name"]
        table = swa_table(models[name], kept[name], data[name], interpolation)
        yield with_point(table.assign(partner_point=name), point)
    for point, partner, relation, members in across_pairs(spec):
        name = point["name"]
        ends = kept[name], kept[partner["name"]]
        table = across_table(models[name], *ends, members, data[name], interpolation, relation)
        yield with_point(table.assign(partner_point=partner["name"]), point)


with (
    reported(snakemake.log[0]),
    leased(snakemake.resources.device, snakemake.config["jobs_per_device"]) as held,
):
    torch.set_num_threads(snakemake.threads)
    spec = Experiment.from_json(snakemake.params.spec)
    analysis = snakemake.params.analysis
    folders = block_folders(snakemake.input)
    ensembles = {p["name"]: open_ensemble(folders[p["name"]], spec["replicates"]) for p in spec["points"]}
    files = {
        Path(info).stem: (data, info)
        for data, info in zip(snakemake.input.data, snakemake.input.info, strict=True)
    }
    device = resolve(held)
    datasets = {
        (name, dtype): EvaluationData.of(load(*files[name], device, DTYPES[dtype]))
        for name, dtype in {(p["dataset"], p["dtype"]) for p in spec["points"]}
    }
    table = pd.concat(averages(spec, ensembles, datasets, analysis["interpolation"]))
    identity = [c for c in table.columns if c in ("point", *KEYS, *POINT_COLUMNS)]
    quantities = [c for c in table.columns if c not in [*identity, "replicate", "partner"]]
    write_table(table, snakemake.output.table)
    write_table(summarize(table, identity, quantities, analysis["confidence"]), snakemake.output.summary)
