"""Odd but valid designs: every analysis measures them, and every figure of its tables is drawn."""

from importlib import import_module

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from test_figures import EXPERIMENT, FIGURES, collisions

from intrinsic_lr.analyses.tables import AnalysisData, with_axes, write_table
from intrinsic_lr.commands import extract, train
from intrinsic_lr.runs.ensembles import Ensemble
from intrinsic_lr.stats.disagreement import JUDGED
from intrinsic_lr.study.analyses import ANALYSES
from intrinsic_lr.study.experiment import Experiment, PlannedPoint
from plans import extract_words, plan, timeline, train_words, write_noise

MLP = {"kind": "mlp", "width": 8}
SETTINGS = {"confidence": 0.5, "interpolation": 1, "permutations": 20, "bootstrap": 20, "seed": 0}
TWO_SEEDS = ({"init_seed": 0}, {"init_seed": 1})
SHARED = tuple({"init_seed": seed, "init_sharing": "shared"} for seed in (0, 1, 2))


def trained(folder, points, replicates=3, checkpoints=(0, 3, 6), trace_every=1, compare="all", model=MLP):
    """Train points of noise, given by their axes; return the data of an analysis of them."""
    files, planned = [], []
    sets = {name: write_noise(folder / "data", name, seed) for seed, name in enumerate("de")}
    for axes in points:
        point = PlannedPoint(
            **{"dataset": "d", "model": "mlp", "batch_size": 5, "lr": 0.1, "weight_decay": 0.05, **axes},
            length=checkpoints[-1],
            steps=checkpoints,
        )
        block = folder / "runs" / point.name / "block_0000"
        own = {key: getattr(point, key) for key in ("init_seed", "init_sharing", "momentum", "init_scale")}
        of_point = plan(
            **{"model": model, "timeline": timeline((point.length, point.lr, point.weight_decay)), **own},
            **{"point": point.name, "checkpoints": checkpoints, "replicates": (0, replicates)},
            **{"trace_every": trace_every, "log_every": 2},
        )
        train.main(train_words(of_point, sets[point.dataset], block))
        extract.main(extract_words(sets[point.dataset], block))
        files += [str(block / "run.json"), *map(str, sets[point.dataset])]
        planned.append(point)
    experiment = Experiment("odd", tuple(planned), replicates, compare)
    return AnalysisData.read(experiment.to_json(), files, SETTINGS, "cpu", 1)


def products(data, analysis, folder):
    """Return the figures of an analysis, drawn from its tables as they are written and read."""
    module, spec = import_module(f"intrinsic_lr.analyses.{analysis}"), ANALYSES[analysis]
    tables = module.measure(data)
    assert set(tables) == set(spec.tables)
    for name, table in tables.items():
        write_table(with_axes(table, data.experiment.points), folder / f"{name}.csv")
    table = pd.read_csv(folder / f"{spec.draws_from}.csv")
    figures = [getattr(module, f"draw_{figure}")(table, data.experiment, 0.5) for figure in spec.figures]
    assert [collisions(figure) for figure in figures] == [[]] * len(figures), analysis
    plt.close("all")
    return figures


DESIGNS = {
    "one replicate": {"points": TWO_SEEDS, "replicates": 1},
    "two replicates": {"points": TWO_SEEDS, "replicates": 2},
    "one checkpoint": {"points": TWO_SEEDS, "checkpoints": (6,)},
    "two checkpoints": {"points": TWO_SEEDS, "checkpoints": (3, 6)},
    "one point": {"points": [{}]},
    "seeds that share their weights": {"points": SHARED},
    "two data sets": {"points": [{"dataset": "d"}, {"dataset": "e"}]},
    "two data sets and seeds": {"points": [{"dataset": d, **seed} for d in "de" for seed in TWO_SEEDS]},
    "no equal pairs": {"points": [{"lr": 0.1}, {"lr": 0.2}], "compare": "same_intrinsic_lr"},
    "no weight decay": {"points": [{"weight_decay": 0.0}, {"weight_decay": 0.0, "lr": 0.2}]},
    "all diverged": {"points": TWO_SEEDS, "model": {**MLP, "affine": True, "head": "trained"}, "lr": 1e30},
    **{f"{6 // every} trace points": {"points": TWO_SEEDS, "trace_every": every} for every in (6, 3, 2)},
}


@pytest.mark.parametrize("design", DESIGNS)
def test_odd_designs_give_tables_and_figures(design, tmp_path):
    options = dict(DESIGNS[design])
    if "lr" in options:
        lr = options.pop("lr")
        options["points"] = [{**axes, "lr": lr} for axes in options["points"]]
    data = trained(tmp_path, **options)
    for analysis in ANALYSES:
        products(data, analysis, tmp_path)


PAIRED = {"replicates that start at the same weights": {}, "common batches": {"init_seed": 1, "data_order": 0}}


@pytest.mark.parametrize("design", PAIRED)
def test_settings_whose_replicates_are_paired_are_not_judged(design, tmp_path):
    other = {"lr": 0.2, "weight_decay": 0.025, **PAIRED[design]}
    first = {"data_order": 0} if "data_order" in other else {}
    third = {"init_seed": 2, "lr": 0.4, "weight_decay": 0.0125}
    data = trained(tmp_path, [first, other, third])
    figures = products(data, "disagreement", tmp_path)
    table = pd.read_csv(tmp_path / "disagreement.csv")
    a, b, _ = (point.name for point in data.experiment.points)
    paired = (table["point_a"] == a) & (table["point_b"] == b)
    assert table.loc[paired, list(JUDGED)].isna().all(axis=None)
    assert table.loc[~paired, "total_variation"].notna().all()
    assert table["error_a"].notna().all()
    for figure in figures:
        assert "left out: 1 of the pairs" in figure.legends[0].get_title().get_text()


def test_gradients_that_are_all_zero_give_tables_and_figures(tmp_path, monkeypatch):
    data = trained(tmp_path, TWO_SEEDS)
    for record in ("trace", "history"):
        read = getattr(Ensemble, record)
        monkeypatch.setattr(
            Ensemble, record, lambda self, read=read: read(self).assign(unit_gradient_squared_norm=0.0)
        )
    for analysis in ("curves", "grid", "phase"):
        products(data, analysis, tmp_path)


def test_a_regime_of_few_trace_rows_is_that_of_its_losses(tmp_path):
    data = trained(tmp_path, [{"lr": 1e-6}], trace_every=3)
    products(data, "phase", tmp_path)
    last = pd.read_csv(tmp_path / "phase.csv").iloc[-1]
    assert (last["diverged"], last["converging"] + last["chaotic_equilibrium"]) in {(0, 3), (3, 0)}


@pytest.mark.parametrize("confidence", [0.5, 0.95])
def test_the_intervals_of_a_figure_are_told_by_the_setting(confidence):
    for name, (draw, table) in FIGURES.items():
        figure = draw(table(), EXPERIMENT, confidence)
        text = " ".join(legend.get_title().get_text() for legend in figure.legends)
        assert name == "epochs" or f"{100 * confidence:g} %" in text, name
        assert f"{145 - 100 * confidence:g} %" not in text
    plt.close("all")
