"""The step of a training as one program: forward pass, backward pass and update, compiled by `torch.compile`.

What `advance` does with tensors is traced once, as single operations for all members, gradients among them. What
differs from one step to the next is given to the program: weights, batch and rates.
"""

import os
import sys
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from intrinsic_lr.models.devices import to_device
from intrinsic_lr.models.ensemble import EnsembleModel
from intrinsic_lr.models.kernels import library
from intrinsic_lr.models.optimisers import Rates
from intrinsic_lr.models.precision import products_in
from intrinsic_lr.study.plan import TrainingPlan
from intrinsic_lr.training.batches import Batches
from intrinsic_lr.training.loop import advance
from intrinsic_lr.training.state import State


class CompiledStep:
    """Does what `advance` does, equal to it within rounding; compiled, and tried out, for the shapes of a state.

    Raises whatever PyTorch or a compiler raises.
    """

    def __init__(self, plan: TrainingPlan, model: EnsembleModel, batches: Batches, state: State) -> None:
        # By name: a state that was saved has its tensors in another order.
        self._names, self._buffers = tuple(state.to_tensors()), tuple(state.buffers)
        self._trainable = model.trainable
        # The program casts to bfloat16 by itself; whether products are taken in TF32 is asked when it runs.
        self._precision = "tf32" if plan.precision == "tf32" else "float32"
        images, labels = batches.at(0)
        given = self._tensors_of(state), images, labels, _tensor_of(Rates(1, *plan.timeline.at(0)), images.device)

        def compute(tensors: list[Tensor], images: Tensor, labels: Tensor, rates: Tensor) -> tuple[Any, ...]:
            of_step, named = Rates(*rates.unbind()), dict(zip(self._names, tensors, strict=True))
            # Copies are changed, which the compiler leaves out: what is given to the program stays as it is.
            state = State.from_tensors(of_step.step - 1, named, images.device)
            state.params = _clones(state.params)
            state.buffers = {kind: _clones(values) for kind, values in state.buffers.items()}
            loss, gradient = advance(state, plan, model, images, labels, of_step)
            kept = [state.params, gradient, *(state.buffers[kind] for kind in self._buffers)]
            return loss, [[values[name] for name in model.trainable] for values in kept]

        # Buffers of a network, which have numbers, become constants of the program.
        operations = make_fx(compute, tracing_mode="fake", _allow_non_fake_inputs=True)(*given)
        self._program = torch.compile(operations, dynamic=False, fullgraph=True, options=_options(images.device))
        self._run(*given)

    def __call__(
        self, state: State, images: Tensor, labels: Tensor, rates: Rates
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Replace weights and buffers by those after an update; return mean batch loss (R,) and its gradients."""
        loss, found = self._run(self._tensors_of(state), images, labels, _tensor_of(rates, images.device))
        params, gradient, *buffers = (dict(zip(self._trainable, values, strict=True)) for values in found)
        state.params.update(params)
        state.buffers = dict(zip(self._buffers, buffers, strict=True))
        return loss, gradient

    def _run(self, tensors: list[Tensor], images: Tensor, labels: Tensor, rates: Tensor) -> tuple[Any, ...]:
        with torch.no_grad(), products_in(self._precision, images.device):
            return self._program(tensors, images, labels, rates)

    def _tensors_of(self, state: State) -> list[Tensor]:
        tensors = state.to_tensors()
        return [tensors[name] for name in self._names]


def compile_step(plan: TrainingPlan, model: EnsembleModel, batches: Batches, state: State) -> CompiledStep | None:
    """Return the step as a compiled program, or None where that fails, which is said.

    What was compiled is kept in the user's cache, beside the compiled kernels.
    """
    try:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(library.inductor_cache(torch.get_num_threads()))
        return CompiledStep(plan, model, batches, state)
    except Exception as error:
        reason = _describe(error)
        print(f"warning: the step is not compiled, PyTorch computes it as it is: {reason}", file=sys.stderr)
        return None


def _options(device: torch.device) -> dict[str, Any]:
    """Return settings of the compiler: no workers, which might outlive this process, and convolutions as they are.

    In channels last, as on other devices, grouped convolutions of a CPU are slower (docs/performance.md).
    """
    return {"compile_threads": 1, "layout_optimization": device.type != "cpu"}


def _clones(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in tensors.items()}


def _tensor_of(rates: Rates, device: torch.device) -> Tensor:
    return to_device(torch.tensor(rates, dtype=torch.float64), device)


def _describe(error: Exception) -> str:
    """Return the line of an exception's text that says what is wrong: a compiler's first error, or the first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    errors = [line for line in lines if "error:" in line]
    return (errors or lines or [type(error).__name__])[0]
