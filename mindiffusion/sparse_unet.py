"""SparseNaiveUnet: NaiveUnet with a hard channel mask, grown stage by stage.

Source: docs/methods.md, Channel mask. Three placements:

- ``bottleneck``, the seed's: ``thro = to_vec(down3) * mask`` before ``+ temb``. A masked channel
  is not silent: the time embedding and the skip connection still carry it.
- ``silent``: ``(to_vec(down3) + temb) * mask``, the innermost skip is masked too, and what
  belongs to masked channels alone gets no gradient. Not wholly silent either: a masked channel
  still shares the statistics of its norm group in ``down3`` with channels that are on; the
  convolution before it stays as it was, but what that reads is trained.
- ``down1``: the output of the first block is masked, for the second block and for the skip, and
  what belongs to masked channels alone gets no gradient. What is left of a masked channel is again
  its share in the statistics of its norm group, here in ``down1``.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from mindiffusion.classes import told_nothing
from mindiffusion.errors import UserError, did_you_mean
from mindiffusion.network import Births, Mask, Probe, StageCapacity
from mindiffusion.sparsity import (
    active_count,
    all_on,
    channel_saliency,
    channels_to_grow,
    held,
    initial_mask,
    keyed_order,
)
from mindiffusion.unet import NaiveUnet

Placement = Literal["bottleneck", "silent", "down1"]
RegrowMethod = Literal["gradient", "random"]


@dataclass(frozen=True)
class _Entries:
    """Which entries of a parameter serve the channels under a mask.

    Attributes:
        axis: the axis that the channels are along.
        is_second_half: whether the axis has as many other channels before them.
    """

    axis: int = 0
    is_second_half: bool = False


_SKIP_HALF = _Entries(is_second_half=True)
"""Up-blocks see cat(the block before, the skip), the input of a transposed convolution."""


def _written_by(block: str) -> dict[str, _Entries]:
    """The last convolution of a down-block and its norm, whose rows make one channel each."""
    kinds = ("weight", "bias")
    return {f"{block}.0.conv.1.{n}.{kind}": _Entries() for n in (0, 1) for kind in kinds}


@dataclass(frozen=True)
class _Site:
    """Where a mask acts.

    Attributes:
        place: as rows name it.
        width: channels under the mask, as a multiple of n_feat.
        weights: as in ``Mask``.
        frozen: parameters with entries that serve masked channels alone and are frozen.
    """

    place: str
    width: int
    weights: Mapping[str, str]
    frozen: Mapping[str, _Entries] = field(default_factory=dict)


_AT_BOTTLENECK = {"encoder": "down3.0.conv.1.0.weight", "up0": "up0.0.weight"}
_SITES: dict[Placement, _Site] = {
    "bottleneck": _Site("bottleneck", 2, _AT_BOTTLENECK),
    "silent": _Site(
        "bottleneck",
        2,
        _AT_BOTTLENECK,
        _written_by("down3") | {"up0.0.weight": _Entries(), "up1.model.0.weight": _SKIP_HALF},
    ),
    "down1": _Site(
        "down1",
        1,
        {"encoder": "down1.0.conv.1.0.weight"},
        _written_by("down1")
        | {"down2.0.main.0.weight": _Entries(axis=1), "up3.model.0.weight": _SKIP_HALF},
    ),
}


class SparseNaiveUnet(NaiveUnet):
    """NaiveUnet in which channels of one place can be switched off.

    There are C of them: 2·n_feat at the bottleneck, n_feat behind the first block. Buffers
    ``channel_mask`` (1 on, 0 off) and ``channel_birth_stage`` (stage at which a channel was
    switched on; −1 while it is off), both (C,).

    Args:
        in_channels: channels of the noisy image.
        out_channels: channels of the predicted noise.
        n_feat: base width, a multiple of 8.
        initial_sparsity: fraction of channels off at the start, in [0, 1).
        placement: where the mask acts, see the module's docstring.
        regrow_method: how ``enter_stage`` chooses channels.
        probe_batches: batches behind the saliency by which it does.
        probe_batch_size: images in each of them.
        seed: key of the initial mask and of ties.

    Raises:
        UserError: for an unknown placement or method, or more channels asked for than are off.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        n_feat: int = 256,
        initial_sparsity: float = 0.0,
        *,
        placement: Placement = "bottleneck",
        regrow_method: RegrowMethod = "gradient",
        probe_batches: int = 4,
        probe_batch_size: int = 64,
        seed: int = 0,
    ) -> None:
        if placement not in _SITES:
            raise UserError(f"unknown placement {placement!r}.{did_you_mean(placement, _SITES)}")
        super().__init__(in_channels, out_channels, n_feat)
        self.placement = placement
        self.regrow_method = regrow_method
        self.probe_batches = probe_batches
        self.probe_batch_size = probe_batch_size
        self.seed = seed
        channels = _SITES[placement].width * n_feat
        with torch.device("cpu"):  # also where only shapes are wanted: keyed draws need numbers
            mask = initial_mask(seed, channels, initial_sparsity)
        self.register_buffer("channel_mask", mask)
        self.register_buffer("channel_birth_stage", (mask - 1).to(torch.int64))
        self.register_buffer("channel_saliency", torch.zeros(channels))
        self.channel_mask: Tensor
        self.channel_birth_stage: Tensor
        self.channel_saliency: Tensor
        self._freeze_masked()

    def forward(
        self,
        x: Tensor,
        told: Tensor,
        condition: Tensor | None = None,
        channel_mask: Tensor | None = None,
    ) -> Tensor:
        """As NaiveUnet's, each image behind its own row of ``channel_mask`` (B, C) if given."""
        told_nothing(condition, "U-Net")
        first_block = functools.partial(self.first_block, channel_mask=channel_mask)
        bottleneck = functools.partial(self.bottleneck, channel_mask=channel_mask)
        return self._through(first_block, bottleneck, x, told)

    def first_block(self, x: Tensor, channel_mask: Tensor | None = None) -> Tensor:
        """As NaiveUnet's, behind the mask; ``channel_mask`` (B, C) replaces the buffer."""
        down1 = super().first_block(x)
        if self.placement != "down1":
            return down1
        return down1 * self._mask_over(down1, channel_mask)

    def bottleneck(
        self, down3: Tensor, temb: Tensor, channel_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """As NaiveUnet's, behind the mask; ``channel_mask`` (B, C) replaces the buffer."""
        if self.placement == "down1":
            return super().bottleneck(down3, temb)
        mask = self._mask_over(down3, channel_mask)
        if self.placement == "silent":
            return (self.to_vec(down3) + temb) * mask, down3 * mask
        return self.to_vec(down3) * mask + temb, down3

    def _mask_over(self, maps: Tensor, channel_mask: Tensor | None) -> Tensor:
        """The mask, to be multiplied by maps (B, C, H, W): (1 or B, C, 1, 1)."""
        mask = self.channel_mask if channel_mask is None else channel_mask
        return mask.to(maps.dtype).view(-1, self.num_channels, 1, 1)

    @property
    def num_channels(self) -> int:
        """Number of channels under the mask, C."""
        return len(self.channel_mask)

    def regrow_channels(
        self,
        num_to_grow: int,
        current_stage: int,
        method: RegrowMethod = "gradient",
    ) -> Tensor:
        """Switch on ``num_to_grow`` channels and record their birth stage.

        Args:
            num_to_grow: how many, at most the number that is off.
            current_stage: recorded in ``channel_birth_stage``.
            method: ``gradient`` takes the highest ``get_channel_gradients()``; ``random`` a keyed
                permutation. Ties go by the permutation too, so all ranks choose alike.

        Returns:
            (num_to_grow,) indices of the channels switched on.
        """
        methods = ("gradient", "random")
        if method not in methods:
            raise UserError(f"unknown regrowth method {method!r}.{did_you_mean(method, methods)}")
        num_off = int((self.channel_mask == 0).sum())
        if not 0 <= num_to_grow <= num_off:
            raise UserError(
                f"asked to switch on {num_to_grow} channels, but {num_off} are off; "
                f"ask for 0 to {num_off}."
            )
        scores = self.get_channel_gradients()
        if method == "random":
            scores = torch.zeros_like(scores)
        order = keyed_order(self.seed, self.num_channels, current_stage + 1)
        chosen = channels_to_grow(scores, self.channel_mask, num_to_grow, order)
        self.channel_mask[chosen] = 1.0
        self.channel_birth_stage[chosen] = current_stage
        return chosen

    def get_channel_gradients(self) -> Tensor:
        """Saliency Σ_b (∂ℓ_b/∂m_c)² of the last probe, (C,); 0 before any."""
        return self.channel_saliency

    def enter_stage(self, capacity: StageCapacity, probe: Probe) -> dict[str, Any]:
        """Switch channels on until the stage's sparsity is met; the first stage sets the mask."""
        target = active_count(self.num_channels, capacity.sparsity)
        if capacity.index == 0:
            mask = initial_mask(capacity.seed, self.num_channels, capacity.sparsity)
            self.channel_mask.copy_(mask)
            self.channel_birth_stage.copy_((mask - 1).to(torch.int64))
            return {"channels_on": target}
        num_to_grow = target - int(self.channel_mask.sum())
        if num_to_grow < 0:
            raise UserError(
                f"stage {capacity.index} has sparsity {capacity.sparsity:g}, more than the stage "
                "before; let sparsity fall from stage to stage."
            )
        if num_to_grow == 0:
            return {"channels_on": target}
        saliency, agreement = channel_saliency(
            self, list(probe(self.probe_batches, self.probe_batch_size))
        )
        self.channel_saliency.copy_(saliency)
        grown = self.regrow_channels(num_to_grow, capacity.index, self.regrow_method)
        return {
            "channels_on": target,
            "channels_grown": sorted(grown.tolist()),
            "saliency_split_half_correlation": agreement,
        }

    def capacity_report(self) -> dict[str, float]:
        """Channels switched on."""
        return super().capacity_report() | {"active_channels": float(self.channel_mask.sum())}

    def mask(self) -> Mask:
        """The channel mask."""
        site, lifted = _SITES[self.placement], functools.partial(all_on, self.channel_mask)
        return Mask(site.place, self.channel_mask.cpu() > 0, lifted, site.weights)

    def births(self, sparsities: Sequence[float]) -> Births:
        """As recorded when channels were switched on."""
        stage = self.channel_birth_stage.cpu()
        return Births(stage, functools.partial(held, self.channel_mask))

    def frozen(self) -> dict[str, Tensor]:
        """What serves masked channels alone; of the placement ``bottleneck`` nothing does.

        The time embedding is not frozen: its rows are shared with ``up1``.
        """
        entries = _SITES[self.placement].frozen
        return {name: self._frozen_entries(name, where) for name, where in entries.items()}

    def _frozen_entries(self, name: str, where: _Entries) -> Tensor:
        off = self.channel_mask == 0
        if where.is_second_half:
            off = torch.cat((torch.zeros_like(off), off))
        shape = [1] * self.get_parameter(name).dim()
        shape[where.axis] = len(off)
        return off.view(shape)

    def _freeze_masked(self) -> None:
        """Zero the gradient of what is frozen, which norms and skips would not leave at 0."""

        def stop(gradient: Tensor, name: str, where: _Entries) -> Tensor:
            return gradient * ~self._frozen_entries(name, where)

        for name, where in _SITES[self.placement].frozen.items():
            hook = functools.partial(stop, name=name, where=where)
            self.get_parameter(name).register_hook(hook)
