"""Two initialisations, and whether their runs predict alike after O(1/lambda_e) steps."""

from functools import partial
from itertools import combinations, product

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from intrinsic_lr.claims.shared import sameness
from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec
from intrinsic_lr.claims.shared.verdicts import Findings
from intrinsic_lr.figures import style
from intrinsic_lr.stats.intervals import holm
from intrinsic_lr.study.pairs import differing_axes, initialisations, tenfold

INITIALISATION, RATE, BATCH, SHORT = "initialisation", "intrinsic_lr", "batch_size", "too_short"
"""Kinds of pairs: what the claim is about, and the controls."""
_ROLES = {INITIALISATION: ["mixing"], RATE: ["mixing"], BATCH: ["mixing", "other_batch"], SHORT: ["too_short"]}
_CONTROLS = {
    RATE: "two intrinsic rates a factor of ten apart, of one initialisation",
    BATCH: "two batch sizes, otherwise alike",
    SHORT: "two initialisations, stopped too soon",
}
"""The controls, each of which there has to be."""


def measure(data: ClaimData) -> pd.DataFrame:
    """Compare initialisations at every checkpoint, and what has to differ at the last one.

    A tenfold rate and another batch size are compared from one initialisation, the first of each pair.
    """
    spec = data.spec
    pairs, bases = [], {}
    for a, b in initialisations(spec.points("mixing")):
        pairs.append((INITIALISATION, ("mixing", a), ("mixing", b), list(zip(a.steps, b.steps, strict=True))))
        bases[a.name] = a
    others = [(RATE, a, b) for a, b in combinations(bases.values(), 2) if tenfold(a, b)]
    for a, b in product(bases.values(), spec.points("other_batch")):
        if differing_axes(a, b) == ["batch_size"]:
            others.append((BATCH, a, b))
    others += [(SHORT, a, b) for a, b in initialisations(spec.points("too_short"))]
    for part, a, b in others:
        sides = (_ROLES[part][0], a), (_ROLES[part][-1], b)
        pairs.append((part, *sides, [(a.steps[-1], b.steps[-1])]))
    return sameness.compare_points(data, pairs)


def judge(table: pd.DataFrame, spec: ClaimSpec) -> Findings:
    """Ask, at the end of the runs, for one distribution, for no excess, and for sameness up to the margin.

    Controls have to fail: all of them the first two questions, and runs that end too soon the margin as well.
    """
    # The least like the claim first, which then stands for it in the scorecard.
    last = sameness.last_checkpoints(table).sort_values("p_value", kind="stable")
    same, other = last[last["part"] == INITIALISATION], last[last["part"] != INITIALISATION]
    within_margin = partial(sameness.test_within_margin, margin=spec.thresholds["excess_share"])
    for words, statistic, test, controls in (
        ("one distribution", sameness.VARIATION, sameness.test_exchangeable, other),
        ("no excess disagreement", sameness.EXCESS, sameness.test_no_excess, other),
        ("the same up to the margin", sameness.SHARE, within_margin, other[other["part"] == SHORT]),
    ):
        describe = partial(_describe, words=words)
        yield from test(spec.criterion, same, describe, lambda row: _ROLES[row.part])
        if same.empty:
            yield sameness.missing_finding(spec.criterion, f"two initialisations: {words}", statistic, "mixing")
        yield from test(spec.control, controls, describe, lambda row: _ROLES[row.part])
    for part, text in _CONTROLS.items():
        if part not in set(other["part"]):
            yield sameness.missing_finding(spec.control, text, sameness.VARIATION, *_ROLES[part])


def _describe(row, words: str = "") -> str:
    time, rate = f"{row.intrinsic_time_a:.3g}/lambda_e", f"lambda_e {row.intrinsic_lr_a:.3g}"
    seeds = f"initialisations {row.init_seed_a} and {row.init_seed_b}"
    text = {
        INITIALISATION: f"{seeds}, {rate} at {time}",
        RATE: f"{rate} against {row.intrinsic_lr_b:.3g}",
        BATCH: f"batch {row.batch_size_a} against {row.batch_size_b} at {rate}",
        SHORT: f"{seeds}, {rate}, stopped at {time}",
    }[row.part]
    return f"{text}: {words}" if words else text


