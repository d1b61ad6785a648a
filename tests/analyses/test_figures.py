"""Figures: complete on plausible and on degenerate tables, and the same bytes twice."""

import itertools
from importlib import import_module
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from drawn import collisions
from intrinsic_lr.analyses import drawing
from intrinsic_lr.analyses.curves import draw_curves
from intrinsic_lr.analyses.disagreement import draw_disagreement, draw_total_variation
from intrinsic_lr.analyses.distance import draw_distance
from intrinsic_lr.analyses.epochs import draw_epochs
from intrinsic_lr.analyses.grid import draw_grid
from intrinsic_lr.analyses.interpolation import draw_interpolation
from intrinsic_lr.analyses.swa import draw_swa
from intrinsic_lr.analyses.tables import read_table, with_point
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.figures import style
from intrinsic_lr.figures.style import Look
from intrinsic_lr.study.analyses import ANALYSES
from intrinsic_lr.study.config_files import merge_over_default
from intrinsic_lr.study.experiment import Experiment, PlannedPoint
from intrinsic_lr.study.pairs import differing_axes
from intrinsic_lr.study.study import Study
from projects import SMOKE, run


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def described(**changes):
    base = {"dataset": "digits", "model": "mlp", "batch_size": 32, "lr": 0.1, "weight_decay": 0.01}
    return PlannedPoint(**{**base, **changes}, steps=(100, 200))


POINTS = [described(weight_decay=w, init_seed=seed) for w, seed in itertools.product((0.1, 0.01), (0, 1))]


def with_intervals(keys, quantities, spread=0.1):
    """Return a summary table: for each row of keys, quantities with an interval around them."""
    frame = pd.DataFrame(keys)
    for name, values in quantities.items():
        for part, shift in {"mean": 0, "low": -spread, "high": spread}.items():
            frame[f"{name}_{part}"] = np.asarray(values, float) * (1 + shift)
    return frame.assign(replicates=8, missing=0)


def curves():
    steps = np.arange(0, 1001, 100)
    parts = []
    for point in POINTS:
        norm = 200 * np.exp(-2 * point.intrinsic_lr * steps) + 20
        gradient = np.where(steps == 0, np.nan, 50.0)
        quantities = {"squared_norm": norm, "effective_lr": 0.1 / norm, "unit_gradient_squared_norm": gradient}
        keys = {"step": steps, "intrinsic_time": steps * point.intrinsic_lr}
        parts.append(with_point(with_intervals(keys, quantities), point))
    return pd.concat(parts)


def lagged(**quantities):
    keys = [(step, delta, "within") for step in (100, 200, 300) for delta in (100, 200, 400)]
    keys = pd.DataFrame([*keys, (300, 0, "across_initialisations")], columns=["step", "delta", "relation"])
    table = with_intervals(keys, {name: value + 0 * keys["step"] for name, value in quantities.items()})
    return with_point(table.assign(partner_point=POINTS[0].name), POINTS[0])


def swa():
    ends = {"test_accuracy": 0.9, "test_loss": 0.2}
    table = lagged(**{name + suffix: ends[name] for name in ends for suffix in ("", "_start", "_end")})
    return table.assign(average="pair", normalisation="raw")


def interpolation():
    keys = itertools.product(
        ("within", "across_initialisations"), ("raw", "per_layer", "matched"), (0.0, 0.5, 1.0)
    )
    keys = pd.DataFrame(keys, columns=["relation", "normalisation", "alpha"]).assign(step=100, partner_step=200)
    table = with_intervals(keys, {"test_loss": 0.2 + keys["alpha"], "test_error": 0.1 + 0 * keys["alpha"]})
    return with_point(table.assign(partner_point=POINTS[0].name), POINTS[0])


def distance():
    nulls = {name: 1.0 for name in ("sphere_walk_cosine", "sphere_walk_l2_unit_norm", "ou_l2")}
    return lagged(l2=2.0, cosine=0.5).assign(layer="all", **nulls)


