"""The sources' numbers beside this study's: what is measured, of how many runs, in which setting."""

import json

import numpy as np
import pandas as pd
import pytest
from checks import Point, experiment

from intrinsic_lr.claims.shared import paper
from intrinsic_lr.claims.shared.paper import Judged, as_in_paper, side_by_side
from intrinsic_lr.claims.shared.spec import ClaimSpec
from intrinsic_lr.study.claims import CLAIMS

DATASETS = {
    "cifar": json.dumps({"kind": "torchvision", "dataset": "CIFAR10", "root": "data"}),
    "cifar_1000": json.dumps({"kind": "torchvision", "dataset": "CIFAR10", "root": "data", "subset": 1000}),
    "mnist": json.dumps({"kind": "torchvision", "dataset": "MNIST", "root": "data"}),
    "mnist_14": json.dumps({"kind": "torchvision", "dataset": "MNIST", "root": "data", "image_size": 14}),
    "photographs": json.dumps({"kind": "image_folder", "root": "data"}),
}
_OPTIONS = "affine=false,final_relu=true,head=fixed,norm=batch,width=16"
MODELS = {
    "resnet32": f"preresnet:blocks=5,{_OPTIONS}",
    "resnet8": f"preresnet:blocks=1,{_OPTIONS}",
    "cnn": "cnn4:affine=false,head=fixed,norm=batch,width=16",
}


def point(name="a", dataset="cifar", model="resnet32", **values):
    axes = {"name": name, "dataset": dataset, "model": model, "batch_size": 128, "lr": 0.8, "weight_decay": 5e-4}
    return Point(**{**axes, "intrinsic_lr": 4e-4, "length": 1000, **values})


def spec(claim, **roles):
    experiments = {role: experiment(role, points) for role, points in roles.items()}
    return ClaimSpec(claim, experiments=experiments, analysis={"confidence": 0.95})


def findings(*verdicts):
    roles = ["criterion"] * (len(verdicts) - 1) + ["control"]
    return pd.DataFrame({"role": roles, "verdict": verdicts})


MET = findings("reproduced", "rejected")


def rows_of(claim, judged):
    table = side_by_side({claim: judged}, DATASETS, MODELS)
    return table[table["claim"] == claim].set_index("quantity")


PASTS = spec("random_pasts", histories=[point("a"), point("b")])


def pasts(accuracies):
    """Return the end of random pasts: a row per past and replicate."""
    rows = [
        ("end", name, replicate, value)
        for name, values in accuracies.items()
        for replicate, value in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=["part", "point", "replicate", "test_accuracy"])


def test_every_number_of_the_catalogue_is_measured_and_no_other():
    stated = {claim for claim, about in CLAIMS.items() if about.paper}
    assert stated == set(paper.MEASURES)


def test_what_was_not_run_says_so_and_keeps_the_source_s_number():
    table = side_by_side({}, DATASETS, MODELS)
    assert list(table.columns) == list(paper.COLUMNS)
    assert len(table) == sum(len(CLAIMS[claim].paper) for claim in paper.MEASURES)
    assert set(table["verdict"]) == {"not run"}
    assert table[["here", "here_low", "here_high", "replicates", "setting", "as_in_paper"]].isna().all(axis=None)
    assert "about 0.95" in set(table["paper"])


def test_end_of_random_pasts_is_the_mean_over_all_runs_and_the_largest_difference_of_two_pasts():
    accuracies = {"a": [0.94, 0.95, 0.96], "b": [0.95, 0.96, 0.97]}
    rows = rows_of("random_pasts", Judged(PASTS, pasts(accuracies), MET))
    mean, spread = rows.iloc[0], rows.iloc[1]
    values = np.concatenate(list(accuracies.values()))
    assert mean["here"] == pytest.approx(values.mean())
    half = 2.5706 * values.std(ddof=1) / 6**0.5  # Student's t at 5 degrees of freedom
    ends = values.mean() - half, values.mean() + half
    assert (mean["here_low"], mean["here_high"]) == pytest.approx(ends, 1e-3)
    assert spread["here"] == pytest.approx(0.01)
    assert spread["here_low"] <= 0.01 <= spread["here_high"]
    assert list(rows["replicates"]) == [3, 3]
    assert set(rows["verdict"]) == {"reproduced"}
    assert set(rows["as_in_paper"]) == {"yes"}


def test_runs_that_are_not_finite_count_neither_in_the_mean_nor_in_the_number():
    table = pasts({"a": [0.9, np.nan, 0.92], "b": [0.91, 0.91, 0.91]})
    row = rows_of("random_pasts", Judged(PASTS, table, MET)).iloc[0]
    assert row["here"] == pytest.approx(np.mean([0.9, 0.92, 0.91, 0.91, 0.91]))
    assert row["replicates"] == 2


def test_a_history_without_a_run_leaves_the_difference_open():
    judged = Judged(PASTS, pasts({"a": [0.9, 0.92]}), findings("inconclusive", "rejected"))
    row = rows_of("random_pasts", judged).iloc[1]
    assert np.isnan(row["here"])
    assert (row["replicates"], row["verdict"]) == (0, "inconclusive")


def small_rate(usual, small):
    rows = [
        (part, step, replicate, accuracy, step == last)
        for part, values, last in (("usual", usual, 500), ("small", small, 5000))
        for replicate, value in enumerate(values)
        for step, accuracy in ((10, 0.1), (last, value))
    ]
    return pd.DataFrame(rows, columns=["part", "step", "replicate", "test_accuracy", "final"])


