"""Sparsity shared by the networks: channel counts, masks, saliency, group norms.

Capacity is what a network does with a stage's sparsity or penalty. Everything here is a pure
function of its inputs (and a seed), so all ranks agree without talking to each other.
"""

import contextlib
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from mindiffusion.network import Network, ProbeBatch
from mindiffusion.noise import Stream, random_bits
from mindiffusion.process import eps_error


class MaskedNetwork(Protocol):
    """A network whose forward takes a per-sample channel mask (B, C)."""

    channel_mask: Tensor

    def forward(self, x: Tensor, told: Tensor, *, channel_mask: Tensor) -> Tensor:
        """Predict the noise."""


def active_count(num_channels: int, sparsity: float) -> int:
    """Number of channels switched on: num_channels · (1 − sparsity), rounded half up.

    At 64 channels: 13, 26, 38, 51, 64 for sparsity .8, .6, .4, .2, 0. A guard of 1e-9 keeps
    float error (64 · (1 − .8) = 12.799…) from deciding; at least one channel stays on.

    Args:
        num_channels: channels in all.
        sparsity: in [0, 1).
    """
    return max(1, math.floor(num_channels * (1.0 - sparsity) + 0.5 + 1e-9))


def keyed_order(seed: int, num_channels: int, draw: int) -> Tensor:
    """A permutation of the channels, (num_channels,) int64: pure function of (seed, draw)."""
    bits = random_bits(seed, Stream.CHANNELS, torch.arange(num_channels), draw, 1)[:, 0]
    return torch.argsort(bits, stable=True)


def initial_mask(seed: int, num_channels: int, sparsity: float) -> Tensor:
    """Mask (num_channels,) of 0 and 1, with a keyed permutation's first channels on."""
    mask = torch.zeros(num_channels)
    mask[keyed_order(seed, num_channels, 0)[: active_count(num_channels, sparsity)]] = 1.0
    return mask


@contextlib.contextmanager
def held(mask: Tensor, on: Tensor) -> Iterator[None]:
    """A context in which a mask (C,) is 1 where ``on`` (C,) is true, else 0; then as before."""
    kept = mask.clone()
    mask.copy_(on)
    try:
        yield
    finally:
        mask.copy_(kept)


def all_on(mask: Tensor) -> contextlib.AbstractContextManager[None]:
    """A context in which all entries of a mask are 1; after it they are as before."""
    return held(mask, torch.ones_like(mask))


def channels_to_grow(scores: Tensor, mask: Tensor, num_to_grow: int, tie_order: Tensor) -> Tensor:
    """Indices of the masked channels with the highest scores.

    Args:
        scores: (C,), higher first.
        mask: (C,), 1 where already on; these are never chosen.
        num_to_grow: how many.
        tie_order: (C,) permutation; of equal scores the one earlier in it wins.
    """
    order = tie_order.to(scores.device)
    by_score = order[torch.argsort(scores[order], descending=True, stable=True)]
    return by_score[mask[by_score] == 0][:num_to_grow]


def channel_saliency(network: MaskedNetwork, batches: Sequence[ProbeBatch]) -> tuple[Tensor, float]:
    """Saliency s_c = Σ_b (∂ℓ_b/∂m_c)² of every mask entry, and how well two halves agree.

    ℓ_b is sample b's mean squared ε-error and m_c the mask's entry, so the derivative is not
    zero for a channel that is off. Squares of per-sample derivatives, summed, depend on no batch
    split (docs/methods.md, Saliency). One mask row per sample makes autograd return them in one
    pass.

    Args:
        network: takes a mask of shape (B, C).
        batches: probe batches, drawn in the new stage's window.

    Returns:
        (C,) float64 saliency, and the Spearman correlation between the scores of the even and
        the odd samples (NaN if one of them is constant).
    """
    halves = [torch.zeros(len(network.channel_mask), dtype=torch.float64) for _ in range(2)]
    for batch in batches:
        mask = network.channel_mask.expand(len(batch.noise), -1).clone().requires_grad_()
        # ``forward`` is never compiled: a compiled probe would cost minutes, and what the compiler
        # makes of the next training step would depend on whether a run was resumed just here.
        masked = functools.partial(network.forward, channel_mask=mask)
        said = batch.process.predict(masked, batch.x_t, batch.level, batch.condition)
        (gradient,) = torch.autograd.grad(eps_error(said, batch.noise).sum(), mask)
        squares = gradient.double().square().cpu()
        for half, total in enumerate(halves):
            total += squares[half::2].sum(0)
    return halves[0] + halves[1], rank_correlation(halves[0], halves[1])


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Spearman correlation of two vectors (C,); NaN if one of them is constant."""
    from scipy.stats import spearmanr

    if a.unique().numel() < 2 or b.unique().numel() < 2:
        return math.nan
    return float(spearmanr(a.cpu().numpy(), b.cpu().numpy()).statistic)


def conv_layers(network: nn.Module) -> Iterator[tuple[str, nn.Conv2d | nn.ConvTranspose2d]]:
    """All convolutions and transposed convolutions of a network, with their names."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            yield name, module


def group_norms(layer: nn.Conv2d | nn.ConvTranspose2d) -> Tensor:
    """L2 norm of each output channel's weights, (out_channels,).

    ``ConvTranspose2d.weight`` is (in, out, kH, kW): its output channels are along dim 1.
    The derivative at an all-zero group is 0, not NaN.
    """
    out_dim = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
    return torch.linalg.vector_norm(layer.weight.transpose(0, out_dim).flatten(1), dim=1)


@torch.no_grad()
def weight_movement(network: Network, initial: Network) -> dict[str, float]:
    """Relative movement ‖w − w₀‖ / ‖w₀‖ of the weights of units that are on, and of those off.

    Args:
        network: trained, on any device; with a mask.
        initial: the same network at the start, on the CPU.

    Returns:
        "<place>-on" and "<place>-masked" for each place of the mask's weights, averaged over units;
        groups without a unit are left out.
    """
    mask = network.mask()
    assert mask is not None
    after, before = network.state_dict(), initial.state_dict()
    movement = {}
    for place, name in mask.weights.items():
        start = before[name].double().flatten(1)
        moved = (after[name].cpu().double().flatten(1) - start).norm(dim=1) / start.norm(dim=1)
        for group, chosen in (("on", mask.is_on), ("masked", ~mask.is_on)):
            if bool(chosen.any()):
                movement[f"{place}-{group}"] = float(moved[chosen].mean())
    return movement


GONE_BELOW = 0.01
"""A group of weights counts as gone below this share of its norm at the start."""
Norms = Mapping[str, Tensor]
"""Norms of weight groups, block → (groups,), as ``Network.group_norms`` gives them."""


def vanished_groups(after: Norms, before: Norms) -> dict[str, float]:
    """Share of groups that are gone, by block.

    Args:
        after: of a trained network, on any device.
        before: of the same network at the start, on the CPU.
    """
    return {
        block: float((norms.cpu() < GONE_BELOW * before[block]).double().mean())
        for block, norms in after.items()
    }


def group_norm_summary(after: Norms, before: Norms) -> dict[str, float]:
    """What a group penalty did: "group-norm-mean" and "group-norm-share-below-1%".

    Args:
        after: of a trained network, on any device.
        before: of the same network at the start, on the CPU; groups below 1 % of their norm there
            are counted.
    """
    ends, starts = (
        torch.cat([norms.double().cpu() for norms in one.values()]) for one in (after, before)
    )
    return {
        "group-norm-mean": float(ends.mean()),
        "group-norm-share-below-1%": float((ends < GONE_BELOW * starts).double().mean()),
    }
