"""The linear scaling rule: pairing, the discrepancy of curves, and verdicts on synthetic curves."""

import numpy as np
import pandas as pd
import pytest
from checks import Example, spec_of

from intrinsic_lr.claims import linear_scaling as claim
from intrinsic_lr.stats.intervals import root_mean_square_interval


def table(apart=(0.0, 0.2, 0.6)):
    """Return curves whose large batch lies by `apart` above the small one, on a logarithmic scale."""
    generator = np.random.default_rng(0)
    parts = []
    for decay, gap in zip((0.01, 0.04, 0.16), apart, strict=True):
        for batch, lr, count in ((32, 0.1, 40), (128, 0.4, 25)):
            time = np.linspace(0, 6, count + 1)
            for replicate in range(12):
                curve = np.exp(-time) + 0.1
                curve = curve * np.exp(generator.normal(0, 0.05) + gap * (batch == 128))
                parts.append(pd.DataFrame({
                    "point": f"{batch}-{decay}", "batch_size": batch, "lr": lr, "weight_decay": decay,
                    "intrinsic_lr": lr * decay, "replicate": replicate, "step": time / lr / decay,
                    "intrinsic_time": time, "train_loss": curve, "test_loss": 2 * curve, "squared_norm": 3 * curve,
                }))  # fmt: skip
    return pd.concat(parts, ignore_index=True)


TRUTHS = [
    ({"apart": (0.5, 0.5, 0.5)}, {"criterion": "not reproduced"}),
    ({"apart": (0.0, 0.0, 0.0)}, {"control": "not rejected"}),
]
EXAMPLE = Example(claim, spec_of("linear_scaling"), table, list(claim.QUANTITIES), 3, 3, truths=TRUTHS)


def test_the_controls_estimate_how_far_the_curves_are_apart():
    assert list(EXAMPLE.judged()["estimate"][3:]) == pytest.approx([0.6] * 3, abs=0.06)


def test_only_rates_in_proportion_to_the_batch_make_a_pair():
    frame = EXAMPLE.table()
    assert [about["k"] for about, *_ in claim.pairs(frame, "test_loss")] == [4, 4, 4]
    unscaled = frame.assign(lr=frame["lr"].where(frame["batch_size"] == 32, 0.1))
    assert not list(claim.pairs(unscaled, "test_loss"))


def test_curves_are_compared_at_equal_times():
    frame = EXAMPLE.table()
    frame["train_loss"] = np.exp(-frame["intrinsic_time"])
    for _, _, small, large in claim.pairs(frame, "train_loss"):
        np.testing.assert_allclose(small, large[: len(small)], rtol=1e-9)


def test_the_root_mean_square_is_free_of_what_sampling_adds():
    generator = np.random.default_rng(3)
    for truth in (0.0, 0.5):
        estimates, covered = [], 0
        for index in range(60):
            a, b = generator.normal(0, 1, (20, 8)), generator.normal(truth, 1, (20, 8))
            estimate, (low, high) = root_mean_square_interval(
                lambda i, j, a=a, b=b: float(((b[j].mean(axis=0) - a[i].mean(axis=0)) ** 2).mean()),
                [20, 20], 150, 0.95, np.random.default_rng(index),
            )  # fmt: skip
            estimates.append(estimate)
            covered += low <= truth <= high
        assert np.median(estimates) == pytest.approx(truth, abs=0.12)
        assert covered >= 50


@pytest.mark.parametrize(
    ("rows", "verdict"), [("weight_decay == 0.01", "reproduced"), ("batch_size == 32", "inconclusive")]
)
def test_one_pair_alone_has_no_control_and_no_pair_decides_nothing(rows, verdict):
    findings = EXAMPLE.judged(table().query(rows))
    assert list(findings["verdict"]) == [verdict] * 3 + ["inconclusive"] * 3
    assert list(findings["role"]) == ["criterion"] * 3 + ["control"] * 3
