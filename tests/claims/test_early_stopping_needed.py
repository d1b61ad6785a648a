"""Best loss compared with late loss: the verdict follows the truth."""

import numpy as np
import pandas as pd
import pytest
from checks import Example, spec_of

from intrinsic_lr.claims import early_stopping_needed as claim
from intrinsic_lr.stats.loss_curves import late_over_best

POINTS = {role: [{"name": f"{role}-{lr}"} for lr in (0.1, 1.0, 10.0)] for role in ("decay", "no_decay", "sgd")}


def runs(decay=2.0, slowest=None, no_decay=1.03, replicates=8):
    """Return best and late losses with these ratios; `slowest` is that of one learning rate with decay."""
    rng = np.random.default_rng(0)
    rows = []
    for part, ratio in (("decay", decay), ("no_decay", no_decay), ("sgd", 1.1)):
        for lr in (0.1, 1.0, 10.0):
            of_rate = slowest if slowest and part == "decay" and lr == 1.0 else ratio
            best = np.exp(rng.normal(-3.5, 0.1, replicates))
            late = best * of_rate * np.exp(rng.normal(0, 0.03, replicates))
            table = {"part": part, "point": f"{part}-{lr}", "lr": lr, "best_loss": best, "late_loss": late}
            rows.append(pd.DataFrame({**table, "replicate": range(replicates), "log_ratio": np.log(late / best)}))
    return pd.concat(rows, ignore_index=True)


TRUTHS = [
    ({"decay": 1.1}, ["not reproduced", "rejected"]),
    ({"slowest": 1.1}, ["not reproduced", "rejected"]),
    ({"no_decay": 2.0}, ["reproduced", "not rejected"]),
]
MEASURED = ["best_loss", "late_loss", "log_ratio"]
EXAMPLE = Example(claim, spec_of("early_stopping_needed", POINTS), runs, MEASURED, 1, 1, truths=TRUTHS)
judged = EXAMPLE.judged


def test_the_learning_rate_that_decides_is_the_one_shown():
    findings = judged(slowest=1.1)
    assert findings["ci_low"][0] < 1.1 < findings["ci_high"][0] < 1.2


def test_the_control_has_to_fail_at_every_learning_rate():
    table = EXAMPLE.table()
    one = (table["part"] == "no_decay") & (table["lr"] == 1.0)
    table.loc[one, "log_ratio"] += np.log(2.0)
    assert judged(table)["verdict"].tolist() == ["reproduced", "not rejected"]


@pytest.mark.parametrize(("part", "place"), [("decay", 0), ("no_decay", 1)])
def test_a_learning_rate_that_is_missing_leaves_it_open(part, place):
    table = EXAMPLE.table()
    row = judged(table[(table["part"] != part) | (table["lr"] != 1.0)]).iloc[place]
    assert (row["verdict"], row["n"]) == ("inconclusive", 0)
    assert np.isnan(row["estimate"])


def recorded(at=None, value=np.nan):
    """Return a trace that dips to .1 and ends at .3, its rates changed after step 400, with a loss of `value`."""
    step = np.arange(501)
    loss = np.where((step > 100) & (step <= 200), 0.1, 0.3)
    loss[0] = np.nan
    if at is not None:
        loss[at] = value
    table = {"step": step, "batch_loss": loss, "weight_decay": 0.1, "lr": 1.0, "lr_now": 1.0}
    return pd.DataFrame({**table, "weight_decay_now": np.where(step <= 400, 0.1, 0.0)})


def test_a_run_is_measured_while_its_rates_are_constant():
    assert claim._losses(recorded(), "batch_loss", 0.01, 0.3) == pytest.approx((400, 0.1, 0.3))


@pytest.mark.parametrize("at", [250, 500])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_run_that_is_not_finite_at_any_step_is_missing_as_a_whole(at, value):
    """Also where it is finite as long as its rates are constant."""
    steps, *losses = claim._losses(recorded(at, value), "batch_loss", 0.01, 0.3)
    assert steps == 400
    assert np.isnan(losses).all()


def test_stationary_noise_has_no_best_far_below_its_mean():
    """The plain minimum would be 20 times lower; the held level is not."""
    loss = np.exp(np.random.default_rng(0).normal(0.0, 0.8, 3000))
    best, late = late_over_best(loss, 0.05, 0.3)
    assert late / loss.min() > 15
    assert late / best < 2
    assert late_over_best(np.full(300, 0.3), 0.01, 0.3) == pytest.approx((0.3, 0.3))


def test_a_dip_is_held_only_if_it_lasts():
    loss = np.full(1000, 1.0)
    loss[200:203] = 0.1
    assert late_over_best(loss, 0.01, 0.3) == (1.0, 1.0)
    loss[200:210] = 0.1
    assert late_over_best(loss, 0.01, 0.3)[0] == 0.1


def test_a_run_that_diverged_is_missing():
    assert np.isnan(late_over_best([1.0, 0.5, np.nan, 0.4], 0.1, 0.3)).all()
    table = EXAMPLE.table()
    table.loc[(table["part"] == "decay") & (table["replicate"] == 0), "log_ratio"] = np.nan
    assert judged(table)["n"][0] == 7
