"""Rescaling: which points are compared, and that each verdict turns with the truth."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from checks import Point, experiment, grid

from intrinsic_lr.claims import rescaling_equivalence
from intrinsic_lr.claims.rescaling_equivalence import DIFFERENT, SAME, exact_pairs, label_pairs
from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec
from intrinsic_lr.claims.shared.verdicts import findings_table, overall
from intrinsic_lr.stats.intervals import difference
from intrinsic_lr.study.points import expand

DEFAULTS = {"dataset": "noise", "model": "mlp", "batch_size": 32}


def points(*mappings):
    return [
        Point(**vars(point), name=point.name, intrinsic_lr=point.intrinsic_lr, steps=[8])
        for point in expand(grid(*mappings), DEFAULTS, "grid")
    ]


MIXING = points(
    {"intrinsic_lr": [0.032, 0.01], "lr": [0.1, 1.0]},
    {"intrinsic_lr": [0.0032, 0.001, 0.0001], "lr": 0.1},
    {"intrinsic_lr": [0.01, 0.001], "lr": 0.1, "init_seed": 1},
)
EXACT = points(
    {"intrinsic_lr": 0.01, "lr": 0.1, "momentum": [0.0, 0.9]},
    {"intrinsic_lr": 0.01, "lr": 0.9, "init_scale": 3, "momentum": [0.0, 0.9]},
)
SPEC = ClaimSpec(
    "rescaling_equivalence",
    experiments={
        "pair": experiment("exact", EXACT, 4),
        "mixing": experiment("many", MIXING, 40),
    },
    thresholds={"deviation": 1e-8, "accuracy_margin": 0.05},
    settings={"settled": 4},
    analysis={"confidence": 0.95, "permutations": 200, "bootstrap": 50},
)


def test_exact_pairs_have_matching_rates_and_norms():
    found = exact_pairs(
        points(
            {"lr": 0.1, "intrinsic_lr": 0.01},
            {"lr": 0.9, "intrinsic_lr": 0.01, "init_scale": 3},
            {"lr": 0.3, "intrinsic_lr": 0.01, "init_scale": 3},  # not rescaled by the same factor
            {"lr": 0.9, "intrinsic_lr": 0.02, "init_scale": 3},
            {"lr": 0.9, "intrinsic_lr": 0.01, "init_scale": 3, "momentum": 0.9},
        )
    )
    assert [(a["lr"], b["lr"], c) for a, b, c in found] == [(0.1, 0.9, 3.0)]


def test_label_pairs_are_one_axis_apart():
    found = {
        (relation, a["lr"], b["lr"], a["intrinsic_lr"], b["intrinsic_lr"], b["init_seed"])
        for a, b, relation in label_pairs(MIXING)
    }
    assert found == {
        (SAME, 0.1, 1.0, 0.032, 0.032, 0),
        (SAME, 0.1, 1.0, 0.01, 0.01, 0),
        (DIFFERENT, 0.1, 0.1, 0.032, 0.0032, 0),
        (DIFFERENT, 0.1, 0.1, 0.01, 0.001, 0),
    }


@pytest.fixture
def measured(monkeypatch, noise_images):
    """Measure with labels that are right with probability `distribution(point)`, one draw per run and image."""

    def measure(distribution, deviation=1e-14, diverged=0, late=True):
        generator = np.random.default_rng(1)
        truth = noise_images.test_labels.numpy()

        def history(self, role):
            """Accuracies that fluctuate from step to step, wrong before the run has settled."""
            rows = [
                {"point": point["name"], "intrinsic_lr": point["intrinsic_lr"],
                 "step": time / point["intrinsic_lr"], "replicate": replicate,
                 "test_accuracy": np.nan if replicate < diverged and time > 5 else
                 0.1 if time < 4 else distribution(point) + 0.1 * generator.standard_normal()}
                for point in MIXING for replicate in range(40)
                for time in (0, 2, 4, 5, 6, 7, 8)[: 7 if late else 2]
            ]  # fmt: skip
            return pd.DataFrame(rows)

        def labels(ensemble, step, data):
            right = generator.random((40, len(truth))) < distribution(ensemble)
            drawn = np.where(right, truth, (truth + 1) % 3)
            drawn[:diverged] = -1
            return drawn

        monkeypatch.setattr(ClaimData, "dataset", lambda self, name, dtype: noise_images)
        monkeypatch.setattr(ClaimData, "history", history)
        monkeypatch.setattr(ClaimData, "ensemble", lambda self, role, point: point)
        monkeypatch.setattr("intrinsic_lr.claims.shared.equivalence.predicted_labels", labels)
        equal = rescaling_equivalence._equal_rates(ClaimData(SPEC))
        exact = [
            {"part": "rescaled", "point": a["name"], "partner": b["name"], "lr": 0.1, "partner_lr": 0.9,
             "intrinsic_lr": 0.01, "momentum": a["momentum"], "factor": c,
             "step": step, "replicate": replicate, "directions": deviation * step, "logits": deviation * step}
            for a, b, c in exact_pairs(EXACT) for step in (1, 10) for replicate in range(4)
        ]  # fmt: skip
        return pd.concat([pd.DataFrame(exact), equal], ignore_index=True)

    return measure


def by_intrinsic_rate(point):
    return 0.9 if point["intrinsic_lr"] > 0.005 else 0.6


def verdicts(table):
    return [(finding.role, finding.verdict) for finding in rescaling_equivalence.judge(table, SPEC)]


def test_all_is_reproduced_where_only_the_intrinsic_rate_matters(measured):
    table = measured(by_intrinsic_rate)
    assert verdicts(table) == [("criterion", "reproduced")] * 6 + [("control", "rejected")] * 2
    findings = list(rescaling_equivalence.judge(table, SPEC))
    assert [finding.n for finding in findings] == [8, 8] + [40] * 6
    assert findings[0].estimate == pytest.approx(1e-13)


def test_verdicts_turn_where_the_learning_rate_matters(measured):
    found = verdicts(measured(lambda point: 0.9 if point["lr"] > 0.5 else 0.6))
    # Accuracies and labels of both pairs fail, and the controls, which share a learning rate, are not rejected.
    assert found[2:] == [("criterion", "not reproduced")] * 4 + [("control", "not rejected")] * 2
    found = verdicts(measured(by_intrinsic_rate, deviation=1e-6))
    assert found[:2] == [("criterion", "not reproduced")] * 2


def test_diverged_runs_are_left_out(measured):
    table = measured(by_intrinsic_rate, diverged=5)
    assert {finding.n for finding in rescaling_equivalence.judge(table, SPEC)} == {8, 35}
    table = measured(by_intrinsic_rate, diverged=40)
    table[["directions", "logits"]] = np.nan
    findings = list(rescaling_equivalence.judge(table, SPEC))
    assert {finding.verdict for finding in findings} == {"inconclusive"}
    assert overall(findings_table("a", "derived", "", findings)) == "inconclusive"
    plt.close(rescaling_equivalence.draw(table, SPEC, None))


def test_exact_pairs_that_diverged_or_are_missing_leave_it_open(measured):
    table = measured(by_intrinsic_rate)
    exact = table["part"] == "rescaled"
    gone = exact & (table["momentum"] == 0) & (table["replicate"] == 2)
    blank = table.copy()
    blank.loc[gone, ["directions", "logits"]] = np.nan
    for missing in (blank, table[~gone]):
        findings = list(rescaling_equivalence.judge(missing, SPEC))[:2]
        assert [(finding.n, finding.verdict) for finding in findings] == [(7, "inconclusive")] * 2
    table.loc[table.index[exact][3], "logits"] = np.inf
    assert verdicts(table)[:2] == [("criterion", "reproduced"), ("criterion", "not reproduced")]
    plt.close(rescaling_equivalence.draw(table, SPEC, None))


def test_a_control_without_pairs_tells_nothing(measured):
    table = measured(by_intrinsic_rate)
    found = verdicts(table[table["relation"] != DIFFERENT])
    assert found == [("criterion", "reproduced")] * 6 + [("control", "inconclusive")]
    found = verdicts(table[table["relation"] != SAME])
    assert found[2:4] == [("criterion", "inconclusive")] * 2


def test_runs_without_a_late_step_have_no_accuracy(measured):
    table = measured(by_intrinsic_rate, late=False)
    assert verdicts(table)[2:4] == [("criterion", "inconclusive")] * 2
    plt.close(rescaling_equivalence.draw(table, SPEC, None))


def test_p_values_of_equivalence_are_not_adjusted(measured):
    table = measured(by_intrinsic_rate)
    findings = list(rescaling_equivalence.judge(table, SPEC))[2:4]
    pairs = table[table["relation"] == SAME]
    for finding, a, b in zip(findings, pairs["point"], pairs["partner"], strict=True):
        sides = (
            table.loc[(table["part"] == "accuracy") & (table["point"] == name), "test_accuracy"] for name in (a, b)
        )
        assert finding.p_value == difference(*sides, 0.95, 0.05).p_equivalent


def test_figure_has_three_panels(measured):
    figure = rescaling_equivalence.draw(measured(by_intrinsic_rate), SPEC, None)
    assert len(figure.axes) == 3
    plt.close(figure)
