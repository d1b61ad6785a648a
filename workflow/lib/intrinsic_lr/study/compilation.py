"""Whether it pays to compile the steps of a training: `compile: auto`.

Figures that were measured once decide, not a timing: what a training computes, and whether it is gone on with, is
not to depend on a machine's load.
"""

from intrinsic_lr.study.model_spec import ModelSpec

BREAK_EVEN_STEPS = {"mlp": 26_000, "cnn4": 17_000, "preresnet": 33_000, "module": 3_000, "vit": 10_500}
"""Steps in which a compiled training saves what its compilation takes, by kind of network: the most that was
measured on a CPU (docs/performance.md), for a module that of torchvision's resnet18."""


def compilation_pays(spec: ModelSpec, steps: int) -> bool:
    """Tell whether so many steps are more than those in which a compilation saves what it takes."""
    return not has_kernel(spec) and steps > BREAK_EVEN_STEPS[spec.kind]


def has_kernel(spec: ModelSpec) -> bool:
    """Tell whether a network is one of those whose gradients a compiled kernel computes on a CPU."""
    return spec.kind in ("mlp", "cnn4") and spec.norm == "batch" and not spec.affine
