"""The data of the theory: x = α₁M₁z₁ + α₂M₂z₂, with α₁ ≫ α₂.

M = [M₁|M₂] has orthonormal columns, by QR of keyed normals. The entries of z₁ and z₂ are 0 or 1,
each 1 with probability p. A group without any feature is rejected: z₁ ≠ 0 and z₂ ≠ 0, *each on its
own*. So both groups have the same law, independent of each other: a z with k > 0 ones has the
probability p^k (1 − p)^(d − k)/(1 − (1 − p)^d).

No draw is repeated. The position of the first 1 has a truncated geometric law; before it are zeros,
after it free Bernoulli entries. This is the law that rejection has, from one uniform per entry.

A sample is a function of (seed, stream, index, step, variant), as every draw is. Many seeds are
drawn at once.

Source: docs/theory.md, The data.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mindiffusion.noise import Stream, normals, uniforms
from mindiffusion.theory.setting import TwoFeatureConfig


@dataclass(frozen=True, eq=False)
class Features:
    """The features of some seeds, float64.

    Attributes:
        directions: (S, 2d, D), rows M₁ⱼ of the first group, then those of the second, of length 1.
        amplitudes: (2d,), α₁ for each of the first group, then α₂.
        share: probability p of a feature before rejection.
    """

    directions: Tensor
    amplitudes: Tensor
    share: float

    @property
    def num_features(self) -> int:
        """Features of each group, d."""
        return len(self.amplitudes) // 2

    def samples(self, z: Tensor) -> Tensor:
        """Samples x of codes z (S, …, 2d): (S, …, D), in the dtype of z."""
        scaled = self.directions.to(z.dtype) * self.amplitudes.to(z.dtype)[:, None]
        flat = torch.bmm(z.flatten(1, -2), scaled)
        return flat.view(*z.shape[:-1], -1)

    def parts(self, x: Tensor) -> Tensor:
        """Coordinates of x (S, N, D) along the features: (S, N, 2d)."""
        return torch.bmm(x, self.directions.to(x.dtype).transpose(1, 2))


def features_of(config: TwoFeatureConfig, seeds: list[int]) -> Features:
    """The features of some seeds; each one's are the same among any others.

    The sign of each direction is that which R's diagonal makes positive, so that QR is unique and
    M has the uniform (Haar) law.
    """
    d, size = config.num_features, config.ambient_dim
    directions = []
    for seed in seeds:
        index = torch.arange(2 * d)
        rows = normals(seed, Stream.FEATURE_DIRECTIONS, index, 0, (size,)).double()
        q, r = torch.linalg.qr(rows.T)
        directions.append((q * r.diagonal().sign()).T)
    amplitudes = torch.tensor([config.alpha1] * d + [config.alpha2] * d, dtype=torch.float64)
    return Features(torch.stack(directions), amplitudes, config.share)


def codes(
    config: TwoFeatureConfig,
    seed: Tensor,
    stream: Stream,
    index: Tensor,
    step: int | Tensor,
    variant: int | Tensor = 0,
) -> Tensor:
    """The features that samples have, z = (z₁, z₂): (N, 2d) float32 of 0 and 1.

    Args:
        config: d and p.
        seed: (N,) int64, one for each sample, or of one number.
        stream: what the samples are for.
        index: (N,) int64, position in the batch, or number of the sample.
        step: training step, or 0 of samples that have a number; or (N,).
        variant: of the run; or (N,).
    """
    d, p = config.num_features, config.share
    u = uniforms(seed, stream, index, step, 2 * d, variant).view(-1, 2, d)
    first = torch.searchsorted(_first_at_most(d, p), u[..., :1].double(), right=True)
    place = torch.arange(d)
    return ((place == first) | ((place > first) & (u < p))).float().flatten(1)


def _first_at_most(d: int, p: float) -> Tensor:
    """Probability that the first 1 of a code z ≠ 0 is at places 0 … k, for k = 0 … d − 2."""
    if p == 1:
        return torch.ones(d - 1, dtype=torch.float64)
    place = torch.arange(1, d, dtype=torch.float64)
    none = math.log1p(-p)
    return torch.expm1(place * none) / math.expm1(d * none)
