"""U-ViT in configs: plain, and with a mask on dimensions of its embedding."""

from typing import ClassVar, Literal

from pydantic.dataclasses import dataclass

from mindiffusion.config.model_base import (
    STRICT,
    Blocks,
    CapacityLimit,
    Classes,
    Features,
    ModelConfig,
    Side,
    classes_in_words,
)
from mindiffusion.config.text import TextConfig, check_one_condition, text_in_words
from mindiffusion.errors import UserError


def check_transformer(embed_dim: int, depth: int, num_heads: int) -> None:
    """Raise UserError unless a U-ViT can have these sizes.

    Args:
        embed_dim: width of the residual stream; a multiple of ``num_heads``.
        depth: blocks besides the middle one; even, for each half has as many.
        num_heads: heads of each attention.
    """
    if min(embed_dim, num_heads) < 1 or embed_dim % num_heads:
        heads = max(1, num_heads)
        near = heads * max(1, round(embed_dim / heads))
        raise UserError(
            f"model.embed_dim is {embed_dim} and model.num_heads {num_heads}, but the heads of "
            f"U-ViT share its width evenly; try --set model.embed_dim={near}."
        )
    if depth < 1 or depth % 2:
        even = max(2, depth - 1)
        raise UserError(
            f"model.depth is {depth}, but U-ViT has as many blocks before its middle one as after "
            f"it; give {even} or {even + 2}."
        )


def check_patches(patch_size: int, img_size: tuple[int, int]) -> None:
    """Raise UserError unless square patches fill images of these sides (H, W), in pixels."""
    if patch_size < 1 or any(side < 1 or side % patch_size for side in img_size):
        height, width = img_size
        raise UserError(
            f"model.patch_size is {patch_size}, which does not divide images of {height}×{width} "
            "pixels; change model.patch_size or data.size."
        )


@dataclass(frozen=True, config=STRICT)
class UViTConfig(ModelConfig):
    """U-ViT (Bao et al. 2023, 2209.12152); by default the authors' small one for 64×64 pixels.

    Attributes:
        patch_size: side of a patch in pixels; divides the images' side.
        embed_dim: width of the residual stream, a multiple of ``num_heads``.
        depth: blocks besides the middle one, an even number.
        num_heads: heads of each attention.
        conv: whether a 3×3 convolution ends the network; the authors' largest have none.
        skip: whether the second half of the blocks reads the first half's outputs: true joins them
            by a linear layer, "add" adds them.
        num_classes: classes that it may be told of; null: none. Its table of classes has one more
            row, the last, for images that it is told nothing of.
        text: how it reads captions; null: it reads none.
    """

    network: Literal["uvit"] = "uvit"
    patch_size: Side = 4
    embed_dim: Features = 512
    depth: Blocks = 12
    num_heads: Features = 8
    conv: bool = True
    skip: Literal[True, False, "add"] = True
    num_classes: Classes | None = None
    text: TextConfig | None = None

    def __post_init__(self) -> None:
        """Refuse sizes that fit no image."""
        check_transformer(self.embed_dim, self.depth, self.num_heads)
        check_one_condition(self)

    @property
    def title(self) -> str:
        """What the network is called in tables."""
        return "U-ViT"

    @property
    def words(self) -> str:
        """What it is called, its sizes, and what it has not."""
        skip = {True: "", False: ", no skips", "add": ", added skips"}[self.skip]
        return (
            f"{self.title}, patch {self.patch_size}, width {self.embed_dim}, depth {self.depth}, "
            f"heads {self.num_heads}{skip}{'' if self.conv else ', no last convolution'}"
            f"{classes_in_words(self.num_classes)}{text_in_words(self.text)}"
        )

    def layers(self, side: int) -> tuple[str, ...]:
        """Every block of the transformer."""
        half = range(self.depth // 2)
        first, second = ([f"{part}_blocks.{k}" for k in half] for part in ("in", "out"))
        return (*first, "mid_block", *second)

    def check(self, side: int) -> None:
        """Raise UserError unless patches of this size fill images of this side."""
        check_patches(self.patch_size, (side, side))


@dataclass(frozen=True, config=STRICT)
class SparseUViTConfig(UViTConfig):
    """U-ViT with a mask on the dimensions of its embedding.

    Attributes:
        placement: where the mask acts.
        sampling: whether the mask acts outside training too, or is lifted there.
    """

    network: Literal["sparse_uvit"] = "sparse_uvit"  # type: ignore[assignment]
    heeds: ClassVar[tuple[str, ...]] = ("sparsity",)
    placement: Literal["patch", "patch+decoder", "stream"] = "patch"
    sampling: Literal["lifted", "masked"] = "lifted"

    @property
    def title(self) -> str:
        """What the network is called in tables."""
        when = ", also when sampling" if self.sampling == "masked" else ""
        return f"U-ViT with an embedding mask ({self.placement}{when})"

    @property
    def capacity_limit(self) -> CapacityLimit:
        """A mask of 0 and 1 on the dimensions of the embedding."""
        location = {
            "patch": "embedding dimensions of patches",
            "patch+decoder": "embedding dimensions of patches and before the decoder",
            "stream": "embedding dimensions of the whole residual stream",
        }
        when = " of training" if self.sampling == "lifted" else ""
        return CapacityLimit(
            mechanism="hard mask",
            location=location[self.placement],
            control=f"fixed random order at each stage{when}",
            values="0 or 1",
            places=(self.placement,),
        )
