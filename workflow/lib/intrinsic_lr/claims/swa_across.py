"""Averages of the weights of two initialisations against both of their ends."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from intrinsic_lr.claims import swa_within
from intrinsic_lr.claims.shared.gains import BOTH_ENDS, RUN_TIMES, mean_gains, whole_runs
from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec
from intrinsic_lr.claims.shared.starts import ACROSS, ORDERS, RANDOM, compared_starts, of_samples, pairs_of_weights
from intrinsic_lr.claims.shared.verdicts import Findings, Range
from intrinsic_lr.claims.swa_within import RUN, TITLES, points_of
from intrinsic_lr.figures.style import error_bar, labelled, legend_below, panels, scientific, styled
from intrinsic_lr.stats.intervals import mean_interval

RATES = "rates"
PLAIN = {"raw": "raw weights", "per_layer": "every layer at unit norm first"}
NORMALISATIONS = {**PLAIN, "matched": "every layer at unit norm and hidden units matched first"}
PARTS = {"across": "two initialisations", "within": "one trajectory"}
RELATIONS = {
    ORDERS: {"color": "#E69F00", "marker": "s", "label": "two trajectories of one initialisation"},
    ACROSS: {"color": "#D55E00", "marker": "o", "label": "two initialisations"},
    RANDOM: {"color": "#999999", "marker": "v", "label": "two untrained networks"},
}
STATISTIC = f"gain in test loss over the {BOTH_ENDS} (nats)"
_TICKS = {"across": "two initial-\nisations", "within": "one tra-\njectory"}
_MARKS = {
    "test_loss_start": {"label": "one end", "color": "#56B4E9", "marker": "s"},
    "test_loss": {"label": "their average", "color": "#0072B2", "marker": "o"},
    "test_loss_end": {"label": "the other end", "color": "#CC79A7", "marker": "^"},
}


def measure(data: ClaimData) -> pd.DataFrame:
    """Return the averages of `swa_within`, and at each rate those of two networks at the last checkpoint.

    The latter have "rates" as `run_time`, their relation as `part`, and `sample` as `starts.Compared` has it.
    """
    return pd.concat([swa_within.measure(data), *_at_rates(data)], ignore_index=True)


def _at_rates(data: ClaimData) -> Iterator[pd.DataFrame]:
    """Yield averages of two trajectories of one initialisation, of two initialisations, of untrained networks."""
    from intrinsic_lr.training.evaluation import EvaluationData

    spec = data.spec
    for compared in compared_starts(spec.points(RATES), spec.replicates(RATES)):
        point = compared.first
        images = EvaluationData.of(data.dataset(point.dataset, point.dtype))
        model = data.ensemble(RATES, point).model()
        same = {"run_time": RATES, "point": point.name, "intrinsic_lr": point.intrinsic_lr}
        same |= {"step": point.steps[-1], "delta": 0, "lag": 0.0}
        for relation, networks, a, b in pairs_of_weights(data, RATES, compared, None):
            for normalisation, losses in _average_losses(model, images, a, b).items():
                frame = pd.DataFrame(losses).assign(
                    **{"part": relation, "normalisation": normalisation, **same},
                    replicate=[network % spec.replicates(RATES) for network in networks],
                    sample=[compared.samples[network] for network in networks],
                )
                better = frame[["test_loss_start", "test_loss_end"]].min(axis=1, skipna=False)
                yield frame.assign(gain_over_better_end=better - frame["test_loss"])


def _average_losses(model, images, a, b) -> dict[str, dict[str, np.ndarray]]:
    """Return the test losses of networks a and b and of their averages, (R,) each, by normalisation."""
    from intrinsic_lr.analyses.averaging import interpolate, matched, normalize_groups, score

    device = images.train_images.device
    a, b = ({name: value.to(device) for name, value in side.items()} for side in (a, b))
    unit_a, unit_b = (normalize_groups(side, model.scale_groups) for side in (a, b))
    sides = {"raw": (a, b), "per_layer": (unit_a, unit_b), "matched": (unit_a, matched(model, unit_a, unit_b))}
    start, end = (score(model, side, images)["test_loss"] for side in (a, b))
    found = {}
    for normalisation, (first, second) in sides.items():
        average = score(model, interpolate(first, second, 0.5), images)["test_loss"]
        found[normalisation] = {"test_loss": average, "test_loss_start": start, "test_loss_end": end}
    return found


def judge(table: pd.DataFrame, spec: ClaimSpec) -> Findings:
    """Judge the mean gain over the mean of both ends, plainly and with hidden units matched; control: within.

    Across initialisations at both run times, and at every rate. The claim says all of it: the largest gain
    decides.
    """
    at_rates = table["run_time"] == RATES
    yield from judge_run_times(table[~at_rates], spec, NORMALISATIONS)
    rows = table[at_rates & (table["part"] == ACROSS)]
    for rate, normalisation in product(sorted(rows["intrinsic_lr"].unique()), NORMALISATIONS):
        chosen = rows[(rows["intrinsic_lr"] == rate) & (rows["normalisation"] == normalisation)]
        statement = f"Averages over {PARTS['across']} have no lower test loss than their ends have on average, at "
        statement += f"lambda_e = {rate:.3g}, {NORMALISATIONS[normalisation]}."
        gain = mean_interval(_gains(chosen), spec.confidence)
        yield spec.criterion(statement, STATISTIC, gain, RATES, allowed=Range(high=spec.thresholds["gain"]))


def judge_run_times(table: pd.DataFrame, spec: ClaimSpec, normalisations: Mapping[str, str]) -> Findings:
    """Judge the gain over the mean of both ends in a table of `swa_within.measure`; control: within, plainly."""
    whole = whole_runs(table)
    for part, point, run_time, normalisation in product(PARTS, points_of(table, spec), RUN_TIMES, normalisations):
        if part == "within" and normalisation not in PLAIN:
            continue
        rows = _rows(whole, part, point, run_time, normalisation)
        gain = mean_interval(mean_gains(rows, BOTH_ENDS), spec.confidence)
        judged = spec.criterion if part == "across" else spec.control
        statement = f"Averages over {PARTS[part]} have no lower test loss than their ends have on average, "
        statement += f"{TITLES[run_time].lower()}, {NORMALISATIONS[normalisation]} ({point})."
        yield judged(statement, STATISTIC, gain, RUN, allowed=Range(high=spec.thresholds["gain"]))


def _rows(table: pd.DataFrame, part: str, point: str, run_time: str, normalisation: str) -> pd.DataFrame:
    chosen = (table["part"] == part) & (table["point"] == point)
    return table[chosen & (table["run_time"] == run_time) & (table["normalisation"] == normalisation)]


def _gains(rows: pd.DataFrame) -> pd.Series:
    """Return the gain over the mean of both ends of each sample, of pairs that are finite."""
    gains = (rows["test_loss_start"] + rows["test_loss_end"]) / 2 - rows["test_loss"]
    return of_samples(gains.set_axis(rows["sample"].rename("sample")).replace([np.inf, -np.inf], np.nan).dropna())


@styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw the test loss of ends and averages at both run times, and the gains at every rate."""
    figure, (losses, gains) = panels(2, 2, 5.4, sharey="row")
    at_rates = table["run_time"] == RATES
    note = _draw_losses(losses, table[~at_rates], spec)
    for panel, normalisation in zip(gains, ("raw", "matched"), strict=True):
        _draw_gains(panel, table[at_rates & (table["normalisation"] == normalisation)], spec)
        panel.set_title(f"At every rate, {'raw weights' if normalisation == 'raw' else 'hidden units matched'}")
    gains[0].set_ylabel("gain over the mean of both ends (nats)")
    across = table[at_rates & (table["part"] == ACROSS)]
    if len(across):
        end, pairs = (
            (across["step"] * across["intrinsic_lr"]).max(),
            across.groupby("point")["sample"].nunique().max(),
        )
        note += f"; at every rate {pairs} pairs at {end:.3g}$/\\lambda_e$"
    title = "Averages of two initialisations, as they are and with hidden units matched"
    return legend_below(figure, labelled(figure), 3, note, title)


