"""Weight averages: pairs and windows within trajectories, pairs across them, and the loss between ends."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from intrinsic_lr.analyses.drawing import ACROSS_COLOUR, first_point, mean_note, partners, starting_times
from intrinsic_lr.analyses.tables import POINT_COLUMNS, AnalysisData, across_pairs, with_point
from intrinsic_lr.figures import style
from intrinsic_lr.stats.intervals import summarize
from intrinsic_lr.study.experiment import Experiment, PlannedPoint

if TYPE_CHECKING:
    from torch import Tensor

    from intrinsic_lr.analyses.averaging import Checkpoints
    from intrinsic_lr.training.evaluation import EvaluationData

KEYS = ["relation", "partner_point", "average", "normalisation", "step", "delta", "averaged"]


def measure(data: AnalysisData) -> dict[str, pd.DataFrame]:
    """Return the table `swa`, and `swa_summary` over replicates."""
    from intrinsic_lr.analyses.averaging import evaluation_sets

    loaded = evaluation_sets(data)
    checkpoints = {p.name: _checkpoints(data, p, loaded[p.dataset, p.dtype]) for p in data.experiment.points}
    table = pd.concat(_averages(data, checkpoints))
    identity = [column for column in table if column in ("point", *KEYS, *POINT_COLUMNS)]
    quantities = [column for column in table if column not in [*identity, "replicate", "partner"]]
    return {"swa": table, "swa_summary": summarize(table, identity, quantities, data.settings["confidence"])}


def _averages(data: AnalysisData, kept: "Mapping[str, Checkpoints]") -> Iterator[pd.DataFrame]:
    """Yield the averages along each trajectory of every point, then across trajectories at equal checkpoints."""
    from intrinsic_lr.analyses.averaging import across_table, swa_table

    inner = data.settings["interpolation"]
    for point in data.experiment.points:
        yield with_point(swa_table(kept[point.name], inner).assign(partner_point=point.name), point)
    for point, partner, relation, members in across_pairs(data.experiment):
        table = across_table(kept[point.name], kept[partner.name], members, inner, relation)
        yield with_point(table.assign(partner_point=partner.name), point)


def _checkpoints(data: AnalysisData, point: PlannedPoint, images: "EvaluationData") -> "Checkpoints":
    """Return the planned checkpoints of a point, to be read on the device of the images."""
    from intrinsic_lr.analyses.averaging import Checkpoints

    ensemble, device = data.ensembles[point.name], images.train_images.device

    def read(step: int) -> "dict[str, Tensor]":
        return {name: value.to(device) for name, value in ensemble.weights(step).items()}

    return Checkpoints(ensemble.model(), point.steps, read, images)


@style.styled
def draw_swa(table: pd.DataFrame, experiment: Experiment, confidence: float) -> Figure:
    """Draw accuracy and loss of two-checkpoint averages within a trajectory and across trajectories."""
    table, which = first_point(table, experiment)
    table = table[(table["average"] == "pair") & (table["normalisation"] == "raw")]
    shares = [c for c in table if c.startswith("test_accuracy") and "gain" not in c]
    table = table.assign(**{c: table[c] * 100 for c in shares})
    within, across = (table[(table["relation"] == "within") == is_within] for is_within in (True, False))
    across = partners(across[across["step"] == across["step"].max()], experiment)
    starts = starting_times(within)
    colours = style.ordered_colours(starts)
    figure, axes = style.panels(2, 2, 4.6, width_ratios=[2.4, 1])
    labels = {"test_accuracy": "test accuracy (%)", "test_loss": "test loss (nats)"}
    for (left, right), (quantity, label) in zip(axes, labels.items(), strict=True):
        for start in starts:
            rows = within[within["step"] == start].sort_values("delta")
            style.band(left, rows, "delta", quantity, color=colours[start], marker="o", ms=3, lw=1.4)
            left.plot(rows["delta"], rows[f"{quantity}_end_mean"], color=colours[start], ls=":", lw=1.2)
        left.set(ylabel=label, xlabel=r"$\Delta$ (steps)" if quantity == "test_loss" else "")
        _across_bars(right, across, quantity)
    axes[0, 0].set_title("Within a trajectory: average of $T$ and $T + \\Delta$")
    axes[0, 1].set_title("Across, at the last $T$")
    handles = [style.handle(f"$T$ = {start}", color=colours[start], marker="o", ms=3) for start in starts]
    if starts:
        handles.append(style.handle(r"the later end, $T + \Delta$, alone", color="0.3", ls=":"))
    if across:
        handles.append(style.handle("average of two trajectories", color=ACROSS_COLOUR, marker="o", ls=""))
        handles.append(style.handle("the first of the two alone", color=_END, marker="s", ls=""))
    note = mean_note(table, confidence, "interval")
    style.legend_below(figure, handles, 4, f"{note}; batch-norm statistics recomputed for every network{which}")
    figure.suptitle(f"Averages of two checkpoints, within a trajectory and across two ({experiment.words})")
    return figure


_END = sns.color_palette("colorblind")[7]
_RELATIONS = {"across_initialisations": "two initial-\nisations", "across_replicates": "one initial-\nisation"}


def _across_bars(axes: Axes, across: Sequence[tuple[str, str, pd.DataFrame]], quantity: str) -> None:
    """Draw the average and the first of its ends for each relation and partner, with intervals."""
    labels = []
    for place, (relation, which, rows) in enumerate(across):
        (row,) = rows.to_dict("records")
        for offset, suffix, colour, marker in ((-0.12, "", ACROSS_COLOUR, "o"), (0.12, "_start", _END, "s")):
            estimate = [row[f"{quantity}{suffix}_{part}"] for part in ("mean", "low", "high")]
            style.error_bar(axes, place + offset, estimate, color=colour, marker=marker, ms=5, capsize=3)
        labels.append(which.replace(" ", "\n") or _RELATIONS[relation])
    axes.set_xticks(range(len(labels)), labels, rotation=90 if len(labels) > 2 else 0)
    axes.set_xlim(-0.6, max(len(labels), 1) - 0.4)
