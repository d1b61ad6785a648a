"""The benchmark of the analyses: its contenders compute one thing, and its arithmetic adds up; no times."""

import os

import numpy as np
import pandas as pd
import pytest

from benchmarks import analyses, checkpoints, plain, predictions
from benchmarks.cases import MODELS
from benchmarks.checkpoints import Weights
from benchmarks.child import measure
from benchmarks.predictions import CLASSES, SEED, Labels
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.stats.disagreement import bootstrap_resamples, permutation_null

SMALL = Labels(0.2, runs=12, settings=3, checkpoints=2, points=50, draws=30)


@pytest.mark.parametrize("error", [0.2, None])
def test_contenders_give_the_librarys_nulls_and_resamples(error, tmp_path):
    labels = Labels(error, runs=12, settings=2, checkpoints=1, points=450, draws=30)
    labels.write(tmp_path)
    a, b = predictions.read(tmp_path, (0, 1), 0)
    splits, resamples = (np.random.default_rng(child) for child in np.random.SeedSequence(SEED).spawn(2))
    null = permutation_null(a, b, CLASSES, 30, splits)
    drawn = bootstrap_resamples(a, b, CLASSES, 30, resamples)
    for found in (plain.loops(a, b[:9], CLASSES, 5, 0), plain.products(a, b[:9], CLASSES, 5, 0)):
        np.testing.assert_allclose(found["excess"], plain.loops(a, b[:9], CLASSES, 5, 0)["excess"], atol=1e-6)
    for found in (predictions.loops(tmp_path, 30), predictions.products(labels, tmp_path)):
        np.testing.assert_allclose(found["null"], null, rtol=1e-5)
        for name in ("total_variation", "across", "excess"):
            np.testing.assert_allclose(found[name], drawn[name], rtol=1e-5, atol=1e-6)


def test_every_pair_is_compared_at_every_checkpoint(tmp_path):
    SMALL.write(tmp_path)
    assert SMALL.comparisons == 6
    rows = predictions.library(SMALL, tmp_path, 2)
    assert len(rows) == 6
    assert len({row["total_variation"] for row in rows}) == 6
    assert {row["replicates_a"] for row in rows} == {12}


@pytest.mark.parametrize("error", [0.01, 0.05])
def test_simulated_runs_err_as_often_as_asked_and_agree_on_easy_points(error, tmp_path):
    labels = Labels(error, runs=40, settings=2, checkpoints=1, points=4000, draws=1)
    labels.write(tmp_path)
    drawn = predictions.read(tmp_path, (0, 1), 0)
    for side in drawn:
        assert (side != labels.truth()).mean() == pytest.approx(error, rel=0.15)
    assert not np.array_equal(*drawn)
    # Were all points alike, hardly one would be unanimous.
    assert (1 - error) ** 80 + 0.1 < predictions.unanimous(tmp_path) < 1


def test_distances_are_the_librarys(tmp_path):
    weights = Weights(MODELS["mlp"], checkpoints=4, replicates=3)
    weights.write(tmp_path)
    inside, outside = checkpoints.library(weights, tmp_path, 1)
    (found,) = checkpoints.pdist(weights, tmp_path)
    own = inside[inside["replicate"] == 0]
    for quantity, values in zip(("l2", "l2_unit_norm", "cosine"), found, strict=True):
        for layer, pairs in zip(own["layer"].unique(), values, strict=True):
            np.testing.assert_allclose(own.loc[own["layer"] == layer, quantity], pairs, rtol=1e-9)
    assert set(outside["step"]) == set(weights.steps)
    assert len(outside) == 4 * 3 * own["layer"].nunique()


def test_a_measurement_is_of_the_function_alone():
    found = measure(np.ones, 1_000_000)
    assert found.value.sum() == 1_000_000
    assert found.peak_bytes > found.value.nbytes
    assert found.seconds > 0
    with pytest.raises(InputError, match="ended without a result"):
        measure(os._exit, 1)


def test_work_is_scaled_to_the_whole(tmp_path, monkeypatch, capsys):
    taken = {"library": 1.0, "products": 2.0, "loops": 0.5, "pdist": 3.0}

    def pretend(function, *_):
        return analyses.Measurement(taken[function.__name__], 0.0, 2**20, None)

    monkeypatch.setattr(analyses, "measure", pretend)
    monkeypatch.setattr(analyses, "QUICK", {"runs": 4, "checkpoints": 8, "points": 30, "draws": 10})
    analyses.main(["--quick", "--out", str(tmp_path / "deep" / "found.csv")])
    table = pd.read_csv(tmp_path / "deep" / "found.csv").set_index(["case", "contender"])
    # Eight checkpoints of three pairs; ten draws, of which the loops take two; one of two replicates.
    assert table.loc[("error 5 %", "library"), "full_seconds"] == 1
    assert table.loc[("error 5 %", "products"), "full_seconds"] == pytest.approx(2 * 24)
    assert table.loc[("error 5 %", "loops"), "ratio"] == pytest.approx(0.5 * 24 * 5)
    assert table.loc[("equally likely", "library"), "full_seconds"] == pytest.approx(2)
    assert table.loc[("equally likely", "loops"), "ratio"] == pytest.approx(0.5 * 24 * 5 / 2)
    assert table.loc[("preresnet8", "pdist"), "full_seconds"] == 6
    assert list(tmp_path.iterdir()) == [tmp_path / "deep"]
    assert list((tmp_path / "deep").iterdir()) == [tmp_path / "deep" / "found.csv"]
    assert "NOT" not in capsys.readouterr().out


def test_limits_are_judged_at_full_size():
    (row,) = analyses._rows(
        "distances", "x", {"library": (analyses.Measurement(100.0, 0.0, 2**32, None), 1.0)}, {}, analyses.MOST
    )
    assert "  within 120 s and 4 GiB" in analyses._line(row)
    assert "NOT within" in analyses._line(row | {"full_seconds": 121.0})
    assert "NOT within" in analyses._line(row | {"peak_bytes": 2**32 + 1})


def test_a_mistyped_option_is_one_line():
    with pytest.raises(InputError, match="unrecognized arguments: --fast"):
        analyses.main(["--fast"])
