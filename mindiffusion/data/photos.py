"""Patches of the photographs that scikit-image's and scikit-learn's wheels hold; no download.

Left halves are learned from, right halves are held out. A half is cut before it is reduced, so
that no pixel of one enters the other at any scale. Why these photographs, strides and caps, and
what was measured of the patches: ``docs/photos.md``.
"""

import functools
import hashlib
import importlib.metadata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mindiffusion.data.folder import name_hash
from mindiffusion.data.names import AUTO, PICTURE
from mindiffusion.data.source import Plan, Sample, SourceAbsent, digest64
from mindiffusion.errors import UserError
from mindiffusion.files import sha256_of_json
from mindiffusion.outside.pictures import RULE, BadImage, picture_bytes, read_picture

if TYPE_CHECKING:  # a worker that cuts patches starts in half the time without pydantic
    from mindiffusion.data.spec import DataConfig

#: Distribution to the folder, below its packages, of its pictures.
FOLDERS = {"scikit-image": "skimage/data", "scikit-learn": "sklearn/datasets/images"}
#: Full, half and quarter size.
SHRINKS = (1, 2, 4)
LEAST_STRIDE = 4
#: Least root mean square distance from a patch's mean colour, in grey levels.
LEAST_CONTRAST = 6
#: Pixels of the half of a 512 x 512 picture: as much of a larger one counts.
COUNTED_AREA = 512 * 256
#: Patches of a half at full size; half size takes a quarter, quarter size a sixteenth.
MOST_PATCHES = 2048
_CAPTIONS = ("{}", "a photograph of {}", "a detail of {}")
#: Its words are those of the captions.
_PROMPT = "a detail of a photograph of {}"


class Photo(NamedTuple):
    """One photograph, as the package that holds it describes it."""

    file: str
    package: str
    author: str
    license: str
    url: str

    @property
    def name(self) -> str:
        """The file's name without its suffix: the patches' label."""
        return self.file.partition(".")[0]


_COMMONS_ZERO = "CC0 1.0"
_PUBLIC = "public domain"
_BY = "CC BY 2.0"
_GALLERY = "https://scikit-image.org/docs/stable/api/skimage.data.html"
PHOTOS = (
    Photo("astronaut.png", "scikit-image", "NASA", _PUBLIC, "https://flic.kr/p/r9qvLn"),
    Photo(
        "brick.png",
        "scikit-image",
        "CC0Textures",
        _COMMONS_ZERO,
        "https://cc0textures.com/view.php?tex=Bricks25",
    ),
    Photo("camera.png", "scikit-image", "Lav Varshney", _COMMONS_ZERO, _GALLERY),
    Photo("chelsea.png", "scikit-image", "Stefan van der Walt", _COMMONS_ZERO, _GALLERY),
    Photo("coffee.png", "scikit-image", "Rachel Michetti", _COMMONS_ZERO, _GALLERY),
    Photo(
        "grass.png",
        "scikit-image",
        "linolafett",
        _COMMONS_ZERO,
        "https://www.deviantart.com/linolafett/art/Grass-01-434853879",
    ),
    Photo(
        "gravel.png",
        "scikit-image",
        "CC0Textures",
        _COMMONS_ZERO,
        "https://cc0textures.com/view.php?tex=Gravel04",
    ),
    Photo(
        "hubble_deep_field.jpg",
        "scikit-image",
        "NASA",
        _PUBLIC,
        "http://hubblesite.org/newscenter/archive/releases/2012/37/image/a/",
    ),
    Photo(
        "retina.jpg",
        "scikit-image",
        "Mikael Häggström",
        _COMMONS_ZERO,
        "https://commons.wikimedia.org/wiki/File:Fundus_photograph_of_normal_left_eye.jpg",
    ),
    Photo(
        "rocket.jpg",
        "scikit-image",
        "SpaceX",
        _PUBLIC,
        "https://www.flickr.com/photos/spacexphotos/16511594820/",
    ),
    Photo(
        "china.jpg",
        "scikit-learn",
        "danielbuechele",
        _BY,
        "https://www.flickr.com/photos/danielbuechele/6061409035/",
    ),
    # The package names china.jpg's author here too, beside links to vultilion's photograph.
    Photo(
        "flower.jpg",
        "scikit-learn",
        "vultilion",
        _BY,
        "https://www.flickr.com/photos/vultilion/6056698931/",
    ),
)


