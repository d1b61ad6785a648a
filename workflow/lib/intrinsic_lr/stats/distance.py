"""Distances between checkpoints, per layer and over the whole network.

A layer is a scale group of the model: weights that are scale-invariant together. Other weights, such as a fixed
head, take no part. Three kinds of vectors are compared: the weights of one layer, under its name; those of all
layers, `all`; and those of all layers, each scaled to unit norm and the whole again, `all_layer_normalised`.

Networks are large and their checkpoints few, so each set of T vectors of P weights is first turned to T vectors of
at most T coordinates by the QR decomposition, in float64 and block of weights by block, so that they are never in
memory together. It errs by 1e-15 of the norms, where the Gram matrix errs by 1e-15 of their squares: weights that
differ by single float32 roundings keep six digits of their distance. It takes twice the time of the Gram matrix.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

Network = Mapping[str, Any]
"""One network's parameters by name: tensors, or what has a `shape` and gives tensors for slices of its rows."""
Weights = Mapping[str, Tensor]
"""The parameters of an ensemble at one step: tensors of shape (R, ...)."""
Trajectory = Sequence[Network]
"""One replicate's networks at each of T steps."""
ScaleGroups = Mapping[str, Sequence[str]]
"""Layer name to the names of its parameters; at least one layer."""
Blocks = Callable[[str], Iterator[Tensor]]
"""From a parameter's name to its values in M sets of T networks, in blocks of shape (M, T, C)."""

ALL = "all"
ALL_LAYER_NORMALISED = "all_layer_normalised"
QUANTITIES = ("l2", "l2_unit_norm", "cosine")
BLOCK_VALUES = 1 << 20
"""Values in a block of weights: orthogonalised about fastest, and memory is bounded by a few times as many."""


def pairwise(trajectories: Iterable[Trajectory], steps: Sequence[int], scale_groups: ScaleGroups) -> pd.DataFrame:
    """Compare all pairs (T, T + delta) of checkpoints along each replicate's trajectory.

    Args:
        trajectories: one for each replicate, at least one; taken one after another.
        steps: of the networks of each, ascending.
        scale_groups: the layers.

    Returns:
        One row per pair, replicate and layer, sorted by step, delta, replicate: columns `step` (T) and `delta` in
        steps, `replicate`, `layer`, `l2` (Euclidean distance), `l2_unit_norm` (both at unit norm), `cosine`.
        Weights that are not finite give NaN, and zero weights have no direction.
    """
    steps = np.asarray(steps)
    first, second = np.triu_indices(len(steps), 1)
    found = [_compare(_blocks_of(networks), scale_groups)[..., first, second] for networks in trajectories]
    keys = {"step": steps[first], "delta": steps[second] - steps[first]}
    return _table(keys, {"replicate": np.arange(len(found))}, scale_groups, np.concatenate(found, axis=2))


def across(a: Weights, b: Weights, scale_groups: ScaleGroups, pairs: Sequence[tuple[int, int]]) -> pd.DataFrame:
    """Compare replicates of two ensembles of one network (or of the same ensemble) at one step.

    Returns:
        One row per layer and pair (replicate of a, replicate of b), in the order of `pairs`: columns
        `replicate_a`, `replicate_b`, `layer`, and `l2`, `l2_unit_norm`, `cosine` as `pairwise` has them.
    """
    first, second = np.array(pairs).T

    def blocks(name: str) -> Iterator[Tensor]:
        for rows in _row_blocks(a[name].shape[1:], 2 * len(pairs)):
            yield torch.stack([a[name][first, rows].flatten(1), b[name][second, rows].flatten(1)], dim=1)

    found = _compare(blocks, scale_groups)[..., 0, 1, None]
    return _table({}, {"replicate_a": first, "replicate_b": second}, scale_groups, found)


