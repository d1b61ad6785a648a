"""Figures: complete on plausible and on degenerate tables, and the same bytes twice."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from intrinsic_lr.analyses.curves import curves_figure
from intrinsic_lr.analyses.disagreement import disagreement_figure, total_variation_figure
from intrinsic_lr.analyses.distance import distance_figure
from intrinsic_lr.analyses.epochs import epochs_figure
from intrinsic_lr.analyses.grid import grid_figure
from intrinsic_lr.analyses.swa import swa_figure
from intrinsic_lr.analyses.tables import with_point
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.figures import style
from intrinsic_lr.figures.style import Look
from intrinsic_lr.study.experiment import Experiment, PlannedPoint


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


INTERVAL = ("mean", "low", "high")


def described(**changes):
    rates = {"lr": 0.1, "weight_decay": 0.01, **changes}
    return PlannedPoint(**{"dataset": "digits", "model": "mlp", "batch_size": 32, **rates}, steps=(100, 200))


POINTS = [described(weight_decay=w, init_seed=seed) for w, seed in itertools.product((0.1, 0.01), (0, 1))]
EXPERIMENT = Experiment("example", tuple(POINTS), 8)


def with_intervals(keys, quantities, spread=0.1):
    """Return a summary table: for each row of keys, quantities with an interval around them."""
    frame = pd.DataFrame(keys)
    for name, values in quantities.items():
        for part, shift in zip(INTERVAL, (0, -spread, spread), strict=True):
            frame[f"{name}_{part}"] = np.asarray(values, float) * (1 + shift)
    return frame.assign(replicates=8, missing=0)


def curves():
    steps = np.arange(0, 1001, 100)
    parts = []
    for point in POINTS:
        norm = 200 * np.exp(-2 * point.intrinsic_lr * steps) + 20
        keys = {"step": steps, "intrinsic_time": steps * point.intrinsic_lr}
        gradient = np.where(steps == 0, np.nan, 50.0)
        quantities = {"squared_norm": norm, "effective_lr": 0.1 / norm, "unit_gradient_squared_norm": gradient}
        parts.append(with_point(with_intervals(keys, quantities), point))
    return pd.concat(parts)


def lagged(quantities):
    keys = [(step, delta) for step in (100, 200, 300) for delta in (100, 200, 400)]
    frame = pd.DataFrame(keys, columns=["step", "delta"]).assign(relation="within")
    across = pd.DataFrame({"step": [300], "delta": [0], "relation": ["across_initialisations"]})
    keys = pd.concat([frame, across], ignore_index=True).assign(partner_point=POINTS[0].name)
    return with_point(
        with_intervals(keys, {name: value + 0 * keys["step"] for name, value in quantities.items()}), POINTS[0]
    )


def swa():
    ends = ["test_accuracy", "test_loss"]
    names = [f"{name}{suffix}" for name in ends for suffix in ("", "_start", "_end")]
    table = lagged({name: 0.9 if "accuracy" in name else 0.2 for name in names})
    return table.assign(average="pair", normalisation="raw")


def distance():
    table = lagged({"l2": 2.0, "cosine": 0.5}).assign(layer="all")
    nulls = {name: 1.0 for name in ("sphere_walk_cosine", "sphere_walk_l2_unit_norm", "ou_l2")}
    return table.assign(**nulls)


def disagreement():
    rows = []
    for weight_decay, checkpoint in itertools.product((0.1, 0.01), (0, 1)):
        a, b = (described(weight_decay=weight_decay, init_seed=seed) for seed in (0, 1))
        rows.append({
            "point_a": a.name, "point_b": b.name, "differs": "init_seed", "same_intrinsic_lr": True,
            "intrinsic_lr_a": a.intrinsic_lr, "checkpoint": checkpoint, "intrinsic_time_a": checkpoint + 1,
            "replicates_a": 8, "permutations": 99, "total_variation": 0.1, "total_variation_low": 0.08,
            "total_variation_high": 0.12, "null_mean": 0.02, "null_q95": 0.03, "p_value": 0.01,
            "within_a": 0.05, "within_b": 0.05,
            "across": 0.06, "across_low": 0.05, "across_high": 0.07, "excess": 0.01, "excess_low": 0.0,
            "excess_high": 0.02, "error_a": 0.03, "error_b": 0.03, "independent_errors": 0.06,
        })  # fmt: skip
    return pd.DataFrame(rows)


def grid():
    cells = list(itertools.product((0.1, 1.0), (0.01, 0.1)))
    keys = {"lr": [c[0] for c in cells], "weight_decay": [c[1] for c in cells], "step": 100}
    keys["intrinsic_lr"] = [lr * weight_decay for lr, weight_decay in cells]
    return with_intervals(keys, {"test_accuracy": [0.9, 0.95, np.nan, 0.8]}, 0.01)


def epochs():
    keys = itertools.product(("within", "across_initialisations"), (100, 200), (100, 200), (0, 1))
    frame = pd.DataFrame(keys, columns=["relation", "step", "partner_step", "replicate"])
    frame = frame.assign(partner=frame["replicate"], partner_point=POINTS[0].name)
    apart = (frame["relation"] != "within") | (frame["step"] != frame["partner_step"])
    quantities = {"cosine": 1 - 0.3 * apart, "disagreement": 0.02 * apart, "disagreement_over_error": 1.1 * apart}
    return with_point(frame.assign(**quantities), POINTS[0])


FIGURES = {
    "curves": (curves_figure, curves),
    "swa": (swa_figure, swa),
    "distance": (distance_figure, distance),
    "epochs": (epochs_figure, epochs),
    "total_variation": (total_variation_figure, disagreement),
    "disagreement": (disagreement_figure, disagreement),
    "grid": (grid_figure, grid),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_have_titles_labels_and_the_same_bytes_twice(name, tmp_path):
    draw, table = FIGURES[name]
    written = []
    for attempt in ("first", "second"):
        figure = draw(table(), EXPERIMENT)
        assert "example" in figure.get_suptitle()
        assert all(axes.get_xlabel() or axes.get_xticklabels() for axes in figure.axes)
        assert any(axes.get_ylabel() for axes in figure.axes)
        paths = [tmp_path / f"{attempt}.{extension}" for extension in ("svg", "pdf", "png")]
        style.save(figure, paths)
        written.append([path.read_bytes() for path in paths])
    assert written[0] == written[1]
    assert all(len(content) > 1000 for content in written[0])
    assert {path.name.split(".")[0] for path in tmp_path.iterdir()} == {"first", "second"}


@pytest.mark.parametrize("look", [Look(3.25, "serif", 8), Look(10, "monospace", 12)], ids=["column", "wide"])
def test_another_look_gives_the_same_bytes_twice_and_another_size(look, tmp_path):
    written = []
    for attempt in ("first", "second"):
        paths = [tmp_path / f"{attempt}.{extension}" for extension in ("svg", "pdf", "png")]
        style.save(curves_figure(curves(), EXPERIMENT, look=look), paths, look)
        written.append([path.read_bytes() for path in paths])
    assert written[0] == written[1]
    width = int.from_bytes(written[0][2][16:20], "big")
    assert width == pytest.approx(200 * look.width, abs=1)


def test_text_stays_text_in_vector_formats(tmp_path):
    paths = [tmp_path / "figure.svg", tmp_path / "figure.pdf"]
    style.save(curves_figure(curves(), EXPERIMENT), paths)
    svg, pdf = (path.read_bytes() for path in paths)
    assert b"Norm of the weights" in svg
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf


def test_panels_of_a_column_stand_below_each_other():
    wide, narrow = (curves_figure(curves(), EXPERIMENT, look=Look(width)) for width in (6.75, 3.25))
    rows = [len({axes.get_subplotspec().rowspan.start for axes in figure.axes}) for figure in (wide, narrow)]
    assert rows == [1, 2]
    assert narrow.get_figwidth() == 3.25


@pytest.mark.parametrize("name", FIGURES)
def test_no_text_is_clipped_or_overlaps_another_in_a_column(name):
    draw, table = FIGURES[name]
    assert collisions(draw(table(), EXPERIMENT, look=Look(3.25, size=7))) == []


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


@pytest.mark.parametrize("name", [*FIGURES])
def test_one_row_is_enough(name, tmp_path):
    draw, table = FIGURES[name]
    style.save(draw(table().head(1), EXPERIMENT), [tmp_path / "one.svg"])
    assert (tmp_path / "one.svg").is_file()


def test_no_pair_of_equal_intrinsic_rate_leaves_an_empty_figure(tmp_path):
    table = disagreement().assign(same_intrinsic_lr=False)
    for draw in (total_variation_figure, disagreement_figure):
        style.save(draw(table, EXPERIMENT), [tmp_path / "none.png"])


def test_numbers_are_spelt_for_readers():
    assert [style.scientific(value) for value in (0.1, 1e-3, 3e-3)] == ["0.1", "$10^{-3}$", r"$3\times 10^{-3}$"]


def shown_texts(figure):
    """Return the texts that a reader sees: (text, box in pixels)."""
    figure.canvas.draw()
    texts = [*figure.texts, *(part for box in figure.legends for part in (*box.get_texts(), box.get_title()))]
    for axes in figure.axes:
        texts += [axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts]
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for minor in (False, True):
                labels = axis.get_ticklabels(minor=minor)
                places = axis.get_ticklocs(minor=minor)
                texts += [label for label, at in zip(labels, places, strict=True) if low <= at <= high]
    unique = {id(text): text for text in texts if text.get_visible() and text.get_text().strip()}
    return [(text.get_text(), text.get_window_extent()) for text in unique.values()]


def collisions(figure):
    boxes = shown_texts(figure)
    width, height = figure.bbox.size
    found = [a for a, box in boxes if min(box.x0, box.y0) < -1 or box.x1 > width + 1 or box.y1 > height + 1]
    for (a, p), (b, q) in itertools.combinations(boxes, 2):
        if min(p.x1, q.x1) - max(p.x0, q.x0) > 1 and min(p.y1, q.y1) - max(p.y0, q.y0) > 1:
            found.append((a, b))
    return found


def many_pairs():
    kinds = ("init_scale", "lr", "lr+init_scale", "batch_size")
    return pd.concat([disagreement().assign(differs=kind, point_b=kind) for kind in kinds])


@pytest.mark.parametrize(
    ("draw", "table"), [*FIGURES.values(), (disagreement_figure, many_pairs)], ids=[*FIGURES, "many pairs"]
)
def test_no_text_is_clipped_or_overlaps_another(draw, table):
    assert collisions(draw(table(), EXPERIMENT)) == []


@pytest.mark.parametrize("name", [name for name in FIGURES if name != "grid"])
def test_an_empty_table_gives_an_empty_figure(name):
    draw, table = FIGURES[name]
    assert collisions(draw(table().head(0), EXPERIMENT)) == []


def test_an_empty_grid_is_refused():
    with pytest.raises(InputError, match="empty table"):
        grid_figure(grid().head(0), EXPERIMENT)


@pytest.mark.parametrize("name", FIGURES)
def test_runs_that_all_diverged_are_drawn_without_complaint(name):
    draw, table = FIGURES[name]
    frame = table()
    quantities = [c for c in frame if c.endswith(("_mean", "_low", "_high", "_q95")) or c.startswith("total_var")]
    quantities += [c for c in ("cosine", "disagreement_over_error") if c in frame]
    assert collisions(draw(frame.assign(**dict.fromkeys(quantities, np.nan)), EXPERIMENT)) == []


def test_a_rate_whose_runs_all_diverged_keeps_its_row_of_the_grid():
    table = grid()
    quantities = [c for c in table if c.startswith("test_accuracy")]
    table.loc[table["lr"] == 1.0, quantities] = np.nan
    heat = grid_figure(table, EXPERIMENT).axes[0]
    assert [label.get_text() for label in heat.get_yticklabels()] == ["0.1", "1"]
    assert sum(bool(patch.get_hatch()) for patch in heat.patches) == 2


def test_diagonals_of_the_grid_carry_their_intrinsic_rate():
    table = grid().fillna(0.9).assign(intrinsic_lr=[1e-3, 1e-2, 1e-2, 1e-1])
    texts = [text.get_text() for text in grid_figure(table, EXPERIMENT).axes[0].texts]
    assert "$10^{-2}$" in texts


def test_a_weight_decay_of_zero_has_cells_but_no_diagonal():
    table = grid().replace({"weight_decay": {0.01: 0.0}})
    table["intrinsic_lr"] = table["lr"] * table["weight_decay"]
    labels = grid_figure(table, EXPERIMENT).axes[0].get_xticklabels()
    assert [label.get_text() for label in labels] == ["0", "0.1"]


def test_pairs_with_fewer_checkpoints_are_shown_at_their_own_last():
    table = disagreement()
    shorter = table[(table["intrinsic_lr_a"] < 0.005) | (table["checkpoint"] == 0)]
    labels = disagreement_figure(shorter, EXPERIMENT).axes[0].get_xticklabels()
    assert len(labels) == 2


def test_open_markers_say_what_is_not_above_the_floor():
    table = disagreement().assign(p_value=[0.001, 0.5, 0.001, 0.001])
    lines = total_variation_figure(table, EXPERIMENT).axes[0].get_lines()
    open_points = sum(len(line.get_xdata()) for line in lines if line.get_markerfacecolor() == "white")
    assert open_points == 1


def test_rates_equal_to_two_digits_share_a_colour():
    table = curves()
    table.loc[table["intrinsic_lr"] == 1e-3, "intrinsic_lr"] = 0.00099856
    labels = [text.get_text() for text in curves_figure(table, EXPERIMENT).legends[0].get_texts()]
    assert r"$\lambda_e$ = $10^{-3}$" in labels
