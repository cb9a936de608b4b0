"""Roughness: does a sampler leave noise where the image should be smooth?"""

import numpy as np
from numpy.typing import NDArray

from benchmark.evaluation.metrics.frechet import FloatArray
from mindiffusion.errors import UserError

# ITU-R BT.601 weights of R, G and B.
_LUMA = np.array([0.299, 0.587, 0.114])


def corner_roughness(images: NDArray[np.uint8], corner: int = 8) -> FloatArray:
    """Mean absolute difference of neighbouring grey levels in the two upper corners, an image.

    Portraits show plain background there. Grey is ITU-R BT.601 luma on 0..255; horizontal and
    vertical neighbours weigh the same, and so do the top left and the top right square.
    Pure noise N(0, 1), mapped by 127.5 x + 127.5 and clipped, scores about 70; at half that
    standard deviation 46.

    Args:
        images: (N, H, W, 3) uint8.
        corner: side of the squares in pixels, 2 ≤ corner ≤ min(H, W).

    Returns:
        (N,) grey levels a pixel step.

    Raises:
        UserError: other shape or type, or a corner that does not fit.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise UserError(f"Images are {images.dtype} {images.shape}; give uint8 (N, H, W, 3).")
    smaller = min(images.shape[1:3])
    if not 2 <= corner <= smaller:
        raise UserError(f"Corner is {corner} px; allowed is 2 to {smaller}, the image's side.")
    left = _neighbour_difference(images[:, :corner, :corner] @ _LUMA)
    right = _neighbour_difference(images[:, :corner, -corner:] @ _LUMA)
    return (left + right) / 2


def _neighbour_difference(grey: FloatArray) -> FloatArray:
    """(N,) mean of |horizontal| and |vertical| steps of squares (N, S, S)."""
    horizontal = np.abs(np.diff(grey, axis=2)).mean(axis=(1, 2))
    vertical = np.abs(np.diff(grey, axis=1)).mean(axis=(1, 2))
    return (horizontal + vertical) / 2
