"""At one intrinsic learning rate, another learning rate is another norm of the initial weights, and no more.

Exactly: (eta, lambda, w_0) and (c^2 eta, lambda / c^2, c w_0) train the same directions and functions (derived,
F9). Without rescaling the initialisation, equal intrinsic rates lead to the same accuracy and distribution of
labels in the end, while a tenfold different one does not.
"""

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from intrinsic_lr.analyses.tables import differing_axes, same_intrinsic_lr
from intrinsic_lr.claims.shared.exact import worst_finding
from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec
from intrinsic_lr.claims.shared.verdicts import Finding, Range
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.seeding import stream_seed
from intrinsic_lr.figures.style import legend_below, ordered_colours, panels, styled
from intrinsic_lr.stats.intervals import difference, holm
from intrinsic_lr.stats.theory import rescaled

RESCALED, ACCURACY, LABELS = "rescaled", "accuracy", "labels"
"""Parts of the table: exact pairs, final accuracies of points, label distributions of pairs of points."""
SAME, DIFFERENT = "same", "different"
_SMALLEST = 1e-17
"""Where an exact zero is drawn on a logarithmic axis."""


def measure(data: ClaimData) -> pd.DataFrame:
    """Return exact pairs (checkpoint, replicate), accuracies (point, replicate) and labels (pair of points)."""
    return pd.concat([_rescaled(data), _equal_rates(data)], ignore_index=True)


def exact_pairs(points: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any], float]]:
    """Yield the pairs (point, rescaled point, c) whose rates and initial norms belong together."""
    for a in points:
        for b in points:
            c = b["init_scale"] / a["init_scale"]
            rates = np.array(rescaled(a["lr"], a["weight_decay"], c))
            apart = set(differing_axes(a, b)) == {"lr", "init_scale"}
            if c > 1 and apart and np.allclose(rates, [b["lr"], b["weight_decay"]], rtol=1e-9):
                yield a, b, c


def label_pairs(points: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any], str]]:
    """Yield the pairs that differ in the learning rate at one intrinsic rate, and of each of their points the
    partners at an intrinsic rate ten times higher or lower.
    """
    pairs = [(a, b, set(differing_axes(a, b))) for a, b in combinations(points, 2)]
    same = [(a, b) for a, b, axes in pairs if axes == {"lr"} and same_intrinsic_lr(a, b)]
    compared = {point["name"] for pair in same for point in pair}
    for a, b in same:
        yield a, b, SAME
    for a, b, axes in pairs:
        tenfold = np.isclose(abs(np.log10(a["intrinsic_lr"] / b["intrinsic_lr"])), 1.0, atol=0.05)
        if axes == {"intrinsic_lr"} and tenfold and compared & {a["name"], b["name"]}:
            yield a, b, DIFFERENT


def _rescaled(data: ClaimData) -> pd.DataFrame:
    from intrinsic_lr.claims.shared.equivalence import deviations

    parts = []
    for a, b, c in exact_pairs(data.spec.points("pair")):
        dataset = data.dataset(a["dataset"], a["dtype"])
        found = deviations(data.ensemble("pair", a), data.ensemble("pair", b), a["steps"], dataset)
        named = {
            "part": RESCALED,
            "point": a["name"],
            "partner": b["name"],
            "lr": a["lr"],
            "partner_lr": b["lr"],
            "intrinsic_lr": a["intrinsic_lr"],
        }
        parts.append(found.assign(**named, momentum=a["momentum"], factor=c))
    if not parts:
        experiment = data.spec.experiments["pair"]["experiment"]
        raise InputError(f"experiment {experiment}: found no point with a partner of rescaled rates and weights")
    return pd.concat(parts, ignore_index=True)


