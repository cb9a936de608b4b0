"""Building blocks of SongUNet, written from the architecture facts of EDM's public code.

Feature maps are (B, C, H, W). Names of weights and buffers are that code's.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mindiffusion.config.song_unet import BlockPlan, norm_groups
from mindiffusion.layers import GroupNorm

Resample = Literal["down", "up"]
Filter = tuple[int, ...]
_EPS = 1e-6
_NEARLY_ZERO = 1e-5
"""Factor on the first weights of what is added to a residual stream, and of the last layer."""
_OF_QKV = 0.2**0.5
_LONGEST_PERIOD = 10_000
_FOURIER_SCALE = 16.0


def linear(in_features: int, out_features: int, *, bias: bool = True) -> nn.Linear:
    """A linear layer that begins as all of them do: Xavier's uniform weights, biases of 0."""
    layer = nn.Linear(in_features, out_features, bias=bias)
    _begin(layer, 1.0)
    return layer


def norm(channels: int) -> GroupNorm:
    """A group norm of up to 32 groups with 4 or more channels each."""
    return GroupNorm(norm_groups(channels), channels, eps=_EPS)


def _begin(layer: nn.Linear | nn.Conv2d, gain: float) -> None:
    nn.init.xavier_uniform_(layer.weight, gain)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


class Conv2d(nn.Conv2d):
    """A convolution that keeps the side, behind or before a filter that halves or doubles it.

    Buffer ``resample_filter`` (1, 1, n, n), the outer product of ``taps`` over its sum, where there
    is a filter.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel: side of the kernel, odd.
        gain: factor on the first weights.
        resample: "down" halves the side first, "up" doubles it; None: neither.
        taps: the filter along one axis; an even number of them.
        fused: with "down": the filter halves the side of the convolution's wider output instead,
            and the bias is added last.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        gain: float = 1.0,
        resample: Resample | None = None,
        taps: Filter = (1, 1),
        fused: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel, padding=kernel // 2)
        self.resample, self.fused = resample, fused
        self.resample_filter: Tensor | None
        if resample is None:
            self.register_buffer("resample_filter", None)
        else:
            row = torch.tensor(taps, dtype=torch.float32)
            self.register_buffer(
                "resample_filter", (row[:, None] * row / row.sum().square())[None, None]
            )
        _begin(self, gain)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, in, H, W), with the side changed where it is to be."""
        if self.resample_filter is None:
            return super().forward(x)
        margin = (self.resample_filter.shape[-1] - 1) // 2
        if self.fused:
            wide = F.conv2d(x, self.weight, padding=self.weight.shape[-1] // 2 + margin)
            halved = F.conv2d(wide, self._filter(wide), groups=wide.shape[1], stride=2)
            assert self.bias is not None
            return halved + self.bias.to(halved.dtype)[:, None, None]
        filters, groups = self._filter(x), x.shape[1]
        if self.resample == "down":
            x = F.conv2d(x, filters, stride=2, padding=margin, groups=groups)
        else:
            x = F.conv_transpose2d(x, 4 * filters, stride=2, padding=margin, groups=groups)
        return super().forward(x)

    def _filter(self, x: Tensor) -> Tensor:
        """The filter for each channel of ``x``, (C, 1, n, n)."""
        assert self.resample_filter is not None
        return self.resample_filter.to(x.dtype).repeat(x.shape[1], 1, 1, 1)


class PositionalEmbedding(nn.Module):
    """Sines, then cosines of noise labels (B,) at ``dim``/2 frequencies: (B, dim), in their dtype.

    Frequencies fall geometrically from 1 to 1/10,000, with both ends.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.num_frequencies = dim // 2

    def forward(self, labels: Tensor) -> Tensor:
        """Embed the labels."""
        number = torch.arange(self.num_frequencies, dtype=labels.dtype, device=labels.device)
        frequencies = (-math.log(_LONGEST_PERIOD) / (self.num_frequencies - 1) * number).exp()
        angles = labels[:, None] * frequencies
        return torch.cat((angles.sin(), angles.cos()), dim=1)


class FourierEmbedding(nn.Module):
    """Sines, then cosines of labels (B,) at frequencies drawn from N(0, 16²) once: (B, dim).

    Buffer ``freqs`` (dim/2,).
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("freqs", nn.init.normal_(torch.empty(dim // 2), std=_FOURIER_SCALE))
        self.freqs: Tensor

    def forward(self, labels: Tensor) -> Tensor:
        """Embed the labels, in their dtype."""
        angles = labels[:, None] * (2 * math.pi * self.freqs.to(labels.dtype))
        return torch.cat((angles.sin(), angles.cos()), dim=1)


class UNetBlock(nn.Module):
    """A residual block, (B, in, H, W) and an embedding (B, E) → (B, out, H', W').

    Both sums, that with the skip and that with the attention, are divided by √2.

    Args:
        plan: its channels, whether it resamples, whether it attends.
        emb_channels: E.
        dropout: share of values set to 0 in train mode, by torch's generator.
        taps: of the resampling filter.
    """

    def __init__(self, plan: BlockPlan, emb_channels: int, dropout: float, taps: Filter) -> None:
        super().__init__()
        into, out = plan.in_channels, plan.out_channels
        self.dropout = dropout
        self.norm0 = norm(into)
        self.conv0 = Conv2d(into, out, 3, resample=plan.resample, taps=taps)
        self.affine = linear(emb_channels, out)
        self.norm1 = norm(out)
        self.conv1 = Conv2d(out, out, 3, gain=_NEARLY_ZERO)
        self.skip = (
            None
            if into == out and plan.resample is None
            else Conv2d(into, out, 1, resample=plan.resample, taps=taps)
        )
        self.attends = plan.attention
        if plan.attention:
            self.norm2 = norm(out)
            self.qkv = Conv2d(out, 3 * out, 1, gain=_OF_QKV)
            self.proj = Conv2d(out, out, 1, gain=_NEARLY_ZERO)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """Apply the block."""
        h = self.conv0(F.silu(self.norm0(x)))
        h = F.silu(self.norm1(h + self.affine(emb)[:, :, None, None]))
        if self.dropout:
            h = F.dropout(h, self.dropout, self.training)
        h = (self.conv1(h) + (x if self.skip is None else self.skip(x))) * 0.5**0.5
        return (self.proj(self._attention(h)) + h) * 0.5**0.5 if self.attends else h

    def _attention(self, h: Tensor) -> Tensor:
        """Every pixel reads all, with one head over all channels: (B, C, H, W) → the same."""
        # Channels 3c, 3c + 1 and 3c + 2 are query, key and value of channel c.
        parts = self.qkv(self.norm2(h)).flatten(2).unflatten(1, (h.shape[1], 3))
        query, key, value = (part[:, None] for part in parts.permute(2, 0, 3, 1).unbind(0))
        read = F.scaled_dot_product_attention(query, key, value)
        return read[:, 0].transpose(1, 2).reshape(h.shape)


def last_convolution(in_channels: int, out_channels: int) -> Conv2d:
    """The convolution that ends the network; what it adds is nearly 0 at first."""
    return Conv2d(in_channels, out_channels, 3, gain=_NEARLY_ZERO)
