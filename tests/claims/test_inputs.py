"""What a claim's test is handed of the workflow's files."""

import json

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec
from intrinsic_lr.core.storage import sha256, write_json
from intrinsic_lr.study.experiment import Experiment


def test_true_labels_are_read_from_the_data(tmp_path):
    labels, data, info = np.array([2, 0, 1]), tmp_path / "data.safetensors", tmp_path / "data.json"
    save_file({"test_labels": labels, "test_images": np.zeros((3, 1))}, data)
    write_json(info, {"name": "data", "classes": [*"abc"], "mean": [0.5], "std": [1.0], "sha256": sha256(data)})
    inputs = ClaimData(ClaimSpec("claim"), datasets={"data": (data, info)})
    assert inputs.test_labels("data").tolist() == [2, 0, 1]


def test_tables_of_analyses_are_found_by_role_and_name(tmp_path):
    file = tmp_path / "tables" / "distance_across_walk.csv"
    file.parent.mkdir()
    pd.DataFrame({"l2": [1.5]}).to_csv(file, index=False)
    plan = json.dumps({"name": "example", "experiments": {"run": Experiment("walk").to_json()}})
    inputs = ClaimData.read(plan, {"confidence": 0.95}, 0, [str(file)], "cpu", 1)
    assert inputs.table("run", "distance_across")["l2"].tolist() == [1.5]
    with pytest.raises(KeyError, match="swa_walk"):
        inputs.table("run", "swa")
