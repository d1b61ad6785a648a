"""How much of two runs' disagreement their initialisations cause, and whether O(1/lambda_e) steps forget it."""

from itertools import combinations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from intrinsic_lr.claims.shared import forgetting
from intrinsic_lr.claims.shared.forgetting import LABELS, Runs
from intrinsic_lr.claims.shared.spec import NOTHING, ClaimData, ClaimSpec
from intrinsic_lr.claims.shared.verdicts import Findings
from intrinsic_lr.figures import style
from intrinsic_lr.study.pairs import differing_axes, tenfold

INITIALISATION, RATE, BATCH, SHORT = "initialisation", "intrinsic_lr", "batch_size", "too_short"
"""Kinds of comparisons: what the claim is about, and the controls."""
ROLES = {INITIALISATION: ["mixing"], RATE: ["mixing"], BATCH: ["mixing", "other_batch"], SHORT: ["too_short"]}
CONTROLS = {
    RATE: "two intrinsic rates a factor of ten apart",
    BATCH: "two batch sizes, otherwise alike",
    SHORT: "initialisations, stopped too soon",
}
"""The controls, each of which there has to be."""


def measure(data: ClaimData) -> pd.DataFrame:
    """Return what initialisations cause at every checkpoint, and what has to differ at the last one."""
    return compare(data)


def compare(data: ClaimData, last_only: bool = False) -> pd.DataFrame:
    """Return the comparisons of `forgetting` at every checkpoint, or at the last one, with their tests.

    Where several settings share an intrinsic rate, the first counts.
    """
    spec, rows, settings = data.spec, [], {}
    for role in ("mixing", "too_short", "other_batch"):
        found = forgetting.first_of_each_rate(spec.points(role), spec.replicates(role))
        settings[role] = [Runs.read(data, role, points) for points in found]
    for runs in settings["mixing"]:
        steps = runs.first.steps[-1:] if last_only else runs.first.steps
        rows += forgetting.compare_initialisations(
            data, INITIALISATION, _rate(runs), runs, steps, last_only, last_only
        )
    for one, other in combinations(settings["mixing"], 2):
        if tenfold(one.first, other.first):
            words = f"{_rate(one)} against {other.first.intrinsic_lr:.3g}"
            rows += forgetting.compare_settings(data, RATE, words, one, other)
    for one in settings["mixing"]:
        for other in settings["other_batch"]:
            if set(differing_axes(one.first, other.first)) - {"init_seed"} == {"batch_size"}:
                words = f"batch {one.first.batch_size} against {other.first.batch_size} at {_rate(one)}"
                rows += forgetting.compare_settings(data, BATCH, words, one, other)
    for runs in settings["too_short"]:
        words = f"{_rate(runs)}, stopped at {runs.first.steps[-1] * runs.first.intrinsic_lr:.3g}/lambda_e"
        rows += forgetting.compare_initialisations(data, SHORT, words, runs, runs.first.steps[-1:], last_only)
    return forgetting.as_table(rows)


def _rate(runs: Runs) -> str:
    return f"lambda_e {runs.first.intrinsic_lr:.3g}"


def judge(table: pd.DataFrame, spec: ClaimSpec) -> Findings:
    """Ask, at the end of the runs, for shares below the margin; every control has to be above it."""
    # The least like the claim first, which then stands for it in the scorecard.
    last = forgetting.last_steps(table).sort_values("share_high", ascending=False, kind="stable")
    same = last[last["part"] == INITIALISATION]
    yield from forgetting.test_forgotten(spec.criterion, same, spec, *ROLES[INITIALISATION], powered=True)
    for part in CONTROLS:
        yield from forgetting.test_forgotten(
            spec.control, last[last["part"] == part], spec, *ROLES[part], powered=False
        )
    yield from missing(last, spec)


def missing(rows: pd.DataFrame, spec: ClaimSpec) -> Findings:
    """Yield an inconclusive finding for every kind of comparison that the experiments do not hold."""
    for part, words in {INITIALISATION: "several initialisations", **CONTROLS}.items():
        if part not in set(rows["part"]):
            judged = spec.criterion if part == INITIALISATION else spec.control
            statistic, statement = forgetting.SHARES[LABELS], f"{words}: no such runs"
            yield judged(statement, statistic, NOTHING, *ROLES[part], null="nothing to compare")


