"""Weights of two initialisations: verdicts on simulated weights and predictions."""

from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from simulated_labels import CLASSES, dirichlet, draw, point

from intrinsic_lr.claims import no_mixing_in_weights as claim
from intrinsic_lr.claims.question import Question
from intrinsic_lr.claims.verdicts import findings_table, overall
from intrinsic_lr.seeding import stream_seed

RUNS, SIZE = 20, 400
POINTS = [
    point(f"{rate} from {seed}", rate, [round(t / rate) for t in (1, 4, 8)], init_seed=seed)
    for rate in (0.1, 0.01)
    for seed in (0, 1)
]
QUESTION = Question(
    "no_mixing_in_weights",
    experiments={"pairs": {"experiment": "mixing", "replicates": RUNS, "points": POINTS}},
    thresholds={"gap": 0.1, "mixed": 0.1},
    settings={"lag": 4},
    analysis={"confidence": 0.95, "permutations": 99, "bootstrap": 99},
)


def simulated(kept, memory=0.0, bad=()):
    """Return inputs whose weights keep a cosine along a trajectory, and labels that keep a memory of the start.

    Args:
        kept: cosine between two checkpoints of one trajectory; trajectories are independent.
        memory: share of the label distribution that belongs to the initialisation.
        bad: replicates whose weights are not finite.
    """

    def ensemble(role, of):
        def noise(*names):
            return np.random.default_rng(stream_seed(of["name"], *names)).standard_normal((RUNS, SIZE))

        def weights(step):
            values = torch.from_numpy(kept**0.5 * noise("base") + (1 - kept) ** 0.5 * noise(step))
            values[list(bad)] = torch.nan
            return {"w": values}

        def labels(step):
            p = (1 - memory) * dirichlet(1) + memory * dirichlet(2, of["init_seed"])
            return draw(p, RUNS, np.random.default_rng(stream_seed(of["name"], "labels", step)))

        return SimpleNamespace(weights=weights, labels=labels, classes=CLASSES, scale_groups={"w": ("w",)})

    return SimpleNamespace(
        question=QUESTION, ensemble=ensemble, test_labels=lambda name: dirichlet(0).argmax(axis=1)
    )


def judged(inputs):
    table = claim.measure(inputs)
    return table, findings_table("claim", "", "", claim.judge(table, QUESTION))


def test_weights_that_stay_apart_are_reproduced_and_the_controls_rejected():
    table, findings = judged(simulated(0.6))
    assert overall(findings) == "reproduced"
    criteria = findings[findings["role"] == "criterion"]
    assert criteria["estimate"].to_numpy() == pytest.approx(0.6, abs=0.05)
    assert len(criteria) == 4  # rates, layers
    assert set(findings.loc[findings["role"] == "control", "verdict"]) == {"rejected"}
    lags = table.loc[table["part"] == "weights"].drop_duplicates("intrinsic_lr")
    assert (lags["delta"] * lags["intrinsic_lr"]).tolist() == pytest.approx([4, 4])


def test_weights_that_mix_are_not_reproduced():
    assert overall(judged(simulated(0.0))[1]) == "not reproduced"


def test_where_function_space_has_not_mixed_nothing_is_said():
    table, findings = judged(simulated(0.6, memory=0.5))
    assert claim.mixed_rates(table, QUESTION) == []
    assert set(findings.loc[findings["role"] == "criterion", "verdict"]) == {"inconclusive"}


def test_a_rate_at_which_function_space_has_not_mixed_is_left_out():
    table, _ = judged(simulated(0.6))
    functions = table["part"] == claim.FUNCTIONS
    table.loc[functions & (table["intrinsic_lr"] == 0.1), "excess_share_high"] = 0.4
    findings = claim.judge(table, QUESTION)
    assert {finding.statement for finding in findings if "0.1 " in finding.statement} == set()
    assert claim.mixed_rates(table, QUESTION) == [0.01]


def test_replicates_that_are_not_finite_are_left_out_and_counted():
    _, findings = judged(simulated(0.6, bad=[3]))
    assert set(findings.loc[findings["role"] == "criterion", "n"]) == {RUNS - 1}
    assert overall(findings) == "reproduced"


@pytest.mark.parametrize("bad", [range(RUNS), range(1, RUNS)])
def test_degenerate_weights_are_inconclusive_and_drawn(bad):
    table, findings = judged(simulated(0.6, bad=bad))
    assert overall(findings) == "inconclusive"
    plt.close(claim.draw(table, QUESTION, findings))


def test_the_figure_is_drawn_on_a_plausible_and_on_an_empty_table():
    table, findings = judged(simulated(0.6))
    plt.close(claim.draw(table, QUESTION, findings))
    plt.close(claim.draw(table.head(0), QUESTION, findings))
    assert overall(findings_table("claim", "", "", claim.judge(table.head(0), QUESTION))) == "inconclusive"
