"""The examples in the docstrings of the formulas and estimators."""

import doctest
import importlib
import pkgutil

import pytest

from intrinsic_lr import stats


@pytest.mark.parametrize("module", [module.name for module in pkgutil.iter_modules(stats.__path__)])
def test_examples_hold(module):
    assert doctest.testmod(importlib.import_module(f"intrinsic_lr.stats.{module}")).failed == 0
