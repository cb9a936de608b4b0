"""The U-Nets of minDiffusion in configs: plain, with a channel mask, with a group penalty."""

from typing import ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from mindiffusion.config.model_base import (
    MAX_SIDE,
    MOST_FEATURES,
    STRICT,
    CapacityLimit,
    ModelConfig,
)
from mindiffusion.errors import UserError

_WIDTH_MULTIPLE = 8
"""Every norm has 8 groups."""
MIN_SIDE = 32
SIDE_MULTIPLE = 32
"""Three 2×2 poolings, then the 4×4 pooling of ``to_vec`` that ``up0`` undoes, must divide."""
_BLOCKS = ("init_conv", "down1", "down2", "down3", "up0", "up1", "up2", "up3", "out")
"""Parts of a U-Net with convolutions, from its input to its output."""
_LAYERS = ("down1", "down2", "down3", "to_vec", "up0", "up1", "up2", "up3")
"""Blocks with an output of their own. ``to_vec`` is the bottleneck before a mask acts on it."""
_MASKED = {
    "bottleneck": ("bottleneck", "bottleneck channels"),
    "silent": ("bottleneck", "bottleneck channels, innermost skip, time embedding"),
    "down1": ("down1", "channels of down1, its skip included"),
}
"""By placement of the channel mask: the place as rows name it, and what is limited, in words."""
_WIDE_FROM_N_FEAT = 32
"""On CPUs bf16 and the compiler were measured slower below this width (docs/design.md)."""


def check_sizes(n_feat: int, image_size: int) -> None:
    """Raise UserError unless a NaiveUnet can take these sizes.

    Args:
        n_feat: base width; a positive multiple of 8, since every norm has 8 groups; at most 4096.
        image_size: side in pixels; a positive multiple of 32; at most 1024.
    """
    if not _WIDTH_MULTIPLE <= n_feat <= MOST_FEATURES or n_feat % _WIDTH_MULTIPLE:
        raise UserError(
            f"model.n_feat is {n_feat}, but NaiveUnet takes positive multiples of "
            f"{_WIDTH_MULTIPLE} (its norms have {_WIDTH_MULTIPLE} groups) up to {MOST_FEATURES}; "
            "try --set model.n_feat=32."
        )
    if not MIN_SIDE <= image_size <= MAX_SIDE or image_size % SIDE_MULTIPLE:
        raise UserError(
            f"data.size is {image_size}, but NaiveUnet takes multiples of {SIDE_MULTIPLE} from "
            f"{MIN_SIDE} to {MAX_SIDE} (it pools 8-fold, then 4×4); try --set data.size=32."
        )


@dataclass(frozen=True, config=STRICT)
class UnetConfig(ModelConfig):
    """What all U-Nets have.

    Attributes:
        n_feat: base width, a multiple of 8.
        width: factor on ``n_feat``, in (0, 1], for an arm with a narrower network than its study's.
    """

    n_feat: int = Field(default=32, le=MOST_FEATURES)
    width: float = Field(default=1.0, gt=0, le=1)

    def __post_init__(self) -> None:
        """Refuse a width that leaves no multiple of 8."""
        if self.width != 1.0 and (
            self.base_width % _WIDTH_MULTIPLE or self.base_width != self.n_feat * self.width
        ):
            raise UserError(
                f"model.width {self.width:g} of model.n_feat {self.n_feat} is "
                f"{self.n_feat * self.width:g}, no multiple of {_WIDTH_MULTIPLE}; change one of "
                "the two."
            )

    @property
    def base_width(self) -> int:
        """Width of the network that is built: n_feat · width."""
        return round(self.n_feat * self.width)

    @property
    def title(self) -> str:
        """What the network is called in tables."""
        return "NaiveUnet"

    @property
    def words(self) -> str:
        """What it is called, and its base width."""
        return f"{self.title}, n_feat {self.base_width}"

    def layers(self, side: int) -> tuple[str, ...]:
        """Every block between the first convolutions and the last."""
        return _LAYERS

    def check(self, side: int) -> None:
        """Raise UserError unless width and side are sizes that a U-Net takes."""
        check_sizes(self.base_width, side)

    @property
    def is_wide(self) -> bool:
        """By ``n_feat``: a narrower arm computes as the others of its study do."""
        return self.n_feat >= _WIDE_FROM_N_FEAT


@dataclass(frozen=True, config=STRICT)
class NaiveUnetConfig(UnetConfig):
    """The U-Net of minDiffusion."""

    network: Literal["naive_unet"] = "naive_unet"


@dataclass(frozen=True, config=STRICT)
class SparseUnetConfig(UnetConfig):
    """The U-Net with a channel mask.

    Attributes:
        placement: where the mask acts, see ``mindiffusion/sparse_unet.py``.
        regrow_method: how channels are chosen.
        probe_batches: batches behind a regrowth's saliency.
        probe_batch_size: images in each of them.
    """

    network: Literal["sparse_unet"] = "sparse_unet"
    heeds: ClassVar[tuple[str, ...]] = ("sparsity",)
    placement: Literal["bottleneck", "silent", "down1"] = "bottleneck"
    regrow_method: Literal["gradient", "random"] = "gradient"
    probe_batches: int = Field(default=4, ge=1, le=10_000)
    probe_batch_size: int = Field(default=64, ge=2, le=1_000_000)

    @property
    def title(self) -> str:
        """What the network is called in tables."""
        further = {"bottleneck": "", "silent": ", silent", "down1": " behind down1"}
        return f"NaiveUnet with a channel mask{further[self.placement]}"

    @property
    def capacity_limit(self) -> CapacityLimit:
        """A mask of 0 and 1 on the channels of the bottleneck, or of the first block."""
        place, location = _MASKED[self.placement]
        regrowth = {"gradient": "regrowth by saliency", "random": "random regrowth"}
        return CapacityLimit(
            mechanism="hard mask",
            location=location,
            control=f"{regrowth[self.regrow_method]} at each stage",
            values="0 or 1",
            places=(place,),
        )


@dataclass(frozen=True, config=STRICT)
class RegUnetConfig(UnetConfig):
    """The U-Net with a group-L1 penalty on its convolutions."""

    network: Literal["reg_unet"] = "reg_unet"
    heeds: ClassVar[tuple[str, ...]] = ("penalty_lambda",)

    @property
    def title(self) -> str:
        """What the network is called in tables."""
        return "NaiveUnet with a group penalty"

    @property
    def capacity_limit(self) -> CapacityLimit:
        """A penalty on the norms of all output channels."""
        return CapacityLimit(
            mechanism="group-L1 penalty",
            location="output channels of all convolutions",
            control="λ of each stage",
            values="continuous",
            places=_BLOCKS,
        )
