"""Weight space: pairwise distances within trajectories and across them, with two null models."""

from collections.abc import Iterator

import pandas as pd
from matplotlib.figure import Figure

from intrinsic_lr.analyses.drawing import ACROSS_COLOUR, first_point, mean_note, starting_times
from intrinsic_lr.analyses.tables import ACROSS_INITIALISATIONS, AnalysisData, across_pairs, with_point
from intrinsic_lr.figures import style
from intrinsic_lr.runs.trajectories import trajectory
from intrinsic_lr.stats.intervals import summarize
from intrinsic_lr.stats.theory import fit_ou_null, ou_squared_distance, sphere_walk_cosine, sphere_walk_distance
from intrinsic_lr.study.experiment import Experiment, PlannedPoint

QUANTITIES = ["l2", "l2_unit_norm", "cosine"]
SHORT_LAGS = 1 / 3
"""The OU null is fitted to this share of the lags, the shortest, and extrapolated to the others."""


def measure(data: AnalysisData) -> dict[str, pd.DataFrame]:
    """Return `distance` within trajectories, `distance_across` them, and the summary of both with the nulls."""
    import torch

    torch.set_num_threads(data.threads)
    within = pd.concat([_within(data, point) for point in data.experiment.points])
    across = pd.concat([within.head(0).rename(columns={"replicate": "replicate_a"}), *_across(data)])
    keys = [column for column in within if column not in [*QUANTITIES, "replicate"]]
    both = pd.concat([within, across.rename(columns={"replicate_a": "replicate"})])
    walks = {point.name for point in data.experiment.points if _is_walk(point)}
    summary = _add_nulls(summarize(both, keys, QUANTITIES, data.settings["confidence"]), walks)
    return {"distance": within, "distance_across": across, "distance_summary": summary}


def _within(data: AnalysisData, point: PlannedPoint) -> pd.DataFrame:
    """Return all pairs (T, T + delta) of one point."""
    from intrinsic_lr.stats.distance import pairwise

    ensemble = data.ensembles[point.name]
    trajectories = (trajectory(ensemble, replicate, point.steps) for replicate in range(ensemble.replicates))
    table = pairwise(trajectories, point.steps, ensemble.measured_groups)
    return with_point(table.assign(relation="within", partner_point=point.name), point)


def _across(data: AnalysisData) -> Iterator[pd.DataFrame]:
    """Yield the distances across trajectories at equal planned checkpoints."""
    from intrinsic_lr.stats.distance import across

    for point, partner, relation, members in across_pairs(data.experiment):
        a, b = data.ensembles[point.name], data.ensembles[partner.name]
        for step, partner_step in zip(point.steps, partner.steps, strict=True):
            weights = a.weights(step)
            others = weights if partner is point else b.weights(partner_step)
            table = across(weights, others, a.measured_groups, members)
            table = table.assign(relation=relation, partner_point=partner.name, step=step, delta=0)
            yield with_point(table, point)


def _is_walk(point: PlannedPoint) -> bool:
    """Tell whether steps of pure noise would be the walk on the sphere: independent, at one intrinsic rate."""
    return point.optimiser == "sgd" and point.momentum == 0 and point.schedule == "constant"


def _add_nulls(summary: pd.DataFrame, walks: set[str]) -> pd.DataFrame:
    """Add the walk on the sphere (its cosine is (1 - lambda_e)^delta) and the OU process fitted on short lags."""
    walking = (summary["relation"] == "within") & summary["point"].isin(walks)
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


@style.styled
def draw_distance(table: pd.DataFrame, experiment: Experiment, confidence: float) -> Figure:
    """Draw distance and cosine between checkpoints against their lag, with both nulls."""
    table, which = first_point(table, experiment)
    table = table[table["layer"] == "all"]
    within, across = (table[table["relation"] == relation] for relation in ("within", ACROSS_INITIALISATIONS))
    across = across[across["step"] == across["step"].max()]
    starts = starting_times(within)
    colours = style.ordered_colours(starts)
    figure, ((distance, cosine),) = style.panels(1, 2, 3.2)
    for start in starts:
        rows = within[within["step"] == start].sort_values("delta")
        style.band(distance, rows, "delta", "l2", color=colours[start], marker="o", ms=3, lw=1.4)
        distance.plot(rows["delta"], rows["ou_l2"], color=colours[start], ls="--", lw=1.1)
        style.band(cosine, rows, "delta", "cosine", color=colours[start], marker="o", ms=3, lw=1.4)
    walk = within.drop_duplicates("delta").sort_values("delta")
    cosine.plot(walk["delta"], walk["sphere_walk_cosine"], color="black", ls=":", lw=1.4)
    for _, row in across.iterrows():
        distance.axhline(row["l2_mean"], **_ACROSS)
        cosine.axhline(row["cosine_mean"], **_ACROSS)
    distance.set(xlabel=r"$\Delta$ (steps)", ylabel=r"$\|w_T - w_{T+\Delta}\|$", title="Distance", ylim=(0, None))
    cosine.set(xlabel=r"$\Delta$ (steps)", ylabel=r"$\cos(w_T, w_{T+\Delta})$", title="Cosine")
    handles = [style.handle(f"$T$ = {start}", color=colours[start], marker="o", ms=3) for start in starts]
    if within.loc[within["step"].isin(starts), "ou_l2"].notna().any():
        handles.append(style.handle("OU process, fitted\nto the short lags", color="0.3", ls="--"))
    if walk["sphere_walk_cosine"].notna().any():
        handles.append(style.handle("noise-only walk on\nthe sphere", color="black", ls=":"))
    if len(across):
        handles.append(style.handle("two initialisations,\nat the last $T$", **_ACROSS))
    note = f"{mean_note(table, confidence)}; all scale-invariant weights, raw"
    style.legend_below(figure, handles, 4, note + which)
    figure.suptitle(f"Distances within a trajectory against the lag ({experiment.words})")
    return figure


_ACROSS = {"color": ACROSS_COLOUR, "lw": 1.2, "ls": (0, (6, 2))}
