"""Networks in configs: a class for each, told apart by ``network``; free of PyTorch.

A network has its own fields and its own checks. ``mindiffusion.build`` builds it from them.
"""

from collections.abc import Container, Mapping
from dataclasses import fields
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from mindiffusion.errors import UserError
from mindiffusion.tagged_union import TaggedUnion

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
MOST_FEATURES = 4096
"""Of the base width: the network then has 1.7 billion weights."""
_WIDTH_MULTIPLE = 8
"""Every norm has 8 groups."""
MIN_SIDE, MAX_SIDE = 32, 1024
SIDE_MULTIPLE = 32
"""Three 2×2 poolings, then the 4×4 pooling of ``to_vec`` that ``up0`` undoes, must divide."""
_MOST_BLOCKS = 256
MOST_CLASSES = 2**15
"""Labels are kept as 16-bit numbers."""
_BLOCKS = ("init_conv", "down1", "down2", "down3", "up0", "up1", "up2", "up3", "out")
"""Parts of a U-Net with convolutions, from its input to its output."""
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


@dataclass(frozen=True, config=_STRICT)
class CapacityLimit:
    """How a network limits its capacity, in words for a table.

    Attributes:
        mechanism: what limits it.
        location: what is limited.
        control: what changes the limit during a run.
        values: what a unit's share in the network may be.
        places: the places of its sparsity, as rows name them (``Network.mask``,
            ``Network.group_norms``), in the order of the network.
    """

    mechanism: str
    location: str
    control: str
    values: str
    places: tuple[str, ...]


@dataclass(frozen=True, config=_STRICT)
class ModelConfig:
    """What all networks' configs have. A network's own class adds its fields.

    A study's index keeps ``words`` and ``capacity_limit``, and tables show them.

    Attributes:
        network: which network; a class of its own has one value, by which it is found.
        heeds: settings of a stage that change its capacity.
    """

    network: str
    heeds: ClassVar[tuple[str, ...]] = ()

    @property
    def words(self) -> str:
        """What the network is, with the settings that a reader wants to see; at most 200 chars."""
        return self.network

    @property
    def capacity_limit(self) -> CapacityLimit | None:
        """How it limits its capacity; None: it does not."""
        return None

    def check(self, side: int) -> None:
        """Raise UserError unless the network takes images of this side, in pixels."""

    @property
    def is_wide(self) -> bool:
        """Whether bf16 and the compiler are worth it for this network on a CPU."""
        return False


@dataclass(frozen=True, config=_STRICT)
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

    def check(self, side: int) -> None:
        """Raise UserError unless width and side are sizes that a U-Net takes."""
        check_sizes(self.base_width, side)

    @property
    def is_wide(self) -> bool:
        """By ``n_feat``: a narrower arm computes as the others of its study do."""
        return self.n_feat >= _WIDE_FROM_N_FEAT


@dataclass(frozen=True, config=_STRICT)
class NaiveUnetConfig(UnetConfig):
    """The U-Net of minDiffusion."""

    network: Literal["naive_unet"] = "naive_unet"


@dataclass(frozen=True, config=_STRICT)
class SparseUnetConfig(UnetConfig):
    """The U-Net with a channel mask at its bottleneck.

    Attributes:
        placement: where the mask acts.
        regrow_method: how channels are chosen.
        probe_batches: batches behind a regrowth's saliency.
        probe_batch_size: images in each of them.
    """

    network: Literal["sparse_unet"] = "sparse_unet"
    heeds: ClassVar[tuple[str, ...]] = ("sparsity",)
    placement: Literal["bottleneck", "silent"] = "bottleneck"
    regrow_method: Literal["gradient", "random"] = "gradient"
    probe_batches: int = Field(default=4, ge=1, le=10_000)
    probe_batch_size: int = Field(default=64, ge=2, le=1_000_000)

    @property
    def title(self) -> str:
        """What the network is called in tables."""
        return "NaiveUnet with a channel mask" + (", silent" if self._is_silent else "")

    @property
    def capacity_limit(self) -> CapacityLimit:
        """A mask of 0 and 1 on the channels of the bottleneck."""
        further = ", innermost skip, time embedding" if self._is_silent else ""
        regrowth = {"gradient": "regrowth by saliency", "random": "random regrowth"}
        return CapacityLimit(
            mechanism="hard mask",
            location=f"bottleneck channels{further}",
            control=f"{regrowth[self.regrow_method]} at each stage",
            values="0 or 1",
            places=("bottleneck",),
        )

    @property
    def _is_silent(self) -> bool:
        return self.placement == "silent"


@dataclass(frozen=True, config=_STRICT)
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


@dataclass(frozen=True, config=_STRICT)
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
        num_classes: classes that the network is told, one more stands for "not told"; None: it is
            told none.
    """

    network: Literal["uvit"] = "uvit"
    patch_size: int = Field(default=4, ge=1, le=MAX_SIDE)
    embed_dim: int = Field(default=512, ge=1, le=MOST_FEATURES)
    depth: int = Field(default=12, ge=1, le=_MOST_BLOCKS)
    num_heads: int = Field(default=8, ge=1, le=MOST_FEATURES)
    conv: bool = True
    skip: Literal[True, False, "add"] = True
    num_classes: int | None = Field(default=None, ge=1, le=MOST_CLASSES)

    def __post_init__(self) -> None:
        """Refuse sizes that fit no image."""
        check_transformer(self.embed_dim, self.depth, self.num_heads)

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
        )

    def check(self, side: int) -> None:
        """Raise UserError unless patches of this size fill images of this side."""
        check_patches(self.patch_size, (side, side))


@dataclass(frozen=True, config=_STRICT)
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


MODELS: dict[str, type[ModelConfig]] = {
    "naive_unet": NaiveUnetConfig,
    "sparse_unet": SparseUnetConfig,
    "reg_unet": RegUnetConfig,
    "uvit": UViTConfig,
    "sparse_uvit": SparseUViTConfig,
}
"""All networks' configs by ``network``; ``mindiffusion.build.NETWORKS`` has the builder of each."""
USUAL_NETWORK = "naive_unet"
AnyModelConfig = Annotated[ModelConfig, TaggedUnion("network", MODELS, USUAL_NETWORK)]
"""The settings of any network, read by their ``network``."""


def fields_of(network: type[ModelConfig]) -> set[str]:
    """Names of a network's settings."""
    return {field.name for field in fields(network)}


def without_foreign(model: Mapping[str, Any], shared: Container[str]) -> dict[str, Any]:
    """A network's settings without shared ones that only other networks have.

    Args:
        model: settings as written; those of a study are given to all its arms.
        shared: names of settings that were given to all arms alike.
    """
    own = MODELS.get(str(model.get("network", USUAL_NETWORK)))
    if own is None:
        return dict(model)
    known = set().union(*map(fields_of, MODELS.values()))
    foreign = known - fields_of(own)
    return {k: v for k, v in model.items() if not (k in foreign and k in shared)}
