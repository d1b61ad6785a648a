"""What the effective learning rate does after a decay of the learning rate, of the weight decay, or of both."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec, Interval
from intrinsic_lr.claims.shared.verdicts import CONTROL, Finding, Range
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.figures.style import band, legend_below, panels, scientific, spread, styled
from intrinsic_lr.stats.intervals import bootstrap_interval, root_mean_square_interval, summarize
from intrinsic_lr.stats.relaxation import integrated_gamma, thinned
from intrinsic_lr.stats.theory import relaxed_gamma

RESPONSE, ERROR = "response", "error"
"""Kinds of rows: the effective learning rate and the noise; the test error."""
ROWS = 80
"""At most so many rows of a response are kept, as many of the time after it, and of the time before the change."""
REST_SHARE = 0.25
"""The rest before the change, and the one at the end, is the mean over this share of the time, the last."""


def measure(data: ClaimData) -> pd.DataFrame:
    """Return the rates, effective learning rate, noise and test error of each replicate round the change."""
    parts = []
    for point in data.spec.points("decay"):
        ensemble = data.ensemble("decay", point)
        history, trace = (
            frame[frame["step"] <= point["length"]].rename(columns={"unit_gradient_squared_norm": "noise"})
            for frame in (ensemble.history(), ensemble.trace())
        )
        columns = ["step", "replicate", "lr", "weight_decay", "effective_lr", "noise"]
        joined = pd.concat([trace[columns], history[columns]]).drop_duplicates(["step", "replicate"])
        joined = joined.sort_values(["step", "replicate"])
        rates = joined[["lr", "weight_decay"]]
        change = joined.loc[~(rates == rates.iloc[-1]).all(axis=1), "step"].max()
        if not change >= 0 or rates.iloc[-1].prod() == 0:
            experiment = data.spec.experiments["decay"]["experiment"]
            raise InputError(
                f"experiment {experiment}: schedule: found {point['schedule']}, which never changes its rates or "
                "ends without weight decay; wanted is one decay of rates that stay above 0"
            )
        responds = data.spec.settings["relaxed"] / (4 * rates.iloc[-1].prod())
        errors = history[["step", "replicate"]].assign(test_error=1 - history["test_accuracy"])
        rows = pd.concat(
            [
                thinned(joined, _kept(np.sort(joined["step"].unique()), change, responds)).assign(part=RESPONSE),
                errors.assign(part=ERROR),
            ],
            ignore_index=True,
        )
        named = {"point": point["name"], "schedule": point["schedule"], "intrinsic_lr": point["intrinsic_lr"]}
        parts.append(rows.assign(**named, since=rows["step"] - change))
    table = pd.concat(parts, ignore_index=True)
    first = ["part", "point", "schedule", "intrinsic_lr", "replicate", "step", "since"]
    return table[first + [column for column in table if column not in first]]


def _kept(steps: np.ndarray, change: float, responds: float) -> np.ndarray:
    """Return the steps to keep: those next to the change, and a spread of those before, during and after it."""
    after, during = steps > change, steps <= change + responds
    before = steps[~after & (steps >= (1 - REST_SHARE) * change)]
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
        rest: gamma at rest before the change, in the old learning rate, (R,).
        k_lr, k_decay: what the rates were divided by.
        rate: lambda_e after the change.
        first: steps from the change to the first row after it.
    """

    point: str
    name: str
    since: np.ndarray
    gamma: np.ndarray
    noise: np.ndarray
    rest: np.ndarray
    k_lr: float
    k_decay: float
    rate: float
    first: float

    @property
    def n(self) -> int:
        """Replicates."""
        return len(self.gamma)

    @property
    def everyone(self) -> np.ndarray:
        """Index of all replicates."""
        return np.arange(self.n)

    def measured(self, index: np.ndarray) -> np.ndarray:
        """Return the effective learning rate of the mean gamma, (T,)."""
        return self.gamma[index].mean(axis=0) ** -0.5

    def predicted(self, index: np.ndarray, rate: float = 4.0, jump: float | None = None) -> np.ndarray:
        """Return the course of F4 with the measured noise.

        Args:
            index: the replicates.
            rate: what stands in place of the 4 in 4 lambda_e; the noise is scaled with it, so the rest stays.
            jump: what the learning rate is taken to be divided by at the change; by default what it was.
        """
        jump = self.k_lr if jump is None else jump
        start = self.gamma[index, 0].mean() * (jump / self.k_lr) ** 2
        noise = self.noise[index].mean(axis=0) * rate / 4.0
        return integrated_gamma(self.since, start, rate * self.rate, noise) ** -0.5

    def closed_form(self, since: np.ndarray, index: np.ndarray) -> np.ndarray:
        """Return F8 and its likes: the noise is constant, the one that keeps the rest before the change."""
        rest = self.rest[index].mean()
        noise = 2.0 * self.rate * self.k_lr * self.k_decay * rest
        return relaxed_gamma(since, rest * self.k_lr**2, self.rate, noise) ** -0.5

    def closed_form_rest(self, index: np.ndarray) -> float:
        """Return where the closed form ends: lower than the old rest by the root of what lambda_e fell by."""
        return float((self.rest[index].mean() * self.k_lr * self.k_decay) ** -0.5)

    def settled(self, relaxed: float) -> bool:
        """Tell whether the response was followed to 4 lambda_e' t >= `relaxed`."""
        return 4 * self.rate * self.since[-1] >= relaxed

    def drop(self, index: np.ndarray) -> float:
        """Return the ratio of the effective learning rates before the change and one step after it.

        The first row after the change is traced back by what weight decay alone does to the norm in between.
        """
        before = self.gamma[index, 0].mean() ** -0.5 * self.k_lr
        after = self.gamma[index, 1].mean() ** -0.5 * np.exp(-2 * self.rate * (self.first - 1))
        return before / after

    def mean_square(self, index: np.ndarray, relaxed: float, **wrong: float) -> float:
        """Return the mean over time of log(measured / predicted)^2, until 4 lambda_e' t = `relaxed`."""
        ratio = np.log(self.measured(index) / self.predicted(index, **wrong))
        responding = 4 * self.rate * self.since <= relaxed
        return float(np.trapezoid(ratio[responding] ** 2, self.since[responding]) / self.since[responding][-1])

    def rise(self, index: np.ndarray) -> float:
        """Return the effective learning rate at the end over the closed form's rest."""
        late = self.since >= (1 - REST_SHARE) * self.since[-1]
        end = self.gamma[index][:, late].mean() ** -0.5
        return float(end / self.closed_form_rest(index))


