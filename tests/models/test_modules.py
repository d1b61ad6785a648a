"""Networks of factories: an ensemble equals separate modules, and what cannot be trained is refused."""

import hashlib
import json

import numpy as np
import pytest
import torch

from intrinsic_lr.commands import extract, train
from intrinsic_lr.core.errors import InputError
from intrinsic_lr.data.dataset import load
from intrinsic_lr.models.ensemble import build
from intrinsic_lr.models.invariance import Invariance
from intrinsic_lr.models.normalisation import BatchStatistics, CollectedStatistics, FixedStatistics
from intrinsic_lr.runs.ensembles import open_ensemble
from intrinsic_lr.study.model_spec import ModelSpec
from plans import extract_words, plan, train_words, write_noise

CLASSES, R, B = 5, 2, 4
OWN = """
import torch
import torchvision
from torch import nn
from intrinsic_lr.models.networks import build_network
from intrinsic_lr.study.model_spec import ModelSpec

def built_in(text):
    return build_network(ModelSpec.from_string(text), (3, 8, 8), 5)

def vgg(classes=5):
    with torch.device("meta"):  # its own layers, of 129 million weights, are replaced
        network = torchvision.models.vgg11_bn(dropout=0, init_weights=False, num_classes=classes)
    layers = torchvision.models.vgg.make_layers([8, "M", 16, 16], batch_norm=True)
    network.features, network.classifier = layers, nn.Linear(16 * 49, classes)
    return network

class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.images = nn.BatchNorm2d(3)
        self.convolution = nn.Conv2d(3, 4, 3)
        self.depthwise = nn.Conv2d(4, 8, 3, groups=4, bias=False)
        self.norm = nn.BatchNorm2d(8, affine=False, eps=1e-3)
        self.features = nn.BatchNorm1d(8)
        self.layer = nn.LayerNorm(8)
        self.head = nn.Linear(8, 5)
        self.register_buffer("weights", torch.linspace(0, 1, 16).view(4, 4))

    def forward(self, x):
        x = torch.relu(self.norm(self.depthwise(self.convolution(self.images(x)))))
        return self.head(self.layer(self.features(x.mul(self.weights).sum(dim=(2, 3)))))
"""
TORCHVISION = "torchvision.models."
NETWORKS = {
    "mlp": ("built_in", {"text": "mlp:width=8"}, 8),
    "cnn4": ("built_in", {"text": "cnn4:width=4"}, 8),
    "preresnet": ("built_in", {"text": "preresnet:width=4,blocks=1"}, 8),
    "vit": ("built_in", {"text": "vit:width=8,heads=2,patch=4"}, 8),
    "own": ("Mixed", {}, 8),
    "vgg11_bn": ("vgg", {}, 16),
    "resnet18": (f"{TORCHVISION}resnet18", {"num_classes": CLASSES}, 8),
    "mobilenet_v3_small": (f"{TORCHVISION}mobilenet_v3_small", {"num_classes": CLASSES, "dropout": 0.0}, 16),
    "vision_transformer": (
        f"{TORCHVISION}VisionTransformer",
        {
            "image_size": 16, "patch_size": 4, "num_layers": 2, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 24,
            "num_classes": CLASSES,
        },
        16,
    ),
}  # fmt: skip
every_network = pytest.mark.parametrize("name", NETWORKS)


@pytest.fixture(scope="session")
def own_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("networks") / "own.py"
    file.write_text(OWN)
    return file


def spec_of(factory, file, **options):
    place = {} if factory.startswith(TORCHVISION) else {"file": str(file)}
    return ModelSpec.from_config({"kind": "module", "factory": factory, "options": options, **place})


@pytest.fixture(scope="session")
def models(own_file):
    """Build each network once for all tests of this file."""
    built = {}

    def get(name):
        factory, options, side = NETWORKS[name]
        if name not in built:
            built[name] = build(spec_of(factory, own_file, **options), (3, side, side), CLASSES)
        return built[name]

    return get


