"""NaiveUnet, the network of minDiffusion: ε-prediction for images from 32×32 upwards.

Source: cloneofsimo/minDiffusion (architecture only: docs/methods.md, NaiveUnet). Sparse and
regularised variants derive from this class and override ``first_block``, ``bottleneck`` or
``penalty``, so that there is one copy of the layers and one set of state-dict names.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mindiffusion.classes import told_nothing
from mindiffusion.config.naive_unet import MIN_SIDE, check_sizes
from mindiffusion.layers import (
    NORM_GROUPS,
    Conv3,
    GroupNorm,
    TimeSiren,
    UnetDown,
    UnetUp,
)
from mindiffusion.network import Network

FirstBlock = Callable[[Tensor], Tensor]
"""See ``NaiveUnet.first_block``."""
Bottleneck = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""See ``NaiveUnet.bottleneck``."""


class NaiveUnet(Network):
    """U-Net with three poolings, a vector bottleneck and a sine time embedding.

    Args:
        in_channels: channels of the noisy image, usually 3.
        out_channels: channels of the predicted noise, usually 3.
        n_feat: base width; the bottleneck has 2·n_feat channels.

    Raises:
        UserError: if ``n_feat`` is not a positive multiple of 8.
    """

    def __init__(self, in_channels: int, out_channels: int, n_feat: int = 256) -> None:
        super().__init__()
        check_sizes(n_feat, MIN_SIDE)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.n_feat = n_feat
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

    def first_block(self, x: Tensor) -> Tensor:
        """What enters ``down2`` and the skip of ``up3``.

        Args:
            x: (B, n, H, W), the map of ``init_conv``.

        Returns:
            (B, n, H/2, W/2).
        """
        return self.down1(x)

    def bottleneck(self, down3: Tensor, temb: Tensor) -> tuple[Tensor, Tensor]:
        """What enters ``up0`` and the innermost skip.

        Args:
            down3: (B, 2n, S, S), the encoder's last map.
            temb: (B, 2n, 1, 1), the time embedding.

        Returns:
            (B, 2n, S/4, S/4) for ``up0``, and (B, 2n, S, S) for the skip of ``up1``.
        """
        return self.to_vec(down3) + temb, down3

    def forward(self, x: Tensor, told: Tensor, condition: Tensor | None = None) -> Tensor:
        """Predict the noise in ``x``.

        Args:
            x: (B, in_channels, H, W), noisy images.
            told: (B,), what the process says of the noise, see ``TimeSiren``.
            condition: None; this network takes no condition.

        Returns:
            (B, out_channels, H, W).
        """
        told_nothing(condition, "U-Net")
        return self._through(self.first_block, self.bottleneck, x, told)

    def _through(
        self, first_block: FirstBlock, bottleneck: Bottleneck, x: Tensor, told: Tensor
    ) -> Tensor:
        """The forward pass by way of a first block and a bottleneck."""
        with self._end(x):
            x = self.init_conv(x)
        down1 = first_block(x)
        down2 = self.down2(down1)
        down3 = self.down3(down2)
        temb = self.timeembed(told)[:, :, None, None]
        thro, skip = bottleneck(down3, temb)
        up1 = self.up1(self.up0(thro), skip) + temb
        up2 = self.up2(up1, down2)
        up3 = self.up3(up2, down1)
        with self._end(x):
            return self.out(torch.cat((up3, x), 1))

    def capacity_report(self) -> dict[str, float]:
        """All channels of the bottleneck, and no penalty."""
        return {"active_channels": float(self.bottleneck_channels), "penalty_lambda": 0.0}
