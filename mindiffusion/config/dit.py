"""DiT in configs; free of PyTorch."""

from dataclasses import dataclass as plain_dataclass
from typing import Literal

from pydantic.dataclasses import dataclass

from mindiffusion.config.model_base import (
    STRICT,
    Blocks,
    Classes,
    Features,
    ModelConfig,
    Side,
    TimeScale,
    classes_in_words,
)
from mindiffusion.config.text import TextConfig, check_one_condition, text_in_words
from mindiffusion.config.uvit import check_patches
from mindiffusion.errors import UserError

_WIDTH_MULTIPLE = 4
"""Positions are sines and cosines of two axes."""


@plain_dataclass(frozen=True)
class DiTSizes:
    """How large a DiT is.

    Attributes:
        depth: blocks.
        hidden_size: width of the tokens.
        num_heads: heads of each attention.
    """

    depth: int
    hidden_size: int
    num_heads: int


DIT_SIZES = {
    "S": DiTSizes(12, 384, 6),
    "B": DiTSizes(12, 768, 12),
    "L": DiTSizes(24, 1024, 16),
    "XL": DiTSizes(28, 1152, 16),
}
"""The authors' sizes by name."""
SizeName = Literal["S", "B", "L", "XL"]


def check_dit(sizes: DiTSizes) -> None:
    """Raise UserError unless heads share the width evenly, and positions of two axes fit in it."""
    width, heads = sizes.hidden_size, sizes.num_heads
    if min(width, heads, sizes.depth) < 1 or width % heads or width % _WIDTH_MULTIPLE:
        raise UserError(
            f"model.hidden_size is {width}, model.num_heads {heads} and model.depth {sizes.depth}, "
            f"but DiT takes multiples of its heads and of {_WIDTH_MULTIPLE} as its width, and at "
            "least one block; try --set model.hidden_size=384 with num_heads=6."
        )


@dataclass(frozen=True, config=STRICT)
class DiTConfig(ModelConfig):
    """DiT (Peebles and Xie 2023, 2212.09748); by default the authors' small one.

    Attributes:
        patch_size: side of a patch in pixels; divides the images' side.
        size: the authors' name of a depth, a width and a number of heads.
        hidden_size: width of the tokens, a multiple of ``num_heads`` and of 4; null: that of size.
        depth: blocks; null: those of size.
        num_heads: heads of each attention; null: those of size.
        num_classes: classes that it may be told of; null: none, and no table of classes. The table
            has one more row, the last, for images that it is told nothing of.
        text: how it reads captions; null: it reads none.
        time_scale: factor on what the process tells before its sinusoid; null: the process's.
        learn_sigma: whether it learns the variance of the steps of a chain too.
    """

    network: Literal["dit"] = "dit"
    patch_size: Side = 2
    size: SizeName = "S"
    hidden_size: Features | None = None
    depth: Blocks | None = None
    num_heads: Features | None = None
    num_classes: Classes | None = None
    text: TextConfig | None = None
    time_scale: TimeScale | None = None
    learn_sigma: bool = False

    def __post_init__(self) -> None:
        """Refuse sizes that do not fit each other."""
        check_dit(self.sizes)
        check_one_condition(self)

    @property
    def sizes(self) -> DiTSizes:
        """How large it is."""
        named = DIT_SIZES[self.size]
        return DiTSizes(
            self.depth or named.depth,
            self.hidden_size or named.hidden_size,
            self.num_heads or named.num_heads,
        )

    @property
    def words(self) -> str:
        """What it is called: by the authors' name if it has one of their sizes."""
        sizes, more = self.sizes, classes_in_words(self.num_classes) + text_in_words(self.text)
        more += ", learned variance" if self.learn_sigma else ""
        for name, named in DIT_SIZES.items():
            if sizes == named:
                return f"DiT-{name}/{self.patch_size}{more}"
        return (
            f"DiT, patch {self.patch_size}, width {sizes.hidden_size}, depth {sizes.depth}, heads "
            f"{sizes.num_heads}{more}"
        )

    def layers(self, side: int) -> tuple[str, ...]:
        """Every block of the transformer."""
        return tuple(f"blocks.{k}" for k in range(self.sizes.depth))

    def check(self, side: int) -> None:
        """Raise UserError unless patches of this size fill images of this side."""
        check_patches(self.patch_size, (side, side))
