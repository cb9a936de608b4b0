"""SparseNaiveUnet: NaiveUnet with a hard channel mask at the bottleneck, grown stage by stage.

Source: docs/methods.md, Channel mask. Two placements:

- ``bottleneck``, the seed's: ``thro = to_vec(down3) * mask`` before ``+ temb``. A masked channel
  is not silent: the time embedding and the skip connection still carry it.
- ``silent``: ``(to_vec(down3) + temb) * mask``, the innermost skip is masked too, and what
  belongs to masked channels alone gets no gradient. Not wholly silent either: a masked channel
  still shares the statistics of its norm group in ``down3`` with channels that are on, as a fixed
  random influence.
"""

import functools
from typing import Any, Literal

import torch
from torch import Tensor

from mindiffusion.classes import told_nothing
from mindiffusion.errors import UserError, did_you_mean
from mindiffusion.network import Mask, Probe, StageCapacity
from mindiffusion.sparsity import (
    active_count,
    all_on,
    channel_saliency,
    channels_to_grow,
    initial_mask,
    keyed_order,
)
from mindiffusion.unet import NaiveUnet

Placement = Literal["bottleneck", "silent"]
RegrowMethod = Literal["gradient", "random"]
# What is indexed by a bottleneck channel along its first axis: the last convolution before the
# bottleneck, and the first layer after it (of a transposed convolution, its input).
_WEIGHTS = {"encoder": "down3.0.conv.1.0.weight", "up0": "up0.0.weight"}
_OF_CHANNELS = (
    *(f"down3.0.conv.1.{layer}.{kind}" for layer in (0, 1) for kind in ("weight", "bias")),
    "up0.0.weight",
)
_READS_SKIP = "up1.model.0.weight"


class SparseNaiveUnet(NaiveUnet):
    """NaiveUnet whose bottleneck channels can be switched off.

    Buffers ``channel_mask`` (1 on, 0 off) and ``channel_birth_stage`` (stage at which a channel
    was switched on; −1 while it is off), both (2·n_feat,).

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
        UserError: for an unknown method, or more channels asked for than are off.
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
        super().__init__(in_channels, out_channels, n_feat)
        self.placement = placement
        self.regrow_method = regrow_method
        self.probe_batches = probe_batches
        self.probe_batch_size = probe_batch_size
        self.seed = seed
        channels = self.bottleneck_channels
        with torch.device("cpu"):  # also where only shapes are wanted: keyed draws need numbers
            mask = initial_mask(seed, channels, initial_sparsity)
        self.register_buffer("channel_mask", mask)
        self.register_buffer("channel_birth_stage", (mask - 1).to(torch.int64))
        self.register_buffer("channel_saliency", torch.zeros(channels))
        self.channel_mask: Tensor
        self.channel_birth_stage: Tensor
        self.channel_saliency: Tensor
        if placement == "silent":
            self._freeze_masked()

    def forward(
        self,
        x: Tensor,
        told: Tensor,
        condition: Tensor | None = None,
        channel_mask: Tensor | None = None,
    ) -> Tensor:
        """As NaiveUnet's, each image behind its own row of ``channel_mask`` (B, 2n) if given."""
        told_nothing(condition, "U-Net")
        bottleneck = functools.partial(self.bottleneck, channel_mask=channel_mask)
        return self._through(bottleneck, x, told)

    def bottleneck(
        self, down3: Tensor, temb: Tensor, channel_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """As NaiveUnet's, behind the mask; ``channel_mask`` (B, 2n) replaces the buffer."""
        mask = self.channel_mask if channel_mask is None else channel_mask
        mask = mask.to(down3.dtype).view(-1, self.bottleneck_channels, 1, 1)
        if self.placement == "silent":
            return (self.to_vec(down3) + temb) * mask, down3 * mask
        return self.to_vec(down3) * mask + temb, down3

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
        order = keyed_order(self.seed, self.bottleneck_channels, current_stage + 1)
        chosen = channels_to_grow(scores, self.channel_mask, num_to_grow, order)
        self.channel_mask[chosen] = 1.0
        self.channel_birth_stage[chosen] = current_stage
        return chosen

    def get_channel_gradients(self) -> Tensor:
        """Saliency Σ_b (∂ℓ_b/∂m_c)² of the last probe, (2·n_feat,); 0 before any."""
        return self.channel_saliency

    def enter_stage(self, capacity: StageCapacity, probe: Probe) -> dict[str, Any]:
        """Switch channels on until the stage's sparsity is met; the first stage sets the mask."""
        target = active_count(self.bottleneck_channels, capacity.sparsity)
        if capacity.index == 0:
            mask = initial_mask(capacity.seed, self.bottleneck_channels, capacity.sparsity)
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
        """The channel mask of the bottleneck."""
        lifted = functools.partial(all_on, self.channel_mask)
        return Mask("bottleneck", self.channel_mask.cpu() > 0, lifted, _WEIGHTS)

    def frozen(self) -> dict[str, Tensor]:
        """With silent masks: what serves masked channels alone.

        The time embedding is not frozen: its rows are shared with ``up1``.
        """
        if self.placement != "silent":
            return {}
        return {name: self._frozen_rows(name) for name in (*_OF_CHANNELS, _READS_SKIP)}

    def _frozen_rows(self, name: str) -> Tensor:
        """Where a parameter serves masked channels, along its first axis."""
        off = self.channel_mask == 0
        if name == _READS_SKIP:
            # up1 sees cat(up0's output, the skip): the skip's channels come second.
            off = torch.cat((torch.zeros_like(off), off))
        return off.view(-1, *[1] * (self.get_parameter(name).dim() - 1))

    def _freeze_masked(self) -> None:
        """Zero the gradient of what is frozen, which norms and skips would not leave at 0."""

        def stop(gradient: Tensor, name: str) -> Tensor:
            return gradient * ~self._frozen_rows(name)

        for name in self.frozen():
            self.get_parameter(name).register_hook(functools.partial(stop, name=name))
