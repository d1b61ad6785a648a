"""Full-batch descent with weight decay: destabilisations, spherical sharpness, and what ends them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec
from intrinsic_lr.claims.shared.verdicts import Finding, Range
from intrinsic_lr.core.seeding import stream_seed
from intrinsic_lr.figures.style import band, legend_below, logarithmic, panels, scientific, styled
from intrinsic_lr.stats.intervals import largest_mean, outermost_mean, smallest_mean, summarize
from intrinsic_lr.stats.loss_curves import destabilizations

if TYPE_CHECKING:
    from torch import Tensor

    from intrinsic_lr.models.ensemble import EnsembleModel

DECAY, NO_DECAY = "decay", "no_decay"
RUN, SHARPNESS, CURVE = "run", "sharpness", "curve"
_BINS_OF_CURVE = 500
_SUMMARY = (
    "fitted_step", "destabilisations", "time", "count", "loss_before", "loss_after", "swing", "norm_loss",
    "norm_growth",
)  # fmt: skip
_POINT = ["point", "lr", "weight_decay", "intrinsic_lr"]


def measure(data: ClaimData) -> pd.DataFrame:
    """Return a row per run, one per run and checkpoint (its sharpness), and the loss of first replicates."""
    parts = []
    for role in (DECAY, NO_DECAY):
        trace, history = data.trace(role), data.history(role)
        clocks = {point["name"]: _clock(point, data.spec.points(DECAY)) for point in data.spec.points(role)}
        for keys, run in trace.groupby([*_POINT, "replicate"], sort=False):
            own = history[(history["point"] == keys[0]) & (history["replicate"] == keys[-1])]
            rate = clocks[keys[0]]
            row = _run(run.sort_values("step"), own, rate, data.spec.thresholds)
            named = dict(zip([*_POINT, "replicate"], keys, strict=True))
            parts.append(pd.DataFrame([{"part": RUN, "role": role, **named, "clock": rate, **row}]))
            if keys[-1] == 0:
                parts.append(_curve(run.sort_values("step")).assign(part=CURVE, role=role, clock=rate, **named))
        parts += [_sharpness(data, role, point, clocks[point["name"]]) for point in data.spec.points(role)]
    return pd.concat(parts, ignore_index=True)


def _clock(point: Mapping[str, Any], decaying: Sequence[Mapping[str, Any]]) -> float:
    """Return the lambda_e that a point's time is counted with.

    Descent without weight decay has none; its clock is the slowest of the runs that it is compared with, those
    at its learning rate. The slowest gives the highest counts, which make the control hardest to reject.
    """
    if point["intrinsic_lr"] > 0:
        return point["intrinsic_lr"]
    alike = [other["intrinsic_lr"] for other in decaying if other["lr"] == point["lr"]]
    return min(alike or [other["intrinsic_lr"] for other in decaying])


def _run(run: pd.DataFrame, history: pd.DataFrame, rate: float, limits: Mapping[str, float]) -> dict[str, float]:
    """Summarise one run; quantities that it does not have are missing.

    Row t of a trace holds the loss of the weights before the step, which is the training loss: the batch is full.
    A run that was ever not finite is missing as a whole, and not judged on what came before.
    """
    before = _with_decay(run)
    off = run.loc[before, "step"].max()
    if not np.isfinite(run["squared_norm"]).all() or not np.isfinite(run.loc[run["step"] > 0, "batch_loss"]).all():
        return {"off_step": off, **dict.fromkeys(_SUMMARY, np.nan)}
    fitted = history.loc[history["train_accuracy"] == 1, "step"]
    searched = run[before & (run["step"] >= (fitted.min() if len(fitted) else np.inf))]
    found = destabilizations(searched["batch_loss"], limits["low"], limits["high"])
    time = rate * (len(searched) - found.settled)
    late = run.loc[before, "batch_loss"].iloc[-(before.sum() // 2) :]
    after = run.loc[~before, "batch_loss"].iloc[-((~before).sum() // 2) :] if (~before).any() else late.iloc[:0]
    norm = run["squared_norm"].to_numpy()
    steps = np.diff(norm) / norm[:-1]
    free = (run["weight_decay_now"] == 0).to_numpy()[1:]
    summary = (
        fitted.min() if len(fitted) else np.nan,
        len(found.at) if time > 0 else np.nan,
        time,
        len(found.at) / time if time > 0 else np.nan,
        late.mean(),
        after.mean(),
        after.max() / after.min(),
        max(0.0, -steps[free].min()) if free.any() else np.nan,
        norm[-1] / norm[0],
    )
    return {"off_step": off, **dict(zip(_SUMMARY, summary, strict=True))}


def _with_decay(run: pd.DataFrame) -> pd.Series:
    """Tell the steps before weight decay is switched off; all of them where it never is."""
    return (run["weight_decay_now"] == run["weight_decay"]) & (run["step"] > 0)


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


def _sharpness(data: ClaimData, role: str, point: Mapping[str, Any], rate: float) -> pd.DataFrame:
    """Return the spherical sharpness ||w||^2 lambda_max of every replicate and checkpoint, over 2 / ELR.

    With ELR = eta / ||w||^2 that ratio is eta lambda_max / 2 (Lyu, Li, Arora 2022).
    """
    ensemble, dataset = data.ensemble(role, point), data.dataset(point["dataset"])
    model = ensemble.model()
    images, labels = dataset.normalize(dataset.train_images), dataset.train_labels
    names = tuple(name for group in model.scale_groups.values() for name in group)
    parts = []
    for step in point["steps"]:
        weights = {name: value.to(images.device) for name, value in ensemble.weights(step).items()}
        streams = data.spec.seed, "claim", data.spec.name, point["name"], step
        top = _top_eigenvalues(model, weights, images, labels, names, data.spec.settings, streams)
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


def _top_eigenvalues(
    model: "EnsembleModel",
    weights: Mapping[str, "Tensor"],
    images: "Tensor",
    labels: "Tensor",
    names: Sequence[str],
    settings: Mapping[str, Any],
    streams: Sequence[object],
) -> "Tensor":
    """Return the top eigenvalue of every member on the full batch (R,), in float64 on the CPU.

    One member at a time: its graph of two derivatives of the full batch is what memory has to hold, and start and
    end of its iteration do not depend on the others.
    """
    import torch

    from intrinsic_lr.claims.shared.curvature import Derivatives

    found = []
    for member in range(len(next(iter(weights.values())))):
        one = {name: value[member : member + 1] for name, value in weights.items()}
        generator = torch.Generator().manual_seed(stream_seed(*streams, member))
        derivatives = Derivatives(model, one, images, labels, names)
        top = derivatives.top_eigenvalue(settings["iterations"], generator, settings["tolerance"])
        found.append(top.double().cpu())
    return torch.cat(found)


def judge(table: pd.DataFrame, spec: ClaimSpec) -> list[Finding]:
    """Judge counts, losses and sharpness at every learning rate; control: the counts without weight decay."""
    limits = spec.thresholds
    runs = {role: table[(table["part"] == RUN) & (table["role"] == role)] for role in (DECAY, NO_DECAY)}
    decay, never = runs[DECAY], runs[NO_DECAY]

    def of_points(role: str, rows: pd.DataFrame, values: pd.Series) -> list[pd.Series]:
        """Return the values of every point that was planned, none where it is missing."""
        return [values[rows["point"] == point["name"]] for point in spec.points(role)]

    findings = []
    often = Range(low=limits["count"])
    counted = "destabilisations per 1/lambda_e once all training images are right"
    fewest, low, high, n = smallest_mean(of_points(DECAY, decay, decay["count"]), spec.confidence)
    findings.append(
        spec.criterion(
            "Full-batch descent with weight decay destabilises again and again, at every learning rate.",
            f"{counted}, fewest over learning rates", fewest, (low, high), n=n, roles=[DECAY], allowed=often,
        )
    )  # fmt: skip
    drops = np.log(decay["loss_after"] / decay["loss_before"])
    highest, low, high, n = largest_mean(of_points(DECAY, decay, drops), spec.confidence)
    findings.append(
        spec.criterion(
            "Once weight decay is off the training loss ends below its mean before.",
            "training loss after over before, geometric mean, largest over learning rates",
            np.exp(highest), (np.exp(low), np.exp(high)), n=n, roles=[DECAY], allowed=Range(high=limits["drop"]),
        )
    )  # fmt: skip
    highest, low, high, n = largest_mean(of_points(DECAY, decay, decay["swing"]), spec.confidence)
    findings.append(
        spec.criterion(
            "Once weight decay is off the training loss settles.",
            "largest over smallest training loss at the end, mean, largest over learning rates",
            highest, (low, high), n=n, roles=[DECAY], allowed=Range(high=limits["swing"]),
        )
    )  # fmt: skip
    bounds = np.log([limits["sharpness_low"], limits["sharpness_high"]])
    groups = of_points(DECAY, decay, _sharpness_of_runs(table, decay))
    extreme, low, high, n = outermost_mean(groups, spec.confidence, *bounds)
    findings.append(
        spec.criterion(
            "With weight decay the spherical sharpness hovers about 2 / effective learning rate.",
            "spherical sharpness over 2 / effective learning rate, geometric mean, worst learning rate",
            np.exp(extreme), (np.exp(low), np.exp(high)), n=n, roles=[DECAY],
            allowed=Range(limits["sharpness_low"], limits["sharpness_high"]),
        )
    )  # fmt: skip
    findings.append(
        spec.criterion(
            "Without weight decay the norm never falls.",
            "largest relative loss of squared norm in a step",
            never["norm_loss"].max(skipna=False), None, n=int(never["norm_loss"].notna().sum()), roles=[NO_DECAY],
            allowed=Range(high=limits["norm_loss"]),
        )
    )  # fmt: skip
    most, low, high, n = largest_mean(of_points(NO_DECAY, never, never["count"]), spec.confidence)
    findings.append(
        spec.control(
            "Full-batch descent without weight decay destabilises again and again.",
            f"{counted}, most over learning rates", most, (low, high), n=n, roles=[NO_DECAY], allowed=often,
        )
    )  # fmt: skip
    return findings


def _sharpness_of_runs(table: pd.DataFrame, runs: pd.DataFrame) -> pd.Series:
    """Return for every run the mean logarithm of its sharpness ratio while weight decay lasts.

    Missing for a run that was not finite (it has no loss), that has no such checkpoint, or at one of whose
    checkpoints the eigenvalue is unknown.
    """
    rows = table.loc[table["part"] == SHARPNESS, ["point", "replicate", "step", "sharpness_ratio"]]
    ratio = rows["sharpness_ratio"].where(rows["sharpness_ratio"] > 0)
    rows = rows.assign(log=np.log(ratio.astype(np.float64)))

    def of_run(run: pd.Series) -> float:
        own = rows[(rows["point"] == run["point"]) & (rows["replicate"] == run["replicate"])]
        held = own.loc[own["step"] <= run["off_step"], "log"]
        return held.mean(skipna=False) if np.isfinite(run["loss_before"]) else np.nan

    return pd.Series([of_run(run) for _, run in runs.iterrows()], index=runs.index, dtype=np.float64)


@styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw the loss of one run at each learning rate, with and without decay, and the sharpness of all."""
    runs = table[(table["part"] == RUN) & (table["role"] == DECAY)]
    columns = runs.groupby("point").agg({"lr": "first", "clock": "first", "off_step": "max"})
    columns = columns.sort_values(["clock", "lr"])
    figure, axes = panels(2, max(len(columns), 1), 4.4, sharex=True, sharey="row")
    for (upper, lower), column in zip(axes.T, columns.itertuples(), strict=False):
        compared = (table["role"] == NO_DECAY) & (table["lr"] == column.lr)
        rows = table[(table["point"] == column.Index) | compared].assign(clock=column.clock)
        _draw_losses(upper, rows[rows["part"] == CURVE], spec)
        _draw_sharpness(lower, rows[rows["part"] == SHARPNESS], spec)
        for panel in (upper, lower):
            panel.axvline(column.off_step * column.clock, color="0.3", ls=":", lw=1)
        upper.set_title(f"$\\eta$ = {scientific(column.lr)}, $\\lambda_e$ = {scientific(column.clock)}")
        lower.set_xlabel(r"time $\lambda_e t$")
    axes[0, 0].set_ylabel("training loss (nats)")
    axes[1, 0].set_ylabel("spherical sharpness\nover 2/ELR")
    limits = spec.thresholds
    states = f"settled at {limits['low']:g}, destabilised above {limits['high']:g}"
    handles = [Line2D([], [], color=colour, label=label) for label, colour, _ in _LOOK.values()]
    handles += [
        Line2D([], [], color="0.5", ls="--", label=states),
        Line2D([], [], color="0.3", ls=":", label="weight decay off"),
    ]  # fmt: skip
    percent = f"{100 * spec.confidence:g} %"
    legend_below(
        figure, handles, 2,
        f"losses: one replicate; sharpness: geometric mean and {percent} band over {runs['replicate'].nunique()} "
        "replicates; shaded: allowed",
    )  # fmt: skip
    figure.suptitle("Full-batch descent with weight decay, until that is switched off, and without it")
    return figure


