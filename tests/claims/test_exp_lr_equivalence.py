"""ExpLR-equivalent schedules: which points are pairs, the largest deviation, and its verdict."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from checks import Example, grid, spec_of

from intrinsic_lr.claims import exp_lr_equivalence as claim
from intrinsic_lr.claims.exp_lr_equivalence import EXACT, ROUNDED, UNCORRECTED
from intrinsic_lr.study.points import expand

DEFAULTS = {"dataset": "digits", "model": "mlp", "batch_size": 32}
RATES = {"data_order": 0, "lr": 0.1, "intrinsic_lr": 1e-3}
GRID = [
    {"schedule": ["constant", "equivalent", "decay", "equivalent_of_decay"], "dtype": "float64"},
    {"schedule": ["constant", "equivalent", "zero_buffer"], "dtype": "float64", "momentum": 0.9},
    {"schedule": ["constant", "equivalent"]},
    {"schedule": "equivalent_of_decay", "init_scale": 3},
]


POINTS = [
    {**vars(point), "name": point.name, "intrinsic_lr": point.intrinsic_lr}
    for point in expand(grid(*({**RATES, **mapping} for mapping in GRID)), DEFAULTS, "grid")
]
NAMES = {
    "originals": ["constant", "decay"],
    "equivalents": ["equivalent", "equivalent_of_decay"],
    "uncorrected": "zero_buffer",
}
SPEC = spec_of("exp_lr_equivalence", {"runs": POINTS}, 3, **NAMES)


def test_pairs_differ_in_the_schedule_alone():
    found = [(kind, a["schedule"], b["schedule"], a["momentum"], a["dtype"]) for kind, a, b in claim.pairs(SPEC)]
    assert found == [
        (EXACT, "constant", "equivalent", 0, "float64"),
        (EXACT, "decay", "equivalent_of_decay", 0, "float64"),
        (EXACT, "constant", "equivalent", 0.9, "float64"),
        (UNCORRECTED, "constant", "zero_buffer", 0.9, "float64"),
        (ROUNDED, "constant", "equivalent", 0, "float32"),
    ]


def synthetic(exact=1e-14, rounded=1e-4, uncorrected=0.04):
    return deviations_of(SPEC, exact, rounded, uncorrected)


def deviations_of(spec, exact, rounded, uncorrected):
    """Deviations of a spec's pairs that grow to these values in one replicate of each."""
    rows = []
    largest_of = {EXACT: exact, UNCORRECTED: uncorrected, ROUNDED: rounded}
    for kind, a, b in claim.pairs(spec):
        largest = largest_of[kind] / (10 if a["momentum"] and kind == EXACT else 1)
        for replicate in range(3):
            for step in (1, 10, 100):
                value = largest * step / 100 / (1 + replicate)
                named = {"kind": kind, "point": a["name"], "partner": b["name"], "schedule": a["schedule"]}
                named |= {"equivalent": b["schedule"], "momentum": a["momentum"], "dtype": a["dtype"]}
                rows.append({**named, "step": step, "replicate": replicate, "directions": value, "logits": value})
    return pd.DataFrame(rows)


TRUTHS = [
    ({"rounded": 1.0}, "reproduced"),
    ({"exact": 1e-5}, {"criterion": "not reproduced"}),
    ({"uncorrected": 1e-12}, {"control": "not rejected"}),
]
EXAMPLE = Example(claim, SPEC, synthetic, ["directions", "logits"], 2, 2, truths=TRUTHS)


def verdicts(table):
    return list(EXAMPLE.judged(table)["verdict"])


def test_largest_deviation_in_float64_decides():
    findings = EXAMPLE.judged()
    assert (findings["estimate"][0], findings["n"][0]) == (pytest.approx(1e-14), 9)
    # Of the control the replicate that is closest decides.
    assert findings["estimate"][2] == pytest.approx(0.04 / 3)


@pytest.mark.parametrize(
    ("rows", "value", "expected"),
    [
        # One quantity can fail alone.
        (lambda t: t.index == 1, 1e-3, ["reproduced", "not reproduced", "rejected", "rejected"]),
        # One replicate of the control that agrees is enough to doubt it.
        (
            lambda t: (t["kind"] == UNCORRECTED) & (t["replicate"] == 1), 1e-15,
            ["reproduced", "reproduced", "rejected", "not rejected"],
        ),
        # Pairs of which one side diverged are infinitely far apart.
        (
            lambda t: (t["replicate"] == 0) & (t["step"] == 100), np.inf,
            ["reproduced", "not reproduced", "rejected", "rejected"],
        ),
    ],
)  # fmt: skip
def test_few_rows_can_decide(rows, value, expected):
    table = EXAMPLE.table()
    table.loc[rows(table), "logits"] = value
    assert verdicts(table) == expected


def test_schedules_that_the_settings_name_and_no_experiment_holds_are_missing():
    more = {
        "equivalents": [*NAMES["equivalents"], "equivalent_of_warmup"],
        "originals": [*NAMES["originals"], "warmup"],
    }
    findings = EXAMPLE.judged(spec=replace(SPEC, settings=NAMES | more))
    assert list(findings["verdict"]) == ["inconclusive"] * 2 + ["rejected"] * 2


def test_diverged_replicates_leave_it_open():
    table = EXAMPLE.table()
    table.loc[(table["replicate"] == 0) & (table["step"] == 100), ["directions", "logits"]] = np.nan
    findings = EXAMPLE.judged(table)
    assert findings["n"][0] == 6
    assert set(findings["verdict"]) == {"inconclusive"}
    # Three of four that diverged are no agreement of the fourth.
    pair = table["point"] == table["point"].iloc[0]
    assert verdicts(synthetic()[~pair])[:2] == ["inconclusive"] * 2
    # What is there already refutes the claim.
    table.loc[table["replicate"] == 1, "logits"] = 1.0
    assert verdicts(table)[1] == "not reproduced"
