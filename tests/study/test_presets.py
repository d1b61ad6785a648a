"""The configs at the paper's scale ask the paper's questions, and their overlays the same ones in fewer steps."""

import re
import subprocess
import sys
from functools import cache
from itertools import accumulate
from pathlib import Path

import pytest

from intrinsic_lr.claims.shared.gains import averages_of
from intrinsic_lr.study import pairs
from intrinsic_lr.study.claims import CLAIMS
from intrinsic_lr.study.config_files import merge_files, merge_over_default, read_file
from intrinsic_lr.study.study import Study

REPOSITORY = Path(__file__).parents[2]
CONFIG = REPOSITORY / "config"
FULL = ("mnist", "cifar10")
ALL = (*FULL, "fashion_mnist", "mnist_small", "fashion_mnist_small", "cifar10_small")


@cache
def read(name):
    return read_file(CONFIG / f"{name}.yaml")


@cache
def merged(name):
    return merge_files([CONFIG / f"{name}.yaml"])


@cache
def study(name):
    return Study.read(merged(name))


def training(name, experiment, **wanted):
    """Return the training of the one point of an experiment that has these values."""
    (point,) = [
        point
        for point in study(name).experiments[experiment].points
        if all(getattr(point, key) == value for key, value in wanted.items())
    ]
    return study(name).trainings[point.name]


def ends(timeline):
    """Return the steps at which the segments of a timeline end."""
    return list(accumulate(segment.steps for segment in timeline.segments))


def intrinsic_rates(timelines, step):
    """Return the different intrinsic rates of the step, to the digits that rates have."""
    return {f"{lr * weight_decay:.9g}" for lr, weight_decay in (timeline.at(step) for timeline in timelines)}


def times_in_units(name, experiment):
    """Return, for each point, in multiples of 1/lambda_e: ends of segments, checkpoints, length."""
    selected = study(name).experiments[experiment]
    found = []
    for point in selected.points:
        # Descent without weight decay is timed by the rate of the runs that it is compared with.
        rate = point.intrinsic_lr or {"cifar10": 4e-4, "cifar10_small": 4e-3}[name]
        changes = [step * rate for step in ends(study(name).trainings[point.name].timeline)]
        checkpoints = [step * rate for step in point.steps]
        found.append((changes, checkpoints, point.length * rate))
    return found


# What each file runs, and on what.


def repeated(changes, config, place=""):
    """Return the keys of an overlay, as paths, that the config which it changes has already with that value."""
    found = []
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(config.get(key), dict):
            found += repeated(value, config[key], f"{place}{key}.")
        elif key in config and value == config[key]:
            found.append(f"{place}{key}")
    return found


@pytest.mark.parametrize("name", ALL)
def test_presets_hold_what_differs_and_map_no_role_again(name):
    below = merge_over_default({"extends": read(name).get("extends", "config.yaml")})
    del below["extends"]
    assert repeated(read(name), below) == []
    assert set(study(name).experiments) <= set(read("config")["experiments"])
    assert not [claim for claim in read(name)["claims"].values() if "experiments" in claim]


OWN_DATA = {
    "mnist": {"mnist"},
    "fashion_mnist": {"fashion_mnist"},
    "mnist_small": {"mnist_14"},
    "fashion_mnist_small": {"fashion_mnist_14"},
    "cifar10": {"cifar10", "cifar10_1000"},
    "cifar10_small": {"cifar10", "cifar10_1000"},
}


@pytest.mark.parametrize("name", ALL)
def test_only_its_own_data_are_used(name):
    # `datasets` has what trainings and claims read, and gd_toy reads none.
    assert set(study(name).datasets) == OWN_DATA[name]
    assert all(merged(name)["datasets"][dataset]["download"] is True for dataset in OWN_DATA[name])


@pytest.mark.parametrize("name", ALL)
def test_no_run_is_replaced_by_one_of_another_file(name):
    others = {point for other in ALL if other != name for point in study(other).trainings}
    assert not set(study(name).trainings) & others


def test_between_them_the_two_files_ask_every_claim():
    assert set(study("mnist").claims) | set(study("cifar10").claims) == set(read("config")["claims"])
    assert set(read("beyond")["claims"]) | set(read("config")["claims"]) == set(CLAIMS)
    assert set(study("fashion_mnist").claims) == set(study("mnist").claims)
    assert set(study("cifar10_small").claims) == set(study("cifar10").claims)


# E4: schedules that meet.


