"""Checkpoint by checkpoint: disagreement and cosine, within a trajectory and across two (Fort et al. 2019)."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from intrinsic_lr.analyses.drawing import first_point, partners
from intrinsic_lr.analyses.tables import AnalysisData, across_pairs, with_point
from intrinsic_lr.figures.style import HEAT, legend_below, panels, spread, styled
from intrinsic_lr.runs.trajectories import label_trajectory, trajectory
from intrinsic_lr.stats.disagreement import label_changes
from intrinsic_lr.study.experiment import Experiment, PlannedPoint

PAIR = ["step", "partner_step", "replicate", "partner"]
Members = Sequence[tuple[int, int]]
"""Pairs of replicates: of the point, and of its partner."""


def measure(data: AnalysisData) -> dict[str, pd.DataFrame]:
    """Return the table `epochs`."""
    import torch

    torch.set_num_threads(data.threads)
    truth = {name: data.truth(name)[0] for name in data.datasets}
    tables = []
    for point, partner, relation, members in _pairs(data.experiment):
        table = _disagreements(data, point, partner, members, truth[point.dataset])
        table = table.merge(_cosines(data, point, partner, members), on=PAIR)
        tables.append(with_point(table.assign(relation=relation, partner_point=partner.name), point))
    return {"epochs": pd.concat(tables)}


def _pairs(experiment: Experiment) -> Iterator[tuple[PlannedPoint, PlannedPoint, str, Members]]:
    """Yield (point, partner, relation, members): every trajectory with itself, then with another."""
    for point in experiment.points:
        yield point, point, "within", [(k, k) for k in range(experiment.replicates)]
    for point, partner, relation, members in across_pairs(experiment):
        if point.dataset == partner.dataset:
            yield point, partner, relation, members


def _cosines(data: AnalysisData, point: PlannedPoint, partner: PlannedPoint, members: Members) -> pd.DataFrame:
    """Return the cosines of all pairs of checkpoints, raw and with every layer at unit norm."""
    from intrinsic_lr.stats.distance import ALL, ALL_LAYER_NORMALISED, between

    def pairs() -> Iterator:
        for i, j in members:
            a = trajectory(data.ensembles[point.name], i, point.steps)
            same = point is partner and i == j
            yield a, a if same else trajectory(data.ensembles[partner.name], j, partner.steps)

    names = {ALL: "cosine", ALL_LAYER_NORMALISED: "cosine_layer_normalised"}
    table = between(pairs(), members, point.steps, partner.steps, data.ensembles[point.name].measured_groups)
    wide = table[table["layer"].isin(names)].pivot(index=PAIR, columns="layer", values="cosine")
    return wide.rename(columns=names)[list(names.values())].rename_axis(columns=None).reset_index()


def _disagreements(
    data: AnalysisData, point: PlannedPoint, partner: PlannedPoint, members: Members, truth: np.ndarray
) -> pd.DataFrame:
    """Return the disagreement and the errors of all pairs of checkpoints."""
    parts = []
    for i, j in members:
        a = label_trajectory(data.ensembles[point.name], i, point.steps)
        b = label_trajectory(data.ensembles[partner.name], j, partner.steps)
        changes = label_changes(a, b)
        error, partner_error = (label_changes(side, truth[None])[:, 0] for side in (a, b))
        mean_error = (error[:, None] + partner_error) / 2
        missing = np.full(changes.shape, np.nan)
        columns = {
            "step": np.array(point.steps)[:, None],
            "partner_step": np.array(partner.steps),
            "replicate": i,
            "partner": j,
            "disagreement": changes,
            "error": error[:, None],
            "partner_error": partner_error,
            "disagreement_over_error": np.divide(changes, mean_error, out=missing, where=mean_error > 0),
        }
        parts.append(pd.DataFrame({k: np.broadcast_to(v, changes.shape).ravel() for k, v in columns.items()}))
    return pd.concat(parts)


@styled
def draw_epochs(table: pd.DataFrame, experiment: Experiment, confidence: float) -> Figure:
    """Draw the checkpoint-by-checkpoint matrices of Fort et al. 2019, within a trajectory and across two.

    They are means without intervals, so that the `confidence` of the others has no part in them.
    """
    table, which = first_point(table, experiment)
    within = table[table["relation"] == "within"]
    across = partners(table[table["relation"] != "within"], experiment)
    parts = [("within", "", within), *across][:_ROWS]
    figure, axes = panels(len(parts), len(_EPOCHS), 2.15 * len(parts) + 0.3)
    for column, (quantity, title, factor) in enumerate(_EPOCHS):
        means = [factor * rows.groupby(["step", "partner_step"])[quantity].mean().unstack() for *_, rows in parts]
        values = np.concatenate([mean.to_numpy(dtype=float).ravel() for mean in means])
        values = values[np.isfinite(values)]
        limits = {"vmin": values.min(), "vmax": values.max()} if len(values) else {"vmin": 0, "vmax": 1}
        for row, mean in enumerate(means):
            image = _matrix(axes[row, column], mean, experiment, limits)
        axes[0, column].set(title=title)
        axes[-1, column].set_xlabel(_time(experiment))
        bar = figure.colorbar(image, ax=list(axes[:, column]), location="bottom", aspect=22, pad=0.03)
        bar.ax.tick_params(labelsize="x-small")
    for row, (relation, partner, _) in enumerate(parts):
        words = _RELATIONS[relation] + (f":\n{partner}" if partner else "")
        axes[row, 0].set_ylabel(f"{words}, {_time(experiment)}", fontsize="small")
    note = f"means over {within['replicate'].nunique()} trajectories or pairs of them; axes go from checkpoint to "
    legend_below(figure, [], 1, f"{note}checkpoint, not in proportion to time{which}")
    figure.suptitle(f"Checkpoint by checkpoint: weights and predictions ({experiment.words})")
    return figure


_ROWS = 4
"""At most so many kinds of pairs of trajectories are drawn."""
_EPOCHS = (
    ("cosine", "cosine of weights", 1.0),
    ("disagreement", "disagreement (% of test images)", 100.0),
    ("disagreement_over_error", "disagreement / error", 1.0),
)
_RELATIONS = {
    "within": "one trajectory",
    "across_initialisations": "two initialisations",
    "across_replicates": "two trajectories of\none initialisation",
}


def _time(experiment: Experiment) -> str:
    """Say what the axes count: steps where the first point, which is drawn, has no weight decay."""
    return r"$\lambda_e t$" if experiment.points[0].intrinsic_lr else "step"


def _matrix(axes: Axes, mean: pd.DataFrame, experiment: Experiment, limits: dict[str, float]):
    """Draw one matrix of checkpoints (rows) by checkpoints (columns), labelled with their times."""
    values = np.ma.masked_invalid(mean.to_numpy(dtype=float).reshape(mean.shape))
    image = axes.pcolormesh(
        values if mean.size else np.ma.masked_all((1, 1)), cmap=HEAT, rasterized=True, **limits
    )
    rate = experiment.points[0].intrinsic_lr or 1
    for axis, steps in ((axes.xaxis, mean.columns), (axes.yaxis, mean.index)):
        shown = spread(range(len(steps)), 6)
        axis.set_ticks(np.array(shown) + 0.5, [f"{steps[place] * rate:.3g}" for place in shown])
        axis.set_tick_params(labelsize="x-small")
    axes.grid(visible=False)
    axes.set_aspect("equal")
    return image
