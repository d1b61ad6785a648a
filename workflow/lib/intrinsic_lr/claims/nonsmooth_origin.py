"""Curvature towards the origin: the top Hessian eigenvalue against the norm of the weights, log-log slope -2.

Hess L(c w) = Hess L(w) / c^2 (derived, F1). Along one direction the slope is exact but for the iteration's
tolerance; with a direction of its own at every norm it is a regression. The control trains head, scales and shifts
as well, and takes all trained weights for w: its loss is not scale-invariant.
"""

from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from intrinsic_lr.claims.shared.exact import network_names
from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec
from intrinsic_lr.claims.shared.verdicts import Finding, Range
from intrinsic_lr.core.seeding import stream_seed
from intrinsic_lr.figures.style import MARKERS, legend_below, ordered_colours, panels, styled
from intrinsic_lr.stats.intervals import bootstrap_interval
from intrinsic_lr.study.model_spec import ModelSpec

SAME, FRESH, CONTROL = "same_direction", "fresh_direction", "all_trained"


def measure(data: ClaimData) -> pd.DataFrame:
    """Return norms and top eigenvalues: one row per part, model, replicate and factor."""
    spec = data.spec
    dataset = data.dataset(spec.settings["dataset"], "float64")
    rows = []
    texts = spec.settings["models"]
    for text, name in zip(texts, network_names(texts), strict=True):
        for part in (SAME, FRESH, CONTROL):
            rows += [{"model": name, **row} for row in _rows_of_part(part, ModelSpec.parse(text), dataset, spec)]
    return pd.DataFrame(rows)


def _rows_of_part(part: str, model_spec: ModelSpec, dataset, spec: ClaimSpec) -> list[dict[str, object]]:
    import torch

    from intrinsic_lr.claims.shared.curvature import Derivatives
    from intrinsic_lr.models.ensemble import build

    settings, rows = spec.settings, []
    model_spec = replace(model_spec, head="trained", affine=True) if part == CONTROL else model_spec
    model = build(model_spec, tuple(dataset.info["shape"]), len(dataset.info["classes"]))
    replicates = range(int(settings["replicates"]))

    def stream(*names: object) -> int:
        return stream_seed(spec.seed, "claim", spec.name, *names)

    for number, factor in enumerate(settings["factors"]):
        # Along a fresh direction initialisation and mini-batch are new at every norm, otherwise they stay.
        which = number if part == FRESH else 0
        params = model.initialize(
            [stream(which, replicate) for replicate in replicates],
            1.0,
            torch.float64,
            stream_seed(spec.seed, "head"),
        )
        params = {
            name: (value * factor if name in model.trainable else value).to(dataset.mean.device)
            for name, value in params.items()
        }
        generator = torch.Generator().manual_seed(stream("batch", which))
        batch = dataset.draw(len(replicates), int(settings["batch_size"]), generator)
        derivatives = Derivatives(model, params, *batch, model.trainable)
        eigenvalue = derivatives.top_eigenvalue(int(settings["iterations"]), generator, settings["tolerance"])
        norm = torch.cat([params[name].flatten(1) for name in model.trainable], dim=1).norm(dim=1)
        rows += [
            {
                "part": part,
                "replicate": replicate,
                "factor": factor,
                "norm": float(norm[replicate]),
                "top_eigenvalue": float(eigenvalue[replicate]),
            }
            for replicate in replicates
        ]
    return rows


def slope(norm: np.ndarray, eigenvalue: np.ndarray) -> float:
    """Return the least-squares slope of the logarithms; eigenvalues not finite and positive are left out."""
    usable = np.isfinite(eigenvalue) & (eigenvalue > 0)
    if len(np.unique(norm[usable])) < 2:
        return np.nan
    return float(np.polyfit(np.log(norm[usable]), np.log(eigenvalue[usable]), 1)[0])


