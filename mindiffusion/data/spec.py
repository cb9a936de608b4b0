"""What a data set is: a frozen, checked description of the images to prepare."""

import os
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, field_validator
from pydantic.dataclasses import dataclass

from mindiffusion.errors import UserError, did_you_mean

DATASETS = ("avatars", "celeba")
AVATAR_STYLES = ("personas", "toon-head", "open-peeps")
STYLES = (*AVATAR_STYLES, "mixed")
#: Crop name to the side, in original pixels, of the centre square kept (None: the whole picture).
CROPS: dict[str, int | None] = {"squash": None, "center178": 178, "center140": 140}


def is_path(dataset: str) -> bool:
    """Whether a data set's name means a folder or zip: it has a separator or is there."""
    return dataset not in DATASETS and ("/" in dataset or os.sep in dataset or _exists(dataset))


def _exists(dataset: str) -> bool:
    return bool(dataset) and Path(dataset).expanduser().exists()


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True))
class DataConfig:
    """One data set. Two equal configs (but for the flip) give the same prepared array.

    Attributes:
        dataset: ``avatars``, ``celeba``, or the path of a folder or ``.zip`` of images.
        size: side of the square images, in pixels.
        crop: ``squash`` resizes the whole picture to a square; ``center178`` and ``center140``
            keep that centre square of the original pixels (photographs only).
        style: avatars only: one DiceBear style, or ``mixed``, all of them in turn.
        num_train: avatars: how many to draw (None: 50,000); else: how many of the train split,
            chosen by name hash (None: all).
        num_held_out: images kept out of training; for folders at most a tenth of the images.
        horizontal_flip: mirror training images at random; not part of the prepared array.

    Raises:
        pydantic.ValidationError: a field is wrong. Where a name is unknown, the ``UserError``
            that says so stands in ``errors()[i]["ctx"]["error"]``.
    """

    dataset: str = "avatars"
    size: Annotated[int, Field(ge=4, le=1024)] = 32
    crop: str = "squash"
    style: str = "personas"
    num_train: Annotated[int, Field(ge=1, le=2**31)] | None = None
    num_held_out: Annotated[int, Field(ge=1, le=2**31)] = 2048
    horizontal_flip: bool = True

    @field_validator("dataset")
    @classmethod
    def _known_dataset(cls, dataset: str) -> str:
        if dataset not in DATASETS and not is_path(dataset):
            raise UserError(
                f"unknown dataset {dataset!r}, and no folder or zip of that name is here."
                + did_you_mean(dataset, DATASETS)
            )
        return dataset

    @field_validator("crop")
    @classmethod
    def _known_crop(cls, crop: str) -> str:
        if crop not in CROPS:
            raise UserError(f"unknown crop {crop!r}." + did_you_mean(crop, CROPS))
        return crop

    @field_validator("style")
    @classmethod
    def _known_style(cls, style: str) -> str:
        if style not in STYLES:
            raise UserError(f"unknown avatar style {style!r}." + did_you_mean(style, STYLES))
        return style

    def __post_init__(self) -> None:
        """Refuse a crop that would have no effect."""
        if self.dataset == "avatars" and self.crop != "squash":
            raise UserError(
                f"crop {self.crop!r} is for photographs; avatars are drawn square: use 'squash'."
            )
