"""What the theory says of trained networks, as numbers. Pure functions: stacked tensors → arrays.

Each docstring names the sentence of the theory that it tests; docs/theory.md has them all. R runs,
H hidden neurons, D numbers of a sample, d features in each of two groups, L noise levels.

A neuron is described by the squared cosines of its weights with the features, s_j = cos²(w, M_j).
As the features are orthonormal, they add up to at most 1; what is missing lies outside all of them.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mindiffusion.errors import UserError
from mindiffusion.theory.networks import Weights

Array = NDArray[np.float64]
DEAD_BELOW = 0.01
"""A neuron counts as dead below this share of its network's largest strength."""
_OUTSIDE_BELOW = 0.5
"""Less of a neuron's squared length than this lies in features: it reads no feature."""


def alignment(weights: Tensor, directions: Tensor) -> Array:
    """Cosine of every neuron's weights with every feature: (R, H, 2d), 0 of weights of length 0.

    Tests: "neurons align with the dominant features M₁ in stage I, a separate set of neurons with
    M₂ in stage II".

    Args:
        weights: (R, H, D), incoming or outgoing.
        directions: (R, 2d, D), the features of each run's seed, of length 1.
    """
    weights = weights.double()
    products = torch.bmm(weights, directions.double().transpose(1, 2))
    length = torch.linalg.vector_norm(weights, dim=2, keepdim=True)
    return np.asarray((products / length.clamp(min=torch.finfo(torch.float64).tiny)).numpy())


def strength(weights: Weights, mask: Tensor) -> Array:
    """How much a neuron can add to the answer, (R, H): ‖incoming‖·‖outgoing‖, 0 where it is off.

    relu is positively homogeneous, so a factor moved from one to the other changes nothing.

    Args:
        weights: of R runs.
        mask: (R, H), 1 where a neuron is on.
    """
    norms = [
        torch.linalg.vector_norm(w.double(), dim=2) for w in (weights.incoming, weights.outgoing)
    ]
    return np.asarray((norms[0] * norms[1] * mask.double()).numpy())


def is_dead(strengths: Array) -> NDArray[np.bool_]:
    """Neurons below ``DEAD_BELOW`` of the largest strength in their network, (R, H)."""
    most = strengths.max(axis=1, keepdims=True)
    return np.asarray(strengths <= DEAD_BELOW * most)


def neuron_shares(cosines: Array, strengths: Array, purity: float) -> dict[str, Array]:
    """Shares of neurons by what they read, each (R,); together 1.

    Tests: "each neuron specializes to a single feature direction" with a curriculum, and "neurons
    that encode M₂ capture M₁ too" without.

    With S = Σ_j s_j, the part of a neuron's squared length that lies in features:

    - ``dead``: of no strength (``is_dead``).
    - ``outside``: alive, but S < ½: it reads no feature.
    - ``pure1``, ``pure2``: its largest s_j is at least ``purity`` · S, and j is of M₁ or of M₂.
    - ``mixed``: what is left.

    Args:
        cosines: (R, H, 2d), of ``alignment``.
        strengths: (R, H), of ``strength``.
        purity: least share of one feature, in (0, 1).

    Raises:
        UserError: a purity outside.
    """
    if not 0 < purity < 1:
        raise UserError(f"purity {purity:g}: give a share of a neuron's length in (0, 1).")
    squares = cosines**2
    inside, largest = squares.sum(axis=2), squares.argmax(axis=2)
    dead = is_dead(strengths)
    outside = ~dead & (inside < _OUTSIDE_BELOW)
    reads = ~dead & ~outside
    pure = reads & (squares.max(axis=2) >= purity * inside)
    is_second = largest >= cosines.shape[2] // 2
    kinds = {"dead": dead, "outside": outside, "pure1": pure & ~is_second}
    kinds |= {"pure2": pure & is_second, "mixed": reads & ~pure}
    return {name: kind.mean(axis=1) for name, kind in kinds.items()}


def across_groups(cosines: Array, strengths: Array, purity: float) -> Array:
    """Share of all neurons that mix M₁ with M₂, (R,): the mixed ones that the theory is of.

    Tests: "neurons that encode M₂ capture M₁ too". A mixed neuron may also mix features of one
    group; here each group has more than 1 − ``purity`` of its squared length in features.

    Args:
        cosines: (R, H, 2d), of ``alignment``.
        strengths: (R, H), of ``strength``.
        purity: as in ``neuron_shares``, in (0, 1).
    """
    squares = cosines**2
    inside, d = squares.sum(axis=2), cosines.shape[2] // 2
    second = squares[..., d:].sum(axis=2)
    reads = ~is_dead(strengths) & (inside >= _OUTSIDE_BELOW)
    smaller = np.minimum(second, inside - second)
    return np.asarray((reads & (smaller > (1.0 - purity) * inside)).mean(axis=1))


