"""DiT: a transformer on patches whose norms are set by the noise and by the class.

Source: Peebles and Xie 2023, "Scalable Diffusion Models with Transformers" (2212.09748), and its
public code, which names the weights (architecture only: docs/networks.md, DiT). With text its
blocks also attend to a caption's tokens, by the layers of PixArt-α (Chen et al. 2023, 2310.00426):
between attention and MLP, without a norm or a gate, idle at first (docs/text.md).
"""

from typing import Any, Self

import torch
from torch import Tensor, nn

from mindiffusion.classes import told_classes, told_nothing
from mindiffusion.config.dit import DIT_SIZES, DiTSizes, SizeName, check_dit
from mindiffusion.config.uvit import check_patches
from mindiffusion.errors import UserError
from mindiffusion.network import Network, check_side, without_autocast
from mindiffusion.text.table import TextTable
from mindiffusion.text_layers import TextReader
from mindiffusion.uvit_layers import (
    Attention,
    CrossAttention,
    Mlp,
    PatchEmbed,
    as_images,
    sinusoid,
)

_EPS = 1e-6
_TIME_DIM = 256
_EMBEDDING_STD = 0.02
_IDLE = ("adaLN_modulation.1", "final_layer.linear", "cross_attn.proj")
_LONGEST_PERIOD = 10_000.0


