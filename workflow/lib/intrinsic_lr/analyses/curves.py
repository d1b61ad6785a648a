"""Training curves of an experiment: mean and interval over replicates at every logged step."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from intrinsic_lr.analyses import drawing
from intrinsic_lr.analyses.tables import AnalysisData, with_point
from intrinsic_lr.figures import style
from intrinsic_lr.stats.intervals import summarize
from intrinsic_lr.stats.theory import equilibrium_effective_lr
from intrinsic_lr.study.experiment import Experiment, PlannedPoint

QUANTITIES = [
    "train_loss", "train_accuracy", "test_loss", "test_accuracy", "squared_norm", "effective_lr",
    "unit_gradient_squared_norm", "angle", "norm_recursion_residual",
]  # fmt: skip


def measure(data: AnalysisData) -> dict[str, pd.DataFrame]:
    """Return the table `curves`."""
    tables = []
    for point in data.experiment.points:
        history = data.ensembles[point.name].history()
        history = history[history["step"] <= point.length]
        history = history.rename(columns={"lr": "lr_now", "weight_decay": "weight_decay_now"})
        table = summarize(history, ["step", "lr_now", "weight_decay_now"], QUANTITIES, data.settings["confidence"])
        table.insert(1, "intrinsic_time", table["step"] * point.intrinsic_lr)
        tables.append(with_point(table, point))
    return {"curves": pd.concat(tables)}


@style.styled
def draw_curves(table: pd.DataFrame, experiment: Experiment, confidence: float) -> Figure:
    """Draw squared norm and effective learning rate over time, with the equilibrium that theory expects."""
    points = drawing.drawn_points(table, experiment)
    timed = all(point.intrinsic_lr > 0 for point in points)
    x, label = ("intrinsic_time", r"$\lambda_e t$") if timed else ("step", "steps")
    rates = sorted({drawing.rounded(point.intrinsic_lr) for point in points})
    colours, texts = style.ordered_colours(rates), drawing.variants(points)
    lines = drawing.lines_of(texts.values())
    # The first line is broad and pale, so that one that coincides with it shows on top.
    broad = drawing.REFERENCE if len(lines) > 1 else None
    figure, ((norm, effective),) = style.panels(1, 2, 3.0)
    expected = {}
    for point in points:
        rows = table[table["point"] == point.name]
        rate, text = drawing.rounded(point.intrinsic_lr), texts[point.name]
        if text in lines:
            line_style = {"color": colours[rate], **_line(lines[text], text == broad)}
            style.band(norm, rows, x, "squared_norm", **line_style)
            style.band(effective, rows, x, "effective_lr", **line_style)
        expected.setdefault(rate, _expected_effective_lr(rows, point))
    drawn = {rate: value for rate, value in expected.items() if np.isfinite(value)}
    for rate, value in drawn.items():
        effective.axhline(value, color=colours[rate], **_EXPECTED)
    style.logarithmic(norm, "y", table["squared_norm_mean"])
    style.logarithmic(effective, "y", table["effective_lr_mean"])
    norm.set(xlabel=label, ylabel=r"squared norm $\|w\|^2$", title="Norm of the weights")
    formula = drawing.effective_lr_text(points)
    effective.set(xlabel=label, ylabel=f"{formula} (per step)", title="Effective learning rate")
    handles = [style.handle(rf"$\lambda_e$ = {style.scientific(rate)}", color=colours[rate]) for rate in rates]
    if len(lines) > 1:
        handles += [style.handle(text, color="0.3", **_line(line, text == broad)) for text, line in lines.items()]
    if drawn:
        label = r"expected: $(2\lambda_e/E\|\hat g\|^2)^{1/2}$"
        handles.append(style.handle(label, color="0.3", **_EXPECTED))
    note = f"{drawing.mean_note(table, confidence)} per setting"
    style.legend_below(figure, handles, 4, note + drawing.left_out(texts.values(), lines))
    figure.suptitle(f"Norm and effective learning rate over time ({experiment.words})")
    return figure


_EXPECTED = {"lw": 1.0, "ls": (0, (8, 3)), "alpha": 0.9}


def _line(line: dict[str, Any], broad: bool) -> dict[str, Any]:
    return {"lw": 3.2, "alpha": 0.45} if broad else {"lw": 1.3, "ms": 3, "markevery": 0.1, **line}


def _expected_effective_lr(rows: pd.DataFrame, point: PlannedPoint) -> float:
    """Return the equilibrium of the paper's equation for the squared gradient norm measured late in the run."""
    plain = point.optimiser == "sgd" and point.momentum == 0
    if not plain or point.weight_decay == 0 or point.schedule != "constant":
        return float("nan")
    late = rows[rows["step"] >= 0.75 * rows["step"].max()]["unit_gradient_squared_norm_mean"].mean()
    return float(equilibrium_effective_lr(point.lr, point.weight_decay, late)) if late > 0 else float("nan")
