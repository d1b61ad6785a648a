"""The equilibrium of AdamW in each scale group: its norm, the angle of a step, and the way there.

F19 says both for gradients that are independent from step to step; F20 says that the squared norm relaxes at
2 lambda_e. Gradients of a network are not independent, so the preconditioned gradient is measured, and with it the
balance of the squared norm (F19 for any gradients).
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from intrinsic_lr.analyses.drawing import setting_text
from intrinsic_lr.analyses.tables import with_point
from intrinsic_lr.claims.shared.spec import NOTHING, ClaimData, ClaimSpec, Estimate
from intrinsic_lr.claims.shared.verdicts import Findings, Range
from intrinsic_lr.figures import style
from intrinsic_lr.runs.ensembles import Ensemble
from intrinsic_lr.stats import theory
from intrinsic_lr.stats.relaxation import RelaxationFit
from intrinsic_lr.study.experiment import PlannedPoint
from intrinsic_lr.study.pairs import differing_axes

REST, LAGS, COURSE = "equilibrium", "autocorrelation", "course"
"""Kinds of rows: means over the equilibrium, the gradient's autocorrelation, relaxing norms."""
LARGEST_LAG = 60
"""In steps: what lies further back has no share in a moment, at beta1 0.9 less than 0.2 percent."""
COURSE_ROWS = 60
"""At most so many rows of a relaxing norm are kept."""
INDEPENDENT, MEASURED, SGD = "F19", "the balance of the measured gradients", "the law of SGD"
"""Laws that norm and angle are compared with: of independent gradients, of any gradients, of another optimiser."""
_NORM, _ANGLE = "squared_norm", "angle"
_WORDS = {_NORM: "squared norm", _ANGLE: "angle of a step"}


def measure(data: ClaimData) -> pd.DataFrame:
    """Return norms, angles and gradients at equilibrium, autocorrelations, and relaxing norms, by scale group."""
    parts = []
    for role in ("constant", "coupled"):
        for point in data.spec.points(role):
            ensemble = data.ensemble(role, point)
            rest = _rest(ensemble, point, data.spec.settings["settled"])
            if role == "constant":
                lags = _gradients(data, ensemble, point)
                parts.append(_named(lags, point, LAGS))
                rest = rest.merge(_updates(lags, point.value_of("beta1")), on=["group", "replicate"])
            parts.append(_named(rest, point, REST))
    for point in data.spec.points("changes"):
        course = _course(data.ensemble("changes", point), point, data.spec.settings["followed"])
        parts.append(_named(course, point, COURSE))
    return pd.concat(parts, ignore_index=True)


def _named(frame: pd.DataFrame, point: PlannedPoint, part: str) -> pd.DataFrame:
    options = {option: point.value_of(option) for option in ("beta1", "beta2")}
    return with_point(frame, point).assign(part=part, optimiser=point.optimiser, **options)


def _rest(ensemble: Ensemble, point: PlannedPoint, settled: float) -> pd.DataFrame:
    """Return mean squared norm and root mean square angle of each group and replicate at equilibrium."""
    history = ensemble.history()
    late = history[(history["step"] * point.intrinsic_lr > settled) & (history["step"] <= point.length)]
    parts = []
    for group, count in _counts(ensemble, point).items():
        squares = late[[f"squared_norm:{group}", f"angle:{group}"]].set_axis([_NORM, _ANGLE], axis=1)
        squares = squares.assign(angle=squares[_ANGLE] ** 2)
        # A replicate that is not finite throughout is missing.
        sound = np.isfinite(squares).all(axis=1).groupby(late["replicate"]).transform("all")
        means = squares.where(sound).groupby(late["replicate"]).mean()
        parts.append(means.assign(angle=means[_ANGLE] ** 0.5, group=group, count=count).reset_index())
    return pd.concat(parts, ignore_index=True)


def _gradients(data: ClaimData, ensemble: Ensemble, point: PlannedPoint) -> pd.DataFrame:
    from intrinsic_lr.claims.shared.preconditioned import gradient_statistics

    dataset, window = data.dataset(point.dataset, point.dtype), int(data.spec.settings["window"])
    return gradient_statistics(ensemble, point.steps[-1], dataset, window, LARGEST_LAG)


def _updates(lags: pd.DataFrame, beta1: float) -> pd.DataFrame:
    """Return of each group and replicate `update`, the mean squared norm of an update, and `alignment`."""
    cells = lags.sort_values("lag").groupby(["group", "replicate"], sort=False)
    update = cells["autocovariance"].agg(lambda found: theory.adamw_update_variance(beta1, found.to_numpy()))
    return pd.DataFrame({"update": update, "alignment": cells["alignment"].first()}).reset_index()