def disagreement():
    same = {
        "differs": "init_seed", "same_intrinsic_lr": True, "replicates_a": 8, "permutations": 99,
        "total_variation": 0.1, "total_variation_low": 0.08, "total_variation_high": 0.12, "null_mean": 0.02,
        "null_q95": 0.03, "p_value": 0.01, "within_a": 0.05, "within_b": 0.05, "across": 0.06, "across_low": 0.05,
        "across_high": 0.07, "excess": 0.01, "excess_low": 0.0, "excess_high": 0.02, "error_a": 0.03,
        "error_b": 0.03, "independent_errors": 0.06,
    }  # fmt: skip
    rows = []
    for (a, b), checkpoint in itertools.product((POINTS[:2], POINTS[2:]), (0, 1)):
        own = {"point_a": a.name, "point_b": b.name, "intrinsic_lr_a": a.intrinsic_lr, "checkpoint": checkpoint}
        own["replicates_b"] = 8
        rows.append({**own, "intrinsic_time_a": checkpoint + 1, **same})
    return pd.DataFrame(rows)


def many_pairs():
    """Return pairs of many kinds, with their experiment."""
    others = [{"init_scale": 3.0}, {"init_scale": 5.0}, {"lr": 1.0, "weight_decay": 0.001}, {"batch_size": 64}]
    others.append({"lr": 1.0, "weight_decay": 0.001, "init_scale": 3.0})
    points = [POINTS[2], *(described(**{"weight_decay": 0.01, **changes}) for changes in others)]
    pair = disagreement().query("point_a == @POINTS[2].name")
    parts = [
        pair.assign(point_b=point.name, differs="+".join(differing_axes(points[0], point))) for point in points[1:]
    ]
    return pd.concat(parts, ignore_index=True), Experiment("pairs", tuple(points), 8)


GRID = [described(lr=lr, weight_decay=decay) for lr, decay in itertools.product((0.1, 1.0), (0.01, 0.1))]


EXPERIMENT = Experiment("example", tuple(dict.fromkeys([*POINTS, *GRID])), 8)


def grid():
    rows = with_intervals({"step": [100] * 4}, {"test_accuracy": [0.9, 0.95, np.nan, 0.8]}, 0.01)
    return pd.concat([with_point(rows[index : index + 1], point) for index, point in enumerate(GRID)])


def epochs():
    keys = itertools.product(("within", "across_initialisations"), (100, 200), (100, 200), (0, 1))
    frame = pd.DataFrame(keys, columns=["relation", "step", "partner_step", "replicate"])
    apart = (frame["relation"] != "within") | (frame["step"] != frame["partner_step"])
    frame = frame.assign(partner=frame["replicate"], partner_point=POINTS[0].name, cosine=1 - 0.3 * apart)
    return with_point(frame.assign(disagreement=0.02 * apart, disagreement_over_error=1.1 * apart), POINTS[0])


FIGURES = {
    "curves": (draw_curves, curves), "swa": (draw_swa, swa), "distance": (draw_distance, distance),
    "epochs": (draw_epochs, epochs), "interpolation": (draw_interpolation, interpolation),
    "total_variation": (draw_total_variation, disagreement),
    "disagreement": (draw_disagreement, disagreement), "grid": (draw_grid, grid),
}  # fmt: skip


def saved(folder, figure, *look):
    """Return the bytes of a figure in each format."""
    paths = [folder / f"figure.{extension}" for extension in ("svg", "pdf", "png")]
    style.save(figure, paths, *look)
    assert {path.name for path in folder.iterdir()} == {path.name for path in paths}
    return [path.read_bytes() for path in paths]


@pytest.mark.parametrize("name", FIGURES)
def test_figures_have_titles_labels_and_the_same_bytes_twice(name, tmp_path):
    draw, table = FIGURES[name]
    figure = draw(table(), EXPERIMENT, 0.95)
    assert "example" in figure.get_suptitle()
    assert all(axes.get_xlabel() or axes.get_xticklabels() for axes in figure.axes)
    assert any(axes.get_ylabel() for axes in figure.axes)
    written = saved(tmp_path, figure)
    assert written == saved(tmp_path, draw(table(), EXPERIMENT, 0.95))
    assert all(len(content) > 1000 for content in written)


@pytest.mark.parametrize("look", [Look(3.25, "serif", 8), Look(10, "monospace", 12)], ids=["column", "wide"])
def test_another_look_gives_the_same_bytes_twice_and_another_size(look, tmp_path):
    written = [saved(tmp_path, draw_curves(curves(), EXPERIMENT, 0.95, look=look), look) for _ in range(2)]
    assert written[0] == written[1]
    svg, pdf, png = written[0]
    assert int.from_bytes(png[16:20], "big") == pytest.approx(200 * look.width, abs=1)
    # Text stays text in vector formats.
    assert b"Norm of the weights" in svg
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf


