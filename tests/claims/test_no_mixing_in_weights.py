"""Weights of two initialisations: verdicts on simulated weights and predictions."""

from dataclasses import replace
from types import SimpleNamespace

import checks
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from checks import Point, experiment
from simulated_labels import CLASSES, dirichlet, draw, point

from intrinsic_lr.claims import no_mixing_in_weights as claim
from intrinsic_lr.claims.shared.spec import ClaimSpec
from intrinsic_lr.claims.shared.verdicts import overall
from intrinsic_lr.core.seeding import stream_seed

RUNS, SIZE = 20, 400
POINTS = [
    point(f"{rate} from {seed}", rate, [round(t / rate) for t in (1, 4, 8)], init_seed=seed)
    for rate in (0.1, 0.01)
    for seed in (0, 1)
]
SPEC = ClaimSpec(
    "no_mixing_in_weights",
    experiments={"pairs": experiment("mixing", POINTS, RUNS)},
    thresholds={"gap": 0.1, "mixed": 0.1},
    settings={"lag": 4},
    analysis={"confidence": 0.95, "permutations": 99, "bootstrap": 99},
)


def simulated(kept, memory=0.0, bad=(), spec=SPEC):
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

    return SimpleNamespace(spec=spec, ensemble=ensemble, test_labels=lambda name: dirichlet(0).argmax(axis=1))


def judged(inputs):
    table = claim.measure(inputs)
    return table, checks.judged(claim, table, SPEC)


def test_weights_that_stay_apart_are_reproduced_and_the_controls_rejected():
    table, findings = judged(simulated(0.6))
    assert overall(findings) == "reproduced"
    criteria = findings[findings["role"] == "criterion"]
    cosines = criteria["statistic"].str.startswith("cosine")
    assert criteria.loc[cosines, "estimate"].to_numpy() == pytest.approx(0.6, abs=0.05)
    assert criteria.loc[~cosines, "estimate"].to_numpy() == pytest.approx(0.4**-0.5, abs=0.05)
    assert list(cosines) == [True, True, False] * 2  # rates; layers, then the distance
    controls = findings[findings["role"] == "control"]
    assert list(controls["verdict"]) == ["rejected"] * 6
    # The walk is simulated: its cosines scatter, round what its directions still share at the lag.
    walks = controls[controls["statistic"].str.startswith("cosine")]
    assert (walks["ci_low"] < walks["ci_high"]).all()
    assert walks["estimate"].to_numpy() == pytest.approx(np.exp(-4), abs=0.05)
    assert set(walks["n"]) == {RUNS}
    lags = table.loc[table["part"] == "weights"].drop_duplicates("intrinsic_lr")
    assert (lags["delta"] * lags["intrinsic_lr"]).tolist() == pytest.approx([4, 4])


def test_weights_that_mix_are_not_reproduced():
    assert overall(judged(simulated(0.0))[1]) == "not reproduced"


def test_where_function_space_has_not_mixed_nothing_is_said():
    table, findings = judged(simulated(0.6, memory=0.5))
    assert claim.mixed_rates(table, SPEC) == []
    assert set(findings.loc[findings["role"] == "criterion", "verdict"]) == {"inconclusive"}


def test_a_rate_at_which_function_space_has_not_mixed_is_left_out():
    table, _ = judged(simulated(0.6))
    functions = table["part"] == claim.FUNCTIONS
    table.loc[functions & (table["intrinsic_lr"] == 0.1), "excess_share_high"] = 0.4
    findings = list(claim.judge(table, SPEC))
    assert {finding.statement for finding in findings if "0.1 " in finding.statement} == set()
    assert claim.mixed_rates(table, SPEC) == [0.01]


def test_replicates_that_are_not_finite_are_left_out_and_counted():
    _, findings = judged(simulated(0.6, bad=[3]))
    assert set(findings.loc[findings["role"] == "criterion", "n"]) == {RUNS - 1}
    assert overall(findings) == "reproduced"


@pytest.mark.parametrize("bad", [range(RUNS), range(1, RUNS)])
def test_degenerate_weights_are_inconclusive_and_drawn(bad):
    table, findings = judged(simulated(0.6, bad=bad))
    assert overall(findings) == "inconclusive"
    plt.close(claim.draw(table, SPEC, findings))


def test_the_figure_is_drawn_on_a_plausible_and_on_an_empty_table():
    table, findings = judged(simulated(0.6))
    plt.close(claim.draw(table, SPEC, findings))
    plt.close(claim.draw(table.head(0), SPEC, findings))
    assert overall(checks.judged(claim, table.head(0), SPEC)) == "inconclusive"


def test_the_control_reads_the_walk_and_can_be_missed():
    """Walks that keep their cosine are not rejected: the control is judged by its rows."""
    table, _ = judged(simulated(0.6))
    near = (table["part"] == claim.WALK) & (table["relation"] == "within")
    table.loc[near, ["cosine", "l2"]] = 0.5, 0.5
    findings = checks.judged(claim, table, SPEC)
    assert set(findings.loc[findings["role"] == "control", "verdict"]) == {"not rejected"}
    assert overall(findings) == "inconclusive"


def test_distances_have_to_say_the_same_as_cosines():
    table, _ = judged(simulated(0.6))
    near = (table["part"] == claim.WEIGHTS) & (table["relation"] == "within")
    table.loc[near, "l2"] *= 3
    findings = checks.judged(claim, table, SPEC)
    wrong = findings[(findings["role"] == "criterion") & (findings["verdict"] == "not reproduced")]
    assert len(wrong) == 2
    assert wrong["statistic"].str.startswith("distance").all()


def test_a_rate_without_predictions_is_inconclusive():
    table, _ = judged(simulated(0.6))
    table.loc[(table["part"] == claim.FUNCTIONS) & (table["intrinsic_lr"] == 0.1), "excess_share_high"] = np.nan
    findings = checks.judged(claim, table, SPEC)
    lost = findings[findings["statement"].str.contains("= 0.1 ")]
    assert set(lost["verdict"]) == {"inconclusive"}
    assert overall(findings) == "inconclusive"


def asked_of(points):
    return replace(SPEC, experiments={"pairs": experiment("mixing", points, RUNS)})


def test_every_rate_counts_once_and_may_have_a_pair_of_its_own():
    pairs = [POINTS[0], POINTS[1], POINTS[2], Point(**{**vars(POINTS[3]), "init_seed": 2})]
    third = Point(**{**vars(POINTS[0]), "name": "third", "init_seed": 7})
    table = claim.measure(simulated(0.6, spec=asked_of([*pairs, third])))
    assert sorted(table.loc[table["part"] == claim.FUNCTIONS, "intrinsic_lr"]) == [0.01, 0.1]
