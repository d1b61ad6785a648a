"""Hidden units of two networks brought into one order: weight matching (Ainsworth, Hayase, Srinivasa 2023).

To relabel hidden units changes no function as long as every weight that writes to them and every weight that
reads them follows. Which units are free depends on the network. The logits have an order, and so have, under a
fixed head, the units that the head reads, since its columns belong to them. What is added to one residual stream
has one order.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.models.devices import in_float64
from intrinsic_lr.models.networks import Cnn4, Mlp, Norm, PreResNet
from intrinsic_lr.study.model_spec import MATCHED_KINDS

Weights = Mapping[str, Tensor]
Orders = Mapping[str, Tensor]
"""For the name of some units their order in each network, (R, U): the unit that takes each place."""
IMAGES, LOGITS = "images", "logits"
LEAST_GAIN = 1e-12
"""Least gain of a sum of products, over its size, that is no rounding: with it every search ends."""


@dataclass(frozen=True)
class Units:
    """Hidden units whose order is free.

    Attributes:
        count: how many they are.
        groups: so many groups of neighbours stay together, as a group norm wants them.
        axes: the parameters that have the units along an axis, and which axis of one network's parameter it is.
    """

    count: int
    groups: int
    axes: tuple[tuple[str, int], ...]


def hidden_units(network: nn.Module) -> dict[str, Units]:
    """Return the hidden units of a built-in network whose order is free, by the name of what writes to them.

    Raises:
        InputError: for a network whose units are not known here, a transformer or a factory's.
    """
    axes: dict[str, list[tuple[str, int]]] = defaultdict(list)
    groups: dict[str, int] = defaultdict(lambda: 1)
    for layer, read, written in _connections(network):
        module = network.get_submodule(layer)
        if isinstance(module, Norm):
            groups[read] = module.groups
            axes[read] += [(f"{layer}.{name}", 0) for name, _ in module.named_parameters()]
        else:
            axes[written].append((f"{layer}.weight", 0))
            axes[read].append((f"{layer}.weight", 1))
            if layer == "head" and not module.weight.requires_grad:
                axes.pop(read)
    found = {}
    for name, places in axes.items():
        if name not in (IMAGES, LOGITS):
            parameter, axis = places[0]
            found[name] = Units(network.get_parameter(parameter).shape[axis], groups[name], tuple(places))
    return found


def _connections(network: nn.Module) -> Iterator[tuple[str, str, str]]:
    """Yield the name of each layer of weights and of each norm, what it reads and writes; the head last."""
    if isinstance(network, PreResNet):
        return _of_preresnet(network)
    if isinstance(network, Mlp | Cnn4):
        return _of_chain(network)
    known = ", ".join(MATCHED_KINDS)
    raise InputError(
        f"hidden units can be matched in networks of the kinds {known}, not in {type(network).__name__}"
    )


def _of_chain(network: nn.Module) -> Iterator[tuple[str, str, str]]:
    read = IMAGES
    for name, layer in network.named_children():
        if isinstance(layer, Norm):
            yield name, read, read
        elif isinstance(layer, nn.Linear | nn.Conv2d):
            written = LOGITS if name == "head" else name
            yield name, read, written
            read = written


def _of_preresnet(network: PreResNet) -> Iterator[tuple[str, str, str]]:
    """One stream a stage, begun by a block that changes the shape, and the units inside each block."""
    stream = "stage1"
    yield "conv", IMAGES, stream
    for stage in ("stage1", "stage2", "stage3"):
        for name, block in network.get_submodule(stage).named_children():
            path = f"{stage}.{name}"
            inside = f"{path}.conv1"
            yield f"{path}.norm1", stream, stream
            yield inside, stream, inside
            yield f"{path}.norm2", inside, inside
            yield f"{path}.conv2", inside, stage
            if block.changes:
                yield f"{path}.shortcut_norm", stream, stream
                yield f"{path}.shortcut", stream, stage
            stream = stage
    yield "norm", stream, stream
    yield "head", stream, LOGITS


def permute(weights: Weights, units: Mapping[str, Units], orders: Orders) -> dict[str, Tensor]:
    """Return the networks, weights (R, ...), with some of their units in another order; their functions stay."""
    result = dict(weights)
    for name, order in orders.items():
        for parameter, axis in units[name].axes:
            result[parameter] = _reordered(result[parameter], axis, order)
    return result


def match(a: Weights, b: Weights, units: Mapping[str, Units]) -> dict[str, Tensor]:
    """Return the orders of the units of R networks b in which their weights come closest to those of a.

    Coordinate descent of Ainsworth et al. 2023, algorithm 1: for one set of units after the other, the order with
    the largest product of weights, given all other orders, is a linear assignment; until none gets better. Where
    one layer's units alone are free, the result is the best there is, otherwise maybe a local optimum. Networks
    that are not finite keep their orders.

    Args:
        a: R networks, weights (R, ...).
        b: as many networks of the same kind, each of which is matched with the one at its place in a.
        units: as `hidden_units` gives them.
    """
    owners = {place: name for name, of in units.items() for place in of.axes}
    first = next(iter(b.values()))
    orders = {
        name: torch.arange(of.count, device=first.device).expand(len(first), -1).clone()
        for name, of in units.items()
    }
    improved = True
    while improved:
        improved = False
        for name, of in units.items():
            products = sum(_products(a, b, place, owners, orders) for place in of.axes).cpu().numpy()
            for network, scores in enumerate(products):
                better = _best_order(scores, orders[name][network].cpu().numpy(), of.groups)
                if better is not None:
                    orders[name][network] = torch.from_numpy(better).to(first.device)
                    improved = True
    return orders


def _products(
    a: Weights, b: Weights, place: tuple[str, int], owners: Mapping[tuple[str, int], str], orders: Orders
) -> Tensor:
    """Return the products of each unit of a with each of b, (R, U, U), all other units of b in their orders."""
    parameter, axis = place
    value = b[parameter]
    for other in range(value.dim() - 1):
        owner = owners.get((parameter, other))
        if other != axis and owner is not None:
            value = _reordered(value, other, orders[owner])
    sides = [in_float64(each).movedim(axis + 1, 1) for each in (a[parameter], value)]
    first, second = (each.reshape(*each.shape[:2], -1) for each in sides)
    return first @ second.mT


def _reordered(value: Tensor, axis: int, order: Tensor) -> Tensor:
    """Return a parameter (R, ...) with what lies along an axis of each network in its order (R, U)."""
    shape = [len(order), *[1] * (value.dim() - 1)]
    shape[axis + 1] = -1
    return torch.take_along_dim(value, order.view(shape), dim=axis + 1)


def _best_order(scores: np.ndarray, order: np.ndarray, groups: int) -> np.ndarray | None:
    """Return the order (U,) with the largest sum of `scores` (U, U), or None where the given one is as good.

    Groups are assigned to groups, at the best assignment of their units.
    """
    if not np.isfinite(scores).all():
        return None
    size = len(scores) // groups
    inner = np.empty((groups, groups, size), dtype=np.int64)
    totals = np.empty((groups, groups))
    for mine, other in product(range(groups), repeat=2):
        block = scores[mine * size : (mine + 1) * size, other * size : (other + 1) * size]
        rows, inner[mine, other] = linear_sum_assignment(block, maximize=True)
        totals[mine, other] = block[rows, inner[mine, other]].sum()
    rows, partners = linear_sum_assignment(totals, maximize=True)
    best = (partners[:, None] * size + inner[rows, partners]).ravel()
    places = np.arange(len(scores))
    gain = scores[places, best].sum() - scores[places, order].sum()
    return best if gain > LEAST_GAIN * np.abs(scores).sum() else None
