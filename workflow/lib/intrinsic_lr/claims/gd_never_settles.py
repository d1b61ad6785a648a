"""Full-batch descent with weight decay: destabilisations, spherical sharpness, and what ends them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec, constant, exponential
from intrinsic_lr.claims.shared.verdicts import Findings, Range
from intrinsic_lr.figures.style import band, labelled, legend_below, logarithmic, panels, scientific, styled
from intrinsic_lr.stats.intervals import largest_mean, outermost_mean, smallest_mean, summarize
from intrinsic_lr.stats.loss_curves import destabilizations
from intrinsic_lr.study.experiment import PlannedPoint

if TYPE_CHECKING:
    from torch import Tensor

DECAY, NO_DECAY = "decay", "no_decay"
RUN, SHARPNESS, CURVE = "run", "sharpness", "curve"
_BINS_OF_CURVE = 500
_SUMMARY = (
    "fitted_step", "destabilisations", "time", "count", "loss_before", "loss_after", "swing", "norm_loss",
    "norm_growth",
)  # fmt: skip
_POINT = ["point", "lr", "weight_decay", "intrinsic_lr"]
_LOOKS = {
    DECAY: {"label": "with weight decay", "color": "#0173b2"},
    NO_DECAY: {"label": "without weight decay from the start (same steps)", "color": "#de8f05"},
}


def measure(data: ClaimData) -> pd.DataFrame:
    """Return a row per run, one per run and checkpoint (its sharpness), and the loss of first replicates."""
    parts = []
    for role in (DECAY, NO_DECAY):
        trace, history = data.trace(role), data.history(role)
        points = data.spec.points(role)
        clocks = {point.name: _clock(point, data.spec.points(DECAY)) for point in points}
        for keys, run in trace.groupby([*_POINT, "replicate"], sort=False):
            name, *_, replicate = keys
            own = history[(history["point"] == name) & (history["replicate"] == replicate)]
            run = run.sort_values("step")
            row = _run(run, own, clocks[name], data.spec.thresholds)
            named = {"role": role, **dict(zip([*_POINT, "replicate"], keys, strict=True)), "clock": clocks[name]}
            parts.append(pd.DataFrame([{"part": RUN, **named, **row}]))
            if replicate == 0:
                parts.append(_curve(run).assign(part=CURVE, **named))
        parts += [_sharpness(data, role, point).assign(clock=clocks[point.name]) for point in points]
    return pd.concat(parts, ignore_index=True)


def _clock(point: PlannedPoint, decaying: Sequence[PlannedPoint]) -> float:
    """Return the lambda_e that a point's time is counted with.

    Descent without weight decay has none; its clock is the slowest of the runs that it is compared with, those
    at its learning rate. The slowest gives the highest counts, which make the control hardest to reject.
    """
    if point.intrinsic_lr > 0:
        return point.intrinsic_lr
    alike = [other.intrinsic_lr for other in decaying if other.lr == point.lr]
    return min(alike or [other.intrinsic_lr for other in decaying])


def _run(run: pd.DataFrame, history: pd.DataFrame, rate: float, limits: Mapping[str, float]) -> dict[str, float]:
    """Summarize one run; quantities that it does not have are missing.

    Row t of a trace holds the loss of the weights before the step, which is the training loss: the batch is full.
    A run that was ever not finite is missing as a whole, and not judged on what came before.
    """
    before = (run["weight_decay_now"] == run["weight_decay"]) & (run["step"] > 0)
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


def _curve(run: pd.DataFrame) -> pd.DataFrame:
    """Return lowest and highest loss of successive stretches of a run, which keep every excursion."""
    run = run[run["batch_loss"].notna()]
    stretches = run.groupby(np.arange(len(run)) * _BINS_OF_CURVE // max(len(run), _BINS_OF_CURVE))
    named = {"step": ("step", "mean"), "loss_low": ("batch_loss", "min"), "loss_high": ("batch_loss", "max")}
    return stretches.agg(**named, squared_norm=("squared_norm", "last"))


def _sharpness(data: ClaimData, role: str, point: PlannedPoint) -> pd.DataFrame:
    """Return the spherical sharpness ||w||^2 lambda_max of every replicate and checkpoint, over 2 / ELR.

    With ELR = eta / ||w||^2 that ratio is eta lambda_max / 2 (Lyu, Li, Arora 2022).
    """
    ensemble, dataset = data.ensemble(role, point), data.dataset(point.dataset, point.dtype)
    model = ensemble.model()
    names = tuple(name for group in ensemble.scale_groups.values() for name in group)
    parts = []
    for step in point.steps:
        weights = {name: value.to(dataset.mean.device) for name, value in ensemble.weights(step).items()}
        top = _top_eigenvalues(data.spec, model, weights, dataset, names, (point.name, step))
        norm = sum(weights[name].double().flatten(1).square().sum(dim=1).cpu() for name in names)
        columns = {"spherical_sharpness": (norm * top).numpy(), "sharpness_ratio": (point.lr * top / 2).numpy()}
        parts.append(pd.DataFrame({"step": step, "replicate": range(len(top)), **columns}))
    rates = {"lr": point.lr, "weight_decay": point.weight_decay, "intrinsic_lr": point.intrinsic_lr}
    return pd.concat(parts).assign(**rates, part=SHARPNESS, role=role, point=point.name)


def _top_eigenvalues(spec: ClaimSpec, model, weights: Mapping[str, "Tensor"], dataset, names, stream) -> "Tensor":
    """Return the top eigenvalue of every member on the full batch (R,), in float64 on the CPU.

    One member at a time: its graph of two derivatives of the full batch is what memory has to hold, and start and
    end of its iteration do not depend on the others.
    """
    import torch

    from intrinsic_lr.claims.shared.curvature import Derivatives

    iterations, tolerance = spec.settings["iterations"], spec.settings["tolerance"]
    batch = dataset.normalize(dataset.train_images), dataset.train_labels
    found = []
    for member in range(len(weights[names[0]])):
        one = {name: value[member : member + 1] for name, value in weights.items()}
        generator = torch.Generator().manual_seed(spec.stream(*stream, member))
        top = Derivatives(model, one, *batch, names).top_eigenvalue(iterations, generator, tolerance)
        found.append(top.double().cpu())
    return torch.cat(found)


def judge(table: pd.DataFrame, spec: ClaimSpec) -> Findings:
    """Judge counts, losses and sharpness at every learning rate; control: the counts without weight decay."""
    limits, confidence = spec.thresholds, spec.confidence
    decay, never = (table[(table["part"] == RUN) & (table["role"] == role)] for role in (DECAY, NO_DECAY))

    def of_points(role: str, values: pd.Series) -> list[pd.Series]:
        """Return the values of every point that was planned, none where it is missing."""
        return [values[table.loc[values.index, "point"] == point.name] for point in spec.points(role)]

    often, counted = (
        Range(low=limits["count"]),
        "destabilisations per 1/lambda_e once all training images are right",
    )
    statement = "Full-batch descent with weight decay destabilises again and again, at every learning rate."
    fewest = smallest_mean(of_points(DECAY, decay["count"]), confidence)
    yield spec.criterion(statement, f"{counted}, fewest over learning rates", fewest, DECAY, allowed=often)

    statement = "Once weight decay is off the training loss ends below its mean before."
    statistic = "training loss after over before, geometric mean, largest over learning rates"
    drop = largest_mean(of_points(DECAY, np.log(decay["loss_after"] / decay["loss_before"])), confidence)
    yield spec.criterion(statement, statistic, exponential(drop), DECAY, allowed=Range(high=limits["drop"]))

    statement = "Once weight decay is off the training loss settles."
    statistic = "largest over smallest training loss at the end, mean, largest over learning rates"
    swing = largest_mean(of_points(DECAY, decay["swing"]), confidence)
    yield spec.criterion(statement, statistic, swing, DECAY, allowed=Range(high=limits["swing"]))

    statement = "With weight decay the spherical sharpness hovers about 2 / effective learning rate."
    statistic = "spherical sharpness over 2 / effective learning rate, geometric mean, worst learning rate"
    near = Range(limits["sharpness_low"], limits["sharpness_high"])
    sharpness = of_points(DECAY, _sharpness_of_runs(table, decay))
    worst = outermost_mean(sharpness, confidence, *np.log([near.low, near.high]))
    yield spec.criterion(statement, statistic, exponential(worst), DECAY, allowed=near)

    statement = "Without weight decay the norm never falls."
    largest = constant(never["norm_loss"].max(skipna=False), never["norm_loss"].notna().sum())
    statistic, allowed = "largest relative loss of squared norm in a step", Range(high=limits["norm_loss"])
    yield spec.criterion(statement, statistic, largest, NO_DECAY, allowed=allowed)

    statement = "Full-batch descent without weight decay destabilises again and again."
    most = largest_mean(of_points(NO_DECAY, never["count"]), confidence)
    yield spec.control(statement, f"{counted}, most over learning rates", most, NO_DECAY, allowed=often)


def _log_of_positive(ratio: pd.Series) -> pd.Series:
    return np.log(ratio.where(ratio > 0).astype(np.float64))


def _sharpness_of_runs(table: pd.DataFrame, runs: pd.DataFrame) -> pd.Series:
    """Return for every run the mean logarithm of its sharpness ratio while weight decay lasts.

    Missing for a run that was not finite (it has no loss), that has no such checkpoint, or at one of whose
    checkpoints the eigenvalue is unknown.
    """
    rows = table.loc[table["part"] == SHARPNESS, ["point", "replicate", "step", "sharpness_ratio"]]
    rows = rows.assign(log=_log_of_positive(rows["sharpness_ratio"]))

    def of_run(run: pd.Series) -> float:
        own = rows[(rows["point"] == run["point"]) & (rows["replicate"] == run["replicate"])]
        held = own.loc[own["step"] <= run["off_step"], "log"]
        return held.mean(skipna=False) if np.isfinite(run["loss_before"]) else np.nan

    return pd.Series([of_run(run) for _, run in runs.iterrows()], index=runs.index, dtype=np.float64)


@styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw the loss of one run at each learning rate, with and without decay, and the sharpness of all."""
    limits = spec.thresholds
    levels = f"settled at {limits['low']:g}, destabilised above {limits['high']:g}"
    runs = table[(table["part"] == RUN) & (table["role"] == DECAY)]
    columns = runs.groupby("point").agg({"lr": "first", "clock": "first", "off_step": "max"})
    columns = columns.sort_values(["clock", "lr"])
    figure, axes = panels(2, max(len(columns), 1), 4.4, sharex=True, sharey="row")
    for (upper, lower), column in zip(axes.T, columns.itertuples(), strict=False):
        compared = (table["role"] == NO_DECAY) & (table["lr"] == column.lr)
        rows = table[(table["point"] == column.Index) | compared].assign(clock=column.clock)
        rows["time"] = rows["step"] * column.clock
        curves, sharpness = rows[rows["part"] == CURVE], rows[rows["part"] == SHARPNESS]
        for role, look in _LOOKS.items():
            for _, curve in curves[curves["role"] == role].sort_values("step").groupby("point"):
                ends = curve["loss_low"], curve["loss_high"]
                upper.fill_between(curve["time"], *ends, color=look["color"], lw=0.7, zorder=2)
        for name in ("low", "high"):
            upper.axhline(limits[name], color="0.5", ls="--", lw=0.8, zorder=1, label=levels)
        logarithmic(upper, "y", curves["loss_low"])
        lower.axhspan(limits["sharpness_low"], limits["sharpness_high"], color="0.9", lw=0)
        lower.axhline(1, color="0.3", lw=0.8)
        for role, look in _LOOKS.items():
            own = sharpness[sharpness["role"] == role]
            own = own.assign(log=_log_of_positive(own["sharpness_ratio"]))
            summary = summarize(own, ["time"], ["log"], spec.confidence)
            summary[["log_mean", "log_low", "log_high"]] = np.exp(summary[["log_mean", "log_low", "log_high"]])
            band(lower, summary, "time", "log", marker="o", ms=2.5, lw=1.2, **look)
        logarithmic(lower, "y", sharpness["sharpness_ratio"])
        for panel in (upper, lower):
            panel.axvline(column.off_step * column.clock, color="0.3", ls=":", lw=1, label="weight decay off")
        upper.set_title(f"$\\eta$ = {scientific(column.lr)}, $\\lambda_e$ = {scientific(column.clock)}")
        lower.set_xlabel(r"$\lambda_e t$")
    axes[0, 0].set_ylabel("training loss (nats)")
    axes[1, 0].set_ylabel("spherical sharpness over 2 / effective learning rate")
    note = (
        f"losses: one replicate; sharpness: geometric mean and {spec.percent} band over "
        f"{runs['replicate'].nunique()} replicates; shaded: allowed"
    )
    title = "Full-batch descent with weight decay, until that is switched off, and without it"
    return legend_below(figure, labelled(figure), 2, note, title)
