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
    for (claim, key), measure in MEASURES.items():
        number = CLAIMS[claim].paper[key]
        row = {"claim": claim, "quantity": number.quantity, "paper": number.value, "paper_source": number.source}
        if claim in judged:
            spec, table, findings = judged[claim]
            value, low, high, n = measure(table, spec)
            points = [point for role in spec.experiments for point in spec.points(role)]
            row |= {"here": value, "here_low": low, "here_high": high, "replicates": n}
            row |= {"verdict": overall(findings), "setting": setting(points, datasets, models)}
            row["as_in_paper"] = as_in_paper(number, points, n, datasets, models)
        rows.append({"verdict": NOT_RUN, **row})
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


def _configured(values: pd.Series, replicates: int) -> Estimate:
    """Return a number that the config sets: NaN where there is none, or more than one."""
    return constant(float(values.iloc[0]) if values.nunique(dropna=False) == 1 else np.nan, replicates)


def _fitted(table: pd.DataFrame, spec: ClaimSpec) -> Estimate:
    runs, fewest = _descent(table)
    reached = int((runs["fitted_step"] <= runs["off_step"]).sum())
    return *share_interval(reached, len(runs), spec.confidence)[:3], fewest


def _decay_off(table: pd.DataFrame, spec: ClaimSpec) -> Estimate:
    runs, fewest = _descent(table)
    return _configured(runs["off_step"], fewest)


def _descent(table: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Return the finite runs with weight decay, and the fewest of a point."""
    runs = table[(table["part"] == gd_never_settles.RUN) & (table["role"] == gd_never_settles.DECAY)]
    runs = runs[np.isfinite(runs["loss_before"])]
    return runs, int(runs["point"].value_counts().min()) if len(runs) else 0


def _epochs(table: pd.DataFrame, spec: ClaimSpec) -> Estimate:
    final = _finals(table)
    usual, small = (rows["step"].max() for rows in final)
    sizes = pd.Series([spec.points(role)[0].batch_size for role in _FINAL_ROLES])
    # Both see one data set, so that epochs are as the images seen; batches of one size may be `full`.
    images = pd.to_numeric(sizes, errors="coerce") if sizes.nunique() > 1 else pd.Series([1, 1])
    return _configured(pd.Series([small * images[1] / (usual * images[0])]), min(map(len, final)))


def _accuracy(table: pd.DataFrame, spec: ClaimSpec) -> Estimate:
    return estimate_of(difference(*(rows["test_accuracy"] for rows in _finals(table)), spec.confidence))


_FINAL_ROLES = small_lr_generalises.USUAL, small_lr_generalises.SMALL


def _finals(table: pd.DataFrame) -> list[pd.DataFrame]:
    """Return the last rows of the finite runs at the usual and at the small learning rate."""
    final = table[table["final"] & np.isfinite(table["test_accuracy"])]
    return [final[final["part"] == part] for part in _FINAL_ROLES]


def _end_accuracy(table: pd.DataFrame, spec: ClaimSpec) -> Estimate:
    groups = _ends(table, spec)
    return *mean_interval(np.concatenate(groups), spec.confidence)[:3], min(map(len, groups))


def _end_spread(table: pd.DataFrame, spec: ClaimSpec) -> Estimate:
    return random_pasts.spread(_ends(table, spec), spec.confidence)[0]


def _ends(table: pd.DataFrame, spec: ClaimSpec) -> list[np.ndarray]:
    """Return the finite test accuracies at the end, for each planned history."""
    rows = table[(table["part"] == random_pasts.END) & np.isfinite(table["test_accuracy"])]
    return [rows.loc[rows["point"] == point.name, "test_accuracy"].to_numpy() for point in spec.points("pasts")]


def _meeting(table: pd.DataFrame, spec: ClaimSpec) -> Estimate:
    pairs, runs = _matched_pairs(table)
    # The last pair whose rates match; a pair whose rates never do leaves nothing to tell.
    return constant((pairs["met_at"] * pairs["epoch"] / pairs["step_a"]).max(skipna=False), runs)


def _floor(table: pd.DataFrame, spec: ClaimSpec) -> Estimate:
    """Return the epoch of the first checkpoint from which on the permutation test rejects for no pair."""
    pairs, runs = _matched_pairs(table)
    epochs = np.sort(pairs["epoch"].unique())
    above = pairs.loc[~(pairs["p_value"] >= spec.alpha), "epoch"].max()
    later = epochs[epochs > above] if above == above else epochs
    first = float(later[0]) if len(later) else np.nan
    return first, above, first, runs


def _matched_pairs(table: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Return the comparisons of matched schedules, and the fewest runs of a side."""
    pairs = table[table["part"] == schedules_same_equilibrium.MEET]
    return pairs, int(pairs[["replicates_a", "replicates_b"]].min(axis=None)) if len(pairs) else 0


MEASURES = {
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
