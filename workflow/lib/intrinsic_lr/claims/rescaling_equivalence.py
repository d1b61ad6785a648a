"""At one intrinsic learning rate, another learning rate is another norm of the initial weights, and no more.

Exactly: (eta, lambda, w_0) and (c^2 eta, lambda / c^2, c w_0) train the same directions and functions (derived,
F9). Without rescaling the initialisation, equal intrinsic rates lead to the same accuracy and distribution of
labels in the end, while a tenfold different one does not.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from intrinsic_lr.claims.shared.exact import EQUIVALENCE, SMALLEST, plot_largest, worst_finding
from intrinsic_lr.claims.shared.spec import NOTHING, ClaimData, ClaimSpec, estimate_of
from intrinsic_lr.claims.shared.verdicts import Findings, Range
from intrinsic_lr.figures.style import error_bar, labelled, legend_below, ordered_colours, panels, styled
from intrinsic_lr.stats.disagreement import NULL_QUANTILE
from intrinsic_lr.stats.intervals import difference, holm
from intrinsic_lr.study.experiment import PlannedPoint
from intrinsic_lr.study.pairs import DIFFERENT, SAME, equal_rates, rescaled

RESCALED, ACCURACY, LABELS = "rescaled", "accuracy", "labels"
"""Parts of the table: exact pairs, final accuracies of points, label distributions of pairs of points."""
_VARIATION = "total variation of the label distributions"


def measure(data: ClaimData) -> pd.DataFrame:
    """Return exact pairs (checkpoint, replicate), accuracies (point, replicate) and labels (pair of points)."""
    exact = deviations_of(data, rescaled(data.spec.points("pair")))
    return pd.concat([exact.assign(part=RESCALED), _equal_rates(data)], ignore_index=True)


def deviations_of(data: ClaimData, pairs: Iterable[tuple[PlannedPoint, PlannedPoint, float]]) -> pd.DataFrame:
    """Return both deviations of pairs (a, b, c) of points of the role `pair`, by checkpoint and replicate."""
    from intrinsic_lr.claims.shared.equivalence import deviations

    parts = []
    for a, b, c in pairs:
        ensembles, dataset = (data.ensemble("pair", point) for point in (a, b)), data.dataset(a.dataset, a.dtype)
        found = deviations(*ensembles, a.steps, dataset)
        parts.append(found.assign(**_names(a, b), momentum=a.momentum, factor=c))
    return pd.concat(parts, ignore_index=True)


def _equal_rates(data: ClaimData) -> pd.DataFrame:
    from intrinsic_lr.claims.shared.equivalence import predicted_labels

    spec, labels, rows = data.spec, {}, []
    pairs = list(equal_rates(spec.points("mixing")))
    history = data.history("mixing")
    history = history[history["step"] * history["intrinsic_lr"] >= spec.settings["settled"] * (1 - 1e-9)]
    for point in {point.name: point for a, b, _ in pairs for point in (a, b)}.values():
        dataset = data.dataset(point.dataset, point.dtype)
        labels[point.name] = predicted_labels(data.ensemble("mixing", point), max(point.steps), dataset)
        late = history[history["point"] == point.name].groupby("replicate")["test_accuracy"]
        # One step's accuracy fluctuates: the mean over the second stretch of the run is what is compared.
        accuracy = late.mean().where(late.count() == late.size()).reindex(range(spec.replicates("mixing")))
        named = {"part": ACCURACY, "lr": point.lr, "intrinsic_lr": point.intrinsic_lr, "point": point.name}
        rows += [named | {"replicate": replicate, "test_accuracy": value} for replicate, value in accuracy.items()]
    for a, b, relation in pairs:
        dataset = data.dataset(a.dataset, a.dtype)
        truth, classes = dataset.test_labels.cpu().numpy(), len(dataset.info["classes"])
        of_both = labels[a.name], labels[b.name]
        found = spec.compare_labels((a, b), of_both, truth, classes, a.name, b.name)
        named = {"part": LABELS, "relation": relation, "partner_intrinsic_lr": b.intrinsic_lr}
        rows.append(named | _names(a, b) | found)
    return pd.DataFrame(rows)


def _names(a: PlannedPoint, b: PlannedPoint) -> dict[str, str | float]:
    rates = {"lr": a.lr, "partner_lr": b.lr, "intrinsic_lr": a.intrinsic_lr}
    return {"point": a.name, "partner": b.name, **rates}


def judge(table: pd.DataFrame, spec: ClaimSpec, changed: str = "rates and initial weights") -> Findings:
    """Judge the exact pairs by their largest deviation, the others by accuracy and by a permutation test.

    `changed` says what is rescaled together in the exact pairs.
    """
    planned = len(list(rescaled(spec.points("pair")))) * spec.replicates("pair")
    for quantity, statistic in EQUIVALENCE.items():
        cells = table[table["part"] == RESCALED], quantity, ["point", "partner", "replicate"], planned
        statement = f"Rescaled together, {changed} give the same {quantity}."
        limit = spec.thresholds["deviation"]
        yield worst_finding(*cells, spec, statement, f"largest {statistic} over the run", limit, "pair")
    labels = table[table["part"] == LABELS]
    yield from _accuracy_findings(table, labels[labels["relation"] == SAME], spec)
    yield from _label_findings(labels, spec)


def _accuracy_findings(table: pd.DataFrame, pairs: pd.DataFrame, spec: ClaimSpec) -> Findings:
    """Yield a criterion for each pair at one intrinsic rate: a mean difference within the margin.

    All of them have to hold, so their p-values stay as they are (an intersection-union test).
    """
    margin, statistic = spec.thresholds["accuracy_margin"], "difference of mean late test accuracies"
    allowed, same = Range.about(0, margin), "the same test accuracy in the end"
    for row in pairs.itertuples():
        found = difference(*_accuracies(table, row), spec.confidence, margin)
        judged = {"allowed": allowed, "null": "(Welch; p: two one-sided tests)", "p_value": found.p_equivalent}
        yield spec.criterion(f"{_rates(row)} have {same}.", statistic, estimate_of(found), "mixing", **judged)
    if pairs.empty:
        statement = f"Learning rates at one intrinsic rate have {same}: no such pair."
        yield spec.criterion(statement, statistic, NOTHING, "mixing", allowed=allowed)


def _rates(pair) -> str:
    return f"Learning rates {pair.lr:g} and {pair.partner_lr:g} at lambda_e {pair.intrinsic_lr:g}"


def _accuracies(table: pd.DataFrame, pair) -> list[pd.Series]:
    """Return the late accuracies of both points of a pair; NaN where no step of a history is late enough."""
    rows = table[table["part"] == ACCURACY]
    return [rows.loc[rows["point"] == point, "test_accuracy"] for point in (pair.point, pair.partner)]


def _label_findings(labels: pd.DataFrame, spec: ClaimSpec) -> Findings:
    """Yield a permutation test for each pair: criteria at one intrinsic rate, controls at different ones."""
    for relation, judged, where in (
        (SAME, spec.criterion, "at one intrinsic rate"),
        (DIFFERENT, spec.control, "at a tenfold intrinsic rate"),
    ):
        pairs = labels[labels["relation"] == relation]
        if pairs.empty:
            statement = f"Points {where} give the test set the same labels: no such pair."
            yield judged(statement, _VARIATION, NOTHING, "mixing")
        # Where one p-value is missing their number is not known, and all are.
        known = np.isfinite(pairs["p_value"].to_numpy(np.float64)).all()
        adjusted = holm(pairs["p_value"] if known else [np.nan] * len(pairs))
        for row, p_value in zip(pairs.itertuples(), adjusted, strict=True):
            different = f"{row.intrinsic_lr:g} and {row.partner_intrinsic_lr:g}"
            sides = _rates(row) if relation == SAME else f"At learning rate {row.lr:g} lambda_e {different}"
            interval = row.total_variation, row.total_variation_low, row.total_variation_high
            estimate = *interval, min(row.replicates_a, row.replicates_b)
            null = f"permutation null {row.null_mean:.3g} on average (p: Holm)"
            statement = f"{sides} give the test set the same labels."
            yield judged(statement, _VARIATION, estimate, "mixing", p_value=p_value, null=null)


@styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw exact pairs against the step, differences of accuracy, and total variations over their nulls."""
    title = r"At one $\lambda_e=\eta\lambda$ another learning rate only rescales the initialisation"
    exact = table[table["part"] == RESCALED]
    colours = ordered_colours(sorted(exact["momentum"].unique()))
    lines = [(f", momentum {mu:g}", colour, exact[exact["momentum"] == mu]) for mu, colour in colours.items()]
    return draw_rescaling(table, spec, title, lines)


