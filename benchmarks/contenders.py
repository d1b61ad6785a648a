"""The networks of the benchmark in plain PyTorch: what a user would write, and the least that a step costs.

A contender has `members`, the networks that a step advances, and `step()`, which does one update of each; on CUDA
the work may still be under way when it returns. Where networks are trained one after another, one is measured:
rates per member and step are the same.
"""

from collections.abc import Callable, Iterator
from functools import cache, partial
from math import prod
from time import perf_counter
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.library import LR, WEIGHT_DECAY, Case, autocast, network, tensors

SGD = partial(torch.optim.SGD, lr=LR, weight_decay=WEIGHT_DECAY)


class Plain:
    """One network: `torch.nn`, `torch.optim.SGD`, batches from the device's memory or from a `DataLoader`.

    Compiled, on CUDA, it runs under `torch.compile` with CUDA graphs and a fused optimizer.
    """

    members = 1

    def __init__(self, case: Case, loader: bool = False, compiled: bool = False) -> None:
        self._case, self._compiled = case, compiled
        self.net = network(case)
        self._optimizer = SGD([p for p in self.net.parameters() if p.requires_grad], fused=compiled)
        self.batches = _loaded(case) if loader else _batches(case, 0)
        self._forward = self._loss
        if compiled:
            # All instances share one function, and PyTorch gives up on one that it had to compile for many nets.
            torch.compiler.reset()
            self._forward = torch.compile(self._loss, mode="reduce-overhead")

    def step(self) -> None:
        """Train on one batch."""
        images, labels = next(self.batches)
        if self._compiled:
            torch.compiler.cudagraph_mark_step_begin()
        self._optimizer.zero_grad()
        self._forward(images, labels).backward()
        self._optimizer.step()

    def _loss(self, images: Tensor, labels: Tensor) -> Tensor:
        with autocast(self._case):
            return F.cross_entropy(self.net(images), labels)


class Vmap:
    """All networks: `torch.func.vmap` of the gradient over a stacked module, data in the device's memory."""

    def __init__(self, case: Case) -> None:
        self.members, self._case = case.replicates, case
        nets = [network(case, seed) for seed in range(case.replicates)]
        state, self._buffers = stack_module_state(nets)
        self._frozen = {name: value.detach() for name, value in state.items() if not value.requires_grad}
        self.params = {name: value for name, value in state.items() if value.requires_grad}
        self._net = nets[0].to("meta")
        self._gradients = vmap(grad(self._loss))
        self._optimizer = SGD(list(self.params.values()))
        self.batches = _batches(case, case.replicates)

    def step(self) -> None:
        """Train every member on a batch of its own."""
        params = {name: value.detach() for name, value in self.params.items()}
        found = self._gradients(params, self._frozen, self._buffers, *next(self.batches))
        for name, value in self.params.items():
            value.grad = found[name]
        self._optimizer.step()

    def _loss(self, params, frozen, buffers, images: Tensor, labels: Tensor) -> Tensor:
        with autocast(self._case):
            logits = functional_call(self._net, (params, frozen, buffers), (images,))
            return F.cross_entropy(logits, labels)


def _loaded(case: Case) -> Iterator[list[Tensor]]:
    data = TensorDataset(*(tensor.cpu() for tensor in tensors(case)))
    loader = DataLoader(data, case.batch, shuffle=True, drop_last=True, pin_memory=case.on_cuda)
    while True:
        for batch in loader:
            yield [tensor.to(case.device, non_blocking=True) for tensor in batch]