class DiT(Network):
    """DiT with adaLN-Zero blocks; its answer is exactly 0 before it is trained.

    Args:
        input_size: side of the images in pixels.
        patch_size: side of a patch, which divides it.
        in_channels: C, channels of the noisy image.
        hidden_size: D, width of the tokens; a multiple of 4 and of ``num_heads``.
        depth: blocks.
        num_heads: heads of each attention.
        mlp_ratio: hidden width of the MLPs over D.
        class_dropout_prob: above 0: the table of classes has a row more, the last, for images that
            the network is told nothing of. Nothing is drawn here: labels are dropped in the batch.
        num_classes: number of classes; 0 or None: it knows none.
        learn_sigma: whether there are C more channels, that say the variance.
        time_scale: factor on what the network is told before its sinusoid, which is made for
            0 … 999.
        texts: reads captions; None: it has no text.

    Raises:
        UserError: sizes that do not fit each other, or classes and text together.
    """

    def __init__(
        self,
        input_size: int = 32,
        patch_size: int = 2,
        in_channels: int = 4,
        hidden_size: int = 1152,
        depth: int = 28,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        class_dropout_prob: float = 0.1,
        num_classes: int | None = 1000,
        learn_sigma: bool = True,
        *,
        time_scale: float = 1.0,
        texts: TextReader | None = None,
    ) -> None:
        super().__init__()
        if num_classes and texts is not None:
            raise UserError("a DiT has classes or text: give num_classes or texts, not both.")
        check_patches(patch_size, (input_size, input_size))
        check_dit(DiTSizes(depth, hidden_size, num_heads))
        self.input_size, self.patch_size, self.hidden_size = input_size, patch_size, hidden_size
        self.out_channels = 2 * in_channels if learn_sigma else in_channels
        self.time_scale = time_scale
        side = input_size // patch_size
        self.x_embedder = PatchEmbed(patch_size, in_channels, hidden_size)
        self.t_embedder = TimestepEmbedder(hidden_size)
        self.y_embedder: LabelEmbedder | CaptionEmbedder | None = None
        if num_classes:
            self.y_embedder = LabelEmbedder(
                num_classes, hidden_size, has_null=class_dropout_prob > 0
            )
        elif texts is not None:
            self.y_embedder = CaptionEmbedder(texts.width, hidden_size)
        # Fixed, but among the weights of the public code: decay and gradients pass it by.
        self.pos_embed = nn.Parameter(grid_positions(hidden_size, side), requires_grad=False)
        self.blocks = nn.ModuleList(
            DiTBlock(hidden_size, num_heads, mlp_ratio, attends=texts is not None)
            for _ in range(depth)
        )
        self.final_layer = FinalLayer(hidden_size, patch_size**2 * self.out_channels)
        self._begin()
        self.texts = texts

    @classmethod
    def of_size(cls, name: SizeName, **options: Any) -> Self:
        """The authors' network of a name: "S", "B", "L" or "XL".

        Args:
            name: of its depth, width and heads.
            **options: the constructor's other arguments.
        """
        sizes = DIT_SIZES[name]
        return cls(
            hidden_size=sizes.hidden_size, depth=sizes.depth, num_heads=sizes.num_heads, **options
        )

    def _begin(self) -> None:
        """First weights: Xavier's, but for embeddings, and zeros where a block is to be idle."""
        for name, layer in self.named_modules():
            if isinstance(layer, nn.Linear):
                if name.endswith(_IDLE):
                    nn.init.zeros_(layer.weight)
                elif name.startswith(("t_embedder.", "y_embedder.y_proj.")):
                    nn.init.normal_(layer.weight, std=_EMBEDDING_STD)
                else:
                    nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
            elif isinstance(layer, nn.Embedding):
                nn.init.normal_(layer.weight, std=_EMBEDDING_STD)
        patches = self.x_embedder.proj
        nn.init.xavier_uniform_(patches.weight.view(self.hidden_size, -1))
        assert patches.bias is not None
        nn.init.zeros_(patches.bias)

    def forward(self, x: Tensor, told: Tensor, condition: Tensor | None = None) -> Tensor:
        """Answer to noisy images.

        Args:
            x: (B, C, H, W), of the side that the network was built for.
            told: (B,), what the process says of the noise.
            condition: classes, or numbers of captions, (B,) int64, −1 where an image's is not told;
                None: none is told.

        Returns:
            (B, C, H, W), or (B, 2C, H, W) with ``learn_sigma``: the variance's channels come last.

        Raises:
            UserError: images of another side, or classes or captions that it does not know.
        """
        check_side(x, self.input_size, "DiT")
        told_of = self._embedding(x, told, condition)
        caption: tuple[Tensor, ...] = ()
        if self.texts is not None and isinstance(self.y_embedder, CaptionEmbedder):
            states, is_there = self.texts(condition, x)
            states = states.to(self.pos_embed.dtype)
            told_of = told_of + self.y_embedder.pooled(states, is_there)
            caption = self.y_embedder(states), is_there
        with self._end(x):
            tokens = self.x_embedder(x) + self.pos_embed
        for block in self.blocks:
            tokens = block(tokens, told_of, *caption)
        with self._end(x):
            tokens = self.final_layer(tokens.to(self.pos_embed.dtype), told_of)
        side = self.input_size // self.patch_size
        return as_images(tokens, (side, side), self.patch_size)

    def _embedding(self, x: Tensor, told: Tensor, condition: Tensor | None) -> Tensor:
        """What every block is told of the noise and of the class, (B, D)."""
        weights = self.pos_embed.dtype
        with without_autocast(told):  # bf16 can't tell 998 from 999
            wide = told.to(torch.promote_types(weights, torch.float32))
            embedded = self.t_embedder(self.time_scale * wide, weights)
            if isinstance(self.y_embedder, LabelEmbedder):
                return embedded + self.y_embedder(condition, x)
            if self.y_embedder is None:
                told_nothing(condition, "DiT")
            return embedded

    def read_texts(self, table: TextTable) -> None:
        """As of every network."""
        if self.texts is None:
            return super().read_texts(table)
        self.texts.read(table, self.pos_embed.device)

    def capacity_report(self) -> dict[str, float]:
        """All dimensions of the tokens, and no penalty."""
        return {"active_channels": float(self.hidden_size), "penalty_lambda": 0.0}


