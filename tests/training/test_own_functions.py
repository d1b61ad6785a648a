"""An optimiser, a schedule and an augmentation of the user's own: what they train, and what is refused."""

import pytest
import torch

import plans
from intrinsic_lr.commands import train
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.core.user_code import UserCode
from intrinsic_lr.data.dataset import load
from intrinsic_lr.models.ensemble import build
from intrinsic_lr.study.plan import TrainingPlan
from intrinsic_lr.study.timeline import Segment, Timeline
from intrinsic_lr.training.batches import Batches
from intrinsic_lr.training.loop import take_step
from intrinsic_lr.training.resume import STOPPED
from intrinsic_lr.training.state import State

MOMENTUM = """
def update(weight, grad, state, rates, momentum=0.5):
    velocity = momentum * state["velocity"] + grad + rates.weight_decay * weight
    return weight - rates.lr * velocity, {"velocity": velocity}
"""
BY_NORM = """
def update(weight, grad, state, rates):
    return weight - rates.lr * grad / grad.norm(), state
"""
LINEAR = """
def rates(step, lr, weight_decay, steps):
    return lr * (1 - step / steps), weight_decay
"""
MIRROR = """
import torch

def augment(images, generator, p=0.5):
    mirrored = torch.rand(len(images), generator=generator) < p
    return torch.where(mirrored[:, None, None, None], images.flip(-1), images)
"""


@pytest.fixture
def files(tmp_path):
    return plans.write_noise(tmp_path / "data")


@pytest.fixture
def code(tmp_path):
    """Return a function that writes a file and returns its code as a config names it."""

    def write(text, function, state=(), **options):
        file = tmp_path / "mine.py"
        file.write_text(text)
        return UserCode.read(str(file), function, options, state)

    return write


def trained(files, **changes):
    """Return state and plan after seven steps in float64."""
    settings = plans.plan(**{"dtype": "float64", "checkpoints": (7,), **changes})
    model, batches = build(settings.model, (1, 6, 6), 3), Batches(settings, load(*files, "cpu", torch.float64))
    state = State.initial(settings, model, torch.device("cpu"))
    done = [take_step(state, settings, model, batches) for _ in range(settings.steps)]
    return state, [step.lr for step in done]


def test_an_optimiser_of_ones_own_is_that_of_the_project(files, code):
    own = code(MOMENTUM, "update", ("velocity",), momentum=0.9)
    state, _ = trained(files, optimiser="mine", optimiser_code=own)
    expected, _ = trained(files, momentum=0.9)
    for name, value in expected.params.items():
        assert torch.allclose(state.params[name], value, rtol=1e-12, atol=1e-14), name
    velocity, theirs = state.buffers["velocity"], expected.buffers["momentum"]
    assert all(torch.allclose(velocity[name], theirs[name], rtol=1e-10, atol=1e-12) for name in theirs)


def test_what_an_optimiser_computes_of_a_whole_weight_is_of_each_replicate_alone(files, code):
    own = {"optimiser": "mine", "optimiser_code": code(BY_NORM, "update")}
    block, _ = trained(files, **own, replicates=(0, 3))
    alone, _ = trained(files, **own, replicates=(2, 3))
    for name, value in alone.params.items():
        assert torch.allclose(block.params[name][2], value[0], rtol=1e-12, atol=1e-14), name


def test_a_schedule_of_ones_own_is_that_of_the_project(files, code):
    own = Timeline((Segment(7, 0.1, 0.05),), code=code(LINEAR, "rates", steps=7))
    found, rates = trained(files, timeline=own)
    expected, theirs = trained(files, timeline=Timeline((Segment(7, 0.1, 0.05, shape="linear"),)))
    assert rates == pytest.approx(theirs)
    for name, value in expected.params.items():
        assert torch.allclose(found.params[name], value, rtol=1e-12), name


def test_an_augmentation_draws_for_each_replicate_from_its_own_stream(files, code):
    own = code(MIRROR, "augment")
    data = load(*files, "cpu", torch.float64)

    def batch(step, replicates=(0, 3), **changes):
        settings = plans.plan(augmentation="mine", augmentation_code=own, replicates=replicates, **changes)
        return Batches(settings, data).at(step)[0]

    images, plain = batch(2), Batches(plans.plan(), data).at(2)[0]
    mirrored = (images != plain).flatten(2).any(-1)
    assert 0 < mirrored.sum() < mirrored.numel()
    assert len({tuple(row.tolist()) for row in mirrored}) > 1, "replicates differ"
    assert torch.equal(batch(2, (2, 3))[0], images[2]), "whatever the block"
    ordered = Batches(plans.plan(), data)
    for step in range(3):
        ordered.at(step)
    assert torch.equal(batch(2), images), "whatever was drawn before"


