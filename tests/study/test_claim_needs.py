"""Claims are refused before training where their experiments do not suit them."""

import copy

import pytest
from strategies import BEYOND, DEFAULT

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.study.claims import CLAIMS
from intrinsic_lr.study.study import Study

ROLES = [(claim, role) for claim in DEFAULT["claims"] for role in CLAIMS[claim].experiments]
# What these roles are given is shown beside the criteria, or is a control that may be missing.
FREE = [
    ("function_space_mixing", "other_batch"),
    ("function_space_mixing", "too_short"),
    ("function_space_one_distribution", "other_batch"),
    ("function_space_one_distribution", "too_short"),
    ("early_stopping_needed", "sgd"),
]


def refusal(claim, change):
    """Return why a claim of the default config, or of that beyond the paper, is refused once it is changed."""
    config = copy.deepcopy(DEFAULT if claim in DEFAULT["claims"] else BEYOND)
    change(config)
    config["judge"] = [claim]
    with pytest.raises(InputError) as caught:
        Study.read(config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("claim", "role"), [pair for pair in ROLES if pair not in FREE])
def test_an_experiment_that_does_not_suit_a_role_is_refused(claim, role):
    """Training on the sphere has one initialisation, mini-batches, no weight decay and no schedule."""

    def give(config):
        config["experiments"]["sphere"]["analyses"] = ["phase", "swa", "distance"]
        config["experiments"]["sphere"]["checkpoints"] = {"steps": [10, 1000, 2000]}
        config["claims"][claim]["experiments"][role] = "sphere"

    message = refusal(claim, give)
    assert message.startswith(f"config: claims.{claim}.experiments.")
    assert "expected one with " in message
    assert "leave the claim out of judge" in message