@style.styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw the five disagreements of two initialisations against time, and every comparison at its end."""
    same = table[table["part"] == INITIALISATION]
    same = same.assign(**{name: same[[f"{name}_a", f"{name}_b"]].mean(axis=1) for name in ("within", "error")})
    rates = sorted(same["intrinsic_lr_a"].unique(), reverse=True)
    colours = sns.color_palette("colorblind")
    looks = {
        "across": dict(color=colours[0], marker="o", label="across initialisations"),
        "within": dict(color=colours[1], marker="s", label="within an initialisation"),
        "excess": dict(color=colours[3], marker="^", label="excess: across less within"),
        "error": dict(color="0.35", ls="--", label="$e$: test error"),
        "independent_errors": dict(color="0.35", ls=":", label="$2e(1-e)$: were errors independent"),
    }
    figure, axes = style.panels(2, max(len(rates), 1), 5.6, beside="row", height_ratios=[1.15, 1])
    for panel, rate in zip(axes[0], rates, strict=False):
        for _, rows in same[same["intrinsic_lr_a"] == rate].groupby(["point_a", "point_b"]):
            rows = rows.sort_values("intrinsic_time_a")
            time = rows["intrinsic_time_a"]
            for quantity, look in looks.items():
                panel.plot(time, 100 * rows[quantity], ms=3, lw=1.2, **look)
            ends = 100 * rows["excess_low"], 100 * rows["excess_high"]
            panel.fill_between(time, *ends, color=colours[3], alpha=0.25, lw=0)
        panel.axhline(0, color="0.2", lw=0.7)
        panel.set(title=rf"$\lambda_e$ = {style.scientific(rate)}", xlabel=r"steps $\times\ \lambda_e$")
        style.logarithmic(panel, "x", time)
        # Zero has to be seen, where the excess ends; the first steps, before anything is learnt, are far above.
        panel.set_yscale("symlog", linthresh=1, linscale=0.8)
        panel.set_ylim(-0.4, 100)
        panel.set_yticks([0, 0.5, 1, 5, 10, 50], ["0", "0.5", "1", "5", "10", "50"])
        if len(time):
            first, last = np.log([time.min(), time.max()]) / np.log(4)
            style.ticks(panel, 4.0 ** np.arange(np.ceil(first), last + 0.01))
    axes[0, 0].set_ylabel("test images, %")
    for panel in axes[0, 1:]:
        panel.tick_params(labelleft=False)
    for panel in axes[1]:
        panel.remove()
    cells = axes[1, 0].get_gridspec()
    below = -(-axes.shape[1] // cells.ncols)
    # The names of the comparisons reach into the free first column, where there is one.
    first = 1 if 1 < axes.shape[1] == cells.ncols else 0
    _draw_ends(figure.add_subplot(cells[below:, first:]), table, spec, colours, names_inside=first == 0)
    note = (
        f"{style.count_text(table[['replicates_a', 'replicates_b']].to_numpy().ravel())} runs of each "
        f"initialisation; {spec.percent} bootstrap intervals over runs; "
        f"p by {spec.analysis['permutations']} permutations, Holm within criteria and within controls"
    )
    title = "Two initialisations: how often two runs disagree, and how much the initialisation adds"
    return style.legend_below(figure, style.labelled(figure), 3, note, title)


def _draw_ends(panel: Axes, table: pd.DataFrame, spec: ClaimSpec, colours, names_inside: bool) -> None:
    """Draw the share of the excess at the end of every comparison, with the p-value of the permutation test.

    The names of the comparisons narrow the panel if they are to stay inside its part of the figure.
    """
    last = sameness.last_checkpoints(table)
    margin = 100 * spec.thresholds["excess_share"]
    last = last.assign(control=last["part"] != INITIALISATION)
    last["adjusted"] = last.groupby("control")["p_value"].transform(holm) if len(last) else np.nan
    looks = {
        False: {"label": "below: two initialisations", "color": colours[0], "marker": "o"},
        True: {"label": "below: controls, which must differ", "color": colours[7], "marker": "D"},
    }
    at_the_right = {"xycoords": ("axes fraction", "data"), "va": "center", "ha": "right", "fontsize": "small"}
    for place, row in enumerate(last.itertuples()):
        share = 100 * np.array([row.excess_share, row.excess_share_low, row.excess_share_high])
        style.error_bar(panel, place, share, horizontal=True, ms=5, elinewidth=2, **looks[row.control])
        text = f"p = {row.adjusted:.2g}" if row.adjusted == row.adjusted else "p: none"
        panel.annotate(text, (1, place), bbox={"fc": "white", "ec": "none", "pad": 1}, **at_the_right)
    panel.axvspan(0, margin, color="0.93", lw=0, zorder=0)
    panel.axvline(margin, color="0.3", lw=0.9, ls="--")
    panel.axvline(0, color="0.2", lw=0.7)
    names = [_describe(row).replace("lambda_e", r"$\lambda_e$") for row in last.itertuples()]
    names = [name.split(", ", 1)[1] if name.startswith("initialisations") else name for name in names]
    panel.set_yticks(range(len(last)), names)
    for label in panel.get_yticklabels():
        label.set_in_layout(names_inside)
    panel.set_ylim(max(len(last), 1) - 0.5, -0.5)
    panel.set_xscale("symlog", linthresh=20, linscale=2)
    panel.set_xlim(right=260)
    panel.set_xticks([0, 5, 10, 15, 20, 50, 100], ["0", "5", "10", "15", "20", "50", "100"])
    panel.set_xlabel("at the end: excess, % of the disagreement across (dashed: margin)")
    sns.despine(ax=panel)