def draw_losses(table: pd.DataFrame, spec: ClaimSpec, title: str) -> Figure:
    """Draw the test loss of the ends and averages of a table of `swa_within.measure`."""
    figure, axes = panels(1, 2, 3.0, sharey=True)
    note = _draw_losses(axes[0], table, spec)
    return legend_below(figure, labelled(figure), 3, note, title)


def _draw_losses(axes: Sequence[Axes], table: pd.DataFrame, spec: ClaimSpec) -> str:
    """Draw the losses of averages and ends at both run times; return what a note says of them."""
    point = table["point"].iloc[0] if len(table) else ""
    there = set(table["normalisation"])
    across = [("across", normalisation) for normalisation in NORMALISATIONS if normalisation in there]
    pairs, places = 0, [*across, *product(["within"], PLAIN)]
    for panel, run_time in zip(axes, RUN_TIMES, strict=True):
        for place, (part, normalisation) in enumerate(places):
            rows = _rows(table, part, point, run_time, normalisation)
            rows = rows[rows["delta"] == rows["delta"].min()]
            pairs = max(pairs, rows["replicate"].nunique()) if part == "across" else pairs
            for offset, (quantity, look) in zip((-0.18, 0, 0.18), _MARKS.items(), strict=True):
                estimate = mean_interval(rows[quantity], spec.confidence)
                error_bar(panel, place + offset, estimate, ms=5, capsize=2.5, **look)
        panel.axvline(len(across) - 0.5, color="0.8", lw=0.8)
        labels = [f"{_TICKS[part]},\n{normalisation.replace('_', ' ')}" for part, normalisation in places]
        panel.set_xticks(range(len(places)), labels, fontsize="small")
        panel.set_xlim(-0.5, len(places) - 0.5)
        panel.grid(axis="x", visible=False)
        panel.set_title(TITLES[run_time])
    axes[0].set(ylabel="test loss (nats)", ylim=(0, None))
    rate = scientific(table["intrinsic_lr"].iloc[0]) if len(table) else ""
    lag = table.loc[table["part"] == "within", "lag"].min() if len(table) else np.nan
    return (
        f"mean and {spec.percent} interval, $\\lambda_e$ = {rate}: {pairs} independent pairs of "
        f"initialisations;\ncontrol: two checkpoints of one trajectory, {lag:.3g}$/\\lambda_e$ apart"
    )


def _draw_gains(panel: Axes, rows: pd.DataFrame, spec: ClaimSpec) -> None:
    rates: Iterable[float] = sorted(rows["intrinsic_lr"].unique())
    for place, rate in enumerate(rates):
        for offset, (relation, look) in zip((-0.2, 0, 0.2), RELATIONS.items(), strict=True):
            chosen = rows[(rows["intrinsic_lr"] == rate) & (rows["part"] == relation)]
            estimate = mean_interval(_gains(chosen), spec.confidence)
            error_bar(panel, place + offset, estimate, ms=5, capsize=2.5, **look)
    panel.axhline(0, color="0.5", lw=0.8)
    panel.set_xticks(range(len(rates)), [f"{rate:.2g}" for rate in rates])
    panel.set(xlabel=r"intrinsic learning rate $\lambda_e$", xlim=(-0.6, max(len(rates), 1) - 0.4))
    panel.grid(axis="x", visible=False)
