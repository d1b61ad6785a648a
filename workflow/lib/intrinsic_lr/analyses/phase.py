"""Phase diagram: effective learning rate, effective gradient norm and training loss late in each run."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from intrinsic_lr.analyses import drawing
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
    with np.errstate(divide="ignore"):
        logarithm = np.log(trace["unit_gradient_squared_norm"]) / 2
    part = np.ceil(10 * trace["step"] / point.length).astype(int)
    trace = trace.assign(part=part, effective_gradient_norm=logarithm)
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
def draw_phase(table: pd.DataFrame, experiment: Experiment, confidence: float) -> Figure:
    """Draw effective gradient norm and training loss against the effective learning rate.

    Left, the path of each point over the tenths of its training, with the lines on which the norm is in
    equilibrium, effective learning rate times gradient norm = sqrt(2 lambda_e). Right, the late training loss.
    """
    points = drawing.drawn_points(table, experiment)
    figure, ((plane, loss),) = style.panels(1, 2, 3.3)
    rates = sorted({drawing.rounded(point.intrinsic_lr) for point in points})
    colours = style.ordered_colours(rates) if rates != [0.0] else {0.0: "0.3"}
    # On the sphere the effective learning rate itself tells these axes apart.
    on_axis = [point for point in points if point.constraint == "sphere"]
    texts = drawing.variants(points, {point.name: ("lr", "init_scale") for point in on_axis})
    lines = drawing.lines_of(texts.values())
    late = table.sort_values("part").drop_duplicates("point", keep="last")
    regimes = {point: _regime(last) for point, last in late.set_index("point").iterrows()}
    for point in points:
        if texts[point.name] not in lines:
            continue
        path = table[table["point"] == point.name].sort_values("part")
        line_style = {"color": colours[drawing.rounded(point.intrinsic_lr)], "alpha": 0.6, "lw": 0.8}
        line_style |= {"ms": 2, "markevery": (0, 3), **lines[texts[point.name]]}
        plane.plot(path["effective_lr_mean"], path["effective_gradient_norm_mean"], **line_style)
        last = path.iloc[-1]
        for panel, value in ((plane, "effective_gradient_norm"), (loss, "batch_loss")):
            estimate = [last[f"{value}_{part}"] for part in ("mean", "low", "high")]
            look = {"color": line_style["color"], "marker": _REGIMES[regimes[point.name]], "ms": 5, "lw": 1}
            style.error_bar(panel, last["effective_lr_mean"], estimate, **look)
    span = np.array([late["effective_lr_mean"].min(), late["effective_lr_mean"].max()])
    following = {drawing.rounded(point.intrinsic_lr) for point in points if point.optimiser == "sgd"}
    shown = [rate for rate in style.spread(rates, 5) if rate > 0 and rate in following]
    for rate in shown:
        plane.plot(span, (2 * rate) ** 0.5 / span, color=colours[rate], ls=":", lw=1.1)
    norms = table["effective_gradient_norm_mean"]
    if (norms > 0).any():
        plane.set_ylim(norms[norms > 0].min() / 2, norms.max() * 2)
    for panel, values in ((plane, table["effective_lr_mean"]), (loss, late["effective_lr_mean"])):
        style.logarithmic(panel, "x", values)
        panel.set(xlabel=f"effective learning rate {drawing.effective_lr_text(points)} (per step)")
    style.logarithmic(plane, "y", norms)
    style.logarithmic(loss, "y", late["batch_loss_mean"])
    plane.set(ylabel=r"effective gradient norm $\|\hat g\|$", title="Phase diagram")
    loss.set(ylabel="training loss of a mini-batch (nats)", title="Loss in the last tenth")
    handles = [style.handle(rf"$\lambda_e$ = {style.scientific(rate)}", color=colours[rate]) for rate in shown]
    if len(lines) > 1:
        handles += [style.handle(text, color="0.3", lw=0.8, ms=2, **line) for text, line in lines.items()]
    for name, marker in _REGIMES.items():
        if name in regimes.values():
            handles.append(style.handle(name.replace("_", " "), color="0.3", marker=marker, ls="", ms=5))
    if shown:
        label = r"equilibrium: $\|\hat g\|\,\eta/\|w\|^2 = (2\lambda_e)^{1/2}$"
        handles.append(style.handle(label, color="0.3", ls=":"))
    note = f"{drawing.mean_note(late, confidence, 'interval')} per setting"
    note = f"markers: last tenth of the training, {note}{drawing.left_out(texts.values(), lines)}"
    style.legend_below(figure, handles, 4, note)
    figure.suptitle(f"Gradient norm and loss against the effective learning rate ({experiment.words})")
    return figure


_UNKNOWN = "regime not known"
_REGIMES = {CONVERGING: "o", CHAOTIC: "s", DIVERGED: "X", _UNKNOWN: "."}


def _regime(last: pd.Series) -> str:
    """Return the regime that most replicates of a point end in, the first of several."""
    counts = last[[CONVERGING, CHAOTIC, DIVERGED]].astype(float).fillna(0)
    return str(counts.idxmax()) if counts.max() > 0 else _UNKNOWN