def responses(table: pd.DataFrame) -> list[Response]:
    """Return the responses in a table, replicates that are not finite left out."""
    found = []
    names = _names(table.drop_duplicates("point").set_index("point")[["schedule", "intrinsic_lr"]])
    for point, rows in table[table["part"] == RESPONSE].groupby("point", sort=False):
        before, after = rows[rows["since"] <= 0], rows[rows["since"] > 0]
        if before.empty or after["since"].nunique() < 3:
            continue
        last = before[before["since"] == before["since"].max()]
        quarter = before[before["step"] >= (1 - REST_SHARE) * before["step"].max()]
        k_lr = last["lr"].iloc[0] / after["lr"].iloc[0]
        gamma, noise = (
            pd.concat([last, after])
            .assign(gamma=lambda part: part["effective_lr"] ** -2.0)
            .pivot(index="replicate", columns="since", values=value)
            for value in ("gamma", "noise")
        )
        gamma[last["since"].iloc[0]] *= k_lr**2
        rest = (quarter["effective_lr"] ** -2.0).groupby(quarter["replicate"]).mean().reindex(gamma.index)
        sound = np.isfinite(gamma).all(axis=1) & np.isfinite(noise.iloc[:, 1:]).all(axis=1) & np.isfinite(rest)
        since = gamma.columns.to_numpy(np.float64)
        found.append(
            Response(
                str(point),
                names[point],
                since - since[0],
                gamma[sound].to_numpy(),
                noise[sound].to_numpy(),
                rest[sound].to_numpy(),
                k_lr,
                last["weight_decay"].iloc[0] / after["weight_decay"].iloc[0],
                after["lr"].iloc[0] * after["weight_decay"].iloc[0],
                since[1] - since[0],
            )
        )
    return [response for response in found if response.n]


def _names(points: pd.DataFrame) -> dict[str, str]:
    """Name points, the rows of a table with `schedule` and `intrinsic_lr`, by what tells them apart."""
    shared = points["schedule"].duplicated(keep=False)
    return {
        point: f"{row['schedule']}, lambda_e {row['intrinsic_lr']:.3g}" if shared[point] else str(row["schedule"])
        for point, row in points.iterrows()
    }


def judge(table: pd.DataFrame, spec: ClaimSpec) -> list[Finding]:
    """Hold each response against the equation of gamma with the measured noise, and its end against F8."""
    limits = spec.thresholds
    course = Range(high=limits["deviation"])
    findings = []
    found_responses = responses(table)
    for response in found_responses:
        name = response.name.replace("_", " ")
        shared = {"n": response.n, "roles": ["decay"]}
        if response.k_lr != 1:
            ratio, interval = _with_interval(lambda i, r=response: r.drop(i) / r.k_lr, response, spec, "drop")
            findings.append(
                spec.criterion(
                    f"{name}: falls at once by the factor of the learning rate",
                    f"drop of the effective LR / {response.k_lr:g}",
                    ratio,
                    interval,
                    allowed=Range(1 - limits["drop"], 1 + limits["drop"]),
                    **shared,
                )
            )
        found = _deviation(response, spec, "course")
        findings.append(
            spec.criterion(
                f"{name}: the course follows the equation of gamma with the measured noise",
                _DEVIATION,
                *found,
                allowed=course,
                **shared,
            )
        )
        if response.settled(spec.settings["relaxed"]):
            found = _with_interval(response.rise, response, spec, "rise")
            findings.append(
                spec.criterion(
                    f"{name}: ends nearer to F8's rest, for constant noise, than to no response",
                    "final effective LR / F8's rest",
                    *found,
                    allowed=Range(1 / limits["rest"], limits["rest"]),
                    **shared,
                )
            )
            findings.extend(_controls(response, name, course, spec))
    nothing = {"n": 0, "roles": ["decay"], "allowed": course}
    responded = {response.point for response in found_responses}
    for point in spec.points("decay"):
        if point["name"] not in responded:
            statement = f"{point['schedule'].replace('_', ' ')}: no replicate with a response"
            findings.append(spec.criterion(statement, _DEVIATION, np.nan, None, **nothing))
    if not any(finding.role == CONTROL for finding in findings):
        statement = "a wrong prediction: no response was followed to its rest"
        findings.append(spec.control(statement, _DEVIATION, np.nan, None, **nothing))
    return findings


