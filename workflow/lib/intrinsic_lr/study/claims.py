"""The catalogue of claims, `claims.yaml`, as types: what is claimed, and what each test needs from the config."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from pydantic import TypeAdapter


@dataclass(frozen=True)
class PaperNumber:
    """A number that a source gives for a claim, and what it ran for it.

    Attributes:
        quantity: what the number is.
        value: the number, or what stands in its place, in the source's terms.
        source: where it stands.
        dataset: what was trained on, in torchvision's name.
        model: the network's kind, with the options that the source gives.
        subset: number of training images; None for all.
        rates: base learning rate and weight decay; None where the source does not give them.
        replicates: number of runs of each setting; 1 where the source does not say.
    """

    quantity: str
    value: str
    source: str
    dataset: str = "CIFAR10"
    model: Mapping[str, str | int] = field(default_factory=lambda: {"kind": "preresnet"})
    subset: int | None = None
    rates: tuple[float, float] | None = None
    replicates: int = 1


@dataclass(frozen=True)
class Setting:
    """A setting of a claim's test that is no threshold.

    Attributes:
        meaning: what it is.
        kind: what it may be, one of `schema.SETTING_TYPES`: `count`, `share`, `texts`, ...
        of_each: another setting, a list, with an entry for each of this list.
        among: another setting, a list that holds this value.
    """

    meaning: str
    kind: str
    of_each: str | None = None
    among: str | None = None


@dataclass(frozen=True)
class Claim:
    """One claim of the study.

    Attributes:
        statement: what is claimed, one sentence.
        source: paper, section or equation, or `derived`.
        refuted_by: what would refute it.
        experiments: for each role that an experiment of the config plays, what it has to hold.
        files: which files of each point's blocks the test reads: `history`, `trace`, `checkpoints`, `predictions`.
        tables: for each role, which tables of its experiment's analyses the test reads (`swa`, `distance_across`).
        reads_data: whether the test reads the data sets of its experiments, or of its setting `dataset`.
        thresholds: for each number that decides, what it means.
        settings: the other settings that the test takes, by name.
        paper: numbers that the sources give, by short ids; `claims/shared/paper.py` measures them.
    """

    statement: str
    source: str
    refuted_by: str
    experiments: Mapping[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    tables: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    reads_data: bool = False
    thresholds: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Setting] = field(default_factory=dict)
    paper: Mapping[str, PaperNumber] = field(default_factory=dict)


def _read() -> dict[str, Claim]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    stated = loader(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8")).get_single_data()
    return TypeAdapter(dict[str, Claim]).validate_python(stated)


CLAIMS = _read()
"""The claims by name, in the catalogue's order."""
