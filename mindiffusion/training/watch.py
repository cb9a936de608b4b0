"""What the steps since the last look gave: losses, noise times, gradient norms.

Everything stays on the device, in buffers of fixed size, until a log point or a checkpoint asks:
no step waits for the device. What was read but not yet logged is part of a run's state, so that a
log line is the same whether or not the run was interrupted.
"""

import math
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mindiffusion.training.ranks import Ranks

VOLATILE = ("images_per_second", "data_wait", "memory_gib", "train_seconds")
"""Fields of a log entry in which two equal runs may differ: clocks and memory."""

NUM_QUARTERS = 4
_SUM = slice(0, NUM_QUARTERS)
_COUNT = slice(NUM_QUARTERS, 2 * NUM_QUARTERS)
_GRAD_NORM = 2 * NUM_QUARTERS
_BAD_LOW, _BAD_HIGH = _GRAD_NORM + 1, _GRAD_NORM + 2
_WIDTH = _BAD_HIGH + 1


@dataclass(frozen=True)
class Divergence:
    """The first number that was not finite.

    Attributes:
        step: optimizer steps done when it showed.
        rank: whose sample it was; None for the gradient, which all ranks share.
        t_range: noise times in (0, 1] of the samples at fault; None for the gradient.
    """

    step: int
    rank: int | None
    t_range: tuple[float, float] | None


class Watch:
    """Collects every step of a run and sums it up when asked, over all ranks.

    Args:
        ranks: this process among its peers.
        capacity: steps between two readings, at most.
        share: images of this rank in a step.
        device: where the losses are.
        dtype: of the losses.
        on_losses: called at each reading with the mean loss of each step since the last one.
        on_images: called then with noise times and losses, (S, B) each, of all images of these
            steps in the global batch's order; None: ranks need not tell each other.
    """

    def __init__(
        self,
        ranks: Ranks,
        capacity: int,
        share: int,
        device: torch.device,
        dtype: torch.dtype,
        on_losses: Callable[[list[float]], None] = lambda losses: None,
        on_images: Callable[[np.ndarray, np.ndarray], None] | None = None,
    ) -> None:
        self._ranks = ranks
        self._on_losses = on_losses
        self._on_images = on_images
        self._losses = torch.zeros(capacity, share, device=device, dtype=dtype)
        self._times = torch.zeros(capacity, share, device=device, dtype=dtype)
        self._grad_norms = torch.zeros(capacity, device=device, dtype=dtype)
        self._count = 0
        self.unlogged = torch.zeros(0, _GRAD_NORM + 1, dtype=torch.float64)

    def add_losses(self, first: int, losses: Tensor, times: Tensor) -> None:
        """Keep one micro-batch of the current step.

        Args:
            first: position of its first image in this rank's share.
            losses: (B,) mean squared ε-error of each image.
            times: (B,) noise times in (0, 1].
        """
        place = slice(first, first + len(losses))
        self._losses[self._count, place].copy_(losses)
        self._times[self._count, place].copy_(times)

    def end_step(self, grad_norm: Tensor) -> None:
        """Close the current step with the norm of its whole gradient, a scalar."""
        self._grad_norms[self._count].copy_(grad_norm)
        self._count += 1

    def read(self, step: int) -> Divergence | None:
        """Take in the steps since the last reading, from all ranks.

        Args:
            step: optimizer steps done.

        Returns:
            What was not finite first, the same on all ranks, or None.
        """
        count, self._count = self._count, 0
        losses, times, norms = (
            kept[:count].double().cpu().numpy()
            for kept in (self._losses, self._times, self._grad_norms)
        )
        by_rank = self._ranks.gather(torch.from_numpy(summarise(losses, times, norms))).numpy()
        steps = np.arange(step - count + 1, step + 1)
        diverged = first_divergence(by_rank, steps)
        if diverged is None:
            merged = by_rank[..., : _GRAD_NORM + 1].sum(0)
            merged[:, _GRAD_NORM] = by_rank[0, :, _GRAD_NORM]
            self.unlogged = torch.cat((self.unlogged, torch.from_numpy(merged)))
            self._on_losses((merged[:, _SUM].sum(1) / merged[:, _COUNT].sum(1)).tolist())
            if self._on_images is not None:
                images = self._ranks.gather(torch.from_numpy(np.stack([times, losses])))
                self._on_images(*images.permute(1, 2, 0, 3).flatten(2).numpy())
        return diverged

    def entry(self) -> dict[str, object]:
        """Loss and gradient norm over the steps not logged yet; these count as logged then."""
        rows = self.unlogged.numpy()
        # A copy: a view would carry the old rows into every checkpoint.
        self.unlogged = self.unlogged[:0].clone()
        sums, counts = rows[:, _SUM].sum(0), rows[:, _COUNT].sum(0)
        return {
            "loss": float(sums.sum() / counts.sum()),
            "loss_by_t": [float(s / c) if c else None for s, c in zip(sums, counts, strict=True)],
            "grad_norm": float(rows[:, _GRAD_NORM].mean()),
        }


def summarise(losses: np.ndarray, times: np.ndarray, grad_norms: np.ndarray) -> np.ndarray:
    """Each step as a row: loss sums and counts by quarter of t, gradient norm, t of bad losses.

    Args:
        losses: (S, B) per-image losses of S steps.
        times: (S, B) noise times in (0, 1]; quarter k holds k/4 < t ≤ (k + 1)/4.
        grad_norms: (S,).

    Returns:
        (S, 11) float64: four sums, four counts, the norm, and the lowest and highest t of losses
        that are not finite (∞ and −∞ where all are).
    """
    rows = np.zeros((len(losses), _WIDTH))
    # Noise times are rounded, which must not move a counted level over an edge, nor one near 0 out.
    quarter = np.maximum(np.ceil(times * NUM_QUARTERS - 1e-5) - 1, 0)
    for k in range(NUM_QUARTERS):
        inside = quarter == k
        rows[:, k] = np.where(inside, losses, 0.0).sum(1)
        rows[:, NUM_QUARTERS + k] = inside.sum(1)
    rows[:, _GRAD_NORM] = grad_norms
    bad = ~np.isfinite(losses)
    rows[:, _BAD_LOW] = np.where(bad, times, math.inf).min(1)
    rows[:, _BAD_HIGH] = np.where(bad, times, -math.inf).max(1)
    return rows


def first_divergence(by_rank: np.ndarray, steps: np.ndarray) -> Divergence | None:
    """The first step with a loss or a gradient norm that is not finite.

    Args:
        by_rank: (world, S, 11) rows of ``summarise``.
        steps: (S,) their step numbers.
    """
    bad_loss = np.isfinite(by_rank[..., _BAD_LOW])
    bad = (bad_loss | ~np.isfinite(by_rank[..., _GRAD_NORM])).any(0)
    if not bad.any():
        return None
    at = int(bad.argmax())
    if not bad_loss[:, at].any():
        return Divergence(int(steps[at]), None, None)
    rank = int(bad_loss[:, at].argmax())
    low, high = by_rank[rank, at, [_BAD_LOW, _BAD_HIGH]]
    return Divergence(int(steps[at]), rank, (float(low), float(high)))


def peak_memory_gib(device: torch.device) -> float:
    """Most memory this process has held: of the GPU if it computes there, else resident, GiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**30 if sys.platform == "darwin" else peak / 2**20
