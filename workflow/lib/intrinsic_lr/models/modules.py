"""Networks that a config names: a factory of torchvision's, or a function in a file of the user's own."""

import inspect
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from math import prod

import torch
from torch import Tensor, nn

from intrinsic_lr.core import user_code
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.models.adaptation import Adaptation, adapt
from intrinsic_lr.models.invariance import Invariance, find_invariance
from intrinsic_lr.models.networks import ImageShape, Norm, draw_weight
from intrinsic_lr.models.normalisation import BatchStatistics
from intrinsic_lr.models.vmapped import VmappedProgram, without_numbers
from intrinsic_lr.study.model_spec import ModelSpec

RANDOM_LAYERS = ("Dropout", "StochasticDepth", "DropPath", "RReLU")
IMAGES = 4
"""Images in a batch that tries a network out."""


class UserModule:
    """One network of a factory, tried out: what it cannot be is refused here, before anything is trained.

    Its batch norms are replaced by `Norm`, with the same names of parameters.

    Attributes:
        network: one member, without numbers but those of its buffers.
        program: the forward pass of R members.
        notes: what `normalise` changed, a line each.

    Raises:
        InputError: naming the factory, and what is wrong with it or with what it returns.
    """

    def __init__(self, spec: ModelSpec, image_shape: ImageShape, classes: int) -> None:
        self._factory, self._options, self._name = load_factory(spec), json.loads(str(spec.options)), spec.factory
        self._shape, self._classes, self._normalise = image_shape, classes, spec.normalise
        network, adaptation = self._build(0)
        self.notes, self._redrawn = tuple(adaptation.notes), frozenset(adaptation.redrawn)
        for note in self.notes:
            print(f"factory {self._name}: {note}", file=sys.stderr)
        self._check_draws(network)
        self.network, self.program = without_numbers(network), VmappedProgram(network)
        self._activations = self._try_out(network.double())

    def invariance(self) -> Invariance:
        """Return what is scale-invariant of the trained parameters, found by random losses."""
        named = dict(self.network.named_parameters())
        weights, trained = self.draw(0, tuple(named)), tuple(name for name in named if named[name].requires_grad)

        def forward(params: dict[str, Tensor], images: Tensor) -> Tensor:
            return self.program(params, images, BatchStatistics())

        return find_invariance(forward, weights, trained, self._shape)

    def activations(self) -> int:
        """Return the numbers that the largest convolution or linear layer makes of one image."""
        return self._activations

    def draw(self, seed: int, names: Sequence[str]) -> dict[str, Tensor]:
        """Return weights of a member, in float64: those that the factory gives it at a seed.

        Weights that it does not have, or not so, are drawn from N(0, 2/fan_in).
        """
        made, generator = dict(self._call(seed).named_parameters()), torch.Generator().manual_seed(seed)
        drawn = {}
        for name in names:
            if name in self._redrawn:
                drawn[name] = draw_weight(name, self.network.get_parameter(name).shape, generator)
            else:
                drawn[name] = made[name].detach().double()
        return drawn

    def build(self) -> nn.Module:
        """Return the network that the factory makes at seed 0, adapted where the spec says so."""
        return self._build(0)[0]

    def _build(self, seed: int) -> tuple[nn.Module, Adaptation]:
        network, adaptation = self._call(seed), Adaptation()
        if self._normalise:
            with _seeded(seed), self._refused(f"takes no images of {'x'.join(map(str, self._shape))}"):
                adaptation = adapt(network, self._shape)
        replace_batch_norms(network)
        return network, adaptation

    def _call(self, seed: int) -> nn.Module:
        with _seeded(seed), self._refused("cannot be called"):
            network = self._factory(**self._options)
        if not isinstance(network, nn.Module):
            raise self._error(f"expected a torch.nn.Module, got {type(network).__name__}")
        for name, value in network.named_parameters():
            if isinstance(value, nn.UninitializedParameter):
                raise self._error(
                    f"expected the shape of every weight, got none for {name}; lazy layers have none"
                )
            if not value.is_floating_point():
                raise self._error(f"expected weights of real numbers, got {value.dtype} for {name}")
        if not any(value.requires_grad for value in network.parameters()):
            raise self._error("expected weights that are trained, got none")
        return network

    def _check_draws(self, network: nn.Module) -> None:
        """Refuse random numbers of other sources than PyTorch's, and buffers that depend on the seed."""
        again, buffers = self.build().state_dict(), dict(self._build(1)[0].named_buffers())
        for name, value in network.state_dict().items():
            if not torch.equal(again[name], value):
                raise self._error(
                    f"expected equal weights at equal seeds, got others for {name}; use torch's random"
                )
        for name, value in network.named_buffers():
            if not torch.equal(buffers[name], value):
                raise self._error(
                    f"expected buffers that are the same in every network, got random {name}; make it a parameter "
                    "with requires_grad=False, which all replicates share"
                )

    @torch.no_grad()
    def _try_out(self, network: nn.Module) -> int:
        """Refuse a network that does not do what training needs; return the size of its largest activations."""
        buffers = {name: value.clone() for name, value in network.named_buffers()}
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(IMAGES, *self._shape, generator=generator, dtype=torch.float64)
        sizes: list[int] = []
        layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
        hooks = [layer.register_forward_hook(lambda _, __, y: sizes.append(y.numel())) for layer in layers]
        with _seeded(0), self._refused(f"takes no images of {'x'.join(map(str, self._shape))}"):
            logits = network.train()(images)
        for hook in hooks:
            hook.remove()
        self._check_logits(logits)
        with _seeded(1):
            again = network(images)
        for name, value in network.named_buffers():
            if not torch.equal(buffers[name], value):
                raise self._error(f"expected buffers that training leaves alone, got {name}, which it changes")
        if not torch.equal(logits, again):
            raise self._error(_random_layers(network))
        params = {name: value.expand(2, *value.shape) for name, value in network.named_parameters()}
        with self._refused("cannot be computed for several replicates at once"):
            together = VmappedProgram(network)(params, images.expand(2, *images.shape), BatchStatistics())
        if not torch.allclose(together, logits.expand_as(together), rtol=1e-6, atol=1e-6):
            raise self._error("expected equal logits alone and beside other replicates, got others")
        return max(sizes, default=prod(self._shape) * IMAGES) // IMAGES

    def _check_logits(self, logits: object) -> None:
        expected = (IMAGES, self._classes)
        if isinstance(logits, Tensor) and logits.shape == expected:
            return
        got = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise self._error(
            f"expected logits of shape {expected} for {IMAGES} images of {self._classes} classes, got {got}; "
            "torchvision's factories have the option num_classes"
        )

    def _error(self, text: str) -> InputError:
        return InputError(f"factory {self._name}: {text}")

    def _refused(self, what: str) -> AbstractContextManager[None]:
        """Turn whatever foreign code raises into one line."""
        return user_code.in_one_line(f"factory {self._name}: {what}")


