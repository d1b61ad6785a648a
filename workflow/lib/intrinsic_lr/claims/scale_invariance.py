"""Scale invariance: loss, gradient, Hessian and radial gradient of networks whose weights are multiplied by c.

Exact identities of a mini-batch loss that does not depend on the norm of the trained weights (derived, F1):
L(c w) = L(w), grad L(c w) = grad L(w) / c, Hess L(c w) = Hess L(w) / c^2 and <w, grad L(w)> = 0. All trained
weights are multiplied; with trained scales and shifts in the norms these are among them, and nothing of it holds.
"""

from collections.abc import Iterator
from dataclasses import asdict
from itertools import product

import pandas as pd
from matplotlib.figure import Figure

from intrinsic_lr.claims.shared.exact import FARTHEST, SMALLEST, network_names, worst_finding
from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec
from intrinsic_lr.claims.shared.verdicts import Findings
from intrinsic_lr.core.seeding import stream_seed
from intrinsic_lr.figures.style import MARKERS, handle, legend_below, ordered_colours, panels, styled
from intrinsic_lr.study.model_spec import ModelSpec

NORMS = ("batch", "group", "layer")
QUANTITIES = {
    "loss": ("change of the loss", r"loss $L(cw)$"),
    "gradient": ("change of c x gradient", r"$c\,\nabla L(cw)$"),
    "hessian": ("change of c^2 x Hessian-vector product", r"$c^2\,\nabla^2 L(cw)\,v$"),
    "radial": ("cosine of weights and gradient", r"$\cos(w,\ \nabla L(cw))$"),
}


def measure(data: ClaimData) -> pd.DataFrame:
    """Return the four relative deviations: one row per network (model, norm, affine), replicate and factor."""
    spec = data.spec
    dataset, texts = data.dataset(spec.settings["dataset"], "float64"), spec.settings["models"]
    rows = []
    for (text, name), norm, affine in product(zip(texts, network_names(texts), strict=True), NORMS, (False, True)):
        options = {key: value for key, value in asdict(ModelSpec.from_string(text)).items() if value is not None}
        options = {**options, "norm": norm, "affine": affine}
        options.pop("groups", None)
        rows += [{"model": name, **row} for row in _rows(ModelSpec.from_config(options), dataset, spec)]
    return pd.DataFrame(rows)


def _rows(model_spec: ModelSpec, dataset, spec: ClaimSpec) -> Iterator[dict[str, object]]:
    """Yield the rows of one network; every replicate has its own initialisation and mini-batch.

    A quantity that is finite at one norm of the weights only is infinitely far off, one that is finite at neither
    is missing.
    """
    import torch

    from intrinsic_lr.claims.shared.curvature import Derivatives
    from intrinsic_lr.models.ensemble import build

    members = int(spec.settings["replicates"])
    seeds = [spec.stream(replicate) for replicate in range(members)]
    model = build(model_spec, tuple(dataset.train_images.shape[1:]), len(dataset.info["classes"]))
    params = model.initialize(seeds, 1.0, torch.float64, stream_seed(spec.seed, "head"))
    params = {name: value.to(dataset.mean.device) for name, value in params.items()}
    generator = torch.Generator().manual_seed(spec.stream("batch"))
    batch = dataset.draw(members, int(spec.settings["batch_size"]), generator)
    base = Derivatives(model, params, *batch, model.trainable)
    direction = torch.randn(base.weights.shape, generator=generator, dtype=torch.float64).to(base.weights)
    hessian_product = base.hessian_product(direction)
    for factor in spec.settings["factors"]:
        scaled = {name: value * factor if name in model.trainable else value for name, value in params.items()}
        there = Derivatives(model, scaled, *batch, model.trainable)
        radial = (there.weights * there.gradient).sum(dim=1).abs()
        radial = radial / there.weights.norm(dim=1) / there.gradient.norm(dim=1)
        found = {
            "loss": _change(there.loss[:, None], base.loss[:, None]),
            "gradient": _change(factor * there.gradient, base.gradient),
            "hessian": _change(factor**2 * there.hessian_product(direction), hessian_product),
            "radial": radial.masked_fill(_one_sided(there.gradient, base.gradient), float("inf")),
        }
        for replicate in range(members):
            same = {"norm": model_spec.norm, "affine": model_spec.affine, "replicate": replicate, "factor": factor}
            yield same | {name: float(value[replicate]) for name, value in found.items()}


def _change(found, expected):
    """Return |found - expected| / |expected| of rows (R, P); infinite where one of them alone is finite."""
    change = (found - expected).norm(dim=1) / expected.norm(dim=1)
    neither = ~(found.isfinite().all(dim=1) | expected.isfinite().all(dim=1))
    return change.masked_fill(neither, float("nan")).masked_fill(_one_sided(found, expected), float("inf"))


def _one_sided(a, b):
    """Tell in which rows (R, P) one of two is finite and the other is not."""
    return a.isfinite().all(dim=1) != b.isfinite().all(dim=1)


def judge(table: pd.DataFrame, spec: ClaimSpec) -> Findings:
    """Compare the worst deviation over all networks, replicates and factors with the threshold.

    Of the control every network, each with its initialisation, has to break every identity: the best one decides.
    """
    planned = len(spec.settings["models"]) * len(NORMS) * int(spec.settings["replicates"])
    for affine, (quantity, (words, _)) in product((False, True), QUANTITIES.items()):
        networks = "trained scales and shifts in the norms" if affine else "every model and norm"
        cells = table[table["affine"] == affine], quantity, ["model", "norm", "replicate"], planned
        statement = f"The {words} is zero to rounding: {networks}."
        statistic = f"largest {words}" if quantity == "radial" else f"largest relative {words}"
        yield worst_finding(*cells, spec, statement, statistic, spec.thresholds["deviation"], control=affine)


@styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw the worst deviation of each network against the factor, with the control and the threshold."""
    figure, axes = panels(1, 4, 2.5, sharex=True, sharey=True)
    colours = ordered_colours(NORMS)
    kinds = dict(zip(dict.fromkeys(table["model"]), MARKERS, strict=False))
    for ax, (quantity, (_, title)) in zip(axes[0], QUANTITIES.items(), strict=True):
        finite = table[table[quantity] < FARTHEST]
        worst = finite.groupby(["affine", "norm", "model", "factor"])[quantity].max().clip(lower=SMALLEST)
        for (affine, norm, model), values in worst.groupby(level=["affine", "norm", "model"]):
            look = {"ls": "--", "color": "0.55"} if affine else {"ls": "-", "color": colours[norm]}
            factors = values.index.get_level_values("factor")
            ax.plot(factors, values, marker=kinds[model], ms=3.5, lw=0.8, **look)
        ax.axhline(spec.thresholds["deviation"], color="tab:red", lw=1, ls=":")
        ax.set(xscale="log", yscale="log", title=title, xlabel="factor c", ylim=(SMALLEST / 3, 1e4))
    axes[0, 0].set_ylabel("largest relative deviation")
    handles = [handle(f"{norm} norm", color=colours[norm]) for norm in NORMS]
    handles += [handle(kind, color="0.3", ls="", marker=marker) for kind, marker in kinds.items()]
    handles.append(handle("control: trained affine", color="0.55", ls="--"))
    handles.append(handle("threshold", color="tab:red", ls=":"))
    note = f"each marker: the worst of {table['replicate'].nunique()} initialisations and mini-batches, float64"
    title = "Multiplying all trained weights by c changes nothing but their length"
    return legend_below(figure, handles, 4, note, title)
