"""A prepared data set read without torch: its description, and the true labels of its test images."""

from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from intrinsic_lr.core.records import DataRecord
from intrinsic_lr.core.rerun import rerun_command
from intrinsic_lr.core.storage import read_json, verify


def description(data_path: Path | str, info_path: Path | str) -> dict[str, Any]:
    """Return the description of a data set; InputError unless the data file is there and the one described."""
    info = read_json(info_path, DataRecord)
    verify(data_path, info["sha256"], rerun_command(data_path))
    return info


def true_labels(data_path: Path | str, info_path: Path | str) -> tuple[dict[str, Any], np.ndarray]:
    """Return a data set's description and the true labels (N,) of its test images; raises as `description`."""
    info = description(data_path, info_path)
    with safe_open(data_path, framework="np") as tensors:
        return info, tensors.get_tensor("test_labels")
