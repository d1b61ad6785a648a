"""Which options each optimiser has, with the defaults of `torch.optim` and of Lion's paper, and what it keeps."""

from collections.abc import Mapping
from typing import Any

from intrinsic_lr.core.errors import InputError

OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "sgd": {"momentum": 0.0, "nesterov": False},
    "adam": {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8},
    "adamw": {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8},
    "lion": {"beta1": 0.9, "beta2": 0.99},
}
_BUFFERS = {
    "sgd": ("momentum",),
    "adam": ("first_moment", "second_moment"),
    "adamw": ("first_moment", "second_moment"),
    "lion": ("first_moment",),
}
_NOT_GIVEN = {"momentum": 0.0, "nesterov": False, "beta1": None, "beta2": None, "eps": None}


def optimiser_options(setting: Any) -> dict[str, Any]:
    """Return the options of a point's or plan's optimiser, by name, defaults filled in; none for the user's own.

    Raises:
        InputError: for an option that the optimiser does not have, naming it.
    """
    has = OPTIONS.get(setting.optimiser, {})
    given = {key: getattr(setting, key) for key, missing in _NOT_GIVEN.items() if getattr(setting, key) != missing}
    for key, value in given.items():
        if key not in has:
            expected = f"{'one of ' if has else ''}{', '.join(has) or 'none'} with {setting.optimiser}"
            raise InputError(f"{key}: expected {expected}, got {key} {value:g}")
    options = {**has, **given}
    if options.get("nesterov") and not options["momentum"]:
        raise InputError("nesterov: expected a momentum above 0, got 0")
    return options


def buffer_names(plan: Any) -> tuple[str, ...]:
    """Return what the optimiser of a plan keeps of each weight; SGD without momentum keeps nothing."""
    if plan.optimiser_code:
        return plan.optimiser_code.state
    return () if plan.optimiser == "sgd" and not plan.momentum else _BUFFERS[plan.optimiser]
