"""Ensemble networks against ordinary modules, and their scale invariance in float64."""

import itertools
from functools import partial

import numpy as np
import pytest
import torch

from intrinsic_lr.core.errors import InputError
from intrinsic_lr.models.ensemble import build
from intrinsic_lr.models.networks import Attention
from intrinsic_lr.models.normalisation import (
    BatchStatistics,
    CollectedStatistics,
    FixedStatistics,
    layer_norm,
    standardize,
)
from intrinsic_lr.study.model_spec import ModelSpec

KINDS = {"mlp": "mlp:width=8", "cnn4": "cnn4:width=4", "preresnet": "preresnet:width=4,blocks=1"}
NORMS = {"batch": "norm=batch", "group": "norm=group,groups=2", "layer": "norm=layer"}
SHAPE, CLASSES, R, B = (2, 8, 8), 5, 3, 6
VIT = {"vit": "vit:width=8,heads=2,patch=4"}
every_model = pytest.mark.parametrize(("kind", "norm"), [*itertools.product(KINDS, NORMS), ("vit", "its own")])


def network(kind, norm, **options):
    extra = [NORMS[norm]] if norm in NORMS else []
    extra += [f"{key}={value}" for key, value in options.items() if kind not in VIT or key != "affine"]
    return build(ModelSpec.from_string(",".join([(KINDS | VIT)[kind], *extra])), SHAPE, CLASSES)


def drawn(kind, norm, dtype=torch.float64, **options):
    """Return a model and the parameters of three members."""
    model = network(kind, norm, **options)
    return model, model.initialize([1, 2, 3], 1.0, dtype)


def member(model, params, statistics, k):
    """Return one member as a module in evaluation mode."""
    state = {name: value[k] for name, value in params.items()}
    for name, layer in statistics.items():
        state |= {f"{name}.running_mean": layer.mean[k], f"{name}.running_var": layer.variance[k]}
    module = model.module().to(next(iter(params.values())).dtype)
    module.load_state_dict(state)
    return module.eval()


def images(shared=False, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*(() if shared else (R,)), B, *SHAPE, generator=generator, dtype=torch.float64)


def loss_and_gradients(model, params, x):
    leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
    logits = model.forward(leaves, x, BatchStatistics())
    weights = torch.linspace(-1, 1, logits[0].numel(), dtype=logits.dtype).view_as(logits[0])
    loss = (torch.log_softmax(logits, -1) * weights).sum(dim=(1, 2))
    gradients = torch.autograd.grad(loss.sum(), list(leaves.values()))
    return logits.detach(), dict(zip(leaves, gradients, strict=True))


@every_model
@pytest.mark.parametrize("affine", ["false", "true"])
@pytest.mark.parametrize("shared", [False, True])
def test_member_equals_an_ordinary_module(kind, norm, affine, shared):
    model, params = drawn(kind, norm, affine=affine)
    x = images(shared)
    logits, gradients = loss_and_gradients(model, params, x)
    for k in range(R):
        module = model.module().double().train()
        missing = module.load_state_dict({name: value[k] for name, value in params.items()}, strict=False)
        assert all("running" in name for name in missing.missing_keys)
        output = module(x if shared else x[k])
        assert torch.allclose(output, logits[k], rtol=1e-10, atol=1e-10)
        weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
        (torch.log_softmax(output, -1) * weights).sum().backward()
        for name, parameter in module.named_parameters():
            assert parameter.requires_grad == (name in model.trainable)
            if parameter.requires_grad:
                assert torch.allclose(parameter.grad, gradients[name][k], rtol=1e-9, atol=1e-9), name


@every_model
@pytest.mark.parametrize("c", [0.1, 3.0, 10.0])
def test_scale_invariance(kind, norm, c):
    """L(cw) = L(w), grad L(cw) = grad L(w)/c, and <w, grad L> = 0, for each group alone."""
    model, params = drawn(kind, norm)
    logits, gradients = loss_and_gradients(model, params, images())
    for names in model.scale_groups.values():
        scaled = {name: value * c if name in names else value for name, value in params.items()}
        again, moved = loss_and_gradients(model, scaled, images())
        assert torch.allclose(again, logits, rtol=1e-8, atol=1e-8)
        along = sum((params[name] * gradients[name]).flatten(1).sum(dim=1) for name in names)
        size = sum(gradients[name].flatten(1).square().sum(dim=1) for name in names).sqrt()
        assert (along.abs() <= 1e-10 * size.clamp(min=1e-3)).all()
        for name in names:
            assert torch.allclose(moved[name], gradients[name] / c, rtol=1e-6, atol=1e-9)
    assert {n for names in model.scale_groups.values() for n in names} == set(model.trainable)


