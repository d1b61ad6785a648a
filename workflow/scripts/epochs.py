"""Checkpoint by checkpoint: disagreement and cosine, within a trajectory and across two (Fort et al. 2019)."""

import numpy as np
import pandas as pd
import torch

from intrinsic_lr.analyses.tables import across_pairs, block_folders, with_point, write_table
from intrinsic_lr.core.job_log import reported
from intrinsic_lr.data.prepared import true_labels
from intrinsic_lr.runs.ensembles import open_ensemble
from intrinsic_lr.runs.trajectories import label_trajectory, trajectory
from intrinsic_lr.stats.disagreement import label_changes
from intrinsic_lr.stats.distance import ALL, ALL_LAYER_NORMALISED, between
from intrinsic_lr.study.experiment import Experiment

PAIR = ["step", "partner_step", "replicate", "partner"]
COSINES = {ALL: "cosine", ALL_LAYER_NORMALISED: "cosine_layer_normalised"}


def pairs(spec):
    """Yield (point, partner, relation, members): every trajectory with itself, then with another."""
    for point in spec["points"]:
        yield point, point, "within", [(k, k) for k in range(spec["replicates"])]
    for point, partner, relation, members in across_pairs(spec):
        if point["dataset"] == partner["dataset"]:
            yield point, partner, relation, members


def trajectories(point, partner, ensembles, members):
    """Yield the trajectories of each pair of replicates."""
    for i, j in members:
        a = trajectory(ensembles[point["name"]], i, point["steps"])
        same = point is partner and i == j
        yield a, a if same else trajectory(ensembles[partner["name"]], j, partner["steps"])


def cosines(point, partner, ensembles, members):
    """Return the cosines of all pairs of checkpoints, raw and with every layer at unit norm."""
    pairs = trajectories(point, partner, ensembles, members)
    groups = ensembles[point["name"]].scale_groups
    table = between(pairs, members, point["steps"], partner["steps"], groups)
    wide = table[table["layer"].isin(COSINES)].pivot(index=PAIR, columns="layer", values="cosine")
    return wide.rename(columns=COSINES)[list(COSINES.values())].rename_axis(columns=None).reset_index()


def disagreements(point, partner, ensembles, members, truth):
    """Return the disagreement and the errors of all pairs of checkpoints."""
    parts = []
    for i, j in members:
        a = label_trajectory(ensembles[point["name"]], i, point["steps"])
        b = label_trajectory(ensembles[partner["name"]], j, partner["steps"])
        changes = label_changes(a, b)
        error, partner_error = (label_changes(side, truth[None])[:, 0] for side in (a, b))
        mean_error = (error[:, None] + partner_error) / 2
        columns = {
            "step": np.array(point["steps"])[:, None],
            "partner_step": np.array(partner["steps"]),
            "replicate": i,
            "partner": j,
            "disagreement": changes,
            "error": error[:, None],
            "partner_error": partner_error,
            "disagreement_over_error": np.divide(
                changes, mean_error, out=np.full(changes.shape, np.nan), where=mean_error > 0
            ),
        }
        parts.append(pd.DataFrame({k: np.broadcast_to(v, changes.shape).ravel() for k, v in columns.items()}))
    return pd.concat(parts)


with reported(snakemake.log[0]):
    torch.set_num_threads(snakemake.threads)
    spec = Experiment.from_json(snakemake.params.spec)
    folders = block_folders(snakemake.input)
    ensembles = {p["name"]: open_ensemble(folders[p["name"]], spec["replicates"]) for p in spec["points"]}
    sets = map(true_labels, snakemake.input.data, snakemake.input.info)
    truth = {info["name"]: labels for info, labels in sets}
    tables = []
    for point, partner, relation, members in pairs(spec):
        table = disagreements(point, partner, ensembles, members, truth[point["dataset"]])
        table = table.merge(cosines(point, partner, ensembles, members), on=PAIR)
        tables.append(with_point(table.assign(relation=relation, partner_point=partner["name"]), point))
    write_table(pd.concat(tables), snakemake.output.table)