@style.styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw disagreements against time, the shares that initialisations cause, and every comparison at its end."""
    same = table[table["part"] == INITIALISATION]
    rates = sorted(same["intrinsic_lr"].unique(), reverse=True)
    figure, axes = style.panels(2, max(len(rates), 1), 5.6, beside="row", height_ratios=[1, 1.15])
    for panel, rate in zip(axes[0], rates, strict=False):
        rows = same[(same["intrinsic_lr"] == rate) & (same["distance"] == LABELS)].sort_values("intrinsic_time")
        _draw_disagreements(panel, rows)
        panel.set(title=rf"$\lambda_e$ = {style.scientific(rate)}", xlabel=r"steps $\times\ \lambda_e$")
    axes[0, 0].set_ylabel("test images, %")
    for panel in axes[0, 1:]:
        panel.tick_params(labelleft=False)
    for panel in axes[1]:
        panel.remove()
    cells = axes[1, 0].get_gridspec()
    below, half = -(-axes.shape[1] // cells.ncols), cells.ncols // 2
    # Beside each other, or in a narrow figure one below the other.
    middle = below if half else (below + cells.nrows) // 2
    if half or middle > below:
        _draw_shares(
            figure.add_subplot(cells[below:, :half] if half else cells[below:middle, :]), same, spec, rates
        )
    _draw_ends(figure.add_subplot(cells[middle:, half:]), table, spec)
    note = (
        f"{style.count_text(same['runs'])} runs of {style.count_text(same['initialisations'])} initialisations at "
        f"each rate; {spec.percent} intervals, bootstrap over initialisations; dashed: margin"
    )
    handles = style.labelled(figure)
    title = "How often two runs disagree, and which share of it their initialisations cause"
    return style.legend_below(figure, handles, 3, note, title)


def _draw_disagreements(panel: Axes, rows: pd.DataFrame) -> None:
    colours, time, error = sns.color_palette("colorblind"), rows["intrinsic_time"], rows["error"]
    looks = {
        "across": dict(color=colours[0], marker="o", label="across initialisations"),
        "within": dict(color=colours[1], marker="s", label="within an initialisation"),
        "excess": dict(color=colours[3], marker="^", label="excess: across less within"),
    }
    for quantity, look in looks.items():
        panel.plot(time, 100 * rows[quantity], ms=3, lw=1.2, **look)
    panel.plot(time, 100 * error, color="0.35", ls="--", lw=1.2, label="$e$: test error")
    independent = 2 * error * (1 - error)
    panel.plot(time, 100 * independent, color="0.35", ls=":", lw=1.2, label="$2e(1-e)$: were errors independent")
    panel.axhline(0, color="0.2", lw=0.7)
    # Zero has to be seen, where the excess ends; the first steps, before anything is learnt, are far above.
    panel.set_yscale("symlog", linthresh=1, linscale=0.8)
    panel.set_ylim(-0.4, 100)
    panel.set_yticks([0, 0.5, 1, 5, 10, 50], ["0", "0.5", "1", "5", "10", "50"])
    _time_axis(panel, time)


def _time_axis(panel: Axes, time: pd.Series) -> None:
    style.logarithmic(panel, "x", time)
    if len(time):
        first, last = np.log([time.min(), time.max()]) / np.log(4)
        style.ticks(panel, 4.0 ** np.arange(np.ceil(first), last + 0.01))


def _draw_shares(panel: Axes, same: pd.DataFrame, spec: ClaimSpec, rates: list[float]) -> None:
    """Draw the share that initialisations cause against time, at every rate, for labels and for logits."""
    colours = style.ordered_colours(rates)
    looks = {LABELS: {"ls": "-", "marker": "o"}, forgetting.LOGITS: {"ls": "--", "marker": "D"}}
    for (rate, distance), rows in same.groupby(["intrinsic_lr", "distance"], sort=False):
        rows = rows.sort_values("intrinsic_time")
        time, look = rows["intrinsic_time"], {"color": colours[rate], "lw": 1.2, "ms": 2.5, **looks[distance]}
        panel.plot(time, 100 * rows["share"], **look)
        if distance == LABELS:
            panel.fill_between(
                time, 100 * rows["share_low"], 100 * rows["share_high"], color=colours[rate], alpha=0.15, lw=0
            )
    for rate in rates:
        panel.plot([], [], color=colours[rate], label=rf"$\lambda_e$ = {style.scientific(rate)}")
    for distance, look in looks.items():
        panel.plot([], [], color="0.3", ms=3, label=f"share, of {distance}", **look)
    panel.axhline(100 * spec.thresholds["share"], color="0.3", lw=0.9, ls="--")
    panel.axhline(0, color="0.2", lw=0.7)
    panel.set_yscale("symlog", linthresh=5, linscale=1)
    panel.set_ylim(-4, 100)
    panel.set_yticks([0, 3, 5, 10, 20, 50, 100], ["0", "3", "5", "10", "20", "50", "100"])
    panel.set(xlabel=r"steps $\times\ \lambda_e$", ylabel="caused by initialisations, %")
    _time_axis(panel, same["intrinsic_time"])


def _draw_ends(panel: Axes, table: pd.DataFrame, spec: ClaimSpec) -> None:
    """Draw the share that is caused at the end of every comparison, beside the margin."""
    last, margin = forgetting.last_steps(table), 100 * spec.thresholds["share"]
    colours = sns.color_palette("colorblind")
    shifts = {LABELS: (-0.16, "o"), forgetting.LOGITS: (0.16, "D")}
    names = list(dict.fromkeys(last["setting"]))
    for row in last.itertuples():
        shift, marker = shifts[row.distance]
        share = 100 * np.array([row.share, row.share_low, row.share_high])
        control = row.part != INITIALISATION
        look = {"label": "controls, which must differ", "color": colours[7]} if control else {"color": colours[0]}
        style.error_bar(
            panel, names.index(row.setting) + shift, share, True, marker=marker, ms=4, elinewidth=1.6, **look
        )
    panel.axvline(margin, color="0.3", lw=0.9, ls="--")
    panel.axvline(0, color="0.2", lw=0.7)
    panel.set_yticks([])
    for place, name in enumerate(names):
        text, look = name.replace("lambda_e", r"$\lambda_e$"), {"fontsize": "x-small", "color": "0.25"}
        look["bbox"] = {"fc": "white", "ec": "none", "pad": 0.5}
        panel.annotate(text, (0.02, place - 0.3), xycoords=("axes fraction", "data"), va="center", **look)
    panel.set_ylim(max(len(names), 1) - 0.5, -0.6)
    panel.set_xscale("symlog", linthresh=5, linscale=1)
    panel.set_xlim(-4, 130)
    panel.set_xticks([0, 3, 10, 30, 100], ["0", "3", "10", "30", "100"])
    panel.set_xlabel("share at the end, %")
    sns.despine(ax=panel)