@pytest.mark.parametrize("kind", KINDS)
def test_partial_invariance(kind):
    """With trained affine parameters and head, the weights stay invariant and the others are not."""
    model, params = drawn(kind, "batch", affine="true", head="trained")
    logits, _ = loss_and_gradients(model, params, images())
    groups = {name for names in model.scale_groups.values() for name in names}
    scaled = {name: value * 5 if name in groups else value for name, value in params.items()}
    assert torch.allclose(loss_and_gradients(model, scaled, images())[0], logits, rtol=1e-8, atol=1e-8)
    others = set(model.trainable) - groups
    assert "head.weight" in others
    assert len(others) > 2
    changed = {name: value * 5 if name in others else value for name, value in params.items()}
    assert not torch.allclose(loss_and_gradients(model, changed, images())[0], logits, rtol=1e-3)


@every_model
def test_constant_images_do_no_harm(kind, norm):
    model, params = drawn(kind, norm, torch.float32)
    x = torch.full((R, B, *SHAPE), 0.3)
    logits, gradients = loss_and_gradients(model, params, x)
    assert logits.isfinite().all()
    assert all(value.isfinite().all() for value in gradients.values())


def test_what_counts_as_constant():
    """Constant up to rounding becomes 0; a relative spread of a thousandth is real variation."""
    constant = torch.full((1, 50, 1), 0.1) * torch.tensor([1.0, 3.0, 1e-20, 1e10])
    assert (standardize(constant + 0, (1,)) == 0).all()
    rounded = (torch.full((1, 50, 1), 0.1) + torch.rand(1, 50, 1) * 1e-8) * 7
    assert (standardize(rounded, (1,)) == 0).all()
    varied = 100 + 0.1 * torch.randn(1, 500, 1, generator=torch.Generator().manual_seed(0))
    assert standardize(varied, (1,)).std(correction=0) == pytest.approx(1, rel=1e-3)


def batch_norm(x, rectify=False):
    return BatchStatistics()("norm", x, rectify)


LAYOUTS = [((2, 6, 3), (1,)), ((2, 3, 2, 4), (3,)), ((3, 2, 2, 2, 2), (0, 3, 4)), ((2, 2, 2, 2, 3, 1), (3, 4, 5))]
CHANNELS = [((5, 3), (0,)), ((1, 3, 4), (0, 2)), ((3, 2, 2, 2), (0, 2, 3))]


@pytest.mark.parametrize(
    ("shape", "dims", "normalize"),
    [
        *((shape, dims, partial(standardize, dims=dims)) for shape, dims in LAYOUTS),
        *((shape, dims, batch_norm) for shape, dims in CHANNELS),
        *((shape, dims, partial(batch_norm, rectify=True)) for shape, dims in CHANNELS),
        *((shape, (len(shape) - 1,), layer_norm) for shape in ((5, 3), (2, 3, 4))),
    ],
)
def test_normalization_and_its_derivatives(shape, dims, normalize):
    """Against the textbook formula in NumPy, and against finite differences, once and twice."""
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3 + 5
    a = x.numpy()
    expected = (a - a.mean(dims, keepdims=True)) / a.std(dims, keepdims=True)
    if getattr(normalize, "keywords", {}).get("rectify"):
        expected = np.maximum(expected, 0)
    assert np.allclose(normalize(x), expected, rtol=1e-12, atol=1e-12)
    x.requires_grad_()
    assert torch.autograd.gradcheck(normalize, x)
    assert torch.autograd.gradgradcheck(normalize, x)
    assert torch.autograd.gradgradcheck(lambda value: value * normalize(value).sin(), x)


def test_memory_layout_changes_nothing_but_the_last_bits():
    x = torch.randn(4, 6, 5, 5, generator=torch.Generator().manual_seed(0))
    found = batch_norm(x.contiguous(memory_format=torch.channels_last), True)
    assert torch.allclose(found, batch_norm(x, True), rtol=1e-5, atol=1e-6)


def rows_norm(x):
    """Normalise the columns of x by the layer norm of its rows."""
    return layer_norm(x.T.contiguous()).T


