"""From a photograph to a square image of the wanted size."""

from PIL import Image

from mindiffusion.data.names import CROPS
from mindiffusion.outside.pictures import BadImage

#: For the manifest. PIL's filter widens with the reduction, so it does not alias.
FILTER = "PIL bilinear, reducing_gap none"


def crop_and_resize(image: Image.Image, crop: str, size: int) -> Image.Image:
    """Crop as named, then resize to ``size`` × ``size``.

    ``squash`` equals torchvision's ``Resize((size, size))`` on a PIL image.

    Args:
        image: RGB.
        crop: a key of ``CROPS``.
        size: side in pixels.

    Raises:
        BadImage: the image is smaller than the crop.
    """
    square = CROPS[crop]
    if square is not None:
        side, corner = square
        left, top = corner or ((image.width - side) // 2, (image.height - side) // 2)
        right, bottom = left + side, top + side
        if min(left, top) < 0 or right > image.width or bottom > image.height:
            raise BadImage(f"has {image.width}x{image.height} pixels, smaller than crop {crop}")
        image = image.crop((left, top, right, bottom))
    return image.resize((size, size), Image.Resampling.BILINEAR)
