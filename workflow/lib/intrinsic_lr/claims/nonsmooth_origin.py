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

from intrinsic_lr.claims.shared.exact import network_names
from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec
from intrinsic_lr.claims.shared.verdicts import Findings, Range
from intrinsic_lr.core.seeding import stream_seed
from intrinsic_lr.figures.style import MARKERS, labelled, legend_below, ordered_colours, panels, styled
from intrinsic_lr.study.model_spec import ModelSpec

SAME, FRESH, CONTROL = "same_direction", "fresh_direction", "all_trained"
_SLOPE = "log-log slope of the top Hessian eigenvalue against the norm"


def measure(data: ClaimData) -> pd.DataFrame:
    """Return norms and top eigenvalues: one row per part, model, replicate and factor."""
    spec = data.spec
    dataset, texts = data.dataset(spec.settings["dataset"], "float64"), spec.settings["models"]
    parts = []
    for (text, name), part in product(zip(texts, network_names(texts), strict=True), (SAME, FRESH, CONTROL)):
        parts.append(_curvatures(part, ModelSpec.from_string(text), dataset, spec).assign(model=name))
    return pd.concat(parts, ignore_index=True)[["model", "part", "replicate", "factor", "norm", "top_eigenvalue"]]


def _curvatures(part: str, model_spec: ModelSpec, dataset, spec: ClaimSpec) -> pd.DataFrame:
    import torch

    from intrinsic_lr.claims.shared.curvature import Derivatives
    from intrinsic_lr.models.ensemble import build

    settings, parts = spec.settings, []
    model_spec = replace(model_spec, head="trained", affine=True) if part == CONTROL else model_spec
    model = build(model_spec, tuple(dataset.info["shape"]), len(dataset.info["classes"]))
    replicates, head = range(int(settings["replicates"])), stream_seed(spec.seed, "head")
    for number, factor in enumerate(settings["factors"]):
        # Along a fresh direction initialisation and mini-batch are new at every norm, otherwise they stay.
        which = number if part == FRESH else 0
        params = model.initialize([spec.stream(which, k) for k in replicates], 1.0, torch.float64, head)
        params |= {name: params[name] * factor for name in model.trainable}
        params = {name: value.to(dataset.mean.device) for name, value in params.items()}
        generator = torch.Generator().manual_seed(spec.stream("batch", which))
        batch = dataset.draw(len(replicates), int(settings["batch_size"]), generator)
        derivatives = Derivatives(model, params, *batch, model.trainable)
        top = derivatives.top_eigenvalue(int(settings["iterations"]), generator, settings["tolerance"])
        columns = {"norm": derivatives.weights.norm(dim=1).cpu().numpy(), "top_eigenvalue": top.cpu().numpy()}
        parts.append(pd.DataFrame({"part": part, "replicate": replicates, "factor": factor, **columns}))
    return pd.concat(parts)


def slope(norm: np.ndarray, eigenvalue: np.ndarray) -> float:
    """Return the least-squares slope of the logarithms; NaN where all norms are one."""
    if len(np.unique(norm)) < 2:
        return np.nan
    return float(np.polyfit(np.log(norm), np.log(eigenvalue), 1)[0])


def judge(table: pd.DataFrame, spec: ClaimSpec) -> Findings:
    """Judge the slope of every model and part by its bootstrap interval over replicates.

    An eigenvalue that is missing at one norm leaves the replicate out: the others would lean to their norms.
    """
    kinds = (
        (SAME, spec.criterion, "Along a direction the curvature of {} grows like 1/||w||^2."),
        (FRESH, spec.criterion, "Over independent networks the curvature of {} grows like 1/||w||^2."),
        (CONTROL, spec.control, "So it does where head, scales and shifts of {} are trained and scaled too."),
    )
    allowed = Range.about(-2, spec.thresholds["slope_margin"])
    for (part, judged, text), model in product(kinds, network_names(spec.settings["models"])):
        rows = table[(table["part"] == part) & (table["model"] == model)]
        norms = rows.pivot(index="replicate", columns="factor", values="norm")
        values = rows.pivot(index="replicate", columns="factor", values="top_eigenvalue")
        usable = (np.isfinite(values) & (values > 0)).all(axis=1)
        norms, values = norms[usable].to_numpy(), values[usable].to_numpy()

        def statistic(drawn: np.ndarray, norms=norms, values=values) -> float:
            return slope(norms[drawn].ravel(), values[drawn].ravel())

        estimate = spec.bootstrap(statistic, [len(norms)], part, model)
        yield judged(text.format(model), _SLOPE, estimate, allowed=allowed)


@styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw the top eigenvalue against the norm for each model, with slope -2 through the middle."""
    models = list(dict.fromkeys(table["model"]))
    figure, axes = panels(1, max(len(models), 1), 3.0, sharey=True)
    colours = ordered_colours([SAME, FRESH])
    looks = {
        SAME: {"color": colours[SAME], "label": "one direction, all norms"},
        FRESH: {"color": colours[FRESH], "label": "own direction at each norm"},
        CONTROL: {"color": "#D55E00", "label": "control: head, scales and shifts trained too"},
    }
    finite = table[(table["top_eigenvalue"] > 0) & np.isfinite(table["top_eigenvalue"])]
    for ax, model in zip(axes[0], models, strict=False):
        shown = finite[finite["model"] == model]
        for (part, look), shift, marker in zip(looks.items(), (0.96, 1.04, 1.0), MARKERS, strict=False):
            rows = shown[shown["part"] == part]
            ax.plot(rows["norm"] * shift, rows["top_eigenvalue"], marker, ms=3, mew=0.8, mfc="none", **look)
        straight = shown[shown["part"] == SAME]
        if len(straight):
            middle = np.exp(np.log(straight[["norm", "top_eigenvalue"]]).mean())
            norms = np.array([straight["norm"].min(), straight["norm"].max()])
            line = middle["top_eigenvalue"] * (norms / middle["norm"]) ** -2
            ax.plot(norms, line, color="0.3", lw=0.9, zorder=1, label="slope $-2$")
        ax.set(xscale="log", yscale="log", xlabel=r"norm $\|w\|$", title=model)
    axes[0, 0].set_ylabel("top eigenvalue of the Hessian")
    note = f"each marker: one of {table['replicate'].nunique()} networks at initialisation, on a mini-batch"
    return legend_below(figure, labelled(figure), 2, note, "The loss gets ever less smooth towards the origin")
