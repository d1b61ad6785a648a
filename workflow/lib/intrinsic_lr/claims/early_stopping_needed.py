"""The mean late training loss of a run, over the best that the same run has held."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec, exponential
from intrinsic_lr.claims.shared.verdicts import Findings, Range
from intrinsic_lr.figures.style import count_text, error_bar, labelled, legend_below, panels, scientific, styled
from intrinsic_lr.stats.intervals import largest_mean, mean_interval, smallest_mean
from intrinsic_lr.stats.loss_curves import late_over_best

DECAY, NO_DECAY, SGD = "decay", "no_decay", "sgd"
_LOOKS = {
    DECAY: {"label": "full batch, weight decay", "color": "#0173b2", "marker": "o"},
    NO_DECAY: {"label": "full batch, no weight decay", "color": "#949494", "marker": "v"},
    SGD: {"label": "mini-batches, weight decay", "color": "#de8f05", "marker": "s"},
}


def measure(data: ClaimData) -> pd.DataFrame:
    """Return for every run its best held loss, its mean late loss, and the logarithm of their ratio."""
    window, late_share = data.spec.settings["window"], data.spec.settings["late"]
    point = ["point", "lr", "weight_decay", "intrinsic_lr", "replicate"]
    rows = []
    for role in (DECAY, NO_DECAY, SGD):
        # A full batch's loss is the training loss, known at every step; that of a mini-batch is only its own.
        records, loss = (data.history(role), "train_loss") if role == SGD else (data.trace(role), "batch_loss")
        for keys, run in records.groupby(point, sort=False):
            steps, best, late = _losses(run.sort_values("step"), loss, window, late_share)
            rows.append((role, *keys, steps, best, late, np.log(late / best)))
    return pd.DataFrame(rows, columns=["part", *point, "steps", "best_loss", "late_loss", "log_ratio"])


def _losses(run: pd.DataFrame, quantity: str, window: float, late: float) -> tuple[float, float, float]:
    """Return the last step at constant rates, and best and late loss up to there.

    The losses are missing where any of the run is not finite, also one after the rates changed: what diverges is
    not judged on what came before. A trace has no loss of a batch at step 0.
    """
    run = run[(run["step"] > 0) | run[quantity].notna()]
    held = run[(run["weight_decay_now"] == run["weight_decay"]) & (run["lr_now"] == run["lr"])]
    losses = late_over_best(held[quantity], window, late) if np.isfinite(run[quantity]).all() else (np.nan, np.nan)
    return held["step"].max(), *losses


def judge(table: pd.DataFrame, spec: ClaimSpec) -> Findings:
    """Judge the ratio at every learning rate; control: the same without weight decay."""
    # What is claimed of every learning rate fails at the smallest ratio; the control has to fail at all of them.
    for part, judged, decay, which, extreme in (
        (DECAY, spec.criterion, "with", "smallest", smallest_mean),
        (NO_DECAY, spec.control, "without", "largest", largest_mean),
    ):
        runs = table[table["part"] == part]
        groups = [runs.loc[runs["point"] == point.name, "log_ratio"] for point in spec.points(part)]
        estimate = exponential(extreme(groups, spec.confidence))
        statement = f"Full-batch descent {decay} weight decay ends far above the best loss that it has held."
        statistic = f"mean late over best held training loss, geometric mean, {which} over learning rates"
        yield judged(statement, statistic, estimate, part, allowed=Range(low=spec.thresholds["ratio"]))


@styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw late against best loss of every run, and the ratios with their intervals."""
    figure, ((left, right),) = panels(1, 2, 2.9)
    rates = []
    for part, look in _LOOKS.items():
        rows = table[table["part"] == part]
        left.plot(rows["best_loss"], rows["late_loss"], ls="", ms=3.5, alpha=0.6, mew=0, **look | {"label": "_"})
        for (lr, _), runs in rows.groupby(["lr", "point"]):
            estimate = np.exp(mean_interval(runs["log_ratio"], spec.confidence))
            error_bar(right, len(rates), estimate, horizontal=True, ms=5, capsize=3, **look)
            rates.append(f"$\\eta$ = {scientific(lr)}")
    losses = table[["best_loss", "late_loss"]].to_numpy().ravel()
    losses = losses[np.isfinite(losses)]
    ends = np.array([losses.min() / 1.15, losses.max() * 1.15]) if len(losses) else np.array([0, 1])
    for ratio, label, dash in ((1, "equal", "--"), (spec.thresholds["ratio"], "threshold {:g}", ":")):
        look = {"label": label.format(ratio), "color": "0.3", "ls": dash, "lw": 1}
        left.plot(ends, ends * ratio, **look)
        right.axvline(ratio, **look)
    left.set(xlim=ends, ylim=(ends[0], 1.05 * ends[1]), title="Every run")
    left.set(xlabel="best training loss held (nats)", ylabel="mean late training loss (nats)")
    right.set_yticks(range(len(rates)), rates)
    right.set(xlabel="late over best loss, geometric mean", ylim=(max(len(rates), 1) - 0.5, -0.5))
    right.set_title("Every learning rate")
    n = count_text(table.groupby("part")["replicate"].nunique())
    note = f"second panel: {spec.percent} interval over {n} replicates; rates constant along every run"
    title = "The training loss that a run ends at, against the best that it has held"
    return legend_below(figure, labelled(figure), 3, note, title)