def images(model, shared=False, seed=0):
    shape = (*(() if shared else (R,)), B, *model.image_shape)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def objective(logits):
    weights = torch.linspace(-1, 1, logits.shape[-1], dtype=logits.dtype)
    return (torch.log_softmax(logits, -1) * weights).sum(dim=(-2, -1))


@every_network
@pytest.mark.parametrize("shared", [False, True])
def test_members_equal_separate_modules(models, name, shared):
    model = models(name)
    params = model.initialize([1, 2], 1.0, torch.float64)
    leaves = [params[key].requires_grad_() for key in model.trainable]
    x = images(model, shared)
    logits = model.forward(params, x, BatchStatistics())
    gradients = torch.autograd.grad(objective(logits).sum(), leaves)
    for k in range(R):
        module = model.module().double().train()
        module.load_state_dict({**module.state_dict(), **{key: value[k] for key, value in params.items()}})
        output = module(x if shared else x[k])
        assert torch.allclose(output, logits[k], rtol=1e-9, atol=1e-9)
        expected = torch.autograd.grad(objective(output), [module.get_parameter(key) for key in model.trainable])
        largest = max(value.abs().max() for value in expected)
        for key, one, other in zip(model.trainable, expected, gradients, strict=True):
            assert (one - other[k]).abs().max() <= 1e-9 * largest, key


@every_network
def test_statistics_of_the_training_set_give_the_module_in_evaluation_mode(models, name):
    model = models(name)
    params = model.initialize([1, 2], 1.0, torch.float64)
    collected = CollectedStatistics(model.norms)
    with torch.no_grad():
        for seed in (0, 1):
            model.forward(params, images(model, shared=True, seed=seed), collected)
        statistics = collected.result()
        x = images(model, shared=True, seed=2)
        logits = model.forward(params, x, FixedStatistics(statistics))
    assert set(statistics) == set(model.norms)
    for k in range(R):
        state = {key: value[k] for key, value in params.items()}
        for norm, layer in statistics.items():
            state |= {f"{norm}.running_mean": layer.mean[k], f"{norm}.running_var": layer.variance[k]}
        module = model.module().double()
        module.load_state_dict({**module.state_dict(), **state})
        assert torch.allclose(module.eval()(x), logits[k], rtol=1e-9, atol=1e-9)


def test_batch_norms_are_those_of_pytorch(own_file):
    """In training mode, eps, scale and shift included, against the untouched network."""
    import torchvision

    model = build(spec_of(f"{TORCHVISION}mobilenet_v3_small", None, num_classes=5, dropout=0.0), (3, 16, 16), 5)
    params = model.initialize([3], 1.0, torch.float64)
    network = torchvision.models.mobilenet_v3_small(num_classes=5, dropout=0.0).double().train()
    network.load_state_dict({key: value[0] for key, value in params.items()}, strict=False)
    x = images(model, shared=True)
    assert torch.allclose(network(x), model.forward(params, x, BatchStatistics())[0], rtol=1e-9, atol=1e-9)


def test_seed_gives_one_network_in_any_block(models):
    model = models("own")
    block, alone = model.initialize([7, 8], 1.0, torch.float64), model.initialize([8], 1.0, torch.float64)
    assert all(torch.equal(block[key][1], alone[key][0]) for key in block)
    assert not torch.equal(block["head.weight"][0], block["head.weight"][1])
    before = torch.random.get_rng_state()
    model.initialize([9], 1.0, torch.float32)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_frozen_weights_are_shared(tmp_path):
    file = tmp_path / "frozen.py"
    file.write_text(FLAT.format("network[1].weight.requires_grad_(False)"))
    model = build(spec_of("make", file), (3, 8, 8), CLASSES)
    params = model.initialize([1, 2], 1.0, torch.float64)
    assert model.frozen == {"1.weight"}
    assert torch.equal(params["1.weight"][0], params["1.weight"][1])
    assert not torch.equal(params["1.bias"][0], params["1.bias"][1])


