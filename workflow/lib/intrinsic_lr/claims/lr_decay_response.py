"""What the effective learning rate does after a decay of the learning rate, of the weight decay, or of both."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from intrinsic_lr.claims.shared.spec import NOTHING, ClaimData, ClaimSpec, Estimate
from intrinsic_lr.claims.shared.verdicts import Findings, Range
from intrinsic_lr.figures.style import band, labelled, legend_below, panels, scientific, spread, styled
from intrinsic_lr.stats.intervals import summarize
from intrinsic_lr.stats.relaxation import integrated_gamma, thinned
from intrinsic_lr.stats.theory import relaxed_gamma

RESPONSE, ERROR = "response", "error"
"""Kinds of rows: the effective learning rate and the noise; the test error."""
ROWS = 80
"""At most so many rows of a response are kept, as many of the time after it, and of the time before the change."""
LATE_SHARE = 0.25
"""The equilibrium before the change, and the one at the end, is the mean over this last share of the time."""
_DEVIATION = "RMS of log(effective LR / predicted)"
_RECORDED = ["step", "replicate", "lr", "weight_decay", "effective_lr", "noise"]


def measure(data: ClaimData) -> pd.DataFrame:
    """Return the rates, effective learning rate, noise and test error of each replicate round the change."""
    parts = []
    for point in data.spec.points("decay"):
        ensemble = data.ensemble("decay", point)
        history, trace = (
            frame[frame["step"] <= point.length].rename(columns={"unit_gradient_squared_norm": "noise"})
            for frame in (ensemble.history(), ensemble.trace())
        )
        joined = pd.concat([trace[_RECORDED], history[_RECORDED]]).drop_duplicates(["step", "replicate"])
        joined = joined.sort_values(["step", "replicate"])
        rates = joined[["lr", "weight_decay"]]
        change = joined.loc[~(rates == rates.iloc[-1]).all(axis=1), "step"].max()
        responds = data.spec.settings["relaxed"] / (4 * rates.iloc[-1].prod())
        errors = history[["step", "replicate"]].assign(test_error=1 - history["test_accuracy"], part=ERROR)
        kept = thinned(joined, _kept(np.sort(joined["step"].unique()), change, responds)).assign(part=RESPONSE)
        rows = pd.concat([kept, errors], ignore_index=True)
        named = {"point": point.name, "schedule": point.schedule, "intrinsic_lr": point.intrinsic_lr}
        parts.append(rows.assign(**named, since=rows["step"] - change))
    columns = ["part", *named, "replicate", "step", "since", *_RECORDED[2:], "test_error"]
    return pd.concat(parts, ignore_index=True)[columns]


def _kept(steps: np.ndarray, change: float, responds: float) -> np.ndarray:
    """Return the steps to keep: those next to the change, and a spread of those before, during and after it."""
    after, during = steps > change, steps <= change + responds
    before = steps[~after & (steps >= (1 - LATE_SHARE) * change)]
    stretches = [before, [change], steps[after & during], steps[~during]]
    return np.concatenate([spread(stretch, ROWS) for stretch in stretches])


@dataclass(frozen=True)
class Response:
    """One change of the rates, and what followed.

    Attributes:
        point: the point's name.
        name: the schedule, with lambda_e before the change where several points share it.
        since: steps since the change, (T,), the last row before it at 0.
        gamma: (effective learning rate)^-2 (R, T); at 0 as it stands right after the change of the learning rate.
        noise: s2 in the interval that ends at each step (R, T); the first is not used.
        before: gamma at equilibrium before the change, in the old learning rate, (R,).
        k_lr, k_decay: what the rates were divided by.
        rate: lambda_e after the change.
    """

    point: str
    name: str
    since: np.ndarray
    gamma: np.ndarray
    noise: np.ndarray
    before: np.ndarray
    k_lr: float
    k_decay: float
    rate: float

    def predicted(self, index: np.ndarray | slice, rate: float = 4.0, jump: float | None = None) -> np.ndarray:
        """Return the course of F4 with the measured noise, mean over the replicates `index`.

        `rate` stands in place of the 4 in 4 lambda_e, with the noise scaled alike, so that the equilibrium stays;
        `jump` is what the learning rate is taken to be divided by at the change.
        """
        jump = self.k_lr if jump is None else jump
        start = self.gamma[index, 0].mean() * (jump / self.k_lr) ** 2
        noise = self.noise[index].mean(axis=0) * rate / 4.0
        return integrated_gamma(self.since, start, rate * self.rate, noise) ** -0.5

    def closed_form(self) -> np.ndarray:
        """Return F8 and its likes: the noise is constant, the one that keeps the equilibrium before the change."""
        before = self.before.mean()
        noise = 2.0 * self.rate * self.k_lr * self.k_decay * before
        return relaxed_gamma(self.since, before * self.k_lr**2, self.rate, noise) ** -0.5

    def drop(self, index: np.ndarray) -> float:
        """Return by how much the effective learning rate falls in one step, over the factor of the learning rate.

        The first row after the change is traced back by what weight decay alone does to the norm in between.
        """
        before = self.gamma[index, 0].mean() ** -0.5 * self.k_lr
        after = self.gamma[index, 1].mean() ** -0.5 * np.exp(-2 * self.rate * (self.since[1] - 1))
        return before / after / self.k_lr

    def mean_square(self, index: np.ndarray, relaxed: float, **wrong: float) -> float:
        """Return the mean over time of log(measured / predicted)^2, until 4 lambda_e' t = `relaxed`."""
        ratio = np.log(self.gamma[index].mean(axis=0) ** -0.5 / self.predicted(index, **wrong))
        responding = 4 * self.rate * self.since <= relaxed
        return float(np.trapezoid(ratio[responding] ** 2, self.since[responding]) / self.since[responding][-1])

    def rise(self, index: np.ndarray) -> float:
        """Return the effective learning rate at the end over the closed form's equilibrium.

        The latter is lower than that before the change by the root of what lambda_e fell by.
        """
        late = self.since >= (1 - LATE_SHARE) * self.since[-1]
        end = self.gamma[index][:, late].mean() ** -0.5
        return float(end / float((self.before[index].mean() * self.k_lr * self.k_decay) ** -0.5))


