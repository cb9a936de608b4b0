"""The Jacobian of a denoiser at noisy images: its leading singular values and effective rank.

J = ∂x̂₀/∂(x_t/alpha): how a change of the noisy image, in the data's scale, changes what the
denoiser says the image is. For the best linear denoiser of data with covariance V diag(λ) Vᵀ it is
V diag(λ/(λ + (sigma/alpha)²)) Vᵀ, for any process. Its products with vectors are autograd's, of
the denoiser at the noise level of the image; nothing is differenced.

Sources: the range by subspace iteration, Halko, Martinsson and Tropp 2011, algorithm 4.4; traces by
an exact part and random vectors for the rest, Meyer et al. 2021, "Hutch++", algorithm 1.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmark.evaluation.features_of.layers import FloatArray
from benchmark.evaluation.features_of.spectrum import effective_rank
from mindiffusion.noise import Stream, normals
from mindiffusion.process import Denoiser, Level, given

LEADING = 32
"""Singular values that are found where there are too many to find all."""
EXACT_UP_TO = 768
"""Values of an image, C·H·W, up to which the whole matrix is made."""
_EXTRA = 8
"""Directions beyond the leading ones: the last of a subspace converge slowly."""
_ITERATIONS = 2
_PROBES = 16
"""Random vectors behind the traces of what the subspace leaves out."""
_BATCH = 64

Product = Callable[[Tensor], Tensor]
"""Vectors (k, d) float64 → the matrix's products with them, (k, d) float64, on the CPU."""


@dataclass(frozen=True, eq=False)
class JacobianSpectrum:
    """The Jacobian at one image.

    Attributes:
        values: singular values, falling; (min(d, 32),), or all (d,) where d is small.
        effective_rank: of all values, those that are not found among them.
    """

    values: FloatArray
    effective_rank: float


def jacobian_spectrum(
    denoise: Denoiser,
    x_t: Tensor,
    level: Level,
    *,
    seed: int,
    image: int,
    condition: Tensor | None = None,
) -> JacobianSpectrum:
    """Singular values of the Jacobian at one noisy image.

    Args:
        denoise: a network in eval mode, or the linear oracle.
        x_t: (1, C, H, W), on the denoiser's device.
        level: of the image.
        seed: the sampling seed, of the random vectors.
        image: its number, likewise.
        condition: (1, …), what the denoiser is told of it; None: nothing.
    """
    forward, backward = products(denoise, x_t, level, condition)
    dim = x_t.numel()
    if dim <= EXACT_UP_TO:
        values = torch.linalg.svdvals(forward(torch.eye(dim, dtype=torch.float64)))
        squares = values.square()
        rank = effective_rank(float(squares.sum()), float(squares.square().sum()))
        return JacobianSpectrum(values.numpy(), rank)
    index = torch.arange(LEADING + _EXTRA + _PROBES)
    drawn = normals(seed, Stream.JACOBIAN, index, image, (dim,)).double()
    return leading_values(forward, backward, *drawn.split((LEADING + _EXTRA, _PROBES)))


def leading_values(
    forward: Product, backward: Product, start: Tensor, probes: Tensor
) -> JacobianSpectrum:
    """The leading singular values of a matrix J from products with it.

    Args:
        forward: v → J v.
        backward: u → Jᵀ u.
        start: (32 + 8, d), random directions that the subspace begins with.
        probes: (m, d), standard normal vectors for what it leaves out.
    """
    basis = _orthonormal(start)
    for _ in range(_ITERATIONS):
        basis = _orthonormal(backward(forward(basis)))
    within = forward(basis)
    beyond = forward(probes - probes @ basis.T @ basis)
    again = (backward(within), backward(beyond))
    squares, fourths = (
        float(inside.square().sum() + outside.square().sum() / len(probes))
        for inside, outside in ((within, beyond), again)
    )
    values = torch.linalg.svdvals(within)[:LEADING]
    return JacobianSpectrum(values.numpy(), effective_rank(squares, fourths))


def _orthonormal(rows: Tensor) -> Tensor:
    """An orthonormal basis of the span of rows (k, d), as rows."""
    return torch.linalg.qr(rows.T).Q.T


def products(
    denoise: Denoiser, x_t: Tensor, level: Level, condition: Tensor | None = None
) -> tuple[Product, Product]:
    """Products with the Jacobian at one image, and with its transpose.

    A batch holds the image as often as there are vectors: a network treats each image of a batch
    alone, so one call gives the products of all.

    Arguments as of ``jacobian_spectrum``.
    """
    alpha, shape = float(level.alpha), x_t.shape[1:]

    def said(scaled: Tensor) -> Tensor:
        told = None if condition is None else condition.expand(len(scaled), *condition.shape[1:])
        return given(denoise, told)(alpha * scaled, level).x0

    def forward(scaled: Tensor, vectors: Tensor) -> Tensor:
        return torch.func.jvp(said, (scaled,), (vectors,))[1]

    def backward(scaled: Tensor, vectors: Tensor) -> Tensor:
        # With auxiliary outputs there would be a third.
        answer, pull, *_ = torch.func.vjp(said, scaled)
        return pull(vectors.to(answer.dtype))[0]

    def product(which: Callable[[Tensor, Tensor], Tensor], vectors: Tensor) -> Tensor:
        parts = []
        # The other kernels of attention have no forward derivatives.
        with sdpa_kernel(SDPBackend.MATH):
            for some in vectors.split(_BATCH):
                scaled = (x_t / alpha).repeat(len(some), 1, 1, 1)
                found = which(scaled, some.to(x_t).view(len(some), *shape))
                parts.append(found.detach().flatten(1).double().cpu())
        return torch.cat(parts)

    return functools.partial(product, forward), functools.partial(product, backward)


def linear_values(eigenvalues: Tensor, level: Level) -> Tensor:
    """Singular values of the best linear denoiser's Jacobian, λ/(λ + (sigma/alpha)²), falling.

    Args:
        eigenvalues: (r,), of the data's covariance, falling.
        level: of shape (1,).
    """
    return eigenvalues / (eigenvalues + math.pow(float(level.sigma / level.alpha), 2))
