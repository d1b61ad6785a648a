"""Training curves of an experiment: mean and interval over replicates at every logged step."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from intrinsic_lr.analyses.tables import AnalysisData, with_point
from intrinsic_lr.figures import style
from intrinsic_lr.stats.intervals import summarize
from intrinsic_lr.stats.theory import equilibrium_effective_lr
from intrinsic_lr.study.experiment import Experiment

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
def draw_curves(table: pd.DataFrame, experiment: Experiment) -> Figure:
    """Draw squared norm and effective learning rate over time, with the equilibrium that theory expects."""
    # Grids are rounded: rates that agree to two digits are one.
    table = table.assign(intrinsic_lr=[float(f"{rate:.1e}") for rate in table["intrinsic_lr"]])
    points = table.drop_duplicates("point").reset_index(drop=True)
    timed = bool((points["intrinsic_lr"] > 0).all())
    x, label = ("intrinsic_time", r"$\lambda_e t$") if timed else ("step", "steps")
    rates = sorted(points["intrinsic_lr"].unique())
    colours = style.ordered_colours(rates)
    references = {rate: points[points["intrinsic_lr"] == rate].iloc[0] for rate in rates}
    of_point = {p["point"]: _variant(p, references[p["intrinsic_lr"]]) for _, p in points.iterrows()}
    variants = list(dict.fromkeys(of_point.values()))
    dashes = {variant: style.DASHES[index % len(style.DASHES)] for index, variant in enumerate(variants)}
    figure, ((norm, effective),) = style.panels(1, 2, 3.0)
    for _, point in points.iterrows():
        rows = table[table["point"] == point["point"]]
        rate, variant = point["intrinsic_lr"], of_point[point["point"]]
        # The first line is broad and pale, so that one that coincides with it shows on top.
        width = _REFERENCE if variant == variants[0] and len(variants) > 1 else {"lw": 1.3}
        line_style = {"color": colours[rate], "ls": dashes[variant], **width}
        style.band(norm, rows, x, "squared_norm", **line_style)
        style.band(effective, rows, x, "effective_lr", **line_style)
    for rate, point in references.items():
        expected = _expected_effective_lr(table[table["point"] == point["point"]], point)
        if np.isfinite(expected):
            effective.axhline(expected, color=colours[rate], **_EXPECTED)
    style.logarithmic(norm, "y", table["squared_norm_mean"])
    style.logarithmic(effective, "y", table["effective_lr_mean"])
    norm.set(xlabel=label, ylabel=r"squared norm $\|w\|^2$", title="Norm of the weights")
    effective.set(xlabel=label, ylabel=r"$\eta / \|w\|^2$ (per step)", title="Effective learning rate")
    handles = [style.handle(rf"$\lambda_e$ = {style.scientific(rate)}", color=colours[rate]) for rate in rates]
    if len(variants) > 1:
        handles.append(style.handle(variants[0], color="0.3", **_REFERENCE))
        handles += [style.handle(name, color="0.3", ls=dashes[name], lw=1.3) for name in variants[1:]]
    if any(line.get_gid() == _EXPECTED["gid"] for line in effective.get_lines()):
        label = r"expected: $(2\lambda_e/E\|\hat g\|^2)^{1/2}$"
        handles.append(style.handle(label, color="0.3", **_EXPECTED))
    style.legend_below(figure, handles, 4, f"mean and 95 % band over {style.replicates_text(table)} per setting")
    figure.suptitle(f"Norm and effective learning rate over time ({experiment.name})")
    return figure


_REFERENCE = {"lw": 3.2, "alpha": 0.45}
_EXPECTED = {"lw": 1.0, "ls": (0, (8, 3)), "alpha": 0.9, "gid": "expected"}
_SYMBOLS = {"lr": r"$\eta$", "momentum": r"$\mu$", "init_seed": "initialisation", "init_scale": "initial scale"}


def _variant(point: pd.Series, reference: pd.Series) -> str:
    """Name what sets a point apart from the first one of its intrinsic learning rate."""
    parts = []
    for axis in ("lr", "momentum", "init_seed", "init_scale", "batch_size", "schedule", "model"):
        if point[axis] != reference[axis]:
            text = style.scientific(point[axis]) if isinstance(point[axis], float) else point[axis]
            sign = " = " if axis in ("lr", "momentum") else " "
            parts.append(f"{_SYMBOLS.get(axis, axis.replace('_', ' '))}{sign}{text}")
    return ", ".join(parts) or "reference"


def _expected_effective_lr(rows: pd.DataFrame, point: pd.Series) -> float:
    """Return the equilibrium of the paper's equation for the squared gradient norm measured late in the run."""
    if point["momentum"] != 0 or point["weight_decay"] == 0 or point["schedule"] != "constant":
        return float("nan")
    late = rows[rows["step"] >= 0.75 * rows["step"].max()]["unit_gradient_squared_norm_mean"].mean()
    return float(equilibrium_effective_lr(point["lr"], point["weight_decay"], late)) if late > 0 else float("nan")
