"""Schedules that reach one intrinsic rate (matched schedules), and whether their runs predict alike later."""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import combinations, cycle, product

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from intrinsic_lr.claims.shared import sameness
from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec
from intrinsic_lr.claims.shared.verdicts import Findings
from intrinsic_lr.figures import style
from intrinsic_lr.study.experiment import PlannedPoint
from intrinsic_lr.study.pairs import differing_axes

MEET, APART = "meet", "do not meet"
"""Kinds of pairs: of schedules that end at one intrinsic rate, and with one that ends at another."""
RATE = "rate"
"""Kind of the rows that tell a schedule's intrinsic rate: `intrinsic_lr_now_a` from `step_a` on."""
_ROLES = ("matched_schedules", "unmatched_schedules")
LEAST_WAIT = 1.0
"""How long after their rates match a pair has to be compared, in 1/lambda_e: the time given to forget."""


def measure(data: ClaimData) -> pd.DataFrame:
    """Compare all pairs of schedules at every checkpoint; `met_at` is the step from which on their rates agree.

    The points of a pair may differ in their init_seed too, and should: with one init_seed and independent
    initialisation replicate k of both starts at the same weights (`paired`), and the pair is not judged.

    `met_at` is missing where they never do. `intrinsic_lr_now_*` are the rates of the step that led to the
    checkpoint, and `epoch` counts passes over the training set.
    """
    epochs, rates = _rates(data)
    table = _compared(data, rates)
    parts = [table]
    for point in _points(data.spec):
        of_point = rates[point.name]
        # A row for the first step, for every step at which the rate changes, and for the end.
        steps = np.array([0, *(np.flatnonzero(np.diff(of_point)) + 1), len(of_point) - 1])
        same = {"part": RATE, "point_a": point.name, "schedule_a": point.schedule}
        parts.append(pd.DataFrame({**same, "step_a": steps, "intrinsic_lr_now_a": of_point[steps]}))
    table = pd.concat(parts, ignore_index=True)
    return table.assign(epoch=table["step_a"] / epochs)


def compare_ends(data: ClaimData) -> pd.DataFrame:
    """Return comparisons at the last checkpoint of each pair, and at the last one before they meet, with power."""
    return _compared(data, _rates(data)[1], last_only=True)


def _points(spec: ClaimSpec) -> list[PlannedPoint]:
    return [point for role in _ROLES for point in spec.points(role)]


def _rates(data: ClaimData) -> tuple[int, dict[str, np.ndarray]]:
    """Return the steps of an epoch, and the intrinsic rate at every step of each point."""
    epochs, rates = set(), {}
    for role in _ROLES:
        for point in data.spec.points(role):
            block = data.ensemble(role, point).blocks[0]
            epochs.add(block.record["steps_per_epoch"])
            rates[point.name] = np.array([np.prod(block.plan.timeline.at(step)) for step in range(point.length)])
    return min(epochs), rates


def _compared(data: ClaimData, rates: Mapping[str, np.ndarray], last_only: bool = False) -> pd.DataFrame:
    matched, others = ([(role, point) for point in data.spec.points(role)] for role in _ROLES)
    pairs = []
    for part, among in ((MEET, combinations(matched, 2)), (APART, product(matched, others))):
        for (role_a, a), (role_b, b) in among:
            # Two initialisations of one schedule are no pair of schedules.
            if not set(differing_axes(a, b)) - {"init_seed"}:
                continue
            steps = a.steps
            if last_only:
                earlier = [step for step in steps if step <= met_at(rates[a.name], rates[b.name])]
                steps = sorted({*earlier[-1:], steps[-1]})
            pairs.append((part, (role_a, a), (role_b, b), [(step, step) for step in steps]))
    table = sameness.compare_points(data, pairs, powered=MEET if last_only else None)
    for side in "ab":
        when = zip(table[f"point_{side}"], table[f"step_{side}"], strict=True)
        table[f"intrinsic_lr_now_{side}"] = [rates[point][step - 1] for point, step in when]
    table["met_at"] = [met_at(rates[a], rates[b]) for a, b in zip(table["point_a"], table["point_b"], strict=True)]
    return table


def met_at(a: np.ndarray, b: np.ndarray) -> float:
    """Return the step from which on two schedules have one intrinsic rate, NaN if they end at different ones.

    `a` and `b` (steps,) are their rates at every step; equal ones agree to the digits that rates are written with.
    """
    apart = np.flatnonzero(~np.isclose(a, b, rtol=1e-9, atol=0))
    meets = apart[-1] + 1 if len(apart) else 0
    return float(meets) if meets < len(a) else np.nan


def judge(table: pd.DataFrame, spec: ClaimSpec) -> Findings:
    """Ask for shares below the margin at the end; not so before the rates match, nor at different rates."""
    within_margin = partial(sameness.test_within_margin, margin=spec.thresholds["share"])
    yield from judge_ends(table, spec, within_margin, "the same up to the margin", sameness.SHARE)


