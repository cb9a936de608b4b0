"""Errors of trained networks by noise level beside the oracle's, on samples that no run has seen.

For every answer x̂, E‖x̂ − x‖² = E‖E[x | y] − x‖² + E‖x̂ − E[x | y]‖². The last term is the *excess*
over the oracle. It is measured by itself: never below 0, and free of the spread of the first.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mindiffusion.noise import Stream, normals
from mindiffusion.process import Level, Process, add_noise
from mindiffusion.theory import measures
from mindiffusion.theory.linear import code_moments
from mindiffusion.theory.measures import Array
from mindiffusion.theory.networks import Weights, answers
from mindiffusion.theory.oracle import posterior_mean, posterior_variance
from mindiffusion.theory.setting import TheoryEvaluation, TheoryRun
from mindiffusion.theory.simulation import Snapshot, process_of
from mindiffusion.theory.two_features import Features, codes, features_of

Samples = Literal["fresh", "trained"]


@dataclass(frozen=True, eq=False)
class Errors:
    """Squared errors of R runs at L noise levels, summed over a sample's numbers.

    Attributes:
        times: (L,) noise times.
        sigma: (L,) σ, noise over signal.
        excess: (R, L), E‖x̂ − E[x | y]‖².
        parts: (R, L, 3), the excess along M₁, along M₂, and outside of both.
        blind: (R, L, 2), E‖E[x_g | y] − E x_g‖² of both groups g, on the same samples: the excess
            along a group of the best denoiser that knows nothing of it but its mean.
        error: (R, L), mean ‖x̂ − x‖² on the same samples.
        oracle: (R, L), the oracle's mean ‖E[x | y] − x‖² on the same samples.
        oracle_expected: (R, L), the oracle's mean expected error (``posterior_variance``).
    """

    times: Array
    sigma: Array
    excess: Array
    parts: Array
    blind: Array
    error: Array
    oracle: Array
    oracle_expected: Array


def errors(snapshot: Snapshot, evaluation: TheoryEvaluation, of: Samples = "fresh") -> Errors:
    """Errors of a milestone's runs.

    Arms of a seed are measured on the same samples and noise. They depend on neither the other runs
    nor the training, but for ``of="trained"``.

    Args:
        snapshot: of the simulation.
        evaluation: how many samples and levels.
        of: fresh samples; or those of the training set, where it is limited, with fresh noise:
            the difference is over-fitting.

    Raises:
        UserError: more levels than the process has.
    """
    process = process_of(snapshot.runs[0])
    levels = process.grid(evaluation.num_levels)
    count, number = len(snapshot.runs), len(levels)
    tables = {name: np.zeros((count, number)) for name in _NAMES}
    parts, blind = np.zeros((count, number, 3)), np.zeros((count, number, 2))
    for seed in sorted({run.seed for run in snapshot.runs}):
        members = [i for i, run in enumerate(snapshot.runs) if run.seed == seed]
        run, weights = snapshot.runs[members[0]], snapshot.weights.of(members)
        features = features_of(run.data, [seed])
        x = features.samples(_codes(run, evaluation.num_samples, of).double()[None])
        for place, level in enumerate(levels):
            noise = _noise(run, place, x)
            found = _at_level(process, level, features, x, noise, weights, snapshot.mask[members])
            parts[members, place] = found.pop("parts")
            blind[members, place] = found.pop("blind")
            for name, values in found.items():
                tables[name][members, place] = values
    sigma = np.array([float(level.sigma / level.alpha) for level in levels])
    times = np.array([level.time for level in levels])
    return Errors(times, sigma, parts=parts, blind=blind, **tables)


_NAMES = ("excess", "error", "oracle", "oracle_expected")


def _codes(run: TheoryRun, count: int, of: Samples) -> Tensor:
    seed = torch.tensor([run.seed])
    if of == "fresh":
        return codes(run.data, seed, Stream.HELD_OUT_SAMPLES, torch.arange(count), 0)
    index = torch.arange(min(count, run.data.num_train or count))
    return codes(run.data, seed, Stream.FIXED_SAMPLES, index, 0)


def _noise(run: TheoryRun, level: int, x: Tensor) -> Tensor:
    """Standard normal noise of one level, as x (1, N, D)."""
    index, shape = torch.arange(x.shape[1]), (x.shape[2],)
    return normals(run.seed, Stream.EVALUATION_NOISE, index, level, shape).double()[None]


def _at_level(
    process: Process,
    level: Level,
    features: Features,
    x: Tensor,
    noise: Tensor,
    weights: Weights,
    mask: Tensor,
) -> dict[str, Array]:
    """All errors of one seed's A runs at one level, (A,) each, "parts" (A, 3), "blind" (2,)."""
    x_t = add_noise(x.view(-1, x.shape[2], 1, 1), level, noise.view(-1, x.shape[2], 1, 1))
    y = (x_t.flatten(1) / float(level.alpha))[None]
    sigma = (level.sigma / level.alpha)[None]
    best = posterior_mean(features, y, sigma)
    expected = posterior_variance(features, y, sigma)[0]
    said = predicted(process, level, x_t, weights, mask)
    deviation = said - best
    along = features.parts(deviation.flatten(0, 1)[None])[0].view(*deviation.shape[:2], 2, -1)
    of_groups = along.square().sum(-1).mean(1)  # (A, 2)
    excess = deviation.square().sum(-1).mean(1)
    outside = (excess - of_groups.sum(1)).clamp(min=0.0)
    runs = len(said)
    return {
        "parts": torch.cat([of_groups, outside[:, None]], dim=1).numpy(),
        "blind": _blind(features, best).numpy(),
        "excess": excess.numpy(),
        "error": (said - x).square().sum(-1).mean(1).numpy(),
        "oracle": np.full(runs, float((best - x).square().sum(-1).mean())),
        "oracle_expected": np.full(runs, float(expected.mean())),
    }


