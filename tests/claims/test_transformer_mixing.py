"""A transformer's functions forget and its weights do not: as `adamw_mixing`, without Adam's L2."""

from functools import partial

from checks import Example, spec_of
from mixing_tables import mixing_table

from intrinsic_lr.claims import transformer_mixing as claim
from intrinsic_lr.claims.shared import mixing

TRUTHS = [
    ({"share": 0.05}, "not reproduced"),
    ({"gap": 0.0}, "not reproduced"),
    ({"early": 0.001}, "inconclusive"),
]
EXAMPLE = Example(
    claim,
    spec_of("transformer_mixing"),
    partial(mixing_table, (mixing.MIXING, mixing.SHORT)),
    ["share", "share_low", "share_high", "cosine"],
    criteria=6,
    controls=6,
    truths=TRUTHS,
)
