"""Mappings of the config whose `kind` decides which other keys they have."""

from collections.abc import Mapping
from typing import Any

from intrinsic_lr.core.errors import InputError

Options = Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]
"""The keys of each kind: those that it needs, and those that it may have."""


def check_options(spec: Mapping[str, Any], options: Options, place: str) -> None:
    """Raise `InputError` unless a mapping has what its kind needs, and nothing else."""
    required, optional = options[spec["kind"]]
    for key in spec:
        if key not in ("kind", *required, *optional):
            raise InputError(
                f"{place}.{key}: found an option that the kind {spec['kind']} does not have; "
                f"allowed: {', '.join((*required, *optional)) or 'none'}"
            )
    for key in required:
        if key not in spec:
            raise InputError(
                f"{place}: the key {key!r} is missing; the kind {spec['kind']} needs {', '.join(required)}"
            )