def _equal_rates(data: ClaimData) -> pd.DataFrame:
    from intrinsic_lr.claims.shared.equivalence import predicted_labels
    from intrinsic_lr.stats.disagreement import compare

    spec, labels, rows = data.spec, {}, []
    pairs = list(label_pairs(spec.points("mixing")))
    if not pairs:
        experiment = spec.experiments["mixing"]["experiment"]
        raise InputError(f"experiment {experiment}: found no two learning rates at one intrinsic rate")
    replicates = range(spec.experiments["mixing"]["replicates"])
    history = data.history("mixing")
    history = history[history["step"] * history["intrinsic_lr"] >= spec.settings["settled"] * (1 - 1e-9)]
    for point in {point["name"]: point for a, b, _ in pairs for point in (a, b)}.values():
        dataset = data.dataset(point["dataset"], point["dtype"])
        found = predicted_labels(data.ensemble("mixing", point), max(point["steps"]), dataset)
        labels[point["name"]] = found
        late = history[history["point"] == point["name"]].groupby("replicate")["test_accuracy"]
        # One step's accuracy fluctuates: the mean over the second stretch of the run is what is compared.
        accuracy = late.mean().where(late.count() == late.size()).reindex(replicates)
        named = {
            "part": ACCURACY,
            "lr": point["lr"],
            "intrinsic_lr": point["intrinsic_lr"],
            "point": point["name"],
        }
        rows += [
            {**named, "replicate": replicate, "test_accuracy": value} for replicate, value in accuracy.items()
        ]
    for a, b, relation in pairs:
        dataset = data.dataset(a["dataset"], a["dtype"])
        rows.append(
            {
                "part": LABELS,
                "relation": relation,
                "point": a["name"],
                "partner": b["name"],
                "lr": a["lr"],
                "partner_lr": b["lr"],
                "intrinsic_lr": a["intrinsic_lr"],
                "partner_intrinsic_lr": b["intrinsic_lr"],
                **compare(
                    labels[a["name"]],
                    labels[b["name"]],
                    dataset.test_labels.cpu().numpy(),
                    len(dataset.info["classes"]),
                    permutations=spec.analysis["permutations"],
                    bootstrap=spec.analysis["bootstrap"],
                    confidence=spec.confidence,
                    seed=stream_seed(spec.seed, "claim", spec.name, a["name"], b["name"]),
                ),
            }
        )
    return pd.DataFrame(rows)


def judge(table: pd.DataFrame, spec: ClaimSpec) -> list[Finding]:
    """Judge the exact pairs by their largest deviation, the others by accuracy and by a permutation test."""
    planned = len(list(exact_pairs(spec.points("pair")))) * spec.experiments["pair"]["replicates"]
    findings = [
        worst_finding(
            table[table["part"] == RESCALED],
            quantity,
            ["point", "partner", "replicate"],
            planned,
            spec,
            f"Rescaled together, rates and initial weights give the same {quantity}.",
            f"largest {statistic} over the run",
            spec.thresholds["deviation"],
            roles=["pair"],
        )
        for quantity, statistic in _EXACT.items()
    ]
    return findings + _accuracy_findings(table, spec) + _label_findings(table, spec)


_EXACT = {
    "directions": "distance of the weights at unit norm",
    "logits": "relative difference of test logits",
}


def _accuracy_findings(table: pd.DataFrame, spec: ClaimSpec) -> list[Finding]:
    """Return a criterion for each pair at one intrinsic rate: a mean difference within the margin.

    All of them have to hold, so their p-values stay as they are (an intersection-union test).
    """
    margin = spec.thresholds["accuracy_margin"]
    pairs = table[(table["part"] == LABELS) & (table["relation"] == SAME)]
    found = [
        difference(_accuracies(table, a), _accuracies(table, b), spec.confidence, margin)
        for a, b in zip(pairs["point"], pairs["partner"], strict=True)
    ]
    statistic = "difference of mean late test accuracies"
    if not found:
        statement = "Learning rates at one intrinsic rate have the same test accuracy in the end: no such pair."
        allowed = Range(-margin, margin)
        return [spec.criterion(statement, statistic, np.nan, None, n=0, roles=["mixing"], allowed=allowed)]
    return [
        spec.criterion(
            f"Learning rates {a:g} and {b:g} at lambda_e {rate:g} have the same test accuracy in the end.",
            statistic,
            each.estimate,
            (each.low, each.high),
            n=each.n,
            roles=["mixing"],
            allowed=Range(-margin, margin),
            p_value=each.p_equivalent,
            null="(Welch; p: two one-sided tests)",
        )
        for a, b, rate, each in zip(pairs["lr"], pairs["partner_lr"], pairs["intrinsic_lr"], found, strict=True)
    ]


