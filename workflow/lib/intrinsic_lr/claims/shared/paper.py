"""The sources' numbers beside this study's: the results here, of how many runs, and in which setting."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from intrinsic_lr.claims import gd_never_settles, random_pasts, schedules_same_equilibrium, small_lr_generalises
from intrinsic_lr.claims.shared.spec import ClaimSpec, Estimate, constant, estimate_of
from intrinsic_lr.claims.shared.verdicts import overall
from intrinsic_lr.stats.intervals import difference, mean_interval, share_interval
from intrinsic_lr.study.claims import CLAIMS, PaperNumber
from intrinsic_lr.study.experiment import PlannedPoint
from intrinsic_lr.study.model_spec import ModelSpec

COLUMNS = [
    "claim", "quantity", "paper", "paper_source", "here", "here_low", "here_high", "replicates", "verdict",
    "setting", "as_in_paper",
]  # fmt: skip
NOT_RUN = "not run"


class Judged(NamedTuple):
    """What the workflow made of a claim: the claim as the config asks for it, its measurements and findings."""

    spec: ClaimSpec
    table: pd.DataFrame
    findings: pd.DataFrame


def side_by_side(
    judged: Mapping[str, Judged], datasets: Mapping[str, str], models: Mapping[str, str]
) -> pd.DataFrame:
    """Return a row for every number that a source gives (`COLUMNS`), whether its claim was judged here or not.

    Args:
        judged: the claims that were judged.
        datasets: the definition of each data set of the config, as JSON.
        models: the definition of each model, as canonical text.
    """
    rows = []
    for claim, measure in MEASURES.items():
        if claim in judged:
            spec, table, findings = judged[claim]
            measured = measure(table, spec)
            points = [point for role in spec.experiments for point in spec.points(role)]
        for key, number in CLAIMS[claim].paper.items():
            row = {"claim": claim, "quantity": number.quantity, "paper": number.value, "verdict": NOT_RUN}
            row["paper_source"] = number.source
            if claim in judged:
                row["here"], row["here_low"], row["here_high"], n = measured[key]
                row |= {"replicates": n, "verdict": overall(findings)}
                row["setting"] = setting(points, datasets, models)
                row["as_in_paper"] = as_in_paper(number, points, n, datasets, models)
            rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS)


def setting(points: Sequence[PlannedPoint], datasets: Mapping[str, str], models: Mapping[str, str]) -> str:
    """Describe what was run: data sets, models, batch sizes, and the lengths in steps and in 1/lambda_e."""
    times = [point.length * point.intrinsic_lr for point in points if point.intrinsic_lr > 0]
    parts = [
        ", ".join(_each(_dataset_words(datasets[point.dataset]) for point in points)),
        ", ".join(_each(models[point.model] for point in points)),
        "batch " + ", ".join(_each(str(point.batch_size) for point in points)),
        f"{_span([point.length for point in points], ',d')} steps",
    ]
    return "; ".join(parts) + (f" or {_span(times, '.3g')}/lambda_e" if times else "")


def as_in_paper(
    number: PaperNumber,
    points: Sequence[PlannedPoint],
    replicates: int,
    datasets: Mapping[str, str],
    models: Mapping[str, str],
) -> str:
    """Return `yes`, or `no` with what differs from the source's setting, as far as the source gives it."""
    wanted = _dataset_words(json.dumps({"dataset": number.dataset, "subset": number.subset}))
    used = _each(_dataset_words(datasets[point.dataset]) for point in points)
    apart = [f"data set {words}, not {wanted}" for words in used if words != wanted]
    for model in (ModelSpec.from_string(text) for text in _each(models[point.model] for point in points)):
        apart += [
            f"model of {option} {getattr(model, option)}, not {value}"
            for option, value in number.model.items()
            if getattr(model, option) not in (value, None)
        ]
    if number.rates:
        apart += [
            f"learning rate {lr:g} and weight decay {decay:g}, not {number.rates[0]:g} and {number.rates[1]:g}"
            for lr, decay in sorted({(point.lr, point.weight_decay) for point in points} - {number.rates})
        ]
    if replicates < number.replicates:
        apart.append(f"{replicates} runs, not {number.replicates}")
    return f"no: {'; '.join(apart)}" if apart else "yes"


