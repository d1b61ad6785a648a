"""Full-batch descent with weight decay: destabilisations, spherical sharpness, and what ends them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from intrinsic_lr.claims.question import Inputs, Question
from intrinsic_lr.claims.verdicts import Finding, Range
from intrinsic_lr.destabilisation import destabilisations
from intrinsic_lr.intervals import mean_range, summarise
from intrinsic_lr.style import band, legend_below, logarithmic, panels, scientific, styled

DECAY, NO_DECAY = "decay", "no_decay"
RUN, SHARPNESS, CURVE = "run", "sharpness", "curve"
_BINS_OF_CURVE = 500
_POINT = ["point", "lr", "weight_decay", "intrinsic_lr"]


def measure(inputs: Inputs) -> pd.DataFrame:
    """Return a row per run, one per run and checkpoint (its sharpness), and the loss of first replicates."""
    parts = []
    for role in (DECAY, NO_DECAY):
        trace, history = inputs.trace(role), inputs.history(role)
        # Descent without weight decay is measured by the clock of the runs that it is compared with.
        rate = max(point["intrinsic_lr"] for point in inputs.question.points(DECAY))
        for keys, run in trace.groupby([*_POINT, "replicate"], sort=False):
            own = history[(history["point"] == keys[0]) & (history["replicate"] == keys[-1])]
            row = _run(run.sort_values("step"), own, rate, inputs.question.thresholds)
            named = dict(zip([*_POINT, "replicate"], keys, strict=True))
            parts.append(pd.DataFrame([{"part": RUN, "role": role, **named, "clock": rate, **row}]))
            if keys[-1] == 0:
                parts.append(_curve(run.sort_values("step")).assign(part=CURVE, role=role, clock=rate, **named))
        parts += [_sharpness(inputs, role, point, rate) for point in inputs.question.points(role)]
    return pd.concat(parts, ignore_index=True)


def _run(run: pd.DataFrame, history: pd.DataFrame, rate: float, limits: Mapping[str, float]) -> dict[str, float]:
    """Summarise one run; quantities that it does not have are missing.

    Row t of a trace holds the loss of the weights before the step, which is the training loss: the batch is full.
    """
    fitted = history.loc[history["train_accuracy"] == 1, "step"]
    before = _with_decay(run)
    searched = run[before & (run["step"] >= (fitted.min() if len(fitted) else np.inf))]
    found = destabilisations(searched["batch_loss"], limits["low"], limits["high"])
    time = rate * (len(searched) - found.settled)
    late = run.loc[before, "batch_loss"].iloc[-(before.sum() // 2) :]
    after = run.loc[~before, "batch_loss"].iloc[-((~before).sum() // 2) :] if (~before).any() else late.iloc[:0]
    norm = run["squared_norm"].to_numpy()
    steps = np.diff(norm) / norm[:-1]
    free = (run["weight_decay_now"] == 0).to_numpy()[1:]
    return {
        "off_step": run.loc[before, "step"].max(),
        "fitted_step": fitted.min() if len(fitted) else np.nan,
        "destabilisations": len(found.at) if time > 0 else np.nan,
        "time": time,
        "count": len(found.at) / time if time > 0 else np.nan,
        "loss_before": late.mean(),
        "loss_after": after.mean(),
        "swing": after.max() / after.min(),
        "norm_loss": max(0.0, -steps[free].min()) if free.any() else np.nan,
        "norm_growth": norm[-1] / norm[0],
    }


def _with_decay(run: pd.DataFrame) -> pd.Series:
    """Tell the steps before weight decay is switched off; all of them where it never is."""
    return (run["weight_decay_now"] == run["weight_decay"]) & run["batch_loss"].notna()


def _curve(run: pd.DataFrame) -> pd.DataFrame:
    """Return lowest and highest loss of successive stretches of a run, which keep every excursion."""
    run = run[run["batch_loss"].notna()]
    stretch = np.arange(len(run)) * _BINS_OF_CURVE // max(len(run), _BINS_OF_CURVE)
    grouped = run.groupby(stretch)
    return pd.DataFrame(
        {
            "step": grouped["step"].mean(),
            "loss_low": grouped["batch_loss"].min(),
            "loss_high": grouped["batch_loss"].max(),
            "squared_norm": grouped["squared_norm"].last(),
        }
    )


def _sharpness(inputs: Inputs, role: str, point: Mapping[str, Any], rate: float) -> pd.DataFrame:
    """Return the spherical sharpness ||w||^2 lambda_max of every replicate and checkpoint, over 2 / ELR.

    With ELR = eta / ||w||^2 that ratio is eta lambda_max / 2 (Lyu, Li, Arora 2022).
    """
    import torch

    from intrinsic_lr.curvature import top_eigenvalue

    settings = inputs.question.settings
    ensemble, data = inputs.ensemble(role, point), inputs.data(point["dataset"])
    model = ensemble.model()
    images, labels = data.normalise(data.train_images), data.train_labels
    names = tuple(name for group in model.scale_groups.values() for name in group)
    parts = []
    for step in point["steps"]:
        weights = {name: value.to(images.device) for name, value in ensemble.weights(step).items()}
        generator = torch.Generator().manual_seed(step)
        top = top_eigenvalue(
            model, weights, images, labels, names, settings["iterations"], generator, settings["tolerance"]
        ).double().cpu()  # fmt: skip
        norm = sum(weights[name].double().flatten(1).square().sum(dim=1).cpu() for name in names)
        parts.append(
            pd.DataFrame(
                {
                    **{column: point[column] for column in _POINT[1:]},
                    "step": step,
                    "replicate": range(len(top)),
                    "spherical_sharpness": (norm * top).tolist(),
                    "sharpness_ratio": (point["lr"] * top / 2).tolist(),
                }
            )
        )
    return pd.concat(parts).assign(part=SHARPNESS, role=role, point=point["name"], clock=rate)


def judge(table: pd.DataFrame, question: Question) -> list[Finding]:
    """Judge counts, losses and sharpness at every learning rate; control: the counts without weight decay."""
    limits = question.thresholds
    runs = {role: table[(table["part"] == RUN) & (table["role"] == role)] for role in (DECAY, NO_DECAY)}
    decay, never = runs[DECAY], runs[NO_DECAY]

    def over_rates(rows: pd.DataFrame, values: pd.Series):
        groups = [values[group.index] for _, group in rows.groupby("point")]
        return mean_range(groups, question.confidence)

    findings = []
    often = Range(low=limits["count"])
    counted = "destabilisations per 1/lambda_e once all training images are right"
    lowest, _, low, high, n = over_rates(decay, decay["count"])
    findings.append(
        question.criterion(
            "Full-batch descent with weight decay destabilises again and again, at every learning rate.",
            f"{counted}, fewest over learning rates", lowest, (low, high), n=n, roles=[DECAY], allowed=often,
        )
    )  # fmt: skip
    _, highest, low, high, n = over_rates(decay, np.log(decay["loss_after"] / decay["loss_before"]))
    findings.append(
        question.criterion(
            "Once weight decay is off the training loss ends below its mean before.",
            "training loss after over before, geometric mean, largest over learning rates",
            np.exp(highest), (np.exp(low), np.exp(high)), n=n, roles=[DECAY], allowed=Range(high=limits["drop"]),
        )
    )  # fmt: skip
    _, highest, low, high, n = over_rates(decay, decay["swing"])
    findings.append(
        question.criterion(
            "Once weight decay is off the training loss settles.",
            "largest over smallest training loss at the end, mean, largest over learning rates",
            highest, (low, high), n=n, roles=[DECAY], allowed=Range(high=limits["swing"]),
        )
    )  # fmt: skip
    lowest, highest, low, high, n = over_rates(*_sharpness_of_runs(table))
    extreme = max((lowest, highest), key=abs)
    findings.append(
        question.criterion(
            "With weight decay the spherical sharpness hovers about 2 / effective learning rate.",
            "spherical sharpness over 2 / effective learning rate, geometric mean, learning rate farthest from 1",
            np.exp(extreme), (np.exp(low), np.exp(high)), n=n, roles=[DECAY],
            allowed=Range(limits["sharpness_low"], limits["sharpness_high"]),
        )
    )  # fmt: skip
    findings.append(
        question.criterion(
            "Without weight decay the norm never falls.",
            "largest relative loss of squared norm in a step",
            never["norm_loss"].max(), None, n=int(never["norm_loss"].notna().sum()), roles=[NO_DECAY],
            allowed=Range(high=limits["norm_loss"]),
        )
    )  # fmt: skip
    _, highest, low, high, n = over_rates(never, never["count"])
    findings.append(
        question.control(
            "Full-batch descent without weight decay destabilises again and again.",
            f"{counted}, most over learning rates", highest, (low, high), n=n, roles=[NO_DECAY], allowed=often,
        )
    )  # fmt: skip
    return findings


def _sharpness_of_runs(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series]:
    """Return a row per run with weight decay, and the mean logarithm of its sharpness ratio while that lasts."""
    rows = table[(table["part"] == SHARPNESS) & (table["role"] == DECAY)]
    rows = rows[rows["step"] <= _switched_off(table)]
    ratio = np.log(rows["sharpness_ratio"].where(rows["sharpness_ratio"] > 0))
    means = rows.assign(log=ratio).groupby(["point", "replicate"], sort=False)["log"].mean().reset_index()
    return means, means["log"]


def _switched_off(table: pd.DataFrame) -> float:
    """Return the last step with weight decay of the runs that have it."""
    return float(table.loc[(table["part"] == RUN) & (table["role"] == DECAY), "off_step"].max())


@styled
def draw(table: pd.DataFrame, question: Question, findings: pd.DataFrame) -> Figure:
    """Draw the loss of one run at each learning rate, with and without decay, and the sharpness of all."""
    rates = sorted(table["lr"].unique())
    figure, axes = panels(2, max(len(rates), 1), 4.4, sharex=True, sharey="row")
    off = _switched_off(table)
    for (upper, lower), lr in zip(axes.T, rates, strict=False):
        rows = table[table["lr"] == lr]
        _draw_losses(upper, rows[rows["part"] == CURVE], question)
        _draw_sharpness(lower, rows[rows["part"] == SHARPNESS], question)
        for panel in (upper, lower):
            panel.axvline(off * table["clock"].iloc[0], color="0.3", ls=":", lw=1)
        upper.set_title(f"$\\eta$ = {scientific(lr)}")
        lower.set_xlabel(r"time $\lambda_e t$")
    axes[0, 0].set_ylabel("training loss (nats)")
    axes[1, 0].set_ylabel("spherical sharpness\nover 2/ELR")
    limits = question.thresholds
    states = f"settled at {limits['low']:g}, destabilised above {limits['high']:g}"
    handles = [Line2D([], [], color=colour, label=label) for label, colour, _ in _LOOK.values()]
    handles += [
        Line2D([], [], color="0.5", ls="--", label=states),
        Line2D([], [], color="0.3", ls=":", label="weight decay off"),
    ]  # fmt: skip
    runs = table[(table["part"] == RUN) & (table["role"] == DECAY)]
    percent = f"{100 * question.confidence:g} %"
    rate = f"$\\lambda_e$ = {scientific(table['clock'].iloc[0])}" if len(table) else ""
    legend_below(
        figure, handles, 2,
        f"above: one replicate; below: geometric mean and {percent} band over {runs['replicate'].nunique()} "
        f"replicates; {rate}; shaded: allowed",
    )  # fmt: skip
    figure.suptitle("Full-batch descent with weight decay, until that is switched off, and without it")
    return figure


_LOOK = {
    DECAY: ("with weight decay", "#0173b2", "-"),
    NO_DECAY: ("without weight decay from the start (same steps)", "#de8f05", "-"),
}


def _draw_losses(axes: Axes, curves: pd.DataFrame, question: Question) -> None:
    for role, (_, colour, _) in _LOOK.items():
        rows = curves[curves["role"] == role].sort_values("step")
        time = rows["step"] * rows["clock"]
        axes.fill_between(time, rows["loss_low"], rows["loss_high"], color=colour, lw=0.7, zorder=2)
    for name in ("low", "high"):
        axes.axhline(question.thresholds[name], color="0.5", ls="--", lw=0.8, zorder=1)
    logarithmic(axes, "y", curves["loss_low"])


def _draw_sharpness(axes: Axes, rows: pd.DataFrame, question: Question) -> None:
    limits = question.thresholds
    axes.axhspan(limits["sharpness_low"], limits["sharpness_high"], color="0.9", lw=0)
    axes.axhline(1, color="0.3", lw=0.8)
    for role, (_, colour, _) in _LOOK.items():
        own = rows[rows["role"] == role].copy()
        own["log"] = np.log(own["sharpness_ratio"].where(own["sharpness_ratio"] > 0))
        summary = summarise(own, ["step", "clock"], ["log"], question.confidence)
        summary["time"] = summary["step"] * summary["clock"]
        summary[["log_mean", "log_low", "log_high"]] = np.exp(summary[["log_mean", "log_low", "log_high"]])
        band(axes, summary, "time", "log", color=colour, marker="o", ms=2.5, lw=1.2)
    logarithmic(axes, "y", rows["sharpness_ratio"])
