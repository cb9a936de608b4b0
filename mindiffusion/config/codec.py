"""Codecs in configs: what networks see of an image; free of PyTorch.

A codec has its own fields and its own checks. ``mindiffusion.build`` builds it from them. Sizes
stand here, so that a network's shapes are known where no autoencoder is.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from mindiffusion.errors import UserError
from mindiffusion.outside.paths import MOST_PATH
from mindiffusion.tagged_union import TaggedUnion

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
MOST_CHANNELS = 256
MOST_FACTOR = 64


def _is_path(text: str) -> str:
    if not text or len(text) > MOST_PATH or "\0" in text:
        raise ValueError("give the path of a folder")
    return text


@dataclass(frozen=True, config=_STRICT)
class CodecConfig:
    """What all codecs' configs have. A codec's own class adds its fields.

    Attributes:
        kind: which codec; a class of its own has one value, by which it is found.
        is_bounded: whether inputs lie in [-1, 1], so that x̂₀ can be clipped to it.
        has_grey_levels: whether each value of an input is one of 256 grey levels.
    """

    kind: str
    is_bounded: ClassVar[bool] = False
    has_grey_levels: ClassVar[bool] = False

    def shape(self, size: int) -> tuple[int, int, int]:
        """(C, h, w) of a network's inputs, for images of this side in pixels.

        Raises:
            UserError: it takes no such images.
        """
        raise NotImplementedError

    @property
    def words(self) -> str:
        """What a table adds to the network; nothing where it sees pixels."""
        return ""


@dataclass(frozen=True, config=_STRICT)
class PixelsConfig(CodecConfig):
    """Networks see the pixels themselves, in [-1, 1]."""

    kind: Literal["pixels"] = "pixels"
    is_bounded: ClassVar[bool] = True
    has_grey_levels: ClassVar[bool] = True

    def shape(self, size: int) -> tuple[int, int, int]:
        """Red, green and blue."""
        return (3, size, size)


@dataclass(frozen=True, config=_STRICT, kw_only=True)
class VAEConfig(CodecConfig):
    """Networks see the latents of a variational autoencoder (Rombach et al. 2022, 2112.10752).

    Attributes:
        path: folder with its ``config.json`` and weights, as diffusers keeps an AutoencoderKL. A
            run may go on from another folder with the same weights.
        scale: factor on the latents; "auto": one over their standard deviation, measured on the
            training images (Rombach et al., appendix G).
        channels: of the latents.
        factor: pixels along a side of a latent's cell.
    """

    path: Annotated[str, AfterValidator(_is_path)]
    kind: Literal["vae"] = "vae"
    scale: Annotated[float, Field(gt=0, le=1e6)] | Literal["auto"] = "auto"
    channels: int = Field(default=4, ge=1, le=MOST_CHANNELS)
    factor: int = Field(default=8, ge=1, le=MOST_FACTOR)

    def shape(self, size: int) -> tuple[int, int, int]:
        """Channels of latents, and their side.

        Raises:
            UserError: the factor does not divide the images' side.
        """
        if size % self.factor:
            raise UserError(
                f"data.size is {size}, but the autoencoder's latents are {self.factor} times "
                f"smaller; give a multiple of codec.factor {self.factor} as data.size."
            )
        return (self.channels, size // self.factor, size // self.factor)

    @property
    def words(self) -> str:
        """That these are latents."""
        return f", on latents of {self.channels} channels, {self.factor} times smaller"


CODECS: dict[str, type[CodecConfig]] = {"pixels": PixelsConfig, "vae": VAEConfig}
"""All codecs' configs by ``kind``."""


def _written_out(content: object) -> object:
    """What "pixels" and "vae:PATH" are short for."""
    if not isinstance(content, str):
        return content
    kind, colon, path = content.partition(":")
    written: Mapping[str, Any] = {"kind": kind} | ({"path": path} if colon else {})
    return written


AnyCodec = Annotated[
    CodecConfig, TaggedUnion("kind", CODECS, "pixels"), BeforeValidator(_written_out)
]
"""The settings of any codec, read by their ``kind``; "pixels" and "vae:PATH" are short for them."""