class Patch(NamedTuple):
    """Where a patch is cut: of which photograph, half and scale, its upper left corner there."""

    photo: int
    side: str
    shrink: int
    top: int
    left: int

    @property
    def name(self) -> str:
        """Such as ``coffee left 1/2 y8 x16``."""
        photo = PHOTOS[self.photo].name
        return f"{photo} {self.side} 1/{self.shrink} y{self.top} x{self.left}"


@dataclass(frozen=True)
class PhotoSource:
    """Cuts patches of ``size`` × ``size`` pixels."""

    size: int

    def draw(self, item: Patch) -> Sample:
        """One patch; its code is the number of its photograph.

        Raises:
            BadImage: the photograph is not what it was.
        """
        half = _halves_of(item.photo)[item.side, item.shrink]
        rows, columns = (slice(start, start + self.size) for start in (item.top, item.left))
        pixels = half[rows, columns]
        return Sample(pixels, (item.photo,), digest64(pixels.tobytes()))

    def name_of(self, item: Patch) -> str:
        """Such as ``coffee left 1/2 y8 x16``."""
        return item.name


@dataclass(frozen=True)
class PhotoCaptioner:
    """Says of which photograph a patch is."""

    source: str = PICTURE

    @property
    def identity(self) -> str:
        """SHA-256 of how it says so."""
        return sha256_of_json([*_CAPTIONS, _PROMPT])

    def captions(self, item: Patch, codes: Sequence[int]) -> tuple[str, ...]:
        """The captions of a patch."""
        return tuple(caption.format(_spoken(item)) for caption in _CAPTIONS)

    def prompt(self, item: Patch, codes: Sequence[int]) -> str:
        """A caption in a phrasing that training never sees."""
        return _PROMPT.format(_spoken(item))


def _spoken(item: Patch) -> str:
    return PHOTOS[item.photo].name.replace("_", " ")


def plan_photos(config: "DataConfig") -> Plan:
    """The patches a config asks for; unlike other plans, this one decodes the pictures.

    Which patches there are depends on their contrast. Any first part of them is a fair mix.

    Raises:
        UserError: a package is not installed, or a size larger than the photographs.
    """
    patches = _patches(config.size)
    train, held_out = patches["left"], patches["right"]
    if not (train and held_out):
        raise UserError(
            f"photos of {config.size} pixels: the photographs' halves leave {len(train)} patches "
            f"to learn from and {len(held_out)} to hold out; give a smaller data.size."
        )
    notes = _told_fewer(config.num_train, len(train), "left halves")
    notes += _told_fewer(config.num_held_out, len(held_out), "right halves")
    return Plan(
        name="photos",
        origin="photographs of scikit-image and scikit-learn",
        source=PhotoSource(config.size),
        size=config.size,
        train=train[: config.num_train],
        held_out=held_out,
        num_held_out=min(config.num_held_out, len(held_out)),
        replace_duplicates=False,
        label_names={"picture": [photo.name for photo in PHOTOS]},
        description=_description(config),
        fingerprint="",
        notes=notes,
        captioner=PhotoCaptioner() if config.captions in (AUTO, PICTURE) else None,
    )


def _told_fewer(asked: int | None, found: int, where: str) -> list[str]:
    if asked is None or asked <= found:
        return []
    return [f"{asked} patches of {where} were asked for; there are {found}, all are taken"]


def _description(config: "DataConfig") -> dict[str, Any]:
    return {
        "dataset": "photos",
        "photographs": {
            photo.name: {**photo._asdict(), "sha256": hashlib.sha256(_content(photo)).hexdigest()}
            for photo in PHOTOS
        },
        "split": "train: left halves; held-out: right halves; cut apart, then reduced",
        "reduced": list(SHRINKS),
        "filter": "box of 1, 2, 4 pixels a side (PIL reduce)",
        "stride": {"train": _stride("left", config.size), "held_out": config.size},
        "least_contrast": LEAST_CONTRAST,
        "most_of_a_half": {
            side: [_most(_stride(side, config.size), shrink) for shrink in SHRINKS]
            for side in ("left", "right")
        },
        "chosen": "smallest SHA-256 of the patch's name",
        "order": "SHA-256 of 'order of ' and the patch's name",
        "changes": "cut into patches, some reduced",
        "crop": config.crop,
        "reading": RULE,
        "versions": {
            package: importlib.metadata.version(package) for package in (*FOLDERS, "pillow")
        },
    }


