"""The norm's equilibrium: where it lies, how fast it gets there, and how far each step turns the weights."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from intrinsic_lr.analyses.tables import with_point
from intrinsic_lr.claims.shared.spec import NOTHING, ClaimData, ClaimSpec, Estimate
from intrinsic_lr.claims.shared.verdicts import Findings, Range
from intrinsic_lr.figures import style
from intrinsic_lr.stats.intervals import percent
from intrinsic_lr.stats.relaxation import RelaxationFit, integrated_gamma, thinned
from intrinsic_lr.stats.theory import angular_update, equilibrium_effective_lr
from intrinsic_lr.study.experiment import PlannedPoint

REST, EARLY, ANGLE, COURSE = "equilibrium", "early", "angle", "course"
"""Kinds of rows: means over the equilibrium, over the beginning, angles of layers, relaxing curves."""
EARLY_SHARE = 0.1
"""The control looks at this share of a run, from its start."""
COURSE_ROWS = 60
"""At most so many rows of a relaxing curve are kept."""
_ANGLE = "angle:"
_GAMMA = "2 lambda_e gamma / E||g^||^2"
_ELR = "effective LR / sqrt(2 lambda_e / E||g^||^2)"
_RATE = "fitted rate / (4 lambda_e)"
_ANGLE_WITHOUT = "angle / sqrt(2 lambda_e)"


def measure(data: ClaimData) -> pd.DataFrame:
    """Return means of late and of early gamma and noise, angles per layer, and courses of relaxation."""
    settings = data.spec.settings
    parts = []
    for role in ("constant", "momentum"):
        for point in data.spec.points(role):
            ensemble = data.ensemble(role, point)
            settled = settings["settled"] * (1 - point.momentum) / point.intrinsic_lr
            if point.momentum == 0:
                trace = _until(ensemble.trace(), point)
                late, early = trace[trace["step"] > settled], trace[trace["step"] <= EARLY_SHARE * point.length]
                parts += [with_point(_means(late, REST), point), with_point(_means(early, EARLY), point)]
                if point.init_scale != 1:
                    parts.append(with_point(_course(trace, settings["followed"]), point))
            history = _until(ensemble.history(), point)
            parts.append(with_point(_angles(history[history["step"] > settled]), point))
    for point in data.spec.points("decay"):
        changed = _after_change(_until(data.ensemble("decay", point).trace(), point))
        if 4 * changed["intrinsic_lr"].iloc[0] * np.ptp(changed["step"]) >= settings["relaxed"]:
            parts.append(with_point(_course(changed, settings["followed"]), point))
    return pd.concat(parts, ignore_index=True)


def _until(frame: pd.DataFrame, point: PlannedPoint) -> pd.DataFrame:
    """Return the rows up to a point's length; those of a replicate that is not finite throughout are blank."""
    frame = frame[frame["step"] <= point.length]
    rate, gamma = frame["lr"] * frame["weight_decay"], frame["effective_lr"] ** -2.0
    frame = frame.assign(intrinsic_lr=rate, gamma=gamma, noise=frame["unit_gradient_squared_norm"])
    measured = ["gamma", "noise", "effective_lr", *(column for column in frame if column.startswith(_ANGLE))]
    # At initialisation there is no gradient yet.
    sound = np.isfinite(frame[measured]).all(axis=1) | (frame["step"] == 0)
    sound = sound.groupby(frame["replicate"]).transform("all")
    return frame.assign(**frame[measured].where(sound))


def _means(frame: pd.DataFrame, part: str) -> pd.DataFrame:
    means = frame.groupby("replicate")[["gamma", "noise", "effective_lr"]].mean()
    return means.reset_index().assign(part=part)


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


