"""The networks of the benchmark in plain PyTorch: what a user would write, and the least that a step costs.

A contender has `members`, the networks that a step advances, and `step()`, which does one update of each; on CUDA the
work may still be under way when it returns. Contenders that train one network at a time measure one: R of them, one
after another, take R times as long, and rates per member and step are the same.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from math import prod
from time import perf_counter

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.cases import LR, WEIGHT_DECAY, Case, autocast, synchronize
from benchmarks.library import network, tensors


class Plain:
    """One network: `torch.nn`, `torch.optim.SGD`, batches from the device's memory or from a `DataLoader`.

    Compiled, on CUDA, it runs under `torch.compile` with CUDA graphs and a fused optimizer.
    """

    members = 1

    def __init__(self, case: Case, loader: bool = False, compiled: bool = False) -> None:
        self._case, self._compiled = case, compiled
        self.net = network(case)
        self._optimizer = _sgd([p for p in self.net.parameters() if p.requires_grad], fused=compiled)
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
        self._optimizer = _sgd(list(self.params.values()))
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


def _sgd(weights: list[Tensor], **options) -> torch.optim.SGD:
    return torch.optim.SGD(weights, lr=LR, weight_decay=WEIGHT_DECAY, **options)


def _loaded(case: Case) -> Iterator[list[Tensor]]:
    data = TensorDataset(*(tensor.cpu() for tensor in tensors(case)))
    loader = DataLoader(data, case.batch, shuffle=True, drop_last=True, pin_memory=case.on_cuda)
    while True:
        for batch in loader:
            yield [tensor.to(case.device, non_blocking=True) for tensor in batch]


def _batches(case: Case, members: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images and labels of one batch (B, ...), or of one for each member (R, B, ...), shuffled each epoch."""
    images, labels = tensors(case)
    shape = (members, len(labels)) if members else (len(labels),)
    while True:
        order = torch.rand(shape, device=case.device).argsort(dim=-1)
        for start in range(0, len(labels) - case.batch + 1, case.batch):
            index = order[..., start : start + case.batch]
            yield images[index], labels[index]


FORWARD, WEIGHT_GRADIENT, INPUT_GRADIENT = "forward", "weight gradient", "input gradient"


@dataclass(frozen=True)
class Layer:
    """A linear or convolutional layer of one member, for a batch of B.

    Attributes:
        weight: shape (O, I), or (O, C, k, k).
        x: shape of its input, (B, I) or (B, C, H, W).
        y: shape of its output.
        stride, padding: of a convolution.
        products: the matrix products that a step needs: forward, gradient of the weight if it is trained, and
            gradient of the input but for the first layer. Layers that differ in these alone are equal.
    """

    weight: tuple[int, ...]
    x: tuple[int, ...]
    y: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    products: tuple[str, ...] = field(compare=False)

    @property
    def flops(self) -> int:
        """Floating-point operations of its products, two for a multiplication with addition."""
        return 2 * prod(self.y) // self.weight[0] * prod(self.weight) * len(self.products)


def layers(case: Case) -> list[Layer]:
    """Return the layers of the case's network in forward order."""
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
        noise = cache(partial(_noise, case))
        fastest = cache(lambda layer, product: _fastest(layouts(layer, product, case.replicates, noise), case))
        self._products = [fastest(layer, product) for layer in layers(case) for product in layer.products]

    @torch.no_grad()
    def step(self) -> None:
        """Compute every product once."""
        for compute in self._products:
            compute()


def _noise(case: Case, shape: tuple[int, ...], channels_last: bool = False) -> Tensor:
    found = torch.randn(shape, device=case.device, dtype=torch.bfloat16 if case.precision == "bfloat16" else None)
    return found.contiguous(memory_format=torch.channels_last) if channels_last else found


def _fastest(candidates: Iterator[Callable[[], object]], case: Case) -> Callable[[], object]:
    def seconds(compute: Callable[[], object]) -> float:
        synchronize(case.device)
        started = perf_counter()
        compute()
        synchronize(case.device)
        return perf_counter() - started

    with torch.no_grad():
        return min(candidates, key=lambda compute: min(seconds(compute) for _ in range(4)))


def layouts(
    layer: Layer, product: str, members: int, noise: Callable[..., Tensor]
) -> Iterator[Callable[[], object]]:
    """Yield one product of R members in several layouts in memory."""
    if len(layer.weight) == 2:
        (batch, fan_in), out = layer.x, layer.weight[0]
        rows, inner, columns = {
            FORWARD: (batch, fan_in, out),
            WEIGHT_GRADIENT: (out, batch, fan_in),
            INPUT_GRADIENT: (batch, out, fan_in),
        }[product]
        left = noise((members, rows, inner)), noise((members, inner, rows)).mT
        right = noise((members, inner, columns)), noise((members, columns, inner)).mT
        for a, b in itertools.product(left, right):
            yield partial(torch.bmm, a, b)
        return
    for channels_last in (False, True):
        x, y = (noise((shape[0], members * shape[1], *shape[2:]), channels_last) for shape in (layer.x, layer.y))
        weight = noise((members * layer.weight[0], *layer.weight[1:]), channels_last)
        yield partial(_convolution, layer, product, members, x, weight, y)


def _convolution(layer: Layer, product: str, groups: int, x: Tensor, weight: Tensor, y: Tensor) -> object:
    if product == FORWARD:
        return F.conv2d(x, weight, None, layer.stride, layer.padding, groups=groups)
    wanted = (product == INPUT_GRADIENT, product == WEIGHT_GRADIENT, False)
    return torch.ops.aten.convolution_backward(
        y, x, weight, None, layer.stride, layer.padding, (1, 1), False, (0, 0), groups, wanted
    )
