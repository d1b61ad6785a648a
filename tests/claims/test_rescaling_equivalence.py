"""Rescaling: which points are compared, and that each verdict turns with the truth."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from checks import Example, Point, grid, spec_of, verdicts

from intrinsic_lr.claims import rescaling_equivalence as claim
from intrinsic_lr.claims.shared import equivalence
from intrinsic_lr.claims.shared.spec import ClaimData
from intrinsic_lr.stats.intervals import difference
from intrinsic_lr.study.pairs import DIFFERENT, SAME, rescaled
from intrinsic_lr.study.points import expand

DEFAULTS = {"dataset": "noise", "model": "mlp", "batch_size": 32, "init_sharing": "shared"}


def planned(*mappings):
    return [
        Point(**vars(point), name=point.name, intrinsic_lr=point.intrinsic_lr, steps=[8])
        for point in expand(grid(*mappings), DEFAULTS, "grid")
    ]


MIXING = planned(
    {"intrinsic_lr": [0.032, 0.01], "lr": [0.1, 1.0]},
    {"intrinsic_lr": [0.0032, 0.001, 0.0001], "lr": 0.1},
    {"intrinsic_lr": [0.01, 0.001], "lr": 0.1, "init_seed": 1},
)
EXACT = planned(
    {"intrinsic_lr": 0.01, "lr": 0.1, "momentum": [0.0, 0.9]},
    {"intrinsic_lr": 0.01, "lr": 0.9, "init_scale": 3, "momentum": [0.0, 0.9]},
)
SPEC = spec_of("rescaling_equivalence", {"pair": EXACT, "mixing": MIXING}, 40, {"accuracy_margin": 0.05})


def table_of(spec, by="intrinsic_lr", above=0.005, deviation=1e-14, diverged=0, late=True):
    """Return the table of runs whose labels are right more often where the axis `by` is above a value.

    Accuracies fluctuate from step to step, and are wrong before the run has settled.
    """

    def truth(point):
        return 0.9 if point[by] > above else 0.6

    generator = np.random.default_rng(1)
    images = np.arange(20) % 3

    def accuracy(point, replicate, time):
        if replicate < diverged and time > 5:
            return np.nan
        return 0.1 if time < 4 else truth(point) + 0.1 * generator.standard_normal()

    history = pd.DataFrame([
        {"point": point["name"], "intrinsic_lr": point["intrinsic_lr"], "step": time / point["intrinsic_lr"],
         "replicate": replicate, "test_accuracy": accuracy(point, replicate, time)}
        for point in spec.points("mixing") for replicate in range(40)
        for time in (0, 2, 4, 5, 6, 7, 8)[: 7 if late else 2]
    ])  # fmt: skip

    def labels(ensemble, step, data):
        right = generator.random((40, 20)) < truth(ensemble)
        drawn = np.where(right, images, (images + 1) % 3)
        drawn[:diverged] = -1
        return drawn

    class Simulated(ClaimData):
        def dataset(self, name, dtype):
            return SimpleNamespace(test_labels=torch.from_numpy(images), info={"classes": "abc"})

        def history(self, role):
            return history

        def ensemble(self, role, point):
            return point

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(equivalence, "predicted_labels", labels)
        equal = claim._equal_rates(Simulated(spec))
    exact = [
        {"part": "rescaled", "point": a["name"], "partner": b["name"], "lr": 0.1, "partner_lr": 0.9,
         "intrinsic_lr": 0.01, "momentum": a["momentum"], "factor": c,
         "step": step, "replicate": replicate, "directions": deviation * step, "logits": deviation * step}
        for a, b, c in rescaled(spec.points("pair")) for step in (1, 10) for replicate in range(40)
    ]  # fmt: skip
    return pd.concat([pd.DataFrame(exact), equal], ignore_index=True)


def table(**truth):
    return table_of(SPEC, **truth)


DEVIATIONS = ["directions", "logits"]
MEASURED = [*DEVIATIONS, "test_accuracy", "p_value"]
EXAMPLE = Example(claim, SPEC, table, MEASURED, criteria=6, controls=2)
judged = EXAMPLE.judged


def test_findings_count_their_runs():
    findings = judged()
    assert list(findings["n"]) == [80, 80] + [40] * 6
    assert findings["estimate"][0] == pytest.approx(1e-13)


def test_verdicts_turn_with_the_truth():
    # Accuracies and labels of both pairs fail, and the controls, which share a learning rate, are not rejected.
    findings = judged(by="lr", above=0.5)
    assert verdicts(findings)[2:] == ["not reproduced"] * 4
    assert verdicts(findings, "control") == ["not rejected"] * 2
    assert verdicts(judged(deviation=1e-6))[:2] == ["not reproduced"] * 2


def test_diverged_runs_are_left_out():
    assert set(judged(diverged=5)["n"]) == {80, 35}
    everything = EXAMPLE.table(diverged=40)
    everything[DEVIATIONS] = np.nan
    assert set(judged(everything)["verdict"]) == {"inconclusive"}


def test_exact_pairs_that_diverged_or_are_missing_leave_it_open():
    frame = EXAMPLE.table()
    exact = frame["part"] == "rescaled"
    gone = exact & (frame["momentum"] == 0) & (frame["replicate"] == 2)
    blank = frame.copy()
    blank.loc[gone, DEVIATIONS] = np.nan
    for missing in (blank, frame[~gone]):
        findings = judged(missing).head(2)
        assert (list(findings["n"]), list(findings["verdict"])) == ([79] * 2, ["inconclusive"] * 2)
    frame.loc[frame.index[exact][3], "logits"] = np.inf
    assert verdicts(judged(frame))[:2] == ["reproduced", "not reproduced"]


def test_kinds_of_pairs_that_are_missing_tell_nothing():
    frame = EXAMPLE.table()
    findings = judged(frame[frame["relation"] != DIFFERENT])
    assert list(findings["verdict"]) == ["reproduced"] * 6 + ["inconclusive"]
    assert verdicts(judged(frame[frame["relation"] != SAME]))[2:4] == ["inconclusive"] * 2


def test_runs_without_a_late_step_have_no_accuracy():
    assert verdicts(judged(late=False))[2:4] == ["inconclusive"] * 2


def test_p_values_of_equivalence_are_not_adjusted():
    frame = EXAMPLE.table()
    pairs, accuracies = frame[frame["relation"] == SAME], frame[frame["part"] == "accuracy"]
    for p_value, a, b in zip(judged()["p_value"][2:4], pairs["point"], pairs["partner"], strict=True):
        sides = (accuracies.loc[accuracies["point"] == name, "test_accuracy"] for name in (a, b))
        assert p_value == difference(*sides, 0.95, 0.05).p_equivalent
