"""Where two initialisations predict alike, their weights against those of one trajectory."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from intrinsic_lr.claims.shared import forgetting
from intrinsic_lr.claims.shared.sameness import Judge
from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec, exponential
from intrinsic_lr.claims.shared.starts import (
    ACROSS,
    ORDERS,
    RANDOM,
    WITHIN,
    compared_starts,
    of_samples,
    pairs_of_weights,
)
from intrinsic_lr.claims.shared.verdicts import Findings, Range
from intrinsic_lr.figures.style import error_bar, labelled, legend_below, panels, styled
from intrinsic_lr.stats.intervals import mean_interval
from intrinsic_lr.stats.lags import sphere_walk
from intrinsic_lr.stats.theory import sphere_walk_cosine
from intrinsic_lr.study.experiment import PlannedPoint

PAIRS = "pairs"
LAYERS = {"all": "raw weights", "all_layer_normalised": "every layer at unit norm"}
UNITS = {"as_is": "hidden units as they are", "matched": "hidden units matched"}
RELATIONS = {
    WITHIN: {"color": "#0072B2", "marker": "o", "label": "one trajectory"},
    ORDERS: {"color": "#E69F00", "marker": "s", "label": "two trajectories of one initialisation"},
    ACROSS: {"color": "#D55E00", "marker": "^", "label": "two initialisations"},
    RANDOM: {"color": "#999999", "marker": "v", "label": "two untrained networks"},
}
WEIGHTS, WALK, FUNCTIONS = "weights", "walk", "function_space"
"""Kinds of rows: weights of the runs, weights of simulated walks of noise alone, comparisons of predictions."""
MAX_DIMENSION = 10_000
"""Of the simulated walk: cosines of independent directions are then within a few hundredths of 0."""
COLUMNS = [
    "part", "intrinsic_lr", "delta", "intrinsic_time", "relation", "units", "layer", "sample", "replicate", "l2",
    "cosine", "initialisations", "runs", "across", "within", "share", "share_low", "share_high", "p_value",
]  # fmt: skip
_FUNCTION = "#CC79A7"
_WALK = {"color": "black", "ls": ":", "lw": 1.4, "label": "walk of noise alone, at the lag within"}
_LEAST = {"color": "0.4", "ls": "--", "lw": 1.1, "label": "thresholds for one trajectory"}


def measure(data: ClaimData) -> pd.DataFrame:
    """Return cosines within and across trajectories, and the comparison of the predictions at the last checkpoint.

    A row per rate, relation, layer and network: with its own weights `lag` earlier, with those of a run of its
    initialisation, with those of a run of another initialisation, and of two untrained networks; with hidden units
    as they are, and matched. The same of a simulated walk of noise alone on the sphere (`lags.sphere_walk`), with
    the runs' rate, times, number and dimension (up to `MAX_DIMENSION`), from two initial directions, each shared
    by all walks. A row per rate on predictions: which share of the disagreement of two runs their initialisation
    causes. Of the settings that share a rate the first counts.
    """
    spec = data.spec
    parts = []
    for compared in compared_starts(spec.points(PAIRS), spec.replicates(PAIRS)):
        point = compared.first
        last, rate, earlier = point.steps[-1], point.intrinsic_lr, compared.earlier(spec.settings["lag"])
        same = {"intrinsic_lr": rate, "delta": last - earlier, "intrinsic_time": last * rate}
        ensemble, dimension = data.ensemble(PAIRS, point), 0
        for relation, networks, a, b in pairs_of_weights(data, PAIRS, compared, spec.settings["lag"]):
            dimension = sum(a[name][0].numel() for names in ensemble.scale_groups.values() for name in names)
            for units, table in _cosines(a, b, ensemble).items():
                named = {"part": WEIGHTS, "relation": relation, "units": units, **same}
                of_pair = pd.Series(networks)[table["replicate_a"]].to_numpy()
                samples = [compared.samples[network] for network in of_pair]
                replicates = of_pair % spec.replicates(PAIRS)
                parts.append(table.assign(**named, sample=samples, replicate=replicates))
        count, generator = len(compared.across), spec.generator(WALK, point.name)
        walks = _walks(point, earlier, min(dimension, MAX_DIMENSION), count, generator)
        parts.append(walks.assign(part=WALK, units="as_is", **same))
        parts.append(pd.DataFrame([_predictions(data, compared.points)]).assign(part=FUNCTIONS, **same))
    found = pd.concat(parts, ignore_index=True)
    return found[[column for column in COLUMNS if column in found]]


def _cosines(a, b, ensemble) -> dict[str, pd.DataFrame]:
    """Compare networks a and b one by one, as they are and, where that can be, with the units of b matched."""
    from intrinsic_lr.analyses.averaging import MATCHED, matched, normalisations_across
    from intrinsic_lr.stats.distance import across

    model, groups = ensemble.model(), ensemble.scale_groups
    partners = {"as_is": b}
    if MATCHED in normalisations_across(model):
        partners["matched"] = matched(model, a, b)
    members = [(k, k) for k in range(len(next(iter(a.values()))))]
    tables = {units: across(a, other, groups, members) for units, other in partners.items()}
    return {units: table[table["layer"].isin(LAYERS)] for units, table in tables.items()}


def _predictions(data: ClaimData, points: Sequence[PlannedPoint]) -> dict[str, Any]:
    """Return which share of the disagreement of two runs their initialisation causes, at the last checkpoint."""
    runs = forgetting.Runs.read(data, PAIRS, points)
    rows = forgetting.compare_initialisations(data, FUNCTIONS, "", runs, points[0].steps[-1:], tested=True)
    return next(row for row in rows if row["distance"] == forgetting.LABELS)


def _walks(
    point: PlannedPoint, earlier: int, dimension: int, count: int, generator: np.random.Generator
) -> pd.DataFrame:
    """Compare simulated weights of one initialisation with its own earlier, with others of it, and of another."""
    import torch

    from intrinsic_lr.stats.distance import across

    ends = []
    for _ in range(2):
        start = np.tile(generator.standard_normal(dimension), (count, 1))
        ends.append(sphere_walk(start, [0, earlier, point.steps[-1]], point.intrinsic_lr, generator)[1:])
    (first, last), (_, other) = [[{"w": torch.from_numpy(states)} for states in walk] for walk in ends]
    same, shifted = [(k, k) for k in range(count)], [(k, (k + 1) % count) for k in range(count)]
    tables = []
    for relation, a, b, members in (
        (WITHIN, first, last, same),
        (ORDERS, last, last, shifted),
        (ACROSS, last, other, same),
    ):
        table = across(a, b, {"w": ("w",)}, members).rename(columns={"replicate_a": "replicate"})
        tables.append(table[table["layer"].isin(LAYERS)].assign(relation=relation))
    return pd.concat(tables, ignore_index=True).assign(sample=lambda table: table["replicate"])


def within_and_across(rows: pd.DataFrame, layer: str, quantity: str) -> tuple[pd.Series, pd.Series]:
    """Return each network's cosine or distance within its trajectory and across initialisations, both finite."""
    rows = rows[(rows["layer"] == layer) & rows["relation"].isin([WITHIN, ACROSS])]
    wide = rows.pivot(index=["sample", "replicate"], columns="relation", values=quantity)
    wide = wide.reindex(columns=[WITHIN, ACROSS])
    wide = wide[np.isfinite(wide).all(axis=1)]
    return wide[WITHIN], wide[ACROSS]