def _course(trace: pd.DataFrame, followed: float) -> pd.DataFrame:
    """Return gamma and noise over the relaxation, thinned evenly."""
    start, rate = trace["step"].min(), trace["intrinsic_lr"].iloc[-1]
    trace = trace[trace["step"] <= start + followed / rate]
    trace = thinned(trace, style.spread(trace["step"], COURSE_ROWS))
    columns = trace[["replicate", "step", "gamma", "noise"]].rename(columns={"step": "since"})
    return columns.assign(since=columns["since"] - start, part=COURSE, course_intrinsic_lr=rate)


def judge(table: pd.DataFrame, spec: ClaimSpec) -> Findings:
    """Compare the equilibrium with F5, the relaxation with 4 lambda_e, and the angles with their formula."""
    equilibrium, rate, angle = (Range.about(1, spec.thresholds[key]) for key in ("equilibrium", "rate", "angle"))
    largest = spec.settings["largest_intrinsic_lr"] * (1 + 1e-9)
    points = [point for role in ("constant", "momentum") for point in spec.points(role)]
    points = [point for point in points if point.intrinsic_lr <= largest]
    resting = [point for point in points if point.momentum == 0]
    rates = list(dict.fromkeys(point.intrinsic_lr for point in resting))
    slow = table[table["intrinsic_lr"] <= largest]
    for intrinsic_lr in rates:
        rows = _of_points(_part(slow, REST), [point for point in resting if point.intrinsic_lr == intrinsic_lr])
        for statistic in (_GAMMA, _ELR):
            statement = f"at equilibrium as predicted, lambda_e {intrinsic_lr:.3g}"
            yield spec.criterion(
                statement, statistic, _ratio(statistic, rows, spec), "constant", allowed=equilibrium
            )
    started = set()
    for name, intrinsic_lr, role, gamma, noise, since in courses(slow):
        started.add(role)
        fit = RelaxationFit(since, 4 * intrinsic_lr)

        def fitted(index: np.ndarray, fit=fit, gamma=gamma, noise=noise) -> float:
            return fit.fit(gamma[index].mean(axis=0), noise[index].mean(axis=0))[0]

        statement = f"relaxes at 4 lambda_e, {name}, lambda_e {intrinsic_lr:.3g}"
        estimate = spec.bootstrap(fitted, [len(gamma)], intrinsic_lr)
        yield spec.criterion(statement, _RATE, estimate, role, allowed=rate)
    for role, name in (("constant", "from a larger start"), ("decay", "after a decay")):
        if role not in started:
            statement = f"relaxes at 4 lambda_e, {name}: no such run"
            yield spec.criterion(statement, _RATE, NOTHING, role, allowed=rate)
    for momentum, layer, rows in _turns(slow, points):
        role, estimate = "momentum" if momentum else "constant", _turning(rows, rows["momentum"], spec)
        statement = f"{layer} turns as predicted, momentum {momentum:g}"
        yield spec.criterion(statement, "angle / sqrt(2 lambda_e / (1 + mu))", estimate, role, allowed=angle)
        if momentum:
            statement, estimate = f"{layer} against the formula without momentum", _turning(rows, 0.0, spec)
            yield spec.control(statement, _ANGLE_WITHOUT, estimate, role, allowed=angle)
    if not any(point.momentum for point in points):
        statement = "with momentum against the formula without: no such run"
        yield spec.control(statement, _ANGLE_WITHOUT, NOTHING, "momentum", allowed=angle)
    early = _of_points(_part(slow, EARLY), [point for point in resting if point.intrinsic_lr == min(rates)])
    for statistic in (_GAMMA, _ELR):
        statement = f"in the first {EARLY_SHARE:.0%} of the run, far from equilibrium"
        yield spec.control(statement, statistic, _ratio(statistic, early, spec), "constant", allowed=equilibrium)


def _of_points(rows: pd.DataFrame, points: Sequence[PlannedPoint]) -> pd.DataFrame:
    """Return the rows of some points; none if one of these points has no rows."""
    names = {point.name for point in points}
    rows = rows[rows["point"].isin(names)]
    return rows if set(rows["point"]) == names else rows[:0]


