"""Exponential twins: which points are pairs, the largest deviation, and its verdict."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from intrinsic_lr.claims import exp_lr_equivalence
from intrinsic_lr.claims.exp_lr_equivalence import EXACT, ROUNDED, UNCORRECTED
from intrinsic_lr.claims.question import Question
from intrinsic_lr.claims.verdicts import findings_table, overall
from intrinsic_lr.grid import expand

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


def question():
    points = [{**vars(point), "name": point.name, "intrinsic_lr": point.intrinsic_lr} for point in expand_grid()]
    return Question(
        "exp_lr_equivalence",
        experiments={"runs": {"experiment": "mine", "points": points, "replicates": 4}},
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
    return expand([{**rates, **mapping} for mapping in GRID], defaults, "grid")


def test_pairs_differ_in_the_schedule_alone():
    found = [
        (kind, a["schedule"], b["schedule"], a["momentum"], a["dtype"])
        for kind, a, b in exp_lr_equivalence.pairs(question())
    ]
    assert found == [
        (EXACT, "constant", "twin", 0, "float64"),
        (EXACT, "decay", "twin_of_decay", 0, "float64"),
        (EXACT, "constant", "twin", 0.9, "float64"),
        (UNCORRECTED, "constant", "zero_buffer", 0.9, "float64"),
        (ROUNDED, "constant", "twin", 0, "float32"),
    ]


def synthetic(exact=1e-14, rounded=1e-4, uncorrected=0.04):
    """Deviations that grow to these values in one replicate of each pair."""
    rows = []
    for kind, twin, momentum, dtype, largest in (
        (EXACT, "twin", 0.0, "float64", exact),
        (EXACT, "twin", 0.9, "float64", exact / 10),
        (UNCORRECTED, "zero_buffer", 0.9, "float64", uncorrected),
        (ROUNDED, "twin", 0.0, "float32", rounded),
    ):
        for replicate in range(3):
            for step in (1, 10, 100):
                value = largest * step / 100 / (1 + replicate)
                named = {"kind": kind, "schedule": "constant", "twin": twin, "momentum": momentum, "dtype": dtype}
                rows.append({**named, "step": step, "replicate": replicate, "directions": value, "logits": value})
    return pd.DataFrame(rows)


def verdicts(table):
    return [finding.verdict for finding in exp_lr_equivalence.judge(table, question())]


def test_largest_deviation_in_float64_decides():
    assert verdicts(synthetic()) == ["reproduced", "reproduced", "rejected", "rejected"]
    assert verdicts(synthetic(rounded=1.0)) == verdicts(synthetic())
    assert verdicts(synthetic(exact=1e-5))[:2] == ["not reproduced"] * 2
    assert verdicts(synthetic(uncorrected=1e-12))[2:] == ["not rejected"] * 2
    findings = exp_lr_equivalence.judge(synthetic(), question())
    assert findings[0].estimate == pytest.approx(1e-14)
    assert findings[0].n == 3


def test_one_quantity_can_fail_alone():
    table = synthetic()
    table.loc[1, "logits"] = 1e-3
    assert verdicts(table)[:2] == ["reproduced", "not reproduced"]


def test_diverged_replicates_are_left_out_and_counted():
    table = synthetic()
    bad = (table["replicate"] == 0) & (table["step"] == 100)
    table.loc[bad, ["directions", "logits"]] = np.nan
    findings = exp_lr_equivalence.judge(table, question())
    assert findings[0].n == 2
    assert findings[0].estimate == pytest.approx(0.5e-14)
    empty = synthetic().assign(directions=np.nan, logits=np.nan)
    judged = findings_table("a", "derived", "", exp_lr_equivalence.judge(empty, question()))
    assert overall(judged) == "inconclusive"
    for shown in (table, empty):
        plt.close(exp_lr_equivalence.draw(shown, question(), None))