def test_a_stopped_training_goes_on_to_the_same_bits(files, code, tmp_path):
    own = {"optimiser": "mine", "optimiser_code": code(MOMENTUM, "update", ("velocity",))}
    planned = plans.plan(**own, augmentation="flip", timeline=plans.timeline((60, 0.1, 0.05)), checkpoints=(60,))
    train.main(plans.train_words(planned, files, tmp_path / "whole"))
    with pytest.raises(SystemExit, match=str(STOPPED)):
        train.main(plans.train_words(planned, files, tmp_path / "parts", "--stop-after", "0"))
    train.main(plans.train_words(planned, files, tmp_path / "parts"))
    assert plans.contents(tmp_path / "parts") == plans.contents(tmp_path / "whole")


def test_the_content_of_a_file_is_a_part_of_the_plan(code):
    plan = plans.plan(optimiser="mine", optimiser_code=code(MOMENTUM, "update", ("velocity",)))
    assert TrainingPlan.from_json(plan.to_json()) == plan
    edited = plans.plan(optimiser="mine", optimiser_code=code(MOMENTUM + "#", "update", ("velocity",)))
    assert edited.to_json() != plan.to_json()
    assert "code" not in plans.plan().to_json()
    for field, text in (("optimiser", "one of sgd"), ("augmentation", "none, flip")):
        with pytest.raises(InputError, match=f"{field}: expected {text}.*, got mine"):
            plans.plan(**{field: "mine"})


@pytest.mark.parametrize(
    ("text", "state", "words"),
    [
        ("return weight", (), ["expected (weight, state) with the state {}"]),
        ("return weight, state", ("m",), None),
        ("return weight, {}", ("m",), ["expected (weight, state) with the state {m}"]),
        ("return weight.sum(), state", (), ["for weight a tensor of (", "got () torch.float64"]),
        ("return 3, state", (), ["for weight", "got int"]),
        ("return weight.float(), state", (), ["in torch.float64", "torch.float32"]),
        ("return weight + torch.rand(1), state", (), ["RuntimeError", "mine.py:3", "random"]),
        ("return weight / 0 if grad.sum() > 0 else weight, state", (), ["RuntimeError", "mine.py:3"]),
        ("return wait, state", (), ["NameError at mine.py:3", "wait"]),
    ],
)
def test_what_no_optimiser_does_is_refused(files, code, text, state, words):
    own = code(f"import torch\ndef update(weight, grad, state, rates):\n    {text}\n", "update", state)
    if words is None:
        trained(files, optimiser="mine", optimiser_code=own)
        return
    with pytest.raises(InputError) as caught:
        trained(files, optimiser="mine", optimiser_code=own)
    assert all(word in str(caught.value) for word in ["mine.py: update: ", *words]), str(caught.value)


def test_an_option_that_an_optimiser_does_not_have_is_refused(files, code):
    own = code(MOMENTUM, "update", ("velocity",), mass=3)
    with pytest.raises(InputError, match=r"mine.py: update: TypeError: .*unexpected keyword argument 'mass'"):
        trained(files, optimiser="mine", optimiser_code=own)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("return images[:2]", ["expected uint8 images of shape (4, 1, 6, 6)", "torch.uint8 (2, 1, 6, 6)"]),
        ("return images / 2", ["torch.float32"]),
        ("return None", ["got None"]),
        ("return torch.randint(256, images.shape, dtype=torch.uint8)", ["same images for the same generator"]),
        ("return images.nothing()", ["AttributeError at mine.py:3"]),
    ],
)
def test_what_no_augmentation_does_is_refused(files, code, text, words):
    own = code(f"import torch\ndef augment(images, generator):\n    {text}\n", "augment")
    with pytest.raises(InputError) as caught:
        trained(files, augmentation="mine", augmentation_code=own)
    assert all(word in str(caught.value) for word in ["mine.py: augment: ", *words]), str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("return lr if step < 3 else None", "expected a learning rate above 0 .* got 0.1 at step 0"),
        ("return lr - step * 0.02, weight_decay", "got .* at step 5"),
        ("return lr, -weight_decay", "a weight decay from 0 on, got .* at step 0"),
        ("return lr / (step - 4), weight_decay", "ZeroDivisionError at mine.py:2|learning rate above 0"),
    ],
)
def test_rates_that_are_none_are_refused_before_the_first_step(files, code, tmp_path, text, words):
    own = code(f"def rates(step, lr, weight_decay):\n    {text}\n", "rates")
    planned = plans.plan(timeline=Timeline((Segment(7, 0.1, 0.05),), code=own))
    with pytest.raises(InputError, match=words):
        train.main(plans.train_words(planned, files, tmp_path / "out"))
    assert not (tmp_path / "out/checkpoints").exists()
