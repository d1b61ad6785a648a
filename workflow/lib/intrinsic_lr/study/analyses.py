"""What the analyses of an experiment make. Read by every job of the workflow, so nothing heavy is imported."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.study.claims import CLAIMS


class Products(NamedTuple):
    """The tables and the figures of an analysis, each called <product>_<experiment>."""

    tables: tuple[str, ...]
    figures: tuple[str, ...]


ANALYSES: Mapping[str, Products] = MappingProxyType(
    {
        "curves": Products(("curves",), ("curves",)),
        "swa": Products(("swa", "swa_summary"), ("swa",)),
        "distance": Products(("distance", "distance_across", "distance_summary"), ("distance",)),
        "epochs": Products(("epochs",), ("epochs",)),
        "disagreement": Products(("disagreement",), ("total_variation", "disagreement")),
        "grid": Products(("grid",), ("grid",)),
        "phase": Products(("phase",), ("phase",)),
    }
)


def tables(analyses: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, str]]:
    """Return analysis and experiment of every table, by the table's name.

    Args:
        analyses: the names of each experiment's analyses.

    Raises:
        InputError: when two experiments' tables would have one name.
    """
    return _named(analyses, lambda made: made.tables)


def figures(analyses: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, str]]:
    """Return analysis and experiment of every figure, as `tables` does."""
    return _named(analyses, lambda made: made.figures)


def _named(
    analyses: Mapping[str, Sequence[str]], kind: Callable[[Products], tuple[str, ...]]
) -> dict[str, tuple[str, str]]:
    named: dict[str, tuple[str, str]] = {}
    for analysis, made in ANALYSES.items():
        for experiment in (name for name, wanted in analyses.items() if analysis in wanted):
            for product in kind(made):
                name = f"{product}_{experiment}"
                if name in named or name in CLAIMS:
                    other = f"experiment {named[name][1]!r}" if name in named else f"claim {name!r}"
                    raise InputError(
                        f"config: experiments.{experiment}: found a name by which {name!r} would be made twice, "
                        f"also for the {other}; allowed is another name"
                    )
                named[name] = (analysis, experiment)
    return named