def between(
    pairs: Iterable[tuple[Trajectory, Trajectory]],
    members: Sequence[tuple[int, int]],
    steps: Sequence[int],
    partner_steps: Sequence[int],
    scale_groups: ScaleGroups,
) -> pd.DataFrame:
    """Compare every checkpoint of replicates of one ensemble with every one of another's (or of the same).

    Args:
        pairs: a trajectory of the first and one of the second, of the same network (both may be one trajectory);
            taken one after another, at least one.
        members: (replicate of the first, replicate of the second) of each pair.
        steps: of the networks of the first trajectories.
        partner_steps: of the networks of the second trajectories.
        scale_groups: the layers.

    Returns:
        One row per pair of steps, pair of replicates and layer: columns `step` (of the first), `partner_step` (of
        the second), `replicate`, `partner`, `layer`, and `l2`, `l2_unit_norm`, `cosine` as `pairwise` has them.
    """
    found = []
    for a, b in pairs:
        networks = a if a is b else [*a, *b]
        matrices = _compare(_blocks_of(networks), scale_groups)[..., : len(steps), -len(partner_steps) :]
        found.append(matrices.reshape(*matrices.shape[:3], -1))
    keys = {"step": np.repeat(steps, len(partner_steps)), "partner_step": np.tile(partner_steps, len(steps))}
    of_members = dict(zip(("replicate", "partner"), np.array(members).T, strict=True))
    return _table(keys, of_members, scale_groups, np.concatenate(found, axis=2))


def coordinates(blocks: Iterable[Tensor]) -> Tensor:
    """Return M sets of T vectors in fewer coordinates: all distances and inner products stay, up to rounding.

    Args:
        blocks: the vectors' P values in blocks of shape (M, T, C), at least one.

    Returns:
        Float64, shape (M, T, min(T, P)); NaN where a vector is not finite, which leaves the others unharmed.
    """
    rotated = finite = None
    for block in blocks:
        block = block.detach().to(torch.float64)
        # A sum is not finite if one of its terms is not; float32 values cannot overflow it.
        whole = block.sum(dim=-1, keepdim=True).isfinite()
        finite = whole if finite is None else finite & whole
        if not whole.all():
            block = torch.where(whole, block, 0.0)
        block = block if rotated is None else torch.cat([rotated, block], dim=-1)
        rotated = torch.linalg.qr(block.mT, mode="r").R.mT
    return torch.where(finite, rotated, torch.nan)


def _compare(blocks: Blocks, scale_groups: ScaleGroups) -> np.ndarray:
    """Return `QUANTITIES` of each layer and of all between T members of M sets, (3, L, M, T, T)."""
    layers = [coordinates(block for name in names for block in blocks(name)) for names in scale_groups.values()]
    normalised = torch.cat([_unit(points) for points in layers], dim=-1) / len(layers) ** 0.5
    found = [_quantities(points) for points in (*layers, torch.cat(layers, dim=-1), normalised)]
    return np.stack(found, axis=1)


def _blocks_of(networks: Trajectory) -> Blocks:
    """Return the blocks of one set of networks, (1, T, C)."""

    def blocks(name: str) -> Iterator[Tensor]:
        for rows in _row_blocks(networks[0][name].shape, len(networks)):
            yield torch.stack([network[name][rows].flatten() for network in networks]).unsqueeze(0)

    return blocks


def _row_blocks(shape: Sequence[int], vectors: int) -> Iterator[slice]:
    """Cut a parameter's first axis so that so many of its parts are `BLOCK_VALUES` together, or one row."""
    size = max(1, BLOCK_VALUES // (vectors * prod(shape[1:])))
    return (slice(start, start + size) for start in range(0, shape[0], size))


def _unit(points: Tensor) -> Tensor:
    return points / torch.linalg.vector_norm(points, dim=-1, keepdim=True)


def _quantities(points: Tensor) -> np.ndarray:
    """Return distance, distance at unit norm and cosine between all points (M, T, K) as (3, M, T, T)."""
    distance, unit_distance = (
        torch.cdist(each, each, compute_mode="donot_use_mm_for_euclid_dist") for each in (points, _unit(points))
    )
    # The cosine from the distance, not from the inner product, so that 1 - cos has all its digits too.
    return torch.stack([distance, unit_distance, 1.0 - unit_distance**2 / 2.0]).cpu().numpy()


def _table(
    pairs: Mapping[str, np.ndarray],
    members: Mapping[str, np.ndarray],
    scale_groups: ScaleGroups,
    values: np.ndarray,
) -> pd.DataFrame:
    """Return values (3, L, M, N) as rows ordered by pair N, member M and layer L, with keys (N,) and (M,)."""
    values = values.transpose(0, 3, 2, 1)
    layers = np.array([*scale_groups, ALL, ALL_LAYER_NORMALISED], dtype=object)
    columns = {name: key[:, None, None] for name, key in pairs.items()}
    columns |= {name: key[None, :, None] for name, key in members.items()}
    columns |= {"layer": layers} | dict(zip(QUANTITIES, values, strict=True))
    return pd.DataFrame({name: np.broadcast_to(each, values.shape[1:]).ravel() for name, each in columns.items()})
