"""Evaluation of ensembles, with batch-norm statistics recomputed on the training set."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from intrinsic_lr.data.dataset import Dataset
from intrinsic_lr.models.devices import MemberLimit, in_float64
from intrinsic_lr.models.ensemble import EnsembleModel
from intrinsic_lr.models.normalisation import CollectedStatistics, FixedStatistics, Statistics

Result = TypeVar("Result")

EVALUATION_BATCH = 2048
"""Images in one pass. A training set that fits in one batch gets its exact statistics."""
MEMBER_IMAGES = 1 << 17
"""Members times images that are evaluated at once: bounds the memory of the activations."""
CPU_PIXELS = 1 << 18
"""Members times images times pixels that a CPU evaluates at once: larger temporaries leave its cache."""
CPU_IMAGES = 256
"""Images that a CPU predicts in one pass, for the same reason."""


@dataclass(frozen=True)
class EvaluationData:
    """A data set normalised for evaluation: images (N, C, H, W) and labels (N,)."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor

    @staticmethod
    def of(data: Dataset) -> "EvaluationData":
        """Normalise a data set once; no augmentation."""
        return EvaluationData(
            data.normalize(data.train_images),
            data.train_labels,
            data.normalize(data.test_images),
            data.test_labels,
        )


@dataclass(frozen=True)
class Evaluation:
    """Mean loss (nats) and accuracy of each member, tensors of shape (R,) in float64."""

    train_loss: Tensor
    train_accuracy: Tensor
    test_loss: Tensor
    test_accuracy: Tensor


@torch.no_grad()
def recompute_statistics(
    model: EnsembleModel, params: Mapping[str, Tensor], images: Tensor
) -> tuple[dict[str, Statistics], Tensor | None]:
    """Return every batch-norm layer's statistics over the training images, and the logits if one pass gave them.

    The images pass in fixed order in batches of `EVALUATION_BATCH`, each normalised by its own statistics, whose
    totals are pooled (Izmailov et al. 2018, section 3.2). The logits (R, N, K) come with it where one batch
    holds all images: they are then exactly those under the pooled statistics.
    """
    collected = CollectedStatistics(model.norms)
    logits = [model.forward(params, batch, collected) for batch in images.split(EVALUATION_BATCH)]
    return collected.result(), logits[0] if len(logits) == 1 else None


@torch.no_grad()
def predict(
    model: EnsembleModel, params: Mapping[str, Tensor], statistics: Mapping[str, Statistics], images: Tensor
) -> Tensor:
    """Return logits (R, N, K) of images (N, C, H, W) under fixed statistics."""
    normalizer = FixedStatistics(statistics)
    size = CPU_IMAGES if images.device.type == "cpu" else EVALUATION_BATCH
    return torch.cat([model.forward(params, batch, normalizer) for batch in images.split(size)], dim=1)


def losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy (R, N), in nats, of logits (R, N, K) and labels (N,), in the logits' dtype."""
    return F.cross_entropy(logits.transpose(1, 2), labels.expand(len(logits), -1), reduction="none")


def by_members(
    model: EnsembleModel, params: Mapping[str, Tensor], compute: Callable[[dict[str, Tensor]], Result]
) -> list[Result]:
    """Return what `compute` makes of parts of the ensemble, of as many members as its device takes at once."""
    first = next(iter(params.values()))
    limit = CPU_PIXELS // prod(model.image_shape[1:]) if first.device.type == "cpu" else MEMBER_IMAGES
    return MemberLimit(max(1, limit // EVALUATION_BATCH)).map(
        lambda part: compute({name: value[part] for name, value in params.items()}), len(first)
    )


def evaluate(model: EnsembleModel, params: Mapping[str, Tensor], data: EvaluationData) -> Evaluation:
    """Evaluate every member on the whole training and test set, under statistics recomputed on the former."""
    parts = by_members(model, params, lambda chunk: _evaluate(model, chunk, data))
    return Evaluation(*(torch.cat(values) for values in zip(*parts, strict=True)))


@torch.no_grad()
def _evaluate(
    model: EnsembleModel, params: Mapping[str, Tensor], data: EvaluationData
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    statistics, train_logits = recompute_statistics(model, params, data.train_images)
    if train_logits is None:
        train_logits = predict(model, params, statistics, data.train_images)
    test_logits = predict(model, params, statistics, data.test_images)
    return *_score(train_logits, data.train_labels), *_score(test_logits, data.test_labels)


def _score(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean loss and accuracy (R,); both NaN for a member whose logits are not finite."""
    loss = in_float64(losses(logits, labels)).mean(dim=1)
    accuracy = in_float64(logits.max(dim=-1).indices == labels).mean(dim=1)
    return loss, torch.where(loss.isfinite(), accuracy, torch.nan)


@torch.no_grad()
def features(model: EnsembleModel, params: Mapping[str, Tensor], data: EvaluationData) -> tuple[Tensor, Tensor]:
    """Return what the head sees of the training and of the test images, (R, N, F), statistics as in `evaluate`."""
    head = params["head.weight"]
    # A head that is the identity hands on its input.
    identity = torch.eye(head.shape[-1], dtype=head.dtype, device=head.device).expand(len(head), -1, -1)
    bare = {**params, "head.weight": identity}
    statistics, _ = recompute_statistics(model, bare, data.train_images)
    return predict(model, bare, statistics, data.train_images), predict(model, bare, statistics, data.test_images)