def judge_ends(table: pd.DataFrame, spec: ClaimSpec, test: Callable, words: str, statistic: str) -> Findings:
    """Ask a question of every pair at the end; it must not hold before the rates match, nor at different rates.

    `test` is one of `sameness`. A pair whose rates never match, or that is compared less than `LEAST_WAIT` after
    they do, is inconclusive. So is a control that is missing: of each pair before its rates match, and of a
    schedule that ends at another rate.
    """
    table = table[table["part"] != RATE]
    # The least like the claim first, which then stands for it in the scorecard.
    last = sameness.last_checkpoints(table).sort_values("p_value", kind="stable")
    met, apart = last[last["part"] == MEET].copy(), last[last["part"] == APART]
    late = (met["step_a"] - met["met_at"]) * met["intrinsic_lr_now_a"] >= LEAST_WAIT
    met.loc[~late, sameness.MEASURED] = np.nan
    before = sameness.last_checkpoints(table[(table["part"] == MEET) & (table["step_a"] <= table["met_at"])])
    yield from test(spec.criterion, met, partial(_at_the_end, words=words), _roles)
    if met.empty:
        yield sameness.missing_finding(spec.criterion, "two schedules that meet", statistic, "matched_schedules")
    yield from test(spec.control, pd.concat([before, apart]), _earlier, _roles)
    missing = partial(sameness.missing_finding, spec.control)
    seen = set(zip(before["point_a"], before["point_b"], strict=True))
    for row in met.itertuples():
        if (row.point_a, row.point_b) not in seen:
            yield missing(_earlier(row), statistic, "matched_schedules")
    if apart.empty:
        yield missing("a schedule that does not meet the others", statistic, *_ROLES)


def _earlier(row) -> str:
    end = "which do not meet" if row.part == APART else "just before they meet"
    return f"{row.schedule_a} and {row.schedule_b}, {end}"


def _roles(row) -> list[str]:
    return ["matched_schedules", "unmatched_schedules"] if row.part == APART else ["matched_schedules"]


def _at_the_end(row, words: str) -> str:
    since = (row.step_a - row.met_at) * row.intrinsic_lr_now_a
    when = "which were to meet and do not" if np.isnan(since) else f"{since:.3g}/lambda_e after they met"
    return f"{row.schedule_a} and {row.schedule_b}, {when}{', too soon to judge' * (since < LEAST_WAIT)}: {words}"


@style.styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw the schedules, and the l1 distance of every pair against time over its sampling floor."""
    figure, axes = style.panels(2, 2, 5.4, height_ratios=[1, 2.2], sharex=True, sharey="row")
    changes, compared = table[table["part"] == RATE], table[table["part"] != RATE]
    dashes = dict(zip(changes["schedule_a"].unique(), cycle(style.DASHES), strict=False))
    palette = cycle(zip(sns.color_palette("colorblind", 6), style.MARKERS, strict=True))
    pairs = compared[["schedule_a", "schedule_b"]].drop_duplicates().itertuples(index=False, name=None)
    looks = {pair: {"color": colour, "marker": mark} for pair, (colour, mark) in zip(pairs, palette, strict=False)}
    titles = {MEET: "schedules that meet", APART: "with one that does not"}
    for (above, below), (part, title) in zip(axes.T, titles.items(), strict=True):
        rows = table[table["part"] == part]
        shown = set(rows["schedule_a"]) | set(rows["schedule_b"])
        for name, dash in dashes.items():
            change = changes[changes["schedule_a"] == name].sort_values("step_a")
            look = {"color": "0.15", "lw": 1.3} if name in shown else {"color": "0.8", "lw": 1, "zorder": 1}
            above.plot(change["epoch"], change["intrinsic_lr_now_a"], drawstyle="steps-post", ls=dash, **look)
        style.logarithmic(above, "y", table["intrinsic_lr_now_a"])
        for (a, b), look in looks.items():
            chosen = rows[(rows["schedule_a"] == a) & (rows["schedule_b"] == b)].sort_values("epoch")
            below.plot(chosen["epoch"], chosen["l1"], lw=1.3, ms=3.5, **look)
            # The floor is what two halves of the pooled runs are apart.
            below.plot(chosen["epoch"], 2 * chosen["null_mean"], lw=1, ls=":", color=look["color"])
        for met in (rows["met_at"] / rows["step_a"] * rows["epoch"]).dropna().round(9).unique():
            for panel in (above, below):
                panel.axvline(met, color="0.5", lw=0.9, zorder=0)
        style.logarithmic(below, "y", rows[["l1", "null_mean"]])
        above.set_title(title)
        below.set_xlabel("epoch")
    axes[0, 0].set_ylabel(r"intrinsic rate $\lambda_e$")
    axes[1, 0].set_ylabel("l1 distance of the label\ndistributions, mean over test images")
    handles = [style.handle(name, color="0.15", lw=1.3, ls=dash) for name, dash in dashes.items()]
    handles += [style.handle(" | ".join(pair), ms=4, **look) for pair, look in looks.items()]
    handles.append(style.handle("sampling floor: mean of the permutation null", color="0.3", ls=":", lw=1))
    handles.append(style.handle("from here on at one intrinsic rate", color="0.5", lw=0.9))
    runs = table[["replicates_a", "replicates_b"]].dropna()
    count, permutations = int(runs.min(axis=None)) if len(runs) else "no", spec.analysis["permutations"]
    note = f"{count} runs of each schedule; the floor by {permutations} permutations of the pooled runs"
    title = "Schedules that meet at one intrinsic rate: distance of the predictions, before and after"
    return style.legend_below(figure, handles, 2, note, title)
