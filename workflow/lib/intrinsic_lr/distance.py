"""Distances between checkpoints, per layer and over the whole network.

A layer is a scale group of the model: weights that are scale-invariant together. Other weights, such as a
fixed head, take no part. Three kinds of vectors are compared:

- the weights of one layer, under the layer's name;
- the concatenation of all layers as they are, `all`;
- the concatenation of all layers after scaling each to unit norm, divided by the square root of their
  number so that it has unit norm as well, `all_layer_normalised`.

Networks are large and their checkpoints few, so each set of T vectors of P weights is first turned to T
vectors of at most T coordinates by the QR decomposition, in float64. The rotation keeps all distances,
and it errs by 1e-15 of the norms, where the Gram matrix errs by 1e-15 of their squares: even weights
that differ by single float32 roundings keep six digits of their distance.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

Weights = Mapping[str, Tensor]
"""The parameters of an ensemble at one step: tensors of shape (R, ...)."""
ScaleGroups = Mapping[str, Sequence[str]]
"""Layer name to the names of its parameters."""

ALL = "all"
ALL_LAYER_NORMALISED = "all_layer_normalised"
QUANTITIES = ("l2", "l2_unit_norm", "cosine")


def pairwise(checkpoints: Mapping[int, Weights], scale_groups: ScaleGroups) -> pd.DataFrame:
    """Compare all pairs (T, T + delta) of checkpoints along each replicate's trajectory.

    Args:
        checkpoints: step to weights, of at least one step; the same names and shapes at each.
        scale_groups: the layers, at least one.

    Returns:
        One row per pair, replicate and layer, sorted by step, delta, replicate: columns `step` (T) and
        `delta` in steps, `replicate`, `layer`, `l2` (Euclidean distance), `l2_unit_norm` (after scaling both
        to unit norm), `cosine`. Weights that are not finite give NaN, and zero weights have no direction.
    """
    steps = np.array(sorted(checkpoints))
    replicates = _replicates(checkpoints[steps[0]], scale_groups)
    trajectories = [[(checkpoints[step], replicate) for step in steps] for replicate in range(replicates)]
    first, second = np.triu_indices(len(steps), 1)
    by_layer = _compare(trajectories, scale_groups)
    values = {layer: matrices[:, :, first, second] for layer, matrices in by_layer.items()}
    keys = {"step": steps[first], "delta": steps[second] - steps[first]}
    return _assemble(keys, {"replicate": np.arange(replicates)}, values)


def across(a: Weights, b: Weights, scale_groups: ScaleGroups, pairs: Sequence[tuple[int, int]]) -> pd.DataFrame:
    """Compare replicates of two ensembles at one step.

    Args:
        a: weights of the first ensemble.
        b: weights of the second ensemble, of the same network (it may be the same ensemble).
        scale_groups: the layers, at least one.
        pairs: (replicate of a, replicate of b), at least one.

    Returns:
        One row per pair and layer, in the order of `pairs`: columns `replicate_a`, `replicate_b`, `layer`,
        and `l2`, `l2_unit_norm`, `cosine` as `pairwise` has them.
    """
    by_layer = _compare([[(a, i), (b, j)] for i, j in pairs], scale_groups)
    values = {layer: matrices[:, :, 0, 1, None] for layer, matrices in by_layer.items()}
    members = np.array(pairs)
    return _assemble({}, {"replicate_a": members[:, 0], "replicate_b": members[:, 1]}, values)


def between(
    a: Mapping[int, Weights], b: Mapping[int, Weights], scale_groups: ScaleGroups, pairs: Sequence[tuple[int, int]]
) -> pd.DataFrame:
    """Compare every checkpoint of replicates of one ensemble with every one of another's (or of the same).

    Args:
        a: step to weights of the first ensemble.
        b: step to weights of the second, of the same network.
        scale_groups: the layers, at least one.
        pairs: (replicate of a, replicate of b), at least one.

    Returns:
        One row per pair of steps, pair of replicates and layer: columns `step` (of a), `partner_step` (of b),
        `replicate`, `partner`, `layer`, and `l2`, `l2_unit_norm`, `cosine` as `pairwise` has them.
    """
    first, second = sorted(a), sorted(b)
    trajectories = [[(a[step], i) for step in first] + [(b[step], j) for step in second] for i, j in pairs]
    by_layer = _compare(trajectories, scale_groups)
    count = len(first)
    values = {layer: matrices[:, :, :count, count:] for layer, matrices in by_layer.items()}
    flat = {layer: matrices.reshape(*matrices.shape[:2], -1) for layer, matrices in values.items()}
    keys = {"step": np.repeat(first, len(second)), "partner_step": np.tile(second, count)}
    members = np.array(pairs)
    return _assemble(keys, {"replicate": members[:, 0], "partner": members[:, 1]}, flat)


def coordinates(vectors: Tensor) -> Tensor:
    """Return T vectors in fewer coordinates: all distances and inner products stay, up to rounding.

    Args:
        vectors: shape (T, P).

    Returns:
        Float64, shape (T, min(T, P)); NaN where a vector is not finite, which leaves the others unharmed.
    """
    vectors = vectors.to(torch.float64)
    finite = vectors.isfinite().all(dim=1, keepdim=True)
    rotated = torch.linalg.qr(torch.where(finite, vectors, 0.0).T, mode="r").R.T
    return torch.where(finite, rotated, torch.nan)


def _compare(
    trajectories: Sequence[Sequence[tuple[Weights, int]]], scale_groups: ScaleGroups
) -> dict[str, np.ndarray]:
    """Return each layer's `QUANTITIES` between the T members of each of M trajectories, (3, M, T, T)."""
    layers = {
        layer: torch.stack([coordinates(_vectors(members, names)) for members in trajectories])
        for layer, names in scale_groups.items()
    }
    normalised = torch.cat([_unit(points) for points in layers.values()], dim=-1)
    layers[ALL] = torch.cat(list(layers.values()), dim=-1)
    layers[ALL_LAYER_NORMALISED] = normalised / len(scale_groups) ** 0.5
    return {layer: _quantities(points) for layer, points in layers.items()}


