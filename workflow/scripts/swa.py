"""Weight averages: pairs and windows within trajectories, pairs across them, and the loss between ends."""

import json

import pandas as pd
import torch

from intrinsic_lr.averaging import across_table, swa_table
from intrinsic_lr.data import load
from intrinsic_lr.intervals import summarise
from intrinsic_lr.reporting import reported
from intrinsic_lr.runs import open_ensemble
from intrinsic_lr.tables import across_pairs, block_folders, with_point, write_table

KEYS = ["relation", "partner_point", "average", "normalisation", "step", "delta", "averaged"]


def checkpoints(point, ensemble):
    """Return the planned checkpoints of a point: {step: weights}."""
    return {step: ensemble.weights(step) for step in point["steps"]}


def within(point, ensemble, data, interpolation):
    """Return the averages along each trajectory of one point."""
    table = swa_table(ensemble.model(), checkpoints(point, ensemble), data, interpolation)
    return with_point(table.assign(partner_point=point["name"]), point)


def between(spec, ensembles, datasets, interpolation):
    """Yield the averages across trajectories at equal planned checkpoints."""
    for point, partner, relation, members in across_pairs(spec):
        a, b = ensembles[point["name"]], ensembles[partner["name"]]
        ends = checkpoints(point, a), checkpoints(partner, b)
        table = across_table(a.model(), *ends, members, datasets[point["dataset"]], interpolation, relation)
        yield with_point(table.assign(partner_point=partner["name"]), point)


with reported(snakemake.log[0]):
    torch.set_num_threads(snakemake.threads)
    spec = json.loads(snakemake.params.spec)
    analysis = snakemake.params.analysis
    folders = block_folders(snakemake.input)
    ensembles = {p["name"]: open_ensemble(folders[p["name"]], spec["replicates"]) for p in spec["points"]}
    loaded = [load(*files) for files in zip(snakemake.input.data, snakemake.input.info, strict=True)]
    datasets = {data.info["name"]: data for data in loaded}
    inside = [
        within(p, ensembles[p["name"]], datasets[p["dataset"]], analysis["interpolation"]) for p in spec["points"]
    ]
    table = pd.concat([*inside, *between(spec, ensembles, datasets, analysis["interpolation"])])
    identity = [c for c in table.columns if c in ("point", *KEYS) or c in spec["points"][0]]
    quantities = [c for c in table.columns if c not in [*identity, "replicate", "partner"]]
    write_table(table, snakemake.output.table)
    write_table(summarise(table, identity, quantities, analysis["confidence"]), snakemake.output.summary)
