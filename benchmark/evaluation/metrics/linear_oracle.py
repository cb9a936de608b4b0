"""The best linear denoiser of the training images, from their mean and covariance.

With covariance V diag(λ) Vᵀ, the linear estimate of least squared error from x_t = α x₀ + σ ε is
x̂₀ = μ + α V diag(λ / (α²λ + σ²)) Vᵀ (x_t − α μ): Wiener's filter in the eigenbasis.
What a network knows beyond it is not in the mean and covariance of the data.

Cost: at 32 px (d = 3 · 32 · 32 = 3,072) one eigenvalue problem of 3,072 rows and 75 MB; at 64 px
(d = 12,288) 64 times the work and 1.2 GB, a graver matter than the networks it is held against.
Fewer images than d take a problem of as many rows as there are images.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mindiffusion.data.codec import GREY
from mindiffusion.errors import UserError
from mindiffusion.files import atomic_write, sha256_of_json
from mindiffusion.outside.arrays import Wanted, read_npz
from mindiffusion.process import Level, Prediction, from_x0

# Part of the cache key: raise it when the fit changes.
_VERSION = 1
_BATCH = 256


@dataclass(frozen=True)
class LinearOracle:
    """Mean and spectrum of images in [-1, 1], flattened as (3, H, W); float64 tensors.

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
            x_t: (B, 3, H, W), noisy images on the oracle's device.
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
    # Below this a variance is rounding noise.
    kept = variances > dim * torch.finfo(torch.float64).eps * variances.max().clamp_min(0)
    variances, directions = variances[kept].flip(0), directions[:, kept].flip(1)
    rank = len(variances)
    return LinearOracle(
        mean=(mean / GREY - 1).view(height, width, 3).permute(2, 0, 1).flatten(),
        eigenvalues=variances / GREY**2,
        eigenvectors=directions.view(height, width, 3, rank).permute(2, 0, 1, 3).reshape(dim, rank),
        n=len(images),
    )


def _by_value(images: NDArray[np.uint8]) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (d,), eigenvalues (d,) and eigenvectors (d, d) in grey levels, from the d × d matrix.

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
    variances, directions = torch.linalg.eigh(products / len(images) - torch.outer(mean, mean))
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


def _flat(images: NDArray[np.uint8]) -> Tensor:
    """(B, H, W, 3) uint8 as (B, d) float64."""
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
    path = cache_dir / f"linear-oracle-{sha256_of_json(key)[:16]}.npz"
    cached = _read_cached(path, len(images), images[0].size if len(images) else 0)
    if cached is not None:
        return cached
    oracle = fit_linear_oracle(images)
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