def _vectors(members: Sequence[tuple[Weights, int]], names: Sequence[str]) -> Tensor:
    """Return one layer's weights of each member as a row (T, P)."""
    return torch.stack(
        [torch.cat([weights[name][replicate].flatten() for name in names]) for weights, replicate in members]
    ).detach()


def _unit(points: Tensor) -> Tensor:
    return points / torch.linalg.vector_norm(points, dim=-1, keepdim=True)


def _quantities(points: Tensor) -> np.ndarray:
    """Return distance, distance at unit norm and cosine between all points (M, T, K) as (3, M, T, T)."""
    unit_distance = _distances(_unit(points))
    # The cosine from the distance, not from the inner product, so that 1 - cos has all its digits too.
    return torch.stack([_distances(points), unit_distance, 1.0 - unit_distance**2 / 2.0]).cpu().numpy()


def _distances(points: Tensor) -> Tensor:
    return torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")


def _replicates(weights: Weights, scale_groups: ScaleGroups) -> int:
    first_name = next(iter(scale_groups.values()))[0]
    return len(weights[first_name])


def _assemble(
    pair_keys: Mapping[str, np.ndarray],
    member_keys: Mapping[str, np.ndarray],
    values: Mapping[str, np.ndarray],
) -> pd.DataFrame:
    """Lay the values of each layer, shape (3, M, N), out as rows ordered by pair N, member M and layer.

    `pair_keys` are columns of shape (N,), `member_keys` columns of shape (M,).
    """
    stacked = np.stack(list(values.values()), axis=-1).transpose(0, 2, 1, 3)
    shape = stacked.shape[1:]
    columns = {name: np.broadcast_to(key[:, None, None], shape) for name, key in pair_keys.items()}
    columns |= {name: np.broadcast_to(key[None, :, None], shape) for name, key in member_keys.items()}
    columns["layer"] = np.broadcast_to(np.array(list(values), dtype=object), shape)
    columns |= dict(zip(QUANTITIES, stacked, strict=True))
    return pd.DataFrame({name: column.ravel() for name, column in columns.items()})
