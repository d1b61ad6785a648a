"""What a claim's test is handed of the workflow's files."""

import json

import pandas as pd
import pytest

from intrinsic_lr.claims.shared.spec import ClaimData
from intrinsic_lr.study.experiment import Experiment


def test_tables_of_analyses_are_found_by_role_and_name(tmp_path):
    file = tmp_path / "tables" / "distance_across_walk.csv"
    file.parent.mkdir()
    pd.DataFrame({"l2": [1.5]}).to_csv(file, index=False)
    plan = json.dumps({"name": "example", "experiments": {"run": Experiment("walk").to_json()}})
    inputs = ClaimData.read(plan, {"confidence": 0.95}, 0, [str(file)], "cpu", 1)
    assert inputs.table("run", "distance_across")["l2"].tolist() == [1.5]
    with pytest.raises(KeyError, match="swa_walk"):
        inputs.table("run", "swa")
