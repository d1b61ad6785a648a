"""What a claim's test is handed of the workflow's files."""

import json
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from intrinsic_lr.claims.shared.spec import ClaimData, ClaimSpec
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.storage import sha256, write_json
from intrinsic_lr.study.claims import CLAIMS
from intrinsic_lr.study.experiment import Experiment, PlannedPoint
from plans import plan


def test_true_labels_are_read_from_the_data(tmp_path):
    labels, data, info = np.array([2, 0, 1]), tmp_path / "data.safetensors", tmp_path / "data.json"
    save_file({"test_labels": labels, "test_images": np.zeros((3, 1))}, data)
    write_json(info, {"name": "data", "classes": [*"abc"], "mean": [0.5], "std": [1.0], "sha256": sha256(data)})
    inputs = ClaimData(ClaimSpec("claim"), datasets={"data": (data, info)})
    assert inputs.test_labels("data").tolist() == [2, 0, 1]


def test_tables_of_analyses_are_found_by_role_and_name(tmp_path):
    file = tmp_path / "tables" / "distance_across_walk.csv"
    file.parent.mkdir()
    pd.DataFrame({"delta": [1], "l2": [1.5]}).to_csv(file, index=False)
    plan = json.dumps({"name": "example", "experiments": {"run": Experiment("walk").to_json()}})
    inputs = ClaimData.read(plan, {"confidence": 0.95}, 0, [str(file)], "cpu", 1)
    assert inputs.table("run", "distance_across")["l2"].tolist() == [1.5]
    with pytest.raises(KeyError, match="swa_walk"):
        inputs.table("run", "swa")


@pytest.mark.parametrize(
    ("claim", "others", "refused"),
    [
        ("norm_equilibrium", ["fc.weight", "bn.bias"], True),
        ("norm_equilibrium", [], False),
        ("function_space_mixing", ["fc.weight"], False),
    ],
)
def test_networks_without_invariance_are_refused_where_a_claim_needs_it(tmp_path, claim, others, refused):
    point = PlannedPoint(dataset="digits", model="mine", batch_size=5, lr=0.1, weight_decay=0.01)
    folder = tmp_path / point.name / "block_0000"
    trained = plan(point=point.name, checkpoints=(7,))
    record = {"plan": trained.to_dict(), "sha256": {"checkpoints/00000007.safetensors": ""}}
    data = {"name": "digits", "classes": 3, "shape": [1, 6, 6], "sha256": ""}
    invariance = {"groups": {}, "without_effect": [], "others": others}
    write_json(folder / "run.json", {**record, "data": data, "invariance": invariance})
    experiments = {"role": Experiment("own", (point,), replicates=2)}
    spec = ClaimSpec(claim, experiments=experiments, needs_invariance=CLAIMS[claim].needs_invariance)
    inputs = ClaimData(spec, {point.name: [folder]})
    expected = r"norm_equilibrium: experiment own: .* got mine: fc.weight, bn.bias are not"
    with pytest.raises(InputError, match=expected) if refused else nullcontext():
        inputs.check_invariance()
