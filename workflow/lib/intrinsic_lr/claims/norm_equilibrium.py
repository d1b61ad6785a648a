"""The norm's equilibrium: where it rests, how fast it gets there, and how far each step turns the weights."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from intrinsic_lr.analyses.tables import with_point
from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec, Interval
from intrinsic_lr.claims.shared.verdicts import Finding, Range
from intrinsic_lr.figures.style import MARKERS, legend_below, ordered_colours, panels, scientific, spread, styled
from intrinsic_lr.stats.intervals import bootstrap_interval
from intrinsic_lr.stats.relaxation import RelaxationFit, integrated_gamma, thinned
from intrinsic_lr.stats.theory import angular_update, equilibrium_effective_lr

REST, EARLY, ANGLE, COURSE = "rest", "early", "angle", "course"
"""Kinds of rows: means over the settled part, over the beginning, angles of layers, relaxing curves."""
EARLY_SHARE = 0.1
"""The control looks at this share of a run, from its start."""
COURSE_ROWS = 60
"""At most so many rows of a relaxing curve are kept."""
_ANGLE = "angle:"
_GAMMA = "2 lambda_e gamma / E||g^||^2"
_ELR = "effective LR / sqrt(2 lambda_e / E||g^||^2)"


def measure(data: ClaimData) -> pd.DataFrame:
    """Return means of settled and of early gamma and noise, angles per layer, and courses of relaxation."""
    spec = data.spec
    parts = []
    for role in ("constant", "momentum"):
        for point in spec.points(role):
            ensemble = data.ensemble(role, point)
            settled = spec.settings["settled"] * (1 - point["momentum"]) / point["intrinsic_lr"]
            if point["momentum"] == 0:
                trace = _until(ensemble.trace(), point)
                parts.append(with_point(_rest(trace[trace["step"] > settled], REST), point))
                parts.append(
                    with_point(_rest(trace[trace["step"] <= EARLY_SHARE * point["length"]], EARLY), point)
                )
                if point["init_scale"] != 1:
                    parts.append(with_point(_course(trace, spec), point))
            history = _until(ensemble.history(), point)
            parts.append(with_point(_angles(history[history["step"] > settled]), point))
    for point in spec.points("decay"):
        trace = _until(data.ensemble("decay", point).trace(), point)
        changed = _after_change(trace)
        if 4 * changed["intrinsic_lr"].iloc[0] * np.ptp(changed["step"]) >= spec.settings["relaxed"]:
            parts.append(with_point(_course(changed, spec), point))
    return pd.concat(parts, ignore_index=True)


def _until(frame: pd.DataFrame, point: dict) -> pd.DataFrame:
    """Return the rows up to a point's length; those of a replicate that is not finite throughout are blank."""
    frame = frame[frame["step"] <= point["length"]]
    frame = frame.assign(
        intrinsic_lr=frame["lr"] * frame["weight_decay"],
        gamma=frame["effective_lr"] ** -2.0,
        noise=frame["unit_gradient_squared_norm"],
    )
    measured = ["gamma", "noise", "effective_lr", *(column for column in frame if column.startswith(_ANGLE))]
    # At initialisation there is no gradient yet.
    sound = np.isfinite(frame[measured]).all(axis=1) | (frame["step"] == 0)
    sound = sound.groupby(frame["replicate"]).transform("all")
    return frame.assign(**frame[measured].where(sound))


def _rest(frame: pd.DataFrame, part: str) -> pd.DataFrame:
    means = frame.groupby("replicate")[["gamma", "noise", "effective_lr"]].mean().reset_index()
    return means.assign(part=part)


def _angles(history: pd.DataFrame) -> pd.DataFrame:
    """Return the root mean square of the angle that a step turns each layer by."""
    columns = [column for column in history if column.startswith(_ANGLE)]
    squares = history[columns].pow(2).groupby(history["replicate"]).mean().pow(0.5)
    long = squares.reset_index().melt("replicate", var_name="layer", value_name="angle")
    return long.assign(part=ANGLE, layer=long["layer"].str.removeprefix(_ANGLE))


def _after_change(trace: pd.DataFrame) -> pd.DataFrame:
    """Return the rows whose rates are the last ones; the first of them is where the relaxation is timed from."""
    rates = trace[["lr", "weight_decay"]]
    last = (rates == rates.iloc[-1]).all(axis=1)
    return trace[trace["step"] > trace.loc[~last, "step"].max()] if (~last).any() else trace


