"""How far two trainings that ought to be one are apart: as directions of the weights, and as functions.

Two points are paired replicate by replicate: same initialisation, same batches (`data_order`).
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from intrinsic_lr.data.dataset import Dataset
from intrinsic_lr.models.devices import in_float64
from intrinsic_lr.runs.ensembles import Ensemble
from intrinsic_lr.training.evaluation import by_members, predict, recompute_statistics


def directions(ensemble: Ensemble, step: int) -> Tensor:
    """Return each member's scale-invariant weights at unit norm, rows (R, P) in float64."""
    weights = ensemble.weights(step)
    names = [name for group in ensemble.scale_groups.values() for name in group]
    rows = torch.cat([in_float64(weights[name]).flatten(1) for name in names], dim=1)
    return rows / rows.norm(dim=1, keepdim=True)


def predicted_logits(ensemble: Ensemble, step: int, data: Dataset) -> Tensor:
    """Return each member's test logits (R, N, K), with batch-norm statistics recomputed on the training set."""
    model, device = ensemble.model(), data.train_images.device
    train, test = data.normalize(data.train_images), data.normalize(data.test_images)

    def predicted(chunk: dict[str, Tensor]) -> Tensor:
        params = {name: value.to(device) for name, value in chunk.items()}
        statistics, _ = recompute_statistics(model, params, train)
        return predict(model, params, statistics, test).cpu()

    return torch.cat(by_members(model, ensemble.weights(step), predicted))


def predicted_labels(ensemble: Ensemble, step: int, data: Dataset) -> np.ndarray:
    """Return each member's predicted labels on the test set (R, N); -1 where its logits are not finite."""
    logits = predicted_logits(ensemble, step, data)
    return torch.where(logits.isfinite().all(dim=-1), logits.max(dim=-1).indices, -1).numpy()


def deviations(a: Ensemble, b: Ensemble, steps: Iterable[int], data: Dataset) -> pd.DataFrame:
    """Compare two ensembles of as many members, at checkpoints that both have; the data are in their dtype.

    Returns one row per step and replicate: `directions`, the distance of the weights at unit norm (between 0 and
    2), and `logits`, the largest difference of two test logits relative to the largest logit. Infinite where one
    member is finite and the other is not, NaN where neither is.
    """
    parts = []
    for step in steps:
        to_a, to_b = directions(a, step), directions(b, step)
        apart = _where_finite((to_a - to_b).norm(dim=1), to_a, to_b)
        of_a, of_b = (in_float64(predicted_logits(ensemble, step, data)).flatten(1) for ensemble in (a, b))
        logits = _where_finite((of_a - of_b).abs().amax(dim=1) / of_a.abs().amax(dim=1), of_a, of_b)
        columns = {"step": step, "replicate": range(len(apart)), "directions": apart, "logits": logits}
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def _where_finite(distance: Tensor, a: Tensor, b: Tensor) -> np.ndarray:
    """Return a distance (R,) of rows (R, P): infinite where one of them alone is finite, NaN where neither is."""
    finite_a, finite_b = (side.isfinite().all(dim=1) for side in (a, b))
    distance = distance.masked_fill(finite_a != finite_b, torch.inf)
    return distance.masked_fill(~(finite_a | finite_b), torch.nan).numpy()
