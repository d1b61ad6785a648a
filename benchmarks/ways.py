"""Ways to train R convolutional nets at once, weighed against each other and against the engine.

All of them train the same nets in PyTorch's own layers: what differs is how the R convolutions of a layer are
computed, in which order, and how the work reaches the device.

    grouped                 one convolution with R groups; activations (B, R * C, H, W)
    grouped_channels_last   the same with the channels innermost in memory
    unfold_bmm              image patches laid out as a matrix, and batched matrix products
    member_loop             one convolution per member
    separate                one net after the other
    separate_channels_last  the same with the channels innermost in memory
    grouped_graph           CUDA: the whole grouped step replayed as one CUDA graph
    streams_graph           CUDA: one net per stream, all their steps replayed as one CUDA graph
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.baselines import Contender, parameters, per_member_loss, shuffled_each
from benchmarks.cases import LR, WEIGHT_DECAY, Case, autocast
from benchmarks.library import network, tensors

Convolve = Callable[[Tensor, Tensor, tuple[int, int], tuple[int, int]], Tensor]
"""Convolve x (B, R * C, H, W) with weights (R, O, C, k, k), a stride and a padding, to (B, R * O, H', W')."""

STREAMS = 16
WARM_UP = 3


def grouped(x: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
    """Convolve in one call with a group per member."""
    return F.conv2d(x, weight.flatten(0, 1), None, stride, padding, groups=len(weight))


def unfold_bmm(x: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
    """Convolve by laying out the patches (R, C * k * k, B * H' * W') and a batched matrix product."""
    members, out, _, *kernel = weight.shape
    height, width = (
        (size + 2 * pad - side) // step + 1
        for size, pad, side, step in zip(x.shape[2:], padding, kernel, stride, strict=True)
    )
    patches = F.unfold(x, kernel, padding=padding, stride=stride).unflatten(1, (members, -1))
    product = torch.bmm(weight.flatten(2), patches.permute(1, 2, 0, 3).flatten(2))
    return product.view(members, out, len(x), height, width).permute(2, 0, 1, 3, 4).flatten(1, 2)


def member_loop(x: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
    """Convolve member by member."""
    members = zip(x.chunk(len(weight), dim=1), weight, strict=True)
    return torch.cat([F.conv2d(part, kernel, None, stride, padding) for part, kernel in members], dim=1)


class StackedConv(nn.Module):
    """The convolutions of R members."""

    def __init__(self, convolutions: list[nn.Conv2d], convolve: Convolve) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.stack([conv.weight.detach() for conv in convolutions]))
        self._convolve = convolve
        self._stride, self._padding = convolutions[0].stride, convolutions[0].padding

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, R * C, H, W) to (B, R * O, H', W')."""
        return self._convolve(x, self.weight, self._stride, self._padding)


