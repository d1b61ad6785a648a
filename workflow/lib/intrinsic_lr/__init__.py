"""Ensemble training and analyses for the intrinsic learning rate study (Li, Lyu, Arora 2020).

The names in `__all__` are what users import; docs/library.md shows them at work. Each is imported when it is first
asked for, so that jobs of the workflow which need no torch do not wait for it.
"""

import importlib
from types import MappingProxyType
from typing import Any

_HOMES = MappingProxyType(
    {
        "InputError": "core.errors",
        "JudgedClaim": "library",
        "Run": "library",
        "StudyResults": "library",
        "across_disagreement": "stats.disagreement",
        "angles": "stats.geometry",
        "angular_update": "stats.theory",
        "effective_learning_rate": "stats.theory",
        "equilibrium_effective_lr": "stats.theory",
        "equilibrium_squared_norm": "stats.theory",
        "excess_disagreement": "stats.disagreement",
        "interpolate": "analyses.averaging",
        "intrinsic_learning_rate": "stats.theory",
        "label_distribution": "stats.disagreement",
        "load_run": "library",
        "load_study": "library",
        "normalize_groups": "analyses.averaging",
        "predicted_labels": "stats.disagreement",
        "squared_norms": "stats.geometry",
        "stacked": "library",
        "swa": "analyses.averaging",
        "total_variation": "stats.disagreement",
        "within_disagreement": "stats.disagreement",
    }
)
"""The module of each public name."""

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    """Import a public name from its module."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """List the public names with the others."""
    return sorted({*globals(), *_HOMES})
