"""Provenance of results: what the records of the trainings behind them say, taken together."""

from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from intrinsic_lr.core.commit import current_commit
from intrinsic_lr.core.errors import abridged
from intrinsic_lr.study.plan import TrainingPlan

TOOLS = ("snakemake", "pandas", "scipy", "statsmodels", "matplotlib", "seaborn")
"""What tables, verdicts and figures are made with, besides what trains."""
NO_COMMIT = "not recorded"


def of_trainings(records: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return what `run.json` files say together, in words by heading.

    Where trainings differ, as when some were made by an older commit, every value is listed.
    """
    if not records:
        return {"Trainings": "none; what is random comes from the seed of the study"}
    plans = [TrainingPlan.from_json(record["plan"]) for record in records]
    replicates = sum(len(record["seeds"]) for record in records)
    lost = sum(len(record["non_finite"]) for record in records)
    finished = sorted(record["finished"] for record in records)
    return {
        "Networks": _listed(plan.model.to_string() for plan in plans),
        **_code(plans),
        "Scale groups": _listed(map(_scale_groups, plans, records)),
        "Trainings": f"{replicates:,} replicates of {len({plan.point for plan in plans}):,} settings, in "
        f"{len(records):,} blocks" + (f"; {lost:,} replicates did not stay finite" if lost else ""),
        "Seeds": f"study {_listed(plan.seed for plan in plans)}, initialisation "
        f"{_listed(plan.init_seed for plan in plans)}; those of every replicate stand in its block's run.json",
        "Devices": _listed(f"{record['device']}, {record['threads']} threads" for record in records),
        "Processor": _listed(record.get("processor") or "not recorded" for record in records),
        "Arithmetic": _listed(map(_arithmetic, records)),
        "Versions": _listed(
            ", ".join(f"{name} {number}" for name, number in record["versions"].items()) for record in records
        ),
        "Commits": _listed(record["git_commit"] or NO_COMMIT for record in records),
        "Training version": _listed(record["training_version"] for record in records),
        "Finished": finished[0] if len(finished) == 1 else f"{finished[0]} to {finished[-1]}",
        "Time of all trainings": f"{sum(record['wall_seconds'] for record in records):,.0f} s",
    }


def _arithmetic(record: Mapping[str, Any]) -> str:
    """Return what decides how sums are rounded, and with it the last digits of every number."""
    kernels = {"compiled": "compiled kernels", "pytorch": "PyTorch's kernels"}.get(record.get("kernels"), "")
    return ", ".join(filter(None, [kernels, record.get("instructions")])) or "not recorded"


def _scale_groups(plan: TrainingPlan, record: Mapping[str, Any]) -> str:
    """Return what is scale-invariant of a network."""
    if not (found := record.get("invariance")):
        return f"{plan.model.to_string()}: not recorded"
    text = f"{plan.model.to_string()}: {len(found['groups'])} groups ({abridged(list(found['groups']))})"
    for heading, key in (("not scale-invariant", "others"), ("without effect on the loss", "without_effect")):
        text += f", {heading}: {abridged(found[key])}" if found[key] else ""
    return text


def _code(plans: Iterable[TrainingPlan]) -> dict[str, str]:
    """Return the files of the user's own that trainings ran, none where there are none."""
    files = _listed(f"{file}, sha256 {checksum}" for plan in plans for file, checksum in plan.code)
    return {"Code that the config names": files} if files else {}


def of_code(lines: Sequence[str]) -> dict[str, str]:
    """Return what a study says of the code of the user's own that it runs, none where there is none."""
    return {"Code of the user's own": "; ".join(lines)} if lines else {}


def of_data(infos: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return what the descriptions of data sets say, by heading."""
    told = [
        f"{info['name']}: {info['train_count']:,} training and {info['test_count']:,} test images of "
        f"{'x'.join(map(str, info['shape']))}, sha256 {info['sha256']}"
        + (f" ({info['note']})" if info.get("note") else "")
        for info in infos
    ]
    return {"Data": "; ".join(told)} if told else {}


def of_tools() -> dict[str, str]:
    """Return the versions of what made tables, figures and this page, and the commit, which the verdicts share."""
    return {
        "Tables and figures": ", ".join(f"{name} {version(name)}" for name in TOOLS),
        "Verdicts and this page": f"commit {current_commit() or NO_COMMIT}",
    }


def _listed(values: Iterable[Any]) -> str:
    return "; ".join(map(str, sorted(set(values))))
