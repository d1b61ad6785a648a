"""The least that a step costs: its own matrix products and convolutions, and the bytes that these move.

A layer has up to three products: forward, gradient of the weight (if it is trained) and gradient of the input (not
for the first layer). Each is timed for R members in several layouts, and the fastest counts. Norms, ReLUs, loss,
update and the choice of the batch cost nothing here, so that no training can reach the bound quite.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from math import prod
from time import perf_counter
from weakref import WeakValueDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.cases import Case, synchronise
from benchmarks.library import network

FORWARD, WEIGHT_GRADIENT, INPUT_GRADIENT = "forward", "weight gradient", "input gradient"
SLOW = 0.02
"""Seconds of a product from which on its first try tells enough."""


@dataclass(frozen=True)
class Layer:
    """A linear or convolutional layer of one member, for a batch of B.

    Attributes:
        weight: shape (O, I), or (O, C, k, k).
        x: shape of its input, (B, I) or (B, C, H, W).
        y: shape of its output.
        stride, padding: of a convolution.
        products: which of the three products a step needs; layers that differ in nothing else are alike.
    """

    weight: tuple[int, ...]
    x: tuple[int, ...]
    y: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    products: tuple[str, ...] = field(compare=False)

    def __str__(self) -> str:
        return f"{'x'.join(map(str, self.weight))} on {'x'.join(map(str, self.x[1:]))}"

    @property
    def flops(self) -> int:
        """Floating-point operations of its products, two for a multiplication with addition."""
        positions = prod(self.y) // self.weight[0]
        return 2 * positions * prod(self.weight) * len(self.products)

    @property
    def numbers_moved(self) -> int:
        """Numbers that its products read and write if each operand and each result passes the memory once."""
        return (prod(self.weight) + prod(self.x) + prod(self.y)) * len(self.products)


def layers(case: Case) -> list[Layer]:
    """Return the layers of the case's net in forward order, as a pass through the net shows them."""
    found: list[Layer] = []

    def note(module: nn.Linear | nn.Conv2d, inputs: tuple[Tensor], output: Tensor) -> None:
        products = [FORWARD]
        if module.weight.requires_grad:
            products.append(WEIGHT_GRADIENT)
        if inputs[0].requires_grad:
            products.append(INPUT_GRADIENT)
        stride, padding = getattr(module, "stride", ()), getattr(module, "padding", ())
        shapes = (tuple(tensor.shape) for tensor in (module.weight, inputs[0], output))
        found.append(Layer(*shapes, stride, padding, tuple(products)))

    net = network(case).to("meta")
    for module in net.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            module.register_forward_hook(note)
    net(torch.empty(case.batch, *case.net.image, device="meta"))
    return found


class Products:
    """All products of a step, each in its fastest layout; a contender like any other.

    Attributes:
        members: members whose products a step computes.
    """

    def __init__(self, case: Case) -> None:
        self.members = case.replicates
        self._layouts: dict[str, str] = {}
        chosen: dict[tuple[Layer, str], Callable[[], object]] = {}
        self._steps = []
        noise = Noise(case)
        for layer in layers(case):
            for product in layer.products:
                key = (layer, product)
                if key not in chosen:
                    name, chosen[key] = fastest(ways(layer, product, case.replicates, noise), case)
                    self._layouts[f"{layer} {product}"] = name
                self._steps.append(chosen[key])

    def spell(self) -> str:
        """Return the layout chosen for each product, `16x1x3x3 on 1x8x8 forward: member loop, contiguous; ...`."""
        return "; ".join(f"{product}: {layout}" for product, layout in self._layouts.items())

    @torch.no_grad()
    def step(self) -> None:
        """Compute every product once."""
        for compute in self._steps:
            compute()


def bytes_moved(case: Case) -> int:
    """Return the bytes that a step of all members moves at the least.

    Every product reads its operands and writes its result once, and the update reads weight and gradient and
    writes the weight in float32; norms, ReLUs and loss are counted as fused into the products at no cost.
    """
    size = 2 if case.precision == "bfloat16" else 4
    found = layers(case)
    products = sum(layer.numbers_moved for layer in found) * size
    update = sum(3 * prod(layer.weight) * 4 for layer in found if WEIGHT_GRADIENT in layer.products)
    return case.replicates * (products + update)


def bandwidth(device: str, numbers: int = 1 << 28, repetitions: int = 6) -> float:
    """Return the bytes per second, read and written, of the fastest of several copies within a device."""
    source = torch.ones(numbers, device=device)
    target = torch.empty_like(source)
    seconds = min(_seconds(lambda: target.copy_(source), device) for _ in range(repetitions))
    return 2 * source.nbytes / seconds


@torch.no_grad()
def fastest(
    candidates: Iterator[tuple[str, Callable[[], object]]], case: Case
) -> tuple[str, Callable[[], object]]:
    """Return the fastest candidate with its name; a slow one that is no match at its first try has no other."""
    best, found = float("inf"), None
    for name, compute in candidates:
        if _seconds(compute, case.device) > max(3 * best, SLOW):
            continue
        seconds = min(_seconds(compute, case.device) for _ in range(3))
        if seconds < best:
            best, found = seconds, (name, compute)
    return found


