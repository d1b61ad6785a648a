"""The sources' numbers beside this study's: what came out here, of how many runs, and in which setting."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from intrinsic_lr.claims import gd_never_settles, random_pasts, schedules_same_equilibrium, small_lr_generalises
from intrinsic_lr.claims.shared.spec import ClaimSpec
from intrinsic_lr.claims.shared.verdicts import overall
from intrinsic_lr.stats.intervals import difference, mean_interval, share_interval
from intrinsic_lr.study.claims import CLAIMS, PaperNumber
from intrinsic_lr.study.model_spec import ModelSpec

COLUMNS = (
    "claim", "quantity", "paper", "paper_source", "here", "here_low", "here_high", "replicates", "verdict",
    "setting", "as_in_paper",
)  # fmt: skip
NOT_RUN = "not run"


@dataclass(frozen=True)
class Measured:
    """A number of this study, with its interval, and the fewest runs of a setting behind it.

    Both bounds are the number itself where it is set and not measured.
    """

    value: float
    low: float
    high: float
    replicates: int


@dataclass(frozen=True)
class Judged:
    """What the workflow made of a claim.

    Attributes:
        spec: the claim as the config asks it.
        table: its measurements.
        findings: its criteria and controls.
    """

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
    for claim, stated in CLAIMS.items():
        for key, number in stated.paper.items():
            row = {
                "claim": claim,
                "quantity": number.quantity,
                "paper": number.value,
                "paper_source": number.source,
            }
            if claim in judged:
                here = judged[claim]
                found = MEASURES[claim, key](here.table, here.spec)
                points = _points(here.spec)
                row |= {
                    "here": found.value,
                    "here_low": found.low,
                    "here_high": found.high,
                    "replicates": found.replicates,
                    "verdict": overall(here.findings),
                    "setting": setting(points, datasets, models),
                    "as_in_paper": as_in_paper(number, points, found.replicates, datasets, models),
                }
            rows.append({"verdict": NOT_RUN, **row})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _points(spec: ClaimSpec) -> list[dict[str, Any]]:
    return [point for role in spec.experiments for point in spec.points(role)]


def setting(points: Iterable[Mapping[str, Any]], datasets: Mapping[str, str], models: Mapping[str, str]) -> str:
    """Tell what was run: data sets, models, batch sizes, and the lengths in steps and in 1/lambda_e."""
    points = list(points)
    times = [point["length"] * point["intrinsic_lr"] for point in points if point["intrinsic_lr"] > 0]
    parts = [
        ", ".join(_each(_dataset_words(datasets[point["dataset"]]) for point in points)),
        ", ".join(_each(models[point["model"]] for point in points)),
        "batch " + ", ".join(_each(str(point["batch_size"]) for point in points)),
        f"{_span([point['length'] for point in points], ',d')} steps",
    ]
    return "; ".join(parts) + (f" or {_span(times, '.3g')}/lambda_e" if times else "")


def as_in_paper(
    number: PaperNumber,
    points: Iterable[Mapping[str, Any]],
    replicates: int,
    datasets: Mapping[str, str],
    models: Mapping[str, str],
) -> str:
    """Return `yes`, or `no` with what differs from the source's setting, as far as the source gives it."""
    points = list(points)
    wanted = _dataset_words(json.dumps({"dataset": number.dataset, "subset": number.subset}))
    apart = [
        f"data set {words}, not {wanted}"
        for words in _each(_dataset_words(datasets[point["dataset"]]) for point in points)
        if words != wanted
    ]
    for text in _each(models[point["model"]] for point in points):
        model_spec = ModelSpec.parse(text)
        apart += [
            f"model of {option} {getattr(model_spec, option)}, not {value}"
            for option, value in number.model.items()
            if getattr(model_spec, option) not in (value, None)
        ]
    if number.rates:
        rates = {(point["lr"], point["weight_decay"]) for point in points}
        apart += [
            f"learning rate {lr:g} and weight decay {decay:g}, not {number.rates[0]:g} and {number.rates[1]:g}"
            for lr, decay in sorted(rates - {number.rates})
        ]
    if replicates < number.replicates:
        apart.append(f"{replicates} runs, not {number.replicates}")
    return f"no: {'; '.join(apart)}" if apart else "yes"


def _dataset_words(definition: str) -> str:
    model_spec = json.loads(definition)
    words = model_spec.get("dataset") or model_spec["kind"]
    if model_spec.get("subset"):
        words += f" ({model_spec['subset']:,} training images)"
    if model_spec.get("image_size"):
        words += " at {0}x{0} pixels".format(model_spec["image_size"])
    return words


def _each(words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(words))


