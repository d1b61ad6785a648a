"""Checkpoints that no training made, and the contenders that take distances between them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from benchmarks import plain
from benchmarks.cases import CLASSES, Model
from intrinsic_lr.core.block_files import CHECKPOINTS, RUN, step_file
from intrinsic_lr.core.storage import write_json, write_tensors
from intrinsic_lr.models.ensemble import EnsembleModel, build
from intrinsic_lr.runs.ensembles import open_ensemble
from intrinsic_lr.runs.trajectories import trajectories
from intrinsic_lr.stats.distance import across, pairwise
from intrinsic_lr.study.model_spec import ModelSpec


@dataclass(frozen=True)
class Weights:
    """Simulated checkpoints of a block of replicates of one net.

    Attributes:
        net: the net.
        checkpoints: checkpoints of each replicate.
        replicates: replicates R.
    """

    net: Model
    checkpoints: int
    replicates: int

    @property
    def steps(self) -> range:
        """Steps of the checkpoints."""
        return range(0, 100 * self.checkpoints, 100)

    def build(self) -> EnsembleModel:
        """Return the ensemble's model."""
        return build(ModelSpec.parse(self.net.spec), self.net.image, CLASSES)

    def write(self, folder: Path) -> None:
        """Write the checkpoints as a training leaves them."""
        names = [step_file(CHECKPOINTS, step) for step in self.steps]
        sums = {
            name: write_tensors(folder / name, weights) for name, weights in zip(names, self._walk(), strict=False)
        }
        write_json(
            folder / RUN,
            {
                "plan": {
                    "point": self.net.spec, "replicates": [0, self.replicates],
                    "model": ModelSpec.parse(self.net.spec).to_config(), "checkpoints": list(self.steps),
                    "batch_size": 1, "log_every": 1, "trace_every": 1,
                    "timeline": {"segments": [{"steps": self.steps[-1] or 1, "lr": 0.1, "weight_decay": 0.1}]},
                },
                "data": {"shape": list(self.net.image), "classes": CLASSES, "sha256": ""},
                "sha256": sums,
            },
        )  # fmt: skip

    def _walk(self) -> Iterator[dict[str, Tensor]]:
        """Yield weights that shrink by a hundredth and take a random step of a fiftieth of their size."""
        generator = torch.Generator().manual_seed(0)
        weights = self.build().initialize(range(self.replicates), 1.0, torch.float32)
        while True:
            yield weights
            weights = {
                name: 0.99 * value + 0.02 * value.std() * torch.randn(value.shape, generator=generator)
                for name, value in weights.items()
            }


def library(weights: Weights, folder: Path, threads: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the distances within trajectories and across neighbouring replicates, as the workflow takes them."""
    torch.set_num_threads(threads)
    ensemble = open_ensemble([folder], weights.replicates)
    groups = ensemble.scale_groups
    inside = pairwise(trajectories(ensemble, weights.steps), weights.steps, groups)
    neighbours = [(k, (k + 1) % weights.replicates) for k in range(weights.replicates)]
    outside = []
    for step in weights.steps:
        kept = ensemble.weights(step)
        outside.append(across(kept, kept, groups, neighbours).assign(step=step))
    return inside, pd.concat(outside)


def pdist(weights: Weights, folder: Path) -> np.ndarray:
    """Return the distances within the first replicate's trajectory by `plain.distances`."""
    files = [folder / step_file(CHECKPOINTS, step) for step in weights.steps]
    return plain.distances(files, weights.build().scale_groups, [0])
