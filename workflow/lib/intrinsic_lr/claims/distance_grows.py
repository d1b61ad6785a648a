"""Distances between checkpoints of a trajectory against their lag, held against processes that level off."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from intrinsic_lr.analyses.tables import ACROSS_INITIALISATIONS
from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec
from intrinsic_lr.claims.shared.verdicts import Finding, Range
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.figures.style import band, legend_below, ordered_colours, panels, scientific, spread, styled
from intrinsic_lr.stats.intervals import bootstrap_interval, summarize
from intrinsic_lr.stats.lags import (
    MIN_LATE,
    MIN_SHORT,
    effective_dimension,
    growth,
    lag_distances,
    late_lags_of,
    over_ou,
    short_fit,
    short_lags_of,
    simulate_ou,
    simulate_sphere_walk,
    slope,
)
from intrinsic_lr.stats.theory import ou_squared_distance, sphere_walk_cosine

RUN = "run"
DATA, OU, WALK, ACROSS = "data", "ou", "sphere_walk", "across"
CONTROLS = {
    OU: "An Ornstein-Uhlenbeck process as fitted to the short lags",
    WALK: "A walk of noise alone on the sphere",
}


def measure(data: ClaimData) -> pd.DataFrame:
    """Return distances and cosines of all pairs of checkpoints from `start` on, of the runs and of both nulls.

    The nulls have the runs' checkpoints and number of replicates. The Ornstein-Uhlenbeck process has the
    plateau and rate fitted to the runs' short lags from the first checkpoint, and as many dimensions as give
    its squared distances the runs' spread.

    Raises:
        InputError: when the experiment has not exactly one point.
    """
    spec = data.spec
    settings = spec.settings
    if len(spec.points(RUN)) != 1:
        raise InputError(
            f"{spec.name}: experiment {spec.experiments[RUN]['experiment']}: found "
            f"{len(spec.points(RUN))} points; needs exactly one"
        )
    (point,) = spec.points(RUN)
    rate = point["intrinsic_lr"]
    table = data.table(RUN, "distance")
    table = table[(table["point"] == point["name"]) & (table["layer"] == "all")]
    table = table[table["step"] * rate >= settings["start"] - 1e-9]
    columns = ["step", "delta", "replicate", "l2", "cosine"]
    own = table[columns].assign(part=DATA)
    across = data.table(RUN, "distance_across")
    across = across[(across["relation"] == ACROSS_INITIALISATIONS) & (across["layer"] == "all")]
    across = across[across["point"] == point["name"]].rename(columns={"replicate_a": "replicate"})
    parts = [own, across[columns].assign(part=ACROSS)]
    steps = np.unique([*own["step"], *(own["step"] + own["delta"])])
    replicates = own["replicate"].nunique()
    distances = lag_distances(own).get(steps[0]) if len(steps) else None
    if distances is not None:
        plateau, relaxation = short_fit(distances, settings["short_lags"])
        dimension = effective_dimension(distances[distances.columns.max()])
        if np.isfinite([plateau, relaxation, dimension]).all():
            generator = spec.generator(OU)
            parts.append(simulate_ou(steps, plateau, relaxation, dimension, replicates, generator).assign(part=OU))
            walk = simulate_sphere_walk(steps, rate, dimension, replicates, spec.generator(WALK))
            parts.append(walk.assign(part=WALK))
    found = pd.concat(parts, ignore_index=True)
    return found.assign(intrinsic_lr=rate, lag=found["delta"] * rate)[
        ["part", "intrinsic_lr", "step", "delta", "lag", "replicate", "l2", "cosine"]
    ]


def judge(table: pd.DataFrame, spec: ClaimSpec) -> list[Finding]:
    """Judge growth from lag to lag, the distance over the fitted process, and the slope at long lags.

    Each is the least over the starting checkpoints that have the lags for it, which the statement names, with a
    bootstrap interval over replicates, whose trajectories are resampled as wholes. Both nulls have to fail what
    tells growth from a plateau.
    """
    settings, thresholds = spec.settings, spec.thresholds
    rate = spec.points(RUN)[0]["intrinsic_lr"]
    short = settings["short_lags"]

    def long(d: pd.DataFrame) -> bool:
        return d.columns.max() * rate >= settings["long_lag"]

    tests = {
        "growth": (
            "the mean distance grows from each lag to the next",
            "least relative growth of the mean distance from one lag to the next, over all T",
            lambda d, rows: growth(d, settings["lag_ratio"], rows),
            lambda d: len(d.columns) > 1,
        ),
        "over_ou": (
            "the squared distance ends above the plateau that the short lags foretell",
            "squared distance at the longest lag, over the Ornstein-Uhlenbeck process fitted to the short lags, "
            "least over T",
            lambda d, rows: over_ou(d, short, rows),
            lambda d: long(d) and short_lags_of(d, short, settings["lag_ratio"]) >= MIN_SHORT,
        ),
        "slope": (
            "the distance still grows over the last half of the lags",
            "log-log slope of the mean squared distance over the last half of the lags, least over T",
            slope,
            lambda d: long(d) and late_lags_of(d) >= MIN_LATE,
        ),
    }
    findings = []
    for part in (DATA, *CONTROLS):
        rows = table[table["part"] == part]
        every = lag_distances(rows) if len(rows) else {}
        for name, (words, statistic, estimate, has_lags) in tests.items():
            if part != DATA and name == "growth":
                continue
            chosen = {start: distances for start, distances in every.items() if has_lags(distances)}
            value, interval, n = _least(chosen, estimate, spec, (part, name))
            finding = spec.criterion if part == DATA else spec.control
            statement = f"{words}, from T = {_times(chosen, rate)}."
            statement = f"{CONTROLS[part]}: {statement}" if part != DATA else statement[0].upper() + statement[1:]
            findings.append(
                finding(
                    statement, statistic, value, interval, n=n, roles=[RUN], allowed=Range(low=thresholds[name])
                )
            )
    return findings


def _times(starts, rate: float) -> str:
    """Spell starting checkpoints in units of 1/lambda_e."""
    return f"{', '.join(f'{start * rate:.4g}' for start in starts)}/lambda_e" if len(starts) else "none"


def _least(distances, estimate, spec: ClaimSpec, names) -> tuple[float, tuple[float, float], int]:
    """Return the least estimate over starting checkpoints (NaN if one is), its bootstrap interval, and n."""
    n = min((len(d) for d in distances.values()), default=0)
    if n == 0:
        return np.nan, (np.nan, np.nan), 0

    def least(rows: np.ndarray) -> float:
        return float(np.min([estimate(d, rows) for d in distances.values()]))

    interval = bootstrap_interval(least, [n], spec.analysis["bootstrap"], spec.confidence, spec.generator(*names))
    return least(np.arange(n)), interval, n


@styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw distance and cosine against the lag, with the fitted process and the noise-only walk."""
    figure, ((distance, cosine),) = panels(1, 2, 3.2)
    data = table[table["part"] == DATA]
    rate = spec.points(RUN)[0]["intrinsic_lr"]
    lags = data.groupby("step")["lag"].agg(["max", "nunique"])
    tested = lags[(lags["max"] >= spec.settings["long_lag"]) & (lags["nunique"] >= lags["nunique"].max() / 2)]
    starts = spread(tested.index, 3)
    colours = ordered_colours(starts)
    summary = summarize(data, ["step", "lag"], ["l2", "cosine"], spec.confidence)
    for start in starts:
        chosen = summary[summary["step"] == start]
        look = {"color": colours[start], "marker": "o", "ms": 3, "lw": 1.4}
        band(distance, chosen, "lag", "l2", **look)
        band(cosine, chosen, "lag", "cosine", **look)
        distances = lag_distances(data[data["step"] == start]).get(start)
        if distances is not None:
            lags = np.linspace(0, distances.columns.max(), 200)
            fitted = ou_squared_distance(lags, *short_fit(distances, spec.settings["short_lags"])) ** 0.5
            distance.plot(lags * rate, fitted, color=colours[start], ls="--", lw=1.2)
    longest = data["lag"].max() if len(data) else 1.0
    lags = np.linspace(0, longest, 200)
    cosine.plot(lags, sphere_walk_cosine(rate, lags / rate), color="black", ls=":", lw=1.4)
    across = table[(table["part"] == ACROSS) & (table["step"] == table.loc[table["part"] == ACROSS, "step"].max())]
    if len(across):
        distance.axhline(across["l2"].mean(), **_ACROSS)
        cosine.axhline(across["cosine"].mean(), **_ACROSS)
        norm = np.sqrt((across["l2"] ** 2 / (2 - 2 * across["cosine"])).mean())
        distance.plot(
            lags, norm * np.sqrt(2 - 2 * sphere_walk_cosine(rate, lags / rate)), color="black", ls=":", lw=1.4
        )
    distance.set(ylabel=r"$\|w_T - w_{T+\Delta}\|$", title="Distance", ylim=(0, None))
    cosine.set(ylabel=r"$\cos(w_T, w_{T+\Delta})$", title="Cosine")
    for axes in (distance, cosine):
        axes.set_xlabel(r"lag $\Delta$ $(1/\lambda_e)$")
    handles = [
        Line2D([], [], color=colours[T], marker="o", ms=3, label=f"$T$ = {T * rate:.3g}$/\\lambda_e$")
        for T in starts
    ]
    handles += [
        Line2D([], [], color="0.3", ls="--", label="OU process, fitted to the short\nlags where there are enough"),
        Line2D([], [], color="black", ls=":", label="walk of noise alone, sphere"),
        Line2D([], [], label="two initialisations", **_ACROSS),
    ]
    n, percent = data["replicate"].nunique(), f"{100 * spec.confidence:g} %"
    note = f"mean and {percent} band over {n} replicates, $\\lambda_e$ = {scientific(rate)}; all weights, raw"
    legend_below(figure, handles, 3, note)
    figure.suptitle("Two checkpoints of one trajectory lie the further apart the longer their lag")
    return figure


_ACROSS = {"color": "#D55E00", "ls": (0, (6, 2)), "lw": 1.2}
