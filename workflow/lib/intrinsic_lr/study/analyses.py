"""The analyses: what each makes of an experiment, and from what. One line a module of `intrinsic_lr.analyses`.

Read by every job of the workflow, so nothing heavy is imported.
"""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import NamedTuple

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.study.experiment import Experiment


class Analysis(NamedTuple):
    """What an analysis reads and makes. A table or figure of an experiment is called <name>_<experiment>."""

    reads: tuple[str, ...]  # kinds of files of each block: keys of `paths.KINDS`
    tables: tuple[str, ...]  # what its `measure` returns
    figures: tuple[str, ...]  # each drawn by a function `draw_<figure>`
    draws_from: str  # the table that they are drawn from
    settings: tuple[str, ...] = ("confidence",)  # entries of the config's `analysis`; `seed` is the study's
    data: bool = False  # whether it reads the data sets
    threads: bool = False  # whether it computes in several threads
    device: bool = False  # whether it computes on the device of the config
    first_only: bool = False  # whether its figures are of the experiment's first point alone
    shown: str = ""  # what its figures show, where `SHOWN` does not say
    own: tuple[str, ...] = ()  # file and SHA-256 of one that the config names


def one(name: str, *reads: str, **options: object) -> Analysis:
    """Return an analysis with one table and one figure, both named as itself."""
    return Analysis(**{"reads": reads, "tables": (name,), "figures": (name,), "draws_from": name, **options})


ANALYSES: Mapping[str, Analysis] = MappingProxyType(
    {
        "curves": one("curves", "history"),
        "swa": Analysis(
            ("checkpoints",), ("swa", "swa_summary"), ("swa",), "swa_summary", ("confidence", "interpolation"),
            data=True, threads=True, device=True, first_only=True,
        ),
        "interpolation": Analysis(
            ("checkpoints",), ("interpolation", "barriers"), ("interpolation",), "interpolation",
            data=True, threads=True, device=True, first_only=True,
        ),
        "distance": Analysis(
            ("checkpoints",), ("distance", "distance_across", "distance_summary"), ("distance",),
            "distance_summary", threads=True, first_only=True,
        ),
        "epochs": one(
            "epochs", "checkpoints", "predictions", settings=(), data=True, threads=True, first_only=True
        ),
        "disagreement": one(
            "disagreement", "predictions", figures=("total_variation", "disagreement"), data=True,
            settings=("confidence", "permutations", "bootstrap", "seed"),
        ),
        "grid": one("grid", "history"),
        "phase": one("phase", "trace"),
    }
)  # fmt: skip


SHOWN: Mapping[str, str] = MappingProxyType(
    {
        "curves": "Squared norm and effective learning rate over time, with the equilibrium that theory "
        "expects from the gradients. Settings of one intrinsic learning rate are expected to end on one line.",
        "swa": "Averages of two checkpoints. Within a trajectory their loss is expected below that of both ends, "
        "across two trajectories above.",
        "interpolation": "Loss and error on the straight line between two networks, as they are, with every layer "
        "at unit norm, and with hidden units matched too. A hump between the ends is a barrier.",
        "distance": "Distance and cosine of two checkpoints against their lag, beside a process that levels off "
        "and a walk of noise alone.",
        "epochs": "Cosine and disagreement of all checkpoints with each other, within a trajectory and across.",
        "total_variation": "Total variation of the labels predicted, with the floor that equal settings show.",
        "disagreement": "How often two runs disagree within and across settings, beside independent errors; the "
        "excess of across is by how much the settings differ.",
        "grid": "Test accuracy over learning rate and weight decay. Cells on one dashed diagonal share the "
        "intrinsic learning rate and are expected to be alike.",
        "phase": "Gradient norm and late loss against the effective learning rate. In equilibrium a path ends on "
        "the dotted line of its rate.",
    }
)
"""What each figure shows, and what to see in it: the beginning of its caption."""


def caption(experiment: Experiment, spec: Analysis, *figures: str) -> str:
    """Return what stands below some figures of an analysis, or all: what they show, and of which points."""
    shown = [SHOWN.get(figure, spec.shown) for figure in figures or spec.figures]
    return " ".join([*filter(None, shown), experiment.caption(spec.first_only)])


def product_names(
    experiments: Collection[Experiment], kind: str, analyses: Mapping[str, Analysis], claims: Collection[str]
) -> dict[str, tuple[str, str]]:
    """Return analysis and experiment of every product, of the kind `tables` or `figures`, by its name.

    InputError where two of them, or one and a claim, would have one name.
    """
    named: dict[str, tuple[str, str]] = {}
    for analysis, spec in analyses.items():
        for experiment in (each.name for each in experiments if analysis in each.analyses):
            for product in getattr(spec, kind):
                name = f"{product}_{experiment}"
                if name in named or name in claims:
                    other = f"experiment {named[name][1]!r}" if name in named else f"claim {name!r}"
                    raise InputError(
                        f"config: experiments.{experiment}: {name!r} would be made twice, also for the {other}; "
                        "expected another name"
                    )
                named[name] = (analysis, experiment)
    return named
