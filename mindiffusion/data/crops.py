"""From a photograph to a square image of the wanted size."""

import functools
from collections.abc import Callable

from PIL import Image

from mindiffusion.outside.pictures import BadImage

# PIL's filters widen with the reduction, so they do not alias.
_BILINEAR = "PIL bilinear, reducing_gap none"
_MOST_ASPECT = 64
"""Of a picture that is resized as a whole: a line of pixels would become a huge one."""


def filter_of(crop: str) -> str:
    """How a crop resizes, for the manifest."""
    return _FILTERS.get(crop, _BILINEAR)


def crop_and_resize(image: Image.Image, crop: str, size: int) -> Image.Image:
    """Crop as named, and resize to ``size`` × ``size``.

    ``squash`` equals torchvision's ``Resize((size, size))`` on a PIL image.

    Args:
        image: RGB.
        crop: one of ``names.CROPS``.
        size: side in pixels.

    Raises:
        BadImage: the image is smaller than the crop, or too narrow for it.
    """
    return _HOW[crop](image, size)


def _squashed(image: Image.Image, size: int) -> Image.Image:
    return image.resize((size, size), Image.Resampling.BILINEAR)


def _square(
    image: Image.Image,
    size: int,
    *,
    name: str,
    side: int,
    corner: tuple[int, int] | None = None,
) -> Image.Image:
    """The square of this side in original pixels, resized: at its left upper corner (x, y).

    Without a corner it is in the centre.
    """
    left, top = corner or ((image.width - side) // 2, (image.height - side) // 2)
    right, bottom = left + side, top + side
    if min(left, top) < 0 or right > image.width or bottom > image.height:
        raise BadImage(f"has {image.width}x{image.height} pixels, smaller than crop {name}")
    return _squashed(image.crop((left, top, right, bottom)), size)


def _adm(image: Image.Image, size: int) -> Image.Image:
    """The largest square in the centre, as ADM and DiT take it.

    Source: the public code of Dhariwal and Nichol 2021 (2105.05233): halved by boxes of 2×2 while
    the shorter side has at least twice the size, then resized until it has the size, bicubic.
    """
    if max(image.size) > _MOST_ASPECT * min(image.size):
        raise BadImage(
            f"has {image.width}x{image.height} pixels, one side more than {_MOST_ASPECT} times the "
            "other, which crop adm does not take"
        )
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    width, height = (round(side * scale) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - size) // 2, (height - size) // 2
    return image.crop((left, top, left + size, top + size))


def _named(name: str, side: int, corner: tuple[int, int] | None = None) -> "_Crop":
    return functools.partial(_square, name=name, side=side, corner=corner)


_FILTERS = {"adm": "PIL box by halves, then bicubic"}
"""Of crops that do not resize as the others."""
_Crop = Callable[[Image.Image, int], Image.Image]
_HOW: dict[str, _Crop] = {
    "squash": _squashed,
    "center178": _named("center178", 178),
    "center140": _named("center140", 140),
    "uvit128": _named("uvit128", 128, (25, 57)),
    "adm": _adm,
}
"""Each of ``names.CROPS``: (an RGB image, a side) → the square. uvit128 is that of U-ViT's code."""
