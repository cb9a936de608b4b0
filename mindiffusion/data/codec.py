"""From images to what networks see, and back. PyTorch is only taken as it comes: not imported."""

from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from mindiffusion.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

GREY = 127.5
"""Grey levels of 0–255 to a unit of [-1, 1]."""


class Codec(Protocol):
    """How images become a network's inputs, and how its samples become images.

    Attributes:
        channels: C, of the inputs.
    """

    channels: int

    def inputs(self, images: "Tensor", dtype: "torch.dtype") -> "Tensor":
        """Uint8 images (B, H, W, 3) as inputs (B, C, h, w), on their device."""

    def images(self, inputs: "Tensor") -> NDArray[np.uint8]:
        """Inputs (B, C, h, w), or samples of such, as images (B, H, W, 3).

        Raises:
            UserError: a value is not finite.
        """


class PixelCodec:
    """Networks see the pixels themselves, in [-1, 1]; their inputs are as large as the images."""

    channels = 3

    def inputs(self, images: "Tensor", dtype: "torch.dtype") -> "Tensor":
        """Uint8 images (B, H, W, 3) as (B, 3, H, W) in [-1, 1], in channels-last memory."""
        return (images.to(dtype) / GREY - 1.0).permute(0, 3, 1, 2)

    def images(self, inputs: "Tensor") -> NDArray[np.uint8]:
        """(B, 3, H, W) in [-1, 1] as (B, H, W, 3): clamp, scale, round to nearest.

        Raises:
            UserError: a value is not finite.
        """
        if not bool(inputs.isfinite().all()):
            raise UserError(
                "the sampler gave images that are not finite; the weights have diverged."
            )
        scaled = inputs.clamp(-1.0, 1.0) * GREY + GREY
        images: NDArray[np.uint8] = scaled.round().byte().permute(0, 2, 3, 1).cpu().numpy()
        return images


PIXELS = PixelCodec()
