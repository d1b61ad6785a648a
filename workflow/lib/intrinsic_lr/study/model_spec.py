"""What a model is: its kind and options, as the config and the command line spell them. Imports no torch."""

from collections.abc import Mapping, Set
from dataclasses import dataclass, fields
from typing import Any

from intrinsic_lr.core.errors import InputError

_COMMON = {"norm": "batch", "head": "fixed", "affine": False}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "mlp": {"width": 64, "depth": 2, **_COMMON},
    "cnn4": {"width": 16, **_COMMON},
    "preresnet": {"width": 16, "blocks": 5, "final_relu": True, **_COMMON},
}
_CHOICES = {"norm": ("batch", "group", "layer"), "head": ("fixed", "trained")}
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
            raise InputError(f"kind: found the unknown model {kind!r}; allowed: {', '.join(_DEFAULTS)}")
        options = {key: value for key, value in config.items() if key != "kind"}
        allowed = dict(_DEFAULTS[kind])
        if options.get("norm") == "group":
            allowed["groups"] = DEFAULT_GROUPS
        for key in options:
            if key not in allowed:
                raise InputError(
                    f"{key}: found an option that {kind} does not have here; allowed: {', '.join(allowed)}"
                )
        spec = ModelSpec(kind=kind, **{**allowed, **options})
        spec._check(allowed.keys())
        return spec

    @staticmethod
    def parse(text: str) -> "ModelSpec":
        """Read what `spell` wrote, `kind:option=value,...`."""
        kind, _, rest = text.partition(":")
        options: dict[str, Any] = {}
        for part in filter(None, rest.split(",")):
            key, _, value = part.partition("=")
            if value in ("true", "false"):
                options[key] = value == "true"
            else:
                options[key] = int(value) if value.isdecimal() else value
        return ModelSpec.from_config({"kind": kind, **options})

    def spell(self) -> str:
        """Return the canonical text of the model: its kind and every option it has, sorted."""
        options = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "kind"}
        parts = [
            f"{key}={str(value).lower() if isinstance(value, bool) else value}"
            for key, value in sorted(options.items())
            if value is not None
        ]
        return f"{self.kind}:{','.join(parts)}"

    def to_config(self) -> dict[str, Any]:
        """Return the definition that `from_config` reads, options at their default left out."""
        defaults = {**_DEFAULTS[self.kind], "groups": DEFAULT_GROUPS}
        options = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "kind"}
        return {"kind": self.kind} | {
            key: value for key, value in options.items() if value is not None and value != defaults[key]
        }

    @property
    def group_count(self) -> int:
        """Groups over which group and layer norm take their statistics."""
        return self.groups if self.groups is not None else 1

    def _check(self, options: Set[str]) -> None:
        for key, choices in _CHOICES.items():
            if getattr(self, key) not in choices:
                raise InputError(f"{key}: found {getattr(self, key)!r}; allowed: {', '.join(choices)}")
        for key in sorted(options & {"width", "depth", "blocks", "groups"}):
            value = getattr(self, key)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InputError(f"{key}: found {value!r}; allowed: a whole number from 1 on")
        for key in sorted(options & {"affine", "final_relu"}):
            if not isinstance(getattr(self, key), bool):
                raise InputError(f"{key}: found {getattr(self, key)!r}; allowed: true, false")
        if self.groups is not None and self.width % self.groups:
            raise InputError(f"groups: found {self.groups}; allowed are divisors of the width {self.width}")
