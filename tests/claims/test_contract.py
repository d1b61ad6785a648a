"""What holds for every claim: a true effect is found, a table without numbers decides nothing, both are drawn."""

import importlib
import io
import re
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from checks import verdicts
from matplotlib.text import Text

from drawn import collisions
from intrinsic_lr.claims import nonsmooth_origin
from intrinsic_lr.claims.shared.verdicts import overall
from intrinsic_lr.figures.style import NARROW_SCREEN, Look
from intrinsic_lr.study.claims import CLAIMS

EXAMPLES = {name: importlib.import_module(f"test_{name}").EXAMPLE for name in CLAIMS}
TRUTHS = [(name, *case) for name, example in EXAMPLES.items() for case in example.truths]


@pytest.fixture(params=CLAIMS)
def example(request):
    return EXAMPLES[request.param]


def drawn(example, table, findings, width=6.75):
    """Draw a claim's figure; return the texts that a reader cannot read, cut or one over the other."""
    figure = example.claim.draw(table, example.spec, findings, look=Look(width=width))
    # A logarithmic axis without a positive number cannot be laid out.
    finite = np.isfinite(table[example.measured].astype(float)).any(axis=None)
    found = collisions(figure) if len(table) and (finite or example.claim is not nonsmooth_origin) else []
    plt.close(figure)
    return found


def test_a_true_effect_is_found_and_every_control_is_rejected(example):
    findings = example.judged()
    assert list(findings["verdict"]) == ["reproduced"] * example.criteria + ["rejected"] * example.controls
    assert overall(findings) == "reproduced"
    assert (findings["claim"] == example.spec.name).all()
    for width in (6.75, NARROW_SCREEN):
        assert drawn(example, example.table(), findings, width) == []


@pytest.mark.parametrize(("name", "truth", "expected"), TRUTHS)
def test_the_verdict_follows_the_truth(name, truth, expected):
    findings = EXAMPLES[name].judged(**truth)
    if isinstance(expected, str):
        assert overall(findings) == expected
    elif isinstance(expected, dict):
        for role, verdict in expected.items():
            assert set(verdicts(findings, role)) == {verdict}
    else:
        assert list(findings["verdict"]) == expected


def test_the_table_as_it_is_written_is_all_that_is_judged(example):
    table = example.table()
    findings = example.judged(pd.read_csv(io.StringIO(table.to_csv(index=False))))
    pd.testing.assert_frame_equal(findings, example.judged(table))
    pd.testing.assert_frame_equal(table, example.table())


class Used(dict):
    """Remembers the keys that were asked for."""

    def __init__(self, values):
        super().__init__(values)
        self.keys_used = set()

    def __getitem__(self, key):
        self.keys_used.add(key)
        return super().__getitem__(key)


def test_every_threshold_of_the_catalogue_is_used(example):
    used = Used(example.spec.thresholds)
    example.judged(spec=replace(example.spec, thresholds=used))
    assert used.keys_used | set(example.unjudged) == set(CLAIMS[example.spec.name].thresholds)


SELDOM = {
    ("gd_toy", "none finite"): "a collapsed run counts as a failure",
    ("nonsmooth_origin", "none"): "its networks are never missing",
}


@pytest.mark.parametrize("rows", ["none finite", "one replicate", "none"])
def test_a_degenerate_table_decides_nothing_and_is_drawn(example, rows):
    if (example.spec.name, rows) in SELDOM:
        pytest.skip(SELDOM[example.spec.name, rows])
    table = example.table()
    if rows == "none finite":
        table[example.measured] = np.nan
    elif rows == "none":
        table = table.head(0)
    elif "replicate" in table:
        table = table[table["replicate"] == 0]
    else:
        pytest.skip("rows of this claim are comparisons of all replicates")
    findings = example.judged(table)
    assert overall(findings) == "inconclusive"
    drawn(example, table, findings)


def texts(example, spec):
    """Return all texts of the figure that a claim draws of its example."""
    figure = example.claim.draw(example.table(), spec, example.judged(spec=spec))
    found = " ".join(text.get_text() for text in figure.findobj(Text))
    plt.close(figure)
    return " ".join(found.split())


def test_the_confidence_in_the_texts_is_that_of_the_config(example):
    spec = replace(example.spec, analysis={**example.spec.analysis, "confidence": 0.5, "bootstrap": 29})
    told = re.findall(r"([\d.]+) % (?:\w+ )?(?:interval|band)", texts(example, spec))
    assert set(told) <= {"50"}


@pytest.mark.parametrize(
    ("name", "changed", "words"),
    [
        ("noise_anisotropy", {"_LOW": 0.1, "_HIGH": 0.8}, "10 to 80 % of replicates"),
        ("rescaling_equivalence", {"NULL_QUANTILE": 0.8}, "mean to 0.8 quantile"),
    ],
)
def test_the_quantiles_in_the_texts_are_those_drawn(monkeypatch, name, changed, words):
    example = EXAMPLES[name]
    for constant, value in changed.items():
        monkeypatch.setattr(example.claim, constant, value)
    assert words in texts(example, example.spec)
