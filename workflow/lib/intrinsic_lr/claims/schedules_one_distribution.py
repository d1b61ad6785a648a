"""Whether runs of schedules that reach one intrinsic rate have exactly one distribution of predictions later."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from intrinsic_lr.claims.schedules_same_equilibrium import MEET, compare_ends, judge_ends
from intrinsic_lr.claims.shared import sameness
from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec
from intrinsic_lr.claims.shared.verdicts import Findings
from intrinsic_lr.figures import style


def measure(data: ClaimData) -> pd.DataFrame:
    """Compare all pairs of schedules at the end, with the share that would be found, and just before they meet."""
    return compare_ends(data)


def judge(table: pd.DataFrame, spec: ClaimSpec) -> Findings:
    """Ask whether the runs of both schedules of a pair are exchangeable at the end, and not before they meet."""
    yield from judge_ends(table, spec, sameness.test_exchangeable, "one distribution", sameness.VARIATION)


@style.styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw the total variation of every pair over its permutation null, with the p-value."""
    figure, ((panel,),) = style.panels(1, 1, 0.3 * max(len(table), 3) + 0.9)
    colours, names = sns.color_palette("colorblind"), []
    for place, row in enumerate(table.itertuples()):
        met = row.part == MEET and row.step_a > row.met_at
        look = {"color": colours[0] if met else colours[7], "marker": "o" if met else "D", "ls": "", "ms": 5}
        look["label"] = "after they met" if met else "controls, which must differ"
        panel.plot([row.null_mean, row.null_q95], [place] * 2, color="0.75", lw=7, label="null: mean to 95 %")
        panel.plot(row.total_variation, place, **look)
        text = f"p = {row.p_value:.2g}" if np.isfinite(row.p_value) else "p: none"
        at_the_right = {"xycoords": ("axes fraction", "data"), "va": "center", "ha": "right", "fontsize": "small"}
        panel.annotate(text, (1, place), **at_the_right)
        when = "after" if met else "before" if row.part == MEET else "do not meet"
        names.append(f"{row.schedule_a} | {row.schedule_b}, {when}")
    panel.set_yticks(range(len(names)), names)
    panel.set_ylim(max(len(names), 1) - 0.5, -0.5)
    style.logarithmic(panel, "x", table[["null_mean", "total_variation"]])
    panel.set_xlabel(sameness.VARIATION)
    panel.margins(x=0.25)
    runs = style.count_text(table[["replicates_a", "replicates_b"]].to_numpy().ravel())
    note = f"{runs} runs of each schedule; p by {spec.analysis['permutations']} permutations, not adjusted"
    title = "Do schedules that met have exactly one distribution of predictions?"
    return style.legend_below(figure, style.labelled(figure), 3, note, title)