def mixed_rates(table: pd.DataFrame, spec: ClaimSpec) -> list[float]:
    """Return the rates at which function space has mixed: the share is small with its whole interval."""
    rows = table[table["part"] == FUNCTIONS]
    return list(rows.loc[rows["share_high"] <= spec.thresholds["mixed"], "intrinsic_lr"])


def judge(table: pd.DataFrame, spec: ClaimSpec) -> Findings:
    """Judge, where function space has mixed, cosines and distances within a trajectory against those across.

    With hidden units as they are and matched: the claim says both. Control: the walks of noise alone, whose
    weights do mix and have no units, judged alike. Where function space has mixed nowhere, there is nothing to
    judge; a rate without predictions to tell is inconclusive.

    A gap of cosines belongs to a ratio of distances of 1 / sqrt(1 - gap): vectors of one norm, orthogonal across
    (derived). Any ratio above 1 says "further apart", but a walk of noise alone has that too, by what its
    directions still share at the lag.
    """
    functions = table[table["part"] == FUNCTIONS]
    unknown = list(functions.loc[functions["share_high"].isna(), "intrinsic_lr"])
    for judged, part in ((spec.criterion, WEIGHTS), (spec.control, WALK)):
        there = set(table.loc[table["part"] == part, "units"])
        for rate in [*mixed_rates(table, spec), *unknown] or [np.nan]:
            for units in [name for name in UNITS if name in there]:
                rows = table[(table["part"] == part) & (table["intrinsic_lr"] == rate) & (rate not in unknown)]
                words = "a walk of noise alone on the sphere, from two initial directions"
                if part == WEIGHTS:
                    words = (
                        f"weights of one trajectory lie closer than those of two initialisations, {UNITS[units]}"
                    )
                statement = f"At lambda_e = {rate:.3g} {words}"
                yield from _judge_gaps(judged, statement, rows[rows["units"] == units], spec)


