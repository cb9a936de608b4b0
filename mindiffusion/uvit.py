"""U-ViT: a transformer on patches with long skips, for images of any sides that patches fill.

Source: Bao et al. 2023, "All are worth words" (2209.12152), and its public code (architecture only:
docs/methods.md, U-ViT). Names and order of the state dict are those of that code, so its released
weights load. The U-ViT of Hoogeboom et al. 2023 is another network.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mindiffusion.classes import told_classes, told_nothing
from mindiffusion.config.uvit import check_patches, check_transformer
from mindiffusion.errors import UserError
from mindiffusion.network import Network, without_autocast
from mindiffusion.text.table import TextTable
from mindiffusion.text_layers import TextReader
from mindiffusion.uvit_layers import Block, LayerNorm, PatchEmbed, as_images, masked, sinusoid

Skip = Literal["add"] | bool
Grid = tuple[int, int]
"""Patches along the height and along the width."""


def _unchanged(x: Tensor) -> Tensor:
    return x


@dataclass(frozen=True)
class Masks:
    """Where dimensions of the embedding are switched off.

    Attributes:
        patch: applied to the patches' tokens (B, patches, D), before their positions.
        decoder: applied to what the decoder reads, (B, patches, D).
        stream: (D,), on the whole residual stream; None: all of it is on.
    """

    patch: Callable[[Tensor], Tensor] = _unchanged
    decoder: Callable[[Tensor], Tensor] = _unchanged
    stream: Tensor | None = None


class UViT(Network):
    """U-ViT; with classes or with text as its condition, or with none.

    Tokens are the class and the time, or the time and the text, and then the patches, row by row.

    Args:
        img_size: side of the images in pixels, or (height, width).
        patch_size: side of a patch, which divides both.
        in_chans: channels of the noisy image and of the prediction.
        embed_dim: D, the width of the residual stream; a multiple of ``num_heads``.
        depth: blocks besides the middle one; even. The public code takes an odd depth for the even
            one below.
        num_heads: heads of each attention.
        mlp_ratio: hidden width of the MLPs over D.
        qkv_bias: whether queries, keys and values have a bias.
        mlp_time_embed: whether the time's sinusoid passes through an MLP.
        num_classes: rows of the table of classes; the last is also that of an image whose class is
            not told. Below 1: no classes.
        conv: whether a 3×3 convolution ends the network.
        skip: how the second half of the blocks reads the outputs of the first, last in, first out:
            True: joined by a linear layer; "add": added; False: not at all.
        clip_dim: width of the text's tokens; None: no text.
        num_clip_token: number of the text's tokens.
        texts: reads the text's tokens, of that width and number; None: they are the condition.
        time_scale: factor on what the network is told before its sinusoid; 999 is that of the
            VP-SDE's public code, for noise times.

    Raises:
        UserError: sizes that do not fit each other, or classes and text together.
    """

    def __init__(
        self,
        img_size: int | tuple[int, int],
        patch_size: int,
        in_chans: int,
        embed_dim: int,
        depth: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = False,
        mlp_time_embed: bool = False,
        num_classes: int = -1,
        conv: bool = True,
        skip: Skip = True,
        *,
        clip_dim: int | None = None,
        num_clip_token: int = 77,
        texts: TextReader | None = None,
        time_scale: float = 999.0,
    ) -> None:
        super().__init__()
        sides = (img_size, img_size) if isinstance(img_size, int) else img_size
        self.img_size: tuple[int, int] = sides
        check_patches(patch_size, self.img_size)
        check_transformer(embed_dim, depth, num_heads)
        if num_classes > 0 and clip_dim is not None:
            raise UserError("a U-ViT has classes or text: give num_classes or clip_dim, not both.")
        if skip not in (True, False, "add"):
            raise UserError(f"skip is {skip!r}; allowed are True, False and 'add'.")
        if clip_dim is not None and min(clip_dim, num_clip_token) < 1:
            raise UserError(
                f"clip_dim {clip_dim} with num_clip_token {num_clip_token}: both are 1 or more."
            )
        self.patch_size, self.in_chans, self.embed_dim = patch_size, in_chans, embed_dim
        self.skip, self.time_scale = skip, time_scale
        self.num_clip_token = num_clip_token
        extras = 1 + (num_classes > 0) + (0 if clip_dim is None else num_clip_token)
        self.patch_embed = PatchEmbed(patch_size, in_chans, embed_dim)
        self.time_embed = (
            nn.Sequential(
                nn.Linear(embed_dim, 4 * embed_dim), nn.SiLU(), nn.Linear(4 * embed_dim, embed_dim)
            )
            if mlp_time_embed
            else nn.Identity()
        )
        self.label_emb = nn.Embedding(num_classes, embed_dim) if num_classes > 0 else None
        self.context_embed = None if clip_dim is None else nn.Linear(clip_dim, embed_dim)
        self.pos_embed = nn.Parameter(torch.zeros(1, extras + self.num_patches, embed_dim))

        def block(*, joins: bool = False) -> Block:
            return Block(embed_dim, num_heads, mlp_ratio, qkv_bias=qkv_bias, joins=joins)

        self.in_blocks = nn.ModuleList(block() for _ in range(depth // 2))
        self.mid_block = block()
        self.out_blocks = nn.ModuleList(block(joins=skip is True) for _ in range(depth // 2))
        self.norm = LayerNorm(embed_dim)
        self.decoder_pred = nn.Linear(embed_dim, patch_size**2 * in_chans)
        self.final_layer = nn.Conv2d(in_chans, in_chans, 3, padding=1) if conv else nn.Identity()
        nn.init.trunc_normal_(self.pos_embed, std=_INITIAL_STD)
        self.apply(_initialise)
        self.texts = texts

    @property
    def grid(self) -> Grid:
        """Patches along the height and along the width."""
        height, width = self.img_size
        return height // self.patch_size, width // self.patch_size

    @property
    def num_patches(self) -> int:
        """Number of patches."""
        return self.grid[0] * self.grid[1]

    def forward(self, x: Tensor, told: Tensor, condition: Tensor | None = None) -> Tensor:
        """Predict the noise in ``x``.

        Args:
            x: (B, in_chans, H, W), noisy images of the sides that the network was built for.
            told: (B,), what the process says of the noise.
            condition: with classes their numbers, (B,) int64, −1 where an image's is not told, and
                None where none is; with ``texts`` numbers of captions, likewise; with text
                otherwise its tokens, (B, num_clip_token, clip_dim); else None.

        Returns:
            (B, in_chans, H, W).

        Raises:
            UserError: images of other sides, no text where there must be one, or a condition that
                does not fit.
        """
        return self._through(Masks(), x, told, condition)

    def read_texts(self, table: TextTable) -> None:
        """As of every network."""
        if self.texts is None:
            return super().read_texts(table)
        self.texts.read(table, self.pos_embed.device)

    def _through(self, masks: Masks, x: Tensor, told: Tensor, condition: Tensor | None) -> Tensor:
        """The forward pass under masks."""
        self._check_input(x, condition)
        with self._end(x):
            patches = masks.patch(self.patch_embed(x))
        told_tokens = self._extra_tokens(told, condition)
        tokens = torch.cat((*told_tokens, patches), dim=1) + self.pos_embed
        tokens = masked(tokens, masks.stream)
        kept = []
        for block in self.in_blocks:
            tokens = block(tokens, mask=masks.stream)
            kept.append(tokens)
        tokens = self.mid_block(tokens, mask=masks.stream)
        for block in self.out_blocks:
            tokens = block(tokens, kept.pop() if self.skip else None, masks.stream)
        with self._end(x):
            # Norm and decoder see each token alone, so those that are not drawn are left out first.
            drawn = tokens[:, -self.num_patches :].to(self.pos_embed.dtype)
            drawn = self.decoder_pred(masks.decoder(self.norm(drawn, masks.stream)))
            return self.final_layer(as_images(drawn, self.grid, self.patch_size))

    def _extra_tokens(self, told: Tensor, condition: Tensor | None) -> list[Tensor]:
        """The tokens before the patches', each (B, ·, D)."""
        weights = self.pos_embed.dtype
        with without_autocast(told):  # bf16 can't tell 998 from 999
            wide = told.to(torch.promote_types(weights, torch.float32))
            time = sinusoid(self.time_scale * wide, self.embed_dim).to(weights)
            time = self.time_embed(time)[:, None]
        if self.label_emb is not None:
            rows = self.label_emb.num_embeddings
            classes = told_classes(condition, told, rows, "U-ViT")
            return [self.label_emb(torch.where(classes < 0, rows - 1, classes))[:, None], time]
        if self.context_embed is not None:
            if self.texts is not None:
                condition = self.texts(condition, told)[0]
            assert condition is not None
            return [time, self.context_embed(condition.to(weights))]
        return [time]

    def _check_input(self, x: Tensor, condition: Tensor | None) -> None:
        if tuple(x.shape[2:]) != self.img_size:
            raise UserError(
                f"this U-ViT was built for images of {_sides(self.img_size)} pixels, but got "
                f"{_sides(x.shape[2:])}; see resized_positions."
            )
        if self.context_embed is None:
            if self.label_emb is None:
                told_nothing(condition, "U-ViT")
            return
        if self.texts is not None:  # it looks itself
            return
        tokens, width = self.num_clip_token, self.context_embed.in_features
        found = None if condition is None else tuple(condition.shape)
        if found != (len(x), tokens, width):
            what = "none" if found is None else f"one of shape {found}"
            raise UserError(
                f"this U-ViT wants a text for each image, (B, {tokens}, {width}), as its "
                f"condition, but got {what}."
            )

    def capacity_report(self) -> dict[str, float]:
        """All dimensions of the embedding, and no penalty."""
        return {"active_channels": float(self.embed_dim), "penalty_lambda": 0.0}


