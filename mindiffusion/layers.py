"""Building blocks of NaiveUnet, written from the architecture facts of minDiffusion.

All feature maps are (B, C, H, W). Norms have 8 groups, so every width is divisible by 8.
"""

import torch
from torch import Tensor, nn

from mindiffusion.network import without_autocast

NORM_GROUPS = 8


class GroupNorm(nn.GroupNorm):
    """nn.GroupNorm, written for the compiler where that compiles it badly.

    In channels-last memory the CPU compiler's own backward of a group norm takes longer than the
    convolution before it; from channel sums it is a fraction of that (docs/performance.md).
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, H, W) over the groups' channels and pixels."""
        if torch.compiler.is_compiling() and x.device.type == "cpu":
            with torch.autocast("cpu", enabled=False):
                return group_norm_from_sums(x, self.num_groups, self.weight, self.bias, self.eps)
        return super().forward(x)


def group_norm_from_sums(
    x: Tensor, num_groups: int, weight: Tensor, bias: Tensor, eps: float
) -> Tensor:
    """Group norm as x · scale + shift, with both (B, C) found from sums over pixels.

    Sums are float32 or wider, as is what follows up to the result, which has x's dtype. A matrix
    product adds up a group's channels and hands the sum back to each of them: the compiler keeps
    that apart from the per-pixel loops, which then run over contiguous channels.

    Args:
        x: (B, C, H, W).
        num_groups: divides C.
        weight: (C,).
        bias: (C,).
        eps: added to the variance.
    """
    channels = x.shape[1]
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    group = torch.arange(channels, device=x.device) // (channels // num_groups)
    size = x[0].numel() // num_groups
    group_mean = (group[:, None] == group).to(wide.dtype) / size
    mean = wide.sum((2, 3)) @ group_mean
    variance = wide.square().sum((2, 3)) @ group_mean - mean.square()
    scale = (variance.clamp_min(0.0) + eps).rsqrt() * weight
    shift = bias - mean * scale
    return (wide * scale[:, :, None, None] + shift[:, :, None, None]).to(x.dtype)


class ConvNormAct(nn.Sequential):
    """3×3 convolution (stride 1, padding 1), GroupNorm(8), ReLU: (B, in, H, W) → (B, out, H, W)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, padding=1),
            GroupNorm(NORM_GROUPS, out_channels),
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

    Always float32 or wider, also under autocast: bf16 cannot tell t = 999/1000 from 1. Initial W₁
    are in (−1, 1), so no sine turns within noise times, or EDM's ln σ/4 of σ from .002 to 80.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.lin1 = nn.Linear(1, dim, bias=False)
        self.lin2 = nn.Linear(dim, dim)

    def forward(self, t: Tensor) -> Tensor:
        """Embed what a process says of the noise, shape (B,)."""
        with without_autocast(t):
            return self.lin2(torch.sin(self.lin1(t.view(-1, 1).to(self.lin1.weight.dtype))))