def _course(ensemble: Ensemble, point: PlannedPoint, followed: float) -> pd.DataFrame:
    """Return the squared norm of each group after the last change of the rates, thinned evenly."""
    history = ensemble.history()
    history = history[history["step"] <= point.length]
    rates = history[["lr", "weight_decay"]]
    last = (rates == rates.iloc[-1]).all(axis=1)
    # The last row at the old rates is where the change begins.
    start, intrinsic_lr = history.loc[~last, "step"].max(), history["intrinsic_lr"].iloc[-1]
    within = history["step"].between(start, start + followed / intrinsic_lr)
    kept = style.spread(sorted(history.loc[within, "step"].unique()), COURSE_ROWS)
    course = history[history["step"].isin(kept)]
    named = {f"squared_norm:{group}": group for group in ensemble.scale_groups}
    norms = course[["replicate", "step", *named]].rename(columns={"step": "since", **named})
    long = norms.melt(["replicate", "since"], var_name="group", value_name=_NORM)
    rates = {"course_lr": history["lr"].iloc[-1], "course_intrinsic_lr": intrinsic_lr}
    count = long["group"].map(_counts(ensemble, point))
    return long.assign(since=long["since"] - start, count=count, **rates)


def _counts(ensemble: Ensemble, point: PlannedPoint) -> dict[str, int]:
    """Return the number of weights in each scale group."""
    weights = ensemble.weights(point.steps[-1])
    return {
        group: sum(weights[name][0].numel() for name in names) for group, names in ensemble.scale_groups.items()
    }


def judge(table: pd.DataFrame, spec: ClaimSpec) -> Findings:
    """Compare norm and angle with F19 and with the measured balance, and the relaxation with 2 lambda_e."""
    yield from _equilibrium_findings(table, spec)
    yield from _relaxation_findings(table, spec)


def _equilibrium_findings(table: pd.DataFrame, spec: ClaimSpec) -> Findings:
    for role, point, group, rows in _cells(table, spec):
        for judged, quantity, law in _comparisons(role, point, spec):
            allowed = Range.about(1, spec.thresholds["equilibrium" if quantity == _NORM else "angle"])
            words, setting = _WORDS[quantity], _setting(point, spec.points(role), ["optimiser", "model"])
            statement = f"{words} of {group} as {law} says ({setting})"
            estimate = ratio(rows, quantity, law, spec)
            yield judged(statement, f"{words}, measured over predicted", estimate, role, allowed=allowed)


def _varied(points: Sequence[PlannedPoint]) -> list[str]:
    """Return the axes in which some points differ."""
    return list(dict.fromkeys(axis for a, b in combinations(points, 2) for axis in differing_axes(a, b)))


def _setting(point: PlannedPoint, points: Sequence[PlannedPoint], first: Sequence[str]) -> str:
    """Return some values of a point in words, and then those in which it differs from others."""
    texts = [str(point.value_of(axis)) for axis in first]
    for axis in _varied(points):
        value = point.value_of(axis)
        text = f"{value:.6g}" if isinstance(value, float) else str(value)
        texts += [] if axis in first else [f"{axis.replace('intrinsic_lr', 'lambda_e')} {text}"]
    return ", ".join(texts)


def _comparisons(role: str, point: PlannedPoint, spec: ClaimSpec) -> Iterator[tuple[Callable, str, str]]:
    """Yield whether a criterion or a control, the quantity, and the law that it is compared with."""
    for quantity in (_NORM, _ANGLE):
        if role == "coupled":
            yield spec.control, quantity, INDEPENDENT
        else:
            yield spec.criterion, quantity, INDEPENDENT
            yield spec.criterion, quantity, MEASURED
    if role == "constant" and point.value_of("beta1") > 0:
        yield spec.control, _ANGLE, SGD


def _cells(table: pd.DataFrame, spec: ClaimSpec) -> Iterator[tuple[str, PlannedPoint, str, pd.DataFrame]]:
    """Yield (role, point, group, finite rows at equilibrium); of a point without rows one, without any."""
    rest = table[table["part"] == REST]
    for role in ("constant", "coupled"):
        measured = [_NORM, _ANGLE, *(("update", "alignment") if role == "constant" else ())]
        finite = rest[np.isfinite(rest[measured]).all(axis=1)]
        for point in spec.points(role):
            groups = rest.loc[rest["point"] == point.name, "group"].unique()
            for group in groups if len(groups) else ["each group"]:
                yield role, point, group, finite[(finite["point"] == point.name) & (finite["group"] == group)]


