"""The final test accuracy with the last linear layer fixed at its random initialisation, against a trained one."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from intrinsic_lr.analyses.tables import with_point
from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec
from intrinsic_lr.claims.shared.verdicts import Finding, Range
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.figures.style import legend_below, panels, styled
from intrinsic_lr.stats.intervals import difference, mean_interval, p_not_worse

FIXED, TRAINED, HEAD_ONLY = "fixed", "trained", "head_only"
NETWORK, CONVOLUTIONAL = "network", "convolutional"
_ROLES = {
    "fixed": (NETWORK, (FIXED,)),
    "trained": (NETWORK, (TRAINED,)),
    "convolutional": (CONVOLUTIONAL, (FIXED, TRAINED)),
}
_LOOK = {
    FIXED: ("head fixed", "#0173b2", "o"),
    TRAINED: ("head trained", "#de8f05", "s"),
    HEAD_ONLY: ("nothing but the head trained", "#949494", "^"),
}


def measure(data: ClaimData) -> pd.DataFrame:
    """Return every run's final accuracies, and those of logistic regression on untrained features.

    Raises:
        InputError: for an experiment with other points than its role has, one each.
    """
    parts = []
    for role, (network, _) in _ROLES.items():
        heads = _heads(data, role)
        history = data.history(role)
        last = history[history["step"] == history.groupby("point")["step"].transform("max")]
        for point in data.spec.points(role):
            head = heads[point["name"]]
            rows = last[last["point"] == point["name"]]
            parts.append(_rows(rows, point, network, head))
            if head == FIXED:
                parts.append(_rows(_head_only(data, role, point), point, network, HEAD_ONLY))
    return pd.concat(parts, ignore_index=True)


def _heads(data: ClaimData, role: str) -> dict[str, str]:
    """Return for each point of a role, by name, whether its head is fixed or trained."""
    heads = {
        point["name"]: TRAINED if data.ensemble(role, point).model().spec.head == "trained" else FIXED
        for point in data.spec.points(role)
    }
    allowed = _ROLES[role][1]
    if sorted(heads.values()) != sorted(allowed):
        raise InputError(
            f"experiment {data.spec.experiments[role]['experiment']}: found points with the heads "
            f"{', '.join(heads.values()) or 'of none'}; allowed in the role {role} of {data.spec.name}: "
            f"one point each, {', '.join(allowed)}"
        )
    return heads


def _rows(rows: pd.DataFrame, point: Mapping[str, Any], network: str, head: str) -> pd.DataFrame:
    columns = ["step", "replicate", "train_accuracy", "test_accuracy"]
    table = with_point(rows[columns].reset_index(drop=True), point)
    return table.assign(network=network, head=head)


def _head_only(data: ClaimData, role: str, point: Mapping[str, Any]) -> pd.DataFrame:
    """Fit the head alone, to convergence, on the features of each replicate's initial weights."""
    from sklearn.linear_model import LogisticRegression

    from intrinsic_lr.training.evaluation import EvaluationData, features

    ensemble = data.ensemble(role, point)
    dataset = data.dataset(point["dataset"])
    data = EvaluationData.of(dataset)
    weights = {name: value.to(data.train_images.device) for name, value in ensemble.weights(0).items()}
    train, test = (part.double().cpu().numpy() for part in features(ensemble.model(), weights, data))
    train_labels, test_labels = (labels.cpu().numpy() for labels in (data.train_labels, data.test_labels))
    rows = []
    for replicate in range(len(train)):
        found = LogisticRegression(max_iter=1000, tol=1e-3).fit(train[replicate], train_labels)
        accuracies = found.score(train[replicate], train_labels), found.score(test[replicate], test_labels)
        rows.append((0, replicate, *accuracies))
    return pd.DataFrame(rows, columns=["step", "replicate", "train_accuracy", "test_accuracy"])


def judge(table: pd.DataFrame, spec: ClaimSpec) -> list[Finding]:
    """Judge whether a fixed head is no worse than a trained one; control: a head on an untrained body.

    Both networks have to pass, an intersection-union test: its p-values need no adjustment.
    """
    margin = spec.thresholds["margin"]
    compared = {
        (network, head): (_accuracies(table, network, TRAINED), _accuracies(table, network, head))
        for network in (NETWORK, CONVOLUTIONAL)
        for head in (FIXED, HEAD_ONLY)
    }
    findings = []
    for (network, head), pair in compared.items():
        found = difference(*pair, spec.confidence)
        judged = spec.criterion if head == FIXED else spec.control
        what = "the head fixed" if head == FIXED else "the body fixed"
        findings.append(
            judged(
                f"With {what} the {_NAMES[network]} is no less accurate than with both trained.",
                f"difference of mean final test accuracies, {what} less both trained",
                found.estimate, (found.low, found.high), n=found.n,
                roles=["fixed", "trained"] if network == NETWORK else ["convolutional"],
                allowed=Range(low=-margin), p_value=p_not_worse(*pair, margin), null="(p: worse)",
            )
        )  # fmt: skip
    return findings


_NAMES = {NETWORK: "network", CONVOLUTIONAL: "convolutional network"}


def _accuracies(table: pd.DataFrame, network: str, head: str) -> pd.Series:
    return table.loc[(table["network"] == network) & (table["head"] == head), "test_accuracy"]


@styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw every replicate's final test accuracy, with the margin round the mean of the trained head."""
    figure, axes = panels(1, 2, 2.7, width_ratios=[1, 1])
    margin = spec.thresholds["margin"]
    counts = []
    for panel, network in zip(axes[0], (NETWORK, CONVOLUTIONAL), strict=True):
        mean = mean_interval(_accuracies(table, network, TRAINED), spec.confidence)[0]
        if np.isfinite(mean):
            panel.axvspan(mean - margin, 1, color="0.9", lw=0)
        for place, (head, (_, colour, marker)) in enumerate(_LOOK.items()):
            values = _accuracies(table, network, head).dropna().to_numpy()
            spread = np.linspace(-0.18, 0.18, len(values)) + place + 0.1
            panel.plot(values, spread, marker, color=colour, ms=2.5, alpha=0.5, mew=0)
            mean, low, high, n = mean_interval(values, spec.confidence)
            half = [[mean - low], [high - mean]]
            panel.errorbar(mean, place - 0.25, xerr=half, fmt=marker, color=colour, ms=5, capsize=3)
            counts.append(n)
        models = table.loc[(table["network"] == network) & (table["head"] == FIXED), "model"]
        seen = table.loc[table["network"] == network, "test_accuracy"].dropna()
        if len(seen):
            panel.set_xlim(seen.min() - 0.02, min(1.0, seen.max() + 0.02))
        panel.set(yticks=[], ylim=(2.6, -0.6), xlabel="final test accuracy")
        panel.set_title(models.iloc[0] if len(models) else "no runs")
    handles = [
        Line2D([], [], ls="", marker=marker, color=colour, ms=5, label=label)
        for label, colour, marker in _LOOK.values()
    ]
    percent = f"{100 * spec.confidence:g} %"
    legend_below(
        figure, handles, 3,
        f"small: replicates ({min(counts)} to {max(counts)}); large: mean and {percent} interval; "
        "shaded: no worse than the trained head, but for the margin",
    )  # fmt: skip
    figure.suptitle("Final test accuracy with the head fixed at random, trained, and trained alone")
    return figure