def _accuracies(table: pd.DataFrame, point: str) -> pd.Series:
    """Return the late accuracy of each replicate of a point; NaN where no step of its history is late enough."""
    return table.loc[(table["part"] == ACCURACY) & (table["point"] == point), "test_accuracy"]


def _label_findings(table: pd.DataFrame, spec: ClaimSpec) -> list[Finding]:
    """Return a permutation test for each pair: criteria at one intrinsic rate, controls at different ones."""
    findings = []
    for relation, finding in ((SAME, spec.criterion), (DIFFERENT, spec.control)):
        pairs = table[(table["part"] == LABELS) & (table["relation"] == relation)]
        if pairs.empty:
            where = "at one intrinsic rate" if relation == SAME else "at a tenfold intrinsic rate"
            statement = f"Points {where} give the test set the same labels: no such pair."
            findings.append(finding(statement, _VARIATION, np.nan, None, n=0, roles=["mixing"]))
        for row, p_value in zip(pairs.itertuples(), _adjusted(pairs["p_value"]), strict=True):
            sides = (
                f"Learning rates {row.lr:g} and {row.partner_lr:g} at lambda_e {row.intrinsic_lr:g}"
                if relation == SAME
                else f"At learning rate {row.lr:g} lambda_e {row.intrinsic_lr:g} and {row.partner_intrinsic_lr:g}"
            )
            findings.append(
                finding(
                    f"{sides} give the test set the same labels.",
                    _VARIATION,
                    row.total_variation,
                    (row.total_variation_low, row.total_variation_high),
                    n=min(row.replicates_a, row.replicates_b),
                    roles=["mixing"],
                    p_value=p_value,
                    null=f"permutation null {row.null_mean:.3g} on average (p: Holm)",
                )
            )
    return findings


_VARIATION = "total variation of the label distributions"


def _adjusted(p_values: Any) -> np.ndarray:
    """Return Holm's p-values; NaN for all where one is missing, since their number is then not known."""
    p_values = np.asarray(p_values, np.float64)
    return holm(p_values) if len(p_values) and np.isfinite(p_values).all() else np.full(len(p_values), np.nan)


@styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw exact pairs against the step, differences of accuracy, and total variations over their nulls."""
    figure, ((left, middle, right),) = panels(1, 3, 2.9, width_ratios=[1, 0.8, 1.2])
    exact, labels = table[table["part"] == RESCALED], table[table["part"] == LABELS]
    handles = _draw_rescaled(left, exact, spec)
    _draw_accuracies(middle, table, labels[labels["relation"] == SAME], spec)
    handles += _draw_labels(right, labels)
    runs = labels[["replicates_a", "replicates_b"]].min(axis=None) if len(labels) else 0
    note = (
        f"first panel: largest of {exact['replicate'].nunique()} replicates on the same batches; second: mean "
        f"difference, {spec.confidence:.0%} interval (Welch); {runs:.0f} runs a side"
    )
    legend_below(figure, handles, 3, note)
    figure.suptitle(r"At one $\lambda_e=\eta\lambda$ another learning rate only rescales the initialisation")
    return figure


def _draw_rescaled(ax: Axes, exact: pd.DataFrame, spec: ClaimSpec) -> list[Line2D]:
    handles = []
    momenta = sorted(exact["momentum"].unique())
    for momentum, colour in ordered_colours(momenta).items():
        for quantity, dash in zip(_EXACT, ("-", "--"), strict=True):
            rows = exact[exact["momentum"] == momentum]
            finite = rows[np.isfinite(rows[quantity])]
            largest = finite.groupby("step")[quantity].max().clip(lower=_SMALLEST)
            label = f"{quantity}, momentum {momentum:g}"
            handles += ax.plot(largest.index, largest, ls=dash, color=colour, marker="o", ms=3, lw=1, label=label)
    threshold = spec.thresholds["deviation"]
    handles.append(ax.axhline(threshold, color="tab:red", lw=1, ls=":", label="threshold, margin"))
    factors = " and ".join(f"{factor:g}" for factor in sorted(exact["factor"].unique()))
    ax.set(yscale="log", ylim=(_SMALLEST / 3, 10), xlabel="step", ylabel="largest deviation")
    ax.set_title(rf"exact: $w_0\times$ {factors}")
    return handles


def _draw_accuracies(ax: Axes, table: pd.DataFrame, pairs: pd.DataFrame, spec: ClaimSpec) -> None:
    names, largest = [], spec.thresholds["accuracy_margin"]
    for place, row in enumerate(pairs.itertuples()):
        a, b = _accuracies(table, row.point), _accuracies(table, row.partner)
        found = difference(a, b, spec.confidence)
        reach = [[found.estimate - found.low], [found.high - found.estimate]]
        ax.errorbar([place], [found.estimate], yerr=reach, fmt="o", color="0.2", ms=4, capsize=3)
        names.append(f"{row.intrinsic_lr:g}")
        largest = np.nanmax([largest, abs(found.low), abs(found.high)])
    margin = spec.thresholds["accuracy_margin"]
    for bound in (-margin, margin):
        ax.axhline(bound, color="tab:red", lw=1, ls=":")
    ax.axhline(0, color="0.6", lw=0.8)
    ax.set_xticks(range(len(names)), names)
    ax.set(xlim=(-0.6, len(names) - 0.4), ylim=(-1.2 * largest, 1.2 * largest), xlabel=r"$\lambda_e$")
    sides = pairs[["lr", "partner_lr"]].drop_duplicates()
    text = "; ".join(rf"$\eta$ = {row.partner_lr:g} less {row.lr:g}" for row in sides.itertuples())
    ax.set(title="late test accuracy", ylabel=f"difference, {text}")


def _draw_labels(ax: Axes, labels: pd.DataFrame) -> list[Line2D]:
    colours = {SAME: "#0072B2", DIFFERENT: "#D55E00"}
    names = []
    for place, row in enumerate(labels.itertuples()):
        ax.plot([row.null_mean, row.null_q95], [place, place], color="0.7", lw=5, solid_capstyle="butt")
        ax.plot([row.total_variation], [place], ls="", marker="o" if row.relation == SAME else "s", ms=4.5,
                color=colours[row.relation])  # fmt: skip
        names.append(
            rf"$\eta$ {row.lr:g}, {row.partner_lr:g}; $\lambda_e$ {row.intrinsic_lr:g}"
            if row.relation == SAME
            else rf"$\eta$ {row.lr:g}; $\lambda_e$ {row.intrinsic_lr:g}, {row.partner_intrinsic_lr:g}"
        )
    ax.set_yticks(range(len(names)), names)
    largest = labels[["total_variation", "null_q95"]].max(axis=None) if len(labels) else np.nan
    ax.set_xlim(0, 1.1 * largest if np.isfinite(largest) else 1)
    ax.set(ylim=(len(names) - 0.5, -0.5), xlabel="total variation of labels")
    ax.set_title("label distributions")
    return [
        Line2D([], [], color=colours[SAME], marker="o", ls="", ms=4.5, label=r"one $\lambda_e$"),
        Line2D([], [], color=colours[DIFFERENT], marker="s", ls="", ms=4.5, label=r"control: tenfold $\lambda_e$"),
        Line2D([], [], color="0.7", lw=5, label="permutation null, mean to 95 %"),
    ]