def ratio(rows: pd.DataFrame, quantity: str, law: str, spec: ClaimSpec) -> Estimate:
    """Return squared norm or angle over what a law says, with its bootstrap interval.

    `rows` are those of a point and a scale group. Means of what was measured are taken over replicates, on both
    sides; of angles the root mean square.
    """
    if rows.empty:
        return NOTHING
    lr, weight_decay, beta1, count = (rows[name].iloc[0] for name in ("lr", "weight_decay", "beta1", "count"))
    squares = (rows[quantity] ** (2 if quantity == _ANGLE else 1)).to_numpy()
    update, alignment = rows["update"].to_numpy(), rows["alignment"].to_numpy()

    def predicted(index: np.ndarray) -> float:
        if law == SGD:
            return theory.angular_update(lr, weight_decay, beta1)
        if law == MEASURED:
            means = update[index].mean(), alignment[index].mean()
            norm, angle = theory.adamw_balance(lr, weight_decay, beta1, *means)
            return norm if quantity == _NORM else angle
        if quantity == _NORM:
            return theory.adamw_equilibrium_squared_norm(lr, weight_decay, count)
        return theory.adamw_angular_update(lr, weight_decay, beta1)

    def compared(index: np.ndarray) -> float:
        mean = squares[index].mean()
        return float((mean**0.5 if quantity == _ANGLE else mean) / predicted(index))

    return spec.bootstrap(compared, [len(rows)], quantity, law, *rows[["point", "group"]].iloc[0])


def _relaxation_findings(table: pd.DataFrame, spec: ClaimSpec) -> Findings:
    allowed = Range.about(1, spec.thresholds["rate"])
    for point in spec.points("changes"):
        name, short = _setting(point, spec.points("changes"), ["schedule"]), is_short(point, spec)
        for group, norms, since, row in courses(table, point):
            rate = row["course_intrinsic_lr"]
            where = f"{group} after {name}"
            judged = spec.criterion if short else spec.control
            statement = f"{where}: the squared norm relaxes at 2 lambda_e"
            estimate = _fitted(norms, since, 2 * rate, spec, point.name, group)
            yield judged(statement, "fitted rate / (2 lambda_e)", estimate, "changes", allowed=allowed)
            if short and _falls(norms):
                statement = f"{where}: its square relaxes at 4 lambda_e, as under SGD"
                estimate = _fitted(norms**2, since, 4 * rate, spec, point.name, group, SGD)
                yield spec.control(statement, "fitted rate / (4 lambda_e)", estimate, "changes", allowed=allowed)


def is_short(point: PlannedPoint, spec: ClaimSpec) -> bool:
    """Tell whether the second moment forgets well within 1/lambda_e, as F20 assumes."""
    return point.intrinsic_lr / (1 - point.value_of("beta2")) <= spec.settings["memory"] * (1 + 1e-9)


def courses(table: pd.DataFrame, point: PlannedPoint) -> Iterator[tuple[str, np.ndarray, np.ndarray, pd.Series]]:
    """Yield (group, squared norms (R, T) that are finite, steps (T,) since the change, a row) of a point."""
    rows = table[(table["part"] == COURSE) & (table["point"] == point.name)]
    if rows.empty:
        yield "each group", np.empty((0, 0)), np.empty(0), pd.Series({"course_intrinsic_lr": np.nan})
    for group, course in rows.groupby("group", sort=False):
        wide = course.pivot(index="replicate", columns="since", values=_NORM)
        wide = wide[np.isfinite(wide).all(axis=1)]
        since = wide.columns.to_numpy(np.float64)
        yield group, wide.to_numpy(), since, course.iloc[0]


def _falls(norms: np.ndarray) -> bool:
    return len(norms) > 0 and norms[:, -1].mean() < norms[:, 0].mean()


def _fitted(norms: np.ndarray, since: np.ndarray, predicted: float, spec: ClaimSpec, *names: str) -> Estimate:
    """Return the fitted rate over the predicted one; the height of the equilibrium is a second free number."""
    if not len(norms):
        return NOTHING
    fit, constant = RelaxationFit(since, predicted), np.ones(len(since))
    return spec.bootstrap(lambda index: fit.fit(norms[index].mean(axis=0), constant)[0], [len(norms)], *names)


