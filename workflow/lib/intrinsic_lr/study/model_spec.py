"""What a model is: its kind and options. Imports no torch; the networks themselves are in `models`."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.user_code import checked_sum

_COMMON = {"norm": "batch", "head": "fixed", "affine": False}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "mlp": {"width": 64, "depth": 2, **_COMMON},
    "cnn4": {"width": 16, **_COMMON},
    "preresnet": {"width": 16, "blocks": 5, "final_relu": True, **_COMMON},
    "vit": {"width": 32, "depth": 2, "heads": 4, "patch": 2, "head": "fixed"},
    "module": {"file": None, "options": {}, "normalise": False},
}
_CHOICES = {
    "norm": ("batch", "group", "layer"),
    "head": ("fixed", "trained"),
    "affine": (True, False),
    "final_relu": (True, False),
}
_STAGES = {"cnn4": ((1, 2), (2, 4)), "preresnet": ((1, 1), (2, 2), (4, 4))}
"""Of the stages of a convolutional network: channels, in widths, and by how much a side of the image shrinks."""
MATCHED_KINDS = ("mlp", "cnn4", "preresnet")
"""Kinds whose hidden units can be matched: `models.matching` knows which of them have a free order."""
DEFAULT_GROUPS = 8
PRETRAINED = ("weights", "weights_backbone", "pretrained", "pretrained_backbone", "progress")
"""Options by which torchvision's factories load weights that others trained."""