@pytest.mark.parametrize("normalize", [partial(standardize, dims=(0,)), batch_norm, rows_norm])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("count", [1, 7, 2048, 100_003])
def test_constant_channel_is_zero_with_zero_gradient(normalize, dtype, count):
    """The fourth channel varies: its neighbours' constancy does not touch it."""
    x = torch.full((count, 4), 0.1, dtype=dtype) * torch.tensor([1.0, -7e3, 0.0, 1.0], dtype=dtype)
    x[count // 2 :, 3] = 0.2
    x.requires_grad_()
    y = normalize(x)
    grad_output = torch.randn(y.shape, dtype=dtype, generator=torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad(y, x, grad_output, create_graph=True)
    (second,) = torch.autograd.grad((gradient * grad_output).sum(), x)
    for value in (y, gradient, second):
        assert (value[..., :3] == 0).all()
        assert value.isfinite().all()
        assert count == 1 or (value[..., 3] != 0).any()


def test_batch_norm_does_not_hide_what_is_not_finite():
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    x[2, 0], x[:, 2] = torch.inf, 1.0
    y = batch_norm(x)
    assert y[:, 0].isnan().any()
    assert y[:, 1].isfinite().all()
    assert (y[:, 2] == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_constant_statistics_are_marked_by_infinity(kind):
    """Black images make every channel constant: later images then have logits of exactly 0, in the module too."""
    model, params = drawn(kind, "batch", torch.float32)
    collected = CollectedStatistics(model.norms)
    model.forward(params, torch.zeros(B, *SHAPE), collected)
    statistics = collected.result()
    assert all(layer.variance.isinf().all() for layer in statistics.values())
    x = images(shared=True).float()
    assert (model.forward(params, x, FixedStatistics(statistics)) == 0).all()
    assert (member(model, params, statistics, 0)(x) == 0).all()


@every_model
def test_diverged_member_leaves_the_others_alone(kind, norm):
    model, params = drawn(kind, norm)
    logits, gradients = loss_and_gradients(model, params, images())
    poisoned = {name: value.clone() for name, value in params.items()}
    poisoned[model.trainable[0]][1] = torch.nan
    again, moved = loss_and_gradients(model, poisoned, images())
    for k in (0, 2):
        assert torch.equal(again[k], logits[k])
        assert all(torch.equal(moved[name][k], gradients[name][k]) for name in gradients)
    assert again[1].isnan().any()


@pytest.mark.parametrize("kind", KINDS)
def test_seed_gives_one_network_in_any_block_and_dtype(kind):
    model = network(kind, "batch", head="trained")
    block = model.initialize([7, 8, 9], 2.0, torch.float64)
    alone = model.initialize([8], 2.0, torch.float32)
    assert all(torch.equal(block[name][1].float(), alone[name][0]) for name in block)
    unscaled = model.initialize([8], 1.0, torch.float32)
    assert torch.equal(alone["head.weight"], unscaled["head.weight"])
    assert torch.equal(alone[model.trainable[0]], 2 * unscaled[model.trainable[0]])


def test_fixed_head_is_shared_and_frozen():
    model, params = drawn("mlp", "batch")
    assert torch.equal(params["head.weight"][0], params["head.weight"][1])
    assert not torch.equal(params["linear1.weight"][0], params["linear1.weight"][1])
    assert "head.weight" not in model.trainable


def test_weights_have_the_variance_of_he():
    model = build(ModelSpec.from_string("mlp:width=200"), (1, 20, 20), 10)
    weight = model.initialize([0], 1.0, torch.float64)["linear1.weight"]
    assert weight.var() == pytest.approx(2 / 400, rel=0.03)


@pytest.mark.parametrize("kind", KINDS)
def test_pooled_statistics_give_the_module_in_evaluation_mode(kind):
    model, params = drawn(kind, "batch")
    collected = CollectedStatistics(model.norms)
    for seed in (0, 1):
        model.forward(params, images(shared=True, seed=seed), collected)
    statistics = collected.result()
    x = images(shared=True, seed=2)
    logits = model.forward(params, x, FixedStatistics(statistics))
    for k in range(R):
        assert torch.allclose(member(model, params, statistics, k)(x), logits[k], rtol=1e-10, atol=1e-10)


def test_pooling_gives_the_total_variance():
    """Two members of four channels, in unequal batches."""
    x = torch.randn(30, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 100
    collected = CollectedStatistics({"norm": 4})
    for part in x.split([7, 20, 3]):
        collected("norm", part, False)
    pooled = collected.result()["norm"]
    assert torch.allclose(pooled.mean, x.mean(dim=0).view(2, 4))
    assert torch.allclose(pooled.variance, x.var(dim=0, correction=0).view(2, 4), rtol=1e-10)


@every_model
def test_hessian_vector_product_by_double_backward(kind, norm):
    model = network(kind, norm)
    params = model.initialize([1], 1.0, torch.float64)
    name = model.trainable[0]
    x = images()[:1]
    direction = torch.randn(params[name].shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def gradient(weight, create_graph=False):
        logits = model.forward({**params, name: weight}, x, BatchStatistics())
        return torch.autograd.grad(torch.logsumexp(logits, -1).sum(), weight, create_graph=create_graph)[0]

    weight = params[name].clone().requires_grad_()
    (product,) = torch.autograd.grad((gradient(weight, True) * direction).sum(), weight)
    step = 1e-6
    ends = [gradient((params[name] + sign * step * direction).requires_grad_()) for sign in (1, -1)]
    assert torch.allclose(product, (ends[0] - ends[1]) / (2 * step), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32)])
def test_any_input_size(kind, shape):
    model = build(ModelSpec.from_string(KINDS[kind]), shape, CLASSES)
    params = model.initialize([1, 2], 1.0, torch.float32)
    assert model.forward(params, torch.randn(2, 3, *shape), BatchStatistics()).shape == (2, 3, CLASSES)


def test_patches_divide_the_image():
    with pytest.raises(InputError, match="patch: must divide the sides 8x8 of the images, got 3"):
        build(ModelSpec.from_string("vit:patch=3"), SHAPE, CLASSES)


def test_attention_is_that_of_pytorch_with_normalised_queries_and_keys():
    torch.manual_seed(0)
    q, k, v = (
        torch.randn(2 * 4, 6, dtype=torch.float64) for _ in range(3)
    )  # two images of four patches, two heads
    found = Attention(4, 2)(q, k, v).view(2, 4, 2, 3)
    for image, head in itertools.product(range(2), range(2)):
        own = [x.view(2, 4, 2, 3)[image, :, head] for x in (q, k, v)]
        normal = [torch.nn.functional.layer_norm(x, (3,), eps=0) for x in own[:2]]
        expected = torch.nn.functional.scaled_dot_product_attention(*normal, own[2])
        assert torch.allclose(found[image, :, head], expected)


def test_preresnet32_has_thirty_two_layers():
    shapes = build(ModelSpec.from_string("preresnet"), (3, 32, 32), 10).shapes
    assert len([name for name in shapes if "shortcut" not in name]) == 32
    assert shapes["stage3.block1.shortcut.weight"] == (64, 32, 1, 1)


@pytest.mark.parametrize(
    "text", ["vit:heads=2", "mlp:width=3", "cnn4:norm=layer", "preresnet:final_relu=false,norm=group"]
)
def test_spec_round_trip(text):
    spec = ModelSpec.from_string(text)
    assert ModelSpec.from_string(spec.to_string()) == spec


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({}, ["kind", "None", "preresnet"]),
        ({"kind": ["mlp"]}, ["kind", "['mlp']", "preresnet"]),
        ("vgg", ["kind", "'vgg'", "preresnet"]),
        ("mlp:blocks=3", ["blocks", "depth"]),
        ("mlp:groups=8", ["groups", "depth"]),
        ("mlp:norm=instance", ["norm", "'instance'", "batch, group, layer"]),
        ("mlp:norm=group,groups=7", ["groups", "7", "64"]),
        ({"kind": "mlp", "width": None}, ["width", "None", "from 1"]),
        ({"kind": "mlp", "width": True}, ["width", "True", "from 1"]),
        ("mlp:width=0", ["width", "0", "from 1"]),
        ("vit:heads=3", ["heads", "32", "3"]),
        ("vit:heads=32", ["heads", "32", "2 or more"]),
        ("vit:norm=batch", ["norm", "option of vit", "patch"]),
        ("mlp:width=²", ["width", "²", "from 1"]),
        ({"kind": "mlp", "affine": None}, ["affine", "None", "true, false"]),
        ("mlp:affine=maybe", ["affine", "maybe", "true, false"]),
        ({"kind": "preresnet", "final_relu": 1}, ["final_relu", "1", "true, false"]),
    ],
)
def test_refusals_of_a_spec(config, words):
    with pytest.raises(InputError) as caught:
        ModelSpec.from_string(config) if isinstance(config, str) else ModelSpec.from_config(config)
    assert all(word in str(caught.value) for word in words), str(caught.value)