class StackedLinear(nn.Module):
    """The linear layers of R members."""

    def __init__(self, layers: list[nn.Linear]) -> None:
        super().__init__()
        trained = layers[0].weight.requires_grad
        self.weight = nn.Parameter(torch.stack([layer.weight.detach() for layer in layers]), trained)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, R * I) to (B, R * O)."""
        members = x.unflatten(1, (len(self.weight), -1)).transpose(0, 1)
        return torch.bmm(members, self.weight.transpose(1, 2)).transpose(0, 1).flatten(1)


def stack(nets: list[nn.Module], convolve: Convolve) -> nn.Module:
    """Return R nets as one, for images (B, R * C, H, W): its outputs are (B, R * K).

    A batch norm over R * C channels is R batch norms over C.
    """
    layers = [dict(net.named_modules()) for net in nets]
    stacked = nets[0]
    for name, module in layers[0].items():
        members = [layer[name] for layer in layers]
        if isinstance(module, nn.Conv2d):
            stacked.set_submodule(name, StackedConv(members, convolve))
        elif isinstance(module, nn.Linear):
            stacked.set_submodule(name, StackedLinear(members))
        elif isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            norm = type(module)(len(nets) * module.num_features, affine=False, device=module.running_mean.device)
            stacked.set_submodule(name, norm)
    return stacked


class Stacked:
    """Train R nets as one with a convolution of choice."""

    def __init__(self, case: Case, convolve: Convolve, layout: torch.memory_format) -> None:
        self.members = case.replicates
        self._case, self._layout = case, layout
        self._net = stack([network(case, seed) for seed in range(case.replicates)], convolve)
        self._images, self._labels = tensors(case)
        self._batches = shuffled_each(case.replicates, len(self._labels), case)
        self._index = next(self._batches).clone()

    def step(self) -> None:
        """Train every member on a batch of its own."""
        self.load()
        self.compute()

    def load(self) -> None:
        """Choose the next batch."""
        self._index.copy_(next(self._batches))

    def compute(self) -> None:
        """Train on the chosen batch."""
        images = self._images[self._index].transpose(0, 1).flatten(1, 2).contiguous(memory_format=self._layout)
        with autocast(self._case):
            logits = self._net(images).unflatten(1, (self.members, -1))
            loss = per_member_loss(logits, self._labels[self._index])
        descend(loss, parameters(self._net))


class Separate:
    """Train R nets each by itself, on CUDA on streams that run side by side."""

    def __init__(self, case: Case, layout: torch.memory_format) -> None:
        self.members = case.replicates
        self._case, self._layout = case, layout
        self._nets = [network(case, seed) for seed in range(case.replicates)]
        self._images, self._labels = tensors(case)
        self._batches = shuffled_each(case.replicates, len(self._labels), case)
        self._index = next(self._batches).clone()
        streams = min(STREAMS, case.replicates)
        self._streams = [torch.cuda.Stream(case.device) if case.on_cuda else None for _ in range(streams)]

    def step(self) -> None:
        """Train every member on a batch of its own."""
        self.load()
        self.compute()

    def load(self) -> None:
        """Choose the next batch."""
        self._index.copy_(next(self._batches))

    def compute(self) -> None:
        """Train on the chosen batch."""
        used = [stream for stream in self._streams if stream is not None]
        for stream in used:
            stream.wait_stream(torch.cuda.current_stream(self._case.device))
        for member, net in enumerate(self._nets):
            with torch.cuda.stream(self._streams[member % len(self._streams)]):
                index = self._index[member]
                images = self._images[index].contiguous(memory_format=self._layout)
                with autocast(self._case):
                    loss = F.cross_entropy(net(images), self._labels[index])
                descend(loss, parameters(net))
        for stream in used:
            torch.cuda.current_stream(self._case.device).wait_stream(stream)


class Graphed:
    """Replay the step of another way as one CUDA graph."""

    def __init__(self, case: Case, build: Callable[[Case], Stacked | Separate]) -> None:
        self._way = build(case)
        self.members = self._way.members
        with torch.cuda.device(case.device):
            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                for _ in range(WARM_UP):
                    self._way.step()
            torch.cuda.current_stream().wait_stream(aside)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._way.compute()

    def step(self) -> None:
        """Train every member on a batch of its own."""
        self._way.load()
        self._graph.replay()


def descend(loss: Tensor, weights: list[nn.Parameter]) -> None:
    """Do one step of SGD with weight decay, in place."""
    found = torch.autograd.grad(loss, weights)
    with torch.no_grad():
        torch._foreach_mul_(weights, 1 - LR * WEIGHT_DECAY)
        torch._foreach_add_(weights, found, alpha=-LR)


_PLAIN, _LAST = torch.contiguous_format, torch.channels_last
WAYS: dict[str, Callable[[Case], Contender]] = {
    "grouped": partial(Stacked, convolve=grouped, layout=_PLAIN),
    "grouped_channels_last": partial(Stacked, convolve=grouped, layout=_LAST),
    "unfold_bmm": partial(Stacked, convolve=unfold_bmm, layout=_PLAIN),
    "member_loop": partial(Stacked, convolve=member_loop, layout=_PLAIN),
    "separate": partial(Separate, layout=_PLAIN),
    "separate_channels_last": partial(Separate, layout=_LAST),
    "grouped_graph": partial(Graphed, build=partial(Stacked, convolve=grouped, layout=_PLAIN)),
    "streams_graph": partial(Graphed, build=partial(Separate, layout=_PLAIN)),
}