FLAT = """
import random
import torch
from torch import nn

def make(size=192, classes=5):
    network = nn.Sequential(nn.Flatten(), nn.Linear(size, classes))
    {}
    return network
"""


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return 3", ["make", "torch.nn.Module", "int"]),
        ("raise ValueError('no luck')", ["make", "cannot be called", "ValueError", "bad.py:8", "no luck"]),
        ("network.append(nn.Dropout(0.5))", ["make", "2 (Dropout)", "random", "dropout: 0"]),
        ("network.append(nn.Linear(5, 7))", ["make", "(4, 5)", "(4, 7)", "num_classes"]),
        ("network.append(nn.LazyLinear(5))", ["make", "2.weight", "lazy"]),
        ("network[1].weight.data.fill_(random.random())", ["make", "equal seeds", "1.weight"]),
        ("network[1].register_buffer('table', torch.randn(3))", ["make", "1.table", "requires_grad=False"]),
        ("network.requires_grad_(False)", ["make", "trained", "none"]),
        (
            "network.insert(0, nn.InstanceNorm2d(3, track_running_stats=True))",
            ["make", "0.running_mean", "changes"],
        ),
        ("network.insert(0, nn.Conv2d(3, 3, 9))", ["make", "3x8x8", "RuntimeError", "Kernel size"]),
        (
            "network.forward = lambda x: x.flatten(1)[:, :5] * (1 if x.sum().item() else 0)",
            ["make", "several replicates at once", "item"],
        ),
    ],
)
def test_what_cannot_be_trained_is_refused(tmp_path, body, words):
    file = tmp_path / "bad.py"
    file.write_text(FLAT.format(body))
    with pytest.raises(InputError) as caught:
        build(spec_of("make", file), (3, 8, 8), CLASSES)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize(
    ("definition", "words"),
    [
        ({}, ["factory", "torchvision.models.NAME", "None"]),
        ({"factory": "os.system"}, ["factory", "torchvision.models.NAME", "os.system"]),
        ({"factory": "torchvision.models.ops.misc"}, ["factory", "torchvision.models.NAME"]),
        ({"factory": "torchvision.models.resnet19"}, ["resnet19", "alexnet"]),
        ({"factory": "torchvision.models.get_model"}, ["get_model", "alexnet"]),
        ({"factory": "torchvision.models.resnet18", "options": {"weights": "DEFAULT"}}, ["options.weights"]),
        ({"factory": "torchvision.models.resnet18", "options": {"colour": 3}}, ["resnet18", "colour"]),
        ({"factory": "torchvision.models.VisionTransformer"}, ["VisionTransformer", "missing", "image_size"]),
        (
            {"factory": "torchvision.models.squeezenet1_0", "options": {"num_classes": 5, "dropout": 0}},
            ["takes no images of 3x8x8"],
        ),
        ({"factory": "make", "file": "missing.py"}, ["file", "missing.py", "No such file"]),
        ({"factory": "a.b", "file": "missing.py"}, ["factory", "function", "a.b"]),
        ({"factory": "torchvision.models.resnet18", "options": [1]}, ["options", "mapping", "[1]"]),
        ({"factory": "torchvision.models.resnet18", "normalise": 1}, ["normalise", "true, false", "1"]),
        ({"factory": "torchvision.models.resnet18", "width": 3}, ["width", "option of module", "factory"]),
    ],
)
def test_refusals_of_a_definition(definition, words):
    with pytest.raises(InputError) as caught:
        build(ModelSpec.from_config({"kind": "module", **definition}), (3, 8, 8), CLASSES)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_only_the_file_that_was_named_is_run(tmp_path, capsys):
    file, made = tmp_path / "mine.py", tmp_path / "made"
    text = FLAT.format(f"open({str(made)!r}, 'w')")
    file.write_text(text)
    spec = spec_of("make", file)
    assert spec.sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert ModelSpec.from_string(spec.to_string()) == spec == ModelSpec.from_config(spec.to_config())
    file.write_text(text + "#")
    with pytest.raises(InputError, match="expected the content of SHA-256"):
        build(spec, (3, 8, 8), CLASSES)
    assert not made.exists()
    file.write_text(text)
    build(spec, (3, 8, 8), CLASSES)
    assert made.exists()
    assert f"running the code of {file}" in capsys.readouterr().err
    assert spec_of("make", file) == spec
    file.write_text(text + "#")
    assert spec_of("make", file) != spec


