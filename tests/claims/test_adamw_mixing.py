"""AdamW's functions forget and its weights do not: verdicts on known shares and cosines."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from checks import Example, Point, spec_of
from mixing_tables import mixing_table

from intrinsic_lr.claims import adamw_mixing as claim
from intrinsic_lr.claims.shared import mixing

SPEC = spec_of("adamw_mixing")
TRUTHS = [
    ({"share": 0.05}, "not reproduced"),
    ({"share": SPEC.thresholds["share"]}, "inconclusive"),
    ({"gap": 0.0}, "not reproduced"),
    ({"early": 0.001}, "inconclusive"),
    ({"tenfold": 0.001}, "inconclusive"),
    ({"coupled": 0.001}, "inconclusive"),
    ({"walk": 0.5}, "inconclusive"),
]
ROLES = (mixing.MIXING, mixing.SHORT, mixing.COUPLED)
EXAMPLE = Example(
    claim,
    SPEC,
    partial(mixing_table, ROLES),
    ["share", "share_low", "share_high", "cosine"],
    criteria=6,
    controls=8,
    truths=TRUTHS,
)


@pytest.mark.parametrize("part", [mixing.RATE, mixing.SHORT, mixing.COUPLED])
def test_a_control_that_was_not_run_leaves_the_claim_open(part):
    table = EXAMPLE.table()
    assert EXAMPLE.overall(table[table["part"] != part]) == "inconclusive"


STEPS = (0, 400, 800)


def ensembles(share, turned):
    """Return ensembles of 8 initialisations with 4 runs each, which cause a share of the disagreement at the end.

    Weights leave the direction of their initialisation by an angle of each run's own.
    """

    def ensemble(role, point):
        generator = np.random.default_rng([int(1e4 * point.intrinsic_lr), point.init_seed])
        labels = {step: generator.integers(3, size=(32, 300)) for step in point.steps}
        of_starts = generator.integers(3, size=(8, 300)).repeat(4, axis=0)
        common = generator.random((32, 300)) < share**0.5
        last = point.steps[-1]
        labels[last] = np.where(common, of_starts, labels[last])
        starts = generator.standard_normal((8, 200)).repeat(4, axis=0)
        weights = {
            step: torch.tensor(starts + turned * place * generator.standard_normal((32, 200)))
            for place, step in enumerate(point.steps)
        }
        return SimpleNamespace(
            labels=labels.__getitem__,
            predictions=lambda step: {"labels": labels[step], "logits": np.eye(3)[labels[step]]},
            weights=lambda step: {"w": weights[step]},
            scale_groups={"layer": ("w",)},
        )

    return ensemble


def measured(share=0.0, turned=0.2):
    axes = {"dataset": "digits", "model": "mlp", "batch_size": 32, "optimiser": "adamw", "runs_per_init": 4}
    points = [
        Point(
            name=f"p{rate}", intrinsic_lr=rate, lr=0.01, weight_decay=100 * rate, init_seed=k, steps=STEPS, **axes
        )
        for k, rate in enumerate((0.01, 0.1))
    ]
    spec = spec_of("adamw_mixing", {mixing.MIXING: points}, 32)
    data = SimpleNamespace(
        spec=spec, ensemble=ensembles(share, turned), test_labels=lambda name: np.zeros(300, int)
    )
    return claim.measure(data)


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_the_share_that_initialisations_cause_is_measured_at_every_checkpoint(share):
    table = measured(share)
    rows = table[(table["part"] == mixing.MIXING) & (table["distance"] == "labels")]
    assert rows["step"].tolist() == [*STEPS] * 2
    late = rows["step"] == STEPS[-1]
    assert rows.loc[late, "share"].to_numpy() == pytest.approx(share, abs=0.05)
    assert rows.loc[~late, "share"].to_numpy() == pytest.approx(0, abs=0.05)
    assert set(table.loc[table["part"] == mixing.RATE, "setting"]) == {
        "AdamW, eta 0.01, eta lambda 0.01 against 0.1"
    }


def test_weights_are_compared_with_their_own_and_with_those_of_another_initialisation():
    table = measured()
    rows = table[table["part"] == mixing.WEIGHTS]
    means = rows.groupby("relation")["cosine"].mean()
    assert means[mixing.WITHIN] > 0.9
    assert means[mixing.ACROSS] == pytest.approx(0, abs=0.1)
    assert set(rows.groupby(["setting", "relation"])["replicate"].nunique()) == {32}