def replace_batch_norms(network: nn.Module) -> None:
    """Put `Norm`, whose statistics the ensemble supplies, in the place of PyTorch's batch norms."""
    for name, layer in list(network.named_modules()):
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            norm = Norm(layer.num_features, affine=layer.affine, rectify=False, eps=layer.eps)
            if layer.affine:
                norm.weight, norm.bias = layer.weight, layer.bias
            network.set_submodule(name, norm)


def _random_layers(network: nn.Module) -> str:
    """Return what is wrong with a network that gives other logits the second time."""
    found = [
        f"{name} ({type(layer).__name__})"
        for name, layer in network.named_modules()
        if type(layer).__name__.startswith(RANDOM_LAYERS) and getattr(layer, "p", 1) != 0
    ]
    return (
        f"expected the same logits of the same images, got others: {', '.join(found) or 'its forward pass'} draws "
        "random numbers; switch that off by an option, such as dropout: 0"
    )


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed PyTorch's own generator, from which modules draw their weights, and give it back its state."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def load_factory(spec: ModelSpec) -> Callable[..., nn.Module]:
    """Return the factory that a spec names. A file of the user's is run, which standard error says.

    Raises:
        InputError: where there is no such factory, or the file is not the one whose checksum the spec has.
    """
    name = str(spec.factory)
    if spec.file:
        return user_code.load_function(spec.file, str(spec.sha256), name)
    import torchvision

    found = getattr(torchvision.models, name.rpartition(".")[2], None)
    classifiers = torchvision.models.list_models(module=torchvision.models)
    is_network = inspect.isclass(found) and issubclass(found, nn.Module)
    if not is_network and name.rpartition(".")[2] not in classifiers:
        raise InputError(
            f"factory {name}: expected one of torchvision's models, such as {', '.join(classifiers[:3])}"
        )
    return found
