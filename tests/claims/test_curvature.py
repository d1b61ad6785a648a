"""Curvature: Hessian products and the top eigenvalue against the explicit Hessian."""

import pytest
import torch

from intrinsic_lr.claims.shared.curvature import Derivatives, largest_eigenvalue
from intrinsic_lr.models.ensemble import build
from intrinsic_lr.models.normalisation import BatchStatistics
from intrinsic_lr.study.model_spec import ModelSpec

TINY = {
    "mlp": ({"kind": "mlp", "width": 4, "depth": 2}, (1, 2, 3)),
    "cnn4": ({"kind": "cnn4", "width": 2, "norm": "layer"}, (1, 4, 4)),
}


def tiny(kind, members=3, batch=9):
    definition, shape = TINY[kind]
    model = build(ModelSpec.from_config(definition), shape, 3)
    params = model.initialize(range(members), 1.5, torch.float64)
    generator = torch.Generator().manual_seed(7)
    images = torch.randn(members, batch, *shape, generator=generator, dtype=torch.float64)
    labels = torch.randint(3, (members, batch), generator=generator)
    return model, params, images, labels, [name for group in model.scale_groups.values() for name in group]


def explicit_hessian(model, params, images, labels, names, member):
    """One member's Hessian by `torch.autograd.functional.hessian`."""
    one = {name: value[member : member + 1] for name, value in params.items()}
    sizes = [one[name].numel() for name in names]

    def loss(flat):
        parts = {name: part.view(one[name].shape) for name, part in zip(names, flat.split(sizes), strict=True)}
        logits = model.forward({**one, **parts}, images[member : member + 1], BatchStatistics())
        return torch.nn.functional.cross_entropy(logits[0], labels[member])

    flat = torch.cat([one[name].flatten() for name in names])
    return torch.autograd.functional.hessian(loss, flat)


@pytest.mark.parametrize("kind", TINY)
def test_top_eigenvalue_and_products_are_those_of_the_explicit_hessian(kind):
    setting = tiny(kind)
    derivatives = Derivatives(*setting)
    found = derivatives.top_eigenvalue(60, torch.Generator().manual_seed(0), 1e-8)
    vectors = torch.randn(derivatives.weights.shape, dtype=torch.float64)
    products = derivatives.hessian_product(vectors)
    for member in range(3):
        hessian = explicit_hessian(*setting, member)
        assert torch.allclose(products[member], hessian @ vectors[member], rtol=1e-9, atol=1e-12)
        assert found[member] == pytest.approx(torch.linalg.eigvalsh(hessian)[-1].item(), rel=1e-6)


def matrices(*spectra):
    """Symmetric matrices with given eigenvalues in random bases."""
    size = len(spectra[0])
    drawn = torch.randn(len(spectra), size, size, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    bases = torch.linalg.qr(drawn)[0]
    return bases @ torch.diag_embed(torch.tensor(spectra, dtype=torch.float64)) @ bases.transpose(1, 2)


def largest(a, iterations=50, tolerance=1e-10):
    def product(v):
        return torch.einsum("rij,rj->ri", a, v)

    return largest_eigenvalue(product, a[:, 0], iterations, torch.Generator().manual_seed(1), tolerance)


def test_a_negative_eigenvalue_of_larger_modulus_is_not_the_largest():
    found = largest(matrices([-9.0, -1, 0.5, 2, 1], [-9.0, -4, -3, -2, -1]))
    assert found.tolist() == pytest.approx([2, -1])


def test_a_krylov_space_that_ends_early_is_exact():
    # Three different eigenvalues only, all negative: the steps after the third must not bring in a zero.
    found = largest(matrices([-3.0] * 6 + [-2.0] * 5 + [-1.0], [-3.0] * 11 + [-2.5]))
    assert found.tolist() == pytest.approx([-1, -2.5])


def test_what_has_not_converged_or_is_not_finite_is_missing():
    a = matrices(*[list(range(1, 31))] * 2)
    assert largest(a, iterations=4, tolerance=1e-12).isnan().all()
    a[0, 0, 0] = torch.nan
    found = largest(a, tolerance=1e-8)
    assert found[0].isnan()
    assert found[1].item() == pytest.approx(30)
