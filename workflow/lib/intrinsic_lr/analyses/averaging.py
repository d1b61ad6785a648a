"""Stochastic weight averages along trajectories and across them, and the loss between their ends.

Averages are evaluated as Izmailov et al. 2018 ask for: with batch-norm statistics recomputed on the training set.
Scale-invariant weights of different networks have free norms, layer by layer, so each average is taken twice: of
the weights as they are (`raw`), and after every scale group was brought to unit norm (`per_layer`). Across
trajectories it is taken a third time, after the hidden units of one network were also matched with those of the
other (`matched`), in networks whose units can be matched (`models.matching`).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from intrinsic_lr.analyses.tables import AnalysisData
from intrinsic_lr.data.dataset import load
from intrinsic_lr.models.devices import in_float64, resolve
from intrinsic_lr.models.ensemble import EnsembleModel
from intrinsic_lr.models.matching import hidden_units, match, permute
from intrinsic_lr.study.model_spec import MATCHED_KINDS
from intrinsic_lr.training.evaluation import EvaluationData, evaluate
from intrinsic_lr.training.state import DTYPES

Weights = Mapping[str, Tensor]
NORMALISATIONS = ("raw", "per_layer")
MATCHED = "matched"
Scores = dict[str, np.ndarray]
"""The entries of an `Evaluation`: mean loss (nats) and accuracy of each member, arrays (R,)."""


def normalize_groups(weights: Weights, scale_groups: Mapping[str, Sequence[str]]) -> dict[str, Tensor]:
    """Return the ensemble, weights (R, ...), with every scale group of every member at unit norm.

    A group are parameters that are scale-invariant together; others stay as they are.

    >>> normalize_groups({"w": torch.tensor([[3.0, 4.0]])}, {"layer": ["w"]})
    {'w': tensor([[0.6000, 0.8000]])}
    """
    result = dict(weights)
    for names in scale_groups.values():
        squares = sum(in_float64(weights[name]).flatten(1).square().sum(dim=1) for name in names)
        for name in names:
            norm = squares.sqrt().view(-1, *[1] * (weights[name].dim() - 1))
            result[name] = (in_float64(weights[name]) / norm).to(weights[name])
    return result


def matched(model: EnsembleModel, a: Weights, b: Weights) -> dict[str, Tensor]:
    """Return the networks b, weights (R, ...), with their hidden units in the order that comes closest to a's.

    Member by member; every scale group is at unit norm while units are matched, so that free norms play no part.
    InputError for a network whose units cannot be matched.
    """
    units = hidden_units(model.network)
    orders = match(*(normalize_groups(side, model.scale_groups) for side in (a, b)), units)
    return permute(b, units, orders)


def normalisations_across(model: EnsembleModel) -> tuple[str, ...]:
    """Return in which ways two trajectories of a network are brought together before they are averaged."""
    return (*NORMALISATIONS, MATCHED) if model.spec.kind in MATCHED_KINDS else NORMALISATIONS


def interpolate(a: Weights, b: Weights, alpha: float) -> dict[str, Tensor]:
    """Return (1 - alpha) a + alpha b, computed in float64 and kept in the dtype of a.

    >>> interpolate({"w": torch.tensor([0.0, 8.0])}, {"w": torch.tensor([4.0, 0.0])}, alpha=0.25)
    {'w': tensor([1., 6.])}
    """
    return {name: torch.lerp(in_float64(a[name]), in_float64(b[name]), alpha).to(a[name]) for name in a}


def swa(checkpoints: Iterable[Weights]) -> dict[str, Tensor]:
    """Return the stochastic weight average of checkpoints: their mean, summed in float64, kept in their dtype.

    They are weights of one network or of one ensemble, taken one after another; ValueError when there is none.
    Where weights have free norms, `normalize_groups` brings them to one norm first.

    >>> swa([{"w": torch.tensor([1.0])}, {"w": torch.tensor([2.0])}, {"w": torch.tensor([6.0])}])
    {'w': tensor([3.])}
    """
    total: dict[str, Tensor] = {}
    count, weights = 0, {}
    for weights in checkpoints:
        total = {name: in_float64(value) + total.get(name, 0) for name, value in weights.items()}
        count += 1
    if not count:
        raise ValueError("an average of no checkpoints")
    return {name: (value / count).to(weights[name]) for name, value in total.items()}


def evaluation_sets(data: AnalysisData) -> dict[tuple[str, str], EvaluationData]:
    """Read the data sets of an analysis onto its device, by name and dtype; sets the number of threads."""
    torch.set_num_threads(data.threads)
    device = resolve(data.device)
    return {
        (name, dtype): EvaluationData.of(load(*data.datasets[name], device, DTYPES[dtype]))
        for name, dtype in {(point.dataset, point.dtype) for point in data.experiment.points}
    }


def score(model: EnsembleModel, weights: Weights, data: EvaluationData) -> Scores:
    """Evaluate every member of an ensemble."""
    return {name: value.cpu().numpy() for name, value in vars(evaluate(model, weights, data)).items()}


class Checkpoints:
    """An ensemble's checkpoints, read when they are needed, and evaluated once in each normalisation on `data`.

    `read` gives the weights at each of the ascending `steps`, tensors of shape (R, ...).
    """

    def __init__(
        self, model: EnsembleModel, steps: Sequence[int], read: Callable[[int], Weights], data: EvaluationData
    ) -> None:
        self.model, self.steps, self._read, self.data = model, steps, read, data
        self.scores = {
            normalisation: {step: score(model, self.weights(normalisation, step), data) for step in steps}
            for normalisation in NORMALISATIONS
        }

    def weights(self, normalisation: str, step: int) -> Weights:
        """Read the weights at a step, in a normalisation."""
        weights = self._read(step)
        return weights if normalisation == "raw" else normalize_groups(weights, self.model.scale_groups)

    def segment(self, a: Weights, b: Weights, points: int) -> list[Scores]:
        """Evaluate the inner points alpha = i/(n + 1), i = 1..n, of the segment from a to b."""
        alphas = np.arange(1, points + 1) / (points + 1)
        return [score(self.model, interpolate(a, b, float(alpha)), self.data) for alpha in alphas]


def swa_table(checkpoints: Checkpoints, interpolation: int) -> pd.DataFrame:
    """Evaluate averages along each replicate's trajectory, for all pairs (T, T + delta) of checkpoints.

    A row per replicate, average (`pair` of the ends, `window` of all checkpoints from T to T + delta),
    normalisation, `step` T and `delta`; columns as in results/README.md. `interpolation` is the odd number of
    inner points of the segment between two ends at which the barrier is looked for; the middle one is the average.
    The checkpoints of two steps are in memory at a time.
    """
    steps, parts = checkpoints.steps, []
    for normalisation in NORMALISATIONS:
        scores = checkpoints.scores[normalisation]
        members = np.arange(len(scores[steps[0]]["test_loss"]))
        labels = {"replicate": members, "partner": members, "relation": "within", "normalisation": normalisation}
        for first, start in enumerate(steps):
            begin = checkpoints.weights(normalisation, start)
            total = {name: in_float64(value) for name, value in begin.items()}
            for count, end in enumerate(steps[first + 1 :], start=2):
                last, ends = checkpoints.weights(normalisation, end), (scores[start], scores[end])
                labels |= {"step": start, "delta": end - start}
                inner = checkpoints.segment(begin, last, interpolation)
                parts.append(_rows({**labels, "average": "pair", "averaged": 2}, inner, *ends))
                total = {name: value + in_float64(last[name]) for name, value in total.items()}
                if count > 2:
                    mean = {name: (value / count).to(last[name]) for name, value in total.items()}
                    middle = score(checkpoints.model, mean, checkpoints.data)
                    parts.append(_rows({**labels, "average": "window", "averaged": count}, [middle], *ends))
    if not parts:
        # A single checkpoint has no pair, but the table its columns.
        none = scores[steps[0]]
        labels |= {"step": steps[0], "delta": 0, "average": "pair", "averaged": 2}
        parts.append(_rows(labels, [none], none, none).head(0))
    return pd.concat(parts, ignore_index=True)


def across_table(
    a: Checkpoints, b: Checkpoints, pairs: Sequence[tuple[int, int]], interpolation: int, relation: str
) -> pd.DataFrame:
    """Evaluate averages of replicates i of one trajectory with replicates j of another, checkpoint by checkpoint.

    The n-th checkpoints of `a` and `b`, of the same network, belong together; `pairs` are (i, j), at least one.
    The rows are those of `swa_table`, with delta 0, the partner's replicate j, this `relation`, and the
    normalisations of `normalisations_across`.
    """
    first, second = np.array(pairs).T
    labels = {
        "replicate": first,
        "partner": second,
        "relation": relation,
        "delta": 0,
        "average": "pair",
        "averaged": 2,
    }
    parts = []
    for normalisation in normalisations_across(a.model):
        # Another order of units is the same function.
        norms = "per_layer" if normalisation == MATCHED else normalisation
        for steps in zip(a.steps, b.steps, strict=True):
            ends, scores = [], []
            for side, step, members in zip((a, b), steps, (first, second), strict=True):
                weights, scored = side.weights(norms, step), side.scores[norms][step]
                ends.append({name: value[members] for name, value in weights.items()})
                scores.append({name: value[members] for name, value in scored.items()})
            if normalisation == MATCHED:
                ends[1] = matched(a.model, *ends)
            inner = a.segment(*ends, interpolation)
            parts.append(_rows({**labels, "normalisation": normalisation, "step": steps[0]}, inner, *scores))
    return pd.concat(parts, ignore_index=True)


def _rows(labels: Mapping[str, Any], inner: Sequence[Scores], start: Scores, end: Scores) -> pd.DataFrame:
    """Lay out one average of every member: the middle of `inner`, its ends, the gains and the barriers.

    The barrier is the largest excess of the loss at the inner points over the line between the ends' losses
    (Frankle et al. 2020, linear mode connectivity); negative where the loss lies below the line at all of them.
    """
    middle = inner[len(inner) // 2]
    best_accuracy = np.maximum(start["test_accuracy"], end["test_accuracy"])
    rows = {**labels, **middle}
    rows |= {f"{name}_{side}": ends[name] for side, ends in (("start", start), ("end", end)) for name in middle}
    rows["test_loss_gain"] = np.minimum(start["test_loss"], end["test_loss"]) - middle["test_loss"]
    rows["test_accuracy_gain"] = middle["test_accuracy"] - best_accuracy
    alphas = np.arange(1, len(inner) + 1)[:, None] / (len(inner) + 1)
    for loss in ("train_loss", "test_loss"):
        line = (1 - alphas) * start[loss] + alphas * end[loss]
        excess = (np.stack([point[loss] for point in inner]) - line).max(axis=0)
        rows[f"{loss}_barrier"] = excess if labels["average"] == "pair" else np.nan
    return pd.DataFrame(rows)
