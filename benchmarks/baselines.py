"""What a user would write: the same nets in plain PyTorch.

Each baseline is a `Contender`. Those that train one net at a time measure one net: R of them, one after the other,
take R times as long, and rates per member and step are the same.
"""

from collections.abc import Iterator
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.cases import LR, WEIGHT_DECAY, Case, autocast
from benchmarks.library import network, tensors


class Contender(Protocol):
    """A way to train.

    Attributes:
        members: networks that a step advances.
    """

    members: int

    def step(self) -> None:
        """Do one update of every member; on CUDA the work may still be under way."""
        ...


def sgd(weights: list[Tensor], **options) -> torch.optim.SGD:
    """Return plain SGD with the rates of the benchmark."""
    return torch.optim.SGD(weights, lr=LR, weight_decay=WEIGHT_DECAY, **options)


class Loader:
    """(a) One net: `torch.nn`, a `DataLoader` over tensors in the CPU's memory, `torch.optim.SGD`."""

    members = 1

    def __init__(self, case: Case) -> None:
        self._case = case
        self._net = network(case)
        self._optimiser = sgd(parameters(self._net))
        images, labels = tensors(case)
        self._loader = DataLoader(
            TensorDataset(images.cpu(), labels.cpu()),
            batch_size=case.batch,
            shuffle=True,
            drop_last=True,
            pin_memory=case.on_cuda,
            generator=torch.Generator().manual_seed(0),
        )
        self._batches = self._epochs()

    def step(self) -> None:
        """Train on one batch."""
        images, labels = (tensor.to(self._case.device, non_blocking=True) for tensor in next(self._batches))
        self._optimiser.zero_grad()
        with autocast(self._case):
            loss = F.cross_entropy(self._net(images), labels)
        loss.backward()
        self._optimiser.step()

    def _epochs(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from self._loader


class Tensors:
    """(b) One net: the same with the data in the device's memory and no `DataLoader`."""

    members = 1

    def __init__(self, case: Case) -> None:
        self._case = case
        self._net = network(case)
        self._optimiser = sgd(parameters(self._net))
        self._images, self._labels = tensors(case)
        self._batches = shuffled(len(self._labels), case)

    def step(self) -> None:
        """Train on one batch."""
        index = next(self._batches)
        self._optimiser.zero_grad()
        with autocast(self._case):
            loss = F.cross_entropy(self._net(self._images[index]), self._labels[index])
        loss.backward()
        self._optimiser.step()


class Vmap:
    """(c) All nets: `torch.func.vmap` of the gradient over a stacked module, data in the device's memory."""

    def __init__(self, case: Case) -> None:
        self.members = case.replicates
        self._case = case
        nets = [network(case, seed) for seed in range(case.replicates)]
        state, self._buffers = stack_module_state(nets)
        self._frozen = {name: value.detach() for name, value in state.items() if not value.requires_grad}
        self._params = {name: value for name, value in state.items() if value.requires_grad}
        self._net = nets[0].to("meta")
        self._gradients = vmap(grad(self._loss))
        self._optimiser = sgd(list(self._params.values()))
        self._images, self._labels = tensors(case)
        self._batches = shuffled_each(case.replicates, len(self._labels), case)

    def step(self) -> None:
        """Train every member on a batch of its own."""
        index = next(self._batches)
        params = {name: value.detach() for name, value in self._params.items()}
        found = self._gradients(params, self._frozen, self._buffers, self._images[index], self._labels[index])
        for name, value in self._params.items():
            value.grad = found[name]
        self._optimiser.step()

    def _loss(self, params, frozen, buffers, images: Tensor, labels: Tensor) -> Tensor:
        with autocast(self._case):
            logits = functional_call(self._net, (params, frozen, buffers), (images,))
            return F.cross_entropy(logits, labels)


class Compiled:
    """(d) One net on CUDA: (b) under `torch.compile` with CUDA graphs, and a fused optimiser."""

    members = 1

    def __init__(self, case: Case) -> None:
        self._case = case
        self._net = network(case)
        self._optimiser = sgd(parameters(self._net), fused=True)
        self._images, self._labels = tensors(case)
        self._batches = shuffled(len(self._labels), case)
        # All instances share one function, and PyTorch gives up on one that it had to compile for many nets.
        torch.compiler.reset()
        self._compiled = torch.compile(self._loss, mode="reduce-overhead")

    def step(self) -> None:
        """Train on one batch."""
        index = next(self._batches)
        torch.compiler.cudagraph_mark_step_begin()
        self._optimiser.zero_grad()
        self._compiled(self._images[index], self._labels[index]).backward()
        self._optimiser.step()

    def _loss(self, images: Tensor, labels: Tensor) -> Tensor:
        with autocast(self._case):
            return F.cross_entropy(self._net(images), labels)


BASELINES: dict[str, type[Contender]] = {"loader": Loader, "tensors": Tensors, "vmap": Vmap, "compiled": Compiled}


def shuffled(count: int, case: Case) -> Iterator[Tensor]:
    """Yield the images (B,) of one batch after the other, shuffled anew in each epoch."""
    while True:
        order = torch.randperm(count, device=case.device)
        for start in range(0, count - case.batch + 1, case.batch):
            yield order[start : start + case.batch]


def shuffled_each(members: int, count: int, case: Case) -> Iterator[Tensor]:
    """Yield the images (R, B) of one batch after the other, shuffled for each member anew in each epoch."""
    while True:
        order = torch.rand(members, count, device=case.device).argsort(dim=1)
        for start in range(0, count - case.batch + 1, case.batch):
            yield order[:, start : start + case.batch]


def per_member_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the sum over members of their mean losses, for logits (B, R, K) and labels (R, B)."""
    loss = F.cross_entropy(logits.flatten(0, 1), labels.t().flatten(), reduction="sum")
    return loss / len(logits)


def parameters(net: nn.Module) -> list[nn.Parameter]:
    """Return the trained parameters."""
    return [parameter for parameter in net.parameters() if parameter.requires_grad]
