"""The mean late training loss of a run, over the best that the same run has held."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec
from intrinsic_lr.claims.shared.verdicts import Finding, Range
from intrinsic_lr.figures.style import legend_below, panels, scientific, styled
from intrinsic_lr.stats.intervals import largest_mean, mean_interval, smallest_mean
from intrinsic_lr.stats.loss_curves import late_over_best

DECAY, NO_DECAY, SGD = "decay", "no_decay", "sgd"
_LOOK = {
    DECAY: ("full batch, weight decay", "#0173b2", "o"),
    NO_DECAY: ("full batch, no weight decay", "#949494", "v"),
    SGD: ("mini-batches, weight decay", "#de8f05", "s"),
}


def measure(data: ClaimData) -> pd.DataFrame:
    """Return for every run its best held loss, its mean late loss, and the logarithm of their ratio."""
    settings = data.spec.settings
    rows = []
    for role in (DECAY, NO_DECAY, SGD):
        # A full batch's loss is the training loss, known at every step; that of a mini-batch is only its own.
        records, quantity = (data.history(role), "train_loss") if role == SGD else (data.trace(role), "batch_loss")
        for keys, run in records.groupby(["point", "lr", "weight_decay", "intrinsic_lr", "replicate"], sort=False):
            steps, best, late = _losses(run.sort_values("step"), quantity, settings["window"], settings["late"])
            rows.append((role, *keys, steps, best, late, np.log(late / best)))
    columns = ["part", "point", "lr", "weight_decay", "intrinsic_lr", "replicate", "steps"]
    return pd.DataFrame(rows, columns=[*columns, "best_loss", "late_loss", "log_ratio"])


def _losses(run: pd.DataFrame, quantity: str, window: float, late: float) -> tuple[float, float, float]:
    """Return the last step at constant rates, and best and late loss up to there.

    The losses are missing where any of the run is not finite, also one after the rates changed: what diverges is
    not judged on what came before. A trace has no loss of a batch at step 0.
    """
    run = run[(run["step"] > 0) | run[quantity].notna()]
    held = run[(run["weight_decay_now"] == run["weight_decay"]) & (run["lr_now"] == run["lr"])]
    losses = late_over_best(held[quantity], window, late) if np.isfinite(run[quantity]).all() else (np.nan, np.nan)
    return held["step"].max(), *losses


def judge(table: pd.DataFrame, spec: ClaimSpec) -> list[Finding]:
    """Judge the ratio at every learning rate; control: the same without weight decay."""
    findings = []
    # What is claimed of every learning rate fails at the smallest ratio; the control has to fail at all of them.
    for part, judged, which, extreme in (
        (DECAY, spec.criterion, "smallest", smallest_mean),
        (NO_DECAY, spec.control, "largest", largest_mean),
    ):
        runs = table[table["part"] == part]
        groups = [runs.loc[runs["point"] == point["name"], "log_ratio"] for point in spec.points(part)]
        mean, low, high, n = extreme(groups, spec.confidence)
        weight_decay = "with" if part == DECAY else "without"
        findings.append(
            judged(
                f"Full-batch descent {weight_decay} weight decay ends far above the best loss that it has held.",
                f"mean late over best held training loss, geometric mean, {which} over learning rates",
                np.exp(mean), (np.exp(low), np.exp(high)), n=n, roles=[part],
                allowed=Range(low=spec.thresholds["ratio"]),
            )
        )  # fmt: skip
    return findings


@styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw late against best loss of every run, and the ratios with their intervals."""
    figure, axes = panels(1, 2, 2.9)
    ratio = spec.thresholds["ratio"]
    left, right = axes[0]
    labels = []
    for part, (_, colour, marker) in _LOOK.items():
        rows = table[table["part"] == part]
        left.plot(rows["best_loss"], rows["late_loss"], marker, color=colour, ms=3.5, alpha=0.6, mew=0)
        for _, point in rows.groupby(["lr", "point"]):
            mean, low, high, _ = np.exp(mean_interval(point["log_ratio"], spec.confidence))
            half = [[mean - low], [high - mean]]
            right.errorbar(mean, len(labels), xerr=half, fmt=marker, color=colour, ms=5, capsize=3)
            labels.append(f"$\\eta$ = {scientific(point['lr'].iloc[0])}")
    losses = table[["best_loss", "late_loss"]].to_numpy().ravel()
    losses = losses[np.isfinite(losses)]
    if len(losses):
        ends = np.array([losses.min() / 1.15, losses.max() * 1.15])
        left.plot(ends, ends, color="0.3", ls="--", lw=1)
        left.plot(ends, ends * ratio, color="0.3", ls=":", lw=1)
        left.set(xlim=ends, ylim=(ends[0], 1.05 * ends[1]))
    left.set(xlabel="best training loss held (nats)", ylabel="mean late training loss (nats)", title="Every run")
    right.axvline(1, color="0.3", ls="--", lw=1)
    right.axvline(ratio, color="0.3", ls=":", lw=1)
    right.set_yticks(range(len(labels)), labels)
    right.set(xlabel="late over best loss, geometric mean", ylim=(max(len(labels), 1) - 0.5, -0.5))
    right.set_title("Every learning rate")
    handles = [
        Line2D([], [], ls="", marker=marker, color=colour, ms=5, label=label)
        for label, colour, marker in _LOOK.values()
    ]
    handles.append(Line2D([], [], color="0.3", ls="--", label="equal"))
    handles.append(Line2D([], [], color="0.3", ls=":", label=f"threshold {ratio:g}"))
    counts = table.groupby("part")["replicate"].nunique()
    n = f"{counts.min()} to {counts.max()}" if len(counts) else "no"
    percent = f"{100 * spec.confidence:g} %"
    note = f"second panel: {percent} interval over {n} replicates; rates constant along every run"
    legend_below(figure, handles, 3, note)
    figure.suptitle("The training loss that a run ends at, against the best that it has held")
    return figure
