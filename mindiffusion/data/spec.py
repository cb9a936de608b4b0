"""What a data set is: a frozen, checked description of the images to prepare."""

import difflib
import os
from typing import Annotated

from pydantic import ConfigDict, Field, field_validator
from pydantic.dataclasses import dataclass

from mindiffusion.data.names import AUTO, CAPTION_SOURCES, CROPS, DATASETS, STYLES
from mindiffusion.errors import UserError, did_you_mean
from mindiffusion.outside.documents import Name
from mindiffusion.outside.paths import MOST_PATH
from mindiffusion.outside.pictures import EXTRA_FORMATS

#: Similarity from which a name is a misspelt data set: 'celebb' is, a folder 'celeba_hq' is not.
NEAR_MISS = 0.82
_SQUARE = {"avatars": "avatars are drawn square", "photos": "photos are cut square"}


def is_misspelt(dataset: str) -> bool:
    """Whether a name is nearly that of a data set, and by its look no path.

    The name alone decides: a config stays valid wherever it is read, also where its folder is not.
    """
    if dataset in DATASETS or "/" in dataset or os.sep in dataset or dataset.endswith(".zip"):
        return False
    return bool(difflib.get_close_matches(dataset.lower(), DATASETS, n=1, cutoff=NEAR_MISS))


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True))
class DataConfig:
    """One data set. Two equal configs (but for the flip) give the same prepared array.

    Attributes:
        dataset: ``avatars``, ``celeba``, ``photos``, or the path of a folder or ``.zip`` of
            images; whether it is there is found out when the data set is planned.
        size: side of the square images, in pixels.
        crop: ``squash`` resizes the whole picture to a square; ``center178`` and ``center140``
            keep that centre square of the original pixels; ``uvit128`` keeps rows 57 to 184 and
            columns 25 to 152, as U-ViT's code does of CelebA; ``adm`` keeps the largest square in
            the centre, resized as ADM and DiT do it (all for whole photographs only).
        style: avatars only: one DiceBear style, or ``mixed``, all of them in turn.
        num_train: avatars: how many to draw (None: 50,000); of others at most how many of the train
            split, chosen by name hash (None: all; so is a number above their count).
        num_held_out: images kept out of training; for folders at most a tenth of the images, for
            photos at most what their right halves have.
        horizontal_flip: mirror training images at random; not part of the prepared array.
        extra_formats: folders and zips of your own only: "avif", "gif", "tiff" are read too, beside
            JPEG, PNG, WebP and BMP.
        labels: which label of the images networks are told, by its name: an attribute of avatars
            ("hair") or of CelebA ("Smiling"), "picture" of photos, "class" of CIFAR-10, "folder" or
            "dataset.json" of folders and zips. None: they are told nothing.
        captions: where the captions are from that networks are told: "attributes" of avatars,
            "picture" of photos, "annotations" of COCO, "txt", "metadata.jsonl" or "dataset.json" of
            folders and zips; "auto": from the one of these that the images have. None: networks are
            told no captions, and none are prepared.

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
    extra_formats: Annotated[tuple[str, ...], Field(max_length=len(EXTRA_FORMATS))] = ()
    labels: Name | None = None
    captions: str | None = None

    @field_validator("dataset")
    @classmethod
    def _known_dataset(cls, dataset: str) -> str:
        if len(dataset) > MOST_PATH:
            raise UserError(
                f"the dataset's name has more than {MOST_PATH} characters; give a link to it."
            )
        if not dataset:
            raise UserError("the dataset has no name." + did_you_mean(dataset, DATASETS))
        if is_misspelt(dataset):
            raise UserError(
                f"unknown dataset {dataset!r}.{did_you_mean(dataset.lower(), DATASETS)} "
                f"For a folder of that name write './{dataset}'."
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

    @field_validator("captions")
    @classmethod
    def _known_captions(cls, captions: str | None) -> str | None:
        known = (AUTO, *CAPTION_SOURCES)
        if captions is not None and captions not in known:
            raise UserError(
                f"unknown source of captions {captions!r}." + did_you_mean(captions, known)
            )
        return captions

    @field_validator("extra_formats")
    @classmethod
    def _known_formats(cls, extra_formats: tuple[str, ...]) -> tuple[str, ...]:
        for name in extra_formats:
            if name not in EXTRA_FORMATS:
                raise UserError(f"unknown format {name!r}." + did_you_mean(name, EXTRA_FORMATS))
        return tuple(sorted(set(extra_formats)))

    def __post_init__(self) -> None:
        """Refuse what would have no effect, or contradicts itself."""
        if self.labels is not None and self.captions is not None:
            raise UserError(
                f"data.labels is {self.labels!r} and data.captions {self.captions!r}, but networks "
                "are told one of them; leave one out."
            )
        if self.extra_formats and self.dataset in DATASETS:
            raise UserError(
                f"extra_formats are for folders and zips of images; {self.dataset} has none: leave "
                "them out."
            )
        if self.dataset in _SQUARE and self.crop != "squash":
            raise UserError(
                f"crop {self.crop!r} is for whole photographs; {_SQUARE[self.dataset]}: use "
                "'squash'."
            )