@pytest.mark.parametrize(
    ("name", "epoch", "steps_per_epoch"),
    [("mnist", 81, 468), ("fashion_mnist", 81, 468), ("mnist_small", 6, 125), ("fashion_mnist_small", 6, 125)],
)
def test_three_schedules_meet_at_one_epoch_and_a_fourth_does_not(name, epoch, steps_per_epoch):
    selected = study(name).experiments["matched_schedules"]
    timelines = [study(name).trainings[point.name].timeline for point in selected.points]
    meeting, last = epoch * steps_per_epoch, timelines[0].steps - 1
    assert len(intrinsic_rates(timelines, meeting - 1)) > 1
    assert len(intrinsic_rates(timelines, meeting)) == 1
    # No rate changes after that, so that they stay together.
    assert {step for timeline in timelines for step in ends(timeline) if step > meeting} == {last + 1}
    # Three different pasts, whose runs begin at different weights.
    assert len(set(timelines)) == len({point.init_seed for point in selected.points}) == 3
    (rate,) = map(float, intrinsic_rates(timelines, last))
    assert (last + 1 - meeting) * rate == pytest.approx(5, rel=0.01)
    # Checkpoints: right at the meeting, some before, most after.
    for point in selected.points:
        steps = point.steps
        assert meeting in steps
        assert sum(step < meeting for step in steps) >= 3
        assert sum(step > meeting for step in steps) >= 6
    (other,) = study(name).experiments["unmatched_schedules"].points
    (apart,) = map(float, intrinsic_rates([study(name).trainings[other.name].timeline], last))
    assert apart == pytest.approx(10 * rate)
    assert other.steps == steps
    if name == "mnist":
        # The paper's rates and number of runs.
        assert {(point.lr, point.weight_decay) for point in selected.points} == {(0.1, 5e-4)}
        assert selected.replicates == 500


# E6 and E3.


@pytest.mark.parametrize(("name", "count", "span"), [("mnist", 4, 32), ("mnist_small", 3, 10)])
def test_rates_span_a_decade_or_more_with_many_initialisations_each(name, count, span):
    experiment = study(name).experiments["mixing"]
    by_rate, seeds = {}, []
    for setting in pairs.repeated_initialisations(experiment.points, experiment.replicates):
        starts = sum(point.initialisation(experiment.replicates - 1) + 1 for point in setting)
        by_rate.setdefault(setting[0].intrinsic_lr, starts)
        seeds += [point.init_seed for point in setting]
    assert len(by_rate) == count
    assert all(starts >= 10 for starts in by_rate.values())
    assert len(set(seeds)) == len(seeds), "settings share no initialisation"
    assert max(by_rate) / min(by_rate) == pytest.approx(span, rel=0.05)


@pytest.mark.parametrize("name", ALL)
def test_averages_have_their_checkpoints_at_the_usual_and_at_ten_times_the_usual_length(name):
    import pandas as pd

    selected = study(name).experiments["trajectory"]
    (point,) = selected.points
    rows = pd.DataFrame(
        columns=["average", "point", "step", "delta", "relation", "normalisation", "replicate", "partner_point",
                 "partner", "intrinsic_lr", "test_loss", "test_loss_start", "test_loss_end", "test_loss_gain"]
    )  # fmt: skip
    for claim in ("swa_within", "swa_across"):
        settings = merged(name)["claims"][claim]["settings"]
        # Raises where a checkpoint is missing.
        assert averages_of(rows, [point], settings["usual_length"], settings["lags"]).empty
    # Pairs of initialisations are disjoint: there have to be several.
    assert selected.replicates >= 10


# E1, E2, E5, E7, E8.


def test_full_batch_descent_has_weight_decay_for_thirty_thousand_steps():
    for point in study("cifar10").experiments["full_batch"].points:
        first, second = study("cifar10").trainings[point.name].timeline.segments
        assert first.steps == 30_000
        assert first.lr * first.weight_decay == pytest.approx(4e-4)
        assert second.weight_decay == 0
        assert second.lr == first.lr
        assert (point.batch_size, point.momentum, point.augmentation) == ("full", 0, "none")
    assert merged("cifar10")["datasets"]["cifar10_1000"]["subset"] == 1000