def feature_entropy(cosines: Array, strengths: Array) -> Array:
    """How evenly neurons spread over features, in [0, 1], without a threshold: (R,).

    Tests the same sentences as ``neuron_shares``. Of p_j = s_j/Σs the entropy −Σ p_j ln p_j is
    divided by ln 2d: 0 of a pure neuron, 1 of one that has all features alike. It is averaged over
    neurons by their strength, so dead ones hardly count.

    Args:
        cosines: (R, H, 2d).
        strengths: (R, H).
    """
    squares = cosines**2
    total = squares.sum(axis=2, keepdims=True)
    p = squares / np.where(total > 0, total, 1.0)
    logs = np.log(np.where(p > 0, p, 1.0))
    entropy = -(p * logs).sum(axis=2) / np.log(cosines.shape[2])
    return _weighted(entropy, strengths)


def first_in_second(cosines: Array, strengths: Array) -> Array:
    """M₁ content of M₂ neurons, in [0, ½]: (R,), NaN where no living neuron reads M₂ most.

    Tests: "without a curriculum, neurons encoding weak features M₂ inevitably capture dominant
    features M₁ simultaneously". M₂ neurons are those with more of M₂ than of M₁; the content is
    their Σ s_j over M₁ relative to that over all features, averaged by strength.

    Args:
        cosines: (R, H, 2d).
        strengths: (R, H).
    """
    d = cosines.shape[2] // 2
    first, second = ((cosines**2)[..., part].sum(axis=2) for part in (slice(d), slice(d, None)))
    chosen = (second > first) & ~is_dead(strengths)
    content = first / np.where(chosen, first + second, 1.0)
    return _weighted(content, np.where(chosen, strengths, 0.0))


def features_covered(cosines: Array, strengths: Array, purity: float) -> tuple[Array, Array]:
    """Share of the features of M₁ and of M₂ that a pure living neuron reads: (R,) each.

    Tests: "near-perfect alignment" with every feature, in both stages; and, over milestones,
    "dominant large-scale features are learned before weaker fine-grained features". The cosine
    counts with its sign: a neuron with −M_j is silent where the feature is present.

    Args:
        cosines: (R, H, 2d), of incoming weights.
        strengths: (R, H).
        purity: least squared cosine, in (0, 1).
    """
    best = best_alignment(cosines, strengths)
    covered = (best > 0) & (best**2 >= purity)
    d = covered.shape[1] // 2
    return covered[:, :d].mean(axis=1), covered[:, d:].mean(axis=1)


def best_alignment(cosines: Array, strengths: Array) -> Array:
    """The largest cosine of any living neuron with each feature, (R, 2d); −1 without one.

    By chance alone it is far from 0: of 64 neurons at their start in 24 dimensions about .45. When
    a feature is learned ``features_covered`` tells, milestone by milestone.

    Args:
        cosines: (R, H, 2d), of incoming weights.
        strengths: (R, H).
    """
    alive = np.where(is_dead(strengths)[..., None], -1.0, cosines)
    return np.asarray(alive.max(axis=1))


def capacity_in_use(strengths: Array) -> dict[str, Array]:
    """How much of the network is in use, (R,) each.

    Tests: "sparsity reserves clean capacity for later features". ``living`` is the share of neurons
    that are not dead; ``effective`` is (Σs)²/(H·Σs²) of the strengths s, the participation ratio,
    which needs no threshold.

    Args:
        strengths: (R, H).
    """
    squares = (strengths**2).sum(axis=1)
    ratio = strengths.sum(axis=1) ** 2 / np.where(squares > 0, squares, 1.0)
    return {
        "living": 1.0 - is_dead(strengths).mean(axis=1),
        "effective": ratio / strengths.shape[1],
    }


def low_and_high(by_level: Array, times: Array, low_up_to: float, high_from: float) -> Array:
    """Means over the levels of low and of high noise: (R, L) → (R, 2).

    Tests: "at low noise the error is o(1) with a curriculum and Θ(1) without; at high noise it is
    o(1) for both".

    Args:
        by_level: any error by noise level.
        times: (L,) noise times of the levels.
        low_up_to: the highest noise time that is low, in (0, 1).
        high_from: the lowest one that is high, in (0, 1).

    Raises:
        UserError: a bound outside, or one beyond which there is no level.
    """
    sides = []
    bounds = (("low_up_to", low_up_to), ("high_from", high_from))
    for (name, bound), chosen in zip(bounds, (times <= low_up_to, times >= high_from), strict=True):
        if not 0 < bound < 1 or not chosen.any():
            raise UserError(
                f"{name} {bound:g}: give a noise time in (0, 1) with a level beyond it; the levels "
                f"are from {times.min():g} to {times.max():g}."
            )
        sides.append(by_level[:, chosen].mean(axis=1))
    return np.stack(sides, axis=1)


def _weighted(values: Array, by: Array) -> Array:
    """Mean over the last axis by weights ≥ 0; NaN where all are 0."""
    total = by.sum(axis=1)
    mean = (values * by).sum(axis=1) / np.where(total > 0, total, 1.0)
    return np.where(total > 0, mean, np.nan)
