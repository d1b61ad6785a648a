"""Weight averages: pairs and windows within trajectories, pairs across them, and the loss between ends."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from intrinsic_lr.analyses.drawing import ACROSS_COLOUR, first_point, starting_times
from intrinsic_lr.analyses.tables import POINT_COLUMNS, AnalysisData, across_pairs, with_point
from intrinsic_lr.figures.style import band, handle, legend_below, ordered_colours, panels, replicates_text, styled
from intrinsic_lr.stats.intervals import summarize
from intrinsic_lr.study.experiment import Experiment, PlannedPoint

if TYPE_CHECKING:
    from torch import Tensor

    from intrinsic_lr.analyses.averaging import Checkpoints
    from intrinsic_lr.training.evaluation import EvaluationData

KEYS = ["relation", "partner_point", "average", "normalisation", "step", "delta", "averaged"]


def measure(data: AnalysisData) -> dict[str, pd.DataFrame]:
    """Return the table `swa`, and `swa_summary` over replicates."""
    import torch

    from intrinsic_lr.data.dataset import load
    from intrinsic_lr.models.devices import resolve
    from intrinsic_lr.training.evaluation import EvaluationData
    from intrinsic_lr.training.state import DTYPES

    torch.set_num_threads(data.threads)
    device = resolve(data.device)
    loaded = {
        (name, dtype): EvaluationData.of(load(*data.datasets[name], device, DTYPES[dtype]))
        for name, dtype in {(point.dataset, point.dtype) for point in data.experiment.points}
    }
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


@styled
def draw_swa(table: pd.DataFrame, experiment: Experiment) -> Figure:
    """Draw accuracy and loss of two-checkpoint averages within a trajectory and across trajectories."""
    table = first_point(table)
    table = table[(table["average"] == "pair") & (table["normalisation"] == "raw")]
    within = table[table["relation"] == "within"]
    across = table[table["relation"] != "within"]
    across = across[across["step"] == across["step"].max()]
    starts = starting_times(within)
    colours = ordered_colours(starts)
    figure, axes = panels(2, 2, 4.6, width_ratios=[2.4, 1])
    percent = [c for c in table if c.startswith("test_accuracy") and "gain" not in c]
    within, across = (part.assign(**{c: part[c] * 100 for c in percent}) for part in (within, across))
    for row, (quantity, label) in enumerate(
        (("test_accuracy", "test accuracy (%)"), ("test_loss", "test loss (nats)"))
    ):
        left, right = axes[row]
        for start in starts:
            rows = within[within["step"] == start]
            band(left, rows, "delta", quantity, color=colours[start], marker="o", ms=3, lw=1.4)
            left.plot(rows["delta"], rows[f"{quantity}_end_mean"], color=colours[start], ls=":", lw=1.2)
        left.set(ylabel=label, xlabel=r"$\Delta$ (steps)" if row else "")
        _across_bars(right, across, quantity)
    axes[0, 0].set_title("Within a trajectory: average of $T$ and $T + \\Delta$")
    axes[0, 1].set_title("Across, at the last $T$")
    handles = [handle(f"$T$ = {start}", color=colours[start], marker="o", ms=3) for start in starts]
    if starts:
        handles.append(handle(r"the later end, $T + \Delta$, alone", color="0.3", ls=":"))
    if len(across):
        handles.append(handle("average of two trajectories", color=ACROSS_COLOUR, marker="o", ls=""))
        handles.append(handle("their ends alone", color=_END, marker="s", ls=""))
    note = f"mean and 95 % interval over {replicates_text(table)}"
    legend_below(figure, handles, 4, f"{note}; batch-norm statistics recomputed for every network")
    figure.suptitle(f"Averages of two checkpoints, within a trajectory and across two ({experiment.name})")
    return figure


_END = sns.color_palette("colorblind")[7]


def _across_bars(axes: Axes, across: pd.DataFrame, quantity: str) -> None:
    """Draw the average and its ends for each relation, with intervals."""
    relations = sorted(across["relation"].unique())
    for index, relation in enumerate(relations):
        rows = across[across["relation"] == relation]
        for offset, suffix, colour, marker in ((-0.12, "", ACROSS_COLOUR, "o"), (0.12, "_start", _END, "s")):
            mean, low, high = (rows[f"{quantity}{suffix}_{part}"].mean() for part in ("mean", "low", "high"))
            error = np.nan_to_num([[mean - low], [high - mean]])
            axes.errorbar(index + offset, mean, yerr=error, color=colour, marker=marker, ms=5, capsize=3, ls="")
    names = {"across_initialisations": "two initial-\nisations", "across_replicates": "one initial-\nisation"}
    axes.set_xticks(range(len(relations)), [names.get(relation, relation) for relation in relations])
    axes.set_xlim(-0.6, max(len(relations), 1) - 0.4)