class Noise:
    """Gives operands of noise on a case's device, the same tensor for the same shape as long as it is in use."""

    def __init__(self, case: Case) -> None:
        self._device = case.device
        self._dtype = torch.bfloat16 if case.precision == "bfloat16" else torch.float32
        self._used: WeakValueDictionary[tuple, Tensor] = WeakValueDictionary()

    def __call__(self, *shape: int, channels_last: bool = False) -> Tensor:
        """Return a tensor (..., C, H, W) of a shape, in memory as (..., H, W, C) if asked for."""
        key = (shape, channels_last)
        if (found := self._used.get(key)) is None:
            stored = (*shape[:-3], *shape[-2:], shape[-3]) if channels_last else shape
            found = torch.randn(stored, device=self._device, dtype=self._dtype)
            found = self._used[key] = found.movedim(-1, -3) if channels_last else found
        return found


class MemberLoop:
    """Computes one product for each member in turn, from operands (R, ...)."""

    def __init__(self, compute: Callable[..., object], *operands: Tensor) -> None:
        self._compute, self._operands = compute, operands
        self._members = list(zip(*operands, strict=True))

    def __call__(self) -> list[object]:
        """Compute the product of every member."""
        return [self._compute(*member) for member in self._members]


def ways(layer: Layer, product: str, members: int, noise: Noise) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield the layouts of one product of R members, by name."""
    if len(layer.weight) == 2:
        yield from _matrix_products(layer, product, members, noise)
        return
    batch, channels, *size = layer.x
    out, _, *kernel = layer.weight
    for channels_last in (False, True):
        name = "channels last" if channels_last else "contiguous"
        grouped = [(batch, members * channels, *size), (members * out, channels, *kernel)]
        grouped += [(batch, members * out, *layer.y[2:])] if product != FORWARD else []
        operands = [noise(*shape, channels_last=channels_last) for shape in grouped]
        yield f"grouped, {name}", partial(_convolution, layer, product, members, *operands)
        if members > 1:
            single = [layer.x, layer.weight] + ([layer.y] if product != FORWARD else [])
            operands = [noise(members, *shape, channels_last=channels_last) for shape in single]
            yield f"member loop, {name}", MemberLoop(partial(_convolution, layer, product, 1), *operands)
    yield "unfold and bmm", _unfolded(layer, product, members, noise)


def _matrix_products(
    layer: Layer, product: str, members: int, noise: Noise
) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield the ways to multiply (R, rows, inner) by (R, inner, columns), either operand stored transposed."""
    (batch, fan_in), out = layer.x, layer.weight[0]
    rows, inner, columns = {
        FORWARD: (batch, fan_in, out),
        WEIGHT_GRADIENT: (out, batch, fan_in),
        INPUT_GRADIENT: (batch, out, fan_in),
    }[product]
    left = {"plain": noise(members, rows, inner), "transposed": noise(members, inner, rows).mT}
    right = {"plain": noise(members, inner, columns), "transposed": noise(members, columns, inner).mT}
    for a, b in itertools.product(left, right):
        yield f"bmm, {a} by {b}", partial(torch.bmm, left[a], right[b])
        if members > 1:
            yield f"member loop, {a} by {b}", MemberLoop(torch.mm, left[a], right[b])


def _convolution(
    layer: Layer, product: str, groups: int, x: Tensor, weight: Tensor, gradient: Tensor | None = None
) -> object:
    """Compute one product of a convolution with a group per member."""
    if product == FORWARD:
        return F.conv2d(x, weight, None, layer.stride, layer.padding, groups=groups)
    wanted = (product == INPUT_GRADIENT, product == WEIGHT_GRADIENT, False)
    return torch.ops.aten.convolution_backward(
        gradient, x, weight, None, layer.stride, layer.padding, (1, 1), False, (0, 0), groups, wanted
    )


def _unfolded(layer: Layer, product: str, members: int, noise: Noise) -> Callable[[], object]:
    """Return one product of a convolution as batched matrix products; the weight gradient finds x unfolded."""
    (batch, channels, *size), (out, _, *kernel) = layer.x, layer.weight
    taps, positions = channels * prod(kernel), prod(layer.y[2:])
    options = {"kernel_size": kernel, "padding": layer.padding, "stride": layer.stride}
    weight = noise(members, 1, out, taps).expand(-1, batch, -1, -1).flatten(0, 1)
    if product == FORWARD:
        x = noise(members * batch, channels, *size)
        return lambda: torch.bmm(weight, F.unfold(x, **options))
    gradient = noise(members * batch, out, positions)
    if product == INPUT_GRADIENT:
        return lambda: F.fold(torch.bmm(weight.mT, gradient), size, **options)
    patches = noise(members * batch, taps, positions)
    return lambda: torch.bmm(gradient, patches.mT).unflatten(0, (members, batch)).sum(1)


def _seconds(compute: Callable[[], object], device: str) -> float:
    synchronise(device)
    started = perf_counter()
    compute()
    synchronise(device)
    return perf_counter() - started
