"""Selecting weight averages, and their gain over their ends."""

import numpy as np
import pandas as pd
import pytest
from checks import Point

from intrinsic_lr.claims.shared.gains import BOTH_ENDS, LOWER_END, averages_of, mean_gains, whole_runs

POINT = Point(name="p", intrinsic_lr=0.01, steps=[100, 200, 400, 1000, 1100])


def swa_row(relation, step, delta, replicate, partner, loss, start=0.5, end=0.6, **rest):
    return {
        "point": "p", "partner_point": "p", "intrinsic_lr": 0.01, "relation": relation, "average": "pair",
        "normalisation": "raw", "step": step, "delta": delta, "replicate": replicate, "partner": partner,
        "test_loss": loss, "test_loss_start": start, "test_loss_end": end,
        "test_loss_gain": min(start, end) - loss, **rest,
    }  # fmt: skip


def swa_table(replicates=4):
    rows = []
    for step in (100, 1000):
        for k in range(replicates):
            rows += [swa_row("within", step, delta, k, k, 0.4) for delta in (100, 300)]
            rows.append(swa_row("within", step, 100, k, k, 0.3, average="window"))
            rows.append(swa_row("across_initialisations", step, 0, k, (k + 1) % replicates, 0.9))
    return pd.DataFrame(rows)


def test_both_run_times_and_the_wanted_lags_alone_are_selected():
    found = averages_of(swa_table(), [POINT], usual_length=1, lags=[1])
    within = found[found["part"] == "within"]
    assert set(zip(within["run_time"], within["step"], within["lag"], strict=True)) == {
        ("usual", 100, 1.0),
        ("ten_times", 1000, 1.0),
    }
    assert len(within) == 8
    assert set(within["test_loss"]) == {0.4}


@pytest.mark.parametrize(("replicates", "pairs"), [(4, [(0, 1), (2, 3)]), (5, [(0, 1), (2, 3)]), (2, [(0, 1)])])
def test_no_network_is_in_two_pairs(replicates, pairs):
    found = averages_of(swa_table(replicates), [POINT], 1, [1])
    across = found[(found["part"] == "across") & (found["run_time"] == "usual")]
    assert list(zip(across["replicate"], across["partner"], strict=True)) == pairs


def losses(start, end, average):
    frame = pd.DataFrame({"test_loss_start": start, "test_loss_end": end, "test_loss": average})
    return frame.assign(replicate=range(len(frame)), delta=100)


@pytest.mark.parametrize(("over", "gains"), [(LOWER_END, [0.2, -0.05]), (BOTH_ENDS, [0.15, 0.1])])
def test_the_gain_is_over_the_end_that_is_lower_on_average_or_over_the_mean_of_both(over, gains):
    found = mean_gains(losses([0.5, 0.3], [0.4, 0.6], [0.3, 0.35]), over)
    assert found.tolist() == pytest.approx(gains)


def test_lags_are_averaged_and_replicates_that_are_not_finite_left_out():
    near = losses([0.5, 0.5, 0.5], [0.6] * 3, [0.4, 0.4, np.nan])
    far = losses([0.5, 0.5, 0.5], [0.6] * 3, [0.2, 0.3, 0.2]).assign(delta=200)
    gains = mean_gains(pd.concat([near, far]), LOWER_END)
    assert gains.to_dict() == pytest.approx({0: 0.2, 1: 0.15})
    assert len(mean_gains(losses([], [], []), LOWER_END)) == 0


def test_a_network_that_is_lost_later_is_lost_from_the_start():
    table = swa_table()
    later = (table["step"] == 1000) & (table["replicate"] == 1)
    table.loc[later & (table["delta"] == 100), "test_loss_end"] = np.nan
    found = whole_runs(averages_of(table, [POINT], 1, [1]))
    assert set(found.loc[found["part"] == "within", "replicate"]) == {0, 2, 3}
    assert set(found.loc[found["part"] == "across", "replicate"]) == {2}  # 0 was paired with 1
