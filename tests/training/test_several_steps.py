"""Several steps in one call of a compiled kernel have the bits of single ones."""

import pytest
import torch
from torch.testing import assert_close

from intrinsic_lr.data.dataset import Dataset
from intrinsic_lr.models import kernels
from intrinsic_lr.models.ensemble import build
from intrinsic_lr.training import loop
from intrinsic_lr.training.batches import Batches
from intrinsic_lr.training.evaluation import EvaluationData
from intrinsic_lr.training.loop import take_several, take_step, take_steps, train
from intrinsic_lr.training.recorder import Recorder
from intrinsic_lr.training.state import State
from plans import plan, timeline

CPU = torch.device("cpu")
RATES = timeline((9, 0.1, 0.05), (30, 0.2, 0.01, 0.99))
NETWORKS = {
    "mlp": {"kind": "mlp", "width": 16},
    "trained head": {"kind": "mlp", "width": 8, "depth": 3, "head": "trained"},
    "cnn4": {"kind": "cnn4", "width": 4},
}
NOT_DONE = [
    {"momentum": 0.9}, {"optimiser": "adamw"}, {"clip": 1.0}, {"label_smoothing": 0.1}, {"dtype": "float64"},
    {"constraint": "sphere", "timeline": timeline((9, 0.1, 0.0))}, {"augmentation": "flip"},
    {"batch_size": "full"}, {"precision": "bfloat16"}, {"model": {"kind": "mlp", "norm": "layer"}},
    {"model": {"kind": "mlp", "width": 2000}},
]  # fmt: skip


@pytest.fixture(autouse=True)
def _compiled():
    if kernels.load() is None:
        pytest.skip("no gcc, or kernels are switched off")


@pytest.fixture
def data(noise_images):
    """The images of noise in float32."""
    one = torch.ones(1)
    images, labels = noise_images.train_images, noise_images.train_labels
    return Dataset(images, labels, images, labels, one / 2, one / 4, noise_images.info)


def started(data, **changes):
    settings = plan(**{"timeline": RATES, "checkpoints": (0,), **changes})
    model = build(settings.model, (1, 8, 8), 3)
    return settings, model, Batches(settings, data), State.initial(settings, model, CPU)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("network", NETWORKS)
def test_bits_are_those_of_single_steps(data, network, threads):
    """Over several epochs of four steps, and from one rate to another."""
    torch.set_num_threads(threads)
    settings, model, batches, state = started(data, model=NETWORKS[network])
    single = State.initial(settings, model, CPU)
    assert take_several(state, settings, model, batches, 3) == 3
    assert take_several(state, settings, model, batches, 30) == 1, "no further than the epoch"
    take_steps(state, settings, model, batches, 17)
    for _ in range(21):
        take_step(single, settings, model, batches)
    assert state.step == single.step == 21
    assert_close(state.to_tensors(), single.to_tensors(), rtol=0, atol=0)


@pytest.mark.parametrize("changes", NOT_DONE, ids=str)
def test_what_the_kernels_do_not_do_is_left_to_single_steps(data, changes):
    settings, model, batches, state = started(data, **changes)
    assert take_several(state, settings, model, batches, 3) == 0
    assert state.step == 0


def test_the_step_at_which_a_member_is_lost_is_noted(data):
    """The others train on as if it were not there."""
    settings, model, batches, state = started(data)
    expected = State.initial(settings, model, CPU)
    for each in (state, expected):
        take_step(each, settings, model, batches)
        each.params["linear1.weight"][1, 0, 0] = torch.inf
    take_steps(state, settings, model, batches, 6)
    for _ in range(6):
        take_step(expected, settings, model, batches)
    assert state.lost.tolist() == expected.lost.tolist() == [State.NEVER, 2, State.NEVER]
    assert_close(state.to_tensors(), expected.to_tensors(), rtol=0, atol=0, equal_nan=True)


def test_a_training_takes_one_by_one_only_the_steps_that_it_measures(data, monkeypatch):
    recording = {"log_every": 13, "trace_every": 10, "checkpoints": (0, 8)}
    measured, tables = [], []

    def noted(state, *others):
        measured.append(state.step + 1)
        return take_step(state, *others)

    monkeypatch.setattr(loop, "take_step", noted)
    for several in (take_several, lambda *_: 0):
        monkeypatch.setattr(loop, "take_several", several)
        settings, model, batches, state = started(data, **recording)
        recorder = Recorder(settings, model, EvaluationData.of(data))
        measured.clear()
        train(settings, model, batches, recorder, state)
        if several is take_several:
            assert measured == [8, 10, 13, 20, 26, 30, 39]
        tables.append([state.to_tensors(), recorder.to_tensors()])
    assert measured == list(range(1, 40))
    assert_close(*tables, rtol=0, atol=0, equal_nan=True)
