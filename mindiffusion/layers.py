"""Building blocks of NaiveUnet, written from the architecture facts of minDiffusion.

All feature maps are (B, C, H, W). Norms have 8 groups, so every width is divisible by 8.
"""

import torch
from torch import Tensor, nn

NORM_GROUPS = 8


class ConvNormAct(nn.Sequential):
    """3×3 convolution (stride 1, padding 1), GroupNorm(8), ReLU: (B, in, H, W) → (B, out, H, W)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, padding=1),
            nn.GroupNorm(NORM_GROUPS, out_channels),
            nn.ReLU(),
        )


class Conv3(nn.Module):
    """Three ConvNormActs; optionally the first one's output is added back, over √2.

    (B, in, H, W) → (B, out, H, W). The residual is divided by 1.414, as in the source.
    """

    def __init__(self, in_channels: int, out_channels: int, *, is_residual: bool = False) -> None:
        super().__init__()
        self.main = ConvNormAct(in_channels, out_channels)
        self.conv = nn.Sequential(
            ConvNormAct(out_channels, out_channels), ConvNormAct(out_channels, out_channels)
        )
        self.is_residual = is_residual

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        x = self.main(x)
        return (x + self.conv(x)) / 1.414 if self.is_residual else self.conv(x)


class UnetDown(nn.Sequential):
    """Conv3, then 2×2 max pooling: (B, in, H, W) → (B, out, H/2, W/2)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(Conv3(in_channels, out_channels), nn.MaxPool2d(2))


class UnetUp(nn.Module):
    """Concatenate the skip, upsample by a 2×2 transposed convolution, two Conv3.

    x and skip with ``in_channels`` channels together, (B, ·, H, W) → (B, out, 2H, 2W).
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.model = nn.Sequential(
            nn.ConvTranspose2d(in_channels, out_channels, 2, 2),
            Conv3(out_channels, out_channels),
            Conv3(out_channels, out_channels),
        )

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Apply the block to ``x`` with its skip connection."""
        return self.model(torch.cat((x, skip), 1))


class TimeSiren(nn.Module):
    """Time embedding sin(W₁ t), then a linear layer: (B,) → (B, dim).

    Always float32 or wider, also under autocast: bf16 cannot tell t = 999/1000 from 1.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.lin1 = nn.Linear(1, dim, bias=False)
        self.lin2 = nn.Linear(dim, dim)

    def forward(self, t: Tensor) -> Tensor:
        """Embed times ``t`` in (0, 1], shape (B,)."""
        with torch.autocast(t.device.type, enabled=False):
            return self.lin2(torch.sin(self.lin1(t.view(-1, 1).to(self.lin1.weight.dtype))))