def _turns(table: pd.DataFrame, points: Sequence[PlannedPoint]) -> Iterator[tuple[float, str, pd.DataFrame]]:
    """Yield (momentum, layer, rows of angles) of the points; no rows if one of the points has none."""
    layers = table.loc[table["part"] == ANGLE].groupby("momentum", sort=False)["layer"].unique()
    finite = _part(table, ANGLE)
    for momentum in dict.fromkeys(point.momentum for point in points):
        chosen = [point for point in points if point.momentum == momentum]
        for layer in layers.get(momentum, ["each layer"]):
            yield momentum, layer, _of_points(finite[finite["layer"] == layer], chosen)


def _part(table: pd.DataFrame, part: str) -> pd.DataFrame:
    """Return the rows of one kind whose numbers are finite."""
    rows = table[table["part"] == part]
    columns = ["angle"] if part == ANGLE else ["gamma", "noise"]
    return rows[np.isfinite(rows[columns]).all(axis=1)]


def _ratio(statistic: str, rows: pd.DataFrame, spec: ClaimSpec) -> Estimate:
    """Return measured over predicted: a ratio of means over replicates, with its bootstrap interval."""
    gamma, noise, effective = (rows[column].to_numpy() for column in ("gamma", "noise", "effective_lr"))
    lr, decay = rows["lr"].to_numpy(), rows["weight_decay"].to_numpy()

    def ratio(index: np.ndarray) -> float:
        # All points of a group share lambda_e, so the first row's rates stand for all.
        predicted = equilibrium_effective_lr(lr[0], decay[0], noise[index].mean())
        measured = gamma[index].mean() * predicted**2
        return float(measured if statistic == _GAMMA else effective[index].mean() / predicted)

    return spec.bootstrap(ratio, [len(rows)], statistic, *rows["intrinsic_lr"].unique())


def _turning(rows: pd.DataFrame, momentum, spec: ClaimSpec) -> Estimate:
    """Return the root mean square angle over the predicted one."""
    squares = ((rows["angle"] / angular_update(rows["lr"], rows["weight_decay"], momentum)) ** 2).to_numpy()
    return spec.bootstrap(lambda index: float(squares[index].mean() ** 0.5), [len(rows)], *rows["layer"].unique())