OWN_STYLE = {
    "text.usetex": True, "font.size": 30, "lines.linewidth": 9, "axes.facecolor": "red", "savefig.bbox": "tight",
    "svg.fonttype": "path", "legend.frameon": True, "axes.spines.top": False, "image.cmap": "jet",
}  # fmt: skip


def test_a_users_style_changes_no_figure(tmp_path):
    expected = saved(tmp_path, draw_curves(curves(), EXPERIMENT, 0.95))
    with plt.rc_context(OWN_STYLE):
        assert saved(tmp_path, draw_curves(curves(), EXPERIMENT, 0.95)) == expected


@pytest.mark.workflow
def test_figures_of_a_notebooks_terminal_are_drawn_into_files(project):
    figure = project / "results/smoke/figures/grid_smoke_grid.svg"
    before = figure.read_bytes()
    (project / "matplotlibrc").write_text("font.size: 30\ntext.usetex: True\n")
    backend = "module://matplotlib_inline.backend_inline"
    run(project, "--force", "results/smoke/figures/grid_smoke_grid.svg", MPLBACKEND=backend)
    assert figure.read_bytes() == before


def diverged(table):
    names = [c for c in table if c.endswith(("_mean", "_low", "_high", "_q95")) or c.startswith("total_var")]
    names += [c for c in ("cosine", "disagreement_over_error") if c in table]
    return table.assign(**dict.fromkeys(names, np.nan))


@pytest.mark.parametrize("name", FIGURES)
def test_no_text_is_clipped_or_overlaps_another(name):
    """Nor in a column, nor where all runs diverged, nor where the table has one row or none."""
    draw, table = FIGURES[name]
    for frame in (table(), diverged(table())):
        assert collisions(draw(frame, EXPERIMENT, 0.95)) == []
    assert collisions(draw(table(), EXPERIMENT, 0.95, look=Look(3.25, size=7))) == []
    assert draw(table().head(1), EXPERIMENT, 0.95).axes
    if name == "grid":
        with pytest.raises(InputError, match="empty table"):
            draw(table().head(0), EXPERIMENT, 0.95)
    else:
        assert collisions(draw(table().head(0), EXPERIMENT, 0.95)) == []


@pytest.mark.workflow
def test_no_text_of_a_finished_study_is_clipped_or_overlaps_another(finished, monkeypatch):
    """On a page and on a telephone."""
    monkeypatch.chdir(finished)
    study = Study.read(merge_over_default(SMOKE, Path("config")))
    found = {}
    for name, (analysis, of) in study.figures.items():
        draw = getattr(import_module(f"intrinsic_lr.analyses.{analysis}"), f"draw_{name.removesuffix(f'_{of}')}")
        table = read_table(study.paths.table(f"{ANALYSES[analysis].draws_from}_{of}"))
        for width in (style.PAGE, style.NARROW_SCREEN):
            found[name, width] = collisions(draw(table, study.experiments[of], 0.95, look=Look(width)))
    assert {key: texts for key, texts in found.items() if texts} == {}


def test_pairs_of_many_kinds_and_of_none():
    table, experiment = many_pairs()
    for draw in (draw_total_variation, draw_disagreement):
        assert collisions(draw(table, experiment, 0.95)) == []
    for draw in (draw_total_variation, draw_disagreement):
        assert collisions(draw(disagreement().assign(same_intrinsic_lr=False), EXPERIMENT, 0.95)) == []


def test_panels_of_a_column_stand_below_each_other():
    wide, narrow = (draw_curves(curves(), EXPERIMENT, 0.95, look=Look(width)) for width in (6.75, 3.25))
    rows = [len({axes.get_subplotspec().rowspan.start for axes in figure.axes}) for figure in (wide, narrow)]
    assert rows == [1, 2]
    assert narrow.get_figwidth() == 3.25


