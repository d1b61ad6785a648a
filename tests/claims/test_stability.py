"""Verdicts of one study with several seeds, side by side."""

import pandas as pd
import pytest

from drawn import shown_texts
from intrinsic_lr.analyses.tables import read_table, write_table
from intrinsic_lr.claims.shared.stability import most_frequent, stability_figure, stability_table
from intrinsic_lr.commands import stability
from intrinsic_lr.core.errors import InputError


def scorecard(*verdicts):
    rows = {
        "claim": ["gd_toy", "swa_within"],
        "statistic": "share",
        "estimate": 0.5,
        "ci_low": 0.4,
        "ci_high": 0.6,
    }
    return pd.DataFrame({**rows, "null_or_threshold": ">= 0.3", "n": 8, "verdict": verdicts})


SEEDS = {
    "0": scorecard("reproduced", "reproduced"),
    "1": scorecard("reproduced", "inconclusive"),
    "2": scorecard("reproduced", "inconclusive"),
}


def test_the_most_frequent_verdict_of_each_claim_is_counted():
    table = stability_table(SEEDS)
    assert list(table["study"]) == ["0", "1", "2"] * 2
    found = most_frequent(table).to_dict("records")
    assert found == [
        {"claim": "gd_toy", "verdict": "reproduced", "times": 3, "of": 3},
        {"claim": "swa_within", "verdict": "inconclusive", "times": 2, "of": 3},
    ]
    assert "1 of 2 verdicts are the same in every study" in str(shown_texts(stability_figure(table)))


def test_the_command_reads_each_folder_of_the_study(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for seed, table in SEEDS.items():
        write_table(table, f"results/seeds/{seed}/results/claims.csv")
    folders = [f"results/seeds/{seed}" for seed in SEEDS]
    stability.main(["--folders", *folders])
    assert "swa_within                    inconclusive    2 of 3" in capsys.readouterr().out
    assert len(read_table("results/seeds/stability.csv")) == 6
    assert (tmp_path / "results/seeds/stability.svg").is_file()
    with pytest.raises(InputError, match=r"got none in results/seeds/9/results/claims\.csv"):
        stability.main(["--folders", *folders, "results/seeds/9"])
