"""Weights and labels of single replicates, read from disk in parts."""

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file

from intrinsic_lr.core.block_files import CHECKPOINTS, EXTRACT, PREDICTIONS, RUN, key
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.storage import sha256
from intrinsic_lr.runs.ensembles import open_ensemble
from intrinsic_lr.runs.trajectories import label_trajectory, trajectory
from plans import plan, timeline

STEPS = (0, 50, 200)
SHAPES = {"linear1.weight": (6, 16), "linear2.weight": (6, 6), "head.weight": (3, 6)}


@pytest.fixture
def ensemble(tmp_path):
    """Return five replicates in two blocks of three, of which one is left over."""
    folders = []
    for number in range(2):
        folder = tmp_path / "p" / f"block_{number:04d}"
        folder.mkdir(parents=True)
        generator = torch.Generator().manual_seed(number)
        weights = {
            key(step, name): torch.randn(3, *shape, generator=generator)
            for step in STEPS
            for name, shape in SHAPES.items()
        }
        save_file(weights, folder / CHECKPOINTS)
        labels = np.random.default_rng(number).integers(-1, 3, (len(STEPS), 3, 7)).astype(np.int16)
        save_arrays({key(s, "labels"): part for s, part in zip(STEPS, labels, strict=True)}, folder / PREDICTIONS)
        replicates = (3 * number, 3 * number + 3)
        planned = plan(
            model={"kind": "mlp", "width": 6}, replicates=replicates, checkpoints=STEPS,
            timeline=timeline((200, 0.1, 0.1)),
        )  # fmt: skip
        sums = {CHECKPOINTS: sha256(folder / CHECKPOINTS)}
        data = {"shape": [1, 4, 4], "classes": 3, "sha256": "0"}
        (folder / RUN).write_text(json.dumps({"plan": planned.to_dict(), "data": data, "sha256": sums}))
        extracted = {
            "checkpoints_sha256": sums[CHECKPOINTS],
            "sha256": {PREDICTIONS: sha256(folder / PREDICTIONS)},
        }
        (folder / EXTRACT).write_text(json.dumps(extracted))
        folders.append(folder)
    return open_ensemble(folders, 5)


@pytest.mark.parametrize("replicate", range(5))
def test_a_replicate_in_any_block_at_steps_in_any_order(ensemble, replicate):
    steps = [200, 0]
    with trajectory(ensemble, replicate, steps) as networks:
        assert len(networks) == 2
        for step, network in zip(steps, networks, strict=True):
            weights = ensemble.weights(step)
            assert {name: parameter.shape for name, parameter in network.items()} == SHAPES
            for name, parameter in network.items():
                assert torch.equal(parameter[0 : SHAPES[name][0]], weights[name][replicate])
                assert torch.equal(parameter[1:3], weights[name][replicate, 1:3])
                assert torch.equal(parameter[2:99], weights[name][replicate, 2:])
    expected = [ensemble.labels(step)[replicate] for step in steps]
    np.testing.assert_array_equal(label_trajectory(ensemble, replicate, steps), expected)


def test_a_step_that_was_not_kept(ensemble):
    with (
        pytest.raises(InputError, match=r"found no step 51; allowed: 0, 50, 200"),
        trajectory(ensemble, 0, [0, 51]),
    ):
        pass
    with pytest.raises(InputError, match="found no step 51"):
        label_trajectory(ensemble, 0, [51])


def test_a_damaged_file(ensemble):
    path = ensemble.blocks[1].checkpoints
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    fresh = open_ensemble([block.folder for block in ensemble.blocks], 5)
    with pytest.raises(InputError, match="damaged"), trajectory(fresh, 4, [0]):
        pass