def judge(table: pd.DataFrame, spec: ClaimSpec) -> list[Finding]:
    """Judge the slope of every model and part by its bootstrap interval over replicates."""
    margin = spec.thresholds["slope_margin"]
    texts = {
        SAME: (spec.criterion, "Along a direction the curvature of {} grows like 1/||w||^2."),
        FRESH: (spec.criterion, "Over independent networks the curvature of {} grows like 1/||w||^2."),
        CONTROL: (spec.control, "So it does where head, scales and shifts of {} are trained and scaled too."),
    }
    findings = []
    for part, model in product((SAME, FRESH, CONTROL), network_names(spec.settings["models"])):
        rows = table[(table["part"] == part) & (table["model"] == model)]
        finding, text = texts[part]
        norms, values = (
            rows.pivot(index="replicate", columns="factor", values=column).to_numpy()
            for column in ("norm", "top_eigenvalue")
        )
        # An eigenvalue that is missing at one norm leaves the replicate out: the others would lean to their norms.
        usable = (np.isfinite(values) & (values > 0)).all(axis=1)
        norms, values = norms[usable], values[usable]

        def statistic(drawn: np.ndarray, norms=norms, values=values) -> float:
            return slope(norms[drawn].ravel(), values[drawn].ravel())

        n = len(norms)
        interval = (np.nan, np.nan)
        if n:
            generator = spec.generator(part, model)
            interval = bootstrap_interval(statistic, [n], spec.analysis["bootstrap"], spec.confidence, generator)
        findings.append(
            finding(
                text.format(model),
                "log-log slope of the top Hessian eigenvalue against the norm",
                statistic(np.arange(n)) if n else np.nan,
                interval,
                n=n,
                allowed=Range(-2 - margin, -2 + margin),
            )
        )
    return findings


@styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw the top eigenvalue against the norm for each model, with slope -2 through the middle."""
    models = list(dict.fromkeys(table["model"]))
    figure, axes = panels(1, len(models), 3.0, sharey=True)
    colours = ordered_colours([SAME, FRESH])
    looks = {
        SAME: (colours[SAME], "one direction, all norms"),
        FRESH: (colours[FRESH], "own direction at each norm"),
        CONTROL: ("#D55E00", "control: head, scales and shifts trained too"),
    }
    for ax, model in zip(axes[0], models, strict=True):
        shown = table[
            (table["model"] == model) & (table["top_eigenvalue"] > 0) & np.isfinite(table["top_eigenvalue"])
        ]
        for (part, (colour, _)), marker, shift in zip(looks.items(), MARKERS, (0.96, 1.04, 1.0), strict=False):
            rows = shown[shown["part"] == part]
            ax.plot(
                rows["norm"] * shift,
                rows["top_eigenvalue"],
                ls="",
                marker=marker,
                ms=3,
                mfc="none",
                mew=0.8,
                color=colour,
            )
        straight = shown[shown["part"] == SAME]
        if len(straight):
            middle = np.exp(np.log(straight[["norm", "top_eigenvalue"]]).mean())
            norms = np.array([straight["norm"].min(), straight["norm"].max()])
            ax.plot(
                norms, middle["top_eigenvalue"] * (norms / middle["norm"]) ** -2, color="0.3", lw=0.9, zorder=1
            )
        ax.set(xscale="log", yscale="log", xlabel=r"norm $\|w\|$", title=model)
    axes[0, 0].set_ylabel("top eigenvalue of the Hessian")
    handles = [
        Line2D([], [], color=colour, marker=marker, mfc="none", ls="", ms=4, label=label)
        for (colour, label), marker in zip(looks.values(), MARKERS, strict=False)
    ]
    handles.append(Line2D([], [], color="0.3", lw=0.9, label="slope $-2$"))
    replicates = table["replicate"].nunique()
    legend_below(
        figure, handles, 2, f"each marker: one of {replicates} networks at initialisation, on a mini-batch"
    )
    figure.suptitle("The loss gets ever less smooth towards the origin")
    return figure