def _course(trace: pd.DataFrame, spec: ClaimSpec) -> pd.DataFrame:
    """Return gamma and noise over the relaxation, thinned evenly."""
    start, rate = trace["step"].min(), trace["intrinsic_lr"].iloc[-1]
    trace = trace[trace["step"] <= start + spec.settings["followed"] / rate]
    trace = thinned(trace, spread(trace["step"], COURSE_ROWS))
    columns = trace[["replicate", "step", "gamma", "noise"]].rename(columns={"step": "since"})
    return columns.assign(since=columns["since"] - start, part=COURSE, course_intrinsic_lr=rate)


def judge(table: pd.DataFrame, spec: ClaimSpec) -> list[Finding]:
    """Hold the rest against F5, the relaxation against 4 lambda_e, and the angles against their formula."""
    limits = spec.thresholds
    rest, angle = Range(1 - limits["rest"], 1 + limits["rest"]), Range(1 - limits["angle"], 1 + limits["angle"])
    rate = Range(1 - limits["rate"], 1 + limits["rate"])
    findings = []
    constant, turning = _judged(spec, ("constant",)), _judged(spec, ("constant", "momentum"))
    resting = [point for point in constant if point["momentum"] == 0]
    slow = table[table["intrinsic_lr"] <= spec.settings["largest_intrinsic_lr"] * (1 + 1e-9)]
    for intrinsic_lr in _rates(resting):
        rows = _of_points(_part(slow, REST), resting, intrinsic_lr)
        for statistic in (_GAMMA, _ELR):
            findings.append(
                spec.criterion(
                    f"at rest as predicted, lambda_e {intrinsic_lr:.3g}",
                    statistic,
                    *_ratio(statistic, rows, spec),
                    n=len(rows),
                    roles=["constant"],
                    allowed=rest,
                )
            )
    started: set[bool] = set()
    for name, intrinsic_lr, decayed, gamma, noise, since in courses(slow):
        started.add(decayed)
        findings.append(
            spec.criterion(
                f"relaxes at 4 lambda_e, {name}, lambda_e {intrinsic_lr:.3g}",
                "fitted rate / (4 lambda_e)",
                *_fitted(gamma, noise, since, intrinsic_lr, spec),
                n=len(gamma),
                roles=["decay" if decayed else "constant"],
                allowed=rate,
            )
        )
    for decayed, name, role in ((False, "from a larger start", "constant"), (True, "after a decay", "decay")):
        if decayed not in started:
            statement = f"relaxes at 4 lambda_e, {name}: no such run"
            nothing = {"n": 0, "roles": [role], "allowed": rate}
            findings.append(spec.criterion(statement, "fitted rate / (4 lambda_e)", np.nan, None, **nothing))
    for momentum, layer, rows in _turns(slow, turning):
        role = "momentum" if momentum else "constant"
        findings.append(
            spec.criterion(
                f"{layer} turns as predicted, momentum {momentum:g}",
                "angle / sqrt(2 lambda_e / (1 + mu))",
                *_turning(rows, rows["momentum"], spec),
                n=len(rows),
                roles=[role],
                allowed=angle,
            )
        )
        if momentum:
            findings.append(
                spec.control(
                    f"{layer} against the formula without momentum",
                    "angle / sqrt(2 lambda_e)",
                    *_turning(rows, 0.0, spec),
                    n=len(rows),
                    roles=[role],
                    allowed=angle,
                )
            )
    if not any(point["momentum"] for point in turning):
        nothing = {"n": 0, "roles": ["momentum"], "allowed": angle}
        statement = "with momentum against the formula without: no such run"
        findings.append(spec.control(statement, "angle / sqrt(2 lambda_e)", np.nan, None, **nothing))
    slowest = _of_points(_part(slow, EARLY), resting, min(_rates(resting), default=np.nan))
    for statistic in (_GAMMA, _ELR):
        findings.append(
            spec.control(
                f"in the first {EARLY_SHARE:.0%} of the run, far from rest",
                statistic,
                *_ratio(statistic, slowest, spec),
                n=len(slowest),
                roles=["constant"],
                allowed=rest,
            )
        )
    return findings


def _judged(spec: ClaimSpec, roles: Sequence[str]) -> list[dict]:
    """Return the points of some roles whose intrinsic rate is small enough to be judged."""
    largest = spec.settings["largest_intrinsic_lr"] * (1 + 1e-9)
    return [point for role in roles for point in spec.points(role) if point["intrinsic_lr"] <= largest]


def _rates(points: Sequence[dict]) -> list[float]:
    return list(dict.fromkeys(point["intrinsic_lr"] for point in points))


def _of_points(rows: pd.DataFrame, points: Sequence[dict], intrinsic_lr: float) -> pd.DataFrame:
    """Return the rows of the points of one intrinsic rate; none if one of these points has no rows."""
    names = {point["name"] for point in points if point["intrinsic_lr"] == intrinsic_lr}
    rows = rows[rows["point"].isin(names)]
    return rows if set(rows["point"]) == names else rows[:0]


