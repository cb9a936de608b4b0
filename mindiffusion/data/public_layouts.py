"""Folders of public data sets as their authors pass them on: COCO, FFHQ, ImageNet.

A folder is known by what lies in it. Nothing is downloaded.

- COCO (Lin et al. 2014, 1405.0312): ``train2017/*.jpg``, ``val2017/*.jpg`` (or 2014), and
  ``annotations/captions_train2017.json`` with some five captions a picture.
- FFHQ (Karras et al. 2019, 1812.04948): ``images1024x1024/00000/00000.png`` …, or
  ``thumbnails128x128``. Numbers from 60,000 on are validation, as in its json, which is not needed.
- ImageNet (Russakovsky et al. 2015, 1409.0575): ``train/n01440764/*.JPEG``, ``val/`` likewise, or
  flat as it is packed, which leaves its pictures without classes. Some of its pictures are of four
  inks (CMYK) and are taken as Pillow converts them, as public code does.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from mindiffusion.data.classes import check_count, check_filled
from mindiffusion.data.file_captions import FileCaptions, fitting
from mindiffusion.data.folder import (
    FileSource,
    ImageFile,
    name_hash,
    plan_files,
    split_by_hash,
    suffixes,
)
from mindiffusion.data.listing import Listing, list_images, read_lists
from mindiffusion.data.names import ANNOTATIONS, AUTO
from mindiffusion.data.source import Plan
from mindiffusion.data.spec import DataConfig
from mindiffusion.errors import UserError
from mindiffusion.files import sha256_of_json
from mindiffusion.outside.documents import parse_json

CLASS = "class"
FIRST_VALIDATION = 60_000
"""Of FFHQ's numbers."""
_FFHQ_FOLDERS = ("images1024x1024", "thumbnails128x128")
_COCO_TRAIN = re.compile(r"train(20\d\d)")
_SYNSET = re.compile(r"n\d{8}")
_MOST_CAPTIONS = 5_000_000


@dataclass(frozen=True)
class Parts:
    """A public data set's pictures.

    Attributes:
        name: of the data set.
        train: paths of those to learn from.
        held_out: paths of those that its authors hold out; none: a part of ``train`` is.
        classes: path to class, where pictures have classes.
    """

    name: str
    train: Sequence[str]
    held_out: Sequence[str]
    classes: Mapping[str, str] = field(default_factory=dict)


class _Image(BaseModel):
    model_config = ConfigDict(strict=True)

    id: int
    file_name: Annotated[str, Field(max_length=4096)]


class _Annotation(BaseModel):
    model_config = ConfigDict(strict=True)

    image_id: int
    caption: str


class _Annotations(BaseModel):
    """What is used of COCO's ``captions_*.json``."""

    model_config = ConfigDict(strict=True)

    images: Annotated[list[_Image], Field(max_length=_MOST_CAPTIONS)]
    annotations: Annotated[list[_Annotation], Field(max_length=_MOST_CAPTIONS)]


def layout_of(dataset: str) -> str | None:
    """Which public data set's folder a data set's name is the path of; None: of none."""
    try:
        place = Path(dataset).expanduser()
        names = [entry.name for entry in place.iterdir() if entry.is_dir()]
        if any(_COCO_TRAIN.fullmatch(name) for name in names):
            return "coco"
        if set(names) & set(_FFHQ_FOLDERS):
            return "ffhq"
        has_train = "train" in names
        inside = (entry.name for entry in (place / "train").iterdir()) if has_train else ()
        return "imagenet" if any(map(_SYNSET.fullmatch, inside)) else None
    except (OSError, RuntimeError):  # no folder, one that may not be read, the home of nobody
        return None


def plan_layout(config: DataConfig, layout: str) -> Plan:
    """The pictures of a public data set, split as its authors do; nothing is decoded yet.

    Args:
        config: the data set.
        layout: as ``layout_of`` calls it.

    Raises:
        SourceAbsent: there are no pictures.
        UserError: the folder is not laid out so, or captions or classes do not fit it.
    """
    listing = list_images(
        Path(config.dataset).expanduser(), suffixes=suffixes(config.extra_formats)
    )
    parts = _PARTS[layout](listing)
    names = sorted(set(parts.classes.values()))
    _check_classes(config, parts, names, listing)
    train, held_out, split = _split(config, parts, _codes(parts, names))
    used = [*parts.train, *parts.held_out]
    unused = len(listing.paths) - len(used)
    plan = plan_files(
        config,
        listing,
        train,
        held_out,
        {"dataset": parts.name, "files_sha256": sha256_of_json(used), "split": split},
        {CLASS: names} if names else {},
        [
            f"split: {split}",
            *([f"{unused} images in other folders are not used"] if unused else []),
        ],
        _captions(config, layout, listing, parts),
    )
    if config.labels == CLASS:
        check_filled(names, (item.codes[0] for item in plan.train), listing.place)
    return _with_cmyk(plan) if layout == "imagenet" else plan


