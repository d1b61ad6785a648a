"""The recursion of the norm along real runs, R' = (1 - lambda_e)^2 R + eta^2 ||g^||^2 / R, exact but for rounding.

It holds because a scale-invariant loss has a gradient orthogonal to the weights (derived, F6). Two controls break
it: momentum, whose update is not the one of the recursion, and trained scales and shifts in the norms, counted as
weights, with which the gradient is not orthogonal.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from intrinsic_lr.analyses.tables import with_point
from intrinsic_lr.claims.shared.exact import worst_finding
from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec
from intrinsic_lr.claims.shared.verdicts import Finding
from intrinsic_lr.core.seeding import stream_seed
from intrinsic_lr.figures.style import MARKERS, legend_below, panels, spread, styled
from intrinsic_lr.stats.theory import norm_recursion_residual

PLAIN, MOMENTUM, AFFINE = "plain", "momentum", "affine"
EPSILON = {"float32": float(np.finfo(np.float32).eps), "float64": float(np.finfo(np.float64).eps)}
_SMALLEST = 1e-3
"""Where a residual of zero is drawn, in machine epsilons."""


def measure(data: ClaimData) -> pd.DataFrame:
    """Return the relative residual of every logged step: one row per run, step and replicate."""
    parts = [_plain(data, role) for role in ("long", "exact")]
    parts += [_with_momentum(data, "exact"), _affine(data, "exact")]
    table = pd.concat(parts, ignore_index=True)
    return table.assign(epsilons=table["residual"] / table["dtype"].map(EPSILON))


def _plain(data: ClaimData, role: str) -> pd.DataFrame:
    """Return the residuals that the histories of runs without momentum hold."""
    history = data.history(role)
    dtype = {point["name"]: point["dtype"] for point in data.spec.points(role)}
    rows = history[(history["momentum"] == 0) & (history["step"] > 0)]
    columns = ["point", "schedule", "lr", "intrinsic_lr", "momentum", "step", "replicate"]
    found = rows[columns].assign(residual=rows["norm_recursion_residual"], dtype=rows["point"].map(dtype))
    return found.assign(part=PLAIN, role=role)


def _with_momentum(data: ClaimData, role: str) -> pd.DataFrame:
    """Return the residuals of runs with momentum, from the norms of successive steps in their traces."""
    points = [point for point in data.spec.points(role) if point["momentum"] > 0]
    parts = []
    for point in points:
        trace = data.ensemble(role, point).trace().sort_values(["replicate", "step"])
        by_replicate = trace.groupby("replicate")
        before = by_replicate["squared_norm"].shift()
        # Only rows of successive steps: at their first step both updates are one.
        follows = (by_replicate["step"].diff() == 1) & (trace["step"] > 1)
        residual = norm_recursion_residual(
            before, trace["squared_norm"], trace["lr"], trace["weight_decay"], trace["unit_gradient_squared_norm"]
        )
        found = trace[["step", "replicate"]].assign(residual=residual, dtype=point["dtype"])[follows]
        found = with_point(found, point)
        columns = ["point", "schedule", "lr", "intrinsic_lr", "momentum", "step", "replicate", "residual", "dtype"]
        parts.append(found[columns].assign(part=MOMENTUM, role=role))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _affine(data: ClaimData, role: str) -> pd.DataFrame:
    """Train a network with scales and shifts at the first point's rates; return the residuals of all weights."""
    import torch

    from intrinsic_lr.models.ensemble import build
    from intrinsic_lr.models.gradients import gradients
    from intrinsic_lr.stats.geometry import squared_norms
    from intrinsic_lr.study.model_spec import ModelSpec
    from intrinsic_lr.training.loop import update
    from intrinsic_lr.training.state import State

    spec = data.spec
    point = spec.points(role)[0]
    dataset = data.dataset(point["dataset"], point["dtype"])
    model_spec = ModelSpec.parse(spec.settings["model"])
    model = build(model_spec, tuple(dataset.info["shape"]), len(dataset.info["classes"]))
    replicates = spec.experiments[role]["replicates"]
    seeds = [stream_seed(spec.seed, "claim", spec.name, replicate) for replicate in range(replicates)]
    params = model.initialize(seeds, 1.0, dataset.mean.dtype, stream_seed(spec.seed, "head"))
    state = State.of_params({name: value.to(dataset.mean.device) for name, value in params.items()})
    generator = torch.Generator().manual_seed(stream_seed(spec.seed, "claim", spec.name, "batches"))
    every, lr, weight_decay = {"all": model.trainable}, point["lr"], point["weight_decay"]
    parts = []
    for step in range(1, int(spec.settings["steps"]) + 1):
        before = squared_norms(state.params, every)["all"]
        _, found = gradients(model, state.params, *dataset.draw(replicates, point["batch_size"], generator))
        update(state, found, lr, weight_decay, 0.0)
        after, gradient = squared_norms(state.params, every)["all"], squared_norms(found, every)["all"]
        residual = norm_recursion_residual(before, after, lr, weight_decay, gradient * before)
        parts.append(
            pd.DataFrame({"step": step, "replicate": range(replicates), "residual": residual.cpu().numpy()})
        )
    named = {"part": AFFINE, "role": role, "schedule": "constant", "dtype": point["dtype"], "momentum": 0.0}
    rates = {"lr": lr, "intrinsic_lr": point["intrinsic_lr"], "point": f"{point['name']}-affine"}
    return pd.concat(parts, ignore_index=True).assign(**named, **rates)


