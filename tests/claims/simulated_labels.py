"""Runs whose predictions are drawn from known label distributions, behind the interface of the claims' inputs."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
from checks import Point, spec_of

from intrinsic_lr.core.seeding import stream_seed

CLASSES, IMAGES = 4, 60


def dirichlet(*names: int) -> np.ndarray:
    """Return label distributions (N, K), nearly certain for most images, as trained networks' are."""
    return np.random.default_rng(names).dirichlet(np.full(CLASSES, 0.15), IMAGES)


def draw(p: np.ndarray, runs: int, generator: np.random.Generator) -> np.ndarray:
    """Return labels (runs, N) drawn from p (N, K)."""
    return (generator.random((runs, len(p), 1)) > p.cumsum(axis=1)[None, :, :-1]).sum(axis=2)


def point(name: str, intrinsic_lr: float, steps: list[int], **axes: object) -> Point:
    """Return a point as the workflow describes it."""
    base = {
        "name": name, "dataset": "data", "model": "mlp", "batch_size": 32, "lr": 0.1,
        "weight_decay": intrinsic_lr / 0.1, "intrinsic_lr": intrinsic_lr, "init_sharing": "shared", "steps": steps,
        "length": steps[-1],
    }  # fmt: skip
    return Point(**base | axes)


class SimulatedData:
    """Stands in for `ClaimData`.

    Args:
        distribution: from a point and a step to label distributions (N, K); where a point has several
            initialisations, each has an `init_seed` of its own here.
        name: of the claim.
        points: by role.
        runs: runs of each point.
        records: for each point's name what its training recorded.
    """

    def __init__(self, distribution, name, points, runs=40, records=None):
        self.spec = spec_of(name, points, runs)
        self._distribution, self._runs, self._records = distribution, runs, records or {}

    def ensemble(self, role, point):
        starts = [point.initialisation(run) for run in range(self._runs)]

        def labels(step):
            generator = np.random.default_rng(stream_seed(point.name, step))
            if point.runs_per_init == 1:
                return draw(self._distribution(point, step), self._runs, generator)
            parts = []
            for start, runs in Counter(starts).items():
                of_start = Point(**vars(point) | {"init_seed": 1000 * point.init_seed + start})
                parts.append(draw(self._distribution(of_start, step), runs, generator))
            return np.concatenate(parts)

        def predictions(step):
            return {"labels": labels(step), "logits": np.eye(CLASSES)[labels(step)]}

        record = self._records.get(point.name, {})
        block = SimpleNamespace(record=record, plan=record.get("plan"))
        return SimpleNamespace(labels=labels, predictions=predictions, classes=CLASSES, blocks=[block])

    def test_labels(self, name):
        return dirichlet(0).argmax(axis=1)
