"""The catalogue of claims, `claims.yaml`, as types: what is claimed, and what each test needs from the config."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import yaml
from pydantic import TypeAdapter

BOARDS = {
    "claim": "Claims of the paper",
    "addition": "Additions of this project",
    "check": "Checks",
}
"""What a test is of: a claim of the paper or its authors, an addition of this project, or an identity. An identity
follows from scale invariance exactly, or nearly, whatever the data: it tests the code and counts as no claim."""
QUESTIONS = {
    "functions": "Do functions mix, and how fast?",
    "weights": "Do weights mix?",
    "descent": "Does full-batch descent with weight decay settle?",
    "generalisation": "What does generalisation need?",
    "equilibrium": "Which equilibrium do norm, effective learning rate and noise reach?",
    "adamw": "What holds of AdamW?",
    "symmetry": "What follows from scale invariance alone?",
}
"""The questions by which claims are grouped."""


@dataclass(frozen=True)
class PaperNumber:
    """A number that a source gives for a claim, and what it ran for it."""

    quantity: str
    value: str  # the number, or what stands in its place, in the source's terms
    source: str
    dataset: str = "CIFAR10"  # in torchvision's name
    model: Mapping[str, str | int] = field(default_factory=lambda: {"kind": "preresnet"})
    subset: int | None = None  # number of training images; None for all
    rates: tuple[float, float] | None = None  # base learning rate and weight decay, if the source gives them
    replicates: int = 1  # runs of each setting; 1 where the source does not say


@dataclass(frozen=True)
class Setting:
    """A threshold or another setting of a claim's test."""

    meaning: str
    kind: str  # one of `schema.SETTING_TYPES`: `count`, `share`, `texts`, ...
    of_each: str | None = None  # another setting, a list, with an entry for each of this list
    among: str | None = None  # another setting, a list that holds this value
    below: str | None = None  # another threshold, which is larger than this one
    at_least: float | None = None  # the smallest value, of a list too


@dataclass(frozen=True)
class Claim:
    """One claim of the study, as its test and the config need it."""

    title: str  # the claim in a few words, for headings and figures
    board: Literal[tuple(BOARDS)]
    question: Literal[tuple(QUESTIONS)]
    statement: str
    source: str  # paper, section or equation, or `derived`
    refuted_by: str
    experiments: Mapping[str, str] = field(default_factory=dict)  # for each role what its experiment has to hold
    files: tuple[str, ...] = ()  # what the test reads of each point's blocks, keys of `paths.KINDS`
    tables: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # and, for each role, of its analyses
    needs_invariance: bool = False  # networks whose trained weights are all scale-invariant
    reads_data: bool = False  # the data sets of its experiments, and of its setting `dataset`
    thresholds: Mapping[str, Setting] = field(default_factory=dict)  # the numbers that decide
    settings: Mapping[str, Setting] = field(default_factory=dict)
    paper: Mapping[str, PaperNumber] = field(default_factory=dict)  # by ids that `claims/shared/paper.py` measures
    own: tuple[str, ...] = ()  # file and SHA-256 of the test of a claim that the config states


def _read() -> dict[str, Claim]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    stated = loader(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8")).get_single_data()
    return TypeAdapter(dict[str, Claim]).validate_python(stated)


CLAIMS = _read()
"""The claims by name, in the catalogue's order."""
