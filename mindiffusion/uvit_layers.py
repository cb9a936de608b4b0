"""Building blocks of U-ViT, some of them also DiT's, written from facts of the public code.

Tokens are (B, L, D). A ``mask`` is (D,), 1 for dimensions of the residual stream that are on and 0
for those that carry nothing; None: all are on.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LONGEST_PERIOD = 10_000
_FEWEST_IMAGES = 16
"""On one thread PyTorch multiplies smaller batches without oneDNN, whatever they are given as."""


def sinusoid(times: Tensor, dim: int) -> Tensor:
    """Cosines, then sines of times (B,) at ``dim // 2`` frequencies, (B, dim), in their dtype.

    Frequencies fall geometrically from 1 to nearly 1/10,000: the divisor of the exponent is their
    number, not their number less 1. Of an odd ``dim`` the last entry is 0.
    """
    half = dim // 2
    number = torch.arange(half, dtype=times.dtype, device=times.device)
    angles = times[:, None] * torch.exp(-math.log(_LONGEST_PERIOD) * number / half)
    return F.pad(torch.cat((angles.cos(), angles.sin()), dim=1), (0, dim % 2))


def masked(x: Tensor, mask: Tensor | None) -> Tensor:
    """Tokens with 0 in the dimensions that are off."""
    return x if mask is None else x * mask.to(x.dtype)


class LayerNorm(nn.LayerNorm):
    """nn.LayerNorm, which under a mask normalises over the dimensions that are on, and no others.

    With the masked ones' zeros among them, mean and variance would shrink with the share that is
    on. So the norm is that of a stream which has only the dimensions that are on.
    """

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Normalise (B, L, D), which is 0 where the mask is; so is the result."""
        if mask is None:
            return super().forward(x)
        x = x.to(torch.promote_types(x.dtype, self.weight.dtype))
        mask = mask.to(x.dtype)
        count = mask.sum()
        centred = (x - x.sum(-1, keepdim=True) / count) * mask
        variance = centred.square().sum(-1, keepdim=True) / count
        return centred * (variance + self.eps).rsqrt() * self.weight + self.bias * mask


class PatchEmbed(nn.Module):
    """Square patches as tokens, row by row: (B, C, H, W) → (B, H/p · W/p, D)."""

    def __init__(self, patch_size: int, in_chans: int, embed_dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_chans, embed_dim, patch_size, patch_size)

    def forward(self, x: Tensor) -> Tensor:
        """Embed every patch."""
        return self.proj(x).flatten(2).transpose(1, 2)


def as_images(tokens: Tensor, grid: tuple[int, int], patch_size: int) -> Tensor:
    """Patches (B, patches, p·p·C), their channel last, as images (B, C, H, W).

    Args:
        tokens: the patches, row by row.
        grid: patches along the height and along the width.
        patch_size: p.
    """
    rows, columns = grid
    parts = tokens.unflatten(2, (patch_size, patch_size, -1)).unflatten(1, grid)
    images = parts.permute(0, 5, 1, 3, 2, 4)
    return images.reshape(len(tokens), -1, rows * patch_size, columns * patch_size)


class TokenLinear(nn.Linear):
    """nn.Linear of tokens (B, L, in) → (B, L, out), by oneDNN where that is faster.

    PyTorch leaves products of float32 to MKL, which on an AMD CPU with AVX-512 takes twice as long
    as oneDNN (docs/performance.md). Its convolutions are oneDNN's, and a 1×1 convolution is the
    same product; results differ by rounding.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer to each token."""
        if not _is_for_onednn(x, self.weight):
            return super().forward(x)
        # Tokens as a row of pixels, their channels last: no number is moved.
        row = F.conv2d(x.transpose(1, 2).unsqueeze(2), self.weight[:, :, None, None], self.bias)
        return row.squeeze(2).transpose(1, 2)


def _is_for_onednn(x: Tensor, weight: Tensor) -> bool:
    return (
        not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and len(x) >= _FEWEST_IMAGES
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and torch.backends.mkldnn.is_available()
    )


