"""Scale invariance: loss, gradient, Hessian and radial gradient of networks whose weights are multiplied by c.

Exact identities of a mini-batch loss that does not depend on the norm of the trained weights (derived, F1):
L(c w) = L(w), grad L(c w) = grad L(w) / c, Hess L(c w) = Hess L(w) / c^2 and <w, grad L(w)> = 0. All trained
weights are multiplied; with trained scales and shifts in the norms these are among them, and nothing of it holds.
"""

from collections.abc import Iterator
from dataclasses import asdict

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from intrinsic_lr.claims.shared.exact import FARTHEST, network_names, worst_finding
from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec
from intrinsic_lr.claims.shared.verdicts import Finding
from intrinsic_lr.core.seeding import stream_seed
from intrinsic_lr.figures.style import MARKERS, legend_below, ordered_colours, panels, styled
from intrinsic_lr.study.model_spec import ModelSpec

NORMS = ("batch", "group", "layer")
QUANTITIES = {
    "loss": "change of the loss",
    "gradient": "change of c x gradient",
    "hessian": "change of c^2 x Hessian-vector product",
    "radial": "cosine of weights and gradient",
}
_TITLES = {
    "loss": r"loss $L(cw)$",
    "gradient": r"$c\,\nabla L(cw)$",
    "hessian": r"$c^2\,\nabla^2 L(cw)\,v$",
    "radial": r"$\cos(w,\ \nabla L(cw))$",
}
_SMALLEST = 1e-17
"""Where an exact zero is drawn on a logarithmic axis."""


def measure(data: ClaimData) -> pd.DataFrame:
    """Return the four relative deviations: one row per network (model, norm, affine), replicate and factor."""
    spec = data.spec
    dataset = data.dataset(spec.settings["dataset"], "float64")
    rows = []
    texts = spec.settings["models"]
    for text, name in zip(texts, network_names(texts), strict=True):
        for norm in NORMS:
            for affine in (False, True):
                model_spec = _variant(ModelSpec.parse(text), norm, affine)
                rows += [{"model": name, **row} for row in _rows_of_network(model_spec, dataset, spec)]
    return pd.DataFrame(rows)


def _variant(model_spec: ModelSpec, norm: str, affine: bool) -> ModelSpec:
    """Return a model with another norm, with or without trained scales and shifts."""
    options = {key: value for key, value in asdict(model_spec).items() if value is not None and key != "groups"}
    return ModelSpec.from_config({**options, "norm": norm, "affine": affine})


def _rows_of_network(model_spec: ModelSpec, dataset, spec: ClaimSpec) -> Iterator[dict[str, object]]:
    """Yield the rows of one network; every replicate has its own initialisation and mini-batch.

    A quantity that is finite at one norm of the weights only is infinitely far off, one that is finite at neither
    is missing.
    """
    import torch

    from intrinsic_lr.claims.shared.curvature import Derivatives
    from intrinsic_lr.models.ensemble import build

    members = int(spec.settings["replicates"])
    seeds = [stream_seed(spec.seed, "claim", spec.name, replicate) for replicate in range(members)]
    model = build(model_spec, tuple(dataset.train_images.shape[1:]), len(dataset.info["classes"]))
    params = model.initialize(seeds, 1.0, torch.float64, stream_seed(spec.seed, "head"))
    params = {name: value.to(dataset.mean.device) for name, value in params.items()}
    generator = torch.Generator().manual_seed(stream_seed(spec.seed, "claim", spec.name, "batch"))
    batch = dataset.draw(members, int(spec.settings["batch_size"]), generator)
    base = Derivatives(model, params, *batch, model.trainable)
    direction = torch.randn(base.weights.shape, generator=generator, dtype=torch.float64).to(base.weights)
    product = base.hessian_product(direction)
    for factor in spec.settings["factors"]:
        scaled = {name: value * factor if name in model.trainable else value for name, value in params.items()}
        there = Derivatives(model, scaled, *batch, model.trainable)
        radial = (there.weights * there.gradient).sum(dim=1).abs()
        radial = radial / there.weights.norm(dim=1) / there.gradient.norm(dim=1)
        found = {
            "loss": _change(there.loss[:, None], base.loss[:, None]),
            "gradient": _change(factor * there.gradient, base.gradient),
            "hessian": _change(factor**2 * there.hessian_product(direction), product),
            "radial": radial.masked_fill(_one_sided(there.gradient, base.gradient), float("inf")),
        }
        for replicate in range(members):
            yield {
                "norm": model_spec.norm,
                "affine": model_spec.affine,
                "replicate": replicate,
                "factor": factor,
                **{name: float(value[replicate]) for name, value in found.items()},
            }