def judge(table: pd.DataFrame, spec: ClaimSpec) -> list[Finding]:
    """Hold the worst residual over runs, replicates and steps, in machine epsilons, against the threshold.

    Of the controls every run has to break the recursion at some step: the best run decides.
    """
    plain = table["part"] == PLAIN
    selections = [
        (
            f"Runs without momentum in {dtype} follow the recursion.",
            plain & (table["dtype"] == dtype),
            _runs(spec, ("long", "exact"), lambda point, dtype=dtype: _plain_in(point, dtype)),
            ["long", "exact"],
            False,
        )
        for dtype in EPSILON
    ]
    selections += [
        (
            "Runs with momentum follow it.",
            table["part"] == MOMENTUM,
            _runs(spec, ("exact",), lambda point: point["momentum"] > 0),
            ["exact"],
            True,
        ),
        (
            "With trained scales and shifts all weights follow it.",
            table["part"] == AFFINE,
            spec.experiments["exact"]["replicates"],
            ["exact"],
            True,
        ),
    ]
    findings = []
    for statement, chosen, planned, roles, control in selections:
        rows = table[chosen]
        findings.append(
            worst_finding(
                rows,
                "epsilons",
                ["point", "replicate"],
                planned,
                spec,
                statement,
                "largest relative residual in machine epsilons",
                spec.thresholds["epsilons"],
                control=control,
                roles=list(dict.fromkeys(rows["role"])) or roles,
            )
        )
    return findings


def _plain_in(point: Mapping[str, Any], dtype: str) -> bool:
    return point["momentum"] == 0 and point["dtype"] == dtype


def _runs(spec: ClaimSpec, roles: Sequence[str], chosen: Callable[[Mapping[str, Any]], bool]) -> int:
    """Return the number of planned runs (point, replicate) of some roles' chosen points."""
    runs = {
        (point["name"], replicate)
        for role in roles
        for point in spec.points(role)
        if chosen(point)
        for replicate in range(spec.experiments[role]["replicates"])
    }
    return len(runs)


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
    handles = []
    for ((part, dtype), (colour, label)), marker in zip(looks.items(), MARKERS, strict=False):
        rows = table[(table["part"] == part) & (table["dtype"] == dtype) & np.isfinite(table["epsilons"])]
        for _, run in rows.groupby("point"):
            largest = run.groupby("step")["epsilons"].max().clip(lower=_SMALLEST)
            largest = largest.loc[spread(list(largest.index), 60)]
            ax.plot(largest.index, largest, color=colour, marker=marker, ms=2.5, lw=0.7)
        handles.append(Line2D([], [], color=colour, marker=marker, ms=4, lw=1, label=label))
    ax.axhline(spec.thresholds["epsilons"], color="tab:red", lw=1, ls=":")
    handles.append(Line2D([], [], color="tab:red", ls=":", label="threshold"))
    ax.set(xscale="log", yscale="log", xlabel="step", ylabel="relative residual / machine epsilon")
    runs = len(table[["part", "point", "replicate"]].drop_duplicates())
    legend_below(
        figure, handles, 3, f"each line: the largest residual of a point's replicates; {runs} runs in all"
    )
    figure.suptitle(r"The norm follows $R'=(1-\lambda_e)^2R+\eta^2\|\hat g\|^2/R$ to rounding, step by step")
    return figure