@pytest.mark.parametrize("name", ["cifar10", "cifar10_small"])
def test_the_small_rate_is_a_hundredth_with_ten_times_the_steps_and_one_more_decay(name):
    usual, small, short = (training(name, key) for key in ("usual_lr", "small_lr", "small_lr_short"))
    assert small.point.lr == pytest.approx(usual.point.lr / 100)
    assert small.point.weight_decay == usual.point.weight_decay
    assert small.timeline.steps == 10 * usual.timeline.steps
    assert len(small.timeline.segments) == len(usual.timeline.segments) + 1
    assert [segment.steps for segment in short.timeline.segments] == [s.steps for s in usual.timeline.segments]
    trained = training(name, "trained_head")
    assert trained.timeline == usual.timeline
    (point,) = study(name).experiments["usual_lr"].points
    assert 0 in point.steps


def test_random_pasts_differ_until_epoch_500_share_rates_until_1000_and_lose_weight_decay_then():
    timelines = [
        study("cifar10").trainings[point.name].timeline
        for point in study("cifar10").experiments["random_pasts"].points
    ]
    assert len(timelines) == 5
    epoch = 390
    for step in (0, 250 * epoch, 500 * epoch - 1):
        assert len({timeline.at(step) for timeline in timelines}) == 5
    for step in (500 * epoch, 1000 * epoch - 1):
        assert {timeline.at(step) for timeline in timelines} == {(0.8, 5e-4)}
    for step in (1000 * epoch, timelines[0].steps - 1):
        assert {timeline.at(step) for timeline in timelines} == {(0.08, 0.0)}


@pytest.mark.parametrize("name", ALL)
def test_every_equivalent_that_the_claim_names_is_trained_in_float64(name):
    if "exp_lr_equivalence" not in study(name).claims:
        assert name.endswith("mnist_small")
        return
    settings = merged(name)["claims"]["exp_lr_equivalence"]["settings"]
    points = [point for point in study(name).experiments["exp_lr"].points if point.dtype == "float64"]
    plain, momentum = ({p.schedule for p in points if (p.momentum > 0) == with_it} for with_it in (False, True))
    wanted = {*settings["originals"], *settings["equivalents"]}
    assert plain == wanted
    assert momentum == wanted | {settings["uncorrected"]}
    assert len({point.data_order for point in points}) == 1


def test_networks_are_the_papers():
    # 6n + 2 layers.
    assert {"blocks=5", "head=fixed"} <= set(re.split("[:,]", study("cifar10").model_text("resnet32")))
    of_trainings = {
        key: {point.augmentation for point in experiment.points}
        for key, experiment in study("cifar10").experiments.items()
        if not key.startswith("full_batch")
    }
    assert set(map(frozenset, of_trainings.values())) == {frozenset({"crop=4,flip"})}


# The overlays shorten in units of 1/lambda_e.


@pytest.mark.parametrize("experiment", [key for key in read("cifar10")["run"] if key != "exp_lr"])
def test_cifar10_small_has_the_same_times_in_units_of_the_intrinsic_rate(experiment):
    full, small = (times_in_units(name, experiment) for name in ("cifar10", "cifar10_small"))
    # To one step of the larger rate.
    close = dict(rel=0, abs=0.0041)
    for times, short_times in zip(full, small, strict=True):
        for wanted, found in zip(times, short_times, strict=True):
            assert found == pytest.approx(wanted, **close)
    full, small = (study(name).experiments[experiment].points for name in ("cifar10", "cifar10_small"))
    assert sum(p.length for p in small) == pytest.approx(sum(p.length for p in full) / 10, rel=0.01)


@pytest.mark.parametrize("experiment", ["mixing", "not_mixed", "other_batch", "trajectory"])
def test_mnist_small_has_the_same_lengths_in_units_of_the_intrinsic_rate(experiment):
    full, small = (times_in_units(name, experiment) for name in ("mnist", "mnist_small"))
    # To one step of the largest rate; of the rates and the checkpoints it keeps some.
    for (_, checkpoints, length), (_, kept, short_length) in zip(full, small, strict=experiment != "mixing"):
        assert short_length == pytest.approx(length, rel=0, abs=0.05)
        assert all(min(abs(time - other) for other in checkpoints) <= 0.05 for time in kept)


@pytest.mark.workflow
@pytest.mark.parametrize("name", FULL)
def test_a_dry_run_needs_neither_data_nor_a_gpu(tmp_path, name):
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--dry-run", "--cores", "1", "--snakefile", REPOSITORY / "Snakefile",
         "--directory", tmp_path, "--workflow-profile", "none", "--configfile", CONFIG / f"{name}.yaml"],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "CUDA_VISIBLE_DEVICES": ""},
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    blocks = sum(len(training.blocks) for training in study(name).trainings.values())
    planned = [int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("train ")]
    assert planned[0] == blocks
    assert not (tmp_path / "data").exists()
