"""The covariance of the gradient noise at equilibrium: over how many directions it spreads."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from intrinsic_lr.analyses.tables import with_point
from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec
from intrinsic_lr.claims.shared.verdicts import Findings, Range
from intrinsic_lr.figures.style import labelled, legend_below, ordered_colours, panels, styled
from intrinsic_lr.stats.intervals import mean_interval
from intrinsic_lr.stats.noise import isotropic_gram, isotropic_top_eigenvalue, noise_moments, top_eigenvalues

if TYPE_CHECKING:
    import torch

    from intrinsic_lr.data.dataset import Dataset
    from intrinsic_lr.models.ensemble import EnsembleModel

MEASURED, ISOTROPIC = "measured", "isotropic"
"""Kinds of rows: gradients of the network, and synthetic isotropic ones of the same number and size."""
EIGENVALUES = 40
"""So many of the largest eigenvalues are kept."""
_MOMENTS = (
    "squared_norm_of_batch", "squared_norm_of_mean", "trace", "trace_of_square", "participation_ratio",
    "share_of_tangent_dimension", "isotropic_top", "isotropic_top_same_lengths",
)  # fmt: skip
GRADIENT_ELEMENTS = 1 << 26
"""Gradients held at once, in numbers: bounds the memory."""

_LOW, _HIGH = 0.05, 0.95
"""Quantiles of the replicates between which a band is drawn."""


def measure(data: ClaimData) -> pd.DataFrame:
    """Return the moments and the largest eigenvalues of the noise, at each late checkpoint of each replicate.

    Gradients are taken at unit norm. The attainable dimension is that of all directions tangent to the spheres of
    the scale-invariant groups, or the number of training images less one where that is smaller. The latter is a
    convention: it bounds the rank of a mean of fixed gradients per image, which batch norm's are not.
    """
    spec, settings = data.spec, data.spec.settings
    parts = []
    for point in spec.points("equilibrium"):
        ensemble, dataset = data.ensemble("equilibrium", point), data.dataset(point.dataset, point.dtype)
        model = ensemble.model()
        names = [name for group in ensemble.scale_groups.values() for name in group]
        settled = [step for step in point.steps if step >= settings["settled"] / point.intrinsic_lr]
        for step in settled[-int(settings["checkpoints"]) :]:
            weights = {name: value.to(dataset.mean.device) for name, value in ensemble.weights(step).items()}
            tangent = sum(weights[name][0].numel() for name in names) - len(ensemble.scale_groups)
            attainable = min(tangent, len(dataset.train_images) - 1)
            generator, batch = spec.generator("null", point.name, step), int(point.batch_size)
            rows = []
            for replicate, gram in _grams(model, weights, names, dataset, batch, spec, step):
                synthetic = isotropic_gram(len(gram), attainable, generator) * noise_moments(gram).trace
                for part, matrix in ((MEASURED, gram), (ISOTROPIC, synthetic)):
                    row = {"part": part, "step": step, "replicate": replicate, "dimension": attainable}
                    row["tangent_dimension"] = tangent
                    rows.append(row | _row(matrix, attainable, tangent, spec, generator))
            parts.append(with_point(pd.DataFrame(rows), point))
    return pd.concat(parts, ignore_index=True)


def _row(
    gram: np.ndarray, dimension: int, tangent: int, spec: ClaimSpec, generator: np.random.Generator
) -> dict[str, float]:
    """Return the moments, the top eigenvalues as shares of the trace, and the null's top eigenvalue.

    All are NaN where a gradient is not finite.
    """
    names = [*_MOMENTS, *(f"top_{rank}" for rank in range(1, min(EIGENVALUES, len(gram)) + 1))]
    if not np.isfinite(gram).all():
        return dict.fromkeys(names, np.nan)
    found = noise_moments(gram)
    nulls = isotropic_top_eigenvalue(gram, dimension, int(spec.settings["isotropic_draws"]), generator)
    moments = found.squared_norm, found.mean_squared_norm, found.trace, found.trace_of_square
    ratios = found.participation_ratio, found.participation_ratio / tangent
    tops = np.array([*(null.mean() for null in nulls), *top_eigenvalues(gram, EIGENVALUES)]) / found.trace
    return dict(zip(names, [*moments, *ratios, *tops], strict=True))


def _grams(
    model: "EnsembleModel", weights: dict[str, "torch.Tensor"], names: list[str], dataset: "Dataset", batch: int,
    spec: ClaimSpec, step: int,
) -> Iterator[tuple[int, np.ndarray]]:  # fmt: skip
    """Yield (replicate, Gram matrix of its mini-batch gradients at unit norm), a few replicates at a time."""
    import torch

    from intrinsic_lr.models.gradients import gradients

    count, size = int(spec.settings["batches"]), sum(weights[name][0].numel() for name in names)
    chunk = max(1, GRADIENT_ELEMENTS // (count * size))
    for start in range(0, len(weights[names[0]]), chunk):
        held = {name: value[start : start + chunk].clone() for name, value in weights.items()}
        norms = torch.cat([held[name].flatten(1) for name in names], dim=1).cpu().double().norm(dim=1)
        generator = torch.Generator().manual_seed(spec.stream(step, start))
        found = []
        for _ in range(count):
            _, gradient = gradients(model, held, *dataset.draw(len(norms), batch, generator))
            found.append(torch.cat([gradient[name].flatten(1) for name in names], dim=1))
        for member, norm in enumerate(norms):
            rows = torch.stack([gradient[member] for gradient in found]).cpu().double()
            yield start + member, ((rows @ rows.T) * norm**2).numpy()


def judge(table: pd.DataFrame, spec: ClaimSpec) -> Findings:
    """Compare the participation ratio and the top eigenvalue with those of isotropic noise."""
    planned = {point.name for point in spec.points("equilibrium")}
    for part, judged, whose in (
        (MEASURED, spec.criterion, "gradient noise"),
        (ISOTROPIC, spec.control, "synthetic isotropic noise"),
    ):
        rows = replicate_means(table, part)
        if not planned <= set(rows.index.get_level_values("point")):
            # A point is missing as a whole: what the others say is not what was asked.
            rows = rows[:0]
        share, top = (mean_interval(rows[column], spec.confidence) for column in ("share", "top_ratio"))
        allowed, statistic = Range(high=spec.thresholds["share"]), "participation ratio / attainable dimension"
        yield judged(whose, statistic, share, "equilibrium", allowed=allowed)
        allowed, statistic = Range(low=spec.thresholds["top"]), "top eigenvalue / that of isotropic noise"
        yield judged(whose, statistic, top, "equilibrium", allowed=allowed)


def replicate_means(table: pd.DataFrame, part: str) -> pd.DataFrame:
    """Return each replicate's mean `share` and `top_ratio`; those that miss a number somewhere are left out."""
    rows = table[table["part"] == part]
    share, top = rows["participation_ratio"] / rows["dimension"], rows["top_1"] / rows["isotropic_top"]
    replicates = rows.assign(share=share, top_ratio=top).groupby(["point", "replicate"])[["share", "top_ratio"]]
    finite = replicates.agg(lambda values: np.isfinite(values).all()).all(axis=1)
    return replicates.mean()[finite]


@styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw the spectra of the noise and of isotropic noise, and the participation ratios with their threshold."""
    figure, ((spectrum, ratio),) = panels(1, 2, 2.9, width_ratios=[1.5, 1])
    ranks = [column for column in table if column.startswith("top_")]
    colours = ordered_colours([MEASURED, ISOTROPIC])
    labels = {MEASURED: "gradient noise", ISOTROPIC: "isotropic, same trace"}
    for place, (part, colour) in enumerate(colours.items()):
        values, shares = table.loc[table["part"] == part, ranks].dropna(), replicate_means(table, part)["share"]
        ratio.plot(place + np.linspace(-0.15, 0.15, len(shares)), shares, ".", color=colour, ms=5)
        if len(values):
            low, middle, high = values.quantile([_LOW, 0.5, _HIGH]).to_numpy()
            spectrum.plot(range(1, len(ranks) + 1), middle, color=colour, marker=".", lw=1, label=labels[part])
            spectrum.fill_between(range(1, len(ranks) + 1), low, high, color=colour, alpha=0.25, lw=0)
            spectrum.set(xscale="log", yscale="log")
            ratio.set(yscale="log")
    measured = table[table["part"] == MEASURED]
    label = "top one of even directions, measured lengths"
    spectrum.plot(1, measured["isotropic_top_same_lengths"].mean(), "x", color="0.2", ms=6, label=label)
    spectrum.set(xlabel="rank of the eigenvalue", ylabel="share of the trace", title="largest eigenvalues")
    ratio.axhline(spec.thresholds["share"], color="0.4", ls="--", lw=0.9, label="threshold")
    ratio.axhline(1, color="0.4", ls=":", lw=0.9, label="expected of isotropic noise")
    ratio.set_xticks([0, 1], ["gradient\nnoise", "isotropic\n(synthetic)"])
    ratio.set(xlim=(-0.5, 1.5), ylabel="participation ratio\n/ attainable dimension")
    ratio.set_title("directions that take part")
    dimension = f"{measured['dimension'].iloc[0]:g}" if len(measured) else "none"
    n, checkpoints = measured["replicate"].nunique(), measured["step"].nunique()
    note = (
        f"{int(spec.settings['batches'])} mini-batches at each of {checkpoints} checkpoints; "
        f"bands: {100 * _LOW:g} to {100 * _HIGH:g} % of replicates (n = {n}); second panel: one dot a replicate"
    )
    title = f"Gradient noise at equilibrium lies in few of its {dimension} attainable directions"
    return legend_below(figure, labelled(figure), 3, note, title)
