"""From estimates with their intervals to verdicts, and from these to the scorecard.

A criterion is met when the whole interval of its estimate lies in the allowed range, failed when the interval
and the range have nothing in common, and undecided when the interval straddles a bound. A control is the same
test on data for which the claim is false; it has to be rejected.

A claim is reproduced when all its criteria are met and all its controls are rejected (an intersection-union
test, which needs no correction for its number of criteria); not reproduced when a criterion fails. Otherwise it
is inconclusive: a test that its own control passes, or that has none, tells nothing.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from math import inf, isfinite, isnan
from typing import Any

import pandas as pd

REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE = "reproduced", "not reproduced", "inconclusive"
REJECTED, NOT_REJECTED = "rejected", "not rejected"
OF_CONTROLS = {NOT_REPRODUCED: REJECTED, REPRODUCED: NOT_REJECTED, INCONCLUSIVE: INCONCLUSIVE}
CRITERION, CONTROL = "criterion", "control"
SCORECARD_COLUMNS = [
    "claim", "statement", "experiment", "statistic", "estimate", "ci_low", "ci_high", "null_or_threshold",
    "p_value", "n", "power_for", "power", "verdict", "figure", "source",
]  # fmt: skip
_ORDER = (NOT_REPRODUCED, INCONCLUSIVE, REPRODUCED)


@dataclass(frozen=True)
class Range:
    """The values that a criterion allows, low <= value <= high; infinite where there is no bound."""

    low: float = -inf
    high: float = inf

    @staticmethod
    def about(value: float, margin: float) -> "Range":
        """Return the range of what is at most `margin` from a value."""
        return Range(value - margin, value + margin)

    @staticmethod
    def from_string(text: str) -> "Range | None":
        """Read the text of a range, whatever follows it; None where a text begins with none."""
        if found := re.match(r"([<>]=) (\S+?)(?=[\s;]|$)", text):
            bound = float(found[2])
            return Range(high=bound) if found[1] == "<=" else Range(low=bound)
        found = re.match(r"([-+.e\d]+) to ([-+.e\d]+)", text)
        return Range(float(found[1]), float(found[2])) if found else None

    def judge(self, low: float, high: float) -> str:
        """Return the verdict on an estimate with the interval from `low` to `high` (NaN: undecided)."""
        if not (isfinite(low) and isfinite(high)):
            return INCONCLUSIVE
        if self.low <= low and high <= self.high:
            return REPRODUCED
        return NOT_REPRODUCED if high < self.low or low > self.high else INCONCLUSIVE

    def __str__(self) -> str:
        if self.high == inf:
            return f">= {self.low:.4g}"
        return f"<= {self.high:.4g}" if self.low == -inf else f"{self.low:.4g} to {self.high:.4g}"


def judge_p_value(p_value: float, alpha: float) -> str:
    """Return the verdict of a test whose null hypothesis is what the claim says (say, "the same").

    The claim fails where the null is rejected, p < alpha. Not to be rejected is evidence only as far as the
    test has power, which its controls show.
    """
    return INCONCLUSIVE if isnan(p_value) else NOT_REPRODUCED if p_value < alpha else REPRODUCED


def judge_containing(low: float, high: float, value: float) -> str:
    """Return the verdict on an interval that has to contain a value (the claim as null hypothesis)."""
    if not (isfinite(low) and isfinite(high)):
        return INCONCLUSIVE
    return REPRODUCED if low <= value <= high else NOT_REPRODUCED


@dataclass(frozen=True)
class Finding:
    """One criterion or control of a claim: a row of `results/claims/<claim>.csv`."""

    role: str  # CRITERION or CONTROL
    statement: str  # what is tested
    experiment: str  # names of the experiments behind it; empty where none is trained
    statistic: str  # what `estimate` is, with its unit
    estimate: float
    ci_low: float  # the interval's ends, equal to the estimate where nothing is random
    ci_high: float
    null_or_threshold: str  # the null, or the allowed range
    p_value: float  # NaN without a test
    n: int  # replicates behind the estimate
    power_for: float  # a true value of the statistic for which `power` is told; NaN where it is not known
    power: float  # how often this test, at this n, would come out as it should at that value
    verdict: str  # of a criterion REPRODUCED, NOT_REPRODUCED or INCONCLUSIVE; of a control as in OF_CONTROLS


Findings = Iterator[Finding]


def overall(findings: pd.DataFrame) -> str:
    """Return the verdict on a claim from the rows of its criteria and controls."""
    criteria = list(findings.loc[findings["role"] == CRITERION, "verdict"])
    if NOT_REPRODUCED in criteria:
        return NOT_REPRODUCED
    controls = findings.loc[findings["role"] == CONTROL, "verdict"]
    sound = bool(criteria) and len(controls) > 0 and (controls == REJECTED).all()
    return REPRODUCED if sound and INCONCLUSIVE not in criteria else INCONCLUSIVE


def findings_table(claim: str, source: str, figure: str, findings: Iterable[Finding]) -> pd.DataFrame:
    """Return a claim's findings as a table, the criteria first."""
    rows = sorted(findings, key=lambda finding: finding.role != CRITERION)
    table = pd.DataFrame([asdict(row) for row in rows], columns=[field.name for field in fields(Finding)])
    table.insert(0, "claim", claim)
    return table.assign(figure=figure, source=source)


def scorecard(findings: Mapping[str, pd.DataFrame], statements: Mapping[str, str]) -> pd.DataFrame:
    """Return one row per claim: its overall verdict, with the numbers of the criterion that decides it.

    That is the worst criterion, the first of several equally good. Where only a control keeps a claim from being
    reproduced, the row's threshold says so. `findings` are tables of `findings_table`, `statements` the claims'
    own.
    """
    rows = []
    for claim, table in findings.items():
        verdict, row = overall(table), _deciding(table)
        if verdict != row["verdict"]:
            controlled = CONTROL in set(table["role"])
            why = "a control was not rejected" if controlled else "there was no control"
            row["null_or_threshold"] += f"; {why}"
        rows.append({**row, "claim": claim, "statement": statements[claim], "verdict": verdict})
    return pd.DataFrame(rows, columns=SCORECARD_COLUMNS)


def _deciding(table: pd.DataFrame) -> dict[str, Any]:
    """Return the worst criterion of a claim, the first of several equally bad."""
    criteria = table[table["role"] == CRITERION]
    if criteria.empty:
        return {"statistic": "nothing could be measured", "null_or_threshold": "", "n": 0, "verdict": INCONCLUSIVE}
    return dict(criteria.iloc[criteria["verdict"].map(_ORDER.index).to_numpy().argmin()])


def controls(findings: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the controls of all claims, with the scorecard's columns."""
    parts = [table[table["role"] == CONTROL] for table in findings.values()]
    return pd.concat(parts, ignore_index=True)[SCORECARD_COLUMNS]
