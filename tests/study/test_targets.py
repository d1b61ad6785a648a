"""Results asked for on the command line."""

import pytest
from strategies import CONFIG

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.study.config_files import merge_files
from intrinsic_lr.study.results import Results
from intrinsic_lr.study.study import Study
from intrinsic_lr.study.targets import check_targets

TABLE, ABSENT = "results/smoke/tables/gd_toy.csv", "results/smoke/tables/gd_toi.csv"


@pytest.fixture(scope="module")
def study():
    return Study.read(merge_files([CONFIG / "smoke.yaml"]))


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        ([TABLE, "--cores", "2", f"./{TABLE}", "results//smoke/figures/gd_toy.svg", "tables"], ""),
        (["--cleanup-metadata", ABSENT, "results/smoke/tables/old.csv"], ""),
        (["--report", "results/smoke/tables/page.html", "--cores", "1"], ""),
        (["--cores", "2", ABSENT], ABSENT),
        ([f"./{ABSENT}"], ABSENT),
        (["--report", "page.html", "--cores", "1", ABSENT], ABSENT),
        (["results/runs/digits_300-small-b20-lr9-wd9/block_0000/run.json"], "lr9-wd9"),
    ],
)
def test_results_that_nothing_makes_are_named(study, words, refused):
    made = Results(study).checked
    if refused:
        with pytest.raises(InputError, match=f"target.*{refused}.*; did you mean "):
            check_targets(words, study, made)
    else:
        check_targets(words, study, made)
