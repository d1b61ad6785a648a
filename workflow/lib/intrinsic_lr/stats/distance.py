"""Distances between checkpoints, per layer and over the whole network.

A layer is a scale group of the model: weights that are scale-invariant together. Other weights, such as a fixed
head, take no part. Three kinds of vectors are compared: the weights of one layer, under its name; those of all
layers, `all`; and those of all layers, each scaled to unit norm and the whole again, `all_layer_normalised`.

Networks are large and their checkpoints few, so the QR decomposition first turns T vectors of P weights to T
vectors of at most T coordinates, in float64 and block of weights by block. It errs by 1e-15 of the norms, where
the Gram matrix errs by 1e-15 of their squares: weights that differ by single float32 roundings keep six digits.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

Network = Mapping[str, Any]
"""One network's parameters by name: tensors, or what has a `shape` and gives tensors for slices of its rows."""
Trajectory = Sequence[Network]
"""One replicate's networks at each of T steps."""
ScaleGroups = Mapping[str, Sequence[str]]
"""Layer name to the names of its parameters; at least one layer."""

ALL = "all"
ALL_LAYER_NORMALISED = "all_layer_normalised"
QUANTITIES = ("l2", "l2_unit_norm", "cosine")
BLOCK_VALUES = 1 << 20
"""Values in a block of weights: orthogonalised about fastest, and memory is bounded by a few times as many."""


def pairwise(trajectories: Iterable[Trajectory], steps: Sequence[int], scale_groups: ScaleGroups) -> pd.DataFrame:
    """Compare all pairs (T, T + delta) of checkpoints along each replicate's trajectory.

    `trajectories` are taken one after another; `steps` (T,), ascending, are those of their networks. The rows are
    sorted by `step` (T), `delta` (both in steps), `replicate` and `layer`, with `l2` (Euclidean distance),
    `l2_unit_norm` (both at unit norm) and `cosine`. Weights that are not finite give NaN, and zero weights have no
    direction.
    """
    steps = np.asarray(steps)
    first, second = np.triu_indices(len(steps), 1)
    found = [_compare(networks, scale_groups)[..., first, second] for networks in trajectories]
    keys = {"step": steps[first], "delta": steps[second] - steps[first]}
    return _table(keys, {"replicate": np.arange(len(found))}, scale_groups, found)


def across(
    a: Mapping[str, Tensor], b: Mapping[str, Tensor], scale_groups: ScaleGroups, pairs: Sequence[tuple[int, int]]
) -> pd.DataFrame:
    """Compare replicates of two ensembles, weights (R, ...) of one network, or of one ensemble with itself.

    A row per layer and pair (replicate of a, replicate of b), in the order of `pairs`: `replicate_a`,
    `replicate_b`, `layer`, and the quantities of `pairwise`.
    """
    found = [_compare([_member(a, i), _member(b, j)], scale_groups)[..., 0, 1, None] for i, j in pairs]
    first, second = np.array(pairs).T
    return _table({}, {"replicate_a": first, "replicate_b": second}, scale_groups, found)


def between(
    pairs: Iterable[tuple[Trajectory, Trajectory]],
    members: Sequence[tuple[int, int]],
    steps: Sequence[int],
    partner_steps: Sequence[int],
    scale_groups: ScaleGroups,
) -> pd.DataFrame:
    """Compare every checkpoint of replicates of one ensemble with every one of another's (or of the same).

    `pairs` are trajectories of one network at `steps` and at `partner_steps`, taken one after another (both may be
    one trajectory), and `members` the numbers of their replicates. A row per pair of steps, pair of replicates and
    layer: `step`, `partner_step`, `replicate`, `partner`, `layer`, and the quantities of `pairwise`.
    """
    found = []
    for a, b in pairs:
        matrices = _compare(a if a is b else [*a, *b], scale_groups)
        part = matrices[..., : len(steps), -len(partner_steps) :]
        found.append(part.reshape(*part.shape[:2], -1))
    keys = {"step": np.repeat(steps, len(partner_steps)), "partner_step": np.tile(partner_steps, len(steps))}
    of_members = dict(zip(("replicate", "partner"), np.array(members).T, strict=True))
    return _table(keys, of_members, scale_groups, found)


def coordinates(blocks: Iterable[Tensor]) -> Tensor:
    """Return T vectors in fewer coordinates, float64 (T, min(T, P)): inner products stay, up to rounding.

    `blocks` hold the vectors' P values, (T, C) each. A vector that is not finite becomes NaN and leaves the others
    unharmed.
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


def _compare(networks: Trajectory, scale_groups: ScaleGroups) -> np.ndarray:
    """Return `QUANTITIES` of each layer and of all layers between T networks, (3, L, T, T)."""
    layers = [
        coordinates(block for name in names for block in _blocks(networks, name))
        for names in scale_groups.values()
    ]
    normalised = torch.cat([_unit(points) for points in layers], dim=-1) / len(layers) ** 0.5
    return np.stack([_quantities(points) for points in (*layers, torch.cat(layers, dim=-1), normalised)], axis=1)


def _blocks(networks: Trajectory, name: str) -> Iterator[Tensor]:
    """Yield one parameter of T networks in blocks (T, C) of about `BLOCK_VALUES` values, at least a row each."""
    shape = networks[0][name].shape
    size = max(1, BLOCK_VALUES // (len(networks) * prod(shape[1:])))
    for start in range(0, shape[0], size):
        yield torch.stack([network[name][start : start + size].flatten() for network in networks])


def _member(weights: Mapping[str, Tensor], replicate: int) -> Network:
    return {name: value[replicate] for name, value in weights.items()}


def _unit(points: Tensor) -> Tensor:
    return points / torch.linalg.vector_norm(points, dim=-1, keepdim=True)


def _quantities(points: Tensor) -> np.ndarray:
    """Return distance, distance at unit norm and cosine between all points (T, K) as (3, T, T)."""
    distance, unit_distance = (
        torch.cdist(each, each, compute_mode="donot_use_mm_for_euclid_dist") for each in (points, _unit(points))
    )
    # The cosine from the distance, not from the inner product, so that 1 - cos has all its digits too.
    return torch.stack([distance, unit_distance, 1.0 - unit_distance**2 / 2.0]).cpu().numpy()


def _table(
    pairs: Mapping[str, np.ndarray],
    members: Mapping[str, np.ndarray],
    scale_groups: ScaleGroups,
    found: Sequence[np.ndarray],
) -> pd.DataFrame:
    """Return values (3, L, N) of each member as rows by pair N, member M and layer L, with keys (N,) and (M,)."""
    values = np.stack(found, axis=2).transpose(0, 3, 2, 1)
    layers = np.array([*scale_groups, ALL, ALL_LAYER_NORMALISED], dtype=object)
    columns = {name: key[:, None, None] for name, key in pairs.items()}
    columns |= {name: key[None, :, None] for name, key in members.items()}
    columns |= {"layer": layers} | dict(zip(QUANTITIES, values, strict=True))
    return pd.DataFrame({name: np.broadcast_to(each, values.shape[1:]).ravel() for name, each in columns.items()})
