"""Where two initialisations predict alike, their weights against those of one trajectory."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from intrinsic_lr.claims.shared.sameness import first_of_each_rate
from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec, exponential
from intrinsic_lr.claims.shared.verdicts import Findings, Range
from intrinsic_lr.figures.style import error_bar, labelled, legend_below, panels, styled
from intrinsic_lr.stats.intervals import holm, mean_interval
from intrinsic_lr.stats.lags import sphere_walk
from intrinsic_lr.stats.theory import sphere_walk_cosine
from intrinsic_lr.study.experiment import PlannedPoint

PAIRS = "pairs"
LAYERS = {"all": "raw weights", "all_layer_normalised": "every layer at unit norm"}
WITHIN, REPLICATES, ACROSS = "within", "across_replicates", "across_initialisations"
RELATIONS = {
    WITHIN: {"color": "#0072B2", "marker": "o", "label": "one trajectory"},
    REPLICATES: {"color": "#E69F00", "marker": "s", "label": "two trajectories of one initialisation"},
    ACROSS: {"color": "#D55E00", "marker": "^", "label": "two initialisations"},
}
WEIGHTS, WALK, FUNCTIONS = "weights", "walk", "function_space"
"""Kinds of rows: weights of the runs, weights of simulated walks of noise alone, comparisons of predictions."""
MAX_DIMENSION = 10_000
"""Of the simulated walk: cosines of independent directions are then within a few hundredths of 0."""
COLUMNS = [
    "part", "intrinsic_lr", "delta", "intrinsic_time", "relation", "layer", "replicate", "replicate_b", "l2",
    "cosine", "replicates_a", "total_variation", "total_variation_low", "total_variation_high",
    "null_mean", "null_q95", "p_value", "excess_share", "excess_share_low", "excess_share_high",
]  # fmt: skip
_FUNCTION = "#CC79A7"
_WALK = {"color": "black", "ls": ":", "lw": 1.4, "label": "walk of noise alone, at the lag within"}
_LEAST = {"color": "0.4", "ls": "--", "lw": 1.1, "label": "threshold for one trajectory"}


def measure(data: ClaimData) -> pd.DataFrame:
    """Return cosines within and across trajectories, and the comparison of the predictions at the last checkpoint.

    A row per rate, relation, layer and replicate k of the first initialisation: with its own weights `lag`
    earlier; with those of replicate k + 1; with those of replicate k of the other initialisation. The same of a
    simulated walk of noise alone on the sphere (`lags.sphere_walk`), with the runs' rate, times, number of
    replicates and dimension (up to `MAX_DIMENSION`), from two initial directions, each shared by all its
    replicates. Where more than two initialisations share a rate, the first pair stands for it.
    """
    spec, count = data.spec, data.spec.replicates(PAIRS)
    parts = []
    for a, b in first_of_each_rate(spec, PAIRS):
        first, second = data.ensemble(PAIRS, a), data.ensemble(PAIRS, b)
        last, rate = a.steps[-1], a.intrinsic_lr
        wanted = last - spec.settings["lag"] / rate
        earlier = min(a.steps[:-1], key=lambda step, wanted=wanted: abs(step - wanted))
        start, end, other = first.weights(earlier), first.weights(last), second.weights(b.steps[-1])
        dimension = sum(end[name][0].numel() for names in first.scale_groups.values() for name in names)
        walks = _walks(a, earlier, min(dimension, MAX_DIMENSION), count, spec.generator(WALK, a.name))
        labels = first.labels(last), second.labels(b.steps[-1])
        row = spec.compare_labels((a, b), labels, data.test_labels(a.dataset), first.classes, a.name)
        same = {"intrinsic_lr": rate, "delta": last - earlier, "intrinsic_time": last * rate}
        parts += [
            _cosines(start, end, other, first.scale_groups, count).assign(part=WEIGHTS, **same),
            _cosines(*walks, {"w": ("w",)}, count).assign(part=WALK, **same),
            pd.DataFrame([row]).assign(part=FUNCTIONS, **same),
        ]
    found = pd.concat(parts, ignore_index=True)
    return found[[column for column in COLUMNS if column in found]]


def _cosines(start, end, other, scale_groups, count: int) -> pd.DataFrame:
    """Compare weights at the end: with their own earlier, another trajectory's, another initialisation's."""
    from intrinsic_lr.stats.distance import across

    same, shifted = [(k, k) for k in range(count)], [(k, (k + 1) % count) for k in range(count)]
    tables = []
    for relation, partner, members in ((WITHIN, start, same), (REPLICATES, end, shifted), (ACROSS, other, same)):
        table = across(end, partner, scale_groups, members)
        table = table[table["layer"].isin(LAYERS)].rename(columns={"replicate_a": "replicate"})
        tables.append(table.assign(relation=relation))
    return pd.concat(tables, ignore_index=True)


def _walks(point: PlannedPoint, earlier: int, dimension: int, count: int, generator: np.random.Generator):
    """Return simulated weights of one initialisation earlier and at the end, and of the other at the end."""
    import torch

    ends = []
    for _ in range(2):
        start = np.tile(generator.standard_normal(dimension), (count, 1))
        ends.append(sphere_walk(start, [0, earlier, point.steps[-1]], point.intrinsic_lr, generator)[1:])
    (first, second), (_, other) = ends
    return [{"w": torch.from_numpy(states)} for states in (first, second, other)]


def within_and_across(rows: pd.DataFrame, layer: str, quantity: str) -> tuple[pd.Series, pd.Series]:
    """Return each replicate's cosine or distance within its trajectory and across initialisations, both finite."""
    rows = rows[(rows["layer"] == layer) & rows["relation"].isin([WITHIN, ACROSS])]
    wide = rows.pivot(index="replicate", columns="relation", values=quantity).reindex(columns=[WITHIN, ACROSS])
    wide = wide[np.isfinite(wide).all(axis=1)]
    return wide[WITHIN], wide[ACROSS]


