"""Public functions have examples, which hold."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

import intrinsic_lr
from intrinsic_lr import stats

MODULES = [
    "analyses.averaging",
    "library",
    *(f"stats.{module.name}" for module in pkgutil.iter_modules(stats.__path__)),
]


@pytest.mark.parametrize("module", MODULES)
def test_examples_hold(module, trained, monkeypatch):
    monkeypatch.chdir(trained.parent)
    assert doctest.testmod(importlib.import_module(f"intrinsic_lr.{module}")).failed == 0


def test_every_public_function_has_an_example():
    public = {name: getattr(intrinsic_lr, name) for name in intrinsic_lr.__all__}
    assert [name for name, each in public.items() if inspect.isfunction(each) and ">>>" not in each.__doc__] == []
    assert {each.__module__.removeprefix("intrinsic_lr.") for each in public.values()} <= {*MODULES, "core.errors"}