def test_a_file_that_is_no_python_is_refused(tmp_path):
    file = tmp_path / "broken.py"
    file.write_text("def make(:\n")
    with pytest.raises(InputError, match=r"expected Python, got .*broken\.py' \(SyntaxError in line 1\)"):
        build(spec_of("make", file), (3, 8, 8), CLASSES)
    file.write_text("import not_there_at_all as make\n")
    with pytest.raises(InputError, match=r"broken\.py: ModuleNotFoundError"):
        build(spec_of("make", file), (3, 8, 8), CLASSES)
    file.write_text("made = 3\n")
    with pytest.raises(InputError, match="expected a function make in"):
        spec_of("make", file)
    file.write_text("make = 3\n")
    with pytest.raises(InputError, match="expected a function make in"):
        build(spec_of("make", file), (3, 8, 8), CLASSES)


@pytest.mark.parametrize("name", ["mlp", "cnn4", "preresnet", "vit"])
def test_declared_groups_are_unions_of_those_that_are_found(models, name):
    """Of a residual network each stage has a stream of its own: a shortcut's norm cuts off the one before."""
    declared = [set(names) for names in models(name).network.scale_groups().values()]
    found = models(name).invariance
    assert found.others == found.without_effect == ()
    groups = [set(names) for names in found.groups.values()]
    assert sorted(set().union(*groups)) == sorted(models(name).trainable)
    for whole in declared:
        parts = [part for part in groups if part <= whole]
        assert set().union(*parts) == whole
        assert len(parts) == (3 if "conv.weight" in whole else 1)


SYMMETRIES = """
from torch import nn
from intrinsic_lr.models.networks import Norm

class Network(nn.Module):
    def __init__(self, eps=0.0, bias=False):
        super().__init__()
        self.embedding = nn.Linear(192, 6, bias=bias)
        self.norm = Norm(6, "layer", rectify=False)
        self.value = nn.Linear(6, 6, bias=False)
        self.out = nn.Linear(6, 6, bias=False)
        self.last = Norm(6, "batch", rectify=False, eps=eps)
        self.head = nn.Linear(6, 5, bias=False)

    def forward(self, x):
        x = self.embedding(x.flatten(1))
        x = x + self.out(self.value(self.norm(x)))
        return self.head(self.last(x))
"""


def found_groups(tmp_path, options):
    file = tmp_path / "symmetries.py"
    file.write_text(SYMMETRIES)
    return build(spec_of("Network", file, **options), (3, 8, 8), CLASSES).invariance


def test_groups_beside_other_symmetries(tmp_path):
    """The product of `value` and `out` has a symmetry of its own, which is no scale group."""
    found = found_groups(tmp_path, {})
    assert found.groups == {"joint": ("embedding.weight", "out.weight")}
    assert found.others == ("value.weight", "head.weight")


def test_a_bias_joins_the_group_of_what_it_is_added_to(tmp_path):
    assert found_groups(tmp_path, {"bias": True}).groups == {
        "joint": ("embedding.weight", "embedding.bias", "out.weight")
    }


def test_eps_breaks_invariance(tmp_path):
    found = found_groups(tmp_path, {"eps": 1e-5})
    assert found.groups == {}
    assert len(found.others) == 4


def test_what_has_no_effect_is_in_no_group(own_file):
    """The bias of a convolution in front of a batch norm is taken out again."""
    spec = spec_of("vgg", own_file)
    found = build(spec, (3, 16, 16), CLASSES).invariance
    assert set(found.without_effect) == {f"features.{place}.bias" for place in (0, 4, 7)}
    assert found.groups == {}
    assert Invariance.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def normalised(factory, shape, file=None, **options):
    place = {} if file is None else {"file": str(file)}
    definition = {"kind": "module", "factory": factory, "options": options, "normalise": True, **place}
    return build(ModelSpec.from_config(definition), shape, CLASSES)


