"""Where two initialisations predict alike, their weights against those of one trajectory."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from intrinsic_lr.claims.shared.sameness import first_of_each_rate, initialisations
from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec
from intrinsic_lr.claims.shared.verdicts import Finding, Range
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.seeding import stream_seed
from intrinsic_lr.figures.style import legend_below, panels, styled
from intrinsic_lr.stats.disagreement import compare
from intrinsic_lr.stats.intervals import holm, mean_interval
from intrinsic_lr.stats.lags import sphere_walk
from intrinsic_lr.stats.theory import sphere_walk_cosine

PAIRS = "pairs"
LAYERS = {"all": "raw weights", "all_layer_normalised": "every layer at unit norm"}
RELATIONS = {
    "within": "one trajectory",
    "across_replicates": "two trajectories of one initialisation",
    "across_initialisations": "two initialisations",
}
WEIGHTS, WALK, FUNCTIONS = "weights", "walk", "function_space"
"""Kinds of rows: weights of the runs, weights of simulated walks of noise alone, comparisons of predictions."""
MAX_DIMENSION = 10_000
"""Of the simulated walk: cosines of independent directions are then within a few hundredths of 0."""


def measure(data: ClaimData) -> pd.DataFrame:
    """Return cosines within and across trajectories, and the comparison of the predictions at the last checkpoint.

    A row per rate, relation, layer and replicate k of the first initialisation: with its own weights `lag`
    earlier; with those of replicate k + 1; with those of replicate k of the other initialisation. The same of a
    simulated walk of noise alone on the sphere (`lags.sphere_walk`), with the runs' rate, times, number of
    replicates and dimension (up to `MAX_DIMENSION`), from two initial directions, each shared by all its
    replicates. Where more than two initialisations share a rate, the first pair stands for it.

    Raises:
        InputError: when no two points differ in their initialisation alone, or one has a single checkpoint.
    """
    spec = data.spec
    named = f"{spec.name}: experiment {spec.experiments[PAIRS]['experiment']}"
    pairs = first_of_each_rate(initialisations(spec.points(PAIRS)))
    if not pairs:
        raise InputError(
            f"{named}: found no two points that differ in init_seed alone; needs two initialisations at each "
            "intrinsic rate"
        )
    parts = []
    for a, b in pairs:
        if len(a["steps"]) < 2:
            raise InputError(f"{named}: found one checkpoint of {a['name']}; needs one more, a lag earlier")
        first, second = data.ensemble(PAIRS, a), data.ensemble(PAIRS, b)
        last, earlier = a["steps"][-1], _earlier(a, spec.settings["lag"])
        start, end, other = first.weights(earlier), first.weights(last), second.weights(b["steps"][-1])
        count = spec.experiments[PAIRS]["replicates"]
        found = _cosines(start, end, other, first.scale_groups, count)
        parts.append(_labelled(found, a, last - earlier, WEIGHTS))
        dimension = sum(end[name][0].numel() for names in first.scale_groups.values() for name in names)
        walks = _walks(a, earlier, min(dimension, MAX_DIMENSION), count, spec.generator(WALK, a["name"]))
        parts.append(_labelled(_cosines(*walks, {"w": ("w",)}, count), a, last - earlier, WALK))
        row = compare(
            first.labels(last),
            second.labels(b["steps"][-1]),
            data.test_labels(a["dataset"]),
            first.classes,
            permutations=spec.analysis["permutations"],
            bootstrap=spec.analysis["bootstrap"],
            confidence=spec.confidence,
            seed=stream_seed(spec.seed, "claim", spec.name, a["name"]),
        )
        parts.append(_labelled(pd.DataFrame([row]), a, last - earlier, FUNCTIONS))
    found = pd.concat(parts, ignore_index=True)
    return found[[column for column in COLUMNS if column in found]]


def _cosines(start, end, other, scale_groups, count: int) -> pd.DataFrame:
    """Compare weights at the end: with their own earlier, another trajectory's, another initialisation's."""
    from intrinsic_lr.stats.distance import across

    same, shifted = [(k, k) for k in range(count)], [(k, (k + 1) % count) for k in range(count)]
    tables = []
    for relation, (partner, members) in {
        "within": (start, same),
        "across_replicates": (end, shifted),
        "across_initialisations": (other, same),
    }.items():
        table = across(end, partner, scale_groups, members)
        table = table[table["layer"].isin(LAYERS)].rename(columns={"replicate_a": "replicate"})
        tables.append(table.assign(relation=relation))
    return pd.concat(tables, ignore_index=True)


def _walks(point, earlier: int, dimension: int, count: int, generator: np.random.Generator):
    """Return simulated weights of one initialisation earlier and at the end, and of the other at the end."""
    import torch

    ends = []
    for _ in range(2):
        start = np.tile(generator.standard_normal(dimension), (count, 1))
        steps = [0, earlier, point["steps"][-1]]
        ends.append(sphere_walk(start, steps, point["intrinsic_lr"], generator)[1:])
    (first, second), (_, other) = ends
    return [{"w": torch.from_numpy(states)} for states in (first, second, other)]


COLUMNS = [
    "part", "intrinsic_lr", "delta", "intrinsic_time", "relation", "layer", "replicate", "replicate_b", "l2",
    "cosine", "replicates_a", "total_variation", "total_variation_low", "total_variation_high",
    "null_mean", "null_q95", "p_value", "excess_share", "excess_share_low", "excess_share_high",
]  # fmt: skip


def _earlier(point, lag: float) -> int:
    """Return the checkpoint that lies nearest to `lag`/lambda_e before the last one."""
    wanted = point["steps"][-1] - lag / point["intrinsic_lr"]
    return min(point["steps"][:-1], key=lambda step: abs(step - wanted))


def _labelled(table: pd.DataFrame, point, delta: int, part: str) -> pd.DataFrame:
    rate = point["intrinsic_lr"]
    return table.assign(part=part, intrinsic_lr=rate, delta=delta, intrinsic_time=point["steps"][-1] * rate)


def gaps(table: pd.DataFrame, layer: str) -> pd.Series:
    """Return each replicate's cosine within less that across initialisations, replicates not finite left out."""
    wide = _by_relation(table, layer, "cosine")
    difference = wide["within"] - wide["across_initialisations"]
    return difference[np.isfinite(difference)]


