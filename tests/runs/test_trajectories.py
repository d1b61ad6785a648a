"""Weights and labels of single replicates, read from disk in parts."""

import numpy as np
import pytest
import torch

from intrinsic_lr.core.block_files import CHECKPOINTS, EXTRACT, PREDICTIONS, RUN, step_file
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.storage import write_json, write_tensors
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
        sums, extracted = {}, {}
        for step in STEPS:
            weights = {name: torch.randn(3, *shape, generator=generator) for name, shape in SHAPES.items()}
            labels = torch.randint(-1, 3, (3, 7), generator=generator, dtype=torch.int16)
            for told, kind, tensors in (
                (sums, CHECKPOINTS, weights),
                (extracted, PREDICTIONS, {"labels": labels}),
            ):
                told[step_file(kind, step)] = write_tensors(folder / step_file(kind, step), tensors)
        replicates = (3 * number, 3 * number + 3)
        planned = plan(
            model={"kind": "mlp", "width": 6}, replicates=replicates, checkpoints=STEPS,
            timeline=timeline((200, 0.1, 0.1)),
        )  # fmt: skip
        data = {"name": "d", "shape": [1, 4, 4], "classes": 3, "sha256": "0"}
        write_json(folder / RUN, {"plan": planned.to_dict(), "data": data, "sha256": sums})
        write_json(folder / EXTRACT, {"checkpoints": sums, "sha256": extracted})
        folders.append(folder)
    return open_ensemble(folders, 5)


@pytest.mark.parametrize("replicate", range(5))
def test_a_replicate_in_any_block_at_steps_in_any_order(ensemble, replicate):
    steps = [200, 0]
    networks = trajectory(ensemble, replicate, steps)
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
    for read in (trajectory, label_trajectory):
        with pytest.raises(InputError, match="step must be one of 0, 50, 200, got 51"):
            read(ensemble, 0, [0, 51])