def _batches(case: Case, members: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images and labels of a batch (B, ...), or of one for each member (R, B, ...), shuffled each epoch."""
    images, labels = tensors(case)
    shape = (members, len(labels)) if members else (len(labels),)
    while True:
        order = torch.rand(shape, device=case.device).argsort(dim=-1)
        for start in range(0, len(labels) - case.batch + 1, case.batch):
            index = order[..., start : start + case.batch]
            yield images[index], labels[index]


FORWARD, WEIGHT_GRADIENT, INPUT_GRADIENT = "forward", "weight gradient", "input gradient"


class Layer(NamedTuple):
    """Shapes of a linear or convolutional layer: weight (O, I) or (O, C, k, k), input (B, I) or (B, C, H, W)."""

    weight: tuple[int, ...]
    x: tuple[int, ...]
    y: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    products: tuple[str, ...]

    @property
    def flops(self) -> int:
        """Floating-point operations of its products, two for a multiplication with addition."""
        return 2 * prod(self.y) // self.weight[0] * prod(self.weight) * len(self.products)


def layers(case: Case) -> list[Layer]:
    """Return the layers of the case's network in forward order, with the products that a step needs."""
    found: list[Layer] = []

    def note(module: nn.Linear | nn.Conv2d, inputs: tuple[Tensor], output: Tensor) -> None:
        needed = {WEIGHT_GRADIENT: module.weight.requires_grad, INPUT_GRADIENT: inputs[0].requires_grad}
        products = (FORWARD, *(product for product, wanted in needed.items() if wanted))
        shapes = (tuple(tensor.shape) for tensor in (module.weight, inputs[0], output))
        found.append(Layer(*shapes, getattr(module, "stride", ()), getattr(module, "padding", ()), products))

    net = network(case).to("meta")
    for module in net.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            module.register_forward_hook(note)
    net(torch.empty(case.batch, *case.net.image, device="meta"))
    return found


class Products:
    """The matrix products and convolutions of a step alone, for R members, each in its fastest layout.

    Norms, ReLUs, loss, update and the choice of the batch cost nothing here.
    """

    def __init__(self, case: Case) -> None:
        self.members = case.replicates
        dtype = torch.bfloat16 if case.precision == "bfloat16" else torch.float32
        noise = cache(lambda *shape: torch.randn(shape, device=case.device, dtype=dtype))

        def seconds(compute: Callable[[], object]) -> float:
            case.synchronize()
            started = perf_counter()
            compute()
            case.synchronize()
            return perf_counter() - started

        @cache
        def fastest(layer: Layer, product: str) -> Callable[[], object]:
            candidates = layouts(layer, product, case.replicates, noise)
            return min(candidates, key=lambda compute: min(seconds(compute) for _ in range(4)))

        with torch.no_grad():
            self._products = [fastest(layer, product) for layer in layers(case) for product in layer.products]

    @torch.no_grad()
    def step(self) -> None:
        """Compute every product once."""
        for compute in self._products:
            compute()


def layouts(
    layer: Layer, product: str, members: int, noise: Callable[..., Tensor]
) -> Iterator[Callable[[], object]]:
    """Yield one product of R members in several layouts: batched products, or a convolution with R groups."""
    if not layer.stride:
        (batch, fan_in), out = layer.x, layer.weight[0]
        x, weight, y = noise(members, batch, fan_in), noise(members, out, fan_in), noise(members, batch, out)
        a, b = {FORWARD: (x, weight.mT), WEIGHT_GRADIENT: (y.mT, x), INPUT_GRADIENT: (y, weight)}[product]
        yield from (partial(torch.bmm, *pair) for pair in ((a, b), (a.contiguous(), b.contiguous())))
        return
    x, y = (noise(shape[0], members * shape[1], *shape[2:]) for shape in (layer.x, layer.y))
    weight = noise(members * layer.weight[0], *layer.weight[1:])
    wanted = (product == INPUT_GRADIENT, product == WEIGHT_GRADIENT, False)
    for layout in (torch.contiguous_format, torch.channels_last):
        x, y, weight = (tensor.contiguous(memory_format=layout) for tensor in (x, y, weight))
        if product == FORWARD:
            yield partial(F.conv2d, x, weight, None, layer.stride, layer.padding, groups=members)
        else:
            rest = (None, layer.stride, layer.padding, (1, 1), False, (0, 0), members, wanted)
            yield partial(torch.ops.aten.convolution_backward, y, x, weight, *rest)