class Attention(nn.Module):
    """Self-attention of all tokens to all, (B, L, D) → (B, L, D), without dropout.

    Args:
        dim: D.
        num_heads: of D / heads dimensions each.
        qkv_bias: whether queries, keys and values have a bias.
    """

    def __init__(self, dim: int, num_heads: int, *, qkv_bias: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = TokenLinear(dim, 3 * dim, bias=qkv_bias)
        self.proj = TokenLinear(dim, dim)

    def forward(self, x: Tensor, keys: Tensor | None = None) -> Tensor:
        """Attend, with scores over √(D / heads).

        Args:
            x: (B, L, D).
            keys: bool (B, L), which tokens are attended to, one or more; None: all.
        """
        batch, tokens, dim = x.shape
        head_dim = dim // self.num_heads
        parts = self.qkv(x).view(batch, tokens, 3, self.num_heads, head_dim).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)
        read = F.scaled_dot_product_attention(query, key, value, _on_heads(keys))
        return self.proj(read.transpose(1, 2).flatten(2))


def _on_heads(keys: Tensor | None) -> Tensor | None:
    """Which keys (B, L) are attended to, for all heads and queries alike."""
    return None if keys is None else keys[:, None, None]


class CrossAttention(nn.Module):
    """Attention of tokens (B, L, D) to others (B, M, D), without dropout.

    Layout and names of the weights are those of PixArt-α's public code (Chen et al. 2023,
    2310.00426).

    Args:
        dim: D.
        num_heads: of D / heads dimensions each.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_linear = TokenLinear(dim, dim)
        self.kv_linear = TokenLinear(dim, 2 * dim)
        self.proj = TokenLinear(dim, dim)

    def forward(self, x: Tensor, others: Tensor, keys: Tensor | None = None) -> Tensor:
        """Attend, with scores over √(D / heads).

        Args:
            x: (B, L, D), what asks.
            others: (B, M, D), what is asked.
            keys: bool (B, M), which of the others there are, one or more; None: all.
        """
        heads = (self.num_heads, x.shape[-1] // self.num_heads)
        query = self.q_linear(x).unflatten(-1, heads).transpose(1, 2)
        parts = self.kv_linear(others).unflatten(-1, (2, *heads)).permute(2, 0, 3, 1, 4)
        key, value = parts.unbind(0)
        read = F.scaled_dot_product_attention(query, key, value, _on_heads(keys))
        return self.proj(read.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Linear layer, GELU, linear layer: (B, L, D) → (B, L, D), or (B, L, out).

    Args:
        dim: D.
        hidden: width between the two.
        approximate: of the GELU: "none" is exact, "tanh" its usual approximation.
        out: width of the answer; None: D.
    """

    def __init__(
        self,
        dim: int,
        hidden: int,
        approximate: Literal["none", "tanh"] = "none",
        out: int | None = None,
    ) -> None:
        super().__init__()
        self.approximate = approximate
        self.fc1 = TokenLinear(dim, hidden)
        self.fc2 = TokenLinear(hidden, out or dim)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layers to each token."""
        return self.fc2(F.gelu(self.fc1(x), approximate=self.approximate))


class Block(nn.Module):
    """A block of the transformer, (B, L, D) → (B, L, D): join the skip, attend, MLP.

    Args:
        dim: D.
        num_heads: heads of the attention.
        mlp_ratio: hidden width of the MLP over D.
        qkv_bias: whether queries, keys and values have a bias.
        joins: whether a linear layer joins the skip to the stream; else a skip is added.
    """

    def __init__(
        self, dim: int, num_heads: int, mlp_ratio: float, *, qkv_bias: bool, joins: bool
    ) -> None:
        super().__init__()
        self.norm1 = LayerNorm(dim)
        self.attn = Attention(dim, num_heads, qkv_bias=qkv_bias)
        self.norm2 = LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.skip_linear = TokenLinear(2 * dim, dim) if joins else None

    def forward(
        self,
        x: Tensor,
        skip: Tensor | None = None,
        mask: Tensor | None = None,
        keys: Tensor | None = None,
    ) -> Tensor:
        """Apply the block to a stream, and to the output of an earlier block, if any.

        ``keys`` is as of ``Attention``.
        """
        if skip is not None and self.skip_linear is not None:
            x = masked(self.skip_linear(torch.cat((x, skip), dim=-1)), mask)
        elif skip is not None:
            x = x + skip
        x = masked(x + self.attn(self.norm1(x, mask), keys), mask)
        return masked(x + self.mlp(self.norm2(x, mask)), mask)
