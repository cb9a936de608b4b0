"""Colour: have generated pictures the tint of the data, and as many different ones?"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmark.evaluation.metrics.frechet import FloatArray
from mindiffusion.errors import UserError

_BLOCK = 256


@dataclass(frozen=True)
class ColourEstimate:
    """A number and its standard error over the generated pictures, the reference as given.

    Attributes:
        value: the number.
        standard_error: None where one picture alone has none.
    """

    value: float
    standard_error: float | None


def picture_means(images: NDArray[np.uint8]) -> FloatArray:
    """Mean colour of every picture.

    Sums are whole numbers, so the means don't depend on how the pictures lie in memory.

    Args:
        images: (N, H, W, 3) uint8, N ≥ 1; may be mapped from disk, it is read block by block.

    Returns:
        (N, 3) grey levels, 0..255.

    Raises:
        UserError: other shape or type.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3 or not images.size:
        found = f"{images.dtype} {images.shape}"
        raise UserError(f"Images are {found}; give uint8 (N, H, W, 3), N ≥ 1.")
    blocks = (images[start : start + _BLOCK] for start in range(0, len(images), _BLOCK))
    # By columns first: several times as fast as over both axes at once.
    sums = [block.sum(axis=1, dtype=np.uint32).sum(axis=1, dtype=np.uint64) for block in blocks]
    return np.concatenate(sums) / float(images.shape[1] * images.shape[2])


def colour_offset(generated: FloatArray, reference: FloatArray) -> ColourEstimate:
    """Largest difference, over the channels, of the mean colours of two sets of pictures.

    Its error is that channel's. The largest of three has an upward bias where all are near 0: a
    perfect generator scores about one error, not 0.

    Args:
        generated: (N, 3) mean colours of generated pictures, as of ``picture_means``.
        reference: (M, 3) of the pictures that they are held against.

    Returns:
        Grey levels, 0..255.
    """
    differences = np.abs(generated.mean(axis=0) - reference.mean(axis=0))
    channel = int(differences.argmax())
    n = len(generated)
    error = float(generated[:, channel].std(ddof=1) / n**0.5) if n > 1 else None
    return ColourEstimate(float(differences[channel]), error)


def colour_spread(generated: FloatArray, reference: FloatArray) -> ColourEstimate | None:
    """How far pictures' mean colours lie apart, over how far those of the reference do.

    A set's spread is the root of the mean over channels of the variance (ddof = 1) of its pictures'
    means. Below 1 the pictures are too alike in colour, above 1 too different. The error is by the
    delta method.

    Args:
        generated: (N, 3) mean colours of generated pictures, as of ``picture_means``.
        reference: (M, 3) of the pictures that they are held against.

    Returns:
        A ratio ≥ 0; None where there is none: of one picture alone, or where all pictures of the
        reference have one mean colour.
    """
    if len(generated) < 2 or _are_alike(reference):
        return None
    if _are_alike(generated):
        return ColourEstimate(0.0, 0.0)
    yardstick = reference.var(axis=0, ddof=1).mean()
    n = len(generated)
    # Of each picture its share in the variance, whose mean the variance is.
    shares = ((generated - generated.mean(axis=0)) ** 2).mean(axis=1) * (n / (n - 1))
    variance = shares.mean()
    error = shares.std(ddof=1) / n**0.5 / (2 * (variance * yardstick) ** 0.5)
    return ColourEstimate(float((variance / yardstick) ** 0.5), float(error))


def _are_alike(means: FloatArray) -> bool:
    """Whether there is but one colour; a variance would say so up to rounding only."""
    return bool((means == means[0]).all())
