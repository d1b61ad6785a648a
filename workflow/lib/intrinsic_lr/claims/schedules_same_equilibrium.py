"""Schedules that meet at one intrinsic rate, and whether their runs predict alike some time later."""

from itertools import combinations, product

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from intrinsic_lr.analyses.tables import differing_axes
from intrinsic_lr.claims.shared.sameness import (
    MEASURED,
    SHARE,
    VARIATION,
    absent,
    compare_points,
    last_checkpoints,
    strict,
    up_to_margin,
)
from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec
from intrinsic_lr.claims.shared.verdicts import Finding
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.figures import style

MEET, APART = "meet", "do not meet"
"""Kinds of pairs: of schedules that end at one intrinsic rate, and with one that ends at another."""
RATE = "rate"
"""Kind of the rows that tell a schedule's intrinsic rate: `intrinsic_lr_now_a` from `step_a` on."""


LEAST_WAIT = 1.0
"""How long after the meeting a pair has to be compared, in 1/lambda_e: the time that it is given to forget."""


def measure(data: ClaimData) -> pd.DataFrame:
    """Compare all pairs of schedules at every checkpoint; `met_at` is the step from which on their rates agree.

    The points of a pair may differ in their init_seed too, and should: with one init_seed and independent
    initialisation replicate k of both starts at the same weights (`paired`), and the pair is not judged.

    `met_at` is missing where they never do. `intrinsic_lr_now_*` are the rates of the step that led to the
    checkpoint, and `epoch` counts passes over the training set.

    Raises:
        InputError: when `meeting` does not hold two schedules, or a pair has not the same checkpoints.
    """
    spec = data.spec
    members = [(role, point) for role in ("meeting", "not_meeting") for point in spec.points(role)]
    epochs = set()
    rates = {}
    for role, point in members:
        block = data.ensemble(role, point).blocks[0]
        epochs.add(block.record["steps_per_epoch"])
        timeline = block.plan.timeline
        rates[point["name"]] = np.array([np.prod(timeline.at(step)) for step in range(point["length"])])
    meeting = [member for member in members if member[0] == "meeting"]
    pairs = [(MEET, *pair) for pair in combinations(meeting, 2)]
    pairs += [(APART, *pair) for pair in product(meeting, members[len(meeting) :])]
    # Two initialisations of one schedule are no pair of schedules.
    pairs = [(part, a, b) for part, a, b in pairs if set(differing_axes(a[1], b[1])) - {"init_seed"}]
    if MEET not in {part for part, *_ in pairs}:
        raise InputError(
            f"{spec.name}: experiment {spec.experiments['meeting']['experiment']}: found no two "
            "schedules; needs at least two that meet at one intrinsic rate"
        )
    for _, (_, a), (_, b) in pairs:
        if a["steps"] != b["steps"] or a["length"] != b["length"]:
            raise InputError(
                f"{spec.name}: {a['name']} and {b['name']} differ in checkpoints or length; needs the same"
            )
    table = compare_points(data, [(part, a, b, [(t, t) for t in a[1]["steps"]]) for part, a, b in pairs])
    for side in "ab":
        when = zip(table[f"point_{side}"], table[f"step_{side}"], strict=True)
        table[f"intrinsic_lr_now_{side}"] = [rates[point][step - 1] for point, step in when]
    table["met_at"] = [met_at(rates[a], rates[b]) for a, b in zip(table["point_a"], table["point_b"], strict=True)]
    changes = pd.concat([_changes(point, rates[point["name"]]) for _, point in members])
    table = pd.concat([table, changes], ignore_index=True)
    return table.assign(epoch=table["step_a"] / min(epochs))


def _changes(point, rates: np.ndarray) -> pd.DataFrame:
    """Return a row for the first step, for every step at which the rate changes, and for the end."""
    steps = np.array([0, *(np.flatnonzero(np.diff(rates)) + 1), len(rates) - 1])
    same = {"part": RATE, "point_a": point["name"], "schedule_a": point["schedule"]}
    return pd.DataFrame({**same, "step_a": steps, "intrinsic_lr_now_a": rates[steps]})


def met_at(a: np.ndarray, b: np.ndarray) -> float:
    """Return the step from which on two schedules have one intrinsic rate, NaN if they end at different ones.

    Args:
        a: intrinsic rates of every step of one schedule.
        b: of the other, of equal length; they agree to the digits that rates are spelt with.
    """
    apart = np.flatnonzero(~np.isclose(a, b, rtol=1e-9, atol=0))
    meets = apart[-1] + 1 if len(apart) else 0
    return float(meets) if meets < len(a) else np.nan