def mixed_rates(table: pd.DataFrame, spec: ClaimSpec) -> list[float]:
    """Return the rates at which function space has mixed: the excess share is small with its whole interval."""
    rows = table[table["part"] == FUNCTIONS]
    return list(rows.loc[rows["excess_share_high"] <= spec.thresholds["mixed"], "intrinsic_lr"])


def judge(table: pd.DataFrame, spec: ClaimSpec) -> Findings:
    """Judge, where function space has mixed, cosines and distances within a trajectory against those across.

    Control: the walks of noise alone, whose weights do mix, judged alike. Where function space has mixed nowhere,
    there is nothing to judge; a rate without predictions to tell is inconclusive.

    A gap of cosines belongs to a ratio of distances of 1 / sqrt(1 - gap): vectors of one norm, orthogonal across
    (derived). Any ratio above 1 says "further apart", but a walk of noise alone has that too, by what its
    directions still share at the lag.
    """
    gap = spec.thresholds["gap"]
    functions = table[table["part"] == FUNCTIONS]
    unknown = list(functions.loc[functions["excess_share_high"].isna(), "intrinsic_lr"])
    for judged, part, words in (
        (spec.criterion, WEIGHTS, "weights of one trajectory lie closer than those of two initialisations"),
        (spec.control, WALK, "a walk of noise alone on the sphere, from two initial directions"),
    ):
        for rate in [*mixed_rates(table, spec), *unknown] or [np.nan]:
            rows = table[(table["part"] == part) & (table["intrinsic_lr"] == rate) & (rate not in unknown)]
            statement = f"At lambda_e = {rate:.3g} {words}"
            for layer, name in LAYERS.items():
                within, across = within_and_across(rows, layer, "cosine")
                estimate = mean_interval(within - across, spec.confidence)
                what = "cosine within a trajectory less cosine across initialisations"
                yield judged(f"{statement}: cosine ({name}).", what, estimate, PAIRS, allowed=Range(low=gap))
            within, across = within_and_across(rows, "all", "l2")
            estimate = exponential(mean_interval(np.log(across) - np.log(within), spec.confidence))
            what = "distance across initialisations over that within a trajectory, geometric mean"
            allowed = Range(low=(1 - gap) ** -0.5)
            yield judged(f"{statement}: distance (raw weights).", what, estimate, PAIRS, allowed=allowed)


@styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw the cosines of the weights beside the total variation of the predictions, for every rate."""
    figure, ((cosine, variation),) = panels(1, 2, 3.0, width_ratios=[1.5, 1])
    weights, functions = (table[table["part"] == part] for part in (WEIGHTS, FUNCTIONS))
    rates = sorted(functions["intrinsic_lr"].unique())
    _draw_cosines(cosine, weights, rates, spec)
    _draw_variations(variation, functions, rates, mixed_rates(table, spec))
    for axes in (cosine, variation):
        axes.set_xticks(range(len(rates)), [f"{rate:.2g}" for rate in rates])
        axes.set(xlabel=r"intrinsic learning rate $\lambda_e$", xlim=(-0.6, max(len(rates), 1) - 0.4))
        axes.grid(axis="x", visible=False)
    n = int(functions["replicates_a"].max()) if len(functions) else 0
    end, lag = functions["intrinsic_time"].max(), (weights["delta"] * weights["intrinsic_lr"]).max()
    note = (
        f"at {end:.3g}$/\\lambda_e$; within a trajectory a lag of {lag:.3g}$/\\lambda_e$; mean and "
        f"{spec.percent} interval, {n} runs of each\n"
        "open circles, squares, triangles: every layer at unit norm; open diamonds: not mixed\n"
        "numbers: excess share of the disagreement, p of the permutation test (Holm)"
    )
    title = "Two initialisations predict nearly alike while their weights stay far apart"
    return legend_below(figure, labelled(figure), 2, note, title)


def _draw_cosines(axes: Axes, weights: pd.DataFrame, rates: list[float], spec: ClaimSpec) -> None:
    for place, rate in enumerate(rates):
        here, ends = weights[weights["intrinsic_lr"] == rate], [place - 0.35, place + 0.35]
        for offset, (relation, look) in zip((-0.2, 0, 0.2), RELATIONS.items(), strict=True):
            for layer, shift, face in (("all", -0.04, look["color"]), ("all_layer_normalised", 0.04, "white")):
                rows = here[(here["relation"] == relation) & (here["layer"] == layer)]
                estimate = mean_interval(rows["cosine"], spec.confidence)
                error_bar(axes, place + offset + shift, estimate, ms=5, mfc=face, capsize=2, **look)
        axes.plot(ends, [sphere_walk_cosine(rate, here["delta"].max())] * 2, **_WALK)
        far = here.loc[(here["relation"] == ACROSS) & (here["layer"] == "all"), "cosine"].mean()
        axes.plot(ends, [far + spec.thresholds["gap"]] * 2, **_LEAST)
    axes.axhline(0, color="0.5", lw=0.8)
    axes.set(ylabel="cosine of weights", title="Weight space", ylim=(-0.08, 1.05))


def _draw_variations(axes: Axes, functions: pd.DataFrame, rates: list[float], mixed: list[float]) -> None:
    adjusted = dict(zip(functions["intrinsic_lr"], holm(functions["p_value"]), strict=True))
    for place, rate in enumerate(rates):
        row = functions[functions["intrinsic_lr"] == rate].iloc[0]
        low, high, found = (100 * row[name] for name in ("null_mean", "null_q95", "total_variation"))
        null = {"alpha": 0.5, "lw": 0, "label": "their permutation null, mean to 95 %"}
        axes.fill_between([place - 0.3, place + 0.3], low, high, color="0.6", **null)
        look = {"mfc": _FUNCTION if rate in mixed else "white", "label": "two initialisations: predictions"}
        axes.plot(place, found, marker="D", ls="", ms=5, color=_FUNCTION, **look)
        known = np.isfinite(adjusted[rate])
        text = f"{100 * row['excess_share']:.1f} %\np = {adjusted[rate]:.2g}" if known else "no runs"
        top = (place, np.nanmax([found, high, 0]))
        axes.annotate(text, top, (0, 6), textcoords="offset points", ha="center", fontsize="x-small")
    axes.set(ylabel="total variation (% of images)", title="Function space")
    axes.set_ylim(0, 1.3 * max(axes.get_ylim()[1], 1e-9))