def _judge_gaps(judged: Judge, statement: str, rows: pd.DataFrame, spec: ClaimSpec) -> Findings:
    gap = spec.thresholds["gap"]
    for layer, name in LAYERS.items():
        within, across = within_and_across(rows, layer, "cosine")
        estimate = mean_interval(of_samples(within - across), spec.confidence)
        what = "cosine within a trajectory less cosine across initialisations"
        yield judged(f"{statement}: cosine ({name}).", what, estimate, PAIRS, allowed=Range(low=gap))
    within, across = within_and_across(rows, "all", "l2")
    estimate = exponential(mean_interval(of_samples(np.log(across) - np.log(within)), spec.confidence))
    what = "distance across initialisations over that within a trajectory, geometric mean"
    allowed = Range(low=(1 - gap) ** -0.5)
    yield judged(f"{statement}: distance (raw weights).", what, estimate, PAIRS, allowed=allowed)


@styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw the cosines of the weights beside what predictions remember of their initialisation, for every rate."""
    figure, ((cosine, shares),) = panels(1, 2, 3.0, width_ratios=[1.5, 1])
    weights, functions = (table[table["part"] == part] for part in (WEIGHTS, FUNCTIONS))
    rates = sorted(functions["intrinsic_lr"].unique())
    _draw_cosines(cosine, weights, rates, spec)
    _draw_shares(shares, functions, rates, spec)
    for axes in (cosine, shares):
        axes.set_xticks(range(len(rates)), [f"{rate:.2g}" for rate in rates])
        axes.set(xlabel=r"intrinsic learning rate $\lambda_e$", xlim=(-0.6, max(len(rates), 1) - 0.4))
        axes.grid(axis="x", visible=False)
    end, lag = functions["intrinsic_time"].max(), (weights["delta"] * weights["intrinsic_lr"]).max()
    counts = "no runs"
    if len(functions):
        counts = f"{functions['initialisations'].max():g} initialisations, {functions['runs'].max():g} runs"
    note = (
        f"at {end:.3g}$/\\lambda_e$; within a trajectory a lag of {lag:.3g}$/\\lambda_e$; mean and "
        f"{spec.percent} interval, {counts}\n"
        "raw weights; filled: hidden units as they are, open: matched; open diamonds: not mixed"
    )
    title = "Weights of networks that predict nearly alike, hidden units as they are and matched"
    return legend_below(figure, labelled(figure), 2, note, title)


def _draw_cosines(axes: Axes, weights: pd.DataFrame, rates: list[float], spec: ClaimSpec) -> None:
    weights = weights[weights["layer"] == "all"]
    for place, rate in enumerate(rates):
        here, ends = weights[weights["intrinsic_lr"] == rate], [place - 0.4, place + 0.4]
        for offset, (relation, look) in zip((-0.27, -0.09, 0.09, 0.27), RELATIONS.items(), strict=True):
            for units, shift, face in (("as_is", -0.03, look["color"]), ("matched", 0.03, "white")):
                rows = here[(here["relation"] == relation) & (here["units"] == units)]
                estimate = mean_interval(of_samples(rows.set_index("sample")["cosine"]), spec.confidence)
                error_bar(axes, place + offset + shift, estimate, ms=5, mfc=face, capsize=2, **look)
        axes.plot(ends, [sphere_walk_cosine(rate, here["delta"].max())] * 2, **_WALK)
        for units in UNITS:
            far = here.loc[(here["relation"] == ACROSS) & (here["units"] == units), "cosine"].mean()
            axes.plot(ends, [far + spec.thresholds["gap"]] * 2, **_LEAST)
    axes.axhline(0, color="0.5", lw=0.8)
    axes.set(ylabel="cosine of weights", title="Weight space", ylim=(-0.08, 1.05))


def _draw_shares(axes: Axes, functions: pd.DataFrame, rates: list[float], spec: ClaimSpec) -> None:
    mixed = mixed_rates(functions, spec)
    for place, rate in enumerate(rates):
        row = functions[functions["intrinsic_lr"] == rate].iloc[0]
        estimate = [100 * row[name] for name in ("share", "share_low", "share_high")]
        look = {"mfc": _FUNCTION if rate in mixed else "white", "label": "predictions of two initialisations"}
        error_bar(axes, place, estimate, marker="D", ms=5, capsize=2.5, color=_FUNCTION, **look)
    axes.axhline(100 * spec.thresholds["mixed"], color="0.4", ls="-.", lw=1.1, label="mixed below this share")
    axes.axhline(0, color="0.5", lw=0.8)
    axes.set(ylabel="share of disagreement caused\nby the initialisation (%)", title="Function space")