def courses(table: pd.DataFrame) -> Iterator[tuple[str, float, str, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield each relaxation: what started it, lambda_e, its experiment's role, gamma, noise (R, T), steps (T,)."""
    for _, course in table[table["part"] == COURSE].groupby(["point", "schedule"], sort=False):
        first = course.iloc[0]
        name, role = first["schedule"].replace("_", " "), "decay"
        if first["schedule"] == "constant":
            name, role = f"start {first['init_scale']:g} times larger", "constant"
        gamma, noise = (course.pivot(index="replicate", columns="since", values=v) for v in ("gamma", "noise"))
        # The first row has no interval behind it, and at initialisation no gradient.
        sound = np.isfinite(gamma).all(axis=1) & np.isfinite(noise.iloc[:, 1:]).all(axis=1)
        values = gamma[sound].to_numpy(), noise[sound].to_numpy(), gamma.columns.to_numpy(np.float64)
        yield name, first["course_intrinsic_lr"], role, *values


@style.styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw measured over predicted equilibria, relaxations with their prediction, and angles likewise."""
    figure, ((equilibrium, relaxation, turning),) = style.panels(1, 3, 2.6, width_ratios=[1, 1.25, 1.1])
    colours = sns.color_palette("colorblind")
    _draw_equilibria(equilibrium, table, spec, colours)
    _draw_courses(relaxation, table)
    _draw_angles(turning, table, spec, colours)
    n = style.count_text(table.groupby(["part", "point"])["replicate"].nunique())
    note = f"bars: {spec.percent} bootstrap intervals ({n} replicates a setting); grey: allowed"
    title = "Norm and angle at equilibrium, and on the way there, against theory"
    return style.legend_below(figure, style.labelled(figure), 3, note, title)


def _draw_equilibria(axes: Axes, table: pd.DataFrame, spec: ClaimSpec, colours: Sequence) -> None:
    limit = spec.thresholds["equilibrium"]
    axes.axhspan(1 - limit, 1 + limit, color="0.88", lw=0)
    rates = sorted(table.loc[table["part"] == REST, "intrinsic_lr"].unique())
    control = f"first {percent(EARLY_SHARE)} of the run (control)"
    for part, look in (
        (REST, {"color": colours[0], "marker": "o", "label": "at equilibrium"}),
        (EARLY, {"color": colours[1], "marker": "x", "label": control}),
    ):
        rows = _part(table, part)
        rows = rows[rows["init_scale"] == 1] if part == EARLY else rows
        for place, rate in enumerate(rates):
            estimate = _ratio(_ELR, rows[rows["intrinsic_lr"] == rate], spec)
            style.error_bar(axes, place, estimate, ms=4.5, lw=1.2, **look)
    axes.set(yscale="log", xlim=(-0.5, max(len(rates), 1) - 0.5), xlabel="$\\lambda_e$", title="the equilibrium")
    axes.set_ylabel("effective learning rate over predicted")
    axes.set_xticks(range(len(rates)), [f"{rate:.2g}" for rate in rates], fontsize="x-small")
    style.plain_ticks(axes.yaxis)


def _draw_courses(axes: Axes, table: pd.DataFrame) -> None:
    found = [course for course in courses(table) if len(course[3])]
    colours, theory = style.ordered_colours(range(len(found))), "rate $4\\lambda_e$ with the measured noise"
    for place, (name, rate, _, gamma, noise, since) in enumerate(found):
        mean = gamma.mean(axis=0)
        predicted = integrated_gamma(since, mean[0], 4 * rate, noise.mean(axis=0))
        label = f"{name}, $\\lambda_e$ = {style.scientific(rate)}"
        axes.plot(rate * since, mean**-0.5, color=colours[place], lw=2, label=label)
        axes.plot(rate * since, predicted**-0.5, color="k", lw=1.2, ls=":", label=theory)
        axes.set_yscale("log")
    axes.set(
        xlabel="$\\lambda_e t$ since the change or start", ylabel="effective learning rate", title="the way there"
    )


def _draw_angles(axes: Axes, table: pd.DataFrame, spec: ClaimSpec, colours: Sequence) -> None:
    limit = spec.thresholds["angle"]
    axes.axhspan(1 - limit, 1 + limit, color="0.88", lw=0)
    rows = _part(table, ANGLE)
    looks = {
        layer: {"label": layer, "marker": style.MARKERS[1:][i % 5], "color": colours[(2 + i) % 10]}
        for i, layer in enumerate(rows["layer"].unique())
    }
    settings = sorted(rows[["momentum", "intrinsic_lr"]].drop_duplicates().itertuples(index=False, name=None))
    for place, (momentum, rate) in enumerate(settings):
        at = rows[(rows["momentum"] == momentum) & (rows["intrinsic_lr"] == rate)]
        for index, (layer, look) in enumerate(looks.items()):
            here = at[at["layer"] == layer]
            offset = 0.3 * ((index + 0.5) / len(looks) - 0.5)
            style.error_bar(axes, place + offset, _turning(here, here["momentum"], spec), ms=4.5, lw=1.2, **look)
    labels = [f"{rate:.2g}" + (f"\n$\\mu$={momentum:g}" if momentum else "") for momentum, rate in settings]
    axes.set_xticks(range(len(settings)), labels, fontsize="x-small")
    axes.set(xlabel="$\\lambda_e$", ylabel="angle of a step over predicted", title="turning, per layer")
