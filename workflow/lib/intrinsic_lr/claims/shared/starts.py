"""Networks of different initialisations at one intrinsic rate, and which of them are independent of each other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from intrinsic_lr.claims.shared.spec import ClaimData
from intrinsic_lr.study.experiment import PlannedPoint
from intrinsic_lr.study.pairs import differing_axes

if TYPE_CHECKING:
    from torch import Tensor

    from intrinsic_lr.models.ensemble import EnsembleModel

WITHIN, ORDERS, ACROSS, RANDOM = "within", "across_replicates", "across_initialisations", "random"
"""Of one trajectory; two trajectories of one initialisation; of two; two untrained networks."""


@dataclass(frozen=True)
class Compared:
    """Points that differ in `init_seed` at most, and the pairs of their networks.

    A network is numbered over all points, one after the other. Initialisations are taken two by two, so that none
    is in two pairs. A sample is what is independent of the rest: two initialisations with all their runs, or each
    pair of runs where there are no more than two initialisations, on which all is then conditional.

    Attributes:
        points: the points.
        across: pairs of networks of two initialisations.
        orders: networks of one initialisation, each with the next; none where every run has its own.
        samples: the sample of each first network.
    """

    points: Sequence[PlannedPoint]
    across: list[tuple[int, int]]
    orders: list[tuple[int, int]]
    samples: dict[int, int]

    @property
    def first(self) -> PlannedPoint:
        """The point that stands for all."""
        return self.points[0]

    def earlier(self, lag: float) -> int:
        """Return the checkpoint that lies about `lag` (in 1/lambda_e) before the last one."""
        wanted = self.first.steps[-1] - lag / self.first.intrinsic_lr
        return min(self.first.steps[:-1], key=lambda step: abs(step - wanted))


def compared_starts(points: Sequence[PlannedPoint], replicates: int) -> list[Compared]:
    """Return, for each intrinsic rate, the first points that have two initialisations or more."""
    found: dict[float, Compared] = {}
    for point in points:
        partners = [other for other in points if differing_axes(point, other) == ["init_seed"]]
        compared = _compared([point, *partners], replicates)
        if compared.across:
            found.setdefault(point.intrinsic_lr, compared)
    return list(found.values())


def _compared(points: Sequence[PlannedPoint], replicates: int) -> Compared:
    starts: dict[tuple[int, int], list[int]] = {}
    for place, point in enumerate(points):
        for replicate in range(replicates):
            key = place, point.initialisation(replicate)
            starts.setdefault(key, []).append(place * replicates + replicate)
    runs = list(starts.values())
    across, orders, samples = [], [], {}
    for sample, (first, second) in enumerate(zip(runs[::2], runs[1::2], strict=False)):
        across += zip(first, second, strict=False)
        if len(first) > 1:
            orders += zip(first, [*first[1:], first[0]], strict=True)
        samples |= dict.fromkeys(first, sample)
    if len(runs) < 4:
        samples = {network: network for network in samples}
    return Compared(points, across, orders, samples)


def pairs_of_weights(
    data: ClaimData, role: str, compared: Compared, lag: float | None
) -> "Iterator[tuple[str, Sequence[int], dict[str, Tensor], dict[str, Tensor]]]":
    """Yield a relation, its first networks, and both sides' weights (R, ...), at the last checkpoint.

    Within a trajectory the first side is `lag` (in 1/lambda_e) earlier; None leaves that relation out. Untrained
    networks are drawn anew, as many as there are pairs across, with the fixed weights of the trained ones.
    """
    last = _weights(data, role, compared, compared.first.steps[-1])
    firsts, seconds = (list(side) for side in zip(*compared.across, strict=True))
    if lag is not None:
        earlier = _weights(data, role, compared, compared.earlier(lag))
        yield WITHIN, firsts, _chosen(earlier, firsts), _chosen(last, firsts)
    if compared.orders:
        mine, others = (list(side) for side in zip(*compared.orders, strict=True))
        yield ORDERS, mine, _chosen(last, mine), _chosen(last, others)
    yield ACROSS, firsts, _chosen(last, firsts), _chosen(last, seconds)
    trained, model = _chosen(last, firsts), data.ensemble(role, compared.first).model()
    yield RANDOM, firsts, *(_untrained(data, model, trained, side) for side in "ab")


def _weights(data: ClaimData, role: str, compared: Compared, step: int) -> "dict[str, Tensor]":
    import torch

    parts = [data.ensemble(role, point).weights(step) for point in compared.points]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _chosen(weights: "dict[str, Tensor]", networks: Sequence[int]) -> "dict[str, Tensor]":
    return {name: value[networks] for name, value in weights.items()}


def _untrained(
    data: ClaimData, model: "EnsembleModel", trained: "dict[str, Tensor]", side: str
) -> "dict[str, Tensor]":
    value = next(iter(trained.values()))
    seeds = [data.spec.stream(RANDOM, side, network) for network in range(len(value))]
    return model.initialize(seeds, 1.0, value.dtype) | {name: trained[name] for name in model.frozen}


def of_samples(values: pd.Series) -> pd.Series:
    """Return the mean of each sample of values that are indexed by `sample` and by what is in it."""
    return values.groupby("sample").mean()