_LOOK = {
    DECAY: ("with weight decay", "#0173b2", "-"),
    NO_DECAY: ("without weight decay from the start (same steps)", "#de8f05", "-"),
}


def _draw_losses(axes: Axes, curves: pd.DataFrame, spec: ClaimSpec) -> None:
    for role, (_, colour, _) in _LOOK.items():
        for _, rows in curves[curves["role"] == role].sort_values("step").groupby("point"):
            time = rows["step"] * rows["clock"]
            axes.fill_between(time, rows["loss_low"], rows["loss_high"], color=colour, lw=0.7, zorder=2)
    for name in ("low", "high"):
        axes.axhline(spec.thresholds[name], color="0.5", ls="--", lw=0.8, zorder=1)
    logarithmic(axes, "y", curves["loss_low"])


def _draw_sharpness(axes: Axes, rows: pd.DataFrame, spec: ClaimSpec) -> None:
    limits = spec.thresholds
    axes.axhspan(limits["sharpness_low"], limits["sharpness_high"], color="0.9", lw=0)
    axes.axhline(1, color="0.3", lw=0.8)
    for role, (_, colour, _) in _LOOK.items():
        own = rows[rows["role"] == role].copy()
        own["log"] = np.log(own["sharpness_ratio"].where(own["sharpness_ratio"] > 0))
        summary = summarize(own, ["step", "clock"], ["log"], spec.confidence)
        summary["time"] = summary["step"] * summary["clock"]
        summary[["log_mean", "log_low", "log_high"]] = np.exp(summary[["log_mean", "log_low", "log_high"]])
        band(axes, summary, "time", "log", color=colour, marker="o", ms=2.5, lw=1.2)
    logarithmic(axes, "y", rows["sharpness_ratio"])
