"""AdamW at one intrinsic learning rate: another learning rate is another norm of the initial weights, and no more.

Exactly: (eta, lambda, eps, w_0) and (c eta, lambda / c, eps / c, c w_0) train the same directions and functions
(derived, F17). Without rescaling the initialisation, equal intrinsic rates lead to the same end. The test is that
of `rescaling_equivalence`, with one more control: an eps that is left as it was.
"""

import pandas as pd
from matplotlib.figure import Figure

from intrinsic_lr.claims import rescaling_equivalence
from intrinsic_lr.claims.rescaling_equivalence import RESCALED, deviations_of, draw_rescaling
from intrinsic_lr.claims.shared.exact import EQUIVALENCE, worst_finding
from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec
from intrinsic_lr.claims.shared.verdicts import Findings
from intrinsic_lr.figures.style import styled
from intrinsic_lr.study.pairs import rescaled

EPS_KEPT = "eps kept"
"""Part of the table: pairs whose rates and initial weights are rescaled, and whose eps is not."""


def measure(data: ClaimData) -> pd.DataFrame:
    """Return the table of `rescaling_equivalence`, and the deviations of the pairs whose eps is left as it was."""
    kept = deviations_of(data, rescaled(data.spec.points("pair"), eps_kept=True))
    return pd.concat([rescaling_equivalence.measure(data), kept.assign(part=EPS_KEPT)], ignore_index=True)


def judge(table: pd.DataFrame, spec: ClaimSpec) -> Findings:
    """Judge as `rescaling_equivalence` does; of the further control every replicate has to be apart."""
    yield from rescaling_equivalence.judge(table, spec, "rates, eps and initial weights")
    planned = len(list(rescaled(spec.points("pair"), eps_kept=True))) * spec.replicates("pair")
    for quantity, statistic in EQUIVALENCE.items():
        cells = table[table["part"] == EPS_KEPT], quantity, ["point", "partner", "replicate"], planned
        statement = f"Rescaled but for eps, rates and initial weights give the same {quantity}."
        words = statement, f"largest {statistic} over the run", spec.thresholds["deviation"], "pair"
        yield worst_finding(*cells, spec, *words, control=True)


@styled
def draw(table: pd.DataFrame, spec: ClaimSpec, findings: pd.DataFrame) -> Figure:
    """Draw exact pairs with their control, differences of accuracy, and total variations over their nulls."""
    title = r"AdamW: at one $\lambda_e=\eta\lambda$ another learning rate only rescales the initialisation"
    lines = [
        ("", "#0072B2", table[table["part"] == RESCALED]),
        (r", control: $\epsilon$ as it was", "#D55E00", table[table["part"] == EPS_KEPT]),
    ]
    return draw_rescaling(table, spec, title, lines)