@dataclass(frozen=True)
class ModelSpec:
    """A model's kind and options; options that a kind does not have are None.

    Attributes:
        kind: `mlp`, `cnn4`, `preresnet`, `vit` or `module`.
        width: hidden width of the mlp, numbers a patch of the vit, channels of the first stage of the others.
        norm: `batch`, `group` or `layer`.
        head: `fixed` at its random initialisation, or `trained`.
        affine: whether every norm has a trainable scale and shift.
        depth: hidden layers of the mlp, blocks of the vit.
        blocks: blocks a stage of the preresnet, n in 6n + 2.
        groups: groups of the group norm.
        final_relu: whether a ReLU follows the last norm of the preresnet.
        heads: attention heads of the vit.
        patch: pixels a side of the vit's patches.
        factory: of a module, `torchvision.models.NAME`, or the name of a function in `file`.
        file: path of the Python file that has the factory.
        sha256: of the file's content.
        options: JSON of the keyword arguments of the factory.
        normalise: whether the module is made scale-invariant where it can be.
    """

    kind: str
    width: int | None = None
    norm: str | None = None
    head: str | None = None
    affine: bool | None = None
    depth: int | None = None
    blocks: int | None = None
    groups: int | None = None
    final_relu: bool | None = None
    heads: int | None = None
    patch: int | None = None
    factory: str | None = None
    file: str | None = None
    sha256: str | None = None
    options: str | None = None
    normalise: bool | None = None

    @staticmethod
    def from_config(config: Mapping[str, Any]) -> "ModelSpec":
        """Fill in the defaults of a model's definition; raise `InputError` for what its kind does not allow.

        The checksum of a file is taken now where the definition does not give it.
        """
        kind = config.get("kind")
        if not isinstance(kind, str) or kind not in _DEFAULTS:
            raise InputError(f"kind: must be one of {', '.join(_DEFAULTS)}, got {kind!r}")
        options = {key: value for key, value in config.items() if key != "kind"}
        if kind == "module":
            return _module(options)
        allowed = _DEFAULTS[kind] | ({"groups": DEFAULT_GROUPS} if options.get("norm") == "group" else {})
        for key, value in (allowed | options).items():
            if key not in allowed:
                raise InputError(f"{key}: must be an option of {kind}, one of {', '.join(allowed)}")
            choices = _CHOICES.get(key)
            if choices and (type(value) is not type(choices[0]) or value not in choices):
                expected = ", ".join(str(choice).lower() for choice in choices)
                raise InputError(f"{key}: must be one of {expected}, got {value!r}")
            if not choices and (type(value) is not int or value < 1):
                raise InputError(f"{key}: must be a whole number from 1 on, got {value!r}")
        spec = ModelSpec(kind=kind, **(allowed | options))
        if spec.width % spec.group_count:
            raise InputError(f"groups: must divide the width {spec.width}, got {spec.groups}")
        if spec.heads and (spec.width % spec.heads or spec.width < 2 * spec.heads):
            raise InputError(f"heads: must divide the width {spec.width} into 2 or more, got {spec.heads}")
        return spec

    @staticmethod
    def from_string(text: str) -> "ModelSpec":
        """Read what `to_string` wrote, `kind:option=value,...`."""
        kind, _, rest = text.partition(":")
        if kind == "module":
            return ModelSpec.from_config({"kind": kind, **json.loads(rest)})
        options: dict[str, Any] = {}
        for part in filter(None, rest.split(",")):
            key, _, value = part.partition("=")
            truth = {"true": True, "false": False}
            options[key] = truth[value] if value in truth else int(value) if value.isdecimal() else value
        return ModelSpec.from_config({"kind": kind, **options})

    def to_string(self) -> str:
        """Return the canonical text of the model: its kind and every option it has, sorted."""
        if self.kind == "module":
            definition = {key: value for key, value in self.to_config().items() if key != "kind"}
            return f"module:{json.dumps(definition, sort_keys=True)}"
        options = sorted(
            (key, value) for key, value in asdict(self).items() if key != "kind" and value is not None
        )
        texts = [f"{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in options]
        return f"{self.kind}:{','.join(texts)}"

    def to_config(self) -> dict[str, Any]:
        """Return the definition that `from_config` reads, options at their default left out."""
        defaults = {**_DEFAULTS[self.kind], "groups": DEFAULT_GROUPS}
        own = {key: value for key, value in asdict(self).items() if value is not None}
        if self.options is not None:
            own["options"] = json.loads(self.options)
        return {key: value for key, value in own.items() if key not in defaults or value != defaults[key]}

    def smallest_norm(self, batch: int, side: int) -> int:
        """Return the least number of activations that a norm takes its statistics over.

        `batch` is the number of images in a batch, `side` that of pixels along a side of an image.
        """
        places = {channels: math.ceil(side / shrunk) ** 2 for channels, shrunk in _STAGES.get(self.kind, ())}
        if self.norm == "batch":
            return batch * min(places.values(), default=1)
        channels = self.width // self.group_count
        return channels * min((factor * count for factor, count in places.items()), default=1)

    @property
    def group_count(self) -> int:
        """Groups over which group and layer norm take their statistics."""
        return self.groups or 1


def _module(config: Mapping[str, Any]) -> ModelSpec:
    allowed = {"factory": None, **_DEFAULTS["module"], "sha256": None}
    for key in config:
        if key not in allowed:
            raise InputError(f"{key}: must be an option of module, one of {', '.join(allowed)}")
    factory, file, options, normalise, checksum = (config.get(key, default) for key, default in allowed.items())
    expected = "the name of a function in the file" if file else "torchvision.models.NAME, or a name with `file:`"
    pattern = r"[A-Za-z_]\w*" if file else r"torchvision\.models\.[A-Za-z_]\w*"
    if not isinstance(factory, str) or not re.fullmatch(pattern, factory, re.ASCII):
        raise InputError(f"factory: expected {expected}, got {factory!r}")
    if not isinstance(options, Mapping) or not all(isinstance(key, str) for key in options):
        raise InputError(f"options: expected a mapping of keyword arguments, got {options!r}")
    if found := [key for key in options if key in PRETRAINED and not file]:
        raise InputError(f"options.{found[0]}: expected options without it; a training begins at random weights")
    if type(normalise) is not bool:
        raise InputError(f"normalise: must be one of true, false, got {normalise!r}")
    if file is not None and checksum is None:
        checksum = checked_sum(file, factory)
    text = json.dumps(options, sort_keys=True)
    return ModelSpec("module", factory=factory, file=file, sha256=checksum, options=text, normalise=normalise)