@pytest.mark.parametrize(("sizes", "ratio"), [((128, 64), 5), (("full", "full"), 10), (("full", 64), np.nan)])
def test_epochs_of_the_small_rate_are_as_the_images_seen(sizes, ratio):
    usual, small = (point(batch_size=size) for size in sizes)
    asked = spec("small_lr_generalises", usual=[usual], small=[small], small_short=[point()])
    rows = rows_of("small_lr_generalises", Judged(asked, small_rate([0.9, 0.91], [0.92, 0.93, 0.94]), MET))
    epochs, accuracy = rows.iloc[0], rows.iloc[1]
    assert [epochs["here"], epochs["here_low"], epochs["here_high"]] == pytest.approx([ratio] * 3, nan_ok=True)
    assert epochs["replicates"] == 2
    assert accuracy["here"] == pytest.approx(0.93 - 0.905)
    assert accuracy["here_low"] < accuracy["here"] < accuracy["here_high"]


def meeting(p_values, met_at=(810.0, 810.0), epochs=(20, 81, 100, 200)):
    """Return two pairs of schedules at each epoch of 10 steps; `p_values` for each."""
    rows = [
        {"part": "meet", "step_a": 10 * epoch, "epoch": float(epoch), "met_at": met, "p_value": p,
         "replicates_a": 500, "replicates_b": 480}
        for values, met in zip(p_values, met_at, strict=True)
        for epoch, p in zip(epochs, values, strict=True)
    ]  # fmt: skip
    apart = {"part": "do not meet", "step_a": 2000, "epoch": 200.0, "p_value": 0.001, "replicates_a": 3}
    return pd.DataFrame([*rows, apart, {"part": "rate", "step_a": 0, "epoch": 0.0}])


SCHEDULES = spec(
    "schedules_same_equilibrium",
    matched_schedules=[point("a", "mnist", "cnn", lr=0.1), point("b", "mnist", "cnn", lr=0.1)],
    unmatched_schedules=[point("c", "mnist", "cnn", lr=0.1)],
)


@pytest.mark.parametrize(
    ("p_values", "floor", "above"),
    [
        # The later of the two pairs counts, and a lucky checkpoint in between does not.
        (([0.001, 0.001, 0.4, 0.5], [0.001, 0.2, 0.01, 0.5]), 200, 100),
        (([0.001, 0.001, 0.4, 0.5], [0.001, 0.001, 0.3, 0.5]), 100, 81),
        # Never different, and different to the end.
        (([0.3, 0.3, 0.3, 0.3], [0.3, 0.3, 0.3, 0.3]), 20, np.nan),
        (([0.001, 0.001, 0.001, 0.001], [0.3, 0.3, 0.3, 0.3]), np.nan, 200),
    ],
)
def test_floor_is_reached_at_the_checkpoint_from_which_on_no_pair_is_rejected(p_values, floor, above):
    rows = rows_of("schedules_same_equilibrium", Judged(SCHEDULES, meeting(p_values), MET))
    met, at_floor = rows.iloc[0], rows.iloc[1]
    assert met["here"] == 81
    assert at_floor["here"] == pytest.approx(floor, nan_ok=True)
    assert at_floor["here_low"] == pytest.approx(above, nan_ok=True)
    assert at_floor["replicates"] == 480
    assert at_floor["as_in_paper"] == "no: 480 runs, not 500"


def test_schedules_of_which_two_never_meet_have_no_epoch_of_meeting():
    table = meeting(([0.3] * 4, [0.3] * 4), met_at=(810.0, np.nan))
    assert np.isnan(rows_of("schedules_same_equilibrium", Judged(SCHEDULES, table, MET)).iloc[0]["here"])


def test_descent_tells_when_decay_ends_and_how_many_runs_fitted_before():
    columns = ["point", "replicate", "off_step", "fitted_step", "loss_before"]
    runs = [("a", 0, 30_000, 900.0, 0.2), ("a", 1, 30_000, 31_000.0, 0.2), ("b", 0, 30_000, np.nan, 0.2),
            ("b", 1, 30_000, 500.0, np.nan)]  # fmt: skip
    table = pd.DataFrame(runs, columns=columns).assign(part="run", role="decay")
    asked = spec("gd_never_settles", decay=[point("a", "cifar_1000", batch_size="full")], no_decay=[])
    rows = rows_of("gd_never_settles", Judged(asked, table, MET))
    fitted, off = rows.iloc[0], rows.iloc[1]
    assert fitted["here"] == pytest.approx(1 / 3)
    assert 0 < fitted["here_low"] < 1 / 3 < fitted["here_high"] < 1
    assert (off["here"], off["replicates"], off["as_in_paper"]) == (30_000, 1, "yes")


# The setting.

E5, E4 = CLAIMS["random_pasts"].paper["end_accuracy"], CLAIMS["schedules_same_equilibrium"].paper["common_rate"]


@pytest.mark.parametrize(
    ("number", "points", "replicates", "words"),
    [
        (E5, [point()], 5, "yes"),
        (E5, [point(dataset="photographs")], 5, "no: data set image_folder, not CIFAR10"),
        (E5, [point(dataset="cifar_1000")], 5, "no: data set CIFAR10 (1,000 training images), not CIFAR10"),
        (E5, [point(model="resnet8")], 5, "no: model of blocks 1, not 5"),
        (E5, [point(), point(model="cnn")], 5, "no: model of kind cnn4, not preresnet"),
        (E4, [point(dataset="mnist", model="cnn", lr=0.1)], 500, "yes"),
        (
            E4,
            [point(dataset="mnist_14", model="cnn", lr=0.1, weight_decay=0.1)],
            24,
            "no: data set MNIST at 14x14 pixels, not MNIST; "
            "learning rate 0.1 and weight decay 0.1, not 0.1 and 0.0005; 24 runs, not 500",
        ),
    ],
)
def test_what_differs_from_the_paper_is_said(number, points, replicates, words):
    assert as_in_paper(number, points, replicates, DATASETS, MODELS) == words
