"""Pairs of points that analyses and claims compare."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from itertools import combinations, product

from intrinsic_lr.study.experiment import PlannedPoint
from intrinsic_lr.study.points import Point

AXES = tuple(axis.name for axis in fields(Point))
SAME, DIFFERENT = "same", "different"
"""Pairs at one intrinsic rate, and at intrinsic rates a factor of ten apart."""

_POWERS_OF_RESCALING = {"sgd": 2, "adamw": 1, "lion": 1}
"""By the optimiser: the power of c by which the learning rate changes, where the weights start c times larger."""

Pair = tuple[PlannedPoint, PlannedPoint]


def differing_axes(a: PlannedPoint, b: PlannedPoint) -> list[str]:
    """Return the axes in which two points differ.

    A learning rate and a weight decay that differ at equal intrinsic rate count as `lr` alone; where the
    intrinsic rate differs, it is named in place of the weight decay.
    """
    axes = [axis for axis in AXES if getattr(a, axis) != getattr(b, axis)]
    if "weight_decay" in axes:
        axes.remove("weight_decay")
        if not same_intrinsic_lr(a, b):
            axes.append("intrinsic_lr")
    return axes


def same_intrinsic_lr(a: PlannedPoint, b: PlannedPoint) -> bool:
    """Tell whether two points have one intrinsic learning rate, to the digits that names carry."""
    return abs(a.intrinsic_lr - b.intrinsic_lr) <= 1e-9 * a.intrinsic_lr


def tenfold(a: PlannedPoint, b: PlannedPoint) -> bool:
    """Tell whether two points differ in the intrinsic rate by a factor of ten, and else in `init_seed` at most."""
    low, high = sorted([a.intrinsic_lr, b.intrinsic_lr])
    alone = set(differing_axes(a, b)) - {"init_seed"} == {"intrinsic_lr"}
    return low > 0 and math.isclose(high / low, 10, rel_tol=0.05) and alone


def initialisations(points: Iterable[PlannedPoint]) -> list[Pair]:
    """Return all pairs of points that differ in their initialisation alone."""
    return [(a, b) for a, b in combinations(points, 2) if differing_axes(a, b) == ["init_seed"]]


def settings(points: Iterable[PlannedPoint]) -> list[list[PlannedPoint]]:
    """Return points by their setting: those of one setting differ in `init_seed` alone."""
    found: list[list[PlannedPoint]] = []
    for point in points:
        for setting in found:
            if set(differing_axes(setting[0], point)) <= {"init_seed"}:
                setting.append(point)
                break
        else:
            found.append([point])
    return found


def repeated_initialisations(points: Iterable[PlannedPoint], replicates: int) -> list[list[PlannedPoint]]:
    """Return the settings with two initialisations or more from which two runs or more begin."""
    repeated = []
    for setting in settings(points):
        starts = Counter((point.name, point.initialisation(k)) for point in setting for k in range(replicates))
        if sum(runs > 1 for runs in starts.values()) > 1:
            repeated.append(setting)
    return repeated


def rescaled(
    points: Sequence[PlannedPoint], eps_kept: bool = False
) -> Iterator[tuple[PlannedPoint, PlannedPoint, float]]:
    """Yield the pairs (point, rescaled point, c) that train the same functions, or would but for an eps as it was.

    Weights that start c times larger do so at c^2 eta and lambda / c^2 under SGD, and at c eta, lambda / c and
    eps / c under AdamW and Lion (derived; `stats.theory.rescaled`, `adamw_rescaled`).
    """
    for a, b in product(points, points):
        c = b.init_scale / a.init_scale
        power = _POWERS_OF_RESCALING.get(a.optimiser)
        if power is None or c <= 1 or not same_intrinsic_lr(a, b):
            continue
        alone = set(differing_axes(a, b)) - {"eps"} == {"lr", "init_scale"}
        eps_a, eps_b = a.value_of("eps") or 0.0, b.value_of("eps") or 0.0
        right_eps = 0 < eps_a == eps_b if eps_kept else math.isclose(eps_a, c * eps_b, rel_tol=1e-9)
        if alone and right_eps and math.isclose(c**power * a.lr, b.lr, rel_tol=1e-9):
            yield a, b, c


def equal_rates(points: Sequence[PlannedPoint]) -> Iterator[tuple[PlannedPoint, PlannedPoint, str]]:
    """Yield the pairs that differ in the learning rate at one intrinsic rate, and of each of their points the
    partners at an intrinsic rate ten times higher or lower.

    They may differ in `init_seed` too; of points that differ in nothing else the first counts.
    """
    pairs = list(combinations([setting[0] for setting in settings(points)], 2))
    same = [
        (a, b)
        for a, b in pairs
        if set(differing_axes(a, b)) - {"init_seed"} == {"lr"} and a.weight_decay != b.weight_decay
    ]
    compared = {point.name for pair in same for point in pair}
    for a, b in same:
        yield a, b, SAME
    for a, b in pairs:
        if tenfold(a, b) and compared & {a.name, b.name}:
            yield a, b, DIFFERENT


def pairs_of_schedules(points: Sequence[PlannedPoint], schedules: Iterable[tuple[str, str]]) -> list[Pair]:
    """Return the pairs that differ in their schedule alone, which are among these pairs of schedules."""
    wanted = set(schedules)
    return [
        (a, b)
        for a, b in product(points, points)
        if (a.schedule, b.schedule) in wanted and differing_axes(a, b) == ["schedule"]
    ]


def paired(a: PlannedPoint, b: PlannedPoint) -> bool:
    """Tell whether replicate k of both points shares a random draw: initial weights of its own, or batches.

    Runs are then not exchangeable between the points one by one: both sides look more alike than two independent
    samples do, and the p-value of a permutation test leans towards 1. One initialisation that *all* runs of
    both sides share pairs nothing.
    """
    independent = a.init_sharing == b.init_sharing == "independent"
    weights = independent and a.init_seed == b.init_seed
    return weights or (a.data_order is not None and a.data_order == b.data_order)
