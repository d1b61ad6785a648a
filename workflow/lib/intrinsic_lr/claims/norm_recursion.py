"""The recursion of the norm along real runs, R' = (1 - lambda_e)^2 R + eta^2 ||g^||^2 / R, exact but for rounding.

It holds because a scale-invariant loss has a gradient orthogonal to the weights (derived, F6). Two controls break
it: momentum, whose update is not the one of the recursion, and trained scales and shifts in the norms, counted as
weights, with which the gradient is not orthogonal.
"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from intrinsic_lr.analyses.tables import with_point
from intrinsic_lr.claims.shared.exact import plot_largest, worst_finding
from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec
from intrinsic_lr.claims.shared.verdicts import Findings
from intrinsic_lr.core.seeding import stream_seed
from intrinsic_lr.figures.style import MARKERS, labelled, legend_below, panels, styled
from intrinsic_lr.stats.theory import norm_recursion_residual
from intrinsic_lr.study.experiment import PlannedPoint

PLAIN, MOMENTUM, AFFINE = "plain", "momentum", "affine"
EPSILON = {"float32": float(np.finfo(np.float32).eps), "float64": float(np.finfo(np.float64).eps)}
_SMALLEST = 1e-3
"""Where a residual of zero is drawn, in machine epsilons."""
_COLUMNS = ["point", "schedule", "lr", "intrinsic_lr", "momentum", "step", "replicate", "residual", "dtype"]


def measure(data: ClaimData) -> pd.DataFrame:
    """Return the relative residual of every logged step: one row per run, step and replicate."""
    parts = [_plain(data, role).assign(part=PLAIN, role=role) for role in ("long", "exact")]
    parts += [_with_momentum(data, point) for point in data.spec.points("exact") if point.momentum > 0]
    parts.append(_affine(data))
    table = pd.concat(parts, ignore_index=True)
    return table.assign(epsilons=table["residual"] / table["dtype"].map(EPSILON))


def _plain(data: ClaimData, role: str) -> pd.DataFrame:
    """Return the residuals that the histories of runs without momentum hold."""
    history = data.history(role)
    dtypes = {point.name: point.dtype for point in data.spec.points(role)}
    rows = history[(history["momentum"] == 0) & (history["step"] > 0)]
    return rows.assign(residual=rows["norm_recursion_residual"], dtype=rows["point"].map(dtypes))[_COLUMNS]


def _with_momentum(data: ClaimData, point: PlannedPoint) -> pd.DataFrame:
    """Return the residuals of a point with momentum, from the norms of successive steps in its trace."""
    trace = data.ensemble("exact", point).trace().sort_values(["replicate", "step"])
    before = trace.groupby("replicate")[["step", "squared_norm"]].shift()
    of_step = (trace[name] for name in ("squared_norm", "lr", "weight_decay", "unit_gradient_squared_norm"))
    residual = norm_recursion_residual(before["squared_norm"], *of_step)
    found = trace[["step", "replicate"]].assign(residual=residual, dtype=point.dtype)
    # Only rows of successive steps: at their first step both updates are one.
    found = found[(before["step"] == trace["step"] - 1) & (trace["step"] > 1)]
    return with_point(found, point)[_COLUMNS].assign(part=MOMENTUM, role="exact")


def _affine(data: ClaimData) -> pd.DataFrame:
    """Train a network with scales and shifts at the first point's rates; return the residuals of all weights."""
    import torch

    from intrinsic_lr.models.ensemble import build
    from intrinsic_lr.models.gradients import gradients
    from intrinsic_lr.models.optimisers import Rates, sgd
    from intrinsic_lr.stats.geometry import squared_norms
    from intrinsic_lr.study.model_spec import ModelSpec

    spec, point, replicates = data.spec, data.spec.points("exact")[0], data.spec.replicates("exact")
    dataset, model_spec = data.dataset(point.dataset, point.dtype), ModelSpec.from_string(spec.settings["model"])
    model = build(model_spec, tuple(dataset.info["shape"]), len(dataset.info["classes"]))
    seeds = [spec.stream(replicate) for replicate in range(replicates)]
    params = model.initialize(seeds, 1.0, dataset.mean.dtype, stream_seed(spec.seed, "head"))
    params = {name: value.to(dataset.mean.device) for name, value in params.items()}
    generator = torch.Generator().manual_seed(spec.stream("batches"))
    parts = []
    for step in range(1, int(spec.settings["steps"]) + 1):
        before = squared_norms(params, {"all": model.trainable})["all"]
        _, found = gradients(model, params, *dataset.draw(replicates, point.batch_size, generator))
        rates = Rates(step, point.lr, point.weight_decay)
        sgd([params[name] for name in found], list(found.values()), {}, rates, momentum=0.0, nesterov=False)
        after, gradient = (squared_norms(of, {"all": model.trainable})["all"] for of in (params, found))
        residual = norm_recursion_residual(before, after, point.lr, point.weight_decay, gradient * before)
        columns = {"step": step, "replicate": range(replicates), "residual": residual.cpu().numpy()}
        parts.append(pd.DataFrame(columns))
    named = {"part": AFFINE, "role": "exact", "schedule": "constant", "dtype": point.dtype, "momentum": 0.0}
    named |= {"lr": point.lr, "intrinsic_lr": point.intrinsic_lr, "point": f"{point.name}-affine"}
    return pd.concat(parts, ignore_index=True).assign(**named)


