"""What is prepared under a version stays the same, bit for bit."""

from intrinsic_lr.core.version import DATA_VERSION
from intrinsic_lr.data import dataset


def test_digits_are_prepared_as_ever(tmp_path):
    info = dataset.write({"kind": "digits"}, "digits", tmp_path / "digits.safetensors", tmp_path / "digits.json")
    golden = {1: "ee6cc958973449dbda63b29251dccb007e9d78ec0ec9245f55098ae6fe4d80de"}
    assert info["sha256"] == golden[DATA_VERSION]
