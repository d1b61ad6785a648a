"""Results asked for on the command line, checked against what the config makes."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.study.config_types import unknown
from intrinsic_lr.study.study import Study

_MADE = ("figures", "tables", "claims", "claims.csv", "controls.csv", "paper_vs_here.csv")


_OF_FILES = ("--cleanup-metadata", "--cm", "--report", "--archive", "--configfile", "--configfiles")
"""Options of Snakemake that are followed by files, and not by results that are asked for."""


def check_targets(words: Iterable[str], study: Study, made: Sequence[str]) -> None:
    """Refuse a result asked for that the study does not have; targets of other kinds are left to Snakemake.

    `words` are the command line of Snakemake, `made` the figures, tables, findings and scorecards of the study.
    """
    option = ""
    for word in words:
        option = word.partition("=")[0] if word.startswith("-") else option
        if option not in _OF_FILES:
            _check_target(os.path.normpath(word), study, made)


def _check_target(target: str, study: Study, made: Sequence[str]) -> None:
    parts, own = Path(target).parts, Path(study.paths.folder).parts
    if parts[:2] == ("results", "runs") and len(parts) >= 4:
        _check_run(target, parts[2], parts[3], study)
    for folder in {own, ("results",)}:
        kind = parts[len(folder) :][:1]
        if parts[: len(folder)] == folder and kind and kind[0] in _MADE and target not in made:
            known = [file for file in made if Path(file).parts[len(own)] == kind[0]]
            raise InputError(f"target: {unknown('result', target, known)}")


def _check_run(target: str, point: str, block: str, study: Study) -> None:
    training = study.trainings.get(point)
    if training is None:
        raise InputError(f"target {target}: {unknown('point', point, study.trainings)}")
    blocks = [f"block_{index:04d}" for index in training.blocks]
    if block not in blocks:
        raise InputError(f"target {target}: expected {blocks[0]} to {blocks[-1]}, got {block!r}")
