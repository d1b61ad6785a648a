"""Weights of two initialisations: verdicts on simulated weights and predictions."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from checks import Example, Point, spec_of, verdicts
from simulated_labels import CLASSES, dirichlet, draw, point

from intrinsic_lr.claims import no_mixing_in_weights as claim
from intrinsic_lr.claims.shared.starts import compared_starts
from intrinsic_lr.core.seeding import stream_seed
from intrinsic_lr.models.ensemble import build
from intrinsic_lr.models.matching import hidden_units, permute
from intrinsic_lr.study.model_spec import ModelSpec

RUNS, TOGETHER = 48, 3
STARTS = np.arange(RUNS) // TOGETHER
POINTS = [
    point(
        f"{rate}", rate, [round(t / rate) for t in (1, 4, 8)], init_sharing="independent", runs_per_init=TOGETHER
    )
    for rate in (0.1, 0.01)
]
SHARED = [point(f"from {seed}", 0.1, [80], init_seed=seed) for seed in (0, 1)]
SPEC = spec_of("no_mixing_in_weights", {"pairs": POINTS}, RUNS)
MODEL = build(ModelSpec.from_string("mlp:width=20,depth=2"), (1, 1, 20), CLASSES)
UNITS = hidden_units(MODEL.network)


def table(kept=0.6, memory=0.0, relabelled=0.0, bad=(), spec=SPEC):
    """Return the table of runs with a cosine along a trajectory, whose labels remember their initialisation.

    Args:
        kept: cosine between two checkpoints of one trajectory.
        memory: share of the label distribution that belongs to the initialisation.
        relabelled: cosine between any two trajectories once their hidden units are in one order; the runs of each
            initialisation have an order of their own.
        bad: replicates whose weights are not finite.
    """

    def ensemble(role, of):
        def noise(*names):
            generator = np.random.default_rng(stream_seed(*names))
            drawn = {name: generator.standard_normal((RUNS, *shape)) for name, shape in MODEL.shapes.items()}
            return {name: torch.from_numpy(values) for name, values in drawn.items()}

        def weights(step):
            common, base, own = noise("common"), noise(of["name"], "base"), noise(of["name"], step)
            values = {
                name: relabelled**0.5 * common[name][:1]
                + (kept - relabelled) ** 0.5 * base[name]
                + (1 - kept) ** 0.5 * own[name]
                for name in MODEL.shapes
            }
            orders = [np.random.default_rng(start).permutation(20) for start in STARTS]
            values = permute(values, UNITS, dict.fromkeys(UNITS, torch.from_numpy(np.stack(orders))))
            for value in values.values():
                value[list(bad)] = torch.nan
            return values

        def labels(step):
            generator = np.random.default_rng(stream_seed(of["name"], "labels", step))
            of_starts = [(1 - memory) * dirichlet(1) + memory * dirichlet(2, int(start)) for start in STARTS]
            found = np.concatenate([draw(p, 1, generator) for p in of_starts])
            found[list(bad)] = -1
            return found

        def predictions(step):
            return {"labels": labels(step), "logits": np.eye(CLASSES)[labels(step)]}

        return SimpleNamespace(
            weights=weights, labels=labels, predictions=predictions, classes=CLASSES,
            scale_groups=MODEL.scale_groups, model=lambda: MODEL,
        )  # fmt: skip

    truth = dirichlet(0).argmax(axis=1)
    return claim.measure(SimpleNamespace(spec=spec, ensemble=ensemble, test_labels=lambda name: truth))


EXAMPLE = Example(claim, SPEC, table, ["cosine", "l2"], criteria=12, controls=6)


def test_weights_that_stay_apart_have_the_true_cosines_and_distances():
    findings = EXAMPLE.judged()
    criteria, controls = (findings[findings["role"] == role] for role in ("criterion", "control"))
    matched = criteria["statement"].str.contains("units matched")
    cosines = criteria["statistic"].str.startswith("cosine")
    assert criteria.loc[cosines & ~matched, "estimate"].to_numpy() == pytest.approx(0.6, abs=0.05)
    assert criteria.loc[~cosines & ~matched, "estimate"].to_numpy() == pytest.approx(0.4**-0.5, abs=0.05)
    assert list(cosines) == [True, True, False] * 4  # rates; units; layers, then the distance
    # Matching finds something in noise too.
    assert criteria.loc[cosines & matched, "estimate"].between(0.1, 0.5).all()
    # The walk is simulated: its cosines scatter, round what its directions still share at the lag.
    walks = controls[controls["statistic"].str.startswith("cosine")]
    assert (walks["ci_low"] < walks["ci_high"]).all()
    assert walks["estimate"].to_numpy() == pytest.approx(np.exp(-4), abs=0.05)
    assert (set(criteria["n"]), set(walks["n"])) == ({8}, {24})  # pairs of initialisations, and of walks
    frame = EXAMPLE.table()
    lags = frame.loc[frame["part"] == "weights"].drop_duplicates("intrinsic_lr")
    assert (lags["delta"] * lags["intrinsic_lr"]).tolist() == pytest.approx([4, 4])


def test_weights_that_mix_are_not_reproduced():
    assert EXAMPLE.overall(kept=0.0) == "not reproduced"


def test_units_in_another_order_are_apart_and_together_once_matched():
    findings = EXAMPLE.judged(relabelled=0.6)
    criteria = findings[findings["role"] == "criterion"]
    matched = criteria["statement"].str.contains("units matched")
    assert set(criteria.loc[~matched, "verdict"]) == {"reproduced"}
    assert set(criteria.loc[matched, "verdict"]) == {"not reproduced"}
    cosines = criteria["statistic"].str.startswith("cosine")
    assert criteria.loc[cosines & matched, "estimate"].to_numpy() == pytest.approx(0, abs=0.02)


def test_many_initialisations_of_one_point_are_taken_two_by_two():
    """Runs of one initialisation are no independent samples; those of other initialisations are."""
    own = {"init_sharing": "independent"}
    (compared,) = compared_starts([point("p", 0.1, [1], runs_per_init=2, **own)], 9)
    assert compared.across == [(0, 2), (1, 3), (4, 6), (5, 7)]
    assert compared.orders == [(0, 1), (1, 0), (4, 5), (5, 4)]
    assert compared.samples == {0: 0, 1: 0, 4: 1, 5: 1}
    (alone,) = compared_starts([point("p", 0.1, [1], **own)], 4)
    assert (alone.across, alone.orders, set(alone.samples.values())) == ([(0, 1), (2, 3)], [], {0, 1})
    (shared,) = compared_starts(SHARED, 3)
    assert (shared.across, shared.orders) == ([(0, 3), (1, 4), (2, 5)], [(0, 1), (1, 2), (2, 0)])
    assert shared.samples == {0: 0, 1: 1, 2: 2}


def test_where_function_space_has_not_mixed_nothing_is_said():
    assert claim.mixed_rates(EXAMPLE.table(memory=0.5), SPEC) == []
    assert set(verdicts(EXAMPLE.judged(memory=0.5))) == {"inconclusive"}


@pytest.mark.parametrize(("share", "told"), [(0.4, set()), (np.nan, {"inconclusive"})])
def test_a_rate_that_has_not_mixed_is_left_out_and_one_without_predictions_is_open(share, told):
    frame = EXAMPLE.table()
    frame.loc[(frame["part"] == claim.FUNCTIONS) & (frame["intrinsic_lr"] == 0.1), "share_high"] = share
    findings = EXAMPLE.judged(frame)
    assert set(findings.loc[findings["statement"].str.contains("= 0.1 "), "verdict"]) == told
    if told:
        assert EXAMPLE.overall(frame) == "inconclusive"
    else:
        assert not findings["statement"].str.contains("0.1 ", regex=False).any()
        assert claim.mixed_rates(frame, SPEC) == [0.01]


def test_replicates_that_are_not_finite_are_left_out_and_counted():
    findings = EXAMPLE.judged(bad=(3,))
    assert set(findings.loc[findings["role"] == "criterion", "n"]) == {8}
    assert EXAMPLE.overall(bad=(3,)) == "reproduced"


def test_the_control_reads_the_walk_and_can_be_missed():
    """Walks that keep their cosine are not rejected."""
    frame = EXAMPLE.table()
    frame.loc[(frame["part"] == claim.WALK) & (frame["relation"] == "within"), ["cosine", "l2"]] = 0.5
    assert set(verdicts(EXAMPLE.judged(frame), "control")) == {"not rejected"}


def test_distances_have_to_say_the_same_as_cosines():
    frame = EXAMPLE.table()
    frame.loc[(frame["part"] == claim.WEIGHTS) & (frame["relation"] == "within"), "l2"] *= 3
    findings = EXAMPLE.judged(frame)
    wrong = findings.loc[findings["verdict"] == "not reproduced", "statistic"]
    assert list(wrong.str.startswith("distance")) == [True] * 4  # two rates, units as they are and matched


def test_every_rate_counts_once():
    third = Point(**{**vars(POINTS[0]), "name": "third", "batch_size": 7})
    frame = table(spec=EXAMPLE.with_points(pairs=[*POINTS, third]))
    assert sorted(frame.loc[frame["part"] == claim.FUNCTIONS, "intrinsic_lr"]) == [0.01, 0.1]