def _span(values: list[float], spelling: str) -> str:
    low, high = (format(value, spelling) for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _set(values: pd.Series, replicates: int) -> Measured:
    """Return a number that the config sets: NaN where there is none, or more than one."""
    value = float(values.iloc[0]) if values.nunique(dropna=False) == 1 else np.nan
    return Measured(value, value, value, replicates)


def _fitted(table: pd.DataFrame, spec: ClaimSpec) -> Measured:
    runs = _descent(table)
    reached = int((runs["fitted_step"] <= runs["off_step"]).sum())
    share, low, high, _ = share_interval(reached, len(runs), spec.confidence)
    return Measured(share, low, high, _fewest(runs))


def _decay_off(table: pd.DataFrame, spec: ClaimSpec) -> Measured:
    runs = _descent(table)
    return _set(runs["off_step"], _fewest(runs))


def _descent(table: pd.DataFrame) -> pd.DataFrame:
    """Return the finite runs with weight decay."""
    runs = table[(table["part"] == gd_never_settles.RUN) & (table["role"] == gd_never_settles.DECAY)]
    return runs[np.isfinite(runs["loss_before"])]


def _fewest(runs: pd.DataFrame) -> int:
    return int(runs["point"].value_counts().min()) if len(runs) else 0


def _epochs(table: pd.DataFrame, spec: ClaimSpec) -> Measured:
    final = _finals(table)
    usual, small = (rows["step"].max() for rows in final.values())
    sizes = pd.Series([spec.points(role)[0]["batch_size"] for role in final])
    # Both see one data set, so that epochs are as the images seen; batches of one size may be `full`.
    images = pd.to_numeric(sizes, errors="coerce") if sizes.nunique() > 1 else pd.Series([1, 1])
    return _set(pd.Series([small * images[1] / (usual * images[0])]), min(map(len, final.values())))


def _accuracy(table: pd.DataFrame, spec: ClaimSpec) -> Measured:
    usual, small = (rows["test_accuracy"] for rows in _finals(table).values())
    found = difference(usual, small, spec.confidence)
    return Measured(found.estimate, found.low, found.high, found.n)


def _finals(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the last rows of the finite runs at the usual and at the small learning rate, by role."""
    final = table[table["final"] & np.isfinite(table["test_accuracy"])]
    return {
        part: final[final["part"] == part] for part in (small_lr_generalises.USUAL, small_lr_generalises.SMALL)
    }


def _end_accuracy(table: pd.DataFrame, spec: ClaimSpec) -> Measured:
    groups = _ends(table, spec)
    mean, low, high, _ = mean_interval(np.concatenate(groups), spec.confidence)
    return Measured(mean, low, high, min(map(len, groups)))


def _end_spread(table: pd.DataFrame, spec: ClaimSpec) -> Measured:
    groups = _ends(table, spec)
    largest, (low, high), _ = random_pasts.spread(groups, spec.confidence)
    return Measured(largest, low, high, min(map(len, groups)))


def _ends(table: pd.DataFrame, spec: ClaimSpec) -> list[np.ndarray]:
    """Return the finite test accuracies at the end, for each planned past."""
    rows = table[(table["part"] == random_pasts.END) & np.isfinite(table["test_accuracy"])]
    return [rows.loc[rows["point"] == point["name"], "test_accuracy"].to_numpy() for point in spec.points("pasts")]


def _meeting(table: pd.DataFrame, spec: ClaimSpec) -> Measured:
    pairs = _meeting_pairs(table)
    epochs = pairs["met_at"] * pairs["epoch"] / pairs["step_a"]
    # The last pair to meet; a pair that never does leaves nothing to tell.
    last = epochs.max(skipna=False)
    return Measured(last, last, last, _runs(pairs))


def _floor(table: pd.DataFrame, spec: ClaimSpec) -> Measured:
    """Return the epoch of the first checkpoint from which on no pair is told apart by the permutation test."""
    pairs = _meeting_pairs(table)
    epochs = np.sort(pairs["epoch"].unique())
    above = pairs.loc[~(pairs["p_value"] >= spec.alpha), "epoch"].max()
    later = epochs[epochs > above] if above == above else epochs
    first = float(later[0]) if len(later) else np.nan
    return Measured(first, above, first, _runs(pairs))


def _meeting_pairs(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["part"] == schedules_same_equilibrium.MEET]


def _runs(pairs: pd.DataFrame) -> int:
    return int(pairs[["replicates_a", "replicates_b"]].min(axis=None)) if len(pairs) else 0


MEASURES: dict[tuple[str, str], Callable[[pd.DataFrame, ClaimSpec], Measured]] = {
    ("gd_never_settles", "fitted"): _fitted,
    ("gd_never_settles", "decay_off"): _decay_off,
    ("small_lr_generalises", "epochs"): _epochs,
    ("small_lr_generalises", "accuracy"): _accuracy,
    ("random_pasts", "end_accuracy"): _end_accuracy,
    ("random_pasts", "end_spread"): _end_spread,
    ("schedules_same_equilibrium", "meeting"): _meeting,
    ("schedules_same_equilibrium", "floor"): _floor,
}
"""For each claim and id of the catalogue's numbers, what measures it in the claim's table."""