class TimestepEmbedder(nn.Module):
    """Cosines and sines of a number, then an MLP: (B,) → (B, D)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(_TIME_DIM, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, times: Tensor, weights: torch.dtype) -> Tensor:
        """Embed numbers of float32 or wider; ``weights`` is the dtype of the weights."""
        return self.mlp(sinusoid(times, _TIME_DIM).to(weights))


class LabelEmbedder(nn.Module):
    """A row of a table for each class: (B,) → (B, D).

    Args:
        num_classes: n.
        dim: D.
        has_null: whether the last row is for images that nothing is told of.
    """

    def __init__(self, num_classes: int, dim: int, *, has_null: bool) -> None:
        super().__init__()
        self.num_classes, self.has_null = num_classes, has_null
        self.embedding_table = nn.Embedding(num_classes + has_null, dim)

    def forward(self, condition: Tensor | None, images: Tensor) -> Tensor:
        """Rows of the classes of ``images`` (B, …).

        Raises:
            UserError: classes that there are not, or none told of a network without a row for that.
        """
        classes = told_classes(condition, images, self.num_classes, "DiT")
        if self.has_null:
            return self.embedding_table(torch.where(classes < 0, self.num_classes, classes))
        is_known = classes.device.type == "cpu" and not torch.compiler.is_compiling()
        if condition is None or (is_known and bool((classes < 0).any())):
            raise UserError(
                "this DiT has no row for images whose class is not told; tell it all classes, or "
                "build it with class_dropout_prob above 0."
            )
        return self.embedding_table(classes)


class CaptionEmbedder(nn.Module):
    """States of a caption's tokens, as tokens of the network: (B, L, W) → (B, L, D).

    All of them together also go where the time goes, into the modulation of every block, as pooled
    states of text do in Stable Diffusion 3 (Esser et al. 2024, 2403.03206, figure 2). Without that,
    a small network learned nothing of captions in the time in which it learned to draw:
    docs/text.md.
    """

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.y_proj = Mlp(width, dim, approximate="tanh", out=dim)
        self.y_pool = nn.Linear(width, dim)

    def forward(self, states: Tensor) -> Tensor:
        """Embed them."""
        return self.y_proj(states)

    def pooled(self, states: Tensor, is_there: Tensor) -> Tensor:
        """The caption as one vector, (B, D), of the states that ``is_there`` (B, L) has.

        Their sum over the root of their number: of states that are unlike each other, it is as
        large as one of them.
        """
        kept = states * is_there[..., None]
        return self.y_pool(kept.sum(dim=1) / is_there.sum(dim=1, keepdim=True).to(kept).sqrt())


class DiTBlock(nn.Module):
    """Attention and an MLP behind norms that are shifted and scaled, each with a gate: adaLN-Zero.

    Tokens (B, L, D) and what they are told (B, D) → (B, L, D). With ``attends`` the tokens also
    attend to those of a caption.
    """

    def __init__(
        self, dim: int, num_heads: int, mlp_ratio: float, *, attends: bool = False
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, elementwise_affine=False, eps=_EPS)
        self.attn = Attention(dim, num_heads, qkv_bias=True)
        self.cross_attn = CrossAttention(dim, num_heads) if attends else None
        self.norm2 = nn.LayerNorm(dim, elementwise_affine=False, eps=_EPS)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), approximate="tanh")
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))

    def forward(
        self,
        x: Tensor,
        told_of: Tensor,
        caption: Tensor | None = None,
        keys: Tensor | None = None,
    ) -> Tensor:
        """Apply the block; of a caption (B, M, D) the tokens are read that ``keys`` (B, M) has."""
        parts = self.adaLN_modulation(told_of)[:, None].chunk(6, dim=-1)
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = parts
        x = x + gate * self.attn(_modulated(self.norm1(x), shift, scale))
        if self.cross_attn is not None and caption is not None:
            x = x + self.cross_attn(x, caption, keys)
        return x + gate_mlp * self.mlp(_modulated(self.norm2(x), shift_mlp, scale_mlp))


class FinalLayer(nn.Module):
    """A norm that is shifted and scaled, then a linear layer: (B, L, D) → (B, L, out)."""

    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.norm_final = nn.LayerNorm(dim, elementwise_affine=False, eps=_EPS)
        self.linear = nn.Linear(dim, out)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 2 * dim))

    def forward(self, x: Tensor, told_of: Tensor) -> Tensor:
        """Apply the layer."""
        shift, scale = self.adaLN_modulation(told_of)[:, None].chunk(2, dim=-1)
        return self.linear(_modulated(self.norm_final(x), shift, scale))


def _modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return x * (1 + scale) + shift


def grid_positions(dim: int, side: int) -> Tensor:
    """Fixed positions of a square of patches, row by row: (1, side², dim) float32.

    The first half of the dimensions tells the column, the second the row; each has dim/4 sines,
    then as many cosines, of frequencies 10000^(−i/(dim/4)).
    """
    number = torch.arange(dim // 4, dtype=torch.float64)
    angles = torch.arange(side).double()[:, None] * _LONGEST_PERIOD ** (-number / (dim // 4))
    axis = torch.cat((angles.sin(), angles.cos()), dim=1)
    columns = axis.expand(side, side, -1)
    rows = axis[:, None].expand(side, side, -1)
    return torch.cat((columns, rows), dim=-1).flatten(0, 1)[None].float()
