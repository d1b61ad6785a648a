"""The training of an ensemble of R networks at once, from a state to the end of its plan."""

import math
import sys
from collections.abc import Callable

import torch
from torch import Tensor

from intrinsic_lr.core.progress import progress
from intrinsic_lr.models.devices import MemberLimit
from intrinsic_lr.models.ensemble import EnsembleModel
from intrinsic_lr.models.gradients import gradients
from intrinsic_lr.models.kernels import chain
from intrinsic_lr.models.optimisers import Rates, apply_update, clipped
from intrinsic_lr.stats.geometry import squared_norms
from intrinsic_lr.study.plan import TrainingPlan
from intrinsic_lr.training.batches import Batches
from intrinsic_lr.training.recorder import Recorder
from intrinsic_lr.training.resume import STOPPED, Store
from intrinsic_lr.training.state import State, Step

Program = Callable[[State, Tensor, Tensor, Rates], tuple[Tensor, dict[str, Tensor]]]
"""Does what `advance` does with a state, images, labels and rates."""


def train(
    plan: TrainingPlan,
    model: EnsembleModel,
    batches: Batches,
    recorder: Recorder,
    state: State,
    store: Store | None = None,
    limit: MemberLimit | None = None,
    compiled: Program | None = None,
) -> None:
    """Train from a state, which is changed in place, to the end of the plan.

    Training on from a state that was saved gives the same bits as training without a stop.

    Args:
        plan: what is trained.
        model: its network.
        batches: its mini-batches.
        recorder: takes the rows of the history and of the trace; holds those up to a state that was saved.
        state: where to begin.
        store: keeps checkpoints and saved states, and says when to stop; or None.
        limit: how many members are computed at once.
        compiled: the step as a compiled program, which takes all members at once.

    Raises:
        SystemExit: with status `STOPPED` when the store's watch says so; the state is saved then.
    """
    limit = limit or MemberLimit()
    before = done = None
    # The state that a training is resumed from has its checkpoint and its rows already.
    resumed = len(recorder.history) > 0
    members, kept = len(plan.members), frozenset(plan.checkpoints)
    with progress(plan.steps * members, state.step * members, plan.point, unit="member-step") as bar:
        while True:
            if not resumed:
                if store and state.step in kept:
                    store.write_checkpoint(state)
                recorder.record(state, before, done)
                # Asked once: a signal may come at any moment, and nothing stops without its state saved.
                stop = store is not None and store.watch.should_stop()
                if store and (stop or store.watch.should_save()):
                    store.save(state, recorder, limit)
                if stop:
                    step = f"{state.step} of {plan.steps}"
                    print(f"stopped after step {step} by {store.watch.reason}; state saved", file=sys.stderr)
                    raise SystemExit(STOPPED)
            if state.step == plan.steps:
                return
            free = 0 if compiled else recorder.unrecorded(state.step)
            if free and (taken := take_several(state, plan, model, batches, free)):
                bar.update(taken * members)
                resumed = False
                continue
            measured = recorder.should_record(state.step + 1)
            before = {name: value.clone() for name, value in state.params.items()} if measured else None
            done = take_step(state, plan, model, batches, limit, compiled)
            bar.update(members)
            resumed = False


@torch.no_grad()
def update(state: State, plan: TrainingPlan, gradient: dict[str, Tensor], lr: float, weight_decay: float) -> None:
    """Change the weights, and what the plan's optimiser keeps of them, by one step in place."""
    weights = [state.params[name] for name in gradient]
    buffers = {kind: [values[name] for name in gradient] for kind, values in state.buffers.items()}
    rates = Rates(state.step + 1, lr, weight_decay)
    apply_update(plan, weights, list(gradient.values()), buffers, rates)


