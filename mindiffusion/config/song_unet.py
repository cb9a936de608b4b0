"""SongUNet in configs: DDPM++ and NCSN++, and the plan of their blocks; free of PyTorch."""

from dataclasses import dataclass as plain_dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from mindiffusion.config.model_base import (
    STRICT,
    Classes,
    Features,
    ModelConfig,
    Side,
    TimeScale,
    classes_in_words,
)
from mindiffusion.errors import UserError

_CHANNEL_MULTIPLE = 4
"""A norm has no fewer channels in a group, and the time's sinusoid two halves of two."""
_MOST_GROUPS = 32
_MOST_LEVELS = 8
_MOST_BLOCKS_PER_LEVEL = 32


def norm_groups(channels: int) -> int:
    """Groups of a norm over so many channels: at most 32, of at least 4 channels each."""
    return min(_MOST_GROUPS, channels // _CHANNEL_MULTIPLE)


@plain_dataclass(frozen=True)
class BlockPlan:
    """One block of a SongUNet.

    Attributes:
        name: as state dicts have it, such as "16x16_down".
        in_channels: channels that it reads, with those of a skip.
        out_channels: channels that it writes.
        attention: whether it ends with attention.
        resample: whether it halves or doubles the side.
        joins: whether it reads a skip too.
    """

    name: str
    in_channels: int
    out_channels: int
    attention: bool = False
    resample: Literal["down", "up"] | None = None
    joins: bool = False


@plain_dataclass(frozen=True)
class Sizes:
    """What the blocks of a SongUNet follow from.

    Attributes:
        side: of the images, in pixels.
        width: channels of the first convolution.
        mults: factor on the width at each level, from the finest.
        num_blocks: blocks of each level of the encoder; the decoder has one more.
        attn_resolutions: sides of the maps that have attention.
    """

    side: int
    width: int
    mults: tuple[int, ...]
    num_blocks: int
    attn_resolutions: tuple[int, ...]

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Side of the maps at each level."""
        return tuple(self.side >> level for level in range(len(self.mults)))


def plan_encoder(sizes: Sizes) -> tuple[BlockPlan, ...]:
    """Blocks after the first convolution, from the finest level down."""
    plan, width = [], sizes.width
    for level, (side, mult) in enumerate(zip(sizes.resolutions, sizes.mults, strict=True)):
        if level:
            plan.append(BlockPlan(f"{side}x{side}_down", width, width, resample="down"))
        for number in range(sizes.num_blocks):
            attends = side in sizes.attn_resolutions
            out = sizes.width * mult
            plan.append(BlockPlan(f"{side}x{side}_block{number}", width, out, attends))
            width = out
    return tuple(plan)


def plan_decoder(sizes: Sizes) -> tuple[BlockPlan, ...]:
    """Blocks up to the last norm, from the coarsest level up; skips are read last in, first out."""
    skips = [sizes.width, *(block.out_channels for block in plan_encoder(sizes))]
    plan, width = [], skips[-1]
    coarsest = len(sizes.mults) - 1
    for level in range(coarsest, -1, -1):
        side, out = sizes.resolutions[level], sizes.width * sizes.mults[level]
        if level == coarsest:
            plan.append(BlockPlan(f"{side}x{side}_in0", width, width, attention=True))
            plan.append(BlockPlan(f"{side}x{side}_in1", width, width))
        else:
            plan.append(BlockPlan(f"{side}x{side}_up", width, width, resample="up"))
        for number in range(sizes.num_blocks + 1):
            attends = number == sizes.num_blocks and side in sizes.attn_resolutions
            read = width + skips.pop()
            plan.append(BlockPlan(f"{side}x{side}_block{number}", read, out, attends, joins=True))
            width = out
    return tuple(plan)


def check_song_widths(sizes: Sizes) -> None:
    """Raise UserError unless norms can group the channels of every block."""
    width, mults = sizes.width, sizes.mults
    if width < _CHANNEL_MULTIPLE or width % _CHANNEL_MULTIPLE:
        raise UserError(
            f"model.model_channels is {width}, but SongUNet takes positive multiples of "
            f"{_CHANNEL_MULTIPLE}; try --set model.model_channels=128."
        )
    if not mults or min(mults) < 1 or sizes.num_blocks < 1:
        raise UserError(
            f"model.channel_mult is {list(mults)} and model.num_blocks {sizes.num_blocks}; give at "
            "least one factor, whole numbers from 1, and at least one block."
        )
    for block in (*plan_encoder(sizes), *plan_decoder(sizes)):
        for channels in (block.in_channels, block.out_channels):
            if channels % norm_groups(channels):
                raise UserError(
                    f"model.model_channels is {width}, which gives a norm of SongUNet {channels} "
                    f"channels in {norm_groups(channels)} groups; give a multiple of "
                    f"{_MOST_GROUPS}."
                )


def check_song_sides(sizes: Sizes) -> None:
    """Raise UserError unless the levels halve the side, and attention is where maps are."""
    halvings = 2 ** (len(sizes.mults) - 1)
    if sizes.side < halvings or sizes.side % halvings:
        raise UserError(
            f"data.size is {sizes.side}, but a SongUNet of {len(sizes.mults)} levels "
            f"(model.channel_mult) takes multiples of {halvings}; change one of the two."
        )
    for side in sizes.attn_resolutions:
        if side not in sizes.resolutions:
            there = ", ".join(map(str, sizes.resolutions))
            raise UserError(
                f"model.attn_resolutions has {side}, but with images of {sizes.side} pixels and "
                f"{len(sizes.mults)} levels the maps have sides {there}; give some of these, or []."
            )


_Mult = Annotated[int, Field(ge=1, le=64)]


@dataclass(frozen=True, config=STRICT)
class SongUNetConfig(ModelConfig):
    """The U-Nets of Song et al. 2021 as Karras et al. 2022 build them; by default for CIFAR-10.

    With ``training.augment`` above 0 they also have inputs for how images were augmented.

    Attributes:
        arch: "ddpmpp" (DDPM++), or "ncsnpp" (NCSN++: the noise through random Fourier features, a
            smoother filter at each change of resolution, and the small image at every level).
        model_channels: channels of the first convolution, a multiple of 4.
        channel_mult: factor on them at each level, from the finest.
        num_blocks: blocks of each level of the encoder; the decoder has one more.
        attn_resolutions: sides of the maps, in pixels, that have attention.
        num_classes: classes that it may be told of; null: none.
        time_scale: factor on what the process tells before the noise's embedding; null: that of the
            process for DDPM++, and 1 for NCSN++, whose features have short periods themselves.
    """

    takes_augment_labels: ClassVar[bool] = True
    network: Literal["song_unet"] = "song_unet"
    arch: Literal["ddpmpp", "ncsnpp"] = "ddpmpp"
    model_channels: Features = 128
    channel_mult: Annotated[tuple[_Mult, ...], Field(min_length=1, max_length=_MOST_LEVELS)] = (
        *(2, 2, 2),
    )
    num_blocks: int = Field(default=4, ge=1, le=_MOST_BLOCKS_PER_LEVEL)
    attn_resolutions: Annotated[tuple[Side, ...], Field(max_length=_MOST_LEVELS)] = (16,)
    num_classes: Classes | None = None
    time_scale: TimeScale | None = None

    def __post_init__(self) -> None:
        """Refuse widths that norms can't group."""
        check_song_widths(self.sizes(2 ** (len(self.channel_mult) - 1)))

    def sizes(self, side: int) -> Sizes:
        """What its blocks follow from, for images of this side in pixels."""
        return Sizes(
            side, self.model_channels, self.channel_mult, self.num_blocks, self.attn_resolutions
        )

    @property
    def words(self) -> str:
        """What it is called, and its sizes."""
        title = {"ddpmpp": "DDPM++", "ncsnpp": "NCSN++"}[self.arch]
        mults = ", ".join(map(str, self.channel_mult))
        sides = ", ".join(map(str, self.attn_resolutions)) or "the lowest level alone"
        return (
            f"{title}, width {self.model_channels} × ({mults}), {self.num_blocks} blocks a level, "
            f"attention at {sides}{classes_in_words(self.num_classes)}"
        )

    def layers(self, side: int) -> tuple[str, ...]:
        """The last block of each level, of the encoder and of the decoder."""
        sizes = self.sizes(side)
        plans = {"enc": plan_encoder(sizes), "dec": plan_decoder(sizes)}
        # A later block of the same level takes the place of an earlier one.
        last = {(part, block.name.split("_")[0]): f"{part}.{block.name}"
                for part, plan in plans.items() for block in plan}  # fmt: skip
        return tuple(last.values())

    def check(self, side: int) -> None:
        """Raise UserError unless the levels halve the side, and attention is where maps are."""
        check_song_sides(self.sizes(side))
