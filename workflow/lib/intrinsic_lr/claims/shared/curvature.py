"""Derivatives of the loss in the scale-invariant weights: gradient, Hessian-vector products, top eigenvalue.

Members of an ensemble are independent, so the Hessian of the sum of their losses has one block each, and one
product by it serves all members.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from intrinsic_lr.models.ensemble import EnsembleModel
from intrinsic_lr.models.normalisation import BatchStatistics

_CHECK_EVERY = 5
"""Lanczos steps between two looks at the residual."""


class Derivatives:
    """Each member's mean loss on a batch, under the batch's own statistics, and its derivatives in some weights.

    `params` has tensors (R, ...); `images` are (R, B, C, H, W) or (B, C, H, W), shared by all members, with
    `labels` (R, B) or (B,). The weights `names`, P numbers a member, are kept as rows `weights` (R, P), beside the
    `loss` in nats (R,) and its `gradient` (R, P).
    """

    def __init__(
        self,
        model: EnsembleModel,
        params: Mapping[str, Tensor],
        images: Tensor,
        labels: Tensor,
        names: Sequence[str],
    ) -> None:
        self._leaves = {name: params[name].detach().clone().requires_grad_() for name in names}
        logits = model.forward({**params, **self._leaves}, images, BatchStatistics())
        labels = labels.expand(logits.shape[:2])
        loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
        loss = loss.view(labels.shape).mean(dim=1)
        # The graph of the gradient is kept: every product differentiates it once more.
        self._gradient = _rows(torch.autograd.grad(loss.sum(), list(self._leaves.values()), create_graph=True))
        self.weights = _rows([leaf.detach() for leaf in self._leaves.values()])
        self.loss, self.gradient = loss.detach(), self._gradient.detach()

    def hessian_product(self, vectors: Tensor) -> Tensor:
        """Return each member's Hessian times its row of `vectors` (R, P)."""
        leaves = list(self._leaves.values())
        return _rows(torch.autograd.grad(self._gradient, leaves, grad_outputs=vectors, retain_graph=True))

    def top_eigenvalue(self, iterations: int, generator: torch.Generator, tolerance: float) -> Tensor:
        """Return the largest eigenvalue (R,) of each member's Hessian, as `largest_eigenvalue` does."""
        return largest_eigenvalue(self.hessian_product, self.weights, iterations, generator, tolerance)


def largest_eigenvalue(
    product: Callable[[Tensor], Tensor],
    like: Tensor,
    iterations: int,
    generator: torch.Generator,
    tolerance: float,
) -> Tensor:
    """Return the largest (algebraic) eigenvalue (R,) of R symmetric matrices.

    Lanczos' method with full reorthogonalisation, all members at once: unlike power iteration it cannot end at a
    negative eigenvalue of larger modulus. The residual of a Ritz pair bounds its error (Parlett 1998, 13.2). The
    iteration ends at a relative residual of `tolerance`; NaN for a member that is not finite, or above it after
    all `iterations`.

    `product` multiplies vectors (R, P) by the matrices, `like` is a tensor (R, P) of their dtype and device, and
    the starting vectors are drawn on the CPU.
    """
    steps = min(iterations, like.shape[1])
    vector = torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like)
    basis = [vector / vector.norm(dim=1, keepdim=True)]
    diagonal: list[Tensor] = []
    off_diagonal: list[Tensor] = []
    found = torch.full_like(like[:, 0], torch.nan)
    for step in range(1, steps + 1):
        image = product(basis[-1])
        diagonal.append((image * basis[-1]).sum(dim=1))
        known = torch.stack(basis, dim=1)
        for _ in range(2):  # twice is enough (Parlett 1998, section 6.9)
            image = image - torch.einsum("rk,rkp->rp", torch.einsum("rkp,rp->rk", known, image), known)
        length = image.norm(dim=1)
        # A Krylov space that is exhausted leaves rounding errors only; its Ritz values are exact by then.
        scale = torch.stack(diagonal).abs().amax(dim=0)
        exhausted = length <= 1e3 * torch.finfo(like.dtype).eps * scale
        length = torch.where(exhausted, 0.0, length)
        off_diagonal.append(length)
        basis.append(torch.where(exhausted[:, None], 0.0, image / length[:, None]))
        if step % _CHECK_EVERY == 0 or step == steps:
            found, residual = _largest_ritz(diagonal, off_diagonal)
            converged = (residual <= tolerance * found.abs()) | ~found.isfinite()
            if converged.all():
                break
            found = torch.where(converged, found, torch.nan)
    return found


def _largest_ritz(diagonal: list[Tensor], off_diagonal: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the largest Ritz value of each member and its residual, from the tridiagonal matrices."""
    main, side = torch.stack(diagonal, dim=1), torch.stack(off_diagonal, dim=1)
    # Past the end of a Krylov space the diagonal is 0, which might exceed every eigenvalue; the first Rayleigh
    # quotient never does.
    ended = torch.cat([torch.zeros_like(side[:, :1]), (side[:, :-1] == 0).to(side).cumsum(dim=1)], dim=1) > 0
    main, side = torch.where(ended, main[:, :1], main), torch.where(ended, 0.0, side)
    finite = main.isfinite().all(dim=1) & side.isfinite().all(dim=1)
    main, side = (torch.where(finite[:, None], part, 0.0) for part in (main, side))
    off = torch.diag_embed(side[:, :-1], offset=1)
    values, vectors = torch.linalg.eigh(torch.diag_embed(main) + off + off.transpose(1, 2))
    residual = side[:, -1] * vectors[:, -1, -1].abs()
    return torch.where(finite, values[:, -1], torch.nan), residual


def _rows(tensors: Sequence[Tensor]) -> Tensor:
    """Return tensors (R, ...) side by side as rows (R, P)."""
    return torch.cat([tensor.flatten(1) for tensor in tensors], dim=1)
