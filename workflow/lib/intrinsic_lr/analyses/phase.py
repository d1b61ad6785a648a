"""Phase diagram: effective learning rate, effective gradient norm and training loss late in each run."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from intrinsic_lr.analyses.tables import AnalysisData, with_point
from intrinsic_lr.figures import style
from intrinsic_lr.stats.intervals import summarize
from intrinsic_lr.stats.loss_curves import CHAOTIC, CONVERGING, DIVERGED, regime
from intrinsic_lr.study.experiment import Experiment, PlannedPoint

QUANTITIES = ["effective_lr", "effective_gradient_norm", "batch_loss"]


def measure(data: AnalysisData) -> dict[str, pd.DataFrame]:
    """Return the table `phase`: a row for each tenth of the training, the last ones with regimes."""
    return {"phase": pd.concat([_phases(data, point) for point in data.experiment.points])}


def _phases(data: AnalysisData, point: PlannedPoint) -> pd.DataFrame:
    ensemble = data.ensembles[point.name]
    trace = ensemble.trace()
    trace = trace[(trace["step"] > 0) & (trace["step"] <= point.length)]
    trace = trace.assign(
        part=np.ceil(10 * trace["step"] / point.length).astype(int),
        effective_gradient_norm=np.log(trace["unit_gradient_squared_norm"]) / 2,
    )
    # What a replicate did before it was lost, within the same part, is no mean of the part.
    means = trace.groupby(["part", "replicate"], as_index=False)[QUANTITIES].mean(skipna=False)
    # A geometric mean: where training diverges, a few huge gradients would drown all others.
    means["effective_gradient_norm"] = np.exp(means["effective_gradient_norm"])
    table = summarize(means, ["part"], QUANTITIES, data.settings["confidence"])
    found = [regime(rows["batch_loss"].to_numpy(), ensemble.classes) for _, rows in trace.groupby("replicate")]
    last = table["part"] == table["part"].max()
    for name in (CONVERGING, CHAOTIC, DIVERGED):
        table[name] = np.where(last, found.count(name), np.nan)
    return with_point(table, point)


@style.styled
def draw_phase(table: pd.DataFrame, experiment: Experiment) -> Figure:
    """Draw effective gradient norm and training loss against the effective learning rate.

    Left, the path of each point over the tenths of its training, with the lines on which the norm is in
    equilibrium, effective learning rate times gradient norm = sqrt(2 lambda_e). Right, the late training loss.
    """
    figure, ((plane, loss),) = style.panels(1, 2, 3.3)
    rates = sorted({float(f"{rate:.1e}") for rate in table["intrinsic_lr"]})
    colours = style.ordered_colours(rates) if rates != [0.0] else {0.0: "0.3"}
    late = table[table["part"] == table["part"].max()]
    for _, path in table.groupby("point", sort=False):
        path, colour = path.sort_values("part"), colours[float(f"{path['intrinsic_lr'].iloc[0]:.1e}")]
        norms = path["effective_gradient_norm_mean"]
        plane.plot(path["effective_lr_mean"], norms, color=colour, lw=0.8, alpha=0.6)
        last = path.iloc[-1]
        marker = _REGIME_MARKERS[max(_REGIME_MARKERS, key=last.__getitem__)]
        for panel, value in ((plane, "effective_gradient_norm"), (loss, "batch_loss")):
            mean, low, high = (last[f"{value}_{part}"] for part in ("mean", "low", "high"))
            panel.errorbar(
                last["effective_lr_mean"], mean, yerr=np.nan_to_num([[mean - low], [high - mean]]).clip(min=0),
                color=colour, marker=marker, ms=5, lw=1, ls="",
            )  # fmt: skip
    span = np.array([late["effective_lr_mean"].min(), late["effective_lr_mean"].max()])
    shown = [rate for rate in style.spread(rates, 5) if rate > 0]
    for rate in shown:
        plane.plot(span, (2 * rate) ** 0.5 / span, color=colours[rate], ls=":", lw=1.1)
    norms = table["effective_gradient_norm_mean"]
    plane.set_ylim(norms[norms > 0].min() / 2, norms.max() * 2)
    for panel in (plane, loss):
        style.logarithmic(panel, "x", table["effective_lr_mean"])
        panel.set(xlabel=r"effective learning rate $\eta/\|w\|^2$ (per step)")
    style.logarithmic(plane, "y", norms)
    style.logarithmic(loss, "y", late["batch_loss_mean"])
    plane.set(ylabel=r"effective gradient norm $\|\hat g\|$", title="Phase diagram")
    loss.set(ylabel="training loss of a mini-batch (nats)", title="Loss in the last tenth")
    handles = [style.handle(rf"$\lambda_e$ = {style.scientific(rate)}", color=colours[rate]) for rate in shown]
    for name, marker in _REGIME_MARKERS.items():
        if late[name].sum() > 0:
            handles.append(style.handle(name.replace("_", " "), color="0.3", marker=marker, ls="", ms=5))
    if shown:
        label = r"equilibrium: $\|\hat g\|\,\eta/\|w\|^2 = (2\lambda_e)^{1/2}$"
        handles.append(style.handle(label, color="0.3", ls=":"))
    note = f"mean and 95 % interval over {style.replicates_text(late)} per setting"
    style.legend_below(figure, handles, 4, f"markers: last tenth of the training, {note}")
    figure.suptitle(f"Gradient norm and loss against the effective learning rate ({experiment.name})")
    return figure


_REGIME_MARKERS = {CONVERGING: "o", CHAOTIC: "s", DIVERGED: "X"}