_INITIAL_STD = 0.02


def _initialise(module: nn.Module) -> None:
    """Linear layers: N(0, .02²), and biases of 0; norms begin so anyway.

    As in the public code the normal is cut at ±2, which is 100 standard deviations: not at all. And
    convolutions and the table of classes keep what PyTorch gives them.
    """
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=_INITIAL_STD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _sides(sides: tuple[int, ...]) -> str:
    return "×".join(map(str, sides))


def resized_positions(state: Mapping[str, Tensor], old: Grid, new: Grid) -> dict[str, Tensor]:
    """A U-ViT's state dict for images of other sides: positions of patches are interpolated.

    Positions of the class, the time and the text stay as they are. No other weight depends on the
    number of patches.

    Args:
        state: of a U-ViT.
        old: its patches along height and width.
        new: those of the wanted network (``UViT.grid``).

    Returns:
        A new state dict, which shares all other tensors; positions are interpolated bicubically.

    Raises:
        UserError: the state has no positions of such a grid.
    """
    positions = state.get("pos_embed")
    count = old[0] * old[1]
    if positions is None or positions.dim() != 3 or positions.shape[1] <= count:
        found = "none" if positions is None else f"pos_embed of shape {tuple(positions.shape)}"
        raise UserError(
            f"a U-ViT of {_sides(old)} patches has 1 to {count} positions and more, but these "
            f"weights have {found}; give the grid that they were trained on."
        )
    extras, patches = positions[:, :-count], positions[:, -count:]
    plane = patches.transpose(1, 2).unflatten(2, old)
    wide = plane.to(torch.promote_types(plane.dtype, torch.float32))
    resized = F.interpolate(wide, size=new, mode="bicubic").to(plane.dtype)
    return {**state, "pos_embed": torch.cat((extras, resized.flatten(2).transpose(1, 2)), dim=1)}


def forward_flops(network: UViT) -> int:
    """Floating-point operations of a forward pass on one image, two for each multiply-add.

    Matrix products and convolutions alone, which is what ``mindiffusion.step_cost`` counts; a
    training step takes three times as many, less the image's own gradient. What reads captions
    (``texts``) is not counted.
    """
    height, width = network.img_size
    tokens, patches = network.pos_embed.shape[1], network.num_patches
    blocks = [*network.in_blocks, network.mid_block, *network.out_blocks]
    total = tokens * sum(map(_linear_weights, blocks))
    total += len(blocks) * 2 * tokens**2 * network.embed_dim
    total += patches * network.patch_embed.proj.weight.numel()
    total += patches * network.decoder_pred.weight.numel()
    total += _linear_weights(network.time_embed)
    if network.context_embed is not None:
        total += (tokens - patches - 1) * network.context_embed.weight.numel()
    if isinstance(network.final_layer, nn.Conv2d):
        total += height * width * network.final_layer.weight.numel()
    return 2 * total


def _linear_weights(module: nn.Module) -> int:
    return sum(each.weight.numel() for each in module.modules() if isinstance(each, nn.Linear))
