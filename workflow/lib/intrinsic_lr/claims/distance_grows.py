"""Distances between checkpoints of a trajectory against their lag, compared with processes that level off."""

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from intrinsic_lr.analyses.tables import ACROSS_INITIALISATIONS
from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec
from intrinsic_lr.claims.shared.verdicts import Findings, Range
from intrinsic_lr.figures import style
from intrinsic_lr.stats import lags
from intrinsic_lr.stats.intervals import summarize
from intrinsic_lr.stats.theory import ou_squared_distance, sphere_walk_cosine

RUN = "run"
DATA, OU, WALK, ACROSS = "data", "ou", "sphere_walk", "across"
CONTROLS = {
    OU: "An Ornstein-Uhlenbeck process as fitted to the short lags",
    WALK: "A walk of noise alone on the sphere",
}
_ACROSS = {"label": "two initialisations", "color": "#D55E00", "ls": (0, (6, 2)), "lw": 1.2}
_WALK = {"label": "walk of noise alone, sphere", "color": "black", "ls": ":", "lw": 1.4}
_FITTED = {"label": "OU process, fitted to the short\nlags where there are enough", "color": "0.3", "ls": "--"}


def measure(data: ClaimData) -> pd.DataFrame:
    """Return distances and cosines of all pairs of checkpoints from `start` on, of the runs and of both nulls.

    The nulls have the runs' checkpoints and number of replicates. The Ornstein-Uhlenbeck process has the
    plateau and rate fitted to the runs' short lags from the first checkpoint, and as many dimensions as give
    its squared distances the runs' spread.
    """
    spec, settings = data.spec, data.spec.settings
    (point,) = spec.points(RUN)
    rate = point.intrinsic_lr
    columns = ["step", "delta", "replicate", "l2", "cosine"]
    table, across = data.table(RUN, "distance"), data.table(RUN, "distance_across")
    table, across = (rows[(rows["point"] == point.name) & (rows["layer"] == "all")] for rows in (table, across))
    runs = table.loc[table["step"] * rate >= settings["start"] - 1e-9, columns].assign(part=DATA)
    across = across[across["relation"] == ACROSS_INITIALISATIONS].rename(columns={"replicate_a": "replicate"})
    parts = [runs, across[columns].assign(part=ACROSS)]
    steps, replicates = np.unique([*runs["step"], *(runs["step"] + runs["delta"])]), runs["replicate"].nunique()
    distances = lags.lag_distances(runs).get(steps[0]) if len(steps) else None
    if distances is not None:
        plateau, relaxation = lags.short_fit(distances, settings["short_lags"])
        dimension = lags.effective_dimension(distances[distances.columns.max()])
        if np.isfinite([plateau, relaxation, dimension]).all():
            ou = lags.simulate_ou(steps, plateau, relaxation, dimension, replicates, spec.generator(OU))
            walk = lags.simulate_sphere_walk(steps, rate, dimension, replicates, spec.generator(WALK))
            parts += [ou.assign(part=OU), walk.assign(part=WALK)]
    found = pd.concat(parts, ignore_index=True)
    columns = ["part", "intrinsic_lr", "step", "delta", "lag", "replicate", "l2", "cosine"]
    return found.assign(intrinsic_lr=rate, lag=found["delta"] * rate)[columns]


