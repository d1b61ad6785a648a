"""What AdamW makes of the gradient: the preconditioned gradient g / (sqrt(v) + eps) along some steps."""

from collections import deque
from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from intrinsic_lr.data.dataset import Dataset
from intrinsic_lr.runs.ensembles import Block, Ensemble
from intrinsic_lr.stats.lags import autocovariance
from intrinsic_lr.study.optimisers import buffer_names, optimiser_options
from intrinsic_lr.training.batches import Batches
from intrinsic_lr.training.loop import take_step
from intrinsic_lr.training.state import State

MEMORIES = 3
"""The moments begin at zero: steps before the first that is looked at, in units of 1 / (1 - beta2)."""
KEPT = 256
"""Gradients are kept for the autocovariance of so many steps: there are many numbers in each."""


def gradient_statistics(ensemble: Ensemble, step: int, data: Dataset, window: int, lags: int) -> pd.DataFrame:
    """Train on from a checkpoint at constant rates, with new moments: statistics of the preconditioned gradient x.

    Returns one row per scale group, replicate and lag k from 0 to `lags`: `alignment`, the mean of <w_t, x_t> over
    the `window` steps, and `autocovariance`, that of <x_t, x_{t+k}> over the last `KEPT` of them; both are sums
    over the group's weights.
    """
    parts = []
    for block in ensemble.blocks:
        for group, (x, alignment) in _followed(block, ensemble, step, data, window).items():
            for place, replicate in enumerate(block.replicates):
                columns = {"autocovariance": autocovariance(x[:, place], lags), "alignment": alignment[place]}
                named = {"group": group, "replicate": replicate, "lag": range(lags + 1)}
                parts.append(pd.DataFrame({**named, **columns}))
    table = pd.concat(parts, ignore_index=True)
    return table[table["replicate"] < ensemble.replicates]


def _followed(
    block: Block, ensemble: Ensemble, step: int, data: Dataset, window: int
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return of each scale group x (`KEPT`, R, C) and the mean of <w, x> (R,) in a block's training."""
    groups = ensemble.scale_groups
    x, products = {group: deque(maxlen=KEPT) for group in groups}, {group: [] for group in groups}
    for weights, preconditioned in _steps(block, step, data, window):
        for group, names in groups.items():
            of_group = _rows(preconditioned, names)
            products[group].append((_rows(weights, names) * of_group).sum(dim=1))
            x[group].append(of_group)
    means = {group: torch.stack(values).mean(dim=0).cpu().numpy() for group, values in products.items()}
    return {group: (torch.stack(tuple(values)).cpu().numpy(), means[group]) for group, values in x.items()}


def _steps(
    block: Block, step: int, data: Dataset, window: int
) -> Iterator[tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """Yield the weights before each of the last `window` steps, and the preconditioned gradient there."""
    plan, model, device = block.plan, block.build_model(), data.train_images.device
    # At its step 0, since moments that begin at zero are corrected by the number of steps since.
    state = State.of_params({name: value.to(device) for name, value in block.weights(step).items()})
    for kind in buffer_names(plan):
        state.buffers[kind] = {name: torch.zeros_like(state.params[name]) for name in model.trainable}
    options, batches = optimiser_options(plan), Batches(plan, data)
    before = int(MEMORIES / (1 - options["beta2"]))
    for number in range(1, before + window + 1):
        weights = {name: state.params[name].clone() for name in model.trainable}
        gradients = take_step(state, plan, model, batches).gradients
        if number > before:
            root, second = (1 - options["beta2"] ** number) ** 0.5, state.buffers["second_moment"]
            divisors = {name: second[name].sqrt() / root + options["eps"] for name in gradients}
            yield weights, {name: gradient / divisors[name] for name, gradient in gradients.items()}


def _rows(tensors: dict[str, Tensor], names: tuple[str, ...]) -> Tensor:
    """Return the numbers of some parameters (R, ...) side by side, (R, C)."""
    return torch.cat([tensors[name].flatten(1) for name in names], dim=1)