def _blind(features: Features, best: Tensor) -> Tensor:
    """``Errors.blind`` of one seed from the oracle's answers (1, N, D): (2,)."""
    d = features.num_features
    mean = features.amplitudes * code_moments(d, features.share).diagonal()
    return (features.parts(best)[0] - mean).square().unflatten(1, (2, d)).sum(2).mean(0)


@torch.no_grad()
def predicted(
    process: Process, level: Level, x_t: Tensor, weights: Weights, mask: Tensor
) -> Tensor:
    """x̂₀ of A runs for the same noisy samples: (N, D, 1, 1) → (A, N, D) float64.

    Args:
        process: reads the answers.
        level: one level for all samples.
        x_t: noisy samples, float64.
        weights: of A runs.
        mask: (A, H).
    """
    found = []
    dtype = weights.incoming.dtype
    for place in range(len(mask)):
        own, own_mask = weights.of([place]), mask[[place]]

        def network(x: Tensor, told: Tensor, own: Weights = own, on: Tensor = own_mask) -> Tensor:
            return answers(own, x.flatten(1)[None], told[None], on).view_as(x)

        said = process.predict(network, x_t.to(dtype), level)
        found.append(said.x0.double().flatten(1))
    return torch.stack(found)


def neurons(snapshot: Snapshot, evaluation: TheoryEvaluation) -> dict[str, Array]:
    """All measures of ``measures`` that need a milestone's weights alone, by name.

    Returns:
        "cosines-in" and "cosines-out" (R, H, 2d); "strength" (R, H); "best-alignment" (R, 2d); and
        of shape (R,): "share-<kind>" of ``neuron_shares``, "across-groups", "within-group" (the
        other mixed ones), "mixed-of-living" and "across-of-living" (shares of the living neurons,
        NaN without any), "feature-entropy", "first-in-second", "covered1", "covered2", "living",
        "effective", and "on", the share of neurons that are on.
    """
    seeds = [run.seed for run in snapshot.runs]
    known = sorted(set(seeds))
    directions = features_of(snapshot.runs[0].data, known).directions
    own = directions[[known.index(seed) for seed in seeds]]
    read = measures.alignment(snapshot.weights.incoming, own)
    strengths = measures.strength(snapshot.weights, snapshot.mask)
    shares = measures.neuron_shares(read, strengths, evaluation.purity)
    covered = measures.features_covered(read, strengths, evaluation.purity)
    across = measures.across_groups(read, strengths, evaluation.purity)
    capacity = measures.capacity_in_use(strengths)
    living = np.where(capacity["living"] > 0, capacity["living"], np.nan)
    return {
        "cosines-in": read,
        "cosines-out": measures.alignment(snapshot.weights.outgoing, own),
        "strength": strengths,
        "best-alignment": measures.best_alignment(read, strengths),
        **{f"share-{kind}": share for kind, share in shares.items()},
        "across-groups": across,
        "within-group": shares["mixed"] - across,
        "mixed-of-living": shares["mixed"] / living,
        "across-of-living": across / living,
        "feature-entropy": measures.feature_entropy(read, strengths),
        "first-in-second": measures.first_in_second(read, strengths),
        "covered1": covered[0],
        "covered2": covered[1],
        **capacity,
        "on": snapshot.mask.double().mean(1).numpy(),
    }