def judge(table: pd.DataFrame, spec: ClaimSpec) -> Findings:
    """Judge growth from lag to lag, the distance over the fitted process, and the slope at long lags.

    Each is the least over the starting checkpoints that have the lags for it, which the statement names, with a
    bootstrap interval over replicates, whose trajectories are resampled as wholes. Both nulls have to fail what
    tells growth from a plateau.
    """
    settings, rate = spec.settings, spec.points(RUN)[0].intrinsic_lr
    short, ratio = settings["short_lags"], settings["lag_ratio"]

    def is_long(d: pd.DataFrame) -> bool:
        return d.columns.max() * rate >= settings["long_lag"]

    tests = {
        "growth": (
            "the mean distance grows from each lag to the next",
            "least relative growth of the mean distance from one lag to the next, over all T",
            lambda d, rows: lags.growth(d, ratio, rows),
            lambda d: len(d.columns) > 1,
        ),
        "over_ou": (
            "the squared distance ends above the plateau that the short lags foretell",
            "squared distance at the longest lag, over the Ornstein-Uhlenbeck process fitted to the short lags, "
            "least over T",
            lambda d, rows: lags.over_ou(d, short, rows),
            lambda d: is_long(d) and lags.short_lags_of(d, short, ratio) >= lags.MIN_SHORT,
        ),
        "slope": (
            "the distance still grows over the last half of the lags",
            "log-log slope of the mean squared distance over the last half of the lags, least over T",
            lags.slope,
            lambda d: is_long(d) and lags.late_lags_of(d) >= lags.MIN_LATE,
        ),
    }
    for part in (DATA, *CONTROLS):
        rows = table[table["part"] == part]
        every = lags.lag_distances(rows) if len(rows) else {}
        for name, (words, statistic, estimate, has_lags) in tests.items():
            if part != DATA and name == "growth":
                continue
            chosen = {start: distances for start, distances in every.items() if has_lags(distances)}
            n = min(map(len, chosen.values()), default=0)
            least = spec.bootstrap(partial(_least, chosen, estimate), [n], part, name)
            times = ", ".join(f"{start * rate:.4g}" for start in chosen)
            words = f"{words}, from T = {f'{times}/lambda_e' if chosen else 'none'}."
            judged = spec.criterion if part == DATA else spec.control
            words = f"{words[0].upper()}{words[1:]}" if part == DATA else f"{CONTROLS[part]}: {words}"
            yield judged(words, statistic, least, RUN, allowed=Range(low=spec.thresholds[name]))


def _least(distances, estimate, rows: np.ndarray) -> float:
    """Return the least estimate over starting checkpoints, NaN if one is."""
    return float(np.min([estimate(d, rows) for d in distances.values()]))


@style.styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw distance and cosine against the lag, with the fitted process and the noise-only walk."""
    figure, ((distance, cosine),) = style.panels(1, 2, 3.2)
    rate = spec.points(RUN)[0].intrinsic_lr
    data, across = (table[table["part"] == part] for part in (DATA, ACROSS))
    by_start = data.groupby("step")["lag"].agg(["max", "nunique"])
    enough = by_start["nunique"] >= by_start["nunique"].max() / 2
    starts = style.spread(by_start.index[(by_start["max"] >= spec.settings["long_lag"]) & enough], 3)
    summary = summarize(data, ["step", "lag"], ["l2", "cosine"], spec.confidence)
    for start, colour in style.ordered_colours(starts).items():
        label = f"$T$ = {start * rate:.3g}$/\\lambda_e$"
        for axes, quantity in ((distance, "l2"), (cosine, "cosine")):
            look = {"color": colour, "marker": "o", "ms": 3, "lw": 1.4, "label": label}
            style.band(axes, summary[summary["step"] == start], "lag", quantity, **look)
        distances = lags.lag_distances(data[data["step"] == start]).get(start)
        if distances is not None:
            steps = np.linspace(0, distances.columns.max(), 200)
            fitted = ou_squared_distance(steps, *lags.short_fit(distances, spec.settings["short_lags"])) ** 0.5
            distance.plot(steps * rate, fitted, color=colour, ls="--", lw=1.2)
    times = np.linspace(0, data["lag"].max() if len(data) else 1.0, 200)
    walk = sphere_walk_cosine(rate, times / rate)
    cosine.plot(times, walk, **_WALK)
    across = across[across["step"] == across["step"].max()]
    if len(across):
        distance.axhline(across["l2"].mean(), **_ACROSS)
        cosine.axhline(across["cosine"].mean(), **_ACROSS)
        norm = np.sqrt((across["l2"] ** 2 / (2 - 2 * across["cosine"])).mean())
        distance.plot(times, norm * np.sqrt(2 - 2 * walk), **_WALK)
    distance.set(ylabel=r"$\|w_T - w_{T+\Delta}\|$", title="Distance", ylim=(0, None))
    cosine.set(ylabel=r"$\cos(w_T, w_{T+\Delta})$", title="Cosine")
    for axes in (distance, cosine):
        axes.set_xlabel(r"lag $\Delta$ $(1/\lambda_e)$")
    n, rate_text = data["replicate"].nunique(), style.scientific(rate)
    note = f"mean and {spec.percent} band over {n} replicates, $\\lambda_e$ = {rate_text}; all weights, raw"
    title = "Two checkpoints of one trajectory lie the further apart the longer their lag"
    return style.legend_below(figure, [*style.labelled(figure), style.handle(**_FITTED)], 3, note, title)
