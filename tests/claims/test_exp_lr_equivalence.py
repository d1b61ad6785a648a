"""ExpLR-equivalent schedules: which points are pairs, the largest deviation, and its verdict."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from checks import experiment, grid

from intrinsic_lr.claims import exp_lr_equivalence
from intrinsic_lr.claims.exp_lr_equivalence import EXACT, ROUNDED, UNCORRECTED
from intrinsic_lr.claims.shared.spec import ClaimSpec
from intrinsic_lr.claims.shared.verdicts import findings_table, overall
from intrinsic_lr.study.points import expand

DEFAULTS = {
    "dataset": "digits",
    "model": "mlp",
    "batch_size": 32,
    "data_order": 0,
    "lr": 0.1,
    "intrinsic_lr": 1e-3,
}
GRID = [
    {"schedule": ["constant", "twin", "decay", "twin_of_decay"], "dtype": "float64"},
    {"schedule": ["constant", "twin", "zero_buffer"], "dtype": "float64", "momentum": 0.9},
    {"schedule": ["constant", "twin"]},
    {"schedule": "twin_of_decay", "init_scale": 3},
]


def spec():
    points = [{**vars(point), "name": point.name, "intrinsic_lr": point.intrinsic_lr} for point in expand_grid()]
    return ClaimSpec(
        "exp_lr_equivalence",
        experiments={"runs": experiment("mine", points, 3)},
        thresholds={"deviation": 1e-8},
        settings={
            "originals": ["constant", "decay"],
            "twins": ["twin", "twin_of_decay"],
            "uncorrected": "zero_buffer",
        },
        analysis={"confidence": 0.95},
    )


def expand_grid():
    rates = {key: DEFAULTS[key] for key in ("lr", "intrinsic_lr", "data_order")}
    defaults = {key: DEFAULTS[key] for key in ("dataset", "model", "batch_size")}
    return expand(grid(*({**rates, **mapping} for mapping in GRID)), defaults, "grid")


def test_pairs_differ_in_the_schedule_alone():
    found = [
        (kind, a["schedule"], b["schedule"], a["momentum"], a["dtype"])
        for kind, a, b in exp_lr_equivalence.pairs(spec())
    ]
    assert found == [
        (EXACT, "constant", "twin", 0, "float64"),
        (EXACT, "decay", "twin_of_decay", 0, "float64"),
        (EXACT, "constant", "twin", 0.9, "float64"),
        (UNCORRECTED, "constant", "zero_buffer", 0.9, "float64"),
        (ROUNDED, "constant", "twin", 0, "float32"),
    ]


def synthetic(exact=1e-14, rounded=1e-4, uncorrected=0.04):
    """Deviations of the spec's pairs that grow to these values in one replicate of each."""
    rows = []
    largest_of = {EXACT: exact, UNCORRECTED: uncorrected, ROUNDED: rounded}
    for kind, a, b in exp_lr_equivalence.pairs(spec()):
        largest = largest_of[kind] / (10 if a["momentum"] and kind == EXACT else 1)
        for replicate in range(3):
            for step in (1, 10, 100):
                value = largest * step / 100 / (1 + replicate)
                named = {"kind": kind, "point": a["name"], "partner": b["name"], "schedule": a["schedule"]}
                named |= {"twin": b["schedule"], "momentum": a["momentum"], "dtype": a["dtype"]}
                rows.append({**named, "step": step, "replicate": replicate, "directions": value, "logits": value})
    return pd.DataFrame(rows)


def verdicts(table):
    return [finding.verdict for finding in exp_lr_equivalence.judge(table, spec())]


def test_largest_deviation_in_float64_decides():
    assert verdicts(synthetic()) == ["reproduced", "reproduced", "rejected", "rejected"]
    assert verdicts(synthetic(rounded=1.0)) == verdicts(synthetic())
    assert verdicts(synthetic(exact=1e-5))[:2] == ["not reproduced"] * 2
    assert verdicts(synthetic(uncorrected=1e-12))[2:] == ["not rejected"] * 2
    findings = list(exp_lr_equivalence.judge(synthetic(), spec()))
    assert findings[0].estimate == pytest.approx(1e-14)
    assert findings[0].n == 9
    # Of the control the replicate that is closest decides.
    assert findings[2].estimate == pytest.approx(0.04 / 3)


def test_one_quantity_can_fail_alone():
    table = synthetic()
    table.loc[1, "logits"] = 1e-3
    assert verdicts(table)[:2] == ["reproduced", "not reproduced"]


def test_one_replicate_of_the_control_that_agrees_is_enough_to_doubt_it():
    table = synthetic()
    table.loc[(table["kind"] == UNCORRECTED) & (table["replicate"] == 1), "logits"] = 1e-15
    assert verdicts(table)[2:] == ["rejected", "not rejected"]


def test_pairs_of_which_one_side_diverged_are_infinitely_far():
    table = synthetic()
    table.loc[(table["replicate"] == 0) & (table["step"] == 100), "logits"] = np.inf
    assert verdicts(table) == ["reproduced", "not reproduced", "rejected", "rejected"]
    plt.close(exp_lr_equivalence.draw(table, spec(), None))


def test_schedules_that_the_settings_name_and_no_experiment_holds_are_missing():
    asked = spec()
    asked.settings["twins"].append("twin_of_warmup")
    asked.settings["originals"].append("warmup")
    findings = list(exp_lr_equivalence.judge(synthetic(), asked))
    assert [finding.verdict for finding in findings] == ["inconclusive"] * 2 + ["rejected"] * 2


def test_diverged_replicates_leave_it_open():
    table = synthetic()
    bad = (table["replicate"] == 0) & (table["step"] == 100)
    table.loc[bad, ["directions", "logits"]] = np.nan
    findings = list(exp_lr_equivalence.judge(table, spec()))
    assert findings[0].n == 6
    assert {finding.verdict for finding in findings} == {"inconclusive"}
    # Three of four that diverged are no agreement of the fourth.
    pair = table["point"] == table["point"].iloc[0]
    assert verdicts(synthetic()[~pair])[:2] == ["inconclusive"] * 2
    # What is there already refutes the claim.
    table.loc[table["replicate"] == 1, "logits"] = 1.0
    assert verdicts(table)[1] == "not reproduced"
    empty = synthetic().assign(directions=np.nan, logits=np.nan)
    judged = findings_table("a", "derived", "", exp_lr_equivalence.judge(empty, spec()))
    assert overall(judged) == "inconclusive"
    for shown in (table, empty):
        plt.close(exp_lr_equivalence.draw(shown, spec(), None))