# Another seed, since other experiments train the first of these points with smaller blocks.
OTHER_WEIGHTS = {
    f"grid.{k}.{axis}": value for k in (0, 7) for axis, value in (("runs_per_init", 1), ("init_seed", 20))
}
ONE_START = {f"grid.{k}.runs_per_init": 64 for k in range(4, 10)}
ONE_START |= {
    f"grid.{k}.{axis}": value for k in range(4) for axis, value in (("init_seed", k), ("runs_per_init", 64))
}
ONE_RATE = {f"grid.{k}.runs_per_init": 1 for k in range(1, 10)}
CHANGES = [
    ("norm_recursion", "exp_lr", {"batch_size": "full"}, "mini-batches"),
    ("norm_recursion", "trajectory", {"grid.optimiser": "adam"}, "sgd"),
    ("exp_lr_equivalence", "exp_lr", {"grid.0.schedule": "constant", "grid.1.schedule": "constant"}, "exp_lr"),
    ("rescaling_equivalence", "rescaled", {"grid.1.lr": 2.4, "grid.3.lr": 2.4}, "rescaled rates"),
    ("rescaling_equivalence", "mixing", {"length": {"steps": 90}, "checkpoints": {"steps": [90]}}, "4/lambda_e"),
    ("rescaling_equivalence", "mixing", OTHER_WEIGHTS, "init_sharing: shared"),
    ("function_space_mixing", "mixing", ONE_START, "two initialisations of two runs each"),
    ("function_space_mixing", "mixing", {"grid.0.data_order": 0}, "no common data_order"),
    ("gd_never_settles", "full_batch", {"grid.schedule": "constant"}, "end without weight decay"),
    ("gd_never_settles", "full_batch_no_decay", {"batch_size": 32}, "full batches"),
    ("early_stopping_needed", "trajectory", {"batch_size": "full"}, "mini-batches"),
    ("small_lr_generalises", "small_lr", {"grid.lr": [0.005, 0.01]}, "exactly one point"),
    ("small_lr_generalises", "small_lr", {"grid.lr": 0.05}, "a hundred times smaller"),
    ("swa_within", "trajectory", {"checkpoints.inverse_intrinsic_lr": [2, 2.5, 3, 4, 21, 22]}, "at 20/lambda_e"),
    ("swa_across", "trajectory", {"grid.init_sharing": "shared", "grid.init_seed": 9}, "two networks of"),
    ("distance_grows", "trajectory", {"grid.lr": [0.1, 0.2]}, "exactly one point"),
    ("no_mixing_in_weights", "mixing", {"checkpoints.inverse_intrinsic_lr": [3]}, "two checkpoints"),
    ("norm_equilibrium", "mixing", {f"grid.{k}.momentum": 0.9 for k in (4, 5, 6)}, "another init_scale"),
    ("norm_equilibrium", "rate_decays", {"grid.schedule": "constant", "grid.init_seed": 9}, "change their rates"),
    ("lr_decay_response", "rate_decays", {"grid.schedule": ["lr_decay", "decay_then_none"]}, "change their rates"),
    ("random_pasts", "random_pasts", {"grid.schedule": ["lr_decay", "joint_decay"]}, "then end without"),
    ("noise_anisotropy", "trajectory", {"batch_size": "full"}, "mini-batches"),
    ("noise_anisotropy", "trajectory", {"checkpoints.inverse_intrinsic_lr": [1, 2, 3]}, "from 4/lambda_e on"),
    ("linear_scaling", "scaled_batches", {"grid.1.batch_size": "full"}, "mini-batches"),
    ("linear_scaling", "scaled_batches", {"grid.1.lr": 0.3}, "in proportion"),
    ("linear_scaling", "scaled_batches", {"grid.1.momentum": 0.9}, "alone"),
    ("equilibrium_time", "mixing", ONE_RATE, "two intrinsic rates"),
    ("schedules_same_equilibrium", "matched_schedules", {"grid.1.init_seed": 0}, "another init_seed"),
    ("schedules_same_equilibrium", "unmatched_schedules", {"checkpoints.epochs": [1, 57]}, "the same checkpoints"),
    ("fixed_head_costs_nothing", "trained_head", {"model": "mlp"}, "its head trained"),
    ("adamw_rescaling", "adamw_rescaled", {"grid.1.lr": 0.25}, "rescaled rates"),
    ("adamw_rescaling", "adamw_rescaled", {"grid.1.eps": [1e-4, 3e-5]}, "rescaled rates"),
    ("adamw_rescaling", "adamw_rates", {"grid.1.optimiser": "adam"}, "adamw at every point"),
    ("adamw_equilibrium", "adamw_rest", {"grid.1.optimiser": "adam"}, "adamw at every point"),
    ("adamw_equilibrium", "adamw_rest", {"grid.1.clip": 1.0}, "no clip at any point"),
    ("adamw_equilibrium", "adamw_rest", {"grid.1.schedule": "lr_decay"}, "constant rates"),
    ("adamw_equilibrium", "coupled_rest", {"length": {"steps": 90}, "checkpoints": {"steps": [90]}}, "4/lambda_e"),
    ("adamw_equilibrium", "adamw_changes", {"grid.0.beta2": 0.99, "grid.1.beta2": 0.98}, "most 0.2/lambda_e"),
    ("adamw_equilibrium", "adamw_changes", {"grid.1.schedule": "constant"}, "change their rates"),
    ("adamw_swa", "adamw_trajectory", {"grid.optimiser": "adam"}, "adamw at every point"),
    ("adamw_swa", "adamw_trajectory", {"grid.init_sharing": "shared"}, "two networks of"),
    ("adamw_mixing", "adam_mixing", {"grid.optimiser": "adamw"}, "adam at every point"),
    ("transformer_mixing", "transformer_mixing", {"checkpoints.inverse_intrinsic_lr": [8]}, "two checkpoints"),
    ("adamw_mixing", "adamw_not_mixed", {"grid.runs_per_init": 1}, "two runs each"),
    ("timescale_transfers", "adamw_timescales", {"grid.dataset": "digits"}, "two data sets"),
    ("timescale_transfers", "adamw_timescales", {"length": {"steps": 9}, "checkpoints": {"steps": [9]}}, "epochs"),
    ("timescale_transfers", "adamw_timescales", {"grid.lr": [0.01, 0.03]}, "three learning rates"),
]  # fmt: skip


@pytest.mark.parametrize(("claim", "experiment", "changes", "words"), CHANGES)
def test_an_experiment_that_lacks_something_is_named_with_what_it_lacks(claim, experiment, changes, words):
    def change(config):
        for path, value in changes.items():
            target = config["experiments"][experiment]
            *way, last = path.split(".")
            for key in way:
                target = target.setdefault(key, {}) if isinstance(target, dict) else target[int(key)]
            target[last] = value

    message = refusal(claim, change)
    assert words in message
    assert f"got {experiment!r}" in message


@pytest.mark.parametrize("claim", ["swa_across", "no_mixing_in_weights"])
def test_networks_whose_units_cannot_be_matched_are_refused(claim):
    def change(config):
        config["models"]["other"] = {"kind": "vit"}
        config["experiments"]["mixing"]["model"] = "other"

    assert "hidden units can be matched, of the kinds mlp, cnn4, preresnet, got 'mixing'" in refusal(claim, change)