def _change(found, expected):
    """Return |found - expected| / |expected| of rows (R, P); infinite where one of them alone is finite."""
    change = (found - expected).norm(dim=1) / expected.norm(dim=1)
    neither = ~(found.isfinite().all(dim=1) | expected.isfinite().all(dim=1))
    return change.masked_fill(neither, float("nan")).masked_fill(_one_sided(found, expected), float("inf"))


def _one_sided(a, b):
    """Tell in which rows (R, P) one of two is finite and the other is not."""
    return a.isfinite().all(dim=1) != b.isfinite().all(dim=1)


def judge(table: pd.DataFrame, spec: ClaimSpec) -> list[Finding]:
    """Hold the worst deviation over all networks, replicates and factors against the threshold.

    Of the control every network, each with its initialisation, has to break every identity: the best one decides.
    """
    settings = spec.settings
    planned = len(settings["models"]) * len(NORMS) * int(settings["replicates"])
    findings = []
    for affine in (False, True):
        part = table[table["affine"] == affine]
        networks = "trained scales and shifts in the norms" if affine else "every model and norm"
        for quantity, words in QUANTITIES.items():
            findings.append(
                worst_finding(
                    part,
                    quantity,
                    ["model", "norm", "replicate"],
                    planned,
                    spec,
                    f"The {words} is zero to rounding: {networks}.",
                    f"largest relative {words}" if quantity != "radial" else f"largest {words}",
                    spec.thresholds["deviation"],
                    control=affine,
                )
            )
    return findings


@styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw the worst deviation of each network against the factor, with the control and the threshold."""
    figure, axes = panels(1, 4, 2.5, sharex=True, sharey=True)
    colours = ordered_colours(NORMS)
    kinds = dict(zip(dict.fromkeys(table["model"]), MARKERS, strict=False))
    for ax, quantity in zip(axes[0], QUANTITIES, strict=True):
        finite = table[table[quantity] < FARTHEST]
        worst = finite.groupby(["affine", "norm", "model", "factor"])[quantity].max().clip(lower=_SMALLEST)
        for (affine, norm, model), values in worst.groupby(level=["affine", "norm", "model"]):
            ax.plot(
                values.index.get_level_values("factor"),
                values,
                ls="--" if affine else "-",
                marker=kinds[model],
                ms=3.5,
                lw=0.8,
                color="0.55" if affine else colours[norm],
            )
        ax.axhline(spec.thresholds["deviation"], color="tab:red", lw=1, ls=":")
        ax.set(xscale="log", yscale="log", title=_TITLES[quantity], xlabel="factor c", ylim=(_SMALLEST / 3, 1e4))
    axes[0, 0].set_ylabel("largest relative deviation")
    handles = [Line2D([], [], color=colours[norm], label=f"{norm} norm") for norm in NORMS]
    handles += [Line2D([], [], color="0.3", ls="", marker=marker, label=kind) for kind, marker in kinds.items()]
    handles += [
        Line2D([], [], color="0.55", ls="--", label="control: trained affine"),
        Line2D([], [], color="tab:red", ls=":", label="threshold"),
    ]
    replicates = table["replicate"].nunique()
    legend_below(
        figure, handles, 4, f"each marker: the worst of {replicates} initialisations and mini-batches, float64"
    )
    figure.suptitle("Multiplying all trained weights by c changes nothing but their length")
    return figure
