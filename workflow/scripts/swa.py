"""Weight averages: pairs and windows within trajectories, pairs across them, and the loss between ends."""

import json
from pathlib import Path

import pandas as pd
import torch

from intrinsic_lr.averaging import across_table, swa_table
from intrinsic_lr.data import load
from intrinsic_lr.devices import resolve
from intrinsic_lr.evaluation import EvaluationData
from intrinsic_lr.intervals import summarise
from intrinsic_lr.reporting import reported
from intrinsic_lr.runs import open_ensemble
from intrinsic_lr.tables import across_pairs, block_folders, with_point, write_table
from intrinsic_lr.training import DTYPES

KEYS = ["relation", "partner_point", "average", "normalisation", "step", "delta", "averaged"]


def checkpoints(point, ensemble, device):
    """Return the planned checkpoints of a point: {step: weights}."""
    return {
        step: {name: value.to(device) for name, value in ensemble.weights(step).items()} for step in point["steps"]
    }


def within(point, ensemble, data, interpolation):
    """Return the averages along each trajectory of one point."""
    table = swa_table(
        ensemble.model(), checkpoints(point, ensemble, data.train_images.device), data, interpolation
    )
    return with_point(table.assign(partner_point=point["name"]), point)


def between(spec, ensembles, datasets, interpolation):
    """Yield the averages across trajectories at equal planned checkpoints."""
    for point, partner, relation, members in across_pairs(spec):
        a, b = ensembles[point["name"]], ensembles[partner["name"]]
        data = datasets[point["dataset"], point["dtype"]]
        ends = (checkpoints(*side, data.train_images.device) for side in ((point, a), (partner, b)))
        table = across_table(a.model(), *ends, members, data, interpolation, relation)
        yield with_point(table.assign(partner_point=partner["name"]), point)


with reported(snakemake.log[0]):
    torch.set_num_threads(snakemake.threads)
    spec = json.loads(snakemake.params.spec)
    analysis = snakemake.params.analysis
    folders = block_folders(snakemake.input)
    ensembles = {p["name"]: open_ensemble(folders[p["name"]], spec["replicates"]) for p in spec["points"]}
    files = {
        Path(info).stem: (data, info)
        for data, info in zip(snakemake.input.data, snakemake.input.info, strict=True)
    }
    device = resolve(snakemake.resources.device)
    datasets = {
        (name, dtype): EvaluationData.of(load(*files[name], device, DTYPES[dtype]))
        for name, dtype in {(p["dataset"], p["dtype"]) for p in spec["points"]}
    }
    inside = [
        within(p, ensembles[p["name"]], datasets[p["dataset"], p["dtype"]], analysis["interpolation"])
        for p in spec["points"]
    ]
    table = pd.concat([*inside, *between(spec, ensembles, datasets, analysis["interpolation"])])
    identity = [c for c in table.columns if c in ("point", *KEYS) or c in spec["points"][0]]
    quantities = [c for c in table.columns if c not in [*identity, "replicate", "partner"]]
    write_table(table, snakemake.output.table)
    write_table(summarise(table, identity, quantities, analysis["confidence"]), snakemake.output.summary)
