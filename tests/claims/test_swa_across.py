"""Averages across initialisations: verdicts on losses of known gain."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from checks import Example, experiment, spec_of
from simulated_labels import point
from test_swa_within import losses

from intrinsic_lr.claims import swa_across as claim
from intrinsic_lr.models.ensemble import build
from intrinsic_lr.models.matching import hidden_units, permute
from intrinsic_lr.models.normalisation import BatchStatistics
from intrinsic_lr.study.model_spec import ModelSpec

EXAMPLE = Example(claim, spec_of("swa_across", lags=[1, 2]), losses, ["test_loss"], criteria=6, controls=4)


@pytest.mark.parametrize(
    ("truth", "verdict"),
    [
        ({"across": 0.02}, "not reproduced"),
        ({"across": -0.005}, "inconclusive"),
        ({"within": 0.0}, "inconclusive"),  # without a gain within trajectories nothing is shown
    ],
)
def test_the_verdict_follows_the_truth(truth, verdict):
    assert EXAMPLE.overall(**truth) == verdict


def test_normalisation_has_to_be_of_no_help_either():
    table = EXAMPLE.table()
    helped = (table["part"] == "across") & (table["normalisation"] == "per_layer")
    table.loc[helped, "test_loss"] -= 0.5
    assert EXAMPLE.overall(table) == "not reproduced"


def test_the_gain_is_over_the_mean_of_both_ends():
    """An average between its two ends is better than the worse one: no evidence that averaging does not help."""
    table = EXAMPLE.table()
    across = table["part"] == "across"
    table.loc[across, "test_loss"] = 0.9 * table["test_loss_start"] + 0.1 * table["test_loss_end"]
    assert EXAMPLE.overall(table) == "not reproduced"


def test_matched_averages_have_to_be_of_no_help_either():
    table = EXAMPLE.table()
    helped = (table["part"] == "across") & (table["normalisation"] == "matched")
    table.loc[helped, "test_loss"] -= 0.5
    assert EXAMPLE.overall(table) == "not reproduced"


WIDTH, RUNS = 8, 20
MODEL = build(ModelSpec.from_string(f"mlp:width={WIDTH},depth=2"), (1, 2, 2), 3)
UNITS = hidden_units(MODEL.network)
POINTS = [point(f"from {seed}", 0.1, [10, 80], init_seed=seed, dtype="float64") for seed in (0, 1)]


def measured(monkeypatch, apart):
    """Measure runs that are `apart` from one network; those of the second initialisation have units reversed."""
    generator = torch.Generator().manual_seed(0)
    common = MODEL.initialize([0], 1.0, torch.float64)

    def ensemble(role, of):
        def weights(step):
            noise = {
                name: torch.randn((RUNS, *shape), generator=generator) for name, shape in MODEL.shapes.items()
            }
            drawn = {name: common[name] + apart * noise[name] for name in common}
            drawn["head.weight"] = common["head.weight"].expand(RUNS, -1, -1)
            order = torch.arange(WIDTH).flip(0).expand(RUNS, -1)
            return drawn if of["init_seed"] == 0 else permute(drawn, UNITS, {"linear1": order})

        return SimpleNamespace(weights=weights, model=lambda: MODEL)

    images = torch.randn(40, 1, 2, 2, generator=generator, dtype=torch.float64)
    truth = MODEL.forward(common, images, BatchStatistics())[0].argmax(dim=1)
    data = SimpleNamespace(normalize=lambda values: values, train_images=images, train_labels=truth)
    data.test_images, data.test_labels = images, truth
    monkeypatch.setattr(claim.swa_within, "measure", lambda data: losses())
    spec = replace(EXAMPLE.spec, experiments={**EXAMPLE.spec.experiments, "rates": experiment("m", POINTS, RUNS)})
    return spec, claim.measure(SimpleNamespace(spec=spec, ensemble=ensemble, dataset=lambda *names: data))


def test_averages_at_a_rate_are_worse_as_they_are_and_better_with_units_matched(monkeypatch):
    spec, table = measured(monkeypatch, apart=0.2)
    findings = EXAMPLE.judged(table, spec).set_index("statement")
    at_rate = findings[findings.index.str.contains("lambda_e = 0.1")]
    assert list(at_rate["verdict"]) == ["reproduced", "reproduced", "not reproduced"]
    assert list(at_rate["n"]) == [RUNS] * 3
    rows = table[table["run_time"] == "rates"].set_index(["part", "normalisation"]).sort_index()
    assert set(rows.index.get_level_values(0)) == {"across_replicates", "across_initialisations", "random"}
    # Networks of one initialisation are matched as they are.
    one = [rows.loc[("across_replicates", kind), "test_loss"].to_numpy() for kind in ("per_layer", "matched")]
    assert one[0] == pytest.approx(one[1])
