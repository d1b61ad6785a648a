"""The final test accuracy of a hundred times smaller initial learning rate, against the usual one."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec, estimate_of
from intrinsic_lr.claims.shared.verdicts import Findings, Range
from intrinsic_lr.figures.style import band, error_bar, labelled, legend_below, panels, scientific, styled
from intrinsic_lr.stats.intervals import difference, p_not_worse, summarize

USUAL, SMALL, SHORT = "usual", "small", "small_short"
_COLOURS = {USUAL: "#0173b2", SMALL: "#de8f05", SHORT: "#949494"}


def measure(data: ClaimData) -> pd.DataFrame:
    """Return the accuracies along every run; the last step of a run is its length."""
    columns = ["point", "lr", "weight_decay", "intrinsic_lr", "step", "replicate", "lr_now"]
    parts = []
    for role in _COLOURS:
        history = data.history(role)
        table = history[[*columns, "train_loss", "train_accuracy", "test_loss", "test_accuracy"]].copy()
        table.insert(0, "part", role)
        parts.append(table.assign(final=table["step"] == table.groupby("point")["step"].transform("max")))
    return pd.concat(parts, ignore_index=True)


def judge(table: pd.DataFrame, spec: ClaimSpec) -> Findings:
    """Judge whether the two final test accuracies are equivalent.

    Control: the small rate with the usual steps, which has to be worse; to be better would be no failure.
    """
    margin, final = spec.thresholds["margin"], table[table["final"]]
    accuracy = {part: final.loc[final["part"] == part, "test_accuracy"] for part in _COLOURS}
    steps = {part: _count(final.loc[final["part"] == part, "step"].max()) for part in _COLOURS}
    for part, judged, words, allowed, null in (
        (SMALL, spec.criterion, "as well as", Range.about(0, margin), "(p: not equivalent)"),
        (SHORT, spec.control, "no worse than", Range(low=-margin), "(p: worse)"),
    ):
        found = difference(accuracy[USUAL], accuracy[part], spec.confidence, margin)
        p_value = found.p_equivalent if part == SMALL else p_not_worse(accuracy[USUAL], accuracy[part], margin)
        statement = f"The small learning rate, after {steps[part]} steps, generalises {words} "
        statement += f"the usual one, after {steps[USUAL]}."
        statistic = "difference of mean final test accuracies, small less usual"
        decided = {"allowed": allowed, "p_value": p_value, "null": null}
        yield judged(statement, statistic, estimate_of(found), USUAL, part, **decided)


def _count(steps: float) -> str:
    return "no" if steps != steps else f"{steps:,.0f}"


@styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw test accuracy against steps, and the two differences of final accuracies."""
    figure, ((curves, end),) = panels(1, 2, 2.9, width_ratios=[1.6, 1])
    for part, colour in _COLOURS.items():
        rows = table[table["part"] == part]
        summary = summarize(rows[rows["step"] > 0], ["step"], ["test_accuracy"], spec.confidence)
        rate = scientific(rows["lr"].iloc[0]) if len(rows) else "?"
        label = f"$\\eta$ = {rate}, {_count(rows['step'].max())} steps"
        band(curves, summary, "step", "test_accuracy", color=colour, lw=1.4, marker="o", ms=2.5, label=label)
        rates = rows[rows["step"] > 0].groupby("step")["lr_now"].first()
        # The logged steps after which the learning rate is another.
        for start in rates.index[rates.diff().shift(-1).fillna(0) != 0]:
            curves.axvline(start, color=colour, ls=":", lw=0.8)
    top = table["test_accuracy"].max()
    top = top if np.isfinite(top) else 1.0
    curves.set(xscale="log", xlabel="step", ylabel="test accuracy", ylim=(top - 0.1, top + 0.01))
    curves.set_title("Dotted: decays of the learning rate")
    _draw_differences(end, spec, findings)
    note = f"mean and {spec.percent} interval over at least {int(findings['n'].min())} replicates; shaded: allowed"
    title = "Test accuracy of the usual and of a hundred times smaller learning rate"
    return legend_below(figure, labelled(figure), 3, note, title)


def _draw_differences(axes: Axes, spec: ClaimSpec, findings: pd.DataFrame) -> None:
    margin = 100 * spec.thresholds["margin"]
    axes.axvline(0, color="0.3", ls="--", lw=1)
    rows = 100 * findings[["estimate", "ci_low", "ci_high"]].astype(float)
    for place, (part, row) in enumerate(zip((SMALL, SHORT), rows.itertuples(index=False), strict=False)):
        error_bar(axes, place, row, horizontal=True, marker="o", ms=5, color=_COLOURS[part], capsize=3)
    right = max(2 * margin, axes.get_xlim()[1])
    # The upper half is that of the equivalence; the control below is judged from one side.
    axes.axvspan(-margin, margin, ymin=0.5, color="0.9", lw=0)
    axes.axvspan(-margin, right, ymax=0.5, color="0.9", lw=0)
    axes.set_xlim(right=right)
    axes.set_yticks([0, 1], ["given its\ntime", "with the\nusual steps"])
    axes.set(ylim=(1.5, -0.5), xlabel="accuracy less that of the usual\nlearning rate (points)")
    axes.set_title("At the end")