def _with_cmyk(plan: Plan) -> Plan:
    assert isinstance(plan.source, FileSource)
    source = replace(plan.source, takes_cmyk=True)
    return replace(plan, source=source, description={**plan.description, "cmyk": "as RGB"})


def _split(
    config: DataConfig, parts: Parts, codes: Mapping[str, tuple[int, ...]]
) -> tuple[list[ImageFile], list[ImageFile], str]:
    """Training and held-out files, and how they were told apart."""
    files = [ImageFile(path, codes.get(path, ())) for path in parts.train]
    if not parts.held_out:
        return *split_by_hash(files, config.num_held_out), "held-out: smallest SHA-256 of the path"
    # They are sorted by class or by time of day; so the first of them would be of a kind.
    others = sorted(parts.held_out, key=name_hash)[: config.num_held_out]
    held_out = [ImageFile(path, codes.get(path, ())) for path in others]
    return files, held_out, "its authors'; held-out: smallest SHA-256 of validation's paths"


def _codes(parts: Parts, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    numbers = {name: number for number, name in enumerate(names)}
    return {path: (numbers[name],) for path, name in parts.classes.items()}


def _check_classes(
    config: DataConfig, parts: Parts, names: Sequence[str], listing: Listing
) -> None:
    if config.labels != CLASS:
        return
    if not names and parts.name == "imagenet":
        raise UserError(
            f"data.labels is {CLASS}, but the pictures in {listing.place}/val lie in no class "
            "folders; sort them into val/nXXXXXXXX, or move val elsewhere."
        )
    check_count(len(names), CLASS, listing.place)


# -- the layouts ----------------------------------------------------------------------------------


def _coco(listing: Listing) -> Parts:
    years = sorted({found[1] for path in listing.paths if (found := _COCO_TRAIN.match(path))})
    if len(years) != 1:
        told = ", ".join(f"train{year}" for year in years) or "no train20XX with pictures"
        raise UserError(
            f"{listing.place} holds {told}; give a folder of one of COCO's years, such as 2017."
        )
    train, val = (_below(listing, f"{part}{years[0]}") for part in ("train", "val"))
    return Parts(f"coco{years[0]}", train, val)


def _ffhq(listing: Listing) -> Parts:
    folders = [name for name in _FFHQ_FOLDERS if _below(listing, name)]
    if not folders:
        raise UserError(f"{listing.place} holds no pictures in {' or '.join(_FFHQ_FOLDERS)}.")
    train: list[str] = []
    held_out: list[str] = []
    for path in _below(listing, folders[0]):
        stem = Path(path).stem
        if not stem.isdecimal():
            raise UserError(
                f"{listing.place}: {path!r} has no number for a name, as FFHQ's pictures have "
                "(00000.png); give its own, or the folder that they lie in."
            )
        (held_out if int(stem) >= FIRST_VALIDATION else train).append(path)
    if not train:
        train, held_out = held_out, []
    return Parts("ffhq", train, held_out)


def _imagenet(listing: Listing) -> Parts:
    train, val = (_below(listing, part) for part in ("train", "val"))
    classes = {path: path.split("/")[1] for path in (*train, *val) if path.count("/") > 1}
    known = {classes[path] for path in train if path in classes}
    is_sorted = all(classes.get(path) in known for path in (*train, *val))
    return Parts("imagenet", train, val, classes if is_sorted else {})


def _below(listing: Listing, folder: str) -> list[str]:
    return [path for path in listing.paths if path.startswith(f"{folder}/")]


_PARTS: dict[str, Callable[[Listing], Parts]] = {
    "coco": _coco,
    "ffhq": _ffhq,
    "imagenet": _imagenet,
}


# -- COCO's captions ------------------------------------------------------------------------------


def _captions(
    config: DataConfig, layout: str, listing: Listing, parts: Parts
) -> FileCaptions | None:
    if layout != "coco" or config.captions not in (AUTO, ANNOTATIONS):
        return None
    texts: dict[str, tuple[str, ...]] = {}
    for paths in (parts.train, parts.held_out):
        if paths:
            texts |= _annotated(listing, paths)
    return FileCaptions(ANNOTATIONS, texts)


def _annotated(listing: Listing, paths: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The captions of the pictures of one folder."""
    folder = paths[0].partition("/")[0]
    file = f"{ANNOTATIONS}/captions_{folder}.json"
    at = f"{listing.place}: {file}"
    try:
        (content,) = read_lists(listing, [file])
    except FileNotFoundError:
        raise UserError(
            f"{listing.place} lacks {file}; unpack COCO's annotations there, or leave "
            "data.captions out."
        ) from None
    found = parse_json(content, _Annotations, at, "give COCO's own.")
    names = {image.id: f"{folder}/{image.file_name}" for image in found.images}
    if len(names) < len(found.images):
        raise UserError(f"{at} names an image's id twice; give COCO's own.")
    said: dict[str, list[str]] = {}
    for one in found.annotations:
        name = names.get(one.image_id, f"{folder}/id {one.image_id}")
        said.setdefault(name, []).append(one.caption)
    return fitting(file, said, paths, listing.place)