def responses(table: pd.DataFrame) -> list[Response]:
    """Return the responses in a table, replicates that are not finite left out."""
    found = []
    points = table.drop_duplicates("point").set_index("point")
    shared = points["schedule"].duplicated(keep=False)
    for point, rows in table[table["part"] == RESPONSE].groupby("point", sort=False):
        before, after = rows[rows["since"] <= 0], rows[rows["since"] > 0]
        if before.empty or after["since"].nunique() < 3:
            continue
        last = before[before["since"] == before["since"].max()]
        late = before[before["step"] >= (1 - LATE_SHARE) * before["step"].max()]
        old, new = last.iloc[0], after.iloc[0]
        k_lr, k_decay = old["lr"] / new["lr"], old["weight_decay"] / new["weight_decay"]
        course = pd.concat([last, after]).assign(gamma=lambda part: part["effective_lr"] ** -2.0)
        gamma, noise = (course.pivot(index="replicate", columns="since", values=v) for v in ("gamma", "noise"))
        gamma[old["since"]] *= k_lr**2
        rest = (late["effective_lr"] ** -2.0).groupby(late["replicate"]).mean().reindex(gamma.index)
        sound = np.isfinite(gamma).all(axis=1) & np.isfinite(noise.iloc[:, 1:]).all(axis=1) & np.isfinite(rest)
        since = gamma.columns.to_numpy(np.float64)
        name = old["schedule"] + (f", lambda_e {old['intrinsic_lr']:.3g}" if shared[point] else "")
        values = (part[sound].to_numpy() for part in (gamma, noise, rest))
        rates = k_lr, k_decay, new["lr"] * new["weight_decay"]
        if sound.any():
            found.append(Response(str(point), name, since - since[0], *values, *rates))
    return found