@style.styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw norms and angles over their predictions, autocorrelations of the gradient, and relaxing norms."""
    figure, ((norm, angle), (lags, course)) = style.panels(2, 2, 5.4, height_ratios=[1.25, 1])
    cells = [cell for cell in _cells(table, spec) if cell[0] == "constant"]
    for axes, quantity, threshold in ((norm, _NORM, "equilibrium"), (angle, _ANGLE, "angle")):
        _draw_ratios(axes, cells, quantity, spec.thresholds[threshold], spec)
    axes_told = [axis for axis in _varied(spec.points("constant")) if axis != "model"]
    labels = [", ".join([f"{p.model} {group}", setting_text(p, axes_told)]) for _, p, group, _ in cells]
    norm.set_yticks(range(len(cells)), labels, fontsize="x-small")
    angle.set_yticks(range(len(cells)), [""] * len(cells))
    norm.set(title="squared norm at equilibrium", xlabel="measured over predicted")
    angle.set(title="angle of a step", xlabel="measured over predicted")
    _draw_autocorrelation(lags, table, spec)
    _draw_courses(course, table, spec)
    n = style.count_text(table.groupby(["part", "point"])["replicate"].nunique())
    note = (
        f"bars: {spec.percent} bootstrap intervals ({n} replicates a setting); grey: allowed; Adam with the decay "
        "in the loss, a control, is far off and not drawn"
    )
    title = "AdamW settles close to theory, and its measured gradients explain the rest"
    return style.legend_below(figure, style.labelled(figure), 2, note, title)


def _draw_ratios(axes: Axes, cells: list, quantity: str, margin: float, spec: ClaimSpec) -> None:
    axes.axvspan(1 - margin, 1 + margin, color="0.9", lw=0)
    axes.axvline(1, color="0.6", lw=0.8)
    looks = {
        INDEPENDENT: {
            "color": "#D55E00",
            "marker": "o",
            "mfc": "white",
            "label": "over F19 (independent gradients)",
        },
        MEASURED: {"color": "#0072B2", "marker": "s", "label": "over the balance of measured ones"},
    }
    for place, (_, _, _, rows) in enumerate(cells):
        for law, look in looks.items():
            style.error_bar(axes, place, ratio(rows, quantity, law, spec), horizontal=True, ms=4, lw=1, **look)
    axes.set(ylim=(len(cells) - 0.5, -0.5))


def _draw_autocorrelation(axes: Axes, table: pd.DataFrame, spec: ClaimSpec) -> None:
    points = [point.name for point in spec.points("constant")][:1]
    rows = table[(table["part"] == LAGS) & table["point"].isin(points)]
    for place, (group, of_group) in enumerate(rows.groupby("group", sort=False)):
        mean = of_group.groupby("lag")["autocovariance"].mean()
        look = {"color": str(0.1 + 0.4 * (place % 3) / 2), "ls": ("-", "--", ":")[place % 3], "lw": 1.2}
        axes.plot(mean.index[1:], mean.iloc[1:] / mean.iloc[0], label=f"first setting: {group}", **look)
    axes.axhline(0, color="0.6", lw=0.8)
    axes.set(xlabel="lag in steps", ylabel="autocorrelation", title="the preconditioned gradient")


def _draw_courses(axes: Axes, table: pd.DataFrame, spec: ClaimSpec) -> None:
    points = spec.points("changes")
    told = _varied(points) or ["schedule"]
    colours = style.ordered_colours(range(len(points)))
    for place, point in enumerate(points):
        for _, norms, since, row in courses(table, point):
            if not len(norms):
                continue
            lr, rate, count = row["course_lr"], row["course_intrinsic_lr"], row["count"]
            mean, rest = norms.mean(axis=0), theory.adamw_equilibrium_squared_norm(lr, rate / lr, count)
            predicted = theory.adamw_relaxed_squared_norm(since, mean[0], lr, rate / lr, count)
            label = setting_text(point, told) + ("" if is_short(point, spec) else " (control)")
            look = {"color": colours[place], "ls": ("-", "--", "-.")[place % 3], "lw": 1.5, "label": label}
            axes.plot(rate * since, mean / rest, **look)
            axes.plot(rate * since, predicted / rest, color="k", lw=1, ls=":", label=r"F20, rate $2\lambda_e$")
    axes.set(yscale="log", xlabel=r"$\lambda_e t$ since the change", ylabel="squared norm over F19's")
    axes.set_title("after a change of the rates")