def draw_rescaling(
    table: pd.DataFrame, spec: ClaimSpec, title: str, lines: Sequence[tuple[str, Any, pd.DataFrame]]
) -> Figure:
    """Draw the panels of `draw` under a title; `lines` are name, colour and rows of each kind of exact pairs."""
    figure, ((left, middle, right),) = panels(1, 3, 2.9, width_ratios=[1, 0.8, 1.2])
    exact, labels = table[table["part"] == RESCALED], table[table["part"] == LABELS]
    _draw_deviations(left, lines, exact, spec)
    _draw_accuracies(middle, table, labels[labels["relation"] == SAME], spec)
    _draw_labels(right, labels)
    runs = labels[["replicates_a", "replicates_b"]].min(axis=None) if len(labels) else 0
    note = (
        f"first panel: largest of {exact['replicate'].nunique()} replicates on the same batches; second: mean "
        f"difference, {spec.percent} interval (Welch); {runs:.0f} runs a side"
    )
    return legend_below(figure, labelled(figure), 3, note, title)


def _draw_deviations(ax: Axes, lines: Sequence, exact: pd.DataFrame, spec: ClaimSpec) -> None:
    for name, colour, rows in lines:
        for quantity, dash in zip(EQUIVALENCE, ("-", "--"), strict=True):
            look = {"label": f"{quantity}{name}", "color": colour, "ls": dash}
            plot_largest(ax, rows, quantity, marker="o", ms=3, lw=1, **look)
    ax.axhline(spec.thresholds["deviation"], color="tab:red", lw=1, ls=":", label="threshold, margin")
    factors = " and ".join(f"{factor:g}" for factor in sorted(exact["factor"].unique()))
    ax.set(yscale="log", ylim=(SMALLEST / 3, 10), xlabel="step", ylabel="largest deviation")
    ax.set_title(rf"exact: $w_0\times$ {factors}")