def test_normalised_resnet18_is_scale_invariant_and_takes_small_grey_images(capsys):
    model = normalised(f"{TORCHVISION}resnet18", (1, 8, 8), num_classes=CLASSES)
    assert model.invariance.others == model.invariance.without_effect == ()
    assert model.frozen == {"fc.weight"}
    assert model.shapes["conv1.weight"] == (64, 1, 3, 3)
    assert not [name for name in model.shapes if name.endswith("bias")]
    params = model.initialize([1, 2], 1.0, torch.float64)
    x = images(model)
    logits = model.forward(params, x, BatchStatistics())
    scaled = {name: value * (7 if name in model.trainable else 1) for name, value in params.items()}
    assert torch.allclose(model.forward(scaled, x, BatchStatistics()), logits, rtol=1e-7, atol=1e-7)
    said = capsys.readouterr().err
    assert [note for note in model.notes if note in said] == list(model.notes)
    for words in ("conv1: channels 1, kernel 3x3, stride 1 (was 3, 7x7, 2)", "pooling maxpool", "head fc", "bn1"):
        assert any(words in note for note in model.notes), model.notes


def test_normalised_vgg_loses_biases_and_poolings_that_have_no_pixels(own_file):
    model = normalised("vgg", (3, 8, 8), own_file)
    assert any("features.0, features.4, features.7" in note for note in model.notes)
    assert model.invariance.groups == {f"features.{place}": (f"features.{place}.weight",) for place in (0, 4, 7)}
    tiny = normalised("vgg", (3, 1, 1), own_file)
    assert any("no pixels left" in note and "features.3" in note for note in tiny.notes), tiny.notes


def test_what_normalise_cannot_do_is_left_and_named():
    """A plain transformer: fused projections of values and outputs, and hidden layers, scale as products."""
    factory, options, side = NETWORKS["vision_transformer"]
    model = normalised(factory, (1, side, side), **options)
    layer = "encoder.layers.encoder_layer_0"
    assert f"{layer}.self_attention.in_proj_weight" in model.invariance.others
    assert f"{layer}.mlp.0.weight" in model.invariance.others
    stream = model.invariance.groups["joint"]
    assert {"class_token", "conv_proj.weight", "encoder.pos_embedding", f"{layer}.mlp.3.weight"} <= set(stream)
    params = model.initialize([1, 2], 1.0, torch.float64)
    assert torch.equal(params["heads.head.weight"][0], params["heads.head.weight"][1])
    assert params["heads.head.weight"].std() > 0.1


@pytest.mark.parametrize("normalise", [False, True])
def test_a_network_of_a_file_is_trained_extracted_and_read_back(tmp_path, normalise):
    """Readers are told the groups that training found; a member in evaluation mode gives its predictions."""
    file, out = tmp_path / "mine.py", tmp_path / "results" / "runs" / "p" / "block_0000"
    layers = "nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)"
    file.write_text(f"from torch import nn\ndef make(): return nn.Sequential({layers})\n")
    model = {"kind": "module", "file": str(file), "factory": "make", "normalise": normalise}
    files = write_noise(tmp_path / "data")
    train.main(train_words(plan(model=model), files, out))
    extract.main(extract_words(files, out))
    ensemble = open_ensemble([out], 3)
    data = load(*files, torch.device("cpu"), torch.float32)
    logits = ensemble.member(7, 1)(data.normalize(data.test_images))
    assert torch.allclose(logits, torch.from_numpy(ensemble.predictions(7)["logits"][1]), rtol=1e-4, atol=1e-4)
    expected = {"0": ("0.weight",)} if normalise else {}
    assert ensemble.scale_groups == expected
    history = ensemble.history()
    assert f"squared_norm:{'0' if normalise else 'weights'}" in history
    assert np.isfinite(history["effective_lr"]).all()