def _turns(table: pd.DataFrame, points: Sequence[dict]) -> Iterator[tuple[float, str, pd.DataFrame]]:
    """Yield (momentum, layer, rows of angles) of the points; no rows if one of the points has none."""
    layers = table.loc[table["part"] == ANGLE].groupby("momentum", sort=False)["layer"].unique()
    finite = _part(table, ANGLE)
    for momentum in dict.fromkeys(point["momentum"] for point in points):
        names = {point["name"] for point in points if point["momentum"] == momentum}
        for layer in layers.get(momentum, ["each layer"]):
            rows = finite[(finite["layer"] == layer) & finite["point"].isin(names)]
            yield momentum, layer, rows if set(rows["point"]) == names else rows[:0]


def _part(table: pd.DataFrame, part: str) -> pd.DataFrame:
    """Return the rows of one kind whose numbers are finite."""
    rows = table[table["part"] == part]
    columns = ["angle"] if part == ANGLE else ["gamma", "noise"]
    return rows[np.isfinite(rows[columns]).all(axis=1)]


def _ratio(statistic: str, rows: pd.DataFrame, spec: ClaimSpec) -> tuple[float, Interval]:
    """Return measured over predicted: a ratio of means over replicates, with its bootstrap interval."""
    gamma, noise, effective = (rows[column].to_numpy() for column in ("gamma", "noise", "effective_lr"))
    lr, decay = rows["lr"].to_numpy(), rows["weight_decay"].to_numpy()

    def ratio(index: np.ndarray) -> float:
        # All points of a group share lambda_e, so the first row's rates stand for all.
        predicted = equilibrium_effective_lr(lr[0], decay[0], noise[index].mean())
        return float(
            gamma[index].mean() * predicted**2 if statistic == _GAMMA else effective[index].mean() / predicted
        )

    return _bootstrapped(ratio, len(rows), spec, statistic, *rows["intrinsic_lr"].unique())


def _turning(rows: pd.DataFrame, momentum, spec: ClaimSpec) -> tuple[float, Interval]:
    """Return the root mean square angle over the predicted one."""
    squares = ((rows["angle"] / angular_update(rows["lr"], rows["weight_decay"], momentum)) ** 2).to_numpy()
    return _bootstrapped(
        lambda index: float(squares[index].mean() ** 0.5), len(rows), spec, *rows["layer"].unique()
    )


def _fitted(
    gamma: np.ndarray, noise: np.ndarray, since: np.ndarray, intrinsic_lr: float, spec: ClaimSpec
) -> tuple[float, Interval]:
    fit = RelaxationFit(since, 4 * intrinsic_lr)
    return _bootstrapped(
        lambda index: fit.fit(gamma[index].mean(axis=0), noise[index].mean(axis=0))[0],
        len(gamma),
        spec,
        intrinsic_lr,
    )


def _bootstrapped(statistic, n: int, spec: ClaimSpec, *names) -> tuple[float, Interval]:
    if n == 0:
        return np.nan, (np.nan, np.nan)
    resamples = spec.analysis["bootstrap"]
    interval = bootstrap_interval(statistic, [n], resamples, spec.confidence, spec.generator(*names))
    return statistic(np.arange(n)), interval