def _draw_accuracies(ax: Axes, table: pd.DataFrame, pairs: pd.DataFrame, spec: ClaimSpec) -> None:
    margin = largest = spec.thresholds["accuracy_margin"]
    for place, row in enumerate(pairs.itertuples()):
        found = difference(*_accuracies(table, row), spec.confidence)
        error_bar(ax, place, estimate_of(found), marker="o", color="0.2", ms=4, capsize=3)
        largest = np.nanmax([largest, abs(found.low), abs(found.high)])
    for bound in (-margin, margin):
        ax.axhline(bound, color="tab:red", lw=1, ls=":")
    ax.axhline(0, color="0.6", lw=0.8)
    ax.set_xticks(range(len(pairs)), [f"{rate:g}" for rate in pairs["intrinsic_lr"]])
    ax.set(xlim=(-0.6, len(pairs) - 0.4), ylim=(-1.2 * largest, 1.2 * largest), xlabel=r"$\lambda_e$")
    sides = pairs[["lr", "partner_lr"]].drop_duplicates()
    text = "; ".join(rf"$\eta$ = {row.partner_lr:g} less {row.lr:g}" for row in sides.itertuples())
    ax.set(title="late test accuracy", ylabel=f"difference, {text}")


def _draw_labels(ax: Axes, labels: pd.DataFrame) -> None:
    looks = {
        SAME: {"color": "#0072B2", "marker": "o", "label": r"one $\lambda_e$"},
        DIFFERENT: {"color": "#D55E00", "marker": "s", "label": r"control: tenfold $\lambda_e$"},
    }
    null = {
        "color": "0.7",
        "solid_capstyle": "butt",
        "label": f"permutation null, mean to {NULL_QUANTILE:g} quantile",
    }
    names = []
    for place, row in enumerate(labels.itertuples()):
        ax.plot([row.null_mean, row.null_q95], [place, place], lw=5, **null)
        ax.plot([row.total_variation], [place], ls="", ms=4.5, **looks[row.relation])
        rates = dict.fromkeys((f"{row.lr:g}", f"{row.partner_lr:g}"))
        intrinsic = dict.fromkeys((f"{row.intrinsic_lr:g}", f"{row.partner_intrinsic_lr:g}"))
        names.append(rf"$\eta$ {', '.join(rates)}; $\lambda_e$ {', '.join(intrinsic)}")
    ax.set_yticks(range(len(names)), names)
    largest = labels[["total_variation", "null_q95"]].max(axis=None) if len(labels) else np.nan
    ax.set_xlim(0, 1.1 * largest if np.isfinite(largest) else 1)
    ax.set(ylim=(len(names) - 0.5, -0.5), xlabel="total variation of labels", title="label distributions")
