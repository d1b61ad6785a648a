"""Files that appear whole or not at all."""

import pytest
import torch
from safetensors.torch import load_file

from intrinsic_lr.errors import InputError, run_command
from intrinsic_lr.storage import TensorWriter, atomic_path, read_json, sha256, verify, write_json


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.uint8, torch.int16, torch.int64])
def test_tensor_writer_agrees_with_the_safetensors_library(tmp_path, dtype):
    tensors = {f"{step:03d}/layer": (torch.randn(3, 4, 5) * 50).to(dtype) for step in range(4)}
    tensors["scalar"] = torch.tensor(3).to(dtype)
    path = tmp_path / "file.safetensors"
    with TensorWriter(path, {name: (t.dtype, t.shape) for name, t in tensors.items()}, {"key": "value"}) as writer:
        for name in reversed(tensors):
            writer.write(name, tensors[name])
        assert not path.exists()
    loaded = load_file(path)
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)


def test_incomplete_or_wrong_tensors_leave_no_file(tmp_path):
    path = tmp_path / "file.safetensors"
    layout = {"a": (torch.float32, (2,)), "b": (torch.float32, (2,))}
    with pytest.raises(ValueError, match="never written"), TensorWriter(path, layout) as writer:
        writer.write("a", torch.zeros(2))
    with pytest.raises(ValueError, match="is not"), TensorWriter(path, layout) as writer:
        writer.write("a", torch.zeros(3))
    assert list(tmp_path.iterdir()) == []


def test_failure_keeps_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def fail_half_way():
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_verify_names_the_file_and_the_repair(tmp_path):
    path = tmp_path / "file"
    path.write_text("content")
    verify(path, sha256(path), "remake it")
    recorded = sha256(path)
    path.write_text("cOntent")
    with pytest.raises(InputError, match=r"file: damaged or replaced .* repair with `remake it`"):
        verify(path, recorded, "remake it")
    path.unlink()
    with pytest.raises(InputError, match="missing"):
        verify(path, recorded, "remake it")


def test_json_round_trip_and_damage(tmp_path):
    path = tmp_path / "file.json"
    write_json(path, {"a": [1, 2.5, None]})
    assert read_json(path) == {"a": [1, 2.5, None]}
    path.write_text("{")
    with pytest.raises(InputError, match="cannot be read as JSON"):
        read_json(path)


def test_command_reports_one_line(capsys):
    def main():
        raise InputError("key: found 1; allowed: 2")

    with pytest.raises(SystemExit) as caught:
        run_command(main)
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error: key: found 1; allowed: 2\n"