def courses(table: pd.DataFrame) -> Iterator[tuple[str, float, bool, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield each relaxation: what started it, lambda_e, whether a decay did, gamma, noise (R, T), steps (T,)."""
    rows = table[table["part"] == COURSE]
    for _, course in rows.groupby(["point", "schedule"], sort=False):
        first = course.iloc[0]
        decayed = first["schedule"] != "constant"
        larger = f"start {first['init_scale']:g} times larger"
        name = str(first["schedule"]).replace("_", " ") if decayed else larger
        gamma, noise = (
            course.pivot(index="replicate", columns="since", values=value) for value in ("gamma", "noise")
        )
        # The first row has no interval behind it, and at initialisation no gradient.
        sound = np.isfinite(gamma).all(axis=1) & np.isfinite(noise.iloc[:, 1:]).all(axis=1)
        since = gamma.columns.to_numpy(np.float64)
        yield (
            name,
            first["course_intrinsic_lr"],
            decayed,
            gamma[sound].to_numpy(),
            noise[sound].to_numpy(),
            since,
        )


@styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw measured over predicted rest, relaxations with their prediction, and angles over predicted ones."""
    figure, axes = panels(1, 3, 2.6, width_ratios=[1, 1.25, 1.1])
    rest, way, turning = axes[0]
    colours = sns.color_palette("colorblind")
    _draw_rest(rest, table, spec, colours)
    handles = [
        Line2D([], [], color=colours[0], marker="o", ls="", label="at rest"),
        Line2D([], [], color=colours[1], marker="x", ls="", label=f"first {EARLY_SHARE:.0%} of the run (control)"),
        *_draw_courses(way, table),
        Line2D([], [], color="k", ls=":", label="rate $4\\lambda_e$ with the measured noise"),
        *_draw_angles(turning, table, spec, colours),
    ]
    figure.suptitle("Norm and angle at rest, and the way there, against the equation of the norm")
    n = table.groupby(["part", "point"])["replicate"].nunique()
    count = "no" if n.empty else f"{n.min()}" if n.min() == n.max() else f"{n.min()} to {n.max()}"
    note = f"bars: {spec.confidence:.0%} bootstrap intervals ({count} replicates a setting); grey: allowed"
    legend_below(figure, handles, 3, note)
    return figure


def _draw_rest(axes: Axes, table: pd.DataFrame, spec: ClaimSpec, colours: Sequence) -> None:
    limit = spec.thresholds["rest"]
    axes.axhspan(1 - limit, 1 + limit, color="0.88", lw=0)
    rates = sorted(table.loc[table["part"] == REST, "intrinsic_lr"].unique(), reverse=True)
    for part, marker, colour in ((REST, "o", colours[0]), (EARLY, "x", colours[1])):
        rows = _part(table, part)
        rows = rows[rows["init_scale"] == 1] if part == EARLY else rows
        for place, rate in enumerate(rates):
            here = rows[rows["intrinsic_lr"] == rate]
            _point(axes, place, _ratio(_ELR, here, spec) if len(here) else None, marker=marker, color=colour)
    axes.set(yscale="log", xlim=(-0.5, max(len(rates), 1) - 0.5), xlabel="$\\lambda_e$", title="the rest")
    axes.set_ylabel("effective LR over predicted")
    axes.set_xticks(range(len(rates)), [f"{rate:.2g}" for rate in rates], fontsize="x-small")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _point(axes: Axes, x: float, found: tuple[float, Interval] | None, **style) -> None:
    """Draw an estimate with its interval, if there is one."""
    if found is None or not np.isfinite(found[0]):
        return
    value, (low, high) = found
    bar = [[value - low], [high - value]] if np.isfinite(low) else None
    axes.errorbar(x, value, bar, ms=4.5, lw=1.2, ls="", **style)


def _draw_courses(axes: Axes, table: pd.DataFrame) -> list[Line2D]:
    found = [course for course in courses(table) if len(course[3])]
    colours = ordered_colours(range(len(found)))
    handles = []
    for place, (name, rate, _, gamma, noise, since) in enumerate(found):
        mean = gamma.mean(axis=0)
        predicted = integrated_gamma(since, mean[0], 4 * rate, noise.mean(axis=0))
        label = f"{name}, $\\lambda_e$ = {scientific(rate)}"
        handles += axes.plot(rate * since, mean**-0.5, color=colours[place], lw=2, label=label)
        axes.plot(rate * since, predicted**-0.5, color="k", lw=1.2, ls=":")
        axes.set_yscale("log")
    axes.set(xlabel="$\\lambda_e t$ since the change or start", ylabel="effective LR", title="the way there")
    return handles


def _draw_angles(axes: Axes, table: pd.DataFrame, spec: ClaimSpec, colours: Sequence) -> list[Line2D]:
    limit = spec.thresholds["angle"]
    axes.axhspan(1 - limit, 1 + limit, color="0.88", lw=0)
    rows = _part(table, ANGLE)
    layers = list(rows["layer"].unique())
    styles = {
        layer: {"marker": MARKERS[1:][i % 5], "color": colours[(2 + i) % 10]} for i, layer in enumerate(layers)
    }
    settings = list(rows[["momentum", "intrinsic_lr"]].drop_duplicates().itertuples(index=False, name=None))
    for place, (momentum, rate) in enumerate(settings):
        for index, layer in enumerate(layers):
            here = rows[(rows["momentum"] == momentum) & (rows["intrinsic_lr"] == rate) & (rows["layer"] == layer)]
            offset = 0.3 * ((index + 0.5) / len(layers) - 0.5)
            found = _turning(here, here["momentum"], spec) if len(here) else None
            _point(axes, place + offset, found, **styles[layer])
    labels = [f"{rate:.2g}" + (f"\n$\\mu$={momentum:g}" if momentum else "") for momentum, rate in settings]
    axes.set_xticks(range(len(settings)), labels, fontsize="x-small")
    axes.set(xlabel="$\\lambda_e$", ylabel="angle of a step over predicted", title="turning, per layer")
    return [Line2D([], [], ls="", label=layer, **style) for layer, style in styles.items()]
