"""The final test accuracy of a hundred times smaller initial learning rate, against the usual one."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec
from intrinsic_lr.claims.shared.verdicts import Finding, Range
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.figures.style import band, legend_below, panels, scientific, styled
from intrinsic_lr.stats.intervals import difference, p_not_worse, summarize

USUAL, SMALL, SHORT = "usual", "small", "small_short"
_COLOURS = {USUAL: "#0173b2", SMALL: "#de8f05", SHORT: "#949494"}


def measure(data: ClaimData) -> pd.DataFrame:
    """Return the accuracies along every run; the last step of a run is its length.

    Raises:
        InputError: for an experiment of several points, whose runs are no replicates of one another.
    """
    for role in _COLOURS:
        experiment = data.spec.experiments[role]
        if len(experiment["points"]) != 1:
            raise InputError(
                f"experiment {experiment['experiment']}: found {len(experiment['points'])} points; "
                f"allowed in the role {role} of {data.spec.name}: 1"
            )
    columns = ["step", "replicate", "lr_now", "train_loss", "train_accuracy", "test_loss", "test_accuracy"]
    parts = []
    for role in (USUAL, SMALL, SHORT):
        history = data.history(role)
        table = history[["point", "lr", "weight_decay", "intrinsic_lr", *columns]].copy()
        table.insert(0, "part", role)
        table["final"] = table["step"] == table.groupby("point")["step"].transform("max")
        parts.append(table)
    return pd.concat(parts, ignore_index=True)


def judge(table: pd.DataFrame, spec: ClaimSpec) -> list[Finding]:
    """Judge whether the two final test accuracies are equivalent.

    Control: the small rate with the usual steps, which has to be worse; to be better would be no failure.
    """
    margin = spec.thresholds["margin"]
    final = table[table["final"]]
    accuracy = {part: final.loc[final["part"] == part, "test_accuracy"] for part in _COLOURS}
    steps = {part: final.loc[final["part"] == part, "step"].max() for part in _COLOURS}
    findings = []
    for part, judged, words, allowed, null in (
        (SMALL, spec.criterion, "as well as", Range(-margin, margin), "(p: not equivalent)"),
        (SHORT, spec.control, "no worse than", Range(low=-margin), "(p: worse)"),
    ):
        found = difference(accuracy[USUAL], accuracy[part], spec.confidence, margin)
        worse = p_not_worse(accuracy[USUAL], accuracy[part], margin)
        findings.append(
            judged(
                f"The small learning rate, after {_count(steps[part])} steps, generalises {words} "
                f"the usual one, after {_count(steps[USUAL])}.",
                "difference of mean final test accuracies, small less usual",
                found.estimate, (found.low, found.high), n=found.n, roles=[USUAL, part],
                allowed=allowed, p_value=found.p_equivalent if part == SMALL else worse, null=null,
            )
        )  # fmt: skip
    return findings


def _count(steps: float) -> str:
    return "no" if steps != steps else f"{steps:,.0f}"


@styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw test accuracy against steps, and the two differences of final accuracies."""
    figure, axes = panels(1, 2, 2.9, width_ratios=[1.6, 1])
    handles = []
    for part, colour in _COLOURS.items():
        rows = table[table["part"] == part]
        summary = summarize(rows[rows["step"] > 0], ["step"], ["test_accuracy"], spec.confidence)
        band(axes[0, 0], summary, "step", "test_accuracy", color=colour, lw=1.4, marker="o", ms=2.5)
        for start in _decays(rows):
            axes[0, 0].axvline(start, color=colour, ls=":", lw=0.8)
        handles.append(Line2D([], [], color=colour, marker="o", ms=2.5, label=_label(rows)))
    top = table["test_accuracy"].max()
    top = top if top == top else 1.0
    axes[0, 0].set(xscale="log", xlabel="step", ylabel="test accuracy", ylim=(top - 0.1, top + 0.01))
    axes[0, 0].set_title("Dotted: decays of the learning rate")
    _draw_differences(axes[0, 1], spec, findings)
    n = int(findings["n"].min())
    percent = f"{100 * spec.confidence:g} %"
    note = f"mean and {percent} interval over at least {n} replicates; shaded: allowed"
    legend_below(figure, handles, 3, note)
    figure.suptitle("Test accuracy of the usual and of a hundred times smaller learning rate")
    return figure


def _draw_differences(axes, spec: ClaimSpec, findings: pd.DataFrame) -> None:
    margin = 100 * spec.thresholds["margin"]
    axes.axvline(0, color="0.3", ls="--", lw=1)
    for place, (part, row) in enumerate(zip((SMALL, SHORT), findings.to_dict("records"), strict=False)):
        half = [[100 * (row["estimate"] - row["ci_low"])], [100 * (row["ci_high"] - row["estimate"])]]
        axes.errorbar(100 * row["estimate"], place, xerr=half, fmt="o", ms=5, color=_COLOURS[part], capsize=3)
    right = max(2 * margin, axes.get_xlim()[1])
    # The upper half is that of the equivalence; the control below is judged from one side.
    axes.axvspan(-margin, margin, ymin=0.5, color="0.9", lw=0)
    axes.axvspan(-margin, right, ymax=0.5, color="0.9", lw=0)
    axes.set_xlim(right=right)
    axes.set_yticks([0, 1], ["given its\ntime", "with the\nusual steps"])
    axes.set(ylim=(1.5, -0.5), xlabel="accuracy less that of the usual\nlearning rate (points)")
    axes.set_title("At the end")


def _decays(rows: pd.DataFrame) -> list[float]:
    """Return the logged steps after which the learning rate is another."""
    rates = rows.groupby("step")["lr_now"].first().sort_index()
    changed = rates.shift(-1).notna() & (rates.shift(-1) != rates)
    return [float(step) for step in rates.index[changed] if step > 0]


def _label(rows: pd.DataFrame) -> str:
    if not len(rows):
        return "no runs"
    return f"$\\eta$ = {scientific(rows['lr'].iloc[0])}, {_count(rows['step'].max())} steps"
