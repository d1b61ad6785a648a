"""Weight decay against its ExpLR-equivalent schedule: the same directions and logits, but for rounding.

That schedule trains without weight decay at a learning rate that grows exponentially (Li and Arora,
arXiv:1910.07454). Both see the same batches from the same initialisation. SGD is chaotic, so that rounding errors
grow along a run: the runs are short, and the growth is drawn.
"""

from collections.abc import Iterator
from itertools import cycle

import pandas as pd
from matplotlib.figure import Figure

from intrinsic_lr.claims.shared.exact import EQUIVALENCE, SMALLEST, plot_largest, worst_finding
from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec
from intrinsic_lr.claims.shared.verdicts import Findings
from intrinsic_lr.figures.style import MARKERS, labelled, legend_below, ordered_colours, panels, styled
from intrinsic_lr.study.experiment import PlannedPoint
from intrinsic_lr.study.pairs import pairs_of_schedules

EXACT, ROUNDED, UNCORRECTED = "exact", "rounded", "uncorrected"
"""Kinds of pairs: in float64, in a coarser dtype, and with what the optimiser keeps left alone (the control)."""
UNCORRECTED_BUFFER = "An equivalent whose momentum buffer starts at zero agrees"
_PAIR = ["kind", "schedule", "equivalent", "dtype", "momentum"]


def measure(data: ClaimData) -> pd.DataFrame:
    """Return both deviations of every pair: one row per pair, checkpoint and replicate."""
    from intrinsic_lr.claims.shared.equivalence import deviations

    parts = []
    for kind, original, partner in pairs(data.spec):
        dataset = data.dataset(original.dataset, original.dtype)
        a, b = (data.ensemble("runs", point) for point in (original, partner))
        found = deviations(a, b, original.steps, dataset)
        named = {"kind": kind, "point": original.name, "partner": partner.name}
        named |= {"schedule": original.schedule, "equivalent": partner.schedule}
        named |= {axis: getattr(original, axis) for axis in ("dtype", "momentum", "lr", "intrinsic_lr")}
        parts.append(found.assign(**named)[[*named, *found.columns]])
    return pd.concat(parts, ignore_index=True)


def pairs(spec: ClaimSpec) -> Iterator[tuple[str, PlannedPoint, PlannedPoint]]:
    """Yield the pairs (kind, original, equivalent) of points that differ in their schedule alone.

    The settings `originals` and `equivalents` name the schedules that belong together, `uncorrected` the
    equivalent of the first original without its correction of what the optimiser keeps.
    """
    settings, points = spec.settings, spec.points("runs")
    partners = list(zip(settings["originals"], settings["equivalents"], strict=True))
    partners.append((settings["originals"][0], settings["uncorrected"]))
    for a, b in pairs_of_schedules(points, partners):
        exact = EXACT if a.dtype == "float64" else ROUNDED
        yield UNCORRECTED if b.schedule == settings["uncorrected"] else exact, a, b


def judge(table: pd.DataFrame, spec: ClaimSpec, uncorrected: str = UNCORRECTED_BUFFER) -> Findings:
    """Compare the largest deviation over pairs, checkpoints and replicates with the threshold.

    Every equivalent that the settings name has to be there in float64. Of the control, which `uncorrected` states,
    every replicate has to be apart.
    """
    settings, planned = spec.settings, list(pairs(spec))
    for kind, words, named in (
        (
            EXACT,
            "In float64 a schedule with weight decay and its exponential equivalent agree",
            settings["equivalents"],
        ),
        (UNCORRECTED, uncorrected, [settings["uncorrected"]]),
    ):
        there = [partner.schedule for found, _, partner in planned if found == kind]
        for quantity, statistic in EQUIVALENCE.items():
            runs = len(there) * spec.replicates("runs")
            cells = table[table["kind"] == kind], quantity, ["point", "partner", "replicate"], runs
            words_of = f"{words} in {quantity}.", f"largest {statistic} over the run"
            options = {"control": kind == UNCORRECTED, "complete": set(named) <= set(there)}
            yield worst_finding(*cells, spec, *words_of, spec.thresholds["deviation"], "runs", **options)


@styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw the largest deviation of each pair against the step, with the threshold."""
    title = "Weight decay and an exponentially growing learning rate train the same functions"
    return draw_pairs(table, spec, title, "first buffer zero")


def draw_pairs(table: pd.DataFrame, spec: ClaimSpec, title: str, control: str) -> Figure:
    """Draw the pairs under a title, the control with the words for what is not corrected."""
    figure, axes = panels(1, 2, 3.0, sharex=True, sharey=True)
    named = table[_PAIR].drop_duplicates()
    colours = ordered_colours(list(named.index[named["kind"] == EXACT]))
    for (index, pair), marker in zip(named.iterrows(), cycle(MARKERS), strict=False):
        momentum = f", momentum {pair['momentum']:g}" if table["momentum"].any() else ""
        label = f"{pair['schedule'].replace('_', ' ')}{momentum}"
        look = {
            EXACT: {"label": label, "color": colours.get(index), "ls": "-"},
            ROUNDED: {"label": f"{label}, {pair['dtype']}", "color": "0.45", "ls": "--"},
            UNCORRECTED: {"label": f"control: {label}, {control}", "color": "tab:red", "ls": "--"},
        }[pair["kind"]]
        rows = table[(table[_PAIR] == pair).all(axis=1)]
        for ax, quantity in zip(axes[0], EQUIVALENCE, strict=True):
            plot_largest(ax, rows, quantity, marker=marker, ms=3.5, lw=1, **look)
    for ax, quantity in zip(axes[0], EQUIVALENCE.values(), strict=True):
        ax.axhline(spec.thresholds["deviation"], color="black", lw=1, ls=":", label="threshold (float64)")
        ax.set(yscale="log", xlabel="step", title=quantity, ylim=(SMALLEST / 3, 10))
    axes[0, 0].set_ylabel("largest over replicates")
    n = table["replicate"].nunique()
    note = f"schedules against their ExpLR equivalents; each marker: the largest of {n} replicates"
    return legend_below(figure, labelled(figure), 2, note, title)
