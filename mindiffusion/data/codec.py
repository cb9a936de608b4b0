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
        is_bounded: whether inputs lie in [-1, 1], so that x̂₀ can be clipped to it.
    """

    is_bounded: bool

    def __hash__(self) -> int:
        """By which object it is: what is computed with a codec can be kept by it."""

    def shape(self, side: int) -> tuple[int, int, int]:
        """(C, h, w) of the inputs for images of this side."""

    def inputs(self, images: "Tensor", dtype: "torch.dtype") -> "Tensor":
        """Uint8 images (B, H, W, 3) as inputs (B, C, h, w), on their device.

        What is random in it depends on an image's place among these alone.
        """

    def pixels(self, inputs: "Tensor") -> "Tensor":
        """Inputs (B, C, h, w), or samples of such, as (B, 3, H, W) in [-1, 1]."""

    def images(self, inputs: "Tensor") -> NDArray[np.uint8]:
        """Inputs (B, C, h, w), or samples of such, as images (B, H, W, 3).

        Raises:
            UserError: a value is not finite.
        """


class PixelCodec:
    """Networks see the pixels themselves, in [-1, 1]; their inputs are as large as the images."""

    is_bounded = True
    channels = 3

    def shape(self, side: int) -> tuple[int, int, int]:
        """Three colours of as many pixels."""
        return (3, side, side)

    def inputs(self, images: "Tensor", dtype: "torch.dtype") -> "Tensor":
        """Uint8 images (B, H, W, 3) as (B, 3, H, W) in [-1, 1], in channels-last memory."""
        return (images.to(dtype) / GREY - 1.0).permute(0, 3, 1, 2)

    def pixels(self, inputs: "Tensor") -> "Tensor":
        """(B, 3, H, W), clamped."""
        return inputs.clamp(-1.0, 1.0)

    def images(self, inputs: "Tensor") -> NDArray[np.uint8]:
        """(B, 3, H, W) in [-1, 1] as (B, H, W, 3): clamp, scale, round to nearest.

        Raises:
            UserError: a value is not finite.
        """
        check_finite(inputs)
        scaled = self.pixels(inputs) * GREY + GREY
        images: NDArray[np.uint8] = scaled.round().byte().permute(0, 2, 3, 1).cpu().numpy()
        return images


PIXELS = PixelCodec()


def check_finite(samples: "Tensor") -> None:
    """Refuse samples of which no image can be made.

    Raises:
        UserError: a value is not finite.
    """
    if not bool(samples.isfinite().all()):
        raise UserError("the sampler gave images that are not finite; the weights have diverged.")