def judge(table: pd.DataFrame, spec: ClaimSpec) -> Findings:
    """Compare each response with the equation of gamma and the measured noise, and its end with F8.

    Controls are the same deviation from wrong predictions: too slow, and the two decays taken for each other. The
    latter is no wrong prediction where both rates decayed by one factor.
    """
    limits, relaxed = spec.thresholds, spec.settings["relaxed"]
    course, found, followed = Range(high=limits["deviation"]), responses(table), False
    for response in found:
        name, n = response.name.replace("_", " "), [len(response.gamma)]

        def deviation(what: str, response=response, n=n, **wrong: float) -> Estimate:
            mean_square = partial(response.mean_square, relaxed=relaxed, **wrong)
            return spec.root_mean_square(mean_square, n, what, response.name)

        if response.k_lr != 1:
            statement = f"{name}: falls at once by the factor of the learning rate"
            drop, allowed = spec.bootstrap(response.drop, n, "drop", response.name), Range.about(1, limits["drop"])
            what = f"drop of the effective LR / {response.k_lr:g}"
            yield spec.criterion(statement, what, drop, "decay", allowed=allowed)
        statement = f"{name}: the course follows the equation of gamma with the measured noise"
        yield spec.criterion(statement, _DEVIATION, deviation("course"), "decay", allowed=course)
        if 4 * response.rate * response.since[-1] < relaxed:
            continue
        followed = True
        statement = f"{name}: ends nearer to F8's equilibrium, for constant noise, than to no response"
        rise = spec.bootstrap(response.rise, n, "rise", response.name)
        allowed = Range(1 / limits["equilibrium"], limits["equilibrium"])
        yield spec.criterion(statement, "final effective LR / F8's equilibrium", rise, "decay", allowed=allowed)
        wrong = {"predicted with the rate lambda_e in place of 4 lambda_e": {"rate": 1.0}}
        if not np.isclose(response.k_lr, response.k_decay):
            wrong["predicted as if the other rate had decayed"] = {"jump": response.k_decay}
        for what, options in wrong.items():
            estimate = deviation(what, **options)
            yield spec.control(f"{name}: {what}", _DEVIATION, estimate, "decay", allowed=course)
    for point in spec.points("decay"):
        if point.name not in {response.point for response in found}:
            statement = f"{point.schedule.replace('_', ' ')}: no replicate with a response"
            yield spec.criterion(statement, _DEVIATION, NOTHING, "decay", allowed=course)
    if not followed:
        statement = "a wrong prediction: no response was followed to its equilibrium"
        yield spec.control(statement, _DEVIATION, NOTHING, "decay", allowed=course)


@styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw the effective learning rate and the test error round each change, with both predictions."""
    found = responses(table)
    figure, axes = panels(2, max(len(found), 1), 3.7, sharex="col", sharey="row", height_ratios=[1.3, 1])
    colours = sns.color_palette("colorblind")
    for response, (above, below) in zip(found, axes.T, strict=False):
        rows = table[table["point"] == response.point]
        # From shortly before the change on.
        rows = rows[rows["since"] >= -0.07 * response.since[-1]]
        for axes_, part, quantity, look in (
            (above, RESPONSE, "effective_lr", {"label": "measured", "color": colours[0], "lw": 2}),
            (below, ERROR, "test_error", {"label": "test error", "color": colours[3]}),
        ):
            means = summarize(rows[rows["part"] == part], ["since"], [quantity], spec.confidence)
            band(axes_, means, "since", quantity, **look)
            axes_.axvline(0, color="0.6", lw=0.8)
            axes_.set_yscale("log")
        for predicted, label, look in (
            (response.predicted(slice(None)), "equation of $\\gamma$, measured noise", {"color": "k", "ls": ":"}),
            (response.closed_form(), "closed form, constant noise", {"color": colours[1], "ls": "--"}),
        ):
            above.plot(response.since, predicted, lw=1.3, label=label, **look)
        names = (("\\eta", response.k_lr), ("\\lambda", response.k_decay))
        changes = " and ".join(f"${name}/{k:g}$" for name, k in names if abs(k - 1) > 1e-9)
        above.set_title(f"{changes}, then $\\lambda_e$ = {scientific(response.rate)}")
        below.set_xlabel("steps since the change")
    axes[0, 0].set_ylabel("effective learning rate")
    axes[1, 0].set_ylabel("test error")
    n = max((len(response.gamma) for response in found), default=0)
    note = f"bands: {spec.percent} intervals of the mean over replicates (n = {n})"
    title = "Effective learning rate after a decay, measured and predicted"
    return legend_below(figure, labelled(figure), 4, note, title)
