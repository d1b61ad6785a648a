"""AdamW and its exponential equivalents: the words are its own, the test is that of `exp_lr_equivalence`."""

from checks import Example, grid, spec_of
from test_exp_lr_equivalence import deviations_of

from intrinsic_lr.claims import adamw_exponential_twin as claim
from intrinsic_lr.claims.exp_lr_equivalence import pairs
from intrinsic_lr.study.points import expand

DEFAULTS = {"dataset": "digits", "model": "mlp", "batch_size": 32}
ADAMW = {"optimiser": "adamw", "data_order": 0, "lr": 0.01, "intrinsic_lr": 5e-3}
SCHEDULES = ["constant", "exp_lr", "exp_lr_zero_buffer", "step_decay", "exp_lr_of_step_decay"]
GRID = [{"schedule": SCHEDULES, "dtype": "float64"}, {"schedule": SCHEDULES[:2]}]
POINTS = [
    {**vars(point), "name": point.name, "intrinsic_lr": point.intrinsic_lr}
    for point in expand(grid(*({**ADAMW, **mapping} for mapping in GRID)), DEFAULTS, "grid")
]
SPEC = spec_of("adamw_exponential_twin", {"runs": POINTS}, 3)
TRUTHS = [
    ({"rounded": 1.0}, "reproduced"),
    ({"exact": 1e-5}, {"criterion": "not reproduced"}),
    ({"uncorrected": 1e-12}, {"control": "not rejected"}),
]


def synthetic(exact=1e-10, rounded=1e-4, uncorrected=0.2):
    return deviations_of(SPEC, exact, rounded, uncorrected)


EXAMPLE = Example(claim, SPEC, synthetic, ["directions", "logits"], 2, 2, truths=TRUTHS)


def test_every_equivalent_has_its_original_and_the_control_is_named():
    kinds = [kind for kind, _, _ in pairs(SPEC)]
    assert sorted(kinds) == ["exact", "exact", "rounded", "uncorrected"]
    findings = EXAMPLE.judged()
    assert findings.loc[findings["role"] == "control", "statement"].str.contains("betas are left alone").all()
