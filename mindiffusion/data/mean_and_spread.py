"""Mean picture and spread of an array of images: whole numbers up to the last division.

So they depend on neither blocks nor machines, and ranks that compute them agree to the bit.
"""

import functools
import math
from dataclasses import dataclass
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from mindiffusion.data.codec import GREY

_BLOCK = 1024
_Unit = Annotated[float, Field(ge=-1, le=1)]


class ImageSummary(BaseModel):
    """What a manifest says of the training images, in units of [-1, 1].

    Attributes:
        std: σ_d, standard deviation of all values around the mean picture.
        mean_colour: mean of red, green and blue.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    std: Annotated[float, Field(ge=0, le=1)]
    mean_colour: Annotated[list[_Unit], Field(min_length=3, max_length=3)]


@dataclass(frozen=True, eq=False)
class ImageStatistics:
    """Mean of a network's inputs and how far they are spread around it; pixels are in [-1, 1].

    Attributes:
        mean: μ, (H, W, C) float64.
        std: σ_d = √(mean of (x − μ)² over all images and values).
    """

    mean: NDArray[np.float64]
    std: float

    @functools.cached_property
    def summary(self) -> ImageSummary:
        """The part of them that a manifest holds; of pixels."""
        colour = [math.fsum(channel.tolist()) for channel in self.mean.reshape(-1, 3).T]
        pixels = self.mean.size // 3
        return ImageSummary(std=self.std, mean_colour=[total / pixels for total in colour])

    def is_same(self, other: Self) -> bool:
        """Whether both have the same bits."""
        return self.std == other.std and np.array_equal(self.mean, other.mean)


def image_statistics(images: NDArray[np.uint8]) -> ImageStatistics:
    """The statistics of images (N, H, W, 3) uint8, N ≥ 1; read in blocks, may be memory-mapped.

    With the sums S of each value and Q of all squares, σ_d² = (N·Q − Σ S²)/(N²·3HW).
    """
    count, total, squares = len(images), np.zeros(images.shape[1:], np.int64), 0
    for start in range(0, count, _BLOCK):
        block = images[start : start + _BLOCK]
        total += block.sum(axis=0, dtype=np.int64)
        squares += int(np.square(block, dtype=np.uint16).sum(dtype=np.int64))
    # As Python's integers, which have no end; their quotient is rounded once.
    above = count * squares - sum(value * value for value in total.ravel().tolist())
    variance = above / (count * count * total.size)
    return ImageStatistics(total / count / GREY - 1.0, math.sqrt(variance) / GREY)
