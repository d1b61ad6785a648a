"""Whether runs of different initialisations have exactly one distribution of functions once they have mixed."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from intrinsic_lr.claims.function_space_mixing import CONTROLS, INITIALISATION, ROLES, compare, missing
from intrinsic_lr.claims.shared import forgetting
from intrinsic_lr.claims.shared.sameness import POWER
from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec
from intrinsic_lr.claims.shared.verdicts import Findings
from intrinsic_lr.figures import style


def measure(data: ClaimData) -> pd.DataFrame:
    """Return the comparisons of `function_space_mixing` at the last checkpoints, with exact p-values and power."""
    return compare(data, last_only=True)


def judge(table: pd.DataFrame, spec: ClaimSpec) -> Findings:
    """Ask whether all runs of a rate are exchangeable, whatever their initialisation; controls must not be."""
    # The least like the claim first, which then stands for it in the scorecard.
    rows = table.sort_values("p_value", kind="stable")
    same, other = rows[rows["part"] == INITIALISATION], rows[rows["part"].isin(list(CONTROLS))]
    yield from forgetting.test_one_distribution(spec.criterion, same, *ROLES[INITIALISATION])
    for part in CONTROLS:
        yield from forgetting.test_one_distribution(spec.control, other[other["part"] == part], *ROLES[part])
    yield from missing(table, spec)


@style.styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw the share that is caused in every comparison over what permutations leave, with the p-value."""
    return draw_over_null(table, spec, "Are runs of all initialisations exchangeable?")


def draw_over_null(table: pd.DataFrame, spec: ClaimSpec, title: str) -> Figure:
    """Draw shares with their intervals, the 0.95 quantile of the null, the p-value, and what would be found."""
    figure, ((panel,),) = style.panels(1, 1, 0.27 * max(len(table), 4) + 1.2)
    colours = sns.color_palette("colorblind")
    for place, row in enumerate(table.itertuples()):
        control = row.part != INITIALISATION
        label = "controls, which must differ" if control else "initialisations of one setting"
        share = 100 * np.array([row.share, row.share_low, row.share_high])
        look = {"color": colours[7] if control else colours[0], "marker": "D" if control else "o", "label": label}
        panel.plot(
            [0, 100 * row.null_q95], [place, place], color="0.8", lw=7, label="null: up to 95 % of permutations"
        )
        style.error_bar(panel, place, share, horizontal=True, ms=4, elinewidth=1.6, **look)
        if np.isfinite(row.detectable):
            found = {"color": colours[3], "label": f"share found with probability {POWER:g}"}
            panel.plot(100 * row.detectable, place, ls="", marker="|", ms=10, mew=2, **found)
        text = f"p = {row.p_value:.2g}" if np.isfinite(row.p_value) else "p: none"
        at_the_right = {"xycoords": ("axes fraction", "data"), "va": "center", "ha": "right", "fontsize": "small"}
        panel.annotate(text, (1, place), **at_the_right)
    names = [f"{row.setting}, {row.distance}".replace("lambda_e", r"$\lambda_e$") for row in table.itertuples()]
    panel.set_yticks(range(len(names)), names)
    panel.set_ylim(max(len(names), 1) - 0.5, -0.5)
    panel.axvline(0, color="0.2", lw=0.7)
    panel.set_xscale("symlog", linthresh=5, linscale=1.5)
    panel.set_xlim(-4, 300)
    panel.set_xticks([0, 2, 5, 10, 30, 100], ["0", "2", "5", "10", "30", "100"])
    panel.set_xlabel("share of the distance of two runs that is caused, %")
    sns.despine(ax=panel)
    note = (
        f"{style.count_text(table['runs'])} runs of {style.count_text(table['initialisations'])} initialisations; "
        f"{spec.percent} intervals, bootstrap over initialisations; "
        f"p by {spec.analysis['permutations']} permutations, not adjusted"
    )
    return style.legend_below(figure, style.labelled(figure), 2, note, title)
