"""The oracle: the exact posterior mean E[x | y] of the theory's data, the best of all denoisers.

Of y = alpha·x + sigma·ε, with σ = sigma/alpha, all there is to know lies in the coordinates
c_i = Mᵢᵀy/alpha = αᵢzᵢ + σεᵢ, as M is orthonormal and the noise isotropic. Without rejection the
entries of z are independent given y:

    q_i = P(z_i = 1 | c_i) = sigmoid(l_i),  l_i = ln(p/(1 − p)) + (αᵢc_i − αᵢ²/2)/σ².

A group without features is rejected, which divides by the probability that it has one. The event
z_i = 1 lies inside it, so

    E[z_i | y] = q_i/(1 − Π_j(1 − q_j)), over the group of i.

At low noise all q_j of a group can be as small as e^{−10⁵} though one feature must be there. So
this is computed in logarithms: ln Π(1 − q_j) = −Σ softplus(l_j), and its complement by expm1, or,
where that is too small for a float, by logsumexp of the l_j themselves.

The oracle is told the noise level. A network without a time input is not, so its error cannot
reach the oracle's at every level. Source: docs/theory.md, The oracle.
"""

import math

import torch
from torch import Tensor

from mindiffusion.theory.two_features import Features

_TINY = -30.0
"""Below this ln, x and ln(1 + x) and 1 − e^{−x} are the same number in float64."""


def expected_codes(features: Features, y: Tensor, sigma: Tensor) -> Tensor:
    """E[z | y], (S, N, 2d) float64 in [0, 1].

    Args:
        features: of S seeds.
        y: (S, N, D) float64, noisy samples divided by alpha.
        sigma: σ = sigma/alpha > 0, float64 of a shape that broadcasts to (S, N).
    """
    amplitudes, p = features.amplitudes, features.share
    if p == 1:
        return torch.ones(*y.shape[:2], len(amplitudes), dtype=torch.float64)
    variance = sigma.square()[..., None]
    evidence = (amplitudes * features.parts(y) - amplitudes.square() / 2) / variance
    logits = math.log(p) - math.log1p(-p) + evidence
    grouped = logits.unflatten(-1, (2, -1))
    present = torch.nn.functional.logsigmoid(grouped)
    return (present - _log_any(grouped)).exp().clamp(max=1.0).flatten(-2)


def _log_any(logits: Tensor) -> Tensor:
    """ln(1 − Π_j(1 − sigmoid(l_j))) over the last axis, which is kept: (…, d) → (…, 1)."""
    softplus = torch.nn.functional.softplus(logits)
    # ln softplus(l): l itself where e^l is small, also where it underflows.
    log_softplus = torch.where(logits < _TINY, logits, softplus.log())
    log_sum = log_softplus.logsumexp(-1, keepdim=True)
    return torch.where(log_sum < _TINY, log_sum, (-torch.expm1(-log_sum.exp())).log())


def posterior_mean(features: Features, y: Tensor, sigma: Tensor) -> Tensor:
    """E[x | y], (S, N, D) float64; arguments as of ``expected_codes``."""
    return features.samples(expected_codes(features, y, sigma))


def posterior_variance(features: Features, y: Tensor, sigma: Tensor) -> Tensor:
    """E[‖x − E[x | y]‖² | y], the oracle's expected squared error of each sample, (S, N) float64.

    Entries are 0 or 1, so var(z_i | y) = e_i(1 − e_i) with e = E[z | y]; M is orthonormal, so
    covariances between entries do not count. Its mean over samples is the oracle's error, with less
    spread than the squared errors themselves. Arguments as of ``expected_codes``.
    """
    expected = expected_codes(features, y, sigma)
    return (features.amplitudes.square() * expected * (1.0 - expected)).sum(-1)