def test_lines_break_between_words_and_never_in_a_formula():
    figure = plt.figure(figsize=(1, 1))
    text = r"rates $\lambda_e$ = $3 \times 10^{-3}$"
    assert style.wrapped(figure, text, 9).split("\n") == [r"rates $\lambda_e$ =", r"$3 \times 10^{-3}$"]
    assert style.wrapped(figure, "a\nb", 9) == "a\nb"


def test_a_font_that_is_not_installed_is_refused_by_name():
    with pytest.raises(InputError, match=r"figures\.font\.family .*'No Such Font'"):
        Look.read('{"family": "No Such Font", "size": 9, "width": 6.75}')


def test_colours_of_ordered_quantities_differ_in_grey_print():
    grey = [np.dot(colour[:3], [0.2126, 0.7152, 0.0722]) for colour in style.ordered_colours(range(5)).values()]
    assert (np.diff(grey) > 0.05).all()


def test_numbers_and_schedules_are_spelt_for_readers():
    assert drawing.schedule_text("wd_2_8_lr_200_300").startswith(r"$\lambda$/10 at epochs 2 and 8, ")
    assert drawing.setting_text(described(schedule="late_decay"), ["schedule"]) == "schedule late decay"
    assert [style.scientific(value) for value in (0.1, 1e-3, 3e-3)] == ["0.1", "$10^{-3}$", r"$3\times 10^{-3}$"]


def test_cells_of_the_grid():
    """A rate whose runs all diverged keeps its row; a weight decay of zero has cells but no diagonal."""
    table = grid()
    quantities = [c for c in table if c.startswith("test_accuracy")]
    table.loc[table["lr"] == 1.0, quantities] = np.nan
    heat = draw_grid(table, EXPERIMENT, 0.95).axes[0]
    assert [label.get_text() for label in heat.get_yticklabels()] == ["0.1", "1"]
    assert sum(bool(patch.get_hatch()) for patch in heat.patches) == 2
    named = draw_grid(grid().fillna(0.9), EXPERIMENT, 0.95)
    assert "$10^{-2}$" in [text.get_text() for text in named.axes[0].texts]
    points = [described(lr=lr, weight_decay=decay) for lr, decay in itertools.product((0.1, 1.0), (0.0, 0.1))]
    rows = with_intervals({"step": [100]}, {"test_accuracy": [0.9]})
    table = pd.concat([with_point(rows, point) for point in points])
    heat = draw_grid(table, Experiment("none", tuple(points), 8), 0.95).axes[0]
    assert [label.get_text() for label in heat.get_xticklabels()] == ["0", "0.1"]


@pytest.mark.parametrize("name", ["swa", "interpolation", "distance", "epochs"])
def test_a_figure_of_one_setting_draws_the_first_and_names_it(name):
    draw, table = FIGURES[name]
    other = table().assign(point=POINTS[1].name, partner_point=POINTS[1].name, init_seed=1)
    for column in ("test_loss_mean", "l2_mean", "cosine"):
        if column in other:
            other[column] = 77.0
    figure = draw(pd.concat([table(), other]), EXPERIMENT, 0.95)
    note = " ".join(figure.legends[0].get_title().get_text().split())
    assert "of 2 settings the first: initialisation 0" in note
    lines = [line for axes in figure.axes for line in axes.get_lines()]
    assert not any(77 in line.get_ydata() for line in lines)


def test_pairs_with_fewer_checkpoints_are_shown_at_their_own_last():
    table = disagreement()
    shorter = table[(table["intrinsic_lr_a"] < 0.005) | (table["checkpoint"] == 0)]
    assert len(draw_disagreement(shorter, EXPERIMENT, 0.95).axes[0].get_xticklabels()) == 2


def test_open_markers_say_what_is_not_above_the_floor():
    table = disagreement().assign(p_value=[0.001, 0.5, 0.001, 0.001])
    lines = draw_total_variation(table, EXPERIMENT, 0.95).axes[0].get_lines()
    assert sum(len(line.get_xdata()) for line in lines if line.get_markerfacecolor() == "white") == 1


def test_rates_equal_to_two_digits_share_a_colour():
    near = described(lr=1.0, weight_decay=0.00099856)
    table = pd.concat([curves(), curves().query("point == @POINTS[0].name").assign(point=near.name)])
    figure = draw_curves(table, Experiment("near", (*POINTS, near), 8), 0.95)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert sum("lambda_e$ = $10^{-3}$" in label for label in labels) == 1