_DEVIATION = "RMS of log(effective LR / predicted)"


def _controls(response: Response, name: str, allowed: Range, spec: ClaimSpec) -> list[Finding]:
    """Return the same deviation from wrong predictions: too slow, and the two decays taken for each other.

    The latter is no wrong prediction where both rates decayed by one factor.
    """
    wrong = {"predicted with the rate lambda_e in place of 4 lambda_e": {"rate": 1.0}}
    if not np.isclose(response.k_lr, response.k_decay):
        wrong["predicted as if the other rate had decayed"] = {"jump": response.k_decay}
    findings = []
    for what, options in wrong.items():
        found = _deviation(response, spec, what, **options)
        findings.append(
            spec.control(f"{name}: {what}", _DEVIATION, *found, n=response.n, roles=["decay"], allowed=allowed)
        )
    return findings


def _deviation(response: Response, spec: ClaimSpec, what: str, **wrong: float) -> tuple[float, Interval]:
    """Return the root mean square of log(measured / predicted) over the response."""
    relaxed = spec.settings["relaxed"]
    return root_mean_square_interval(
        lambda index: response.mean_square(index, relaxed, **wrong),
        [response.n],
        spec.analysis["bootstrap"],
        spec.confidence,
        spec.generator(what, response.name),
    )


def _with_interval(statistic, response: Response, spec: ClaimSpec, what: str) -> tuple[float, Interval]:
    generator = spec.generator(what, response.name)
    interval = bootstrap_interval(statistic, [response.n], spec.analysis["bootstrap"], spec.confidence, generator)
    return statistic(response.everyone), interval


@styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw the effective learning rate and the test error round each change, with both predictions."""
    found = responses(table)
    figure, axes = panels(2, max(len(found), 1), 3.7, sharex="col", sharey="row", height_ratios=[1.3, 1])
    colours = sns.color_palette("colorblind")
    for response, (above, below) in zip(found, axes.T, strict=False):
        _draw_response(above, response, table, spec.confidence, colours)
        errors = table[(table["part"] == ERROR) & (table["point"] == response.point)]
        _shown(below, response, errors, "test_error", spec.confidence, color=colours[3])
        below.set_xlabel("steps since the change")
    axes[0, 0].set_ylabel("effective learning rate")
    axes[1, 0].set_ylabel("test error")
    figure.suptitle("The effective learning rate after a decay, and what the noise measured on the way predicts")
    handles = [
        Line2D([], [], color=colours[0], lw=2, label="measured"),
        Line2D([], [], color="k", ls=":", label="equation of $\\gamma$, measured noise"),
        Line2D([], [], color=colours[1], ls="--", label="closed form, constant noise"),
        Line2D([], [], color=colours[3], label="test error"),
    ]
    n = max((response.n for response in found), default=0)
    note = f"bands: {spec.confidence:.0%} intervals of the mean over replicates (n = {n})"
    legend_below(figure, handles, 4, note)
    return figure


def _draw_response(axes, response: Response, table: pd.DataFrame, confidence: float, colours) -> None:
    rows = table[(table["part"] == RESPONSE) & (table["point"] == response.point)]
    _shown(axes, response, rows, "effective_lr", confidence, color=colours[0], lw=2)
    axes.plot(response.since, response.predicted(response.everyone), color="k", ls=":", lw=1.3)
    closed = response.closed_form(response.since, response.everyone)
    axes.plot(response.since, closed, color=colours[1], ls="--", lw=1.3)
    names = (("\\eta", response.k_lr), ("\\lambda", response.k_decay))
    changes = " and ".join(f"${name}/{k:g}$" for name, k in names if abs(k - 1) > 1e-9)
    axes.set_title(f"{changes}, then $\\lambda_e$ = {scientific(response.rate)}")


def _shown(axes, response: Response, rows: pd.DataFrame, quantity: str, confidence: float, **style) -> None:
    """Draw the mean of a quantity from shortly before the change on."""
    rows = rows[rows["since"] >= -0.07 * response.since[-1]]
    band(axes, summarize(rows, ["since"], [quantity], confidence), "since", quantity, **style)
    axes.axvline(0, color="0.6", lw=0.8)
    axes.set_yscale("log")