def judge(table: pd.DataFrame, spec: ClaimSpec) -> Findings:
    """Compare the worst residual over runs, replicates and steps, in machine epsilons, with the threshold.

    Of the controls every run has to break the recursion at some step: the best run decides.
    """
    # A run that both roles hold counts once.
    plain = {
        (point.name, replicate): point.dtype
        for role in ("long", "exact")
        for point in spec.points(role)
        for replicate in range(spec.replicates(role))
        if point.momentum == 0
    }
    count = spec.replicates("exact")
    moving, rows = count * sum(point.momentum > 0 for point in spec.points("exact")), table[table["part"] == PLAIN]
    selections = [
        (f"Runs without momentum in {dtype} follow the recursion.", rows[rows["dtype"] == dtype],
         list(plain.values()).count(dtype), ["long", "exact"])
        for dtype in EPSILON
    ]  # fmt: skip
    affine = "With trained scales and shifts all weights follow it."
    selections.append(("Runs with momentum follow it.", table[table["part"] == MOMENTUM], moving, ["exact"]))
    selections.append((affine, table[table["part"] == AFFINE], count, ["exact"]))
    statistic, limit = "largest relative residual in machine epsilons", spec.thresholds["epsilons"]
    for statement, rows, planned, roles in selections:
        asked = spec, statement, statistic, limit, *(dict.fromkeys(rows["role"]) or roles)
        yield worst_finding(rows, "epsilons", ["point", "replicate"], planned, *asked, control=roles == ["exact"])


@styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw the largest residual of replicates against the step, in machine epsilons, with the threshold."""
    figure, ((ax,),) = panels(1, 1, 3.2)
    looks = {
        (PLAIN, "float32"): ("#0072B2", "float32"),
        (PLAIN, "float64"): ("#009E73", "float64"),
        (MOMENTUM, "float64"): ("#D55E00", "control: momentum, float64"),
        (AFFINE, "float64"): ("0.45", "control: trained affine, float64"),
    }
    for ((part, dtype), (colour, label)), marker in zip(looks.items(), MARKERS, strict=False):
        look = {"color": colour, "label": label, "marker": marker, "ms": 2.5, "lw": 0.7}
        for _, run in table[(table["part"] == part) & (table["dtype"] == dtype)].groupby("point"):
            plot_largest(ax, run, "epsilons", _SMALLEST, **look)
    ax.axhline(spec.thresholds["epsilons"], color="tab:red", lw=1, ls=":", label="threshold")
    ax.set(xscale="log", yscale="log", xlabel="step", ylabel="relative residual / machine epsilon")
    runs = len(table[["part", "point", "replicate"]].drop_duplicates())
    note = f"each line: the largest residual of a point's replicates; {runs} runs in all"
    title = r"The norm follows $R'=(1-\lambda_e)^2R+\eta^2\|\hat g\|^2/R$ to rounding, step by step"
    return legend_below(figure, labelled(figure), 3, note, title)