def judge(table: pd.DataFrame, spec: ClaimSpec) -> list[Finding]:
    """Ask for one distribution at the end, strictly and up to the margin; not so before, nor without meeting.

    A pair that does not meet, or is compared less than `LEAST_WAIT` after it has, is inconclusive. So is a control
    that there should be but is not: before the meeting of each pair, and a schedule that does not meet the others.
    """
    table = table[table["part"] != RATE]
    # The least like the claim first, which then stands for it in the scorecard.
    last = last_checkpoints(table).sort_values("p_value", kind="stable")
    met, apart = last[last["part"] == MEET].copy(), last[last["part"] == APART]
    met.loc[~((met["step_a"] - met["met_at"]) * met["intrinsic_lr_now_a"] >= LEAST_WAIT), MEASURED] = np.nan
    before = last_checkpoints(table[(table["part"] == MEET) & (table["step_a"] <= table["met_at"])])
    told, roles = [f"{_told(row)}, {_since(row)}" for row in met.itertuples()], [["meeting"]] * len(met)
    words = "one distribution", "the same up to the margin"
    findings = strict(spec, spec.criterion, met, [f"{text}: {words[0]}" for text in told], roles)
    findings += up_to_margin(spec, spec.criterion, met, [f"{text}: {words[1]}" for text in told], roles)
    if met.empty:
        findings += [
            absent(spec.criterion, f"two schedules that meet: {word}", statistic, ["meeting"])
            for word, statistic in zip(words, (VARIATION, SHARE), strict=True)
        ]
    others = pd.concat([before, apart])
    told = [f"{_told(row)}, just before they meet" for row in before.itertuples()]
    told += [f"{_told(row)}, which do not meet" for row in apart.itertuples()]
    roles = [["meeting"]] * len(before) + [["meeting", "not_meeting"]] * len(apart)
    findings += strict(spec, spec.control, others, told, roles)
    seen = set(zip(before["point_a"], before["point_b"], strict=True))
    findings += [
        absent(spec.control, f"{_told(row)}, just before they meet", VARIATION, ["meeting"])
        for row in met.itertuples()
        if (row.point_a, row.point_b) not in seen
    ]
    if apart.empty:
        roles = ["meeting", "not_meeting"]
        findings.append(absent(spec.control, "a schedule that does not meet the others", VARIATION, roles))
    if before["excess_share"].notna().any():
        # The margin has to be able to fail: where the pasts differ most.
        most = before.loc[[before["excess_share"].idxmax()]]
        told = [f"{_told(row)}, just before they meet: up to the margin" for row in most.itertuples()]
        findings += up_to_margin(spec, spec.control, most, told, [["meeting"]])
    else:
        text = "the pair that differs most just before it meets: up to the margin"
        findings.append(absent(spec.control, text, SHARE, ["meeting"]))
    return findings


def _told(row) -> str:
    return f"{row.schedule_a} and {row.schedule_b}"


def _since(row) -> str:
    since = (row.step_a - row.met_at) * row.intrinsic_lr_now_a
    if np.isnan(since):
        return "which were to meet and do not"
    told = f"{since:.3g}/lambda_e after they met"
    return told if since >= LEAST_WAIT else f"{told}, too soon to judge"


@style.styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw the schedules, and the l1 distance of every pair against time over its sampling floor."""
    figure, axes = style.panels(2, 2, 5.4, height_ratios=[1, 2.2], sharex=True)
    schedules = list(dict.fromkeys(table.loc[table["part"] == RATE, "schedule_a"]))
    looks = [
        {"color": colour, "marker": marker}
        for colour, marker in zip(sns.color_palette("colorblind", 6), style.MARKERS, strict=True)
    ]
    compared = table.loc[table["part"] != RATE, ["schedule_a", "schedule_b"]].drop_duplicates()
    pairs = list(compared.itertuples(index=False, name=None))
    shapes = dict(zip(schedules, style.DASHES * len(schedules), strict=False))
    for (above, below), part, title in zip(
        axes.T, (MEET, APART), ("schedules that meet", "with one that does not"), strict=True
    ):
        rows = table[table["part"] == part]
        shown = set(rows["schedule_a"]) | set(rows["schedule_b"])
        for name in schedules:
            change = table[(table["part"] == RATE) & (table["schedule_a"] == name)].sort_values("step_a")
            look = dict(color="0.15", lw=1.3) if name in shown else dict(color="0.8", lw=1, zorder=1)
            above.plot(
                change["epoch"], change["intrinsic_lr_now_a"], drawstyle="steps-post", ls=shapes[name], **look
            )
        style.logarithmic(above, "y", table["intrinsic_lr_now_a"])
        for index, pair in enumerate(pairs):
            chosen = rows[(rows["schedule_a"] == pair[0]) & (rows["schedule_b"] == pair[1])].sort_values("epoch")
            look = looks[index % len(looks)]
            below.plot(chosen["epoch"], chosen["l1"], lw=1.3, ms=3.5, **look)
            # The floor is what two halves of the pooled runs are apart.
            below.plot(chosen["epoch"], 2 * chosen["null_mean"], lw=1, ls=":", color=look["color"])
        for met in (rows["met_at"] / rows["step_a"] * rows["epoch"]).dropna().round(9).unique():
            for panel in (above, below):
                panel.axvline(met, color="0.5", lw=0.9, zorder=0)
        style.logarithmic(below, "y", rows[["l1", "null_mean"]])
        above.set_title(title)
        below.set_xlabel("epoch")
    axes[1, 1].sharey(axes[1, 0])
    axes[1, 0].autoscale(axis="y")
    axes[0, 0].set_ylabel(r"intrinsic rate $\lambda_e$")
    axes[1, 0].set_ylabel("l1 distance of the label\ndistributions, mean over test images")
    for panel in axes[:, 1]:
        panel.tick_params(labelleft=False)
    handles = [Line2D([], [], color="0.15", lw=1.3, ls=shapes[name], label=name) for name in schedules]
    handles += [
        Line2D([], [], ms=4, label=" | ".join(pair), **looks[index % len(looks)])
        for index, pair in enumerate(pairs)
    ]
    handles += [
        Line2D([], [], color="0.3", ls=":", lw=1, label="sampling floor: mean of the permutation null"),
        Line2D([], [], color="0.5", lw=0.9, label="from here on at one intrinsic rate"),
    ]
    runs = table[["replicates_a", "replicates_b"]].dropna()
    count = f"{int(runs.min().min())}" if len(runs) else "no"
    permutations = spec.analysis["permutations"]
    note = f"{count} runs of each schedule; the floor by {permutations} permutations of the pooled runs"
    style.legend_below(figure, handles, 2, note)
    figure.suptitle("Schedules that meet at one intrinsic rate: distance of the predictions, before and after")
    return figure
