"""Stochastic weight averages along trajectories and across them, and the loss between their ends.

Averages are evaluated as Izmailov et al. 2018 ask for: with batch-norm statistics recomputed on the training
set. Scale-invariant weights of different networks have free norms, layer by layer, so each average is taken
twice: of the weights as they are (`raw`), and after every group that is scale-invariant together was brought
to unit norm (`per_layer`).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from intrinsic_lr.models.devices import in_float64
from intrinsic_lr.models.ensemble import EnsembleModel
from intrinsic_lr.training.evaluation import Evaluation, EvaluationData, evaluate

Weights = Mapping[str, Tensor]
NORMALISATIONS = ("raw", "per_layer")
QUANTITIES = tuple(field.name for field in fields(Evaluation))


def normalize_groups(weights: Weights, scale_groups: Mapping[str, Sequence[str]]) -> dict[str, Tensor]:
    """Return the ensemble with every scale group of every member at unit norm; other parameters as they are.

    Args:
        weights: tensors of shape (R, ...).
        scale_groups: for each group, the parameters that are scale-invariant together.
    """
    result = dict(weights)
    for names in scale_groups.values():
        squares = sum(in_float64(weights[name]).flatten(1).square().sum(dim=1) for name in names)
        for name in names:
            norm = squares.sqrt().view(-1, *[1] * (weights[name].dim() - 1))
            result[name] = (in_float64(weights[name]) / norm).to(weights[name])
    return result


def interpolate(a: Weights, b: Weights, alpha: float) -> dict[str, Tensor]:
    """Return (1 - alpha) a + alpha b, computed in float64 and kept in the dtype of a."""
    return {name: torch.lerp(in_float64(a[name]), in_float64(b[name]), alpha).to(a[name]) for name in a}


def swa(checkpoints: Iterable[Weights]) -> dict[str, Tensor]:
    """Return the stochastic weight average of checkpoints: their mean, summed in float64, kept in their dtype.

    Args:
        checkpoints: weights of one network or of one ensemble, at least one; taken one after another. Where
            weights have free norms, `normalize_groups` brings them to one norm first.

    Raises:
        ValueError: when there is none.
    """
    total: dict[str, Tensor] = {}
    count, dtypes = 0, {}
    for weights in checkpoints:
        dtypes = dtypes or {name: value.dtype for name, value in weights.items()}
        total = {name: in_float64(value) + total.get(name, 0) for name, value in weights.items()}
        count += 1
    if not count:
        raise ValueError("an average of no checkpoints")
    return {name: (value / count).to(dtypes[name]) for name, value in total.items()}


def pick(weights: Weights, members: Sequence[int]) -> dict[str, Tensor]:
    """Return the ensemble of the given members, in their order, with repetitions."""
    index = torch.as_tensor(members, device=next(iter(weights.values())).device)
    return {name: value.index_select(0, index) for name, value in weights.items()}


class Checkpoints:
    """An ensemble's checkpoints, read when they are needed, and evaluated once in each normalisation.

    Args:
        model: the ensemble's model.
        steps: of the checkpoints, ascending.
        read: gives the weights at a step, tensors of shape (R, ...).
        data: the data set to evaluate on.

    Attributes:
        scores: for each normalisation the scores at each step.
    """

    def __init__(
        self, model: EnsembleModel, steps: Sequence[int], read: Callable[[int], Weights], data: EvaluationData
    ) -> None:
        self.model, self.steps, self._read, self.data = model, steps, read, data
        self.scores: dict[str, dict[int, Evaluation]] = {
            normalisation: {step: self.evaluate(self.weights(normalisation, step)) for step in steps}
            for normalisation in NORMALISATIONS
        }

    def weights(self, normalisation: str, step: int) -> Weights:
        """Read the weights at a step, in a normalisation."""
        weights = self._read(step)
        return weights if normalisation == "raw" else normalize_groups(weights, self.model.scale_groups)

    def evaluate(self, weights: Weights) -> Evaluation:
        """Evaluate weights of the model."""
        return evaluate(self.model, weights, self.data)

    def segment(self, a: Weights, b: Weights, points: int) -> list[Evaluation]:
        """Evaluate the inner points alpha = i/(n + 1), i = 1..n, of the segment from a to b."""
        alphas = np.arange(1, points + 1) / (points + 1)
        return [self.evaluate(interpolate(a, b, float(alpha))) for alpha in alphas]


def swa_table(checkpoints: Checkpoints, interpolation: int) -> pd.DataFrame:
    """Evaluate averages along each replicate's trajectory, for all pairs (T, T + delta) of checkpoints.

    Args:
        checkpoints: of the ensemble; those of two steps are in memory at a time.
        interpolation: odd number of inner points of the segment between two ends at which the barrier is
            looked for; the middle one is the average.

    Returns:
        One row per replicate, average (`pair` of the ends, `window` of all checkpoints from T to T + delta),
        normalisation, `step` T and `delta`; columns as in results/README.md.
    """
    steps, parts = checkpoints.steps, []
    for normalisation in NORMALISATIONS:
        scores = checkpoints.scores[normalisation]
        members = np.arange(len(scores[steps[0]].test_loss))
        for first, start in enumerate(steps):
            begin = checkpoints.weights(normalisation, start)
            total = {name: in_float64(value) for name, value in begin.items()}
            for count, end in enumerate(steps[first + 1 :], start=2):
                labels = {
                    "relation": "within",
                    "normalisation": normalisation,
                    "step": start,
                    "delta": end - start,
                }
                last = checkpoints.weights(normalisation, end)
                both = scores[start], scores[end]
                inner = checkpoints.segment(begin, last, interpolation)
                parts.append(_rows(members, members, {**labels, "average": "pair", "averaged": 2}, inner, *both))
                total = {name: value + in_float64(last[name]) for name, value in total.items()}
                if count > 2:
                    mean = {name: (value / count).to(last[name]) for name, value in total.items()}
                    labels = {**labels, "average": "window", "averaged": count}
                    parts.append(_rows(members, members, labels, [checkpoints.evaluate(mean)], *both))
    return pd.concat(parts, ignore_index=True)


def across_table(
    a: Checkpoints, b: Checkpoints, pairs: Sequence[tuple[int, int]], interpolation: int, relation: str
) -> pd.DataFrame:
    """Evaluate averages of replicates i of one trajectory with replicates j of another, checkpoint by checkpoint.

    Args:
        a: checkpoints of the first.
        b: checkpoints of the second, of the same network; the n-th of both belong together.
        pairs: (i, j), at least one.
        interpolation: as in `swa_table`.
        relation: what the two have in common, a column of the table.

    Returns:
        Rows as `swa_table` gives them, with delta 0 and the partner's replicate.
    """
    first, second = (np.array(side) for side in zip(*pairs, strict=True))
    parts = []
    for normalisation in NORMALISATIONS:
        for step_a, step_b in zip(a.steps, b.steps, strict=True):
            labels = {"relation": relation, "normalisation": normalisation, "step": step_a, "delta": 0}
            sides = ((a, step_a, first), (b, step_b, second))
            ends = [pick(side.weights(normalisation, step), members) for side, step, members in sides]
            scores = [
                Evaluation(**pick(vars(side.scores[normalisation][step]), members))
                for side, step, members in sides
            ]
            inner = a.segment(*ends, interpolation)
            parts.append(_rows(first, second, {**labels, "average": "pair", "averaged": 2}, inner, *scores))
    return pd.concat(parts, ignore_index=True)


def _rows(
    replicates: np.ndarray,
    partners: np.ndarray,
    labels: Mapping[str, object],
    inner: Sequence[Evaluation],
    start: Evaluation,
    end: Evaluation,
) -> pd.DataFrame:
    """Lay out one average of every member: the middle of `inner`, its ends, the gains and the barriers."""
    middle, first, last = (_columns(scores) for scores in (inner[len(inner) // 2], start, end))
    barriers = {
        f"{part}_loss_barrier": barrier([_columns(point)[f"{part}_loss"] for point in inner], first, last, part)
        for part in ("train", "test")
    }
    if labels["average"] == "window":
        barriers = dict.fromkeys(barriers, np.full(len(replicates), np.nan))
    return pd.DataFrame(
        {
            "replicate": replicates,
            "partner": partners,
            **labels,
            **middle,
            **{f"{name}_start": value for name, value in first.items()},
            **{f"{name}_end": value for name, value in last.items()},
            "test_loss_gain": np.minimum(first["test_loss"], last["test_loss"]) - middle["test_loss"],
            "test_accuracy_gain": middle["test_accuracy"]
            - np.maximum(first["test_accuracy"], last["test_accuracy"]),
            **barriers,
        }
    )


def barrier(
    inner: Sequence[np.ndarray], start: Mapping[str, np.ndarray], end: Mapping[str, np.ndarray], part: str
) -> np.ndarray:
    """Return the largest excess (R,) of the loss at the inner points over the line between the ends' losses.

    The loss barrier of Frankle et al. 2020 (linear mode connectivity), on the points that were evaluated;
    negative where the loss lies below the line at all of them.
    """
    alphas = np.arange(1, len(inner) + 1)[:, None] / (len(inner) + 1)
    line = (1 - alphas) * start[f"{part}_loss"] + alphas * end[f"{part}_loss"]
    return (np.stack(inner) - line).max(axis=0)


def _columns(scores: Evaluation) -> dict[str, np.ndarray]:
    return {name: getattr(scores, name).cpu().numpy() for name in QUANTITIES}
