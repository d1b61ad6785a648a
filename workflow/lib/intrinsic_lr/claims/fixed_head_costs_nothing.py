"""The final test accuracy with the last linear layer fixed at its random initialisation, against a trained one."""

from itertools import product

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from intrinsic_lr.analyses.tables import with_point
from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec, estimate_of
from intrinsic_lr.claims.shared.verdicts import Findings, Range
from intrinsic_lr.figures.style import count_text, error_bar, labelled, legend_below, panels, styled
from intrinsic_lr.stats.intervals import difference, mean_interval, p_not_worse
from intrinsic_lr.study.experiment import PlannedPoint

FIXED, TRAINED, HEAD_ONLY = "fixed", "trained", "head_only"
NETWORK, CONVOLUTIONAL = "network", "convolutional"
_NETWORKS = {
    NETWORK: ("network", ["fixed", "trained"]),
    CONVOLUTIONAL: ("convolutional network", ["convolutional"]),
}
_LOOKS = {
    FIXED: {"label": "head fixed", "color": "#0173b2", "marker": "o"},
    TRAINED: {"label": "head trained", "color": "#de8f05", "marker": "s"},
    HEAD_ONLY: {"label": "nothing but the head trained", "color": "#949494", "marker": "^"},
}
_COLUMNS = ["step", "replicate", "train_accuracy", "test_accuracy"]


def measure(data: ClaimData) -> pd.DataFrame:
    """Return every run's final accuracies, and those of logistic regression on untrained features."""
    parts = []
    for network, role in ((network, role) for network, (_, roles) in _NETWORKS.items() for role in roles):
        heads = _heads(data, role)
        history = data.history(role)
        last = history[history["step"] == history.groupby("point")["step"].transform("max")]
        for point in data.spec.points(role):
            rows = last.loc[last["point"] == point.name, _COLUMNS].reset_index(drop=True)
            parts.append(with_point(rows, point).assign(network=network, head=heads[point.name]))
            if heads[point.name] == FIXED:
                rows = with_point(_head_only(data, role, point), point)
                parts.append(rows.assign(network=network, head=HEAD_ONLY))
    return pd.concat(parts, ignore_index=True)


def _heads(data: ClaimData, role: str) -> dict[str, str]:
    """Return for each point of a role, by name, whether its head is fixed or trained."""
    models = {point.name: data.ensemble(role, point).model() for point in data.spec.points(role)}
    return {name: TRAINED if model.spec.head == "trained" else FIXED for name, model in models.items()}


def _head_only(data: ClaimData, role: str, point: PlannedPoint) -> pd.DataFrame:
    """Fit the head alone, to convergence, on the features of each replicate's initial weights."""
    from sklearn.linear_model import LogisticRegression

    from intrinsic_lr.training.evaluation import EvaluationData, features

    ensemble = data.ensemble(role, point)
    images = EvaluationData.of(data.dataset(point.dataset, point.dtype))
    weights = {name: value.to(images.train_images.device) for name, value in ensemble.weights(0).items()}
    train, test = (part.double().cpu().numpy() for part in features(ensemble.model(), weights, images))
    train_labels, test_labels = images.train_labels.cpu().numpy(), images.test_labels.cpu().numpy()
    rows = []
    for replicate in range(len(train)):
        head = LogisticRegression(max_iter=1000, tol=1e-3).fit(train[replicate], train_labels)
        accuracies = head.score(train[replicate], train_labels), head.score(test[replicate], test_labels)
        rows.append((0, replicate, *accuracies))
    return pd.DataFrame(rows, columns=_COLUMNS)


def judge(table: pd.DataFrame, spec: ClaimSpec) -> Findings:
    """Judge whether a fixed head is no worse than a trained one; control: a head on an untrained body.

    Both networks have to pass, an intersection-union test: its p-values need no adjustment.
    """
    margin = spec.thresholds["margin"]
    for (network, (name, roles)), head in product(_NETWORKS.items(), (FIXED, HEAD_ONLY)):
        sides = _accuracies(table, network, TRAINED), _accuracies(table, network, head)
        estimate = estimate_of(difference(*sides, spec.confidence))
        judged, what = (spec.criterion, "the head fixed") if head == FIXED else (spec.control, "the body fixed")
        statement = f"With {what} the {name} is no less accurate than with both trained."
        statistic = f"difference of mean final test accuracies, {what} less both trained"
        options = {"allowed": Range(low=-margin), "p_value": p_not_worse(*sides, margin), "null": "(p: worse)"}
        yield judged(statement, statistic, estimate, *roles, **options)


def _accuracies(table: pd.DataFrame, network: str, head: str) -> pd.Series:
    return table.loc[(table["network"] == network) & (table["head"] == head), "test_accuracy"]


@styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw every replicate's final test accuracy, with the margin round the mean of the trained head."""
    figure, axes = panels(1, 2, 2.7)
    counts = []
    for panel, network in zip(axes[0], _NETWORKS, strict=True):
        mean = mean_interval(_accuracies(table, network, TRAINED), spec.confidence)[0]
        if np.isfinite(mean):
            panel.axvspan(mean - spec.thresholds["margin"], 1, color="0.9", lw=0)
        for place, (head, look) in enumerate(_LOOKS.items()):
            values = _accuracies(table, network, head).dropna().to_numpy()
            places = np.linspace(-0.18, 0.18, len(values)) + place + 0.1
            panel.plot(values, places, ls="", ms=2.5, alpha=0.5, mew=0, **look | {"label": "_"})
            estimate = mean_interval(values, spec.confidence)
            error_bar(panel, place - 0.25, estimate, horizontal=True, ms=5, capsize=3, **look)
            counts.append(estimate[-1])
        models = table.loc[(table["network"] == network) & (table["head"] == FIXED), "model"]
        seen = table.loc[table["network"] == network, "test_accuracy"].dropna()
        if len(seen):
            panel.set_xlim(seen.min() - 0.02, min(1.0, seen.max() + 0.02))
        panel.set(yticks=[], ylim=(2.6, -0.6), xlabel="final test accuracy")
        panel.set_title(models.iloc[0] if len(models) else "no runs")
    note = (
        f"small: replicates ({count_text(counts)}); large: mean and {spec.percent} interval; "
        "shaded: no worse than the trained head, but for the margin"
    )
    title = "Final test accuracy with the head fixed at random, trained, and trained alone"
    return legend_below(figure, labelled(figure), 3, note, title)
