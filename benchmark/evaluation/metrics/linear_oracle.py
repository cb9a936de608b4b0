"""The best linear denoiser of what networks see of the training images: pixels, or latents.

It follows from their mean and covariance.

With covariance V diag(λ) Vᵀ, the linear estimate of least squared error from x_t = α x₀ + σ ε is
x̂₀ = μ + α V diag(λ / (α²λ + σ²)) Vᵀ (x_t − α μ): Wiener's filter in the eigenbasis.
What a network knows beyond it is not in the mean and covariance of the data.

Cost: at 32 px (d = 3 · 32 · 32 = 3,072) one eigenvalue problem of 3,072 rows and 75 MB; at 64 px
(d = 12,288) 64 times the work and 1.2 GB, a graver matter than the networks it is held against.
Fewer images than d take a problem of as many rows as there are images.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mindiffusion.data.codec import GREY
from mindiffusion.data.latents import TrainingLatents
from mindiffusion.errors import UserError
from mindiffusion.files import atomic_write, sha256_of_json
from mindiffusion.outside.arrays import Wanted, read_npz
from mindiffusion.process import Level, Prediction, from_x0

# Part of the cache key: raise it when the fit changes.
_VERSION = 1
_BATCH = 256


@dataclass(frozen=True)
class LinearOracle:
    """Mean and spectrum of a network's inputs, flattened as (C, h, w); float64 tensors.

    Attributes:
        mean: (d,).
        eigenvalues: (r,), positive, falling.
        eigenvectors: (d, r), orthonormal columns; the data do not vary outside their span.
        n: images behind them.
    """

    mean: Tensor
    eigenvalues: Tensor
    eigenvectors: Tensor
    n: int

    def to(self, device: torch.device) -> "LinearOracle":
        """The same on a device."""
        return replace(
            self,
            mean=self.mean.to(device),
            eigenvalues=self.eigenvalues.to(device),
            eigenvectors=self.eigenvectors.to(device),
        )

    def mean_only(self) -> "LinearOracle":
        """The mean predictor: the oracle of data that do not vary, so that x̂₀ = μ."""
        return replace(
            self, eigenvalues=self.eigenvalues[:0], eigenvectors=self.eigenvectors[:, :0]
        )

    def __call__(self, x_t: Tensor, level: Level) -> Prediction:
        """The oracle as a denoiser; float64, not clipped.

        Args:
            x_t: (B, C, h, w), noisy inputs on the oracle's device.
            level: one for all of them.

        Raises:
            UserError: images of another size than the oracle's.
        """
        flat = x_t.flatten(1).double()
        if flat.shape[1] != len(self.mean):
            raise UserError(
                f"The linear oracle is of images of {len(self.mean)} values, these have "
                f"{flat.shape[1]}; fit it on images of the same size."
            )
        alpha, sigma = float(level.alpha), float(level.sigma)
        gain = alpha * self.eigenvalues / (alpha**2 * self.eigenvalues + sigma**2)
        coefficients = (flat - alpha * self.mean) @ self.eigenvectors
        x0 = self.mean + (coefficients * gain) @ self.eigenvectors.T
        return from_x0(x_t.double(), level, x0.view_as(x_t))


def fit_linear_oracle(images: NDArray[np.uint8]) -> LinearOracle:
    """The oracle of images (N, H, W, 3) uint8, read in batches; may be memory-mapped.

    The covariance is that of the images themselves (divided by N), for which the oracle is exact.

    Raises:
        UserError: not uint8 (N, H, W, 3), or fewer than 2 images.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3 or len(images) < 2:
        raise UserError(
            f"Linear oracle of {images.dtype} {images.shape}; give 2 or more images as uint8 "
            "(N, H, W, 3)."
        )
    height, width = images.shape[1:3]
    dim = 3 * height * width
    mean, variances, directions = _by_image(images) if len(images) <= dim else _by_value(images)
    variances, directions = _falling(variances, directions)
    rank = len(variances)
    return LinearOracle(
        mean=(mean / GREY - 1).view(height, width, 3).permute(2, 0, 1).flatten(),
        eigenvalues=variances / GREY**2,
        eigenvectors=directions.view(height, width, 3, rank).permute(2, 0, 1, 3).reshape(dim, rank),
        n=len(images),
    )


def fit_latent_oracle(latents: TrainingLatents) -> LinearOracle:
    """The oracle of latents as they are drawn in training; moments are read in batches.

    The covariance is that of their means (divided by N), with the mean square of their standard
    deviations on its diagonal, since a draw is independent for each value.

    Raises:
        UserError: fewer than 2 images.
    """
    moments = latents.moments[: latents.num_images]
    if len(moments) < 2:
        raise UserError("Linear oracle of latents of 1 image; give 2 or more.")
    spread = torch.zeros(moments[0, 1].size, dtype=torch.float64)
    for start in range(0, len(moments), _BATCH):
        spread += _flat(moments[start : start + _BATCH, 1]).square().sum(0)
    mean, variances, directions = _by_value(moments[:, 0], spread / len(moments))
    variances, directions = _falling(variances, directions)
    return LinearOracle(
        latents.scale * mean, latents.scale**2 * variances, directions, len(moments)
    )


