"""Loss and error on the straight line between two networks, and the barrier between them."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from intrinsic_lr.analyses.drawing import first_point, mean_note
from intrinsic_lr.analyses.tables import ACROSS_INITIALISATIONS, AnalysisData, across_pairs, with_point
from intrinsic_lr.figures import style
from intrinsic_lr.stats.intervals import summarize
from intrinsic_lr.study.experiment import Experiment, PlannedPoint

if TYPE_CHECKING:
    from torch import Tensor

    from intrinsic_lr.models.ensemble import EnsembleModel
    from intrinsic_lr.training.evaluation import EvaluationData

    Weights = Mapping[str, Tensor]

POSITIONS = 11
"""Networks on a line, both ends included."""
STARTS = 2
"""Earlier checkpoints of a trajectory that are joined to its last one."""
QUANTITIES = ["train_loss", "test_loss", "test_error"]
PAIR = ["relation", "partner_point", "normalisation", "step", "partner_step"]
MEMBERS = ["replicate", "partner"]
_LINES = {
    "raw": {"label": "raw weights", "color": "#D55E00", "marker": "o"},
    "per_layer": {"label": "every layer at unit norm", "color": "#E69F00", "marker": "s", "ls": "--"},
    "matched": {"label": "and hidden units matched", "color": "#0072B2", "marker": "^"},
}
_TITLES = {
    "within": "Two checkpoints of one trajectory",
    ACROSS_INITIALISATIONS: "Two initialisations",
    "across_replicates": "Two trajectories of one initialisation",
}


def measure(data: AnalysisData) -> dict[str, pd.DataFrame]:
    """Return the lines as `interpolation`, means over replicates, and `barriers` with a row a replicate.

    The ends are an early and a late checkpoint of a trajectory with its last one, and the last checkpoints of two
    trajectories.
    """
    from intrinsic_lr.analyses.averaging import evaluation_sets

    sets = evaluation_sets(data)
    lines = pd.concat(
        with_point(_lines(data, *line, sets[line[0].dataset, line[0].dtype]), line[0])
        for line in _pairs(data.experiment)
    )
    keys = [column for column in lines if column not in [*MEMBERS, *QUANTITIES]]
    summary = summarize(lines, keys, QUANTITIES, data.settings["confidence"])
    return {"interpolation": summary, "barriers": barriers(lines)}


def _pairs(experiment: Experiment) -> Iterator[tuple[PlannedPoint, int, PlannedPoint, int, str, list]]:
    """Yield (point, step, partner, its step, relation, members) of the ends of each line."""
    for point in experiment.points:
        same = [(k, k) for k in range(experiment.replicates)]
        for step in style.spread(point.steps[:-1], STARTS):
            yield point, step, point, point.steps[-1], "within", same
    for point, partner, relation, members in across_pairs(experiment):
        yield point, point.steps[-1], partner, partner.steps[-1], relation, members


def _lines(
    data: AnalysisData,
    point: PlannedPoint,
    step: int,
    partner: PlannedPoint,
    partner_step: int,
    relation: str,
    members: list[tuple[int, int]],
    images: "EvaluationData",
) -> pd.DataFrame:
    first, second = np.array(members).T
    sides = []
    for named, at, chosen in ((point, step, first), (partner, partner_step, second)):
        weights = data.ensembles[named.name].weights(at)
        sides.append({name: value[chosen].to(images.train_images.device) for name, value in weights.items()})
    table = lines_between(data.ensembles[point.name].model(), *sides, images)
    table = table.assign(partner=second[table["replicate"]], replicate=first[table["replicate"]])
    return table.assign(relation=relation, partner_point=partner.name, step=step, partner_step=partner_step)


def lines_between(model: "EnsembleModel", a: "Weights", b: "Weights", images: "EvaluationData") -> pd.DataFrame:
    """Evaluate the networks (1 - alpha) a + alpha b of each pair of networks of a and b, weights (R, ...).

    A row per `normalisation` (`averaging.normalisations_across`), `alpha` from 0 to 1 and `replicate`, the place
    of the pair: mean losses in nats and the share of wrong labels. Batch-norm statistics are recomputed for each.
    """
    from intrinsic_lr.analyses.averaging import (
        MATCHED,
        interpolate,
        matched,
        normalisations_across,
        normalize_groups,
        score,
    )

    unit_a, unit_b = (normalize_groups(side, model.scale_groups) for side in (a, b))
    ends = {"raw": (a, b), "per_layer": (unit_a, unit_b)}
    if MATCHED in normalisations_across(model):
        ends[MATCHED] = (unit_a, matched(model, unit_a, unit_b))
    parts = []
    for normalisation, sides in ends.items():
        for alpha in np.linspace(0, 1, POSITIONS):
            scores = pd.DataFrame(score(model, interpolate(*sides, float(alpha)), images))
            scores = scores.assign(
                normalisation=normalisation, alpha=alpha, test_error=1 - scores["test_accuracy"]
            )
            parts.append(scores.rename_axis("replicate").reset_index())
    table = pd.concat(parts, ignore_index=True)
    return table[["normalisation", "alpha", "replicate", *QUANTITIES]]


def barriers(lines: pd.DataFrame) -> pd.DataFrame:
    """Return for each pair of networks the largest excess of each quantity over the line between its ends' values.

    0 where nothing lies above that line (Frankle et al. 2020, linear mode connectivity). `lines` has a row per
    position `alpha` of each pair.
    """
    keys = [column for column in lines if column not in ["alpha", *QUANTITIES]]
    wide = lines.set_index([*keys, "alpha"])[QUANTITIES].unstack("alpha")
    found = pd.DataFrame(index=wide.index)
    for quantity in QUANTITIES:
        values = wide[quantity]
        alphas = values.columns.to_numpy()
        start, end = (values[[alpha]].to_numpy() for alpha in (alphas[0], alphas[-1]))
        excess = values - ((1 - alphas) * start + alphas * end)
        found[f"{quantity}_start"], found[f"{quantity}_end"] = start[:, 0], end[:, 0]
        found[f"{quantity}_barrier"] = excess.iloc[:, 1:-1].max(axis=1, skipna=False).clip(lower=0)
    return found.reset_index()


@style.styled
def draw_interpolation(table: pd.DataFrame, experiment: Experiment, confidence: float) -> Figure:
    """Draw test loss and test error along the lines, within a trajectory and across two."""
    table, which = first_point(table, experiment)
    table = table.assign(**{name: 100 * table[name] for name in table if name.startswith("test_error")})
    within, across = (table[(table["relation"] == "within") == is_within] for is_within in (True, False))
    shown = [within[within["step"] == within["step"].min()]]
    if len(across):
        first = across.iloc[0]
        chosen = (across["relation"] == first["relation"]) & (across["partner_point"] == first["partner_point"])
        shown.append(across[chosen])
    figure, axes = style.panels(2, len(shown), 4.6, sharey="row")
    for column, rows in enumerate(shown):
        for panel, quantity in zip(axes[:, column], ("test_loss", "test_error"), strict=True):
            for normalisation, look in _LINES.items():
                line = rows[rows["normalisation"] == normalisation]
                style.band(panel, line, "alpha", quantity, ms=3, lw=1.4, **look)
        relation = rows["relation"].iloc[0] if len(rows) else "within"
        axes[0, column].set_title(_TITLES[relation])
        axes[1, column].set_xlabel("position on the line between both")
    axes[0, 0].set_ylabel("test loss (nats)")
    axes[1, 0].set_ylabel("test error (%)")
    steps = " and ".join(f"{step:g}" for step in shown[0][["step", "partner_step"]].iloc[:1].to_numpy().ravel())
    note = f"{mean_note(table, confidence)}" + (f"; trajectory: steps {steps}" if steps else "")
    style.legend_below(figure, style.labelled(figure), 3, f"{note}; across: the last checkpoints{which}")
    figure.suptitle(f"On the straight line between two networks ({experiment.name})")
    return figure
