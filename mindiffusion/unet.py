"""NaiveUnet, the network of minDiffusion: ε-prediction for images from 32×32 upwards.

Source: cloneofsimo/minDiffusion (architecture facts only, see docs/design.md). Sparse and
regularised variants derive from this class and override ``bottleneck`` or ``penalty``, so that
there is one copy of the layers and one set of state-dict names.
"""

import contextlib
from typing import Any

import torch
from torch import Tensor, nn

from mindiffusion.errors import UserError
from mindiffusion.layers import NORM_GROUPS, Conv3, GroupNorm, TimeSiren, UnetDown, UnetUp
from mindiffusion.sparsity import Probe, StageCapacity

MOST_FEATURES = 4096
"""Of the base width: the network then has 1.7 billion weights."""
MIN_SIDE, MAX_SIDE = 32, 1024
SIDE_MULTIPLE = 32
"""Three 2×2 poolings, then the 4×4 pooling of ``to_vec`` that ``up0`` undoes, must divide."""


def check_sizes(n_feat: int, image_size: int) -> None:
    """Raise UserError unless the network can take these sizes.

    Args:
        n_feat: base width; a positive multiple of 8, since every norm has 8 groups; at most 4096.
        image_size: side in pixels; a positive multiple of 32; at most 1024.
    """
    if not NORM_GROUPS <= n_feat <= MOST_FEATURES or n_feat % NORM_GROUPS:
        raise UserError(
            f"model.n_feat is {n_feat}, but NaiveUnet takes positive multiples of {NORM_GROUPS} "
            f"(its norms have {NORM_GROUPS} groups) up to {MOST_FEATURES}; try --set "
            "model.n_feat=32."
        )
    if not MIN_SIDE <= image_size <= MAX_SIDE or image_size % SIDE_MULTIPLE:
        raise UserError(
            f"data.size is {image_size}, but NaiveUnet takes multiples of {SIDE_MULTIPLE} from "
            f"{MIN_SIDE} to {MAX_SIDE} (it pools 8-fold, then 4×4); try --set data.size=32."
        )


class NaiveUnet(nn.Module):
    """U-Net with three poolings, a vector bottleneck and a sine time embedding.

    Args:
        in_channels: channels of the noisy image, usually 3.
        out_channels: channels of the predicted noise, usually 3.
        n_feat: base width; the bottleneck has 2·n_feat channels.

    Attributes:
        exact_ends: whether the first and the last block stay in float32 under autocast. At high
            noise a sampler magnifies the rounding of ε up to 1/√ᾱ times (157 at t = 1).

    Raises:
        UserError: if ``n_feat`` is not a positive multiple of 8.
    """

    def __init__(self, in_channels: int, out_channels: int, n_feat: int = 256) -> None:
        super().__init__()
        check_sizes(n_feat, MIN_SIDE)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.n_feat = n_feat
        self.exact_ends = False
        n = n_feat
        self.init_conv = Conv3(in_channels, n, is_residual=True)
        self.down1 = UnetDown(n, n)
        self.down2 = UnetDown(n, 2 * n)
        self.down3 = UnetDown(2 * n, 2 * n)
        self.to_vec = nn.Sequential(nn.AvgPool2d(4), nn.ReLU())
        self.timeembed = TimeSiren(2 * n)
        self.up0 = nn.Sequential(
            nn.ConvTranspose2d(2 * n, 2 * n, 4, 4), GroupNorm(NORM_GROUPS, 2 * n), nn.ReLU()
        )
        self.up1 = UnetUp(4 * n, 2 * n)
        self.up2 = UnetUp(4 * n, n)
        self.up3 = UnetUp(2 * n, n)
        self.out = nn.Conv2d(2 * n, out_channels, 3, padding=1)

    @property
    def bottleneck_channels(self) -> int:
        """Number of channels of the vector bottleneck, 2·n_feat."""
        return 2 * self.n_feat

    def bottleneck(
        self, down3: Tensor, temb: Tensor, channel_mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """What enters ``up0`` and the innermost skip.

        Args:
            down3: (B, 2n, S, S), the encoder's last map.
            temb: (B, 2n, 1, 1), the time embedding.
            channel_mask: for networks with a mask, see ``SparseNaiveUnet``; here unused.

        Returns:
            (B, 2n, S/4, S/4) for ``up0``, and (B, 2n, S, S) for the skip of ``up1``.
        """
        return self.to_vec(down3) + temb, down3

    def forward(self, x: Tensor, t: Tensor, channel_mask: Tensor | None = None) -> Tensor:
        """Predict the noise in ``x``.

        Args:
            x: (B, in_channels, H, W), noisy images.
            t: (B,), noise time in (0, 1]: t / n_T.
            channel_mask: (B, 2n) or None; only networks with a mask take one.

        Returns:
            (B, out_channels, H, W).
        """
        with self._end(x):
            x = self.init_conv(x)
        down1 = self.down1(x)
        down2 = self.down2(down1)
        down3 = self.down3(down2)
        temb = self.timeembed(t)[:, :, None, None]
        thro, skip = self.bottleneck(down3, temb, channel_mask)
        up1 = self.up1(self.up0(thro), skip) + temb
        up2 = self.up2(up1, down2)
        up3 = self.up3(up2, down1)
        with self._end(x):
            return self.out(torch.cat((up3, x), 1))

    def _end(self, x: Tensor) -> contextlib.AbstractContextManager[Any]:
        """The context of the first and the last block."""
        if self.exact_ends:
            return torch.autocast(x.device.type, enabled=False)
        return contextlib.nullcontext()

    # The training loop's view of any network: the same three methods, whatever the arm.

    def enter_stage(self, capacity: StageCapacity, probe: Probe) -> dict[str, Any]:
        """Take over a stage's capacity; returns what happened, for the log. Nothing to do here."""
        return {}

    def penalty(self) -> Tensor | None:
        """Term added to the loss, or None."""
        return None

    def capacity_report(self) -> dict[str, float]:
        """Numbers that describe the capacity in use, for rows and logs."""
        return {"active_channels": float(self.bottleneck_channels), "penalty_lambda": 0.0}