def log_distance_ratios(table: pd.DataFrame) -> pd.Series:
    """Return each replicate's log of the distance across over that within, of the raw weights; as `gaps`."""
    wide = _by_relation(table, "all", "l2")
    ratio = np.log(wide["across_initialisations"]) - np.log(wide["within"])
    return ratio[np.isfinite(ratio)]


def _by_relation(table: pd.DataFrame, layer: str, quantity: str) -> pd.DataFrame:
    relations = ["within", "across_initialisations"]
    rows = table[(table["layer"] == layer) & table["relation"].isin(relations)]
    return rows.pivot(index="replicate", columns="relation", values=quantity).reindex(columns=relations)


def mixed_rates(table: pd.DataFrame, spec: ClaimSpec) -> list[float]:
    """Return the rates at which function space has mixed: the excess share is small with its whole interval."""
    rows = table[table["part"] == FUNCTIONS]
    return list(rows.loc[rows["excess_share_high"] <= spec.thresholds["mixed"], "intrinsic_lr"])


def least_ratio(gap: float) -> float:
    """Return the ratio of distances, across over within, that belongs to a gap of cosines.

    1 / sqrt(1 - gap): vectors of one norm, orthogonal across (derived). Any ratio above 1 says "further apart",
    but a walk of noise alone has that too, by what its directions still share at the lag.
    """
    return (1 - gap) ** -0.5


def judge(table: pd.DataFrame, spec: ClaimSpec) -> list[Finding]:
    """Judge, where function space has mixed, cosines and distances within a trajectory against those across.

    Control: the walks of noise alone, whose weights do mix, judged alike. Where function space has mixed nowhere,
    there is nothing to judge; a rate without predictions to tell is inconclusive.
    """
    findings = []
    functions = table[table["part"] == FUNCTIONS]
    unknown = list(functions.loc[functions["excess_share_high"].isna(), "intrinsic_lr"])
    for finding, part, words in (
        (spec.criterion, WEIGHTS, "weights of one trajectory lie closer than those of two initialisations"),
        (spec.control, WALK, "a walk of noise alone on the sphere, from two initial directions"),
    ):
        for rate in [*mixed_rates(table, spec), *unknown] or [np.nan]:
            rows = table[(table["part"] == part) & (table["intrinsic_lr"] == rate) & (rate not in unknown)]
            for layer, name in LAYERS.items():
                mean, low, high, n = mean_interval(gaps(rows, layer), spec.confidence)
                findings.append(
                    finding(
                        f"At lambda_e = {rate:.3g} {words}: cosine ({name}).",
                        "cosine within a trajectory less cosine across initialisations",
                        mean,
                        (low, high),
                        n=n,
                        roles=[PAIRS],
                        allowed=Range(low=spec.thresholds["gap"]),
                    )
                )
            mean, low, high, n = mean_interval(log_distance_ratios(rows), spec.confidence)
            findings.append(
                finding(
                    f"At lambda_e = {rate:.3g} {words}: distance (raw weights).",
                    "distance across initialisations over that within a trajectory, geometric mean",
                    np.exp(mean),
                    (np.exp(low), np.exp(high)),
                    n=n,
                    roles=[PAIRS],
                    allowed=Range(low=least_ratio(spec.thresholds["gap"])),
                )
            )
    return findings


@styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw the cosines of the weights beside the total variation of the predictions, for every rate."""
    figure, ((cosine, variation),) = panels(1, 2, 3.0, width_ratios=[1.5, 1])
    weights, functions = table[table["part"] == WEIGHTS], table[table["part"] == FUNCTIONS].assign(p_holm=np.nan)
    mixed = mixed_rates(table, spec)
    finite = functions["p_value"].notna()
    if finite.any():
        functions.loc[finite, "p_holm"] = holm(functions.loc[finite, "p_value"])
    rates = sorted(functions["intrinsic_lr"].unique())
    places = dict(zip(rates, range(len(rates)), strict=True))
    for offset, (relation, style) in zip((-0.2, 0, 0.2), _MARKS.items(), strict=True):
        for layer, shift, face in (("all", -0.04, style["color"]), ("all_layer_normalised", 0.04, "white")):
            rows = weights[(weights["relation"] == relation) & (weights["layer"] == layer)]
            for rate, place in places.items():
                mean, low, high, _ = mean_interval(
                    rows.loc[rows["intrinsic_lr"] == rate, "cosine"], spec.confidence
                )
                error = np.nan_to_num([[mean - low], [high - mean]])
                at = place + offset + shift
                cosine.errorbar(at, mean, yerr=error, ls="", ms=5, mfc=face, capsize=2, **style)
    for rate, place in places.items():
        delta = weights.loc[weights["intrinsic_lr"] == rate, "delta"].max()
        walk = sphere_walk_cosine(rate, delta)
        cosine.plot([place - 0.35, place + 0.35], [walk, walk], color="black", ls=":", lw=1.4)
        far = weights[(weights["intrinsic_lr"] == rate) & (weights["relation"] == "across_initialisations")]
        least = far.loc[far["layer"] == "all", "cosine"].mean() + spec.thresholds["gap"]
        cosine.plot([place - 0.35, place + 0.35], [least, least], color="0.4", ls="--", lw=1.1)
        row = functions[functions["intrinsic_lr"] == rate].iloc[0]
        variation.fill_between(
            [place - 0.3, place + 0.3], 100 * row["null_mean"], 100 * row["null_q95"], color="0.6", alpha=0.5, lw=0
        )
        face = _FUNCTION if rate in mixed else "white"
        variation.plot(place, 100 * row["total_variation"], marker="D", ms=5, color=_FUNCTION, mfc=face)
        text = (
            f"{100 * row['excess_share']:.1f} %\np = {row['p_holm']:.2g}"
            if np.isfinite(row["p_holm"])
            else "no runs"
        )
        top = np.nanmax([100 * row["total_variation"], 100 * row["null_q95"], 0])
        variation.annotate(text, (place, top), (0, 6), textcoords="offset points", ha="center", fontsize="x-small")
    labels = [f"{rate:.2g}" for rate in rates]
    for axes in (cosine, variation):
        axes.set_xticks(range(len(rates)), labels)
        axes.set(xlabel=r"intrinsic learning rate $\lambda_e$", xlim=(-0.6, max(len(rates), 1) - 0.4))
        axes.grid(axis="x", visible=False)
    cosine.axhline(0, color="0.5", lw=0.8)
    cosine.set(ylabel="cosine of weights", title="Weight space", ylim=(-0.08, 1.05))
    variation.set(ylabel="total variation (% of images)", title="Function space")
    variation.set_ylim(0, 1.3 * max(variation.get_ylim()[1], 1e-9))
    handles = [Line2D([], [], ls="", ms=5, label=RELATIONS[name], **style) for name, style in _MARKS.items()]
    handles += [
        Line2D([], [], color="black", ls=":", label="walk of noise alone, at the lag within"),
        Line2D([], [], color="0.4", ls="--", lw=1.1, label="threshold for one trajectory"),
        Line2D([], [], color=_FUNCTION, marker="D", ls="", ms=5, label="two initialisations: predictions"),
        Line2D([], [], color="0.6", alpha=0.5, lw=6, label="their permutation null, mean to 95 %"),
    ]
    n = int(functions["replicates_a"].max()) if len(functions) else 0
    end = functions["intrinsic_time"].max() if len(functions) else np.nan
    lag = (weights["delta"] * weights["intrinsic_lr"]).max() if len(weights) else np.nan
    note = (
        f"at {end:.3g}$/\\lambda_e$; within a trajectory a lag of {lag:.3g}$/\\lambda_e$; mean and "
        f"{100 * spec.confidence:g} % interval, {n} runs of each\n"
        "open circles, squares, triangles: every layer at unit norm; open diamonds: not mixed\n"
        "numbers: excess share of the disagreement, p of the permutation test (Holm)"
    )
    legend_below(figure, handles, 2, note)
    figure.suptitle("Two initialisations predict nearly alike while their weights stay far apart")
    return figure


_FUNCTION = "#CC79A7"
_MARKS = {
    "within": {"color": "#0072B2", "marker": "o"},
    "across_replicates": {"color": "#E69F00", "marker": "s"},
    "across_initialisations": {"color": "#D55E00", "marker": "^"},
}