@functools.lru_cache(maxsize=4)
def _patches(size: int) -> dict[str, list[Patch]]:
    """The patches of both sides, mixed: a first part has all pictures in proportion."""
    found: dict[str, list[Patch]] = {"left": [], "right": []}
    for number, photo in enumerate(PHOTOS):
        try:
            halves = _halves(_content(photo))
        except BadImage as error:
            raise _broken(photo, error) from None
        for (side, shrink), pixels in halves.items():
            stride = _stride(side, size)
            places = _contrasty(pixels, size, stride)
            patches = [Patch(number, side, shrink, top, left) for top, left in places]
            found[side] += sorted(patches, key=_choice)[: _most(stride, shrink)]
    return {side: sorted(patches, key=_order) for side, patches in found.items()}


def _choice(patch: Patch) -> str:
    return name_hash(patch.name)


def _order(patch: Patch) -> str:
    """Another than the choice: by one hash, the most capped photographs would all come first."""
    return name_hash(f"order of {patch.name}")


def _stride(side: str, size: int) -> int:
    """Pixels between patches: those to learn from overlap, those held out have none in common."""
    return max(LEAST_STRIDE, size // 4) if side == "left" else size


def _most(stride: int, shrink: int) -> int:
    """How many patches of a half are taken at a scale: a larger picture counts for no more."""
    return max(1, min(MOST_PATCHES, COUNTED_AREA // stride**2) // shrink**2)


def _contrasty(pixels: NDArray[np.uint8], size: int, stride: int) -> Iterator[tuple[int, int]]:
    """(top, left) of the patches that are not flat, in integers: exact everywhere."""
    tops, lefts = (np.arange(0, side - size + 1, stride) for side in pixels.shape[:2])
    if not (len(tops) and len(lefts)):
        return
    values, area = pixels.astype(np.int64), size * size
    sums, squares = (_sums(some, size, tops, lefts) for some in (values, values**2))
    # area² times the variance, summed over the channels.
    spread = (area * squares - sums**2).sum(axis=-1)
    for row, column in np.argwhere(spread >= 3 * (LEAST_CONTRAST * area) ** 2):
        yield int(tops[row]), int(lefts[column])


def _sums(
    values: NDArray[np.int64], size: int, tops: NDArray[np.intp], lefts: NDArray[np.intp]
) -> NDArray[np.int64]:
    """Sums over the patches, (tops, lefts, channels), of (H, W, channels)."""
    table = np.pad(values.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0), (0, 0)))
    below, right = tops + size, lefts + size
    return (
        table[np.ix_(below, right)]
        - table[np.ix_(tops, right)]
        - table[np.ix_(below, lefts)]
        + table[np.ix_(tops, lefts)]
    )


@functools.lru_cache(maxsize=len(PHOTOS))
def _halves_of(number: int) -> dict[tuple[str, int], NDArray[np.uint8]]:
    return _halves(_content(PHOTOS[number]))


def _halves(content: bytes) -> dict[tuple[str, int], NDArray[np.uint8]]:
    """(side, shrink) to (H, W, 3) of a picture's file."""
    image = read_picture(content).image
    middle = image.width // 2
    boxes = {
        "left": (0, 0, middle, image.height),
        "right": (middle, 0, image.width, image.height),
    }
    return {
        (side, shrink): np.asarray(_reduced(image.crop(box), shrink))
        for side, box in boxes.items()
        for shrink in SHRINKS
    }


def _reduced(image: Image.Image, shrink: int) -> Image.Image:
    """Means of ``shrink`` × ``shrink`` blocks; rows and columns that fill none are left out."""
    width, height = (side // shrink * shrink for side in image.size)
    return image.crop((0, 0, width, height)).reduce(shrink)


def _content(photo: Photo) -> bytes:
    """The bytes of a photograph's file; its package is found and not imported.

    Raises:
        SourceAbsent: the package is not installed.
        UserError: the file in it is missing or damaged.
    """
    try:
        package = importlib.metadata.distribution(photo.package)
    except importlib.metadata.PackageNotFoundError:
        raise SourceAbsent(
            f"dataset photos needs the package {photo.package}, which is not installed",
            "; run: pip install '.[photos]'",
        ) from None
    try:
        return picture_bytes(str(package.locate_file(f"{FOLDERS[photo.package]}/{photo.file}")))
    except BadImage as error:
        raise _broken(photo, error) from None


def _broken(photo: Photo, error: BadImage) -> UserError:
    return UserError(
        f"{photo.file} of the package {photo.package} {error}; "
        f"run: pip install --force-reinstall {photo.package}"
    )