def take_step(
    state: State,
    plan: TrainingPlan,
    model: EnsembleModel,
    batches: Batches,
    limit: MemberLimit | None = None,
    compiled: Program | None = None,
) -> Step:
    """Advance the state by one update and return what it did; by a compiled program where there is one."""
    rates = Rates(state.step + 1, *plan.timeline.at(state.step), plan.timeline.gradient_factor(state.step))
    images, labels = batches.at(state.step)
    if compiled:
        loss, gradient = compiled(state, images, labels, rates)
    else:
        loss, gradient = advance(state, plan, model, images, labels, rates, limit)
    _mark_lost(state, loss, state.step + 1)
    state.step += 1
    return Step(rates.lr, rates.weight_decay, loss, gradient)


def take_steps(state: State, plan: TrainingPlan, model: EnsembleModel, batches: Batches, count: int) -> None:
    """Advance the state by so many updates, of which nothing is recorded."""
    while count > 0:
        taken = take_several(state, plan, model, batches, count)
        if not taken:
            take_step(state, plan, model, batches)
        count -= taken or 1


def take_several(state: State, plan: TrainingPlan, model: EnsembleModel, batches: Batches, most: int) -> int:
    """Advance the state by up to so many updates in one call of a compiled kernel; return by how many.

    The bits are those of single steps. By 0 where the kernels do not do all that a step consists of.
    """
    most = min(most, chain.most_steps(model, batches.size * len(plan.members)))
    seen = batches.several(state.step, most) if most and _is_plain(plan) else None
    if seen is None:
        return 0
    images, labels, order = seen
    rates = [plan.timeline.at(step) for step in range(state.step, state.step + order.shape[1])]
    losses = chain.train(model, state.params, images, labels, order, rates)
    if losses is None:
        return 0
    if not math.isfinite(losses.sum().item()):
        for offset, loss in enumerate(losses):
            _mark_lost(state, loss, state.step + offset + 1)
    state.step += len(losses)
    return len(losses)


def _is_plain(plan: TrainingPlan) -> bool:
    """Tell whether a step is the gradient of the cross-entropy, taken in full precision, and plain SGD."""
    is_sgd = plan.optimiser == "sgd" and plan.optimiser_code is None and not plan.momentum
    is_gradient = plan.clip is None and plan.label_smoothing == 0 and not plan.timeline.scales_gradients
    return is_sgd and is_gradient and plan.constraint == "none" and plan.precision != "bfloat16"


def advance(
    state: State,
    plan: TrainingPlan,
    model: EnsembleModel,
    images: Tensor,
    labels: Tensor,
    rates: Rates,
    limit: MemberLimit | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Change weights and buffers in place by one update; return the mean batch loss (R,) and its gradients.

    This is all that a compiled step computes, traced with tensors in place of the step's number and its rates.
    """
    loss, gradient = gradients(model, state.params, images, labels, plan.precision, limit, plan.label_smoothing)
    applied = gradient if plan.clip is None else clipped(gradient, plan.clip)
    if plan.timeline.scales_gradients:
        applied = {name: grad * rates.gradient for name, grad in applied.items()}
    update(state, plan, applied, rates.lr, rates.weight_decay)
    project(state, model)
    return loss, gradient


def _mark_lost(state: State, loss: Tensor, step: int) -> None:
    """Note a step for every member whose loss is not finite for the first time."""
    # One look at the sum is cheaper, but a GPU would have to be waited for.
    if loss.device.type == "cpu" and math.isfinite(loss.sum().item()):
        return
    state.lost.masked_fill_((state.lost == State.NEVER) & ~loss.isfinite(), step)


@torch.no_grad()
def project(state: State, model: EnsembleModel) -> None:
    """Bring every scale group that has a radius back to it, in place."""
    norms = squared_norms(state.params, {group: model.scale_groups[group] for group in state.radii})
    for group, radius in state.radii.items():
        for name in model.scale_groups[group]:
            weight = state.params[name]
            weight.mul_((radius / norms[group].sqrt()).to(weight).view(-1, *[1] * (weight.dim() - 1)))