def _falling(variances: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors the other way round, without those that are rounding noise."""
    least = len(directions) * torch.finfo(torch.float64).eps * variances.max().clamp_min(0)
    kept = variances > least
    return variances[kept].flip(0), directions[:, kept].flip(1)


def _by_value(images: NDArray, spread: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (d,), eigenvalues (d,) and eigenvectors (d, d), from the d × d matrix.

    In the units of the images, (N, …). Each value may have a variance of its own besides, (d,).
    Sums of products of uint8 are whole numbers below 2⁵³: float64 holds them exactly, so that
    nothing depends on the batches.
    """
    dim = images[0].size
    total = torch.zeros(dim, dtype=torch.float64)
    products = torch.zeros(dim, dim, dtype=torch.float64)
    for start in range(0, len(images), _BATCH):
        batch = _flat(images[start : start + _BATCH])
        total += batch.sum(0)
        products.addmm_(batch.T, batch)
    mean = total / len(images)
    covariance = products / len(images) - torch.outer(mean, mean)
    if spread is not None:
        covariance += torch.diag(spread)
    variances, directions = torch.linalg.eigh(covariance)
    return mean, variances, directions


def _by_image(images: NDArray[np.uint8]) -> tuple[Tensor, Tensor, Tensor]:
    """The same from an N × N matrix, for N ≤ d: eigenvalues (N,), eigenvectors (d, N).

    In an orthonormal basis of the images' span, so the eigenvectors are orthonormal to rounding.
    """
    values = _flat(images)
    mean = values.mean(0)
    basis, coordinates = torch.linalg.qr((values - mean).T)
    variances, directions = torch.linalg.eigh(coordinates @ coordinates.T / len(images))
    return mean, variances, basis @ directions


def _flat(images: NDArray) -> Tensor:
    """(B, …) as (B, d) float64."""
    return torch.from_numpy(images.reshape(len(images), -1).astype(np.float64))


def linear_oracle(images: NDArray[np.uint8], cache_dir: Path, manifest_id: str) -> LinearOracle:
    """The oracle of a prepared array, fitted once and kept on disk.

    A file that is cut, altered or of another shape is made again.

    Args:
        images: (N, H, W, 3) uint8, may be memory-mapped.
        cache_dir: folder of the cache.
        manifest_id: identifies the array: source, split and preparation.

    Raises:
        UserError: as ``fit_linear_oracle``.
    """
    key = {"version": _VERSION, "manifest": manifest_id, "n": len(images)}
    dim = images[0].size if len(images) else 0
    return _kept(cache_dir, key, dim, lambda: fit_linear_oracle(images))


def latent_oracle(latents: TrainingLatents, cache_dir: Path, manifest_id: str) -> LinearOracle:
    """As ``linear_oracle``, of latents.

    Args:
        latents: of the images of a prepared array.
        cache_dir: folder of the cache.
        manifest_id: identifies the array.

    Raises:
        UserError: as ``fit_latent_oracle``.
    """
    key = {"version": _VERSION, "manifest": manifest_id, "n": latents.num_images}
    key |= {"vae": latents.vae, "scale": latents.scale}
    dim = latents.moments[0, 0].size
    return _kept(cache_dir, key, dim, lambda: fit_latent_oracle(latents))


def _kept(
    cache_dir: Path, key: dict[str, Any], dim: int, fit: Callable[[], LinearOracle]
) -> LinearOracle:
    """The stored oracle of a key, else the one that is fitted now and stored."""
    path = cache_dir / f"linear-oracle-{sha256_of_json(key)[:16]}.npz"
    cached = _read_cached(path, key["n"], dim)
    if cached is not None:
        return cached
    oracle = fit()
    with atomic_write(path) as handle:
        np.savez(
            handle,
            mean=oracle.mean.numpy(),
            eigenvalues=oracle.eigenvalues.numpy(),
            eigenvectors=oracle.eigenvectors.numpy(),
        )
    return oracle


def _read_cached(path: Path, n: int, dim: int) -> LinearOracle | None:
    """The stored oracle, or None where there is no whole file (zip entries carry a CRC)."""
    wanted = {
        "mean": Wanted("<f8", (dim,)),
        "eigenvalues": Wanted("<f8", (None,)),
        "eigenvectors": Wanted("<f8", (dim, None)),
    }
    try:
        found = read_npz(path, wanted, 8 * dim * (dim + 2))
    except (OSError, UserError):
        return None
    mean, values, vectors = (torch.from_numpy(found[name]) for name in wanted)
    return LinearOracle(mean, values, vectors, n) if vectors.shape[1] == len(values) else None
