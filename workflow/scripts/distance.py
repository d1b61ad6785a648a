"""Weight space: pairwise distances within trajectories and across them, with the two nulls."""

import pandas as pd
import torch

from intrinsic_lr.analyses.tables import across_pairs, block_folders, with_point, write_table
from intrinsic_lr.core.job_log import reported
from intrinsic_lr.runs.ensembles import open_ensemble
from intrinsic_lr.runs.trajectories import trajectories
from intrinsic_lr.stats.distance import across, pairwise
from intrinsic_lr.stats.intervals import summarize
from intrinsic_lr.stats.theory import fit_ou_null, ou_squared_distance, sphere_walk_cosine, sphere_walk_distance
from intrinsic_lr.study.experiment import Experiment

QUANTITIES = ["l2", "l2_unit_norm", "cosine"]
SHORT_LAGS = 1 / 3
"""The OU null is fitted to this share of the lags, the shortest, and extrapolated to the others."""


def within(point, ensemble):
    """Return all pairs (T, T + delta) of one point."""
    table = pairwise(trajectories(ensemble, point["steps"]), point["steps"], ensemble.scale_groups)
    return with_point(table.assign(relation="within", partner_point=point["name"]), point)


def between(spec, ensembles):
    """Yield the distances across trajectories at equal planned checkpoints."""
    for point, partner, relation, members in across_pairs(spec):
        a, b = ensembles[point["name"]], ensembles[partner["name"]]
        for step_a, step_b in zip(point["steps"], partner["steps"], strict=True):
            weights = a.weights(step_a)
            others = weights if partner is point else b.weights(step_b)
            table = across(weights, others, a.scale_groups, members)
            table = table.assign(relation=relation, partner_point=partner["name"], step=step_a, delta=0)
            yield with_point(table, point)


def add_nulls(summary):
    """Add the sphere walk (science: cosine (1 - lambda_e)^delta) and the OU process fitted on short lags."""
    walking = (summary["relation"] == "within") & (summary["momentum"] == 0) & (summary["schedule"] == "constant")
    rate, delta = summary["intrinsic_lr"], summary["delta"]
    summary["sphere_walk_cosine"] = sphere_walk_cosine(rate, delta).where(walking)
    summary["sphere_walk_l2_unit_norm"] = sphere_walk_distance(rate, delta).where(walking)
    summary["ou_l2"] = float("nan")
    for _, lags in summary[summary["relation"] == "within"].groupby(["point", "step", "layer"], sort=False):
        short = lags[lags["delta"] <= SHORT_LAGS * lags["delta"].max()]
        if len(short) < 3:
            continue
        plateau, relaxation = fit_ou_null(short["delta"].to_numpy(), short["l2_mean"].to_numpy() ** 2)
        summary.loc[lags.index, "ou_l2"] = ou_squared_distance(lags["delta"], plateau, relaxation) ** 0.5
    return summary


with reported(snakemake.log[0]):
    torch.set_num_threads(snakemake.threads)
    spec = Experiment.from_json(snakemake.params.spec)
    folders = block_folders(snakemake.input)
    ensembles = {p["name"]: open_ensemble(folders[p["name"]], spec["replicates"]) for p in spec["points"]}
    inside = pd.concat([within(p, ensembles[p["name"]]) for p in spec["points"]])
    outside = pd.concat([inside.head(0).rename(columns={"replicate": "replicate_a"}), *between(spec, ensembles)])
    by = [c for c in inside.columns if c not in [*QUANTITIES, "replicate"]]
    both = pd.concat([inside, outside.rename(columns={"replicate_a": "replicate"})])
    summary = add_nulls(summarize(both, by, QUANTITIES, snakemake.params.analysis["confidence"]))
    write_table(inside, snakemake.output.table)
    write_table(outside, snakemake.output.across)
    write_table(summary, snakemake.output.summary)