def _dataset_words(definition: str) -> str:
    known = json.loads(definition)
    words = known.get("dataset") or known["kind"]
    if known.get("subset"):
        words += f" ({known['subset']:,} training images)"
    if known.get("image_size"):
        words += " at {0}x{0} pixels".format(known["image_size"])
    return words


def _each(words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(words))


def _span(values: Sequence[float], form: str) -> str:
    low, high = (format(value, form) for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _of_descent(table: pd.DataFrame, spec: ClaimSpec) -> dict[str, Estimate]:
    runs = table[(table["part"] == gd_never_settles.RUN) & (table["role"] == gd_never_settles.DECAY)]
    runs = runs[np.isfinite(runs["loss_before"])]
    fewest = int(runs["point"].value_counts().min()) if len(runs) else 0
    reached = int((runs["fitted_step"] <= runs["off_step"]).sum())
    off = runs["off_step"].iloc[0] if runs["off_step"].nunique(dropna=False) == 1 else np.nan
    return {
        "fitted": (*share_interval(reached, len(runs), spec.confidence)[:3], fewest),
        "decay_off": constant(float(off), fewest),
    }


def _of_small_rate(table: pd.DataFrame, spec: ClaimSpec) -> dict[str, Estimate]:
    roles = small_lr_generalises.USUAL, small_lr_generalises.SMALL
    final = table[table["final"] & np.isfinite(table["test_accuracy"])]
    usual, small = (final[final["part"] == role] for role in roles)
    sizes = [spec.points(role)[0].batch_size for role in roles]
    # Both see one data set, so that epochs are as the images seen; batches of one size may be `full`.
    images = [1, 1] if sizes[0] == sizes[1] else [np.nan if size == "full" else size for size in sizes]
    epochs = small["step"].max() * images[1] / (usual["step"].max() * images[0])
    return {
        "epochs": constant(epochs, min(len(usual), len(small))),
        "accuracy": estimate_of(difference(usual["test_accuracy"], small["test_accuracy"], spec.confidence)),
    }


def _of_pasts(table: pd.DataFrame, spec: ClaimSpec) -> dict[str, Estimate]:
    rows = table[(table["part"] == random_pasts.END) & np.isfinite(table["test_accuracy"])]
    ends = [
        rows.loc[rows["point"] == point.name, "test_accuracy"].to_numpy() for point in spec.points("histories")
    ]
    mean = mean_interval(np.concatenate(ends), spec.confidence)
    return {
        "end_accuracy": (*mean[:3], min(map(len, ends))),
        "end_spread": random_pasts.spread(ends, spec.confidence)[0],
    }


def _of_matched_schedules(table: pd.DataFrame, spec: ClaimSpec) -> dict[str, Estimate]:
    pairs = table[table["part"] == schedules_same_equilibrium.MEET]
    runs = int(pairs[["replicates_a", "replicates_b"]].min(axis=None)) if len(pairs) else 0
    # The last pair whose rates match; a pair whose rates never do leaves nothing to tell.
    common_rate = (pairs["met_at"] * pairs["epoch"] / pairs["step_a"]).max(skipna=False)
    # The floor is reached at the first checkpoint from which on the permutation test rejects for no pair.
    above = pairs.loc[~(pairs["p_value"] >= spec.alpha), "epoch"].max()
    epochs = np.sort(pairs["epoch"].unique())
    later = epochs[epochs > above] if above == above else epochs
    first = float(later[0]) if len(later) else np.nan
    return {"common_rate": constant(common_rate, runs), "floor": (first, above, first, runs)}


MEASURES = {
    "gd_never_settles": _of_descent,
    "small_lr_generalises": _of_small_rate,
    "random_pasts": _of_pasts,
    "schedules_same_equilibrium": _of_matched_schedules,
}
"""For each claim with numbers in the catalogue what measures them in the claim's table, by their ids."""
