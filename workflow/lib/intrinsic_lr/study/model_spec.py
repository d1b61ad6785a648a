"""What a model is: its kind and options. Imports no torch; the networks themselves are in `models.networks`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from intrinsic_lr.core.errors import InputError

_COMMON = {"norm": "batch", "head": "fixed", "affine": False}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "mlp": {"width": 64, "depth": 2, **_COMMON},
    "cnn4": {"width": 16, **_COMMON},
    "preresnet": {"width": 16, "blocks": 5, "final_relu": True, **_COMMON},
}
_CHOICES = {
    "norm": ("batch", "group", "layer"),
    "head": ("fixed", "trained"),
    "affine": (True, False),
    "final_relu": (True, False),
}
DEFAULT_GROUPS = 8


@dataclass(frozen=True)
class ModelSpec:
    """A model's kind and options; options that a kind does not have are None.

    Attributes:
        kind: `mlp`, `cnn4` or `preresnet`.
        width: hidden width of the mlp, channels of the first stage of the others.
        norm: `batch`, `group` or `layer`.
        head: `fixed` at its random initialisation, or `trained`.
        affine: whether every norm has a trainable scale and shift.
        depth: hidden layers of the mlp.
        blocks: blocks a stage of the preresnet, n in 6n + 2.
        groups: groups of the group norm.
        final_relu: whether a ReLU follows the last norm of the preresnet.
    """

    kind: str
    width: int
    norm: str
    head: str
    affine: bool
    depth: int | None = None
    blocks: int | None = None
    groups: int | None = None
    final_relu: bool | None = None

    @staticmethod
    def from_config(config: Mapping[str, Any]) -> "ModelSpec":
        """Fill in the defaults of a model's definition; raise `InputError` for what its kind does not allow."""
        kind = config.get("kind")
        if not isinstance(kind, str) or kind not in _DEFAULTS:
            raise InputError(f"kind: must be one of {', '.join(_DEFAULTS)}, got {kind!r}")
        options = {key: value for key, value in config.items() if key != "kind"}
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
        return spec

    @staticmethod
    def from_string(text: str) -> "ModelSpec":
        """Read what `to_string` wrote, `kind:option=value,...`."""
        kind, _, rest = text.partition(":")
        options: dict[str, Any] = {}
        for part in filter(None, rest.split(",")):
            key, _, value = part.partition("=")
            truth = {"true": True, "false": False}
            options[key] = truth[value] if value in truth else int(value) if value.isdecimal() else value
        return ModelSpec.from_config({"kind": kind, **options})

    def to_string(self) -> str:
        """Return the canonical text of the model: its kind and every option it has, sorted."""
        options = sorted(
            (key, value) for key, value in asdict(self).items() if key != "kind" and value is not None
        )
        texts = [f"{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in options]
        return f"{self.kind}:{','.join(texts)}"

    def to_config(self) -> dict[str, Any]:
        """Return the definition that `from_config` reads, options at their default left out."""
        defaults = {**_DEFAULTS[self.kind], "groups": DEFAULT_GROUPS, "kind": None}
        return {key: value for key, value in asdict(self).items() if value is not None and value != defaults[key]}

    @property
    def group_count(self) -> int:
        """Groups over which group and layer norm take their statistics."""
        return self.groups or 1
