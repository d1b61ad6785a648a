"""Points that differ in any two axes are told apart in every figure: nothing is averaged over an axis."""

from itertools import combinations, product

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from intrinsic_lr.analyses.curves import draw_curves
from intrinsic_lr.analyses.disagreement import _comparisons, draw_disagreement, draw_total_variation
from intrinsic_lr.analyses.drawing import lines_of, rounded, setting_text, variants, varied_axes
from intrinsic_lr.analyses.grid import draw_grid
from intrinsic_lr.analyses.phase import draw_phase
from intrinsic_lr.analyses.tables import with_point
from intrinsic_lr.stats.disagreement import QUANTITIES
from intrinsic_lr.study.experiment import Experiment, PlannedPoint
from intrinsic_lr.study.pairs import AXES, differing_axes, same_intrinsic_lr

OTHER = {
    "dataset": "mnist", "model": "cnn", "batch_size": 64, "lr": 0.2, "weight_decay": 0.02, "schedule": "decay",
    "momentum": 0.9, "init_seed": 1, "init_sharing": "shared", "init_scale": 3.0, "augmentation": "flip",
    "dtype": "float64", "data_order": 0, "constraint": "sphere", "precision": "tf32", "optimiser": "adamw",
    "nesterov": True, "beta1": 0.8, "beta2": 0.9, "eps": 1e-6, "clip": 1.0, "label_smoothing": 0.1,
    "runs_per_init": 2,
    "compile": "on",
}  # fmt: skip
FIRST = {"dataset": "digits", "model": "mlp", "batch_size": 32, "lr": 0.1, "weight_decay": 0.01}
PAIRS = list(combinations(AXES, 2))
DRAWN = [axes for axes in PAIRS if {"lr", "dataset"} & set(axes) or axes == ("init_scale", "constraint")]
"""Pairs of which figures are drawn; the words and lines that they take are looked at for all."""


def experiment_of(axes):
    """Return the experiment of all four settings of two axes."""
    points = []
    for changed in product((False, True), repeat=len(axes)):
        changes = {axis: OTHER[axis] for axis, is_changed in zip(axes, changed, strict=True) if is_changed}
        points.append(PlannedPoint(**{**FIRST, **changes}, steps=(100, 200), length=200))
    return Experiment("pair", tuple(points), 3)


def table_of(experiment, *quantities):
    """Return a table in which each point has values of its own, at two steps that are parts of a training too."""
    parts = []
    for index, point in enumerate(experiment.points):
        rows = {"step": [100, 200], "part": [5, 10], "intrinsic_time": np.array([100, 200]) * point.intrinsic_lr}
        value = 0.1 * (index + 1)
        rows |= {f"{name}_{part}": value for name in quantities for part in ("mean", "low", "high")}
        frame = pd.DataFrame({**rows, "replicates": 3, "missing": 0})
        parts.append(with_point(frame.assign(converging=3, chaotic_equilibrium=0, diverged=0), point))
    return pd.concat(parts, ignore_index=True)


def drawn(axes):
    """Return the values of the curves in a panel, each with its look."""
    return {
        line.get_ydata()[0]: (line.get_color(), str(line._dash_pattern), line.get_marker(), line.get_lw())
        for line in axes.get_lines()
        if len(set(line.get_ydata())) == 1 and len(line.get_xdata()) == 2
    }


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def test_any_two_axes_give_four_settings_words_and_lines_of_their_own():
    for axes in PAIRS:
        points = experiment_of(axes).points
        assert len({setting_text(point, varied_axes(points)) for point in points}) == 4, axes
        texts = variants(points)
        lines = lines_of(texts.values())
        looks = {(rounded(point.intrinsic_lr), str(lines[texts[point.name]])) for point in points}
        assert len(looks) == 4, axes


@pytest.mark.parametrize("axes", DRAWN, ids="-".join)
def test_curves_are_those_of_single_points_in_looks_of_their_own(axes):
    experiment = experiment_of(axes)
    table = table_of(experiment, "squared_norm", "effective_lr").assign(unit_gradient_squared_norm_mean=np.nan)
    looks = drawn(draw_curves(table, experiment, 0.95).axes[0])
    assert sorted(looks) == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert len(set(looks.values())) == 4


@pytest.mark.parametrize("axes", DRAWN, ids="-".join)
def test_cells_of_the_landscape_are_single_points(axes):
    experiment = experiment_of(axes)
    table = table_of(experiment, "test_accuracy").query("step == 200")
    figure = draw_grid(table, experiment, 0.95)
    texts = [text.get_text() for panel in figure.axes[::2] for text in panel.texts]
    assert sorted(text for text in texts if text.endswith("0.0")) == ["10.0", "20.0", "30.0", "40.0"]


@pytest.mark.parametrize("axes", DRAWN, ids="-".join)
def test_paths_of_the_phase_diagram_are_those_of_single_points(axes):
    experiment = experiment_of(axes)
    table = table_of(experiment, "effective_gradient_norm", "effective_lr", "batch_loss")
    looks = drawn(draw_phase(table, experiment, 0.95).axes[0])
    assert sorted(looks) == pytest.approx([0.1, 0.2, 0.3, 0.4])
    # On the sphere the place in the figure tells the effective learning rate.
    assert len(set(looks.values())) == (3 if set(axes) == {"init_scale", "constraint"} else 4)


def disagreement_of(experiment):
    """Return a table of all pairs, each with a total variation of its own."""
    rows = []
    for index, (a, b, checkpoint, step, _) in enumerate(_comparisons(experiment)):
        row = {"point_a": a.name, "point_b": b.name, "differs": "+".join(differing_axes(a, b))}
        row |= {"same_intrinsic_lr": same_intrinsic_lr(a, b), "intrinsic_lr_a": a.intrinsic_lr}
        row |= {"checkpoint": checkpoint, "intrinsic_time_a": step * a.intrinsic_lr, "permutations": 99}
        rows.append(row | {"replicates_a": 3, "replicates_b": 3, "total_variation": 0.1 + 0.01 * (index // 2)})
    others = dict.fromkeys([name for name in QUANTITIES if name != "total_variation"], 0.05)
    return pd.DataFrame(rows).assign(**others)


@pytest.mark.parametrize("axes", DRAWN, ids="-".join)
def test_comparisons_in_function_space_are_of_single_pairs(axes):
    experiment = experiment_of(axes)
    table = disagreement_of(experiment)
    panels = [drawn(panel) for panel in draw_total_variation(table, experiment, 0.95).axes]
    for looks in panels:
        assert len({look[:2] for look in looks.values()}) == len(looks)
    equal = table[table["same_intrinsic_lr"]]
    references = {(p.dataset, p.intrinsic_lr): p.name for p in reversed(experiment.points)}.values()
    expected = equal.loc[equal["point_a"].isin(references), "total_variation"].unique()
    assert sorted(value for looks in panels for value in looks) == pytest.approx(sorted(expected))
    labels = [text.get_text() for text in draw_disagreement(table, experiment, 0.95).axes[0].get_xticklabels()]
    assert len(set(labels)) == len(labels)
