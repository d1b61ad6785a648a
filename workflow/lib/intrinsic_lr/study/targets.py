"""Results asked for on the command line, checked against what the config makes."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.study.config_types import unknown
from intrinsic_lr.study.study import Study

_MADE = ("figures", "tables", "claims", "claims.csv", "controls.csv", "paper_vs_here.csv")


def check_targets(targets: Iterable[str], study: Study, made: Sequence[str]) -> None:
    """Refuse a result asked for that the study does not have; targets of other kinds are left to Snakemake.

    `made` are the figures, tables, findings and scorecards of the study.
    """
    for target in targets:
        parts = Path(target).parts
        if parts[:2] == ("results", "runs") and len(parts) >= 4:
            _check_run(target, parts[2], parts[3], study)
        elif len(parts) > 1 and parts[0] == "results" and parts[1] in _MADE and target not in made:
            known = [file for file in made if Path(file).parts[1] == parts[1]]
            raise InputError(f"target: {unknown('result', target, known)}")


def _check_run(target: str, point: str, block: str, study: Study) -> None:
    training = study.trainings.get(point)
    if training is None:
        raise InputError(f"target {target}: {unknown('point', point, study.trainings)}")
    blocks = [f"block_{index:04d}" for index in training.blocks]
    if block not in blocks:
        raise InputError(f"target {target}: expected {blocks[0]} to {blocks[-1]}, got {block!r}")
